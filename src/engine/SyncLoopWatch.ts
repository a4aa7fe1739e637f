/**
 * The coordinator's part that listens to the server's change events (retry-and-loops.md §5): when to ask whether the
 * server has them, when to open the stream and when to close it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { CurrentOperation } from "../contract/SyncOperation.js"
import { features as featuresOf } from "../protocol/Dialect.js"
import type { Caller, RequestFailure } from "../remote/SyncApi.js"
import { SyncApi } from "../remote/SyncApi.js"
import * as Session from "./Session.js"
import type { Circumstances, Pauses } from "./SyncLoopRules.js"
import type { SyncLoopSignals } from "./SyncLoopSignals.js"

/**
 * What is known about the server's events. All times are milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface WatchState {
  /** Whether the server offers events; `undefined` until it was asked. */
  readonly advertised: boolean | undefined
  /** The server does not let this user listen; so it stays until the next attach. */
  readonly forbidden: boolean
  /** When to ask again whether the server offers events. */
  readonly askAt: number
  /** When to open the next stream. */
  readonly openAt: number
  /** The pause after the stream's next end. */
  readonly backoff: number
  /** When the stream's headers came. */
  readonly openedAt: number | undefined
}

/**
 * The state after an attach, or at the start: what the attach has learnt counts (retry-and-loops.md §5.1).
 *
 * @since 0.1.0
 * @category constructors
 */
export const initial = (advertised: boolean | undefined, now: number, pauses: Pauses): WatchState => ({
  advertised,
  forbidden: false,
  askAt: advertised === false ? now + pauses.fallback : now,
  openAt: now,
  backoff: pauses.shortest,
  openedAt: undefined
})

/** A stream that has lived for so long was a good one: the back-off starts anew. */
const goodLife = 5000

/**
 * The stream has ended by itself: another one after a pause, unless the server does not have events, or not for us.
 *
 * @since 0.1.0
 * @category transitions
 */
export const ended = (
  state: WatchState,
  failure: RequestFailure,
  now: Pick<Circumstances, "now" | "jitter">,
  pauses: Pauses
): WatchState => {
  const lived = state.openedAt !== undefined && now.now - state.openedAt >= goodLife
  const backoff = lived ? pauses.shortest : state.backoff
  const closed: WatchState = {
    ...state,
    openedAt: undefined,
    openAt: now.now + backoff * now.jitter,
    backoff: Math.min(backoff * 2, pauses.longest)
  }
  if (failure._tag !== "Refusal") return closed
  if (failure.serverCode === "bundle_change_watch_forbidden") return { ...closed, forbidden: true }
  const absent = failure.serverCode === "bundle_change_watch_disabled" || [404, 405, 501].includes(failure.status)
  return absent ? { ...closed, advertised: undefined, askAt: now.now + pauses.fallback * now.jitter } : closed
}

/**
 * The event stream of one loop. It lives in the loop's scope.
 *
 * @since 0.1.0
 * @category models
 */
export interface WatchStream {
  /** For whom the stream was opened; `undefined` while there is none. */
  readonly openFor: Effect.Effect<Caller | undefined>
  /** Whether the server has taken another token than the stream's since it was opened. */
  readonly isOutworn: Effect.Effect<boolean, never, SyncApi>
  /** Opens a stream from the checkpoint on; what it brings comes as signals. */
  readonly open: (caller: Caller, checkpoint: number) => Effect.Effect<void, never, SyncApi>
  readonly close: Effect.Effect<void>
}

/**
 * No stream yet.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  signals: SyncLoopSignals
): Effect.fn.Return<WatchStream, never, Scope.Scope> {
  const handle = yield* FiberHandle.make()
  let openFor: Caller | undefined
  let refreshes: number | undefined

  const listen = (caller: Caller, checkpoint: number) =>
    Effect.flatMap(
      SyncApi,
      (api) =>
        api.watch(caller, checkpoint, {
          onOpen: Effect.zipRight(
            Effect.map(api.tokenRefreshes, (now) => void (refreshes = now)),
            signals.notify({ _tag: "StreamOpened" })
          )
        }).pipe(
          Stream.runForEach((event) => signals.notify({ _tag: "Announced", bundleSeq: event.bundle_seq })),
          Effect.provideService(CurrentOperation, "pullToStable"),
          Effect.catchAll((failure) =>
            Effect.suspend(() => {
              openFor = undefined
              return signals.notify({ _tag: "StreamEnded", failure })
            })
          )
        )
    )

  return {
    openFor: Effect.sync(() => openFor),
    isOutworn: Effect.flatMap(
      SyncApi,
      (api) => Effect.map(api.tokenRefreshes, (now) => refreshes !== undefined && refreshes !== now)
    ),
    open: (caller, checkpoint) =>
      Effect.suspend(() => {
        openFor = caller
        refreshes = undefined
        return Effect.asVoid(FiberHandle.run(handle, listen(caller, checkpoint)))
      }),
    close: Effect.suspend(() => {
      openFor = undefined
      return FiberHandle.clear(handle)
    })
  }
})

/**
 * Asks the server whether it offers events, and remembers what else it says; `undefined` if it did not answer.
 *
 * @since 0.1.0
 * @category requests
 */
export const ask: Effect.Effect<boolean | undefined, never, SyncApi | Session.Session> = Effect.gen(function*() {
  const api = yield* SyncApi
  const capabilities = yield* api.capabilities(yield* Session.caller, "watch_capabilities")
  const features = featuresOf(capabilities)
  yield* Session.remember({ features, limits: capabilities.bundle_limits })
  return features.changeWatch
}).pipe(
  Effect.provideService(CurrentOperation, "pullToStable"),
  Effect.catchAll((failure) => Effect.as(Effect.logDebug("no answer about change events", failure._tag), undefined))
)
