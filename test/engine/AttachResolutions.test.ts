import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dump, value } from "./support/Database.js"
import { checkInvariants } from "./support/Invariants.js"
import { answerLost } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { clean, once, withLocalRows } from "./support/States.js"
import { makeWorld } from "./support/World.js"

const noConnection = { _tag: "TransportError", request: "connect_request", code: "connection" }

describe("the four resolutions [lifecycle.md §4.3]", () => {
  it.scoped("initialize_local: seeded_from_local, the seed counts as pending, its push initializes the scope", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* withLocalRows(world)
      const attached = yield* device.sync.attach("ann")
      assert.deepStrictEqual(attached, {
        status: "connected",
        outcome: "seeded_from_local",
        syncStatus: {
          authority: "pending_local_seed",
          pending: { pendingRowCount: 3, hasPendingSyncData: true, blocksDetach: true },
          lastBundleSeqSeen: 0
        }
      })
      assert.deepStrictEqual(yield* world.network.asked, ["capabilities", "connect"])
      assert.strictEqual(world.network.requests.at(-1)?.body, "{\"has_local_pending_rows\":true}")
      assert.strictEqual(yield* value(device, "SELECT owner_user_id FROM _sync_source_state"), "ann")
      yield* checkInvariants(device)
      assert.strictEqual((yield* device.sync.pushPending).status.authority, "authoritative_materialized")
      assert.deepStrictEqual([...(yield* world.serverRows).keys()].sort(), ["users u8", "users u9"])
      yield* checkInvariants(device)
    }))

  it.scoped("initialize_empty: started_empty", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.device(once)
      yield* device.sync.open
      const attached = yield* device.sync.attach("ann")
      assert.deepStrictEqual(attached, {
        status: "connected",
        outcome: "started_empty",
        syncStatus: {
          authority: "authoritative_empty",
          pending: { pendingRowCount: 0, hasPendingSyncData: false, blocksDetach: false },
          lastBundleSeqSeen: 0
        }
      })
      assert.strictEqual(world.network.requests.at(-1)?.body, "{\"has_local_pending_rows\":false}")
      yield* checkInvariants(device)
      assert.strictEqual((yield* device.sync.sync).remoteOutcome, "already_at_target")
    }))

  it.scoped("initialize_empty: a row written while the answer was under way is uploaded normally", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.device(once)
      yield* device.sync.open
      yield* world.network.fault(
        "connect",
        (_exchange, ask) => Effect.zipLeft(ask, device.run("INSERT INTO users VALUES ('u7', 'Meanwhile', NULL, 7)"))
      )
      const attached = yield* device.sync.attach("ann")
      assert.deepInclude(attached, { outcome: "started_empty" })
      assert.strictEqual(attached.status === "connected" && attached.syncStatus.pending.pendingRowCount, 1)
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      assert.deepStrictEqual([...(yield* world.serverRows).keys()], ["users u7"])
      yield* checkInvariants(device)
    }))

  it.scoped("retry_later: nothing changes, the length of the pause is the server's, later it is this device's turn", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const seeding = yield* withLocalRows(world)
      yield* seeding.sync.attach("ann")
      const device = yield* withLocalRows(world)
      const before = yield* dump(device)
      const attached = yield* device.sync.attach("ann")
      assert.strictEqual(attached.status, "retry_later")
      assert.isTrue(
        attached.status === "retry_later" && attached.retryAfter.value._tag === "Millis" &&
          attached.retryAfter.value.millis > 800_000
      )
      assert.deepStrictEqual(yield* dump(device), before)
      assert.strictEqual((yield* device.sync.inspect).instance, "opened")
      yield* seeding.sync.pushPending
      assert.deepInclude(yield* device.sync.attach("ann"), {
        outcome: "used_remote_state",
        restore: { bundleSeq: 1, rowCount: 2 },
        localRows: { kept: 0, identical: 2, discarded: 0, recovered: 0 }
      })
      yield* checkInvariants(device)
    }))

  it.scoped("remote_authoritative: used_remote_state with the snapshot's sequence and rows", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* clean(world)
      const device = yield* world.device(once)
      yield* device.sync.open
      yield* world.network.asked
      const attached = yield* device.sync.attach("ann")
      assert.deepStrictEqual(attached, {
        status: "connected",
        outcome: "used_remote_state",
        restore: { bundleSeq: 2, rowCount: 2 },
        localRows: { kept: 0, identical: 0, discarded: 0, recovered: 0 },
        syncStatus: {
          authority: "authoritative_materialized",
          pending: { pendingRowCount: 0, hasPendingSyncData: false, blocksDetach: false },
          lastBundleSeqSeen: 2
        }
      })
      assert.deepStrictEqual(
        (yield* world.network.asked).filter((route) => route !== "snapshot delete"),
        ["capabilities", "connect", "snapshot create", "snapshot chunk"]
      )
      yield* checkInvariants(device)
    }))

  it.scoped("checkpoint and gate of a former binding do not survive initialize_* [lifecycle.md quirk 1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      for (const [index, rows] of ["", "INSERT INTO users VALUES ('u9', 'Local', NULL, 9)"].entries()) {
        yield* world.reset
        const device = yield* world.device(once)
        yield* device.sync.open
        if (rows !== "") yield* device.run(rows)
        yield* device.run("UPDATE _sync_attachment_state SET last_bundle_seq_seen = 50, rebuild_required = 1")
        yield* device.run(
          "UPDATE _sync_engine_state SET newest_bundle_seq = 50, newest_bundle_hash = 'x', history_id = 'y'"
        )
        assert.deepInclude(yield* device.sync.attach("ann"), {
          outcome: index === 0 ? "started_empty" : "seeded_from_local"
        })
        assert.strictEqual((yield* device.sync.sync).status.lastBundleSeqSeen, index)
        yield* checkInvariants(device)
      }
    }))
})

describe("a lost answer of connect is harmless [lifecycle.md §4.2]", () => {
  it.scoped("initialize_local: the next connect of the same source repeats it with the same id", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* withLocalRows(world)
      const before = yield* dump(device)
      let id: unknown
      yield* world.network.fault(
        "connect",
        (exchange, ask) =>
          answerLost(
            exchange,
            Effect.tap(ask, ({ text }) => Effect.sync(() => (id = JSON.parse(text).initialization_id)))
          )
      )
      yield* failsWith(device.sync.attach("ann"), noConnection)
      assert.deepStrictEqual(yield* dump(device), before)
      assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "seeded_from_local" })
      assert.strictEqual(yield* value(device, "SELECT pending_initialization_id FROM _sync_attachment_state"), id)
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
    }))

  it.scoped("initialize_empty: then it is remote_authoritative with an empty snapshot, over which keep puts the rows", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.device(once)
      yield* device.sync.open
      yield* world.network.fault("connect", answerLost)
      yield* failsWith(device.sync.attach("ann"), noConnection)
      yield* device.run("INSERT INTO users VALUES ('u7', 'Meanwhile', NULL, 7)")
      assert.deepInclude(yield* device.sync.attach("ann"), {
        outcome: "used_remote_state",
        restore: { bundleSeq: 0, rowCount: 0 },
        localRows: { kept: 1, identical: 0, discarded: 0, recovered: 0 }
      })
      yield* checkInvariants(device)
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      assert.deepStrictEqual([...(yield* world.serverRows).keys()], ["users u7"])
    }))
})

describe("the state check of initialize_* [lifecycle.md §4.4]", () => {
  it.scoped("a younger client that has attached meanwhile is reported as what it is", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* withLocalRows(world)
      yield* world.network.fault(
        "connect",
        (_exchange, ask) =>
          Effect.zipLeft(ask, device.run("UPDATE _sync_engine_state SET engine_epoch = engine_epoch + 1"))
      )
      yield* failsWith(device.sync.attach("ann"), { _tag: "DatabaseTakenOver", operation: "attach" })
    }))

  for (
    const [what, statement] of [
      ["another user", "UPDATE _sync_attachment_state SET binding_state = 'attached', attached_user_id = 'bob'"],
      ["another source", "UPDATE _sync_attachment_state SET current_source_id = 'other'"]
    ] as const
  ) {
    it.scoped(`${what} in the stored binding → AttachLocalStateConflict(binding_changed), nothing changed`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* withLocalRows(world)
        yield* world.network.fault("connect", (_exchange, ask) => Effect.zipLeft(ask, device.run(statement)))
        yield* failsWith(device.sync.attach("ann"), { _tag: "AttachLocalStateConflict", reason: "binding_changed" })
        assert.strictEqual(yield* value(device, "SELECT pending_initialization_id FROM _sync_attachment_state"), "")
      }))
  }
})
