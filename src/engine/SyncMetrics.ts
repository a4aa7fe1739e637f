/**
 * What a process can count about its clients, as Effect metrics (retry-and-loops.md §7). The unit is in the name; tags
 * are names of this protocol, never data. They add up over all clients of the process; the counters of one client are
 * its `pushTransfer` and `snapshotTransfer`.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as Predicate from "effect/Predicate"
import type { SyncOperation } from "../contract/SyncOperation.js"
import type { PushTransfer, SnapshotTransfer } from "../contract/SyncResult.js"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })

/**
 * Operations that have ended, tagged with `operation` and `outcome` (`success`, `interrupted`, the tag
 * of the error, or `defect`).
 *
 * @since 0.1.0
 * @category metrics
 */
export const operations = counter("oversqlite_operations_total", "operations that have ended")

/**
 * How long operations took from their turn to their end, in milliseconds, tagged with `operation`.
 *
 * @since 0.1.0
 * @category metrics
 */
export const operationDuration = Metric.histogram(
  "oversqlite_operation_duration_milliseconds",
  MetricBoundaries.exponential({ start: 1, factor: 2, count: 18 }),
  "time from an operation's turn to its end"
)

/**
 * Steps of uploads.
 *
 * @since 0.1.0
 * @category metrics
 */
export const pushTransfer: { readonly [Name in keyof PushTransfer]: Metric.Metric.Counter<number> } = {
  sessionsCreated: counter("oversqlite_push_sessions_total", "push sessions opened"),
  chunksUploaded: counter("oversqlite_push_chunks_total", "chunks accepted by the server"),
  committedBundleChunksRead: counter("oversqlite_committed_pages_total", "pages of own committed rows read")
}

/**
 * Steps of snapshot downloads.
 *
 * @since 0.1.0
 * @category metrics
 */
export const snapshotTransfer: { readonly [Name in keyof SnapshotTransfer]: Metric.Metric.Counter<number> } = {
  sessionsCreated: counter("oversqlite_snapshot_sessions_total", "snapshot sessions opened"),
  chunksFetched: counter("oversqlite_snapshot_chunks_total", "snapshot chunks accepted")
}

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.match(exit, {
    onSuccess: () => "success",
    onFailure: (cause) => {
      if (Cause.isInterruptedOnly(cause)) return "interrupted"
      const error = Cause.squash(cause)
      return Predicate.hasProperty(error, "_tag") ? String(error._tag) : "defect"
    }
  })

/**
 * Counts an operation and its duration, however it ends.
 *
 * @since 0.1.0
 * @category combinators
 */
export const measured = (operation: SyncOperation) => {
  const duration = Metric.tagged(operationDuration, "operation", operation)
  const ended = Metric.tagged(operations, "operation", operation)
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Clock.currentTimeMillis, (start) =>
      Effect.onExit(self, (exit) =>
        Effect.gen(function*() {
          yield* Metric.update(duration, (yield* Clock.currentTimeMillis) - start)
          yield* Metric.increment(Metric.tagged(ended, "outcome", outcomeOf(exit)))
        })))
}
