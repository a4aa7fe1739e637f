/** `sync`: push, then pull, and what comes between; pauses (pull.md §7, §8; recovery.md §6.3). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { checkInvariants } from "./support/Invariants.js"
import { after, lost, refused } from "./support/Network.js"
import type { Route } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { makeWorld } from "./support/World.js"

const options = { retryPolicy: { enabled: false } }

const user = (id: string, name: string) => ({ table: "users", key: id, payload: { name, email: null, score: 1 } })

const insert = (id: string) => `INSERT INTO users VALUES ('${id}', 'Ann', NULL, 1)`

const ready = Effect.gen(function*() {
  const world = yield* makeWorld()
  yield* world.write([user("u1", "Ann")])
  const a = yield* world.attached(options)
  yield* world.network.asked
  return { world, a }
})

const pushed: ReadonlyArray<Route> = ["push create", "push chunk", "push commit", "committed rows"]

describe("rounds [pull.md §7]", () => {
  const table: ReadonlyArray<readonly [says: string, local: boolean, remote: boolean, push: string, pull: string]> = [
    ["nothing to do", false, false, "no_change", "already_at_target"],
    ["only a push", true, false, "committed", "already_at_target"],
    ["only a pull", false, true, "no_change", "applied_incremental"],
    ["both", true, true, "committed", "applied_incremental"]
  ]
  for (const [says, local, remote, push, pull] of table) {
    it.scoped(says, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready
        if (local) yield* a.run(insert("mine"))
        if (remote) yield* world.write([user("theirs", "Bob")])
        const report = yield* a.sync.sync
        assert.strictEqual(report.pushOutcome, push)
        assert.strictEqual(report.remoteOutcome, pull)
        assert.isUndefined(report.restore)
        assert.deepStrictEqual(yield* world.network.asked, [...(local ? pushed : []), "pull"])
        yield* checkInvariants(a)
      }))
  }

  it.scoped("a host write between push and pull is pushed in another round", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      yield* world.network.fault("committed rows", after(a.run(insert("later"))))
      const report = yield* a.sync.sync
      assert.strictEqual(report.pushOutcome, "committed")
      assert.strictEqual(report.status.pending.pendingRowCount, 0)
      assert.deepStrictEqual(yield* world.network.asked, [...pushed, ...pushed, "pull"])
      yield* checkInvariants(a)
    }))

  it.scoped("a row in the way of a pulled group is pushed first", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* world.write([user("u1", "Theirs")])
      yield* world.network.fault("pull", after(a.run("UPDATE users SET name = 'Mine' WHERE id = 'u1'")))
      const report = yield* a.sync.sync
      assert.strictEqual(report.status.pending.pendingRowCount, 0)
      // The server wins, and knows it from a conflict: nothing was overwritten unseen.
      assert.deepStrictEqual(yield* a.run("SELECT name FROM users"), [{ name: "Theirs" }])
      yield* checkInvariants(a)
    }))

  it.scoped("a host that never rests ends it after three rounds, with the outcome of the push", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      let writes = 0
      yield* world.network.fault("committed rows", after(Effect.suspend(() => a.run(insert(`w${writes++}`)))), 9)
      yield* failsWith(a.sync.sync, {
        _tag: "DirtyStateRejected",
        dirtyCount: 1,
        pushOutcome: "committed",
        operation: "sync",
        action: "push"
      })
      assert.strictEqual(writes, 3)
      yield* checkInvariants(a)
      yield* world.network.heal
      assert.strictEqual((yield* a.sync.sync).status.pending.pendingRowCount, 0)
    }))

  it.scoped("an error of either half is the error; what was pushed stays pushed", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      yield* world.network.fault("pull", lost)
      yield* failsWith(a.sync.sync, { _tag: "TransportError", request: "pull_request", operation: "sync" })
      assert.strictEqual((yield* a.sync.pendingSyncStatus).pendingRowCount, 0)
      yield* a.run(insert("more"))
      yield* world.network.fault("push create", refused(500, "push_session_create_failed"))
      yield* world.network.asked
      yield* failsWith(a.sync.sync, { _tag: "TransportError", request: "push_session_create", operation: "sync" })
      assert.notInclude(yield* world.network.asked, "pull")
      yield* checkInvariants(a)
    }))

  it.scoped("a pull that became a snapshot is reported as one", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      yield* world.network.fault("pull", refused(409, "history_pruned"))
      const report = yield* a.sync.sync
      assert.strictEqual(report.remoteOutcome, "applied_snapshot")
      assert.deepStrictEqual(report.restore, { bundleSeq: 2, rowCount: 2 })
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 0, discarded: 0, recovered: 0 })
      yield* checkInvariants(a)
    }))
})

describe("pauses [pull.md §8, recovery.md §6.3]", () => {
  const table: ReadonlyArray<
    readonly [uploads: boolean, downloads: boolean, push: string, pull: string, requests: ReadonlyArray<string>]
  > = [
    [false, false, "committed", "applied_incremental", [...pushed, "pull"]],
    [true, true, "skipped_paused", "skipped_paused", []],
    [false, true, "committed", "skipped_paused", pushed]
  ]
  for (const [uploads, downloads, push, pull, requests] of table) {
    it.scoped(`uploads ${uploads ? "paused" : "running"}, downloads ${downloads ? "paused" : "running"}`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready
        yield* a.run(insert("mine"))
        yield* world.write([user("theirs", "Bob")])
        if (uploads) yield* a.sync.pauseUploads
        if (downloads) yield* a.sync.pauseDownloads
        const report = yield* a.sync.sync
        assert.deepStrictEqual([report.pushOutcome, report.remoteOutcome], [push, pull])
        assert.deepStrictEqual(yield* world.network.asked, requests)
        yield* a.sync.resumeUploads
        yield* a.sync.resumeDownloads
        assert.strictEqual((yield* a.sync.sync).status.lastBundleSeqSeen, 3)
        yield* checkInvariants(a)
      }))
  }

  it.scoped("uploads paused with dirty rows and downloads running: the pull refuses, once", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      yield* a.sync.pauseUploads
      yield* failsWith(a.sync.sync, { _tag: "DirtyStateRejected", dirtyCount: 1, operation: "sync" })
      assert.deepStrictEqual(yield* world.network.asked, [])
    }))

  it.scoped("gates speak before pauses", () =>
    Effect.gen(function*() {
      const { a } = yield* ready
      yield* a.sync.pauseUploads
      yield* a.sync.pauseDownloads
      yield* a.run("UPDATE _sync_attachment_state SET rebuild_required = 1")
      yield* failsWith(a.sync.sync, { _tag: "RebuildRequired" })
      yield* failsWith(a.sync.pushPending, { _tag: "RebuildRequired" })
      yield* failsWith(a.sync.pullToStable, { _tag: "RebuildRequired" })
    }))

  it.scoped("they do not interrupt what runs, nor hold up the snapshot of attach", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* world.write([user("theirs", "Bob")])
      yield* world.network.fault("pull", after(a.sync.pauseDownloads))
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
      const b = yield* world.device(options)
      yield* b.sync.pauseDownloads
      yield* b.sync.pauseUploads
      yield* b.sync.open
      const result = yield* b.sync.attach("ann")
      assert.strictEqual(result.status === "connected" && result.outcome, "used_remote_state")
      yield* checkInvariants(b)
    }))
})
