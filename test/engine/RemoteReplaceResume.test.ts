import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty, dump, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { tables } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Route } from "./support/Network.js"
import { refused } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { clean, durableState, states } from "./support/States.js"
import { turn } from "./support/Time.js"
import { makeWorld } from "./support/World.js"

const ids = (device: Device): Effect.Effect<ReadonlyArray<unknown>> =>
  Effect.map(device.run("SELECT id FROM users ORDER BY id"), (rows) => rows.map(({ id }) => id))

describe("what databases arrive with [lifecycle.md §5.2]", () => {
  const fresh: ReadonlyArray<Route> = ["capabilities", "connect", "snapshot create", "snapshot chunk"]
  /** State, requests of `attach(target)`, users afterwards. */
  const found: ReadonlyArray<readonly [keyof typeof states, ReadonlyArray<string>, ReadonlyArray<string>]> = [
    ["opened, anonymous + remote replace", [], ["u1", "u9", "w1"]],
    ["reference: replace begun", fresh, ["u1", "w1"]],
    ["reference: replace created", fresh, ["u1", "w1"]],
    ["reference: replace half staged", fresh, ["u1", "w1"]],
    ["reference: replace staged", [], ["u1", "w1"]],
    ["reference: replace of an empty account", [], ["u1"]],
    ["reference: replace prepared", ["snapshot create", "snapshot chunk"], ["u1", "w1"]],
    ["reference: replace applied", ["snapshot create", "snapshot chunk"], ["u1", "w1"]]
  ]
  for (const [name, requests, users] of found) {
    it.scoped(`${name}: attach(target) asks for ${requests.length === 0 ? "nothing" : requests.join(", ")}`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* states[name].build(world)
        yield* turn
        yield* world.network.asked
        const attached = yield* device.sync.attach("ann")
        assert.deepInclude(attached, { outcome: "used_remote_state" })
        assert.deepStrictEqual(yield* world.network.asked, requests)
        assert.deepStrictEqual(yield* ids(device), users)
        assert.strictEqual(yield* value(device, "SELECT owner_user_id FROM _sync_source_state"), "ann")
        yield* checkInvariants(device)
        yield* device.sync.sync
        yield* checkInvariants(device)
      }))

    it.scoped(`${name}: open is ok and names ${name.includes("prepared") || name.includes("applied") ? "the user" : "nobody"}, another user is a conflict`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* states[name].build(world)
        const unchanged = yield* dump(device, ["_sync_engine_state"])
        yield* device.sync.open
        yield* failsWith(device.sync.attach("bob"), {
          _tag: "AttachLocalStateConflict",
          reason: "remote_replace_for_other_user",
          pendingUserId: "ann"
        })
        assert.deepStrictEqual(yield* dump(device, ["_sync_engine_state"]), unchanged)
      }))
  }

  it.scoped("a table that came or left since starts it again: the stage fits no more", () =>
    Effect.gen(function*() {
      for (const names of [["users", "posts"], ["users", "posts", "files"]]) {
        const world = yield* makeWorld()
        const device = yield* states["opened, anonymous + remote replace"].build(world)
        const next = yield* world.replaced(device, { tables: tables.filter(({ name }) => names.includes(name)) })
        yield* next.sync.open
        yield* world.network.asked
        assert.deepInclude(yield* next.sync.attach("ann"), { outcome: "used_remote_state" })
        assert.deepStrictEqual(yield* world.network.asked, names.length === 2 ? fresh : [])
        yield* checkInvariants(next)
      }
    }))

  it.scoped("the stage is taken up with the localRows of this call", () =>
    Effect.gen(function*() {
      for (const localRows of ["replace", "refuse", "keep"] as const) {
        const world = yield* makeWorld()
        const device = yield* states["opened, anonymous + remote replace"].build(world)
        if (localRows === "refuse") {
          const unchanged = yield* dump(device)
          yield* failsWith(device.sync.attach("ann", { localRows }), { _tag: "LocalRowsPending", pendingRowCount: 1 })
          assert.deepStrictEqual(yield* dump(device), unchanged)
        } else {
          const attached = yield* device.sync.attach("ann", { localRows })
          assert.deepInclude(attached, {
            restore: { bundleSeq: 2, rowCount: 2 },
            localRows: {
              kept: localRows === "keep" ? 1 : 0,
              identical: 0,
              discarded: localRows === "keep" ? 0 : 1,
              recovered: 0
            }
          })
        }
      }
    }))

  it.scoped("a staged snapshot that cannot be applied is given up: the next attach downloads afresh", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["reference: replace staged"].build(world)
      yield* device.run("UPDATE _sync_snapshot_stage SET payload = '{\"id\":\"u1\"}' WHERE row_ordinal = 1")
      yield* failsWith(device.sync.attach("ann"), { _tag: "LocalDataError", code: "payload_column_mismatch" })
      assert.strictEqual(yield* durableState(device), "anonymous dirty")
      assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "used_remote_state" })
      yield* checkInvariants(device)
    }))

  describe("E, F: attached, but not finished", () => {
    it.scoped("the rebuild fails: the session is not connected, the next attach resumes, and rebuild finishes", () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* states["reference: replace prepared"].build(world)
        yield* world.network.fault("snapshot create", refused(500, "snapshot_failed"))
        yield* failsWith(device.sync.attach("ann"), { _tag: "TransportError", status: 500 })
        assert.strictEqual(yield* durableState(device), "attached gate dirty")
        assert.strictEqual((yield* device.sync.inspect).instance, "opened")
        yield* failsWith(device.sync.sync, { _tag: "AttachRequired", reason: "not_connected" })
        assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "resumed_attached_state" })
        yield* failsWith(device.sync.sync, { _tag: "RebuildRequired" })
        assert.strictEqual((yield* device.sync.rebuild).outcome, "applied_snapshot")
        yield* checkInvariants(device)
      }))

    it.scoped("replace discards, refuse refuses, keep keeps", () =>
      Effect.gen(function*() {
        for (const localRows of ["replace", "refuse", "keep"] as const) {
          const world = yield* makeWorld()
          const device = yield* states["reference: replace prepared"].build(world)
          yield* device.run("UPDATE _sync_apply_state SET apply_mode = 1")
          yield* device.run("UPDATE users SET name = 'Mine' WHERE id = 'u1'")
          yield* device.run("UPDATE _sync_apply_state SET apply_mode = 0")
          if (localRows === "refuse") {
            const unchanged = yield* dump(device)
            yield* failsWith(device.sync.attach("ann", { localRows }), { _tag: "LocalRowsPending", pendingRowCount: 1 })
            assert.deepStrictEqual(yield* dump(device), unchanged)
          } else {
            const keeps = localRows === "keep"
            assert.deepInclude(yield* device.sync.attach("ann", { localRows }), {
              localRows: { kept: keeps ? 1 : 0, identical: 0, discarded: keeps ? 0 : 1, recovered: 0 }
            })
            assert.strictEqual(yield* value(device, "SELECT name FROM users WHERE id = 'u1'"), keeps ? "Mine" : "Ann")
            yield* checkInvariants(device)
          }
        }
      }))

    it.scoped("a frozen seed that was there before is thawed and kept", () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* states["lease lost"].build(world)
        yield* world.reset
        yield* clean(world)
        yield* device.run("UPDATE _sync_engine_state SET rows_of_user_id = ''")
        yield* device.run(
          "UPDATE _sync_outbox_rows SET key_json = '{\"id\":\"u7\"}', wire_key_json = '{\"id\":\"u7\"}'"
        )
        yield* device.run("UPDATE _sync_apply_state SET apply_mode = 1")
        yield* device.run("UPDATE users SET id = 'u7', email = NULL")
        yield* device.run("UPDATE _sync_apply_state SET apply_mode = 0")
        yield* device.run("UPDATE _sync_attachment_state SET binding_state = 'attached', attached_user_id = 'ann'")
        yield* device.run("UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ann'")
        yield* device.sync.open
        const attached = yield* device.sync.attach("ann")
        assert.deepInclude(attached, { localRows: { kept: 1, identical: 0, discarded: 0, recovered: 0 } })
        assert.deepStrictEqual(yield* ids(device), ["u1", "u7", "w1"])
        assert.deepStrictEqual(yield* dirty(device), ["INSERT users u7 base 0"])
        yield* checkInvariants(device)
      }))
  })
})
