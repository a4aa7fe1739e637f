/** What the simulation has found in the engine and the server, as short stories: each failed before it was mended. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { device, server } from "../engine/support/Devices.js"
import { checkInvariants } from "../engine/support/Invariants.js"

describe("found by the simulation", () => {
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
})
