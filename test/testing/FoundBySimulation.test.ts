/** What the simulation has found in the engine and the server, as short stories: each failed before it was mended. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { VirtualTime } from "oversqlite/testing"
import { ddl, device, server, serverTables, tables } from "../engine/support/Devices.js"
import { followGuidance } from "../engine/support/Guidance.js"
import { checkInvariants } from "../engine/support/Invariants.js"
import { states } from "../engine/support/States.js"
import { secondsPass, turn } from "../engine/support/Time.js"
import { contents, makeWorld } from "../engine/support/World.js"

describe("found by the simulation", () => {
  it.scoped("a staged snapshot belongs to a history: a server that was reset meanwhile is noticed [lifecycle.md §5.2, recovery.md §2.2]", () =>
    Effect.gen(function*() {
      yield* turn
      const world = yield* makeWorld()
      const a = yield* states["opened, anonymous + remote replace"].build(world)
      yield* world.reset
      const b = yield* world.attached()
      const [operation] = yield* a.run("SELECT snapshot_bundle_seq AS staged FROM _sync_operation_state")
      const staged = Number(operation?.["staged"])
      for (let seq = 1; seq <= staged; seq++) {
        yield* b.run(`INSERT INTO users VALUES ('of the new history ${seq}', 'New', NULL, ${seq})`)
        yield* b.sync.sync
      }
      assert.strictEqual((yield* a.sync.attach("ann")).status, "connected")
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, staged)
      yield* followGuidance(a)
      yield* b.sync.sync
      yield* a.sync.sync
      yield* checkInvariants(a)
      assert.deepStrictEqual(yield* contents(a), yield* contents(b))
    }))

  it.scoped("background work goes on when the wall clock is set back by hours [client-state.md §1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      let jumped = 0
      const clock = VirtualTime.wallClock(yield* Effect.clock, () => jumped)
      const a = yield* world.attached()
      yield* Effect.forkScoped(Effect.withClock(a.sync.run, clock))
      yield* secondsPass(2)
      jumped = -5 * 3_600_000
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      yield* secondsPass(5)
      assert.isFalse((yield* a.sync.pendingSyncStatus).hasPendingSyncData)
    }))

  it.scoped("an accepted deletion takes its children along before their bundle is pulled [conflicts.md §4, pull.md §8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      yield* a.run("INSERT INTO posts VALUES ('p1', 'Hello', 'u1')")
      yield* a.sync.sync
      const b = yield* world.attached()
      yield* b.run("DELETE FROM users")
      yield* b.sync.sync
      yield* a.run("UPDATE users SET name = 'Edited'")
      assert.strictEqual((yield* a.sync.pushPending).outcome, "no_change")
      assert.deepStrictEqual(yield* contents(a), yield* contents(b))
      yield* checkInvariants(a)
      yield* a.sync.sync
      yield* checkInvariants(a)
      assert.deepStrictEqual(yield* a.run("SELECT DISTINCT deleted FROM _sync_row_state"), [{ deleted: 1 }])
    }))

  it.scoped("accepts a server row that refers to a row not pulled yet [conflicts.md §4, §8]", () =>
    Effect.gen(function*() {
      const a = yield* device("ann")
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      yield* a.run("INSERT INTO posts VALUES ('p1', 'Hello', 'u1')")
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* a.sync.sync
      const b = yield* device("ann")
      yield* b.sync.open
      yield* b.sync.attach("ann")
      yield* b.run("INSERT INTO users VALUES ('u2', 'Bob', NULL, 2)")
      yield* b.run("UPDATE posts SET author_id = 'u2' WHERE id = 'p1'")
      yield* b.sync.sync

      yield* a.run("UPDATE posts SET title = 'Good bye' WHERE id = 'p1'")
      yield* a.run("INSERT INTO users VALUES ('u3', 'Cy', NULL, 3)")
      yield* a.sync.sync
      yield* checkInvariants(a)
      assert.deepStrictEqual(yield* a.run("SELECT * FROM posts"), [{ id: "p1", title: "Hello", author_id: "u2" }])
      assert.deepStrictEqual((yield* a.run("SELECT id FROM users ORDER BY id")).map(({ id }) => id), ["u1", "u2", "u3"])
      assert.isFalse((yield* a.sync.pendingSyncStatus).hasPendingSyncData)
    }).pipe(Effect.provide(server())))

  it.scoped("an own row ahead of the checkpoint survives the foreign-key actions of older bundles [pull.md §4.1]", () =>
    Effect.gen(function*() {
      const nested = {
        ddl: [
          ...ddl,
          "CREATE TABLE likes (id TEXT PRIMARY KEY NOT NULL, post_id TEXT REFERENCES posts (id) ON DELETE SET NULL)"
        ],
        tables: [...tables, { name: "likes", key: "id" }],
        downloadLimit: 1
      }
      const a = yield* device("ann", nested)
      const b = yield* device("ann", nested)
      yield* Effect.forEach([a, b], ({ sync }) => sync.open)
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      yield* a.sync.attach("ann")
      yield* a.sync.sync
      yield* b.sync.attach("ann")
      yield* a.run("DELETE FROM users WHERE id = 'u1'")
      yield* a.sync.sync
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann is back', NULL, 2)")
      yield* a.sync.sync

      yield* b.run("INSERT INTO posts VALUES ('p1', 'Hello', 'u1')")
      yield* b.run("INSERT INTO likes VALUES ('l1', 'p1')")
      yield* b.sync.sync
      yield* a.sync.sync
      yield* checkInvariants(b)
      for (const { run } of [a, b]) {
        assert.deepStrictEqual(yield* run("SELECT * FROM users"), [
          { id: "u1", name: "Ann is back", email: null, score: 2 }
        ])
        assert.deepStrictEqual(yield* run("SELECT * FROM posts"), [{ id: "p1", title: "Hello", author_id: "u1" }])
        assert.deepStrictEqual(yield* run("SELECT * FROM likes"), [{ id: "l1", post_id: "p1" }])
      }
    }).pipe(Effect.provide(server(":memory:", [
      ...serverTables,
      {
        schema: "business",
        table: "likes",
        key: { column: "id", kind: "text" },
        references: [{ column: "post_id", table: "posts", onDelete: "set null" }]
      }
    ]))))
})
