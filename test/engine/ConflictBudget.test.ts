/** How often conflicts are retried, and decisions that local constraints refuse (conflicts.md §7, §8; DESIGN D8). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { clientWins, keepMerged } from "oversqlite"
import type { ConflictInput } from "oversqlite"
import { dirty, nextNumber, outboxState, value } from "./support/Database.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Fault } from "./support/Network.js"
import { before, changed } from "./support/Network.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

/** The server of the reference: one conflict an answer. */
const oneByOne = changed(({ conflicts: _, ...body }) => body)

const stale = (count: number, options: object = {}) =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    const device = yield* world.attached({ ...offline, ...options })
    const ids = Array.from({ length: count }, (_, position) => `u${position + 1}`)
    for (const id of ids) yield* device.run("INSERT INTO users VALUES (?, 'Seed', NULL, 1)", [id])
    yield* device.sync.pushPending
    yield* world.write(ids.map((key) => ({ table: "users", key, payload: { name: "Server", email: null, score: 2 } })))
    yield* device.run("UPDATE users SET name = 'Local'")
    yield* world.network.asked
    return { world, device }
  })

const commits = (world: World) =>
  Effect.map(world.network.asked, (routes) => routes.filter((route) => route === "push commit").length)

describe("the budget of conflicts", () => {
  it.scoped("lets many stale rows resolve in one call when the server answers all at once [conflicts.md §7 D]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* stale(7)
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, { outcome: "no_change", conflictCount: 7 })
      assert.strictEqual(yield* commits(world), 1)
      yield* checkInvariants(device)
    }))

  it.scoped("lets many stale rows resolve in one call, one upload each, with another server [conflicts.md §7 D]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* stale(7, { resolver: clientWins })
      yield* world.network.fault("push commit", oneByOne, 100)
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, { outcome: "committed", conflictCount: 7 })
      assert.strictEqual(yield* commits(world), 8)
      assert.strictEqual(yield* nextNumber(device), 3)
      yield* checkInvariants(device)
    }))

  it.scoped("ends with the third conflict of one key: three commits, everything pending, the number unused [conflicts.md §7]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* stale(2, { resolver: clientWins })
      // Somebody else is always faster with one of the rows.
      const faster: Fault = before(
        world.write([{ table: "users", key: "u1", payload: { name: "Faster", email: null, score: 3 } }])
      )
      yield* world.network.fault("push commit", faster, 100)
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(error._tag, "PushConflictRetryExhausted")
      if (error._tag !== "PushConflictRetryExhausted") return
      assert.deepInclude(error, { retryCount: 2, remainingDirtyCount: 2, retryable: true, action: "retry_later" })
      assert.strictEqual(yield* commits(world), 3)
      assert.strictEqual(yield* outboxState(device), "none")
      assert.lengthOf(yield* dirty(device), 2)
      assert.strictEqual(yield* nextNumber(device), 2)
      yield* checkInvariants(device)
      yield* world.network.heal
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      yield* checkInvariants(device)
    }))

  it.scoped("is not used up when nothing is left after the third conflict [conflicts.md §7]", () =>
    Effect.gen(function*() {
      let times = 0
      const { device, world } = yield* stale(1, {
        resolver: (conflict: ConflictInput) =>
          ++times < 3 ? clientWins(conflict) : Effect.succeed({ _tag: "AcceptServer" as const })
      })
      const faster: Fault = before(
        world.write([{ table: "users", key: "u1", payload: { name: "Faster", email: null, score: 3 } }])
      )
      yield* world.network.fault("push commit", faster, 100)
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, { outcome: "no_change", conflictCount: 3 })
      assert.strictEqual(yield* value(device, "SELECT name FROM users"), "Faster")
      yield* checkInvariants(device)
    }))

  it.scoped("is a new one in each call [conflicts.md §7]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* stale(1, { resolver: clientWins })
      const faster: Fault = before(
        world.write([{ table: "users", key: "u1", payload: { name: "Faster", email: null, score: 3 } }])
      )
      for (let call = 0; call < 2; call++) {
        yield* world.network.fault("push commit", faster, 3)
        assert.strictEqual((yield* Effect.flip(device.sync.pushPending))._tag, "PushConflictRetryExhausted")
        assert.strictEqual(yield* commits(world), 3)
      }
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))

  it.scoped("does not outlive a pause: the retry ends as skipped, with the rows pending [push.md quirk 10]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* stale(1, { resolver: clientWins })
      yield* world.network.fault("push commit", before(device.sync.pauseUploads))
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, { outcome: "skipped_paused", conflictCount: 1 })
      assert.deepStrictEqual(yield* dirty(device), ["UPDATE users u1 base 2"])
      yield* checkInvariants(device)
      yield* device.sync.resumeUploads
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))
})

describe("a decision that a local constraint refuses", () => {
  /** Names are not blank here; the server does not know. */
  const strict = {
    ...offline,
    ddl: [
      "CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL CHECK (name <> ''), email TEXT UNIQUE, score REAL)"
    ],
    tables: [{ name: "users", key: "id" }]
  }
  const declared = [{ schema: "business", table: "users", key: { column: "id", kind: "text" as const } }]

  const contradicting = (server: object, options: object = {}) =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      const device = yield* world.attached({ ...strict, ...options })
      yield* device.run("INSERT INTO users VALUES ('u1', 'Seed', NULL, 1), ('u2', 'Seed', NULL, 2)")
      yield* device.sync.pushPending
      yield* world.write([{ table: "users", key: "u1", payload: { name: "Server", email: null, score: 2, ...server } }])
      yield* device.run("UPDATE users SET name = 'Local' WHERE id = 'u1'")
      yield* device.run("UPDATE users SET name = 'Bystander' WHERE id = 'u2'")
      return { world, device }
    })

  const thawed = ["UPDATE users u1 base 1", "UPDATE users u2 base 1"]

  const constraints: ReadonlyArray<readonly [what: string, server: object, resolver?: object]> = [
    ["the server's row breaks NOT NULL", { name: null }],
    ["the server's row breaks a CHECK", { name: "" }],
    ["the merged row breaks a CHECK", {}, {
      resolver: () => Effect.succeed(keepMerged({ id: "u1", name: "", email: null, score: 1 }))
    }]
  ]
  for (const [what, server, options] of constraints) {
    it.scoped(`is rolled back, thaws the upload and names the row: ${what} [conflicts.md §8]`, () =>
      Effect.gen(function*() {
        const { device } = yield* contradicting(server, options)
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual(error._tag, "LocalDataError")
        if (error._tag !== "LocalDataError") return
        assert.strictEqual(error.code, "local_constraint")
        assert.deepStrictEqual(error.row, { schema: "business", table: "users", key: "{\"id\":\"u1\"}" })
        assert.strictEqual(yield* outboxState(device), "none")
        assert.sameMembers([...(yield* dirty(device))], thawed)
        assert.deepStrictEqual(yield* device.run("SELECT name FROM users ORDER BY id"), [
          { name: "Local" },
          { name: "Bystander" }
        ])
        yield* checkInvariants(device)
        yield* device.sync.setResolver(clientWins)
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      }))
  }

  const shapes: ReadonlyArray<readonly [what: string, row: object, code: string]> = [
    ["a column is missing", { id: "u1", name: "x", email: null }, "payload_column_mismatch"],
    ["a column has no place here", { id: "u1", name: "x", email: null, score: 1, more: 1 }, "payload_column_mismatch"],
    ["a value has no SQLite form", { id: "u1", name: {}, email: null, score: 1 }, "payload_bad_wire_encoding"]
  ]
  for (const [what, row, code] of shapes) {
    it.scoped(`is no decision at all when the server's row does not fit: ${what} [conflicts.md §8]`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* contradicting({})
        yield* world.network.fault(
          "push commit",
          changed((body) => {
            const conflict = { ...Object(body["conflict"]), server_row: row }
            return { ...body, conflict, conflicts: [conflict] }
          })
        )
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual(error._tag, "LocalDataError")
        if (error._tag !== "LocalDataError") return
        assert.strictEqual(error.code, code)
        assert.sameMembers([...(yield* dirty(device))], thawed)
        yield* checkInvariants(device)
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      }))
  }

  it.scoped("for a UNIQUE value that the server has given to another row comes through with that row [conflicts.md §8, invariant 34]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* contradicting({ email: "a@x" })
      yield* device.run("UPDATE users SET email = 'a@x' WHERE id = 'u2'")
      yield* world.network.asked
      yield* Effect.either(device.sync.pushPending)
      yield* checkInvariants(device)
      // Whatever has happened, nothing is frozen for ever and a host write leads on.
      yield* device.run("UPDATE users SET email = NULL WHERE id = 'u2'")
      yield* device.sync.sync
      yield* device.sync.sync
      assert.deepStrictEqual(yield* dirty(device), [])
      assert.deepStrictEqual(yield* device.run("SELECT name, email FROM users ORDER BY id"), [
        { name: "Server", email: "a@x" },
        { name: "Bystander", email: null }
      ])
      yield* checkInvariants(device)
    }))
})
