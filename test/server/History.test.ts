/** Pull, committed rows, retention (wire.md §3, §4.6, §4.7, server.md §8, §9). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { BundleHash, Wire } from "oversqlite/protocol"
import { SyncServer } from "oversqlite/server"
import { nextFloor } from "../../src/server/Commit.js"
import { ceiling } from "../../src/server/History.js"
import { device, effects, isMembers, outcome, user } from "./support/Device.js"
import type { Reply } from "./support/Device.js"
import { ask, inProcess } from "./support/TestServer.js"

const a = device("source-a")
const b = device("source-b")

const sequences = (reply: Reply): ReadonlyArray<unknown> => {
  const bundles = reply.body["bundles"]
  return Array.isArray(bundles) ? bundles.filter(isMembers).map((bundle) => bundle["bundle_seq"]) : []
}

const pushed = (count: number) =>
  Effect.gen(function*() {
    yield* a.connect(false)
    for (let number = 1; number <= count; number++) yield* a.push(number, [user(number)])
  })

describe("the bundle that an answer builds on is named by its hash in a header [recovery.md §2.2]", () => {
  const baseOf = (path: string, body?: string) =>
    Effect.map(ask(path, { body }), ({ headers }) => headers[Wire.BaseBundleHashHeader.toLowerCase()])

  it.effect("pull: the one at the checkpoint; committed rows: the one before; snapshot: the newest", () =>
    Effect.gen(function*() {
      yield* pushed(3)
      const hashes: Array<unknown> = []
      for (let seq = 1; seq <= 3; seq++) hashes.push((yield* a.rows(seq)).body["bundle_hash"])
      const [first, second, third] = hashes
      assert.isUndefined(yield* baseOf("/sync/pull?after_bundle_seq=0"))
      assert.strictEqual(yield* baseOf("/sync/pull?after_bundle_seq=1"), first)
      assert.strictEqual(yield* baseOf("/sync/pull?after_bundle_seq=3"), third)
      assert.isUndefined(yield* baseOf("/sync/pull?after_bundle_seq=4"))
      assert.isUndefined(yield* baseOf("/sync/committed-bundles/1/rows"))
      assert.strictEqual(yield* baseOf("/sync/committed-bundles/3/rows"), second)
      assert.strictEqual(yield* baseOf("/sync/snapshot-sessions", ""), third)
    }).pipe(Effect.provide(inProcess())))
})

describe("pull", () => {
  it.effect("reads windows up to a ceiling that stays [wire.md §4.7]", () =>
    Effect.gen(function*() {
      yield* pushed(4)
      const first = yield* b.pull(0, "&max_bundles=2")
      assert.deepStrictEqual(sequences(first), [1, 2])
      assert.strictEqual(first.body["stable_bundle_seq"], 4)
      assert.strictEqual(first.body["has_more"], true)
      yield* a.push(5, [user(5)])
      const second = yield* b.pull(2, "&max_bundles=2&target_bundle_seq=4")
      assert.deepStrictEqual(sequences(second), [3, 4])
      assert.strictEqual(second.body["stable_bundle_seq"], 4)
      assert.strictEqual(second.body["has_more"], false)
      assert.deepStrictEqual(sequences(yield* b.pull(4)), [5])
    }).pipe(Effect.provide(inProcess())))

  it.effect("echoes a target beyond the newest bundle, and a checkpoint beyond it gets nothing [wire.md §9]", () =>
    Effect.gen(function*() {
      yield* pushed(2)
      const beyond = yield* b.pull(0, "&target_bundle_seq=9223372036854775807")
      assert.strictEqual(beyond.body["stable_bundle_seq"], 9223372036854775807n)
      assert.deepStrictEqual(sequences(beyond), [1, 2])
      assert.strictEqual(beyond.body["has_more"], false)
      const ahead = yield* b.pull(7)
      assert.strictEqual(ahead.body["stable_bundle_seq"], 2)
      assert.deepStrictEqual(sequences(ahead), [])
    }).pipe(Effect.provide(inProcess())))

  for (
    const query of [
      "after_bundle_seq=-1",
      "after_bundle_seq=x",
      "after_bundle_seq=1.0",
      "after_bundle_seq=1e3",
      "after_bundle_seq=%201",
      "after_bundle_seq=9223372036854775808",
      "max_bundles=0",
      "max_bundles=-1",
      "max_bundles=5001",
      "max_bundles=1_0",
      "target_bundle_seq=-1",
      "target_bundle_seq=+1"
    ]
  ) {
    it.effect(`refuses ?${query} before it looks at the scope [wire.md §1.7, §4.7]`, () =>
      Effect.gen(function*() {
        assert.strictEqual(outcome(yield* b.request(`/sync/pull?${query}`)), "400 invalid_request")
      }).pipe(Effect.provide(inProcess())))
  }

  for (
    const query of [
      "",
      "?after_bundle_seq=",
      "?after_bundle_seq=0&after_bundle_seq=x",
      "?after_bundle_seq=%2B0",
      "?after_bundle_seq=000",
      "?after_bundle_seq=x;y",
      "?after_bundle_seq=%zz",
      "?After_Bundle_Seq=x",
      "?max_bundles=5000",
      "?unknown=1"
    ]
  ) {
    it.effect(`takes ${query === "" ? "no query" : query} for a pull from the start [wire.md §1.7]`, () =>
      Effect.gen(function*() {
        yield* pushed(1)
        assert.deepStrictEqual(sequences(yield* b.request(`/sync/pull${query}`)), [1])
      }).pipe(Effect.provide(inProcess())))
  }
})

describe("committed rows", () => {
  const bundle = Effect.gen(function*() {
    yield* a.connect(false)
    yield* a.push(1, [user(1), user(2), user(3), user(4), user(5)])
  })

  it.effect("are paged by the ordinal of the last row, the first page without one [wire.md §3]", () =>
    Effect.gen(function*() {
      yield* bundle
      const first = yield* b.rows(1, "?max_rows=2")
      assert.deepStrictEqual(effects(first), ["INSERT users 1", "INSERT users 2"])
      assert.strictEqual(first.body["next_row_ordinal"], 1)
      assert.strictEqual(first.body["has_more"], true)
      const trap = yield* b.rows(1, "?after_row_ordinal=0&max_rows=1")
      assert.deepStrictEqual(effects(trap), ["INSERT users 2"])
      const last = yield* b.rows(1, "?after_row_ordinal=3&max_rows=2")
      assert.deepStrictEqual(effects(last), ["INSERT users 5"])
      assert.strictEqual(last.body["has_more"], false)
      const empty = yield* b.rows(1, "?after_row_ordinal=9223372036854775807")
      assert.deepStrictEqual(empty.body["rows"], [])
      assert.strictEqual(empty.body["next_row_ordinal"], 9223372036854775807n)
    }).pipe(Effect.provide(inProcess())))

  it.effect("cap the page silently [wire.md §4.6]", () =>
    Effect.gen(function*() {
      yield* bundle
      assert.strictEqual(effects(yield* b.rows(1, "?max_rows=9223372036854775807")).length, 3)
      assert.strictEqual(effects(yield* b.rows(1)).length, 2)
    }).pipe(
      Effect.provide(inProcess({ maxRowsPerCommittedBundleChunk: 3, defaultRowsPerCommittedBundleChunk: 2 }))
    ))

  for (
    const path of [
      "x/rows",
      "0/rows",
      "-1/rows",
      "1/rows?after_row_ordinal=-1",
      "1/rows?after_row_ordinal=x",
      "1/rows?max_rows=0",
      "1/rows?max_rows=x",
      "9223372036854775808/rows"
    ]
  ) {
    it.effect(`refuse ${path} [wire.md §4.6]`, () =>
      Effect.gen(function*() {
        yield* bundle
        assert.strictEqual(
          outcome(yield* b.request(`/sync/committed-bundles/${path}`)),
          "400 committed_bundle_chunk_invalid"
        )
      }).pipe(Effect.provide(inProcess())))
  }

  it.effect("take a sequence spelled with sign and zeros [wire.md §1.7]", () =>
    Effect.gen(function*() {
      yield* bundle
      assert.strictEqual(outcome(yield* b.request("/sync/committed-bundles/+0001/rows")), "200")
    }).pipe(Effect.provide(inProcess())))
})

describe("retention", () => {
  it.effect("keeps the window and prunes the rest with the commit [server.md §9]", () =>
    Effect.gen(function*() {
      yield* pushed(5)
      assert.strictEqual(outcome(yield* b.rows(3)), "409 history_pruned")
      assert.strictEqual(outcome(yield* b.rows(4)), "200")
      assert.strictEqual(outcome(yield* b.pull(2)), "409 history_pruned")
      assert.strictEqual(outcome(yield* b.pull(3)), "409 history_pruned")
      assert.deepStrictEqual(sequences(yield* b.pull(4)), [5])
      assert.strictEqual(outcome(yield* a.create(3, 1)), "409 history_pruned")
      assert.strictEqual((yield* a.create(5, 1)).body["status"], "already_committed")
      const snapshot = yield* b.snapshot()
      assert.strictEqual(snapshot.body["row_count"], 5)
      const health = (yield* b.request("/syncx/health")).body
      assert.strictEqual(health["committed_bundle_count"], 2)
      assert.strictEqual(health["retained_bundle_floor_max"], 3)
      assert.strictEqual(health["retained_bundle_window_min"], 2)
      assert.strictEqual(health["history_pruned_error_count"], 2)
    }).pipe(Effect.provide(inProcess({ retainedBundles: 2 }))))

  it.effect("a pull from 0 is refused, not shortened, where history is missing [issue 4]", () =>
    Effect.gen(function*() {
      yield* pushed(3)
      assert.strictEqual(outcome(yield* b.pull(0)), "409 history_pruned")
    }).pipe(Effect.provide(inProcess({ retainedBundles: 2 }))))

  it.effect("a floor at the newest bundle refuses every pull without a target [wire.md §4.7 #6]", () =>
    Effect.gen(function*() {
      yield* pushed(2)
      yield* Effect.flatMap(SyncServer, (server) => server.setRetainedFloor("user-1", 2))
      assert.strictEqual(outcome(yield* b.pull(9)), "409 history_pruned")
      assert.strictEqual(outcome(yield* b.pull(9, "&target_bundle_seq=2")), "409 history_pruned")
      assert.strictEqual(outcome(yield* b.pull(9, "&target_bundle_seq=3")), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a floor cannot be set beyond the newest bundle or for nobody [server.md §2]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      yield* pushed(1)
      assert.strictEqual((yield* Effect.flip(server.setRetainedFloor("user-1", 2)))._tag, "SyncRefused")
      assert.strictEqual((yield* Effect.flip(server.setRetainedFloor("user-9", 0)))._tag, "SyncRefused")
    }).pipe(Effect.provide(inProcess())))

  it("moves by at most one batch, never back, and never prunes the newest bundle [server.md §9]", () => {
    const floors: ReadonlyArray<readonly [latest: number, floor: number, window: number, batch: number, next: number]> =
      [
        [5, 0, 10, 1000, 0],
        [10, 0, 10, 1000, 0],
        [11, 0, 10, 1000, 1],
        [5000, 0, 10, 1000, 1000],
        [5001, 1000, 10, 1000, 2000],
        [20, 15, 10, 1000, 15],
        [2, 0, 1, 1000, 1]
      ]
    for (const [latest, floor, window, batch, next] of floors) {
      assert.strictEqual(nextFloor(latest, floor, window, batch), next)
    }
    FastCheck.assert(
      FastCheck.property(
        FastCheck.nat(),
        FastCheck.nat(),
        FastCheck.integer({ min: 1, max: 1000 }),
        (latest, gap, window) => {
          const floor = Math.max(0, latest - gap)
          const next = nextFloor(latest, floor, window, 1000)
          return next >= floor && next - floor <= 1000 && (next === floor || next < latest)
        }
      ),
      { seed: 3 }
    )
  })

  it("the ceiling of a pull follows its table [wire.md §4.7 #4–7]", () => {
    const cases: ReadonlyArray<
      readonly [after: bigint, target: bigint, latest: number, floor: number, stable: string]
    > = [
      [0n, 0n, 0, 0, "0"],
      [0n, 0n, 5, 0, "5"],
      [0n, 3n, 5, 0, "3"],
      [0n, 9n, 5, 0, "9"],
      [0n, 0n, 5, 2, "history_pruned"],
      [2n, 0n, 5, 2, "history_pruned"],
      [3n, 0n, 5, 2, "5"],
      [3n, 2n, 5, 2, "history_pruned"],
      [3n, 3n, 5, 2, "3"],
      [9n, 0n, 5, 5, "history_pruned"]
    ]
    for (const [after, target, latestBundleSeq, retainedFloor, stable] of cases) {
      const found = ceiling("u", { latestBundleSeq, retainedFloor }, { after, target })
      assert.strictEqual(found._tag === "Right" ? String(found.right) : found.left.code, stable)
    }
  })
})

describe("hashes", () => {
  it.effect("of large bundles with every kind of text are those of the protocol [hashing.md §2]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const rows = Array.from({ length: 50 }, (_, index) => ({
        ...user(index),
        payload: { name: `<&>\u2028 "\\\b\f ${String.fromCodePoint(0x1f600 + index)} \u0001`, email: null }
      }))
      const committed = yield* a.push(1, rows)
      const page = yield* b.rows(1)
      const answered = page.body["rows"]
      const wire = Array.isArray(answered)
        ? answered.filter(isMembers).map((row) => ({
          schema: String(row["schema"]),
          table: String(row["table"]),
          key: row["key"],
          op: String(row["op"]),
          row_version: Number(row["row_version"]),
          payload: row["payload"]
        }))
        : []
      assert.strictEqual(wire.length, 50)
      assert.strictEqual(BundleHash.bundleHash(wire), committed.body["bundle_hash"])
    }).pipe(Effect.provide(inProcess())))
})
