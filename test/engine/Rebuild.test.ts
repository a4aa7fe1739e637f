import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { dump, outboxState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { answered, answerLost, changed, lost, refused } from "./support/Network.js"
import type { Fault, Route } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { asServer, gate, insert, ready, user } from "./support/Rebuilds.js"
import { turn } from "./support/Time.js"
import { makeWorld } from "./support/World.js"

const ids = (device: Device) =>
  Effect.map(device.run("SELECT id FROM users ORDER BY id"), (rows) => rows.map((row) => row["id"]))

describe("the gates of rebuild [pull.md §5.1]", () => {
  it.scoped("1: not opened, not attached, not connected", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device()
      yield* failsWith(a.sync.rebuild, { _tag: "OpenRequired" })
      yield* a.sync.open
      yield* failsWith(a.sync.rebuild, { _tag: "AttachRequired", reason: "anonymous" })
      yield* a.sync.attach("ann")
      yield* a.sync.open
      yield* failsWith(a.sync.rebuild, { _tag: "AttachRequired", reason: "not_connected" })
    }))

  it.scoped("3: a remote replace", () =>
    Effect.gen(function*() {
      const { a } = yield* ready()
      yield* a.run("UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ann'")
      yield* a.sync.pauseDownloads
      yield* failsWith(a.sync.rebuild, { _tag: "DestructiveTransitionInProgress", action: "attach" })
    }))

  it.scoped("4: dirty rows are no gate", () =>
    Effect.gen(function*() {
      const { a } = yield* ready()
      yield* a.run(insert("mine"))
      assert.strictEqual((yield* a.sync.rebuild).localRows?.kept, 1)
      yield* checkInvariants(a)
    }))

  it.scoped("5: an outbox, prepared or committed, while the rebuild gate is open", () =>
    Effect.gen(function*() {
      const places: ReadonlyArray<readonly [Route, string]> = [
        ["push create", "prepared"],
        ["committed rows", "committed_remote"]
      ]
      for (const [route, state] of places) {
        const { a, world } = yield* ready()
        yield* a.run(insert("mine"))
        yield* world.network.fault(route, lost)
        yield* Effect.flip(a.sync.pushPending)
        assert.strictEqual(yield* outboxState(a), state)
        yield* a.sync.pauseDownloads
        yield* failsWith(a.sync.rebuild, { _tag: "PendingPushReplay", outboundCount: 1, action: "push" })
        yield* checkInvariants(a)
      }
    }))

  it.scoped("6: paused", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("mine"))
      yield* a.sync.pauseDownloads
      assert.strictEqual((yield* a.sync.rebuild).outcome, "skipped_paused")
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.strictEqual(yield* gate(a), "open")
    }))

  it.scoped("the rebuild gate itself is none", () =>
    Effect.gen(function*() {
      const { a } = yield* ready()
      yield* a.run("UPDATE _sync_attachment_state SET rebuild_required = 1")
      yield* failsWith(a.sync.sync, { _tag: "RebuildRequired", action: "rebuild" })
      assert.strictEqual((yield* a.sync.rebuild).outcome, "applied_snapshot")
      assert.strictEqual(yield* gate(a), "open")
    }))
})

describe("the steps of a keep-source rebuild [pull.md §5.2]", () => {
  it.scoped("chunks of the configured size, the report, and the session deleted in the background", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready({ snapshotChunkRows: 2 })
      yield* world.write([user("u3"), user("u4"), user("u5")])
      const report = yield* a.sync.rebuild
      assert.strictEqual(report.outcome, "applied_snapshot")
      assert.deepStrictEqual(report.restore, { bundleSeq: 2, rowCount: 5 })
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 0, discarded: 0, recovered: 0 })
      assert.strictEqual(report.status.lastBundleSeqSeen, 2)
      assert.deepStrictEqual(
        world.network.requests.filter(({ route }) => route === "snapshot chunk").slice(-3).map(({ url }) => url.search),
        ["?after_row_ordinal=0&max_rows=2", "?after_row_ordinal=2&max_rows=2", "?after_row_ordinal=4&max_rows=2"]
      )
      assert.strictEqual(world.network.requests.findLast(({ route }) => route === "snapshot create")?.body, "")
      for (let turns = 0; turns < 20; turns++) yield* turn
      assert.strictEqual(world.network.requests.filter(({ route }) => route === "snapshot delete").length, 2)
      const sql = yield* world.serverSql
      assert.deepStrictEqual(yield* sql.unsafe("SELECT * FROM server_snapshot"), [])
      assert.deepStrictEqual(yield* a.run("SELECT * FROM _sync_snapshot_stage"), [])
      yield* asServer(world, a)
    }))

  it.scoped("a server that does not answer the deletion delays nobody [quirk 7]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* world.network.fault("snapshot delete", () => Effect.never)
      const fiber = yield* Effect.fork(a.sync.rebuild)
      for (let turns = 0; turns < 20; turns++) yield* turn
      assert.isNotNull(fiber.unsafePoll())
      assert.strictEqual((yield* Fiber.join(fiber)).outcome, "applied_snapshot")
    }))

  const failing: ReadonlyArray<readonly [says: string, route: Route, fault: Fault, error: Record<string, unknown>]> = [
    ["no connection for the session", "snapshot create", lost, { _tag: "TransportError", code: "connection" }],
    ["the session's answer lost", "snapshot create", answerLost, { _tag: "TransportError" }],
    ["no snapshot to be had", "snapshot create", refused(500, "snapshot_session_create_failed"), {
      _tag: "TransportError",
      status: 500,
      request: "snapshot_session_create"
    }],
    ["an expired session", "snapshot chunk", refused(410, "snapshot_session_expired"), {
      _tag: "TransportError",
      status: 410,
      request: "snapshot_chunk_fetch"
    }],
    ["an unknown session", "snapshot chunk", refused(404, "snapshot_session_not_found"), { status: 404 }],
    ["a chunk lost", "snapshot chunk", lost, { _tag: "TransportError", request: "snapshot_chunk_fetch" }]
  ]
  for (const [says, route, fault, error] of failing) {
    it.scoped(`${says}: data and checkpoint stay; a voluntary rebuild opens the gate again, a forced one does not`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready()
        yield* world.write([user("u3")])
        yield* a.run(insert("mine"))
        const was = yield* dump(a)
        yield* world.network.fault(route, fault)
        yield* failsWith(a.sync.rebuild, error)
        assert.deepStrictEqual(yield* dump(a), was)
        yield* checkInvariants(a)
        yield* a.sync.sync
        assert.deepStrictEqual(yield* ids(a), ["mine", "u1", "u2", "u3"])

        yield* a.run("UPDATE _sync_attachment_state SET rebuild_required = 1")
        yield* world.network.fault(route, fault)
        yield* failsWith(a.sync.rebuild, error)
        assert.strictEqual(yield* gate(a), "closed")
        yield* failsWith(a.sync.sync, { _tag: "RebuildRequired" })
        yield* a.sync.rebuild
        yield* asServer(world, a)
      }))
  }

  it.scoped("an interrupted voluntary rebuild opens the gate, too", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* world.network.fault("snapshot chunk", () => Effect.never)
      const fiber = yield* Effect.fork(a.sync.rebuild)
      for (let turns = 0; turns < 20; turns++) yield* turn
      assert.strictEqual(yield* gate(a), "closed")
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* gate(a), "open")
      yield* checkInvariants(a)
    }))

  it.scoped("what a failed download has staged is never applied [client-state.md invariant 31]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready({ snapshotChunkRows: 1 })
      yield* world.network.fault("snapshot chunk", (_, ask) => ask)
      yield* world.network.fault("snapshot chunk", lost)
      yield* Effect.flip(a.sync.rebuild)
      assert.strictEqual((yield* a.run("SELECT * FROM _sync_snapshot_stage")).length, 1)
      yield* world.write([{ table: "users", key: "u1", payload: null }])
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* ids(a), ["u2"])
      yield* asServer(world, a)
    }))

  it.scoped("409 scope_uninitialized and scope_initializing: the scope is lost [§5.2, recovery.md §2.4]", () =>
    Effect.gen(function*() {
      for (const reason of ["scope_uninitialized", "scope_initializing"]) {
        const { a, world } = yield* ready()
        yield* world.network.fault("snapshot create", refused(409, reason))
        yield* failsWith(a.sync.rebuild, { _tag: "ScopeLost", reason, requeuedRowCount: 2 })
        yield* checkInvariants(a)
      }
    }))

  it.scoped("a chunk that is too large is asked for with half the rows, for the rest of the call [retry-and-loops.md §2.1]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready({ maxResponseBytes: 1500, snapshotChunkRows: 16 })
      yield* world.write(Array.from({ length: 14 }, (_, index) => user(`n${index}`, "x".repeat(100))))
      yield* a.sync.rebuild
      assert.deepStrictEqual(
        world.network.requests.filter(({ route }) => route === "snapshot chunk").slice(1).map(({ url }) =>
          Number(url.searchParams.get("max_rows"))
        ),
        [16, 8, 4, 4, 4, 4]
      )
      yield* asServer(world, a)
    }))
})

describe("pending work that a trigger of the host refuses to have back [errors.md §1.7 local_constraint]", () => {
  const quiet = "(SELECT apply_mode FROM _sync_apply_state) = 0"
  const rules: ReadonlyArray<readonly [what: string, pending: string, rule: string, key: string]> = [
    [
      "a row",
      "INSERT INTO users VALUES ('u7', 'Ok', NULL, 1), ('u8', 'Mine', NULL, 1), ('u9', 'Ok', NULL, 1)",
      `BEFORE INSERT ON users WHEN NEW.name = 'Mine' AND ${quiet}`,
      "u8"
    ],
    [
      "a change",
      "UPDATE users SET name = id",
      `BEFORE UPDATE ON users WHEN NEW.name = 'u2' AND ${quiet}`,
      "u2"
    ],
    ["a deletion", "DELETE FROM users", `BEFORE DELETE ON users WHEN OLD.id = 'u2' AND ${quiet}`, "u2"]
  ]
  for (const [what, pending, rule, key] of rules) {
    it.scoped(`${what}: the error names it, nothing changes, and without the rule the rebuild goes through`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready()
        yield* a.sync.pullToStable
        yield* a.run(pending)
        yield* a.run(`CREATE TRIGGER rule_of_the_host ${rule} BEGIN SELECT RAISE(ABORT, 'not here'); END`)
        const before = yield* dump(a, ["_sync_snapshot_stage"])
        yield* failsWith(a.sync.rebuild, {
          _tag: "LocalDataError",
          code: "local_constraint",
          row: { schema: "business", table: "users", key: `{"id":"${key}"}` },
          action: "fix_data"
        })
        assert.deepStrictEqual(yield* dump(a, ["_sync_snapshot_stage"]), before)
        assert.strictEqual(yield* gate(a), "open")
        yield* a.run("DROP TRIGGER rule_of_the_host")
        const pendingRows = (yield* a.sync.pendingSyncStatus).pendingRowCount
        assert.strictEqual((yield* a.sync.rebuild).localRows?.kept, pendingRows)
        yield* a.sync.sync
        yield* asServer(world, a)
      }))
  }
})

describe("the answers of a snapshot are checked [pull.md §5.3]", () => {
  const session = {
    snapshot_id: "s",
    snapshot_bundle_seq: 1,
    row_count: 1,
    byte_count: 5,
    expires_at: "2030-01-01T00:00:00Z"
  }
  const row = {
    schema: "business",
    table: "users",
    key: { id: "x" },
    row_version: 1,
    payload: { id: "x", name: "X", email: null, score: 1 }
  }
  const chunk = { snapshot_id: "s", snapshot_bundle_seq: 1, rows: [row], next_row_ordinal: 1, has_more: false }
  const table: ReadonlyArray<
    readonly [says: string, session: Record<string, unknown>, chunk: Record<string, unknown>, rule: string]
  > = [
    ["a blank snapshot id", { snapshot_id: " " }, {}, "field_invalid"],
    ["a negative sequence", { snapshot_bundle_seq: -1 }, {}, "field_invalid"],
    ["a negative count", { row_count: -1 }, {}, "field_invalid"],
    ["rows without a sequence", { snapshot_bundle_seq: 0 }, {}, "sequence_invalid"],
    ["a negative size", { byte_count: -1 }, {}, "field_invalid"],
    ["no expiry", { expires_at: "" }, {}, "field_invalid"],
    ["a chunk of another snapshot", {}, { snapshot_id: "t" }, "echo_mismatch"],
    ["a chunk of another sequence", {}, { snapshot_bundle_seq: 2 }, "echo_mismatch"],
    ["another ordinal", {}, { next_row_ordinal: 2 }, "ordinal_mismatch"],
    ["more to come, but no rows", {}, { rows: [], next_row_ordinal: 0, has_more: true }, "no_progress"],
    ["fewer rows than announced", { row_count: 2 }, {}, "count_mismatch"],
    ["more rows than announced", {}, { rows: [row, row], next_row_ordinal: 2 }, "count_mismatch"],
    ["a blank schema", {}, { rows: [{ ...row, schema: "" }] }, "row_invalid"],
    ["an empty key", {}, { rows: [{ ...row, key: {} }] }, "row_invalid"],
    ["no version", {}, { rows: [{ ...row, row_version: 0 }] }, "row_invalid"],
    ["no payload", {}, { rows: [{ ...row, payload: null }] }, "row_invalid"],
    ["a hidden column", {}, { rows: [{ ...row, payload: { ...row.payload, _sync_scope_id: 1 } }] }, "hidden_column"]
  ]
  for (const [says, ofSession, ofChunk, rule] of table) {
    it.scoped(`${says}: ${rule}`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready()
        const was = yield* dump(a)
        yield* world.network.fault("snapshot create", answered(200, { ...session, ...ofSession }))
        yield* world.network.fault("snapshot chunk", answered(200, { ...chunk, ...ofChunk }))
        yield* failsWith(a.sync.rebuild, { _tag: "ProtocolError", rule })
        assert.deepStrictEqual(yield* dump(a), was)
        yield* checkInvariants(a)
      }))
  }

  it.scoped("bodies that are no JSON", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      for (const route of ["snapshot create", "snapshot chunk"] as const) {
        yield* world.network.fault(route, answered(200, "<html>"))
        yield* failsWith(a.sync.rebuild, { _tag: "ProtocolError", rule: "invalid_json" })
      }
      yield* checkInvariants(a)
    }))

  it.scoped("byte_count may be absent", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* world.network.fault("snapshot create", changed(({ byte_count: _, ...rest }) => rest))
      assert.strictEqual((yield* a.sync.rebuild).outcome, "applied_snapshot")
    }))
})
