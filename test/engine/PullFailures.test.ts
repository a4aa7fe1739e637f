import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as BundleHash from "../../src/protocol/BundleHash.js"
import { ddl } from "./support/Devices.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, answered, changed, lost, refused } from "./support/Network.js"
import type { Fault } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { whileTimePasses } from "./support/Time.js"
import { contents, makeWorld } from "./support/World.js"
import type { World, WorldOptions } from "./support/World.js"

const user = (id: string, name: string) => ({ table: "users", key: id, payload: { name, email: null, score: 1 } })

type Json = Record<string, unknown>

const row = (change: Json = {}): Json => ({
  schema: "business",
  table: "users",
  key: { id: "u1" },
  op: "INSERT",
  row_version: 1,
  payload: { id: "u1", name: "Ann", email: null, score: 1 },
  ...change
})

const bundle = (change: Json = {}): Json => ({
  bundle_seq: 1,
  source_id: "s",
  source_bundle_id: 1,
  rows: [row()],
  ...change
})

const page = (bundles: ReadonlyArray<Json>, change: Json = {}): Json => ({
  stable_bundle_seq: bundles.length,
  bundles,
  has_more: false,
  ...change
})

describe("the rules of an answer: nothing of it is applied [pull.md §3]", () => {
  // The first bundle is sound in every case where there are two: not even that is applied.
  const second = (change: Json) => page([bundle(), bundle({ bundle_seq: 2, source_bundle_id: 2, ...change })])
  const withRow = (change: Json) => second({ rows: [row({ key: { id: "u2" }, row_version: 2, ...change })] })
  const payload = { id: "u2", name: "Bob", email: null, score: 1 }
  const table: ReadonlyArray<readonly [says: string, answer: unknown, rule: string]> = [
    ["a body that is no JSON", "<html>", "invalid_json"],
    ["a negative ceiling", page([], { stable_bundle_seq: -1 }), "field_invalid"],
    ["a ceiling that is no number", page([], { stable_bundle_seq: "1" }), "field_invalid"],
    ["bundles without a ceiling", page([bundle()], { stable_bundle_seq: 0 }), "sequence_invalid"],
    ["a sequence of 0", second({ bundle_seq: 0 }), "field_invalid"],
    ["a missing sequence", second({ bundle_seq: undefined }), "field_invalid"],
    ["a blank source", second({ source_id: " " }), "field_invalid"],
    ["a source number of 0", second({ source_bundle_id: 0 }), "field_invalid"],
    ["a sequence twice", second({ bundle_seq: 1 }), "sequence_invalid"],
    ["a sequence beyond the ceiling", second({ bundle_seq: 3 }), "sequence_invalid"],
    ["a blank schema", withRow({ schema: "", payload }), "row_invalid"],
    ["a blank table", withRow({ table: " ", payload }), "row_invalid"],
    ["an empty key", withRow({ key: {}, payload }), "row_invalid"],
    ["no version", withRow({ row_version: 0, payload }), "row_invalid"],
    ["an unknown operation", withRow({ op: "UPSERT", payload }), "row_invalid"],
    ["an insert without payload", withRow({ payload: undefined }), "row_invalid"],
    ["an update with a null payload", withRow({ op: "UPDATE", payload: null }), "row_invalid"],
    [
      "a key twice in one bundle",
      second({
        rows: [row({ key: { id: "u2" }, row_version: 2, payload }), row({ key: { id: "u2" }, row_version: 2, payload })]
      }),
      "row_invalid"
    ],
    ["a hidden column", withRow({ payload: { ...payload, _sync_scope_id: "ann" } }), "hidden_column"],
    [
      "another number of rows",
      second({ row_count: 2, rows: [row({ key: { id: "u2" }, row_version: 2, payload })] }),
      "count_mismatch"
    ],
    [
      "another hash",
      second({ bundle_hash: "0".repeat(64), rows: [row({ key: { id: "u2" }, row_version: 2, payload })] }),
      "hash_mismatch"
    ]
  ]
  for (const [says, answer, rule] of table) {
    it.scoped(`${says}: ${rule}`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const a = yield* world.attached()
        yield* world.network.fault("pull", answered(200, answer))
        yield* failsWith(a.sync.pullToStable, {
          _tag: "ProtocolError",
          rule,
          request: "pull_request",
          operation: "pullToStable",
          retryable: false,
          action: "report"
        })
        assert.deepStrictEqual((yield* contents(a))["users"], [])
        assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 0)
        yield* checkInvariants(a)
      }))
  }

  it.scoped("count and hash that agree are accepted", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      const hash = BundleHash.bundleHash([{
        schema: "business",
        table: "users",
        key: { id: "u1" },
        op: "INSERT",
        row_version: 1,
        payload: { id: "u1", name: "Ann", email: null, score: 1 }
      }])
      yield* world.network.fault("pull", answered(200, page([bundle({ row_count: 1, bundle_hash: hash })])))
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
    }))
})

const recovery = { _tag: "SourceRecoveryRequired", reason: "source_sequence_out_of_order" }

const pulledOnce = (options: WorldOptions = {}) =>
  Effect.gen(function*() {
    const world = yield* makeWorld(options)
    const a = yield* world.attached()
    yield* world.write([user("u1", "Ann")])
    yield* world.write([user("u2", "Bob")])
    yield* a.sync.pullToStable
    yield* world.network.asked
    return { world, a }
  })

const stale: Fault = answered(200, { stable_bundle_seq: 1, bundles: [], has_more: false })

describe("a ceiling below the checkpoint [pull.md §3]", () => {
  it.scoped("a replica that lags is asked again", () =>
    Effect.gen(function*() {
      const { a, world } = yield* pulledOnce()
      yield* world.network.fault("pull", stale, 2)
      assert.strictEqual((yield* whileTimePasses(a.sync.pullToStable)).outcome, "already_at_target")
      assert.deepStrictEqual(yield* world.network.asked, ["pull", "pull", "pull"])
      yield* checkInvariants(a)
    }))

  it.scoped("if it stays so when the attempts are used up, the server has gone back", () =>
    Effect.gen(function*() {
      const { a, world } = yield* pulledOnce()
      yield* world.network.fault("pull", stale, 3)
      yield* whileTimePasses(failsWith(a.sync.pullToStable, recovery))
      assert.deepStrictEqual(yield* world.network.asked, ["pull", "pull", "pull"])
      yield* checkInvariants(a)
    }))

  it.scoped("without retries the first one counts", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ retryPolicy: { enabled: false } })
      yield* world.write([user("u1", "Ann")])
      yield* world.write([user("u2", "Ann")])
      yield* a.sync.pullToStable
      yield* world.network.fault("pull", stale)
      yield* failsWith(a.sync.pullToStable, recovery)
    }))
})

describe("missing history is rebuilt from a snapshot in the same call [pull.md §2 step 3, §3]", () => {
  const expectSnapshot = (world: World, a: Device, seq: number) =>
    Effect.gen(function*() {
      yield* world.network.asked
      const report = yield* a.sync.pullToStable
      assert.strictEqual(report.outcome, "applied_snapshot")
      assert.strictEqual(report.restore?.bundleSeq, seq)
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 0, discarded: 0, recovered: 0 })
      assert.strictEqual(report.status.lastBundleSeqSeen, seq)
      // Once rebuilt it does not pull again in the same call (quirk 9); the bundle at a checkpoint is asked for.
      assert.deepStrictEqual((yield* world.network.asked).filter((route) => route !== "committed rows"), [
        "pull",
        "snapshot create",
        "snapshot chunk"
      ])
      yield* checkInvariants(a)
    })

  it.scoped("409 history_pruned", () =>
    Effect.gen(function*() {
      const { a, world } = yield* pulledOnce()
      yield* world.write([user("u3", "Cy")])
      yield* Effect.flatMap(world.server, (server) => server.setRetainedFloor("ann", 2)).pipe(Effect.orDie)
      yield* expectSnapshot(world, a, 3)
      assert.strictEqual((yield* a.run("SELECT id FROM users")).length, 3)
    }))

  it.scoped("checkpoint 0 against a pruned scope: the first bundle is not the next one", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      for (const id of ["u1", "u2", "u3"]) yield* world.write([user(id, "Ann")])
      yield* world.network.fault(
        "pull",
        changed((answer) => ({
          ...answer,
          bundles: Array.isArray(answer["bundles"]) ? answer["bundles"].slice(1) : []
        }))
      )
      yield* expectSnapshot(world, a, 3)
    }))

  it.scoped("a gap between two bundles: what precedes it is applied first", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      for (const id of ["u1", "u2", "u3"]) yield* world.write([user(id, "Ann")])
      yield* world.network.fault(
        "pull",
        changed((answer) => ({
          ...answer,
          bundles: Array.isArray(answer["bundles"]) ? [answer["bundles"][0], answer["bundles"][2]] : []
        }))
      )
      yield* world.network.fault("snapshot create", refused(503, "service_unavailable"), 3)
      yield* whileTimePasses(
        failsWith(a.sync.pullToStable, { _tag: "RetryExhausted", request: "snapshot_session_create" })
      )
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 1)
      // History is missing: the gate stays closed (§5.2).
      yield* failsWith(a.sync.pullToStable, { _tag: "RebuildRequired" })
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.rebuild).outcome, "applied_snapshot")
      yield* checkInvariants(a)
    }))

  it.scoped("a pause that was asked for meanwhile stops before the snapshot, without closing the gate [§5.1]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* pulledOnce()
      yield* world.network.fault(
        "pull",
        (_, ask) =>
          Effect.zipRight(
            Effect.zipRight(a.sync.pauseDownloads, Effect.ignore(ask)),
            Effect.succeed({
              status: 409,
              text: JSON.stringify({ error: "history_pruned", message: "" })
            })
          )
      )
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "skipped_paused")
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
      yield* a.sync.resumeDownloads
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "already_at_target")
    }))
})

describe("the history check of a server without history id [pull.md §2 step 5, DESIGN D18]", () => {
  const world = () => pulledOnce({ withoutHistoryId: true })
  const next = (w: World) => w.write([user("next", "Nia")])

  it.scoped("asks for the bundle at the checkpoint, once a session, and only if there is something to pull", () =>
    Effect.gen(function*() {
      const { a, world: w } = yield* world()
      yield* a.sync.pullToStable
      assert.deepStrictEqual(yield* w.network.asked, ["pull"])
      yield* next(w)
      yield* a.sync.pullToStable
      assert.deepStrictEqual(yield* w.network.asked, ["pull", "committed rows"])
      const check = w.network.requests.at(-1)
      assert.strictEqual(check?.url.pathname, "/sync/committed-bundles/2/rows")
      assert.strictEqual(check?.url.search, "?max_rows=1")
      yield* w.write([user("again", "Nia")])
      yield* a.sync.pullToStable
      assert.deepStrictEqual(yield* w.network.asked, ["pull"])
    }))

  it.scoped("is made again after a transport failure, and after a new attach", () =>
    Effect.gen(function*() {
      const { a, world: w } = yield* world()
      yield* next(w)
      yield* a.sync.pullToStable
      yield* w.network.fault("pull", lost, 3)
      yield* whileTimePasses(failsWith(a.sync.pullToStable, { _tag: "RetryExhausted" }))
      yield* w.write([user("u3", "Cy")])
      yield* w.network.asked
      yield* a.sync.pullToStable
      assert.deepStrictEqual(yield* w.network.asked, ["pull", "committed rows"])
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* w.write([user("u4", "Di")])
      yield* a.sync.pullToStable
      assert.deepStrictEqual(yield* w.network.asked, ["pull", "committed rows"])
    }))

  const answers: ReadonlyArray<readonly [says: string, fault: Fault, goesOn: boolean]> = [
    ["another hash: gone back", changed((body) => ({ ...body, bundle_hash: "f".repeat(64) })), false],
    ["404 committed_bundle_not_found: gone back", refused(404, "committed_bundle_not_found"), false],
    ["404 of something else: nothing known", refused(404, "no_such_route"), true],
    ["409 history_pruned: nothing known", refused(409, "history_pruned"), true]
  ]
  for (const [says, fault, goesOn] of answers) {
    it.scoped(says, () =>
      Effect.gen(function*() {
        const { a, world: w } = yield* world()
        yield* next(w)
        yield* w.network.fault("committed rows", fault)
        if (goesOn) {
          assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
          assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 3)
        } else {
          yield* failsWith(a.sync.pullToStable, recovery)
          assert.strictEqual((yield* a.run("SELECT * FROM users WHERE id = 'next'")).length, 0)
        }
        yield* checkInvariants(a)
      }))
  }

  it.scoped("another failure is one of any request, and changes nothing", () =>
    Effect.gen(function*() {
      const { a, world: w } = yield* world()
      yield* next(w)
      yield* w.network.fault("committed rows", refused(500, "committed_bundle_rows_failed"))
      yield* failsWith(a.sync.pullToStable, { _tag: "TransportError", request: "history_check", status: 500 })
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 2)
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
    }))

  it.scoped("has nothing to compare after a snapshot", () =>
    Effect.gen(function*() {
      const { a, world: w } = yield* world()
      yield* a.sync.rebuild
      yield* next(w)
      yield* w.network.asked
      yield* a.sync.pullToStable
      assert.deepStrictEqual(yield* w.network.asked, ["pull"])
    }))
})

describe("the history id of our own server [wire.md §12]", () => {
  it.scoped("makes the check unnecessary while it stays the same", () =>
    Effect.gen(function*() {
      const { a, world } = yield* pulledOnce()
      yield* world.write([user("u3", "Cy")])
      yield* a.sync.pullToStable
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
    }))

  it.scoped("another one is evidence, even if nothing else has changed", () =>
    Effect.gen(function*() {
      const { a, world } = yield* pulledOnce()
      yield* Effect.flatMap(world.server, (server) => server.renewHistory).pipe(Effect.orDie)
      yield* failsWith(a.sync.pullToStable, recovery)
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.rebuild).outcome, "applied_snapshot")
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "already_at_target")
      yield* checkInvariants(a)
    }))

  it.scoped("one that comes up later does not hide a history that has changed before", () =>
    Effect.gen(function*() {
      const { a, world } = yield* pulledOnce({ withoutHistoryId: true })
      const plain = yield* makeWorld()
      yield* plain.write([user("x1", "Other")])
      yield* plain.write([user("x2", "Other")])
      yield* plain.write([user("x3", "Other")])
      // Another server, with an id of its own, has taken the place of the first.
      yield* world.network.fault("pull", (exchange) =>
        Effect.gen(function*() {
          const response = yield* plain.network.client.get(exchange.url, {
            headers: { authorization: "Bearer ann", "oversync-source-id": exchange.source }
          })
          return { status: response.status, text: yield* response.text }
        }))
      yield* world.network.fault("committed rows", (exchange) =>
        Effect.gen(function*() {
          const response = yield* plain.network.client.get(exchange.url, {
            headers: { authorization: "Bearer ann", "oversync-source-id": exchange.source }
          })
          return { status: response.status, text: yield* response.text }
        }))
      yield* failsWith(a.sync.pullToStable, recovery)
      assert.strictEqual((yield* a.run("SELECT * FROM users WHERE name = 'Other'")).length, 0)
    }))

  it.scoped("a client that has only pushed so far knows it from its attach", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      const backup = yield* world.backup
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      yield* a.sync.pushPending
      yield* world.restore(backup, { renewHistory: true })
      yield* world.write([user("x", "Other")])
      yield* failsWith(a.sync.pullToStable, recovery)
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* a.run("SELECT id FROM users ORDER BY id"), [{ id: "u1" }, { id: "x" }])
      yield* checkInvariants(a, { historyWentBack: true })
    }))
})

describe("host writes during a pull [pull.md §4.1 steps 4 and 7, quirk 1]", () => {
  it.scoped("a row that was edited meanwhile is not overwritten: DirtyStateRejected, groups before stay", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ applyRows: 1 })
      yield* world.write([user("u1", "Ann")])
      yield* world.write([user("u2", "Bob")])
      yield* a.sync.pullToStable
      yield* world.write([user("u1", "Anna")])
      yield* world.write([user("u2", "Bobby")])
      yield* world.network.fault("pull", after(a.run("UPDATE users SET name = 'Mine' WHERE id = 'u2'")))
      yield* failsWith(a.sync.pullToStable, { _tag: "DirtyStateRejected", dirtyCount: 1 })
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 3)
      assert.deepStrictEqual(yield* a.run("SELECT name FROM users ORDER BY id"), [{ name: "Anna" }, { name: "Mine" }])
      yield* checkInvariants(a)
    }))

  it.scoped("an edit of another row does not stop the pull", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      yield* world.write([user("u1", "Ann")])
      yield* world.network.fault("pull", after(a.run("INSERT INTO users VALUES ('mine', 'Mine', NULL, 1)")))
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
      assert.strictEqual((yield* a.sync.pendingSyncStatus).pendingRowCount, 1)
      yield* checkInvariants(a)
    }))

  it.scoped("an edited child that a pulled delete would sweep away: DirtyStateRejected", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      yield* world.write([user("u1", "Ann")])
      yield* a.sync.pullToStable
      yield* world.write([{ table: "users", key: "u1", payload: null }])
      yield* world.network.fault("pull", after(a.run("INSERT INTO posts VALUES ('p1', 'Mine', 'u1')")))
      yield* failsWith(a.sync.pullToStable, { _tag: "DirtyStateRejected", dirtyCount: 1 })
      assert.deepStrictEqual(yield* a.run("SELECT id FROM posts"), [{ id: "p1" }])
      assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 1)
      yield* checkInvariants(a)
    }))

  it.scoped("an edited child whose reference a pulled delete sets to null goes up as it is shown now", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({
        ddl: ddl.map((statement) => statement.replace("ON DELETE CASCADE", "ON DELETE SET NULL"))
      })
      yield* world.write([user("u1", "Ann")])
      yield* a.sync.pullToStable
      yield* world.write([{ table: "users", key: "u1", payload: null }])
      yield* world.network.fault("pull", after(a.run("INSERT INTO posts VALUES ('p1', 'Mine', 'u1')")))
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
      yield* checkInvariants(a)
      yield* a.sync.pushPending
      assert.deepStrictEqual((yield* world.serverRows).get("posts p1"), { id: "p1", title: "Mine", author_id: null })
    }))

  it.scoped("an edit of a row whose pulled version is known already is no obstacle", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached()
      yield* world.write([user("u1", "Ann")])
      yield* a.sync.pullToStable
      yield* a.run("UPDATE _sync_attachment_state SET last_bundle_seq_seen = 0")
      yield* world.network.fault("pull", after(a.run("UPDATE users SET name = 'Mine'")))
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
      assert.deepStrictEqual(yield* a.run("SELECT name FROM users"), [{ name: "Mine" }])
      yield* checkInvariants(a)
    }))
})
