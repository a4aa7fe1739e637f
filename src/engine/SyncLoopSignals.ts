/**
 * What wakes the background coordinator (retry-and-loops.md §4.3): signals that coalesce until it looks.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { SyncOperation } from "../contract/SyncOperation.js"
import type { RequestFailure } from "../remote/SyncApi.js"

/**
 * A reason to look again.
 *
 * @since 0.1.0
 * @category models
 */
export type Signal =
  /** The host says that it has written. */
  | { readonly _tag: "Written" }
  /** The host says that the network is back. */
  | { readonly _tag: "Online" }
  /** A pause switch was used, or the client was closed. */
  | { readonly _tag: "Switched" }
  /** An operation of the host has ended. */
  | { readonly _tag: "Finished"; readonly operation: SyncOperation; readonly succeeded: boolean }
  /** The server has announced a bundle. */
  | { readonly _tag: "Announced"; readonly bundleSeq: number }
  /** The headers of the event stream have come. */
  | { readonly _tag: "StreamOpened" }
  /** The event stream has ended by itself. */
  | { readonly _tag: "StreamEnded"; readonly failure: RequestFailure }

/**
 * Signals between their senders and the coordinator.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncLoopSignals {
  /** Leaves a signal; one of the same kind that was not looked at yet is replaced, a newer bundle counts. */
  readonly notify: (signal: Signal) => Effect.Effect<void>
  /** Takes all signals since the last call, oldest kind first. */
  readonly take: Effect.Effect<ReadonlyArray<Signal>>
  /** Waits for a signal, at most for `limit`; `undefined` is for ever. */
  readonly wait: (limit: Duration.Duration | undefined) => Effect.Effect<void>
}

const kindOf = (signal: Signal): string =>
  signal._tag === "Finished" ? `${signal._tag}:${signal.operation}:${signal.succeeded}` : signal._tag

/**
 * No signal yet.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<SyncLoopSignals> = Effect.map(Queue.sliding<void>(1), (bell) => {
  const waiting = new Map<string, Signal>()

  const merged = (signal: Signal): Signal => {
    const before = waiting.get(kindOf(signal))
    return signal._tag === "Announced" && before?._tag === "Announced" && before.bundleSeq > signal.bundleSeq
      ? before
      : signal
  }

  return {
    notify: (signal) =>
      Effect.suspend(() => {
        waiting.set(kindOf(signal), merged(signal))
        return Queue.offer(bell, undefined)
      }),
    take: Effect.sync(() => {
      const signals = [...waiting.values()]
      waiting.clear()
      return signals
    }),
    wait: (limit) =>
      limit === undefined ? Queue.take(bell) : Effect.asVoid(Effect.timeoutOption(Queue.take(bell), limit))
  }
})
