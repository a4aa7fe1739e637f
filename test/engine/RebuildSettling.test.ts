import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as BundleHash from "../../src/protocol/BundleHash.js"
import { dirty, nextNumber, outboxState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, answerLost, before, changed, lost, refused } from "./support/Network.js"
import type { Fault, Route } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { asServer, gate, insert, ready, user } from "./support/Rebuilds.js"
import type { World } from "./support/World.js"

/** A snapshot beyond the checkpoint does not show whether the server still has what was there (recovery.md §2.2). */
const historyCheck = ["committed rows"] as const

describe("settling a frozen upload while the rebuild gate is closed [pull.md §5.4]", () => {
  /** An upload that is frozen, with the gate closed. */
  const gated = (faults: ReadonlyArray<readonly [Route, Fault]>, state: string) =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run("UPDATE users SET name = 'Mine' WHERE id = 'u1'")
      yield* a.run(insert("mine"))
      for (const [route, fault] of faults) yield* world.network.fault(route, fault)
      yield* Effect.flip(a.sync.pushPending)
      assert.strictEqual(yield* outboxState(a), state)
      yield* a.run("UPDATE _sync_attachment_state SET rebuild_required = 1")
      yield* checkInvariants(a)
      yield* world.network.asked
      return { world, a }
    })

  it.scoped("prepared, not committed: the session is deleted, the rows are pending like all others", () =>
    Effect.gen(function*() {
      const { a, world } = yield* gated([["push create", lost]], "prepared")
      yield* world.write([user("u2", "Theirs")])
      const report = yield* a.sync.rebuild
      // The session is deleted in the background.
      assert.sameMembers([...(yield* world.network.asked)], [
        "push create",
        "push delete",
        "snapshot create",
        "snapshot chunk",
        ...historyCheck
      ])
      assert.deepStrictEqual(report.localRows, { kept: 2, identical: 0, discarded: 0, recovered: 0 })
      assert.strictEqual(yield* outboxState(a), "none")
      assert.deepStrictEqual([...yield* dirty(a)].sort(), ["INSERT users mine base 0", "UPDATE users u1 base 1"])
      assert.strictEqual(yield* nextNumber(a), 1)
      yield* checkInvariants(a)
      yield* a.sync.sync
      yield* asServer(world, a)
    }))

  it.scoped("prepared, but committed: finished as a push, then rebuilt", () =>
    Effect.gen(function*() {
      const { a, world } = yield* gated([["push commit", answerLost]], "prepared")
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(yield* world.network.asked, [
        "push create",
        "committed rows",
        "snapshot create",
        "snapshot chunk"
      ])
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 0, discarded: 0, recovered: 0 })
      assert.strictEqual(yield* nextNumber(a), 2)
      assert.strictEqual((yield* a.sync.pendingSyncStatus).pendingRowCount, 0)
      yield* asServer(world, a)
    }))

  it.scoped("prepared, committed, but pruned: the number is given up, one snapshot is enough", () =>
    Effect.gen(function*() {
      const { a, world } = yield* gated([["push commit", answerLost]], "prepared")
      yield* world.network.fault("committed rows", refused(409, "history_pruned"))
      const report = yield* a.sync.rebuild
      assert.strictEqual(report.outcome, "applied_snapshot")
      assert.deepStrictEqual(yield* world.network.asked, [
        "push create",
        "committed rows",
        "snapshot create",
        "snapshot chunk",
        ...historyCheck
      ])
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 2, discarded: 0, recovered: 0 })
      assert.strictEqual(yield* nextNumber(a), 2)
      yield* asServer(world, a)
    }))

  const refusals: ReadonlyArray<readonly [status: number, code: string, error: Record<string, unknown>]> = [
    [409, "history_pruned", { _tag: "SourceRecoveryRequired", reason: "history_pruned" }],
    [409, "source_sequence_out_of_order", { _tag: "SourceRecoveryRequired", reason: "source_sequence_out_of_order" }],
    [409, "source_retired", { _tag: "SourceRecoveryRequired", reason: "source_retired" }],
    [409, "scope_uninitialized", { _tag: "ScopeLost" }],
    [500, "push_session_create_failed", { _tag: "TransportError", status: 500 }]
  ]
  for (const [status, code, error] of refusals) {
    it.scoped(`prepared, ${status} ${code}: as in any push; the next rebuild leads on`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* gated([["push create", lost]], "prepared")
        yield* world.network.fault("push create", refused(status, code))
        yield* failsWith(a.sync.rebuild, { ...error, operation: "rebuild" })
        yield* checkInvariants(a)
        if (code === "scope_uninitialized") yield* a.sync.attach("ann")
        else yield* a.sync.rebuild
        yield* a.sync.sync
        yield* asServer(world, a)
      }))
  }

  it.scoped("committed_remote: nothing to ask, the snapshot shows it [recovery.md §4]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* gated([["committed rows", lost]], "committed_remote")
      yield* a.run("UPDATE users SET name = 'Again' WHERE id = 'mine'")
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(yield* world.network.asked, ["snapshot create", "snapshot chunk"])
      assert.deepStrictEqual(report.localRows, { kept: 1, identical: 0, discarded: 0, recovered: 0 })
      // The edit was made on the committed version.
      assert.deepStrictEqual(yield* dirty(a), ["UPDATE users mine base 2"])
      assert.strictEqual(yield* nextNumber(a), 2)
      yield* checkInvariants(a)
      yield* a.sync.sync
      assert.deepStrictEqual(yield* a.run("SELECT name FROM users WHERE id = 'mine'"), [{ name: "Again" }])
      yield* asServer(world, a)
    }))

  it.scoped("a broken header is repaired on the way [client-state.md quirk 4]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* gated([["push create", lost]], "prepared")
      yield* a.run("UPDATE _sync_outbox_bundle SET canonical_request_hash = 'x'")
      yield* a.sync.rebuild
      assert.strictEqual(yield* outboxState(a), "none")
      assert.strictEqual((yield* dirty(a)).length, 2)
      yield* checkInvariants(a)
      yield* a.sync.sync
      yield* asServer(world, a)
    }))
})

describe("replay-pruned: the own bundle can no longer be read [recovery.md §4]", () => {
  const pruned = refused(409, "history_pruned")
  const edited = "UPDATE users SET name = 'Edited' WHERE id = 'u2'"

  const upload = (world: World, a: Device, faults: ReadonlyArray<readonly [Route, Fault]>) =>
    Effect.gen(function*() {
      yield* a.run("UPDATE users SET name = 'Mine' WHERE id = 'u1'")
      yield* a.run(insert("mine"))
      for (const [route, fault] of faults) yield* world.network.fault(route, fault)
    })

  it.scoped("committed_remote: the snapshot shows the rows; the push reports committed, edits stay pending", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* upload(world, a, [["push commit", after(a.run(edited))], ["committed rows", pruned]])
      yield* a.sync.pauseDownloads
      const report = yield* a.sync.pushPending
      assert.strictEqual(report.outcome, "committed")
      assert.deepStrictEqual(yield* dirty(a), ["UPDATE users u2 base 1"])
      assert.strictEqual(yield* outboxState(a), "none")
      assert.strictEqual(yield* nextNumber(a), 2)
      assert.strictEqual(report.status.lastBundleSeqSeen, 2)
      yield* checkInvariants(a)
      yield* a.sync.resumeDownloads
      yield* a.sync.sync
      yield* asServer(world, a)
    }))

  it.scoped("committed_remote, and create already says so", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* upload(world, a, [["committed rows", lost]])
      yield* Effect.flip(a.sync.pushPending)
      yield* world.network.fault("push create", pruned)
      yield* world.network.asked
      assert.strictEqual((yield* a.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "snapshot create", "snapshot chunk"])
      assert.strictEqual(yield* nextNumber(a), 2)
      yield* asServer(world, a)
    }))

  it.scoped("prepared: nobody can say whose bundle it was; the rows are pending, equal ones are dropped", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* upload(world, a, [["push commit", answerLost], ["committed rows", pruned]])
      yield* Effect.flip(a.sync.pushPending)
      assert.strictEqual(yield* outboxState(a), "prepared")
      yield* world.write([user("mine", "Theirs")])
      const report = yield* a.sync.pushPending
      assert.strictEqual(report.outcome, "committed")
      // u1 is on the server as it is here; the other row has been overwritten there, the resolver decides.
      assert.deepStrictEqual(yield* dirty(a), ["UPDATE users mine base 0"])
      assert.strictEqual(yield* nextNumber(a), 2)
      yield* checkInvariants(a)
      yield* a.sync.sync
      assert.deepStrictEqual(yield* a.run("SELECT name FROM users WHERE id = 'mine'"), [{ name: "Theirs" }])
      yield* asServer(world, a)
    }))

  for (const state of ["committed_remote", "prepared"]) {
    it.scoped(`interrupted, ${state}: the gate is closed, rebuild does exactly the rest`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready()
        yield* upload(world, a, [
          ...(state === "prepared" ? [["push commit", answerLost] as const] : []),
          ["committed rows", pruned],
          ["snapshot create", before(a.run(edited))],
          ["snapshot chunk", lost]
        ])
        if (state === "prepared") yield* Effect.flip(a.sync.pushPending)
        yield* failsWith(a.sync.pushPending, { _tag: "TransportError", request: "snapshot_chunk_fetch" })
        assert.strictEqual(yield* gate(a), "closed")
        assert.strictEqual(yield* outboxState(a), state === "prepared" ? "none" : "committed_remote")
        yield* checkInvariants(a)
        const again = yield* world.restarted(a, { ddl: [], retryPolicy: { enabled: false } })
        yield* failsWith(again.sync.pushPending, { _tag: "RebuildRequired" })
        assert.strictEqual((yield* again.sync.rebuild).outcome, "applied_snapshot")
        assert.deepStrictEqual(yield* dirty(again), ["UPDATE users u2 base 1"])
        assert.strictEqual(yield* nextNumber(again), 2)
        yield* checkInvariants(again)
        yield* again.sync.sync
        yield* asServer(world, again)
      }))
  }

  it.scoped("a replay that a constraint refuses takes the same way [push.md §12]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* world.write([{ table: "users", key: "u3", payload: { name: "Cy", email: "taken@x", score: 1 } }])
      yield* a.sync.pullToStable
      yield* a.run("INSERT INTO users VALUES ('mine', 'Mine', 'mine@x', 1)")
      // The bundle claims that the server has given the row a value which another row has here.
      const row = {
        schema: "business",
        table: "users",
        key: { id: "mine" },
        op: "INSERT",
        row_version: 3,
        payload: { id: "mine", name: "Mine", email: "taken@x", score: 1 }
      } as const
      const hash = BundleHash.bundleHash([row])
      yield* world.network.fault("push commit", changed((answer) => ({ ...answer, bundle_hash: hash })))
      yield* world.network.fault("committed rows", changed((answer) => ({ ...answer, bundle_hash: hash, rows: [row] })))
      yield* world.network.asked
      assert.strictEqual((yield* a.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual((yield* world.network.asked).slice(-3), [
        "committed rows",
        "snapshot create",
        "snapshot chunk"
      ])
      assert.strictEqual(yield* nextNumber(a), 2)
      assert.deepStrictEqual(yield* dirty(a), [])
      yield* asServer(world, a)
    }))
})
