/** A rebuild by the shape of the tables: tables that left the configuration, columns with awkward names, NULL keys. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { checkInvariants } from "./support/Invariants.js"
import { makeWorld } from "./support/World.js"

const once = { retryPolicy: { enabled: false } }

const insertUser = (id: string) => `INSERT INTO users VALUES ('${id}', 'Ann', NULL, 1)`

describe("a table that left the configuration [pull.md §6.4, capture.md §10]", () => {
  it.scoped("has nothing recovered from a server that has gone back, because nobody could push it", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const first = yield* world.attached(once)
      yield* first.run(insertUser("x"))
      yield* first.sync.sync
      const backup = yield* world.backup
      yield* first.run(insertUser("y"))
      yield* first.run("INSERT INTO files VALUES (x'000102030405060708090a0b0c0d0e0f', 'f', x'00')")
      yield* first.sync.sync
      const a = yield* world.restarted(first, {
        ...once,
        tables: [{ name: "users", key: "id" }, { name: "posts", key: "id" }]
      })
      yield* world.restore(backup, { renewHistory: true })
      assert.strictEqual((yield* Effect.either(a.sync.sync))._tag, "Left")
      const { localRows } = yield* a.sync.rebuild
      assert.deepStrictEqual(localRows, { kept: 0, identical: 0, discarded: 0, recovered: 1 })
      yield* checkInvariants(a, { historyWentBack: true })
      yield* a.sync.sync
      assert.deepStrictEqual([...(yield* world.serverRows).keys()].sort(), ["users x", "users y"])
      yield* world.restarted(a, { ...once, tables: [{ name: "users", key: "id" }, { name: "posts", key: "id" }] })
    }))
})
