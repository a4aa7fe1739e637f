/** Devices that write at random agree in the end (client-state.md invariant 35). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import type { TableDeclaration } from "oversqlite/server"
import type { Device } from "./support/Devices.js"
import { followGuidance } from "./support/Guidance.js"
import { checkInvariants } from "./support/Invariants.js"
import { contents, makeWorld } from "./support/World.js"

const ddl = [
  "CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT)",
  `CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, title TEXT,
     author TEXT REFERENCES users (id) ON DELETE SET NULL ON UPDATE CASCADE)`
]

const names = ["users", "posts"]

const tables = names.map((name) => ({ name, key: "id" }))

const declared: ReadonlyArray<TableDeclaration> = [
  { schema: "business", table: "users", key: { column: "id", kind: "text" } },
  {
    schema: "business",
    table: "posts",
    key: { column: "id", kind: "text" },
    references: [{ column: "author", table: "users", onDelete: "set null" }]
  }
]

const step = FastCheck.record({
  device: FastCheck.nat(2),
  does: FastCheck.constantFrom(
    "put",
    "put",
    "put",
    "post",
    "post",
    "delete",
    "unpost",
    "move",
    "push",
    "sync",
    "rebuild"
  ),
  key: FastCheck.nat(4),
  other: FastCheck.nat(4)
})

type Step = typeof step extends FastCheck.Arbitrary<infer A> ? A : never

const write = ({ run }: Device, { does, key, other }: Step): Effect.Effect<unknown> => {
  switch (does) {
    case "put":
      return run("INSERT INTO users VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name", [
        `u${key}`,
        `n${other}`
      ])
    case "post":
      return run(
        `INSERT INTO posts SELECT ?, ?, (SELECT id FROM users WHERE id = ?) WHERE true
             ON CONFLICT (id) DO UPDATE SET title = excluded.title, author = excluded.author`,
        [`p${key}`, `t${other}`, `u${other}`]
      )
    case "delete":
      return run("DELETE FROM users WHERE id = ?", [`u${key}`])
    case "unpost":
      return run("DELETE FROM posts WHERE id = ?", [`p${key}`])
    default:
      return run("UPDATE OR IGNORE users SET id = ? WHERE id = ?", [`u${other}`, `u${key}`])
  }
}

const check = (count: number, steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared })
    const devices: Array<Device> = []
    for (let index = 0; index < count; index++) {
      devices.push(yield* world.attached({ ddl, tables, applyRows: index + 1, retryPolicy: { enabled: false } }))
    }
    for (const one of steps) {
      const device = devices[one.device % count]
      if (device === undefined) continue
      if (one.does === "push" || one.does === "sync" || one.does === "rebuild") {
        // A new child of a parent that was deleted elsewhere is the host's to correct; it does so below.
        const operation: Effect.Effect<unknown, unknown> = one.does === "push"
          ? device.sync.pushPending
          : device.sync[one.does]
        yield* Effect.exit(operation)
      } else {
        yield* write(device, one)
      }
      yield* checkInvariants(device)
    }
    for (let rounds = 0; rounds < 3; rounds++) {
      for (const device of devices) {
        const outcome = yield* Effect.either(device.sync.sync)
        if (outcome._tag === "Left" && outcome.left._tag === "UploadRefused") {
          yield* device.run("UPDATE posts SET author = NULL")
        }
        yield* followGuidance(device, { limit: 20 })
      }
    }
    const fresh = yield* world.attached({ ddl, tables })
    const wanted = yield* contents(fresh, names)
    for (const device of devices) {
      assert.deepStrictEqual(yield* contents(device, names), wanted)
      assert.strictEqual((yield* device.sync.pendingSyncStatus).pendingRowCount, 0)
    }
  })

describe("without further writes everybody agrees [client-state.md invariant 35]", () => {
  for (const count of [2, 3]) {
    it.scoped.prop(
      `${count} devices under random writes, deletes and key changes`,
      [FastCheck.array(step, { minLength: 5, maxLength: 30, size: "max" })],
      ([steps]) => check(count, steps),
      { fastCheck: { seed: 4711 + count, numRuns: 12 }, timeout: 120_000 }
    )
  }
})
