/**
 * The background coordinator: one loop that pushes what the host has written and pulls what others have, woken by writes,
 * events, timers and the host, until its fiber ends (retry-and-loops.md §4.3, §5).
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { SyncError } from "../contract/SyncError.js"
import { CurrentOperation } from "../contract/SyncOperation.js"
import type { SyncApi } from "../remote/SyncApi.js"
import * as PendingGlance from "../storage/PendingGlance.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import * as Session from "./Session.js"
import type { SyncConfig } from "./SyncConfig.js"
import type { BackgroundStatus, Circumstances, Direction, LoopState, Pauses } from "./SyncLoopRules.js"
import * as Rules from "./SyncLoopRules.js"
import type { Signal, SyncLoopSignals } from "./SyncLoopSignals.js"
import * as Watch from "./SyncLoopWatch.js"

/**
 * What a loop works with: the client's own operations, which take the operation lock like any caller's.
 *
 * @since 0.1.0
 * @category models
 */
export interface LoopWork {
  readonly push: Effect.Effect<unknown, SyncError>
  readonly pull: Effect.Effect<unknown, SyncError>
  readonly signals: SyncLoopSignals
}

type Environment = SyncDatabase | SyncApi | Session.Session

const pausesOf = (config: SyncConfig): Pauses => ({
  shortest: Duration.toMillis(config.backoffMin),
  longest: Duration.toMillis(config.backoffMax),
  fallback: Duration.toMillis(config.watchFallbackInterval)
})

const blockedMessage: Readonly<Record<Direction, string>> = {
  push: "upload loop blocked by lifecycle state",
  pull: "download loop blocked by lifecycle state"
}

const statusOf = (state: LoopState, now: Circumstances, pauses: Pauses): BackgroundStatus => ({
  state: state.hold !== "none"
    ? state.hold
    : state.pushAwaitsWrite || now.now < state.pullAwaitsNewsUntil
    ? "blocked"
    : state.error !== undefined
    ? "backing_off"
    : "running",
  pushWanted: state.pushWanted || now.pending,
  pullWanted: Rules.pullAsked(state, now, pauses),
  watching: now.listening,
  error: state.error
})

/** Milliseconds of a clock that nobody sets: a wall clock that jumps must not make the loop wait for hours (client-state.md §1). */
const monotonicMillis = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000n) / 1_000)

/**
 * Works in the background until it is interrupted or the client is closed. Never fails: what goes wrong is in the
 * client's status. At most one loop may run per client; the caller sees to that.
 *
 * `rebuild` and `attach` are never called from here.
 *
 * @since 0.1.0
 * @category flows
 */
export const run = Effect.fnUntraced(function*(work: LoopWork): Effect.fn.Return<void, never, Environment> {
  const { config, retryPolicy } = yield* Session.Session
  const db = yield* SyncDatabase
  const pauses = pausesOf(config)
  const mayWatch = config.bundleChangeWatchMode === "auto"
  const { signals } = work
  let state = Rules.initial(pauses)
  let published = Rules.off
  let warned = new Set<Direction>()
  let seen: PendingGlance.Glance = { pending: false, checkpoint: 0 }
  /** The dirty rows that background work could not do anything with. */
  let stuck: PendingGlance.WriteTrace | undefined

  const publish = (status: BackgroundStatus) =>
    Effect.suspend(() => {
      const same = status.state === published.state && status.error === published.error &&
        status.pushWanted === published.pushWanted && status.pullWanted === published.pullWanted &&
        status.watching === published.watching
      published = status
      return same ? Effect.void : Session.remember({ background: status })
    })

  const body = Effect.gen(function*() {
    const stream = yield* Watch.make(signals)
    // What came before there was a loop is seen by its first look.
    yield* signals.take
    let watch = Watch.initial(
      (yield* Session.memory).features?.changeWatch,
      yield* monotonicMillis,
      pauses
    )

    const receive = Effect.fnUntraced(function*(signal: Signal, now: Pick<Circumstances, "now" | "jitter">) {
      switch (signal._tag) {
        case "Switched":
          return
        case "Written":
          state = Rules.written(state)
          return
        case "Online":
          state = Rules.reconnected(state, pauses)
          watch = { ...watch, askAt: now.now, openAt: now.now, backoff: pauses.shortest }
          return
        case "Finished": {
          if (!signal.succeeded) return
          state = Rules.restarted(state, pauses)
          if (signal.operation !== "attach") return
          state = { ...state, pullWanted: true }
          watch = Watch.initial((yield* Session.memory).features?.changeWatch, now.now, pauses)
          warned = new Set()
          return
        }
        case "Announced":
          state = Rules.announced(state, signal.bundleSeq)
          return
        case "StreamOpened":
          // Whatever happened since the stream before was cut (wire.md §4.8).
          state = { ...state, pullWanted: true }
          watch = { ...watch, openedAt: now.now }
          return
        case "StreamEnded": {
          watch = Watch.ended(watch, signal.failure, now, pauses)
          if (watch.forbidden) yield* Effect.logWarning("the server does not let this user listen to changes")
          else state = { ...state, pullWanted: true }
        }
      }
    })

    const warn = (directions: ReadonlyArray<Direction>) =>
      Effect.forEach(directions, (direction) => {
        if (warned.has(direction)) return Effect.void
        warned.add(direction)
        return Effect.logWarning(blockedMessage[direction])
      }, { discard: true })

    const fail = Effect.fnUntraced(function*(direction: Direction, error: SyncError, now: Circumstances) {
      state = Rules.failed(state, direction, error, now, pauses)
      switch (Rules.reactionTo(direction, error)) {
        case "detached":
          return yield* warn([direction])
        case "stop":
          return yield* Effect.logWarning(`background work stopped: ${error.message}`)
        case "await_write":
        case "await_news": {
          yield* Effect.logWarning(`background work waits for a correction: ${error.message}`)
          stuck = yield* Effect.orElseSucceed(db.read(PendingGlance.trace(undefined)), () => undefined)
          const { writtenDuringUpload } = yield* Session.memory
          // A write that came while the refused upload was under way may have been the correction.
          if (error._tag === "UploadRefused" && writtenDuringUpload) state = Rules.writtenMeanwhile(state, now, pauses)
          return
        }
        default:
          return yield* Effect.logDebug(`background work goes on later: ${error.message}`)
      }
    })

    const look = Effect.gen(function*() {
      if (state.pushAwaitsWrite || state.pullAwaitsNewsUntil > 0) {
        const trace = yield* db.read(PendingGlance.trace(stuck))
        if (stuck !== undefined && stuck.rows !== trace.rows) state = Rules.written(state)
        stuck = trace
      }
      seen = yield* db.read(PendingGlance.glance)
    })

    const circumstances = Effect.gen(function*() {
      const memory = yield* Session.memory
      const fraction = retryPolicy.jitterFraction
      const now: Circumstances = {
        now: yield* monotonicMillis,
        jitter: 1 - fraction + 2 * fraction * (yield* Random.next),
        pending: seen.pending || memory.initializationId !== "",
        checkpoint: seen.checkpoint,
        uploadsPaused: memory.uploadsPaused,
        downloadsPaused: memory.downloadsPaused,
        busy: memory.running !== undefined,
        listening: (yield* stream.openFor) !== undefined && watch.openedAt !== undefined
      }
      return now
    })

    const attempt = (direction: Direction) =>
      Effect.matchEffect(direction === "push" ? work.push : work.pull, {
        onFailure: (error) => Effect.flatMap(circumstances, (later) => fail(direction, error, later)),
        onSuccess: () =>
          Effect.map(circumstances, (later) => {
            // Found again: the server may be another one now.
            if (state.error !== undefined) watch = { ...watch, askAt: later.now }
            state = Rules.succeeded(state, direction, later, pauses)
          })
      })

    const closeStream = Effect.suspend(() => {
      watch = { ...watch, openedAt: undefined, openAt: 0 }
      state = { ...state, announced: 0 }
      return stream.close
    })

    /** Closes a stream that should not be there, and opens one that should; only when there is nothing else to do. */
    const tendStream = Effect.fnUntraced(function*(now: Circumstances, idle: boolean) {
      const caller = yield* Session.caller
      const openFor = yield* stream.openFor
      const wanted = mayWatch && state.hold === "none" && !now.downloadsPaused
      if (openFor !== undefined) {
        const current = openFor.sourceId === caller.sourceId && openFor.userId === caller.userId
        const outworn = yield* stream.isOutworn
        if (wanted && current && !outworn) return
        yield* closeStream
        // Not at once: a server that never takes the first token would have a new stream after every request.
        if (outworn) watch = { ...watch, openAt: now.now + pauses.shortest * now.jitter }
      }
      if (!wanted || !idle || watch.forbidden) return
      if (watch.advertised !== true && now.now >= watch.askAt) {
        const advertised = yield* Watch.ask
        watch = { ...watch, advertised, askAt: (yield* monotonicMillis) + pauses.fallback * now.jitter }
      }
      if (watch.advertised !== true || now.now < watch.openAt) return
      yield* stream.open(caller, now.checkpoint)
    })

    for (;;) {
      const woken = yield* circumstances
      for (const signal of yield* signals.take) yield* receive(signal, woken)
      const memory = yield* Session.memory
      if (memory.closed) return
      if (!memory.connected && state.hold === "none") {
        state = { ...state, hold: "detached" }
        yield* warn(["push", "pull"])
      }
      if (state.hold === "none") yield* Effect.catchAll(look, (error) => fail("push", error, woken))
      const now = yield* circumstances
      const step = Rules.nextStep(state, now, pauses)
      const backsOff = statusOf(state, now, pauses).state === "backing_off"
      yield* tendStream(now, step._tag === "Wait" && !backsOff)
      yield* publish(statusOf(state, yield* circumstances, pauses))
      if (step._tag === "Wait") {
        // The clock has whole milliseconds: rounded down, the time would not have come yet.
        const limit = Math.ceil(step.until - (yield* monotonicMillis))
        yield* signals.wait(Number.isFinite(limit) ? Duration.millis(Math.max(limit, 1)) : undefined)
      } else yield* attempt(step._tag === "Push" ? "push" : "pull")
    }
  })

  yield* body.pipe(
    Effect.scoped,
    Effect.provideService(CurrentOperation, "syncStatus"),
    Effect.annotateLogs({ module: "SyncLoop" }),
    Effect.ensuring(Session.remember({ background: Rules.off }))
  )
})
