import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { device, server } from "./support/Devices.js"

describe("two devices", () => {
  it.scoped("exchange inserts, updates and deletes through the server [lifecycle.md §4, push.md, pull.md]", () =>
    Effect.gen(function*() {
      const a = yield* device("ann")
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann', 'a@x', 1.5), ('u2', 'Bob', NULL, 2)")
      yield* a.run("INSERT INTO posts VALUES ('p1', 'Hello', 'u1')")
      yield* a.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', x'0102ff')")
      yield* a.sync.open
      const attached = yield* a.sync.attach("ann")
      assert.strictEqual(attached.status === "connected" && attached.outcome, "seeded_from_local")
      const pushed = yield* a.sync.pushPending
      assert.strictEqual(pushed.outcome, "committed")
      assert.strictEqual(pushed.status.pending.pendingRowCount, 0)

      const b = yield* device("ann")
      yield* b.sync.open
      const joined = yield* b.sync.attach("ann")
      assert.strictEqual(joined.status === "connected" && joined.outcome, "used_remote_state")
      for (const table of ["users", "posts", "files"]) {
        assert.deepStrictEqual(
          yield* b.run(`SELECT * FROM ${table} ORDER BY id`),
          yield* a.run(`SELECT * FROM ${table} ORDER BY id`)
        )
      }

      yield* b.run("UPDATE users SET name = 'Anna' WHERE id = 'u1'")
      yield* b.run("DELETE FROM users WHERE id = 'u2'")
      yield* a.run("INSERT INTO users VALUES ('u3', 'Cy', 'c@x', -0.1)")
      yield* b.sync.sync
      yield* a.sync.sync
      yield* b.sync.sync
      for (const table of ["users", "posts", "files"]) {
        assert.deepStrictEqual(
          yield* b.run(`SELECT * FROM ${table} ORDER BY id`),
          yield* a.run(`SELECT * FROM ${table} ORDER BY id`)
        )
      }
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 3)
      assert.strictEqual(yield* b.sync.lastBundleSeqSeen, 3)
    }).pipe(Effect.provide(server())))
})
