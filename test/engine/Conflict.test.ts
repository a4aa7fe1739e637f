/** Structured conflicts through the real server: the truth table of conflicts.md §4, and what surrounds it (§1–§3, §5, §8). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { acceptServer, clientWins, keepLocal, keepMerged, recreate } from "oversqlite"
import type { ConflictDecision, ConflictInput, ConflictResolver } from "oversqlite"
import { dirty, dirtyRows, dump, frozen, header, nextNumber, outboxState, rowState, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Fault } from "./support/Network.js"
import { changed, refused } from "./support/Network.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

type Op = ConflictInput["localOp"]
type Shape = ConflictInput["server"]["shape"]
type Decision = ConflictDecision["_tag"]

interface Cell {
  readonly op: Op
  readonly shape: Shape
  readonly decision: Decision
  /** The row afterwards, the row state, and the intent that goes up again; `undefined`: the decision is invalid. */
  readonly after:
    | readonly [row: "Server" | "Local" | "Merged" | undefined, state: string | undefined, again: string | undefined]
    | undefined
}

const cell = (op: Op, shape: Shape, decision: Decision, after: Cell["after"]): Cell => ({ op, shape, decision, after })

/** conflicts.md §4. The seed has version 1, the server's rows and tombstones version 3; `missing` has version 3 and no row. */
const table: ReadonlyArray<Cell> = [
  cell("INSERT", "live", "AcceptServer", ["Server", "3 live", undefined]),
  cell("INSERT", "live", "KeepLocal", ["Local", "3 live", "UPDATE 3"]),
  cell("INSERT", "live", "KeepMerged", ["Merged", "3 live", "UPDATE 3"]),
  cell("INSERT", "live", "Recreate", undefined),
  cell("INSERT", "tombstone", "AcceptServer", [undefined, "3 deleted", undefined]),
  cell("INSERT", "tombstone", "KeepLocal", ["Local", "3 deleted", "INSERT 3"]),
  cell("INSERT", "tombstone", "KeepMerged", ["Merged", "3 deleted", "INSERT 3"]),
  cell("INSERT", "tombstone", "Recreate", ["Local", "3 deleted", "INSERT 3"]),
  cell("INSERT", "missing", "AcceptServer", [undefined, undefined, undefined]),
  cell("INSERT", "missing", "KeepLocal", ["Local", undefined, "INSERT 0"]),
  cell("INSERT", "missing", "KeepMerged", ["Merged", undefined, "INSERT 0"]),
  cell("INSERT", "missing", "Recreate", ["Local", undefined, "INSERT 0"]),
  cell("UPDATE", "live", "AcceptServer", ["Server", "3 live", undefined]),
  cell("UPDATE", "live", "KeepLocal", ["Local", "3 live", "UPDATE 3"]),
  cell("UPDATE", "live", "KeepMerged", ["Merged", "3 live", "UPDATE 3"]),
  cell("UPDATE", "live", "Recreate", undefined),
  cell("UPDATE", "tombstone", "AcceptServer", [undefined, "3 deleted", undefined]),
  cell("UPDATE", "tombstone", "KeepLocal", undefined),
  cell("UPDATE", "tombstone", "KeepMerged", undefined),
  cell("UPDATE", "tombstone", "Recreate", ["Local", "3 deleted", "INSERT 3"]),
  cell("UPDATE", "missing", "AcceptServer", [undefined, undefined, undefined]),
  cell("UPDATE", "missing", "KeepLocal", undefined),
  cell("UPDATE", "missing", "KeepMerged", undefined),
  cell("UPDATE", "missing", "Recreate", ["Local", undefined, "INSERT 0"]),
  cell("DELETE", "live", "AcceptServer", ["Server", "3 live", undefined]),
  cell("DELETE", "live", "KeepLocal", [undefined, "3 live", "DELETE 3"]),
  cell("DELETE", "live", "KeepMerged", undefined),
  cell("DELETE", "live", "Recreate", undefined),
  cell("DELETE", "tombstone", "AcceptServer", [undefined, "3 deleted", undefined]),
  cell("DELETE", "tombstone", "KeepLocal", [undefined, "3 deleted", undefined]),
  cell("DELETE", "tombstone", "KeepMerged", undefined),
  cell("DELETE", "tombstone", "Recreate", undefined),
  cell("DELETE", "missing", "AcceptServer", [undefined, undefined, undefined]),
  cell("DELETE", "missing", "KeepLocal", [undefined, undefined, undefined]),
  cell("DELETE", "missing", "KeepMerged", undefined),
  cell("DELETE", "missing", "Recreate", undefined)
]

const keyOf = ({ decision, op, shape }: Cell): string => `${op}-${shape}-${decision}`

const decisions: Readonly<Record<Decision, (conflict: ConflictInput) => ConflictDecision>> = {
  AcceptServer: () => acceptServer,
  KeepLocal: () => keepLocal,
  Recreate: () => recreate,
  KeepMerged: ({ key }) => keepMerged({ id: key, name: "Merged", email: null, score: 5 })
}

/** Decides as the key says. */
const asWritten: ConflictResolver = (conflict) => {
  const found = table.find((one) => keyOf(one) === conflict.key)
  return Effect.succeed(found === undefined ? acceptServer : decisions[found.decision](conflict))
}

type Members = Readonly<Record<string, unknown>>

const isMembers = (given: unknown): given is Members => typeof given === "object" && given !== null

/** The server's bookkeeping and its data disagree: rows of `missing` cells are not there. */
const withMissing = changed((body) => {
  const missing = (details: unknown) =>
    isMembers(details) && isMembers(details["key"]) && String(details["key"]["id"]).includes("-missing-")
      ? { ...details, server_row: null, server_row_deleted: false }
      : details
  const conflicts = body["conflicts"]
  return {
    ...body,
    ...("conflict" in body ? { conflict: missing(body["conflict"]) } : {}),
    ...(Array.isArray(conflicts) ? { conflicts: conflicts.map(missing) } : {})
  }
})

const payload = (name: string) => ({ name, email: null, score: 3 })

/** Brings all cells into their conflict: seeds of version 1, the server's doing of version 3, then the local intents. */
const arranged = (cells: ReadonlyArray<Cell>, options: object = {}) =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    const device = yield* world.attached({ ...offline, resolver: asWritten, ...options })
    const insert = (id: string, name: string) => device.run("INSERT INTO users VALUES (?, ?, NULL, 1)", [id, name])
    yield* insert("sibling", "Seed")
    for (const one of cells) if (one.op !== "INSERT") yield* insert(keyOf(one), "Seed")
    yield* device.sync.pushPending
    const fresh = cells.filter(({ op }) => op === "INSERT").map(keyOf)
    yield* world.write([...fresh, "filler"].map((key) => ({ table: "users", key, payload: payload("Early") })))
    yield* world.write([...cells, undefined].map((one) => ({
      table: "users",
      key: one === undefined ? "filler" : keyOf(one),
      payload: one?.shape === "tombstone" ? null : payload("Server")
    })))
    for (const one of cells) {
      if (one.op === "INSERT") yield* insert(keyOf(one), "Local")
      else if (one.op === "UPDATE") yield* device.run("UPDATE users SET name = 'Local' WHERE id = ?", [keyOf(one)])
      else yield* device.run("DELETE FROM users WHERE id = ?", [keyOf(one)])
    }
    yield* device.run("UPDATE users SET name = 'Sibling' WHERE id = 'sibling'")
    yield* world.network.fault("push commit", withMissing, 1000)
    return { world, device }
  })

const valid = table.filter(({ after }) => after !== undefined)

/** Lets the upload conflict and be resolved; the next upload ends before it begins. */
const resolveOnce = (world: World, device: Device) =>
  Effect.gen(function*() {
    yield* world.network.fault("push create", (_exchange, ask) => ask)
    yield* world.network.fault("push create", refused(403, "stop"))
    const error = yield* Effect.flip(device.sync.pushPending)
    assert.strictEqual(error._tag, "TransportError")
    yield* checkInvariants(device)
  })

const checkCells = (device: Device, cells: ReadonlyArray<Cell>) =>
  Effect.gen(function*() {
    const states = yield* rowState(device)
    const upload = yield* frozen(device)
    for (const one of cells) {
      const [row, state, again] = one.after ?? []
      const key = keyOf(one)
      assert.strictEqual(yield* value(device, `SELECT name FROM users WHERE id = '${key}'`), row, key)
      assert.strictEqual(states[`users ${key}`], state, key)
      const [op, base] = again?.split(" ") ?? []
      assert.deepStrictEqual(
        upload.filter((intent) => intent.includes(` ${key} `)),
        op === undefined ? [] : [`${op} users ${key} base ${base}`],
        key
      )
    }
    assert.include(upload, "UPDATE users sibling base 1")
    assert.deepStrictEqual(yield* dirty(device), [])
    assert.strictEqual(yield* nextNumber(device), 2)
  })

describe("a valid decision", () => {
  it.scoped("has the effect of its cell, all conflicts of an answer in one transaction [conflicts.md §4, §5]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* arranged(valid)
      yield* resolveOnce(world, device)
      yield* checkCells(device, valid)
      assert.strictEqual((yield* header(device)).sourceBundleId, 2)
    }))

  it.scoped("brings the retried rows to the server under the same number [conflicts.md §4, §7]", () =>
    Effect.gen(function*() {
      const cells = valid.filter(({ shape }) => shape !== "missing")
      const { device, world } = yield* arranged(cells)
      const report = yield* device.sync.pushPending
      // A delete against a tombstone is no decision.
      const decided = cells.filter(({ op, shape }) => op !== "DELETE" || shape !== "tombstone")
      assert.deepInclude(report, { outcome: "committed", conflictCount: decided.length, requeuedRowCount: 0 })
      const creates = world.network.requests.filter(({ route }) => route === "push create").slice(1)
      assert.deepStrictEqual(creates.map(({ body }) => JSON.parse(body).source_bundle_id), [2, 2])
      yield* device.sync.sync
      assert.deepStrictEqual(yield* dirty(device), [])
      yield* checkInvariants(device)
      const rows = yield* world.serverRows
      for (const one of cells) {
        const row = rows.get(`users ${keyOf(one)}`)
        assert.strictEqual(isMembers(row) ? row["name"] : undefined, one.after?.[0], keyOf(one))
      }
    }))

  it.scoped("works one by one with a server that answers one conflict at a time [conflicts.md §1, §7]", () =>
    Effect.gen(function*() {
      const cells = valid.filter(({ shape }) => shape !== "missing")
      const { device, world } = yield* arranged(cells)
      yield* world.network.heal
      const single = changed(({ conflicts: _, ...body }) => body)
      yield* world.network.fault("push commit", single, 1000)
      const report = yield* device.sync.pushPending
      assert.strictEqual(report.outcome, "committed")
      const creates = world.network.requests.filter(({ route }) => route === "push create").slice(1)
      assert.lengthOf(creates, cells.length + 1)
      yield* device.sync.sync
      assert.deepStrictEqual(yield* dirty(device), [])
      yield* checkInvariants(device)
      for (const one of cells) {
        const name = yield* value(device, `SELECT name FROM users WHERE id = '${keyOf(one)}'`)
        assert.strictEqual(name, one.after?.[0], keyOf(one))
      }
    }))
})

describe("a decision that is not allowed", () => {
  it.scoped("changes nothing, and every local intent is pending again [conflicts.md §4, §5, §8]", () =>
    Effect.gen(function*() {
      for (const one of table.filter(({ after }) => after === undefined)) {
        // Without a difference the resolver is not asked.
        if (one.op === "DELETE" && one.shape !== "live") continue
        const { device, world } = yield* arranged([one])
        const before = yield* dump(device, ["_sync_dirty_rows"])
        const pending = yield* dirtyRows(device)
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual(error._tag, "InvalidConflictResolution", keyOf(one))
        if (error._tag !== "InvalidConflictResolution") return
        assert.deepInclude(error, { reason: "not_allowed", retryable: false, action: "fix_resolver" })
        assert.include(error.message, "users")
        assert.notInclude(error.message, keyOf(one))
        assert.strictEqual(error.conflict.key, keyOf(one))
        assert.deepStrictEqual(yield* dump(device, ["_sync_dirty_rows"]), before, keyOf(one))
        assert.deepStrictEqual(
          (yield* dirtyRows(device)).map(({ row }) => row).sort(),
          pending.map(({ row }) => row).sort(),
          keyOf(one)
        )
        yield* checkInvariants(device)
        yield* world.network.heal
        yield* device.sync.setResolver(clientWins)
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed", keyOf(one))
        yield* checkInvariants(device)
      }
    }))
})

describe("a conflict without a difference", () => {
  const asked: ConflictResolver = () => Effect.dieMessage("there is nothing to decide")

  it.scoped("is accepted without asking: same row, or gone on both sides [conflicts.md §2.4]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ ...offline, resolver: asked })
      yield* device.run(
        "INSERT INTO users VALUES ('same', 'Seed', NULL, 1), ('gone', 'Seed', NULL, 1), ('blank', 'x', NULL, 1)"
      )
      yield* device.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'Seed', x'01')")
      yield* device.sync.pushPending
      yield* world.write([
        { table: "users", key: "same", payload: { name: "Same", email: null, score: 2.0 } },
        { table: "users", key: "gone", payload: null },
        { table: "users", key: "twin", payload: { name: "Twin", email: null, score: 7 } },
        { table: "files", key: "00112233-4455-6677-8899-aabbccddeeff", payload: { name: "Same", data: "/w==" } }
      ])
      yield* device.run("UPDATE users SET name = 'Same', score = 2 WHERE id = 'same'")
      yield* device.run("DELETE FROM users WHERE id = 'gone'")
      yield* device.run("INSERT INTO users VALUES ('twin', 'Twin', NULL, 7)")
      yield* device.run("UPDATE files SET name = 'Same', data = x'ff'")
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, { outcome: "no_change", conflictCount: 0 })
      assert.deepStrictEqual(yield* dirty(device), [])
      assert.deepInclude(yield* rowState(device), {
        "users same": "2 live",
        "users gone": "2 deleted",
        "users twin": "2 live",
        "files 00112233445566778899aabbccddeeff": "2 live"
      })
      yield* checkInvariants(device)
    }))
})

describe("evidence of lost history", () => {
  it.scoped("enters source recovery with the outbox as it is; the resolver is not asked [conflicts.md §3, recovery.md §2.2]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ ...offline, resolver: () => Effect.dieMessage("not asked") })
      yield* device.run("INSERT INTO users VALUES ('u1', 'Seed', NULL, 1)")
      yield* device.sync.pushPending
      const backup = yield* world.backup
      yield* device.run("UPDATE users SET name = 'Later'")
      yield* device.sync.pushPending
      yield* device.run("UPDATE users SET name = 'Latest'")
      yield* world.restore(backup, { renewHistory: false })
      // Somebody else brings the server's numbering past this device's counter.
      yield* device.run("UPDATE _sync_source_state SET next_source_bundle_id = 2")
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "SourceRecoveryRequired", reason: "source_sequence_out_of_order" })
      assert.strictEqual(yield* outboxState(device), "prepared")
      assert.deepStrictEqual(yield* frozen(device), ["UPDATE users u1 base 2"])
      yield* checkInvariants(device)
      yield* device.sync.rebuild
      yield* device.sync.sync
      assert.deepStrictEqual([...(yield* world.serverRows).values()], [{
        id: "u1",
        name: "Latest",
        email: null,
        score: 1
      }])
      yield* checkInvariants(device, { historyWentBack: true })
    }))
})

describe("a conflict that names no frozen row", () => {
  const details = (change: object) => ({
    schema: "business",
    table: "users",
    key: { id: "u1" },
    op: "UPDATE",
    base_row_version: 1,
    server_row_version: 2,
    server_row_deleted: true,
    server_row: null,
    ...change
  })

  const strangers: ReadonlyArray<readonly [what: string, object]> = [
    ["another key", { key: { id: "other" } }],
    ["another table", { table: "posts" }],
    ["an unknown table", { table: "nowhere" }],
    ["another schema", { schema: "other" }],
    ["another key column", { key: { uid: "u1" } }]
  ]

  it.scoped("thaws the upload [conflicts.md §3, §8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* device.run("INSERT INTO users VALUES ('u1', 'Seed', NULL, 1)")
      yield* device.sync.pushPending
      yield* device.run("UPDATE users SET name = 'Mine'")
      for (const [what, change] of strangers) {
        yield* world.network.fault("push commit", refused(409, "push_conflict", { conflict: details(change) }))
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual(error._tag, "PushConflictError", what)
        if (error._tag !== "PushConflictError") return
        assert.deepInclude(error, { code: "push_conflict_unmatched", retryable: true, action: "report" })
        assert.notInclude(error.message, "other")
        assert.strictEqual(yield* outboxState(device), "none", what)
        assert.deepStrictEqual(yield* dirty(device), ["UPDATE users u1 base 1"], what)
        yield* checkInvariants(device)
      }
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))

  const broken: ReadonlyArray<readonly [what: string, body: object, rule: string]> = [
    ["no shape at all", { conflict: 5 }, "field_invalid"],
    ["a list without entries", { conflict: details({}), conflicts: [] }, "field_invalid"],
    ["an entry of another shape", { conflict: details({}), conflicts: [details({}), {}] }, "row_invalid"],
    ["a row that is no object", { conflict: details({ server_row: [], server_row_deleted: false }) }, "field_invalid"],
    ["a tombstone with a row", { conflict: details({ server_row: { id: "u1" } }) }, "field_invalid"],
    ["a negative version", { conflict: details({ server_row_version: -1 }) }, "field_invalid"],
    ["an unknown operation", { conflict: details({ op: "UPSERT" }) }, "row_invalid"],
    ["no key", { conflict: details({ key: {} }) }, "row_invalid"],
    [
      "the hidden column",
      { conflict: details({ server_row: { _sync_scope_id: 1 }, server_row_deleted: false }) },
      "hidden_column"
    ]
  ]

  it.scoped("or breaks the shape of one leaves the outbox frozen [conflicts.md §1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* device.run("INSERT INTO users VALUES ('u1', 'Seed', NULL, 1)")
      yield* device.sync.pushPending
      yield* device.run("UPDATE users SET name = 'Mine'")
      yield* world.network.fault("push create", refused(403, "stop"))
      yield* Effect.flip(device.sync.pushPending)
      const before = yield* dump(device)
      for (const [what, body, rule] of broken) {
        yield* world.network.fault("push commit", refused(409, "push_conflict", { ...body }) satisfies Fault)
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual(error._tag, "ProtocolError", what)
        if (error._tag !== "ProtocolError") return
        assert.strictEqual(error.rule, rule, what)
        assert.deepStrictEqual(yield* dump(device), before, what)
      }
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))
})

describe("many tables", () => {
  it.scoped("a conflict in a database of more tables than one statement can join is resolved [conflicts.md §5.1]", () =>
    Effect.gen(function*() {
      const names = Array.from({ length: 501 }, (_, i) => `t${i}`)
      const world = yield* makeWorld({
        declared: names.map((table) => ({ schema: "business", table, key: { column: "id", kind: "text" } }))
      })
      const device = yield* world.attached({
        ...offline,
        ddl: names.map((name) => `CREATE TABLE ${name} (id TEXT PRIMARY KEY NOT NULL, v TEXT)`),
        tables: names.map((name) => ({ name, key: "id" }))
      })
      yield* device.run("INSERT INTO t0 VALUES ('k', 'a')")
      yield* device.sync.pushPending
      yield* world.write([{ table: "t0", key: "k", payload: { v: "server" } }])
      yield* device.run("UPDATE t0 SET v = 'mine'")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "no_change")
      assert.deepStrictEqual(yield* device.run("SELECT v FROM t0"), [{ v: "server" }])
    }))
})
