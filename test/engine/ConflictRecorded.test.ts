/** Every structured conflict that was recorded against the reference (fixtures/wire/conflicts.json). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { acceptServer } from "oversqlite"
import type { ConflictInput } from "oversqlite"
import type { Step } from "../protocol/fixtures.js"
import { scenarios } from "../protocol/fixtures.js"
import { dirty, frozen, rowState } from "./support/Database.js"
import { checkInvariants } from "./support/Invariants.js"
import { answered, refused } from "./support/Network.js"
import { makeWorld } from "./support/World.js"

const steps = scenarios.find(({ name }) => name === "conflicts")?.steps ?? []

interface Recorded {
  readonly upload: {
    readonly table: string
    readonly key: { readonly id: string }
    readonly op: ConflictInput["localOp"]
    readonly base_row_version: number
    readonly payload?: Readonly<Record<string, unknown>>
  }
  readonly answer: Step["response"]
}

/** The conflicts, each with the row that was uploaded before it. */
const recorded: ReadonlyArray<Recorded> = steps.flatMap(({ response }, position) => {
  const upload = steps[position - 1]?.request.body
  return response.status === 409 && upload !== null && upload !== undefined
    ? [{ upload: JSON.parse(upload).rows[0], answer: response }]
    : []
})

const schema = {
  ddl: [
    `CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT, email TEXT, created_at TEXT, updated_at TEXT)`,
    "CREATE TABLE files (id BLOB PRIMARY KEY NOT NULL, name TEXT, data BLOB)"
  ],
  tables: [{ name: "users", key: "id" }, { name: "files", key: "id" }],
  retryPolicy: { enabled: false }
}

const declared = schema.tables.map(({ name }) => ({
  schema: "business",
  table: name,
  key: { column: "id", kind: name === "users" ? "text" as const : "uuid" as const }
}))

const at = "2026-11-23T00:49:31.285972+00:00"

const uuid = (last: number) => `00000000-0000-4000-8000-${String(last).padStart(12, "0")}`

const bytes = (id: string) => Uint8Array.from(Buffer.from(id.replaceAll("-", ""), "hex"))

const user = (id: string, name: string | null, email: string | null) => ({
  id,
  name,
  email,
  created_at: null,
  updated_at: null
})

interface Expected {
  readonly input: Pick<ConflictInput, "key" | "localOp" | "localRow" | "baseRowVersion" | "server">
  /** Row state afterwards. */
  readonly state: string
}

const newer = { ...user(uuid(1), "Newer", "u1@example.com"), created_at: at, updated_at: at }

const live = { shape: "live", rowVersion: 2, row: newer } as const
const tombstone = { shape: "tombstone", rowVersion: 2, row: null } as const

/** In the order of the recording; `undefined` is evidence of lost history: the resolver is not asked. */
const expected: ReadonlyArray<readonly [what: string, Expected | "evidence" | "no difference"]> = [
  ["update against a newer row", {
    input: {
      key: uuid(1),
      localOp: "UPDATE",
      localRow: user(uuid(1), "Stale", "u1@example.com"),
      baseRowVersion: 1,
      server: live
    },
    state: "2 live"
  }],
  ["update against a tombstone", {
    input: {
      key: uuid(2),
      localOp: "UPDATE",
      localRow: user(uuid(2), "Late", "u2@example.com"),
      baseRowVersion: 1,
      server: tombstone
    },
    state: "2 deleted"
  }],
  ["delete against a tombstone", "no difference"],
  ["delete against a newer row", {
    input: { key: uuid(1), localOp: "DELETE", localRow: null, baseRowVersion: 1, server: live },
    state: "2 live"
  }],
  ["insert of a key that is there", {
    input: {
      key: uuid(3),
      localOp: "INSERT",
      localRow: user(uuid(3), "Twin", "u3@example.com"),
      baseRowVersion: 0,
      server: {
        shape: "live",
        rowVersion: 1,
        row: { ...user(uuid(3), "User 3", "u3@example.com"), created_at: at, updated_at: at }
      }
    },
    state: "1 live"
  }],
  ["insert over a tombstone without its version", {
    input: {
      key: uuid(2),
      localOp: "INSERT",
      localRow: user(uuid(2), "Again", "u2@example.com"),
      baseRowVersion: 0,
      server: tombstone
    },
    state: "2 deleted"
  }],
  ["update of an unknown row", "evidence"],
  ["delete of an unknown row", "evidence"],
  ["update of a file with a wrong base", {
    input: {
      key: bytes(uuid(4)),
      localOp: "UPDATE",
      localRow: { id: bytes(uuid(4)), name: "g", data: Uint8Array.from([0, 0, 0]) },
      baseRowVersion: 0,
      server: {
        shape: "live",
        rowVersion: 1,
        row: { id: bytes(uuid(4)), name: "f", data: Uint8Array.from([0xde, 0xad, 0xbe, 0xef]) }
      }
    },
    state: "1 live"
  }]
]

/** A device that has frozen the recorded row, and is given the recorded answer. */
const replayed = ({ answer, upload }: Recorded) =>
  Effect.gen(function*() {
    const asked: Array<ConflictInput> = []
    const world = yield* makeWorld({ declared })
    const device = yield* world.attached({
      ...schema,
      resolver: (conflict) =>
        Effect.sync(() => {
          asked.push(conflict)
          return acceptServer
        })
    })
    const { base_row_version: base, key: { id }, op, payload, table } = upload
    const isFile = table === "files"
    const key = isFile ? bytes(id) : id
    const write = isFile
      ? device.run("INSERT INTO files VALUES (?, ?, ?)", [
        key,
        payload?.["name"] ?? "",
        Buffer.from(String(payload?.["data"] ?? ""), "base64")
      ])
      : device.run("INSERT INTO users (id, name, email) VALUES (?, ?, ?)", [
        key,
        payload?.["name"] ?? null,
        payload?.["email"] ?? null
      ])
    if (op === "INSERT") yield* write
    else {
      yield* device.run("UPDATE _sync_apply_state SET apply_mode = 1")
      yield* write
      yield* device.run("UPDATE _sync_apply_state SET apply_mode = 0")
      const keyJson = JSON.stringify({ id: isFile ? id.replaceAll("-", "") : id })
      yield* device.run("INSERT INTO _sync_row_state VALUES ('business', ?, ?, ?, 0, '')", [table, keyJson, base])
      yield* device.run(
        op === "UPDATE" ? `UPDATE ${table} SET id = id WHERE id = ?` : `DELETE FROM ${table} WHERE id = ?`,
        [key]
      )
    }
    yield* world.network.fault("push commit", answered(answer.status, answer.body))
    yield* world.network.fault("push create", (_exchange, ask) => ask)
    yield* world.network.fault("push create", refused(403, "stop"))
    const result = yield* Effect.either(device.sync.pushPending)
    const chunk = world.network.requests.find(({ route }) => route === "push chunk")
    return { device, asked, result, sent: JSON.parse(chunk?.body ?? "").rows[0] }
  })

describe("the recorded conflicts [conflicts.json]", () => {
  it("are all here", () => {
    assert.lengthOf(recorded, expected.length)
  })

  for (const [position, [what, outcome]] of expected.entries()) {
    it.scoped(`${what}: ${typeof outcome === "string" ? outcome : `asked, accepted: ${outcome.state}`}`, () =>
      Effect.gen(function*() {
        const one = recorded[position]
        if (one === undefined) return assert.fail("not recorded")
        const { asked, device, result, sent } = yield* replayed(one)
        const { payload, ...identity } = one.upload
        assert.deepInclude(sent, identity)
        assert.deepInclude({ ...sent.payload }, { ...payload })
        yield* checkInvariants(device)
        const key = `${one.upload.table} ${
          one.upload.table === "files" ? one.upload.key.id.replaceAll("-", "") : one.upload.key.id
        }`
        if (outcome === "evidence") {
          assert.lengthOf(asked, 0)
          assert.strictEqual(result._tag, "Left")
          assert.deepInclude(result._tag === "Left" ? { ...result.left } : {}, {
            _tag: "SourceRecoveryRequired",
            reason: "source_sequence_out_of_order"
          })
          assert.lengthOf(yield* frozen(device), 1)
          return
        }
        assert.deepInclude(result._tag === "Right" ? { ...result.right } : {}, {
          outcome: "no_change",
          conflictCount: outcome === "no difference" ? 0 : 1
        })
        assert.deepStrictEqual(yield* dirty(device), [])
        if (outcome === "no difference") {
          assert.lengthOf(asked, 0)
          assert.strictEqual((yield* rowState(device))[key], "2 deleted")
          return
        }
        assert.deepStrictEqual(asked, [{ schema: "business", table: one.upload.table, ...outcome.input }])
        assert.strictEqual((yield* rowState(device))[key], outcome.state)
        const rows = yield* device.run(`SELECT * FROM ${one.upload.table}`)
        const { row } = outcome.input.server
        assert.deepStrictEqual(
          rows.map((found) =>
            Object.fromEntries(
              Object.entries(found).map((
                [name, given]
              ) => [name, given instanceof Uint8Array ? Uint8Array.from(given) : given])
            )
          ),
          row === null ? [] : [row]
        )
      }))
  }
})
