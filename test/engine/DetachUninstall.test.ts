import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty } from "./support/Database.js"
import { checkInvariants } from "./support/Invariants.js"
import { failsWith } from "./support/Outcome.js"
import { once, states } from "./support/States.js"
import type { StateName } from "./support/States.js"
import { turn } from "./support/Time.js"
import { contents, makeWorld } from "./support/World.js"

const names = (Object.keys(states) as ReadonlyArray<StateName>).filter((name) => name !== "not opened")

describe("uninstallSync [lifecycle.md §8]", () => {
  it.scoped("requires open", () =>
    Effect.gen(function*() {
      const device = yield* states["not opened"].build(yield* makeWorld())
      yield* failsWith(device.sync.uninstallSync, { _tag: "OpenRequired", operation: "uninstallSync" })
    }))

  it.scoped(
    "no state stops it: rows stay, everything of the engine goes, the client is closed",
    () =>
      Effect.gen(function*() {
        for (const name of names) {
          yield* turn
          const world = yield* makeWorld()
          const device = yield* states[name].build(world)
          const rows = yield* contents(device)
          yield* world.network.asked
          yield* device.sync.uninstallSync
          assert.deepStrictEqual(yield* world.network.asked, [], name)
          yield* checkInvariants(device)
          assert.deepStrictEqual(yield* contents(device), rows, name)
          yield* failsWith(device.sync.open, { _tag: "ClientClosed" })
          yield* failsWith(device.sync.inspect, { _tag: "ClientClosed" })
          yield* device.sync.close
          yield* device.run("INSERT INTO users VALUES ('free', 'Free', NULL, 0)")
        }
      }),
    60_000
  )

  it.scoped("a table that was dropped, or altered beyond use, does not stop it", () =>
    Effect.gen(function*() {
      for (const change of ["DROP TABLE files", "ALTER TABLE files RENAME COLUMN id TO other"]) {
        const device = yield* states["connected, clean"].build(yield* makeWorld())
        yield* device.run(change)
        yield* device.sync.uninstallSync
        yield* checkInvariants(device)
        yield* device.run("INSERT INTO users VALUES ('free', 'Free', NULL, 0)")
        assert.deepStrictEqual(
          yield* device.run("SELECT name FROM sqlite_schema WHERE name LIKE '\\_sync%' ESCAPE '\\'"),
          []
        )
      }
    }))

  it.scoped("what is not the engine's stays: other triggers and tables, whatever they are called", () =>
    Effect.gen(function*() {
      const device = yield* states["connected, clean"].build(yield* makeWorld())
      yield* device.run("CREATE TABLE audit (id TEXT)")
      yield* device.run("CREATE TRIGGER trg_audit AFTER INSERT ON users BEGIN INSERT INTO audit VALUES (NEW.id); END")
      yield* device.sync.uninstallSync
      yield* device.run("INSERT INTO users VALUES ('free', 'Free', NULL, 0)")
      assert.deepStrictEqual(yield* device.run("SELECT id FROM audit"), [{ id: "free" }])
    }))

  it.scoped("a new client begins from nothing: another source, and all rows are new", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world)
      const { currentSourceId } = yield* device.sync.sourceInfo
      yield* device.sync.uninstallSync
      const next = yield* world.replaced(device, once)
      yield* next.sync.open
      assert.notStrictEqual((yield* next.sync.sourceInfo).currentSourceId, currentSourceId)
      assert.deepStrictEqual(yield* dirty(next), ["INSERT users u1 base 0", "INSERT users w1 base 0"])
      assert.deepInclude(yield* next.sync.attach("ann"), {
        outcome: "used_remote_state",
        localRows: { kept: 0, identical: 2, discarded: 0, recovered: 0 }
      })
      yield* checkInvariants(next)
    }))
})
