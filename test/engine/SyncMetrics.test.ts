import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { SyncMetrics } from "oversqlite"
import { lost } from "./support/Network.js"
import { whileTimePasses } from "./support/Time.js"
import { makeWorld } from "./support/World.js"

/** Metrics belong to the process: what counts is the difference. */
const sums = Effect.gen(function*() {
  const value = (metric: Metric.Metric.Counter<number>) => Effect.map(Metric.value(metric), ({ count }) => count)
  const ended = (operation: string, outcome: string) =>
    value(SyncMetrics.operations.pipe(Metric.tagged("operation", operation), Metric.tagged("outcome", outcome)))
  return {
    pushed: yield* ended("pushPending", "success"),
    pushFailed: yield* ended("pushPending", "RetryExhausted"),
    pushDurations:
      (yield* Metric.value(Metric.tagged(SyncMetrics.operationDuration, "operation", "pushPending"))).count,
    pushSessions: yield* value(SyncMetrics.pushTransfer.sessionsCreated),
    pushChunks: yield* value(SyncMetrics.pushTransfer.chunksUploaded),
    committedPages: yield* value(SyncMetrics.pushTransfer.committedBundleChunksRead),
    snapshotSessions: yield* value(SyncMetrics.snapshotTransfer.sessionsCreated),
    snapshotChunks: yield* value(SyncMetrics.snapshotTransfer.chunksFetched)
  }
})

describe("metrics of the process [retry-and-loops.md §7]", () => {
  it.scoped("count operations by outcome, their durations, and the steps of transfers", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ uploadLimit: 2 })
      yield* a.run("INSERT INTO users VALUES ('1', 'N', NULL, 1), ('2', 'N', NULL, 1), ('3', 'N', NULL, 1)")
      const before = yield* sums
      yield* a.sync.pushPending
      yield* a.sync.rebuild
      yield* a.run("DELETE FROM users WHERE id = '1'")
      yield* world.network.fault("push create", lost, 3)
      yield* whileTimePasses(Effect.either(a.sync.pushPending))
      const after = yield* sums
      assert.deepStrictEqual(
        Object.fromEntries(Object.entries(after).map(([name, sum]) => [name, sum - Reflect.get(before, name)])),
        {
          pushed: 1,
          pushFailed: 1,
          pushDurations: 2,
          pushSessions: 1,
          pushChunks: 2,
          committedPages: 1,
          snapshotSessions: 1,
          snapshotChunks: 1
        }
      )
    }))
})
