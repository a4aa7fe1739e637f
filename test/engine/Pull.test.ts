import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { answered, before, changed, refused } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { contents, makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const user = (id: string, name: string) => ({ table: "users", key: id, payload: { name, email: null, score: 1 } })

/** Everything that a gate of pull looks at, each by itself. */
const obstacles = {
  recovery: (device: Device) =>
    device.run(
      `UPDATE _sync_operation_state SET kind = 'source_recovery', reason = 'source_retired', replacement_source_id = 'r'`
    ),
  replace: (device: Device) =>
    device.run("UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ann'"),
  gate: (device: Device) => device.run("UPDATE _sync_attachment_state SET rebuild_required = 1"),
  outbox: (device: Device) =>
    device.run(
      `INSERT INTO _sync_outbox_rows (source_bundle_id, row_ordinal, schema_name, table_name, key_json, wire_key_json, op,
                                      base_row_version, local_payload, wire_payload)
       VALUES (1, 0, 'business', 'users', '{"id":"x"}', '{"id":"x"}', 'DELETE', 1, NULL, NULL)`
    ),
  dirty: (device: Device) => device.run("INSERT INTO users VALUES ('dirty', NULL, NULL, NULL)"),
  paused: (device: Device) => device.sync.pauseDownloads
}

describe("the gates of pull [pull.md §1]", () => {
  // A later obstacle must not hide an earlier one: each state has all that come after it, too.
  const table: ReadonlyArray<readonly [number, ReadonlyArray<keyof typeof obstacles>, Record<string, unknown>]> = [
    [2, ["recovery", "gate", "outbox", "dirty", "paused"], {
      _tag: "SourceRecoveryRequired",
      reason: "source_retired"
    }],
    [3, ["replace", "gate", "outbox", "dirty", "paused"], { _tag: "DestructiveTransitionInProgress" }],
    [4, ["gate", "outbox", "dirty", "paused"], { _tag: "RebuildRequired" }],
    [5, ["outbox", "dirty", "paused"], { _tag: "PendingPushReplay", outboundCount: 1 }],
    [6, ["dirty", "paused"], { _tag: "DirtyStateRejected", dirtyCount: 1, pushOutcome: undefined }]
  ]
  for (const [gate, names, expected] of table) {
    it.scoped(`gate ${gate}: ${names.join(" + ")}`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const a = yield* world.attached()
        // Written first, while nothing guards the tables.
        for (const name of [...names].reverse()) yield* obstacles[name](a)
        yield* world.network.asked
        yield* failsWith(a.sync.pullToStable, { ...expected, operation: "pullToStable" })
        assert.deepStrictEqual(yield* world.network.asked, [])
      }))
  }

  it.scoped("gate 1: not opened, not attached, not connected", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device()
      yield* failsWith(a.sync.pullToStable, { _tag: "OpenRequired" })
      yield* a.sync.open
      yield* failsWith(a.sync.pullToStable, { _tag: "AttachRequired", reason: "anonymous" })
      yield* a.sync.attach("ann")
      yield* a.sync.open
      yield* failsWith(a.sync.pullToStable, { _tag: "AttachRequired", reason: "not_connected" })
      yield* a.sync.attach("ann")
      yield* a.run("UPDATE _sync_attachment_state SET attached_user_id = 'bob'")
      yield* failsWith(a.sync.pullToStable, { _tag: "AttachRequired", reason: "binding_changed" })
    }))

  it.scoped("gate 7: a pause is a result, and makes no request", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      yield* world.write([user("u1", "Ann")])
      yield* a.sync.pauseDownloads
      yield* world.network.asked
      const report = yield* a.sync.pullToStable
      assert.deepStrictEqual(report, {
        outcome: "skipped_paused",
        status: {
          authority: "authoritative_empty",
          pending: { pendingRowCount: 0, hasPendingSyncData: false, blocksDetach: false },
          lastBundleSeqSeen: 0
        },
        ignoredRowCount: 0
      })
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* a.sync.resumeDownloads
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
    }))
})

const pulls = (world: World) =>
  world.network.requests.filter(({ route }) => route === "pull").map(({ url }) => Object.fromEntries(url.searchParams))

describe("the loop of pull [pull.md §2]", () => {
  it.scoped("asks for pages up to the ceiling of the first answer, whatever is written meanwhile", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ downloadLimit: 2 })
      for (const id of [1, 2, 3, 4, 5]) yield* world.write([user(`u${id}`, "Ann")])
      yield* world.network.fault("pull", (_, ask) => ask)
      yield* world.network.fault("pull", before(world.write([user("late", "Bob")])))
      const report = yield* a.sync.pullToStable
      assert.strictEqual(report.outcome, "applied_incremental")
      assert.strictEqual(report.status.lastBundleSeqSeen, 5)
      assert.isUndefined(report.restore)
      assert.isUndefined(report.localRows)
      assert.deepStrictEqual(pulls(world), [
        { after_bundle_seq: "0", max_bundles: "2" },
        { after_bundle_seq: "2", max_bundles: "2", target_bundle_seq: "5" },
        { after_bundle_seq: "4", max_bundles: "2", target_bundle_seq: "5" }
      ])
      assert.deepStrictEqual(yield* a.run("SELECT id FROM users WHERE id = 'late'"), [])
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.pullToStable).status.lastBundleSeqSeen, 6)
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "already_at_target")
    }))

  it.scoped("an empty scope is at its target, and never names a target", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "already_at_target")
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "already_at_target")
      assert.deepStrictEqual(pulls(world), [
        { after_bundle_seq: "0", max_bundles: "1000" },
        { after_bundle_seq: "0", max_bundles: "1000" }
      ])
    }))

  const limits: ReadonlyArray<readonly [given: number, sent: string]> = [[0, "1000"], [-3, "1000"], [7, "7"], [
    9999,
    "5000"
  ]]
  for (const [given, sent] of limits) {
    it.scoped(`a download limit of ${given} asks for ${sent} bundles [client-state.md §3.1]`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const a = yield* world.attached({ downloadLimit: given })
        yield* a.sync.pullToStable
        assert.strictEqual(pulls(world)[0]?.["max_bundles"], sent)
      }))
  }

  it.scoped("another ceiling on a later page is a protocol error; what was applied stays [§2 step 4]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ downloadLimit: 1 })
      yield* world.write([user("u1", "Ann")])
      yield* world.write([user("u2", "Bob")])
      yield* world.network.fault("pull", (_, ask) => ask)
      yield* world.network.fault("pull", changed((page) => ({ ...page, stable_bundle_seq: 3 })))
      yield* failsWith(a.sync.pullToStable, { _tag: "ProtocolError", rule: "ceiling_changed", request: "pull_request" })
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 1)
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.pullToStable).status.lastBundleSeqSeen, 2)
    }))

  it.scoped("a server without more bundles below the ceiling: ended_early, the applied ones stay [§2 step 8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ downloadLimit: 1 })
      yield* world.write([user("u1", "Ann")])
      yield* world.write([user("u2", "Bob")])
      yield* world.network.fault("pull", changed((page) => ({ ...page, has_more: false })))
      yield* failsWith(a.sync.pullToStable, { _tag: "ProtocolError", rule: "ended_early" })
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 1)
      yield* checkInvariants(a)
    }))

  it.scoped("an empty page with more to come: no_progress [§2 step 8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      yield* world.write([user("u1", "Ann")])
      yield* world.network.fault("pull", changed((page) => ({ ...page, bundles: [], has_more: true })))
      yield* failsWith(a.sync.pullToStable, { _tag: "ProtocolError", rule: "no_progress" })
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 0)
    }))

  it.scoped("bundles without rows move the checkpoint [§3]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      yield* world.write([user("u1", "Ann")])
      const bundle = { bundle_seq: 1, source_id: "s", source_bundle_id: 1, rows: [] }
      yield* world.network.fault("pull", answered(200, { stable_bundle_seq: 1, bundles: [bundle], has_more: false }))
      const report = yield* a.sync.pullToStable
      assert.strictEqual(report.outcome, "applied_incremental")
      assert.strictEqual(report.status.lastBundleSeqSeen, 1)
      yield* checkInvariants(a)
    }))

  it.scoped("own bundles and repeated ones are skipped by version [§4.1 step 3]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      yield* world.write([user("u1", "Ann")])
      yield* a.run("INSERT INTO users VALUES ('own', 'Own', NULL, 2)")
      assert.strictEqual((yield* a.sync.pushPending).outcome, "committed")
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 0)
      yield* a.sync.pullToStable
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 2)
      yield* checkInvariants(a)
      // A checkpoint that went back is pulled again; versions skip what is known (recovery.md §10).
      const known = yield* contents(a)
      yield* a.run("UPDATE _sync_attachment_state SET last_bundle_seq_seen = 0")
      assert.strictEqual((yield* a.sync.pullToStable).status.lastBundleSeqSeen, 2)
      assert.deepStrictEqual(yield* contents(a), known)
    }))

  const statuses: ReadonlyArray<readonly [number, string, Record<string, unknown>]> = [
    [409, "something_else", { _tag: "TransportError", code: "status", status: 409, request: "pull_request" }],
    [403, "forbidden", { _tag: "TransportError", status: 403, action: "reauthenticate" }],
    [500, "pull_failed", { _tag: "TransportError", status: 500, retryable: true }],
    [400, "invalid_request", { _tag: "TransportError", status: 400, retryable: false }],
    [409, "scope_uninitialized", { _tag: "ScopeLost", reason: "scope_uninitialized" }],
    [409, "scope_initializing", { _tag: "ScopeLost", reason: "scope_initializing" }]
  ]
  for (const [status, code, expected] of statuses) {
    it.scoped(`${status} ${code} ends as ${String(expected["_tag"])} [§2 step 3]`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const a = yield* world.attached()
        yield* world.network.fault("pull", refused(status, code))
        yield* failsWith(a.sync.pullToStable, expected)
        yield* checkInvariants(a)
      }))
  }

  it.scoped("scope answers while an initialization is pending [§2 step 3]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device()
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      yield* a.sync.open
      yield* a.sync.attach("ann")
      // The only pending row is deleted again, so that no gate stands before the request.
      yield* a.run("DELETE FROM users")
      yield* a.run("DELETE FROM _sync_dirty_rows")
      yield* failsWith(a.sync.pullToStable, {
        _tag: "TransportError",
        code: "status",
        status: 409,
        serverCode: "scope_initializing",
        action: "push"
      })
      yield* world.network.fault("pull", refused(409, "scope_uninitialized"))
      yield* failsWith(a.sync.pullToStable, { _tag: "InitializationLeaseLost", action: "attach" })
      yield* checkInvariants(a)
      yield* failsWith(a.sync.pullToStable, { _tag: "AttachRequired", reason: "anonymous" })
    }))
})
