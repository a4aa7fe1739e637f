/** Snapshot sessions (wire.md §4.9–4.11, server.md §10). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { SyncServer } from "oversqlite/server"
import { device, effects, id, outcome, parsed, payloads, remove, update, user } from "./support/Device.js"
import type { Row } from "./support/Device.js"
import { ask, inProcess } from "./support/TestServer.js"

const a = device("source-a")
const b = device("source-b")

describe("snapshots", () => {
  it.effect("are frozen: later commits, pruning and retirement do not change them [server.md §10]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [user(1), user(2)])
      const session = yield* b.snapshot()
      assert.deepStrictEqual(Object.keys(session.body).sort(), [
        "byte_count",
        "expires_at",
        "history_id",
        "row_count",
        "snapshot_bundle_seq",
        "snapshot_id"
      ])
      assert.strictEqual(session.body["expires_at"], "1970-01-01T00:15:00Z")
      yield* a.push(2, [update("users", 1, 1, { name: "changed" }), remove("users", 2, 1), user(3)])
      yield* Effect.flatMap(SyncServer, (server) => server.setRetainedFloor("user-1", 1))
      yield* b.rotate("source-b2")
      const page = yield* b.snapshotChunk(session.body["snapshot_id"])
      assert.deepStrictEqual(effects(page), ["ROW users 1", "ROW users 2"])
      assert.strictEqual(payloads(page)[0]?.["name"], "User 1")
      assert.strictEqual(page.body["snapshot_bundle_seq"], 1)
    }).pipe(Effect.provide(inProcess())))

  it.effect("order tables by name and keys by their bytes [server.md §10]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const row = (table: string, key: string): Row => ({
        schema: "public",
        table,
        key: { k: key },
        op: "INSERT",
        payload: { k: key }
      })
      const keys = ["b", "a", "", "\u{1f600}", "\uff5e", "B", "aa", "\u00e9"]
      yield* a.push(1, [row("zoo", "z"), ...keys.map((key) => row("ant", key))])
      const page = yield* b.snapshotChunk((yield* b.snapshot()).body["snapshot_id"])
      assert.deepStrictEqual(
        payloads(page).map((payload) => payload["k"]),
        ["", "B", "a", "aa", "b", "\u00e9", "\uff5e", "\u{1f600}", "z"]
      )
    }).pipe(
      Effect.provide(inProcess({
        tables: [
          { table: "zoo", key: { column: "k", kind: "text" } },
          { table: "ant", key: { column: "k", kind: "text" } }
        ]
      }))
    ))

  it.effect("are paged by the number of rows read, in any order [wire.md §4.10]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [user(1), user(2), user(3)])
      const snapshotId = (yield* b.snapshot({})).body["snapshot_id"]
      const second = yield* b.snapshotChunk(snapshotId, "?after_row_ordinal=2&max_rows=2")
      assert.deepStrictEqual(effects(second), ["ROW users 3"])
      assert.strictEqual(second.body["next_row_ordinal"], 3)
      assert.strictEqual(second.body["has_more"], false)
      const first = yield* b.snapshotChunk(snapshotId, "?after_row_ordinal=0&max_rows=2")
      assert.strictEqual(first.body["next_row_ordinal"], 2)
      assert.strictEqual(first.body["has_more"], true)
      const empty = yield* b.snapshotChunk(snapshotId, "?after_row_ordinal=7")
      assert.deepStrictEqual([empty.body["rows"], empty.body["next_row_ordinal"]], [[], 7])
      for (const query of ["after_row_ordinal=-1", "after_row_ordinal=x", "max_rows=0", "max_rows=1.5"]) {
        assert.strictEqual(outcome(yield* b.snapshotChunk(snapshotId, `?${query}`)), "400 snapshot_chunk_invalid")
      }
    }).pipe(Effect.provide(inProcess())))

  it.effect("cap their pages silently [wire.md §4.10]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [user(1), user(2), user(3), user(4)])
      const snapshotId = (yield* b.snapshot()).body["snapshot_id"]
      assert.strictEqual(effects(yield* b.snapshotChunk(snapshotId, "?max_rows=9999")).length, 3)
      assert.strictEqual(effects(yield* b.snapshotChunk(snapshotId)).length, 2)
    }).pipe(Effect.provide(inProcess({ maxRowsPerSnapshotChunk: 3, defaultRowsPerSnapshotChunk: 2 }))))

  it.effect("live for their term, reading does not extend it [wire.md §4.10]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [user(1)])
      const snapshotId = (yield* b.snapshot()).body["snapshot_id"]
      yield* TestClock.adjust("14 minutes")
      assert.strictEqual(outcome(yield* b.snapshotChunk(snapshotId)), "200")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(outcome(yield* b.snapshotChunk(snapshotId)), "410 snapshot_session_expired")
      assert.strictEqual(outcome(yield* a.rotate("source-a", "because")), "400 snapshot_session_invalid")
      assert.strictEqual(outcome(yield* b.snapshotChunk(snapshotId)), "410 snapshot_session_expired")
      yield* a.snapshot()
      assert.strictEqual(outcome(yield* b.snapshotChunk(snapshotId)), "404 snapshot_session_not_found")
    }).pipe(Effect.provide(inProcess())))

  it.effect("are dropped once, expired or not [wire.md §4.11]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const snapshotId = (yield* b.snapshot()).body["snapshot_id"]
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(outcome(yield* b.dropSnapshot(snapshotId)), "204")
      assert.strictEqual(outcome(yield* b.dropSnapshot(snapshotId)), "404 snapshot_session_not_found")
      assert.strictEqual(outcome(yield* b.snapshotChunk(id(1))), "404 snapshot_session_not_found")
    }).pipe(Effect.provide(inProcess())))

  it.effect("beyond the limits of rows or bytes are not made [wire.md §4.9 #7]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [user(1)])
      assert.strictEqual(outcome(yield* b.snapshot()), "500 snapshot_session_create_failed")
    }).pipe(Effect.provide(inProcess({ maxBytesPerSnapshotSession: 20 }))))

  it.effect("of an empty scope have no rows and omit their size [wire.md §4.9]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const session = yield* b.snapshot()
      assert.deepInclude(session.body, { snapshot_bundle_seq: 0, row_count: 0 })
      assert.notProperty(session.body, "byte_count")
    }).pipe(Effect.provide(inProcess())))

  for (
    const [body, expected] of [
      ["", "200"],
      ["  ", "200"],
      ["null", "200"],
      ["{}", "200"],
      ["{\"source_replacement\":null}", "200"],
      ["{} {}", "200"],
      ["{\"surprise\":1}", "400 snapshot_session_invalid"],
      ["{\"source_replacement\":{\"surprise\":1}}", "400 snapshot_session_invalid"],
      ["{\"source_replacement\":5}", "400 snapshot_session_invalid"],
      ["[]", "400 snapshot_session_invalid"],
      ["{", "400 snapshot_session_invalid"]
    ] as const
  ) {
    it.effect(`the body ${JSON.stringify(body)} is answered ${expected} [wire.md §1.4, §4.9]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        const answer = yield* rawSnapshot(body)
        assert.strictEqual(outcome(answer), expected)
      }).pipe(Effect.provide(inProcess())))
  }
})

const rawSnapshot = (body: string) =>
  Effect.map(
    ask("/sync/snapshot-sessions", { method: "POST", body, source: "source-a" }),
    (answer) => ({ status: answer.status, body: parsed(answer) })
  )
