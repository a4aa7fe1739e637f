/**
 * What the background coordinator does next (retry-and-loops.md §4.3, §5): a state, how signals, results and time change
 * it, and the step that is due. Pure; all times are milliseconds.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import type { SyncError } from "../contract/SyncError.js"
import { isExpectedContention, isLifecyclePrecondition } from "../contract/SyncError.js"

/**
 * The two kinds of background work.
 *
 * @since 0.1.0
 * @category models
 */
export type Direction = "push" | "pull"

/**
 * What the background work of a client is doing, as a part of its status.
 *
 * - `off`: nobody runs it
 * - `running`: working, or waiting for something to do
 * - `backing_off`: an operation has failed and is repeated by itself
 * - `blocked`: something about the data is wrong; the next host write, event or long timer is waited for
 * - `detached`: waiting for `attach`
 * - `stopped`: waiting for any operation of the host that succeeds
 *
 * @since 0.1.0
 * @category models
 */
export interface BackgroundStatus {
  readonly state: "off" | "running" | "backing_off" | "blocked" | "detached" | "stopped"
  readonly pushWanted: boolean
  readonly pullWanted: boolean
  /** The server's change events are being listened to. */
  readonly watching: boolean
  /** The error that is in the way of background work, `undefined` if nothing is. */
  readonly error: SyncError | undefined
}

/**
 * Nobody runs the background work.
 *
 * @since 0.1.0
 * @category constructors
 */
export const off: BackgroundStatus = {
  state: "off",
  pushWanted: false,
  pullWanted: false,
  watching: false,
  error: undefined
}

/**
 * How the coordinator takes a failure (retry-and-loops.md §4.3):
 *
 * - `closed`: the client is closed, the loop ends
 * - `busy`: no error; the wish is kept and tried again after the shortest pause
 * - `detached`: nothing until `attach`
 * - `repeat`: the wish is kept, the back-off grows
 * - `push_first`: push, then pull
 * - `await_write`: no push until the next host write
 * - `await_news`: no pull until the next event, the longest pause, or a host write
 * - `stop`: nothing until an operation of the host succeeds
 *
 * @since 0.1.0
 * @category models
 */
export type Reaction =
  | "closed"
  | "busy"
  | "detached"
  | "repeat"
  | "push_first"
  | "await_write"
  | "await_news"
  | "stop"

/**
 * How the coordinator takes a failure of one of its operations.
 *
 * @since 0.1.0
 * @category deciding
 */
export const reactionTo = (direction: Direction, error: SyncError): Reaction => {
  if (error._tag === "ClientClosed") return "closed"
  if (isExpectedContention(error)) return "busy"
  if (isLifecyclePrecondition(error)) return "detached"
  if (error._tag === "UploadRefused") return "await_write"
  if (error._tag === "LocalDataError") return direction === "push" ? "await_write" : "await_news"
  if (error.retryable) return "repeat"
  return error.action === "push" ? "push_first" : "stop"
}

/**
 * The pauses of a loop in milliseconds (retry-and-loops.md §3).
 *
 * @since 0.1.0
 * @category models
 */
export interface Pauses {
  readonly shortest: number
  readonly longest: number
  /** Between two pulls while events are listened to. */
  readonly fallback: number
}

/**
 * What the coordinator remembers between two steps.
 *
 * @since 0.1.0
 * @category models
 */
export interface LoopState {
  readonly pushWanted: boolean
  readonly pullWanted: boolean
  /** The newest bundle that an event has announced; beyond the checkpoint it asks for a pull. */
  readonly announced: number
  readonly hold: "none" | "detached" | "stopped"
  readonly pushAwaitsWrite: boolean
  /** No pull before this time; 0 for no such wait. */
  readonly pullAwaitsNewsUntil: number
  readonly error: SyncError | undefined
  /** The pause after the next failure. */
  readonly backoff: number
  /** Nothing is tried before this time. */
  readonly notBefore: number
  /** The pause after a success of the push, which gathers writes. */
  readonly pushNotBefore: number
  /** When the last pull succeeded, and the jitter of the timer that runs since then. */
  readonly pulledAt: number
  readonly pullJitter: number
}

/**
 * The state of a loop that starts: whatever there is wants to be looked at.
 *
 * @since 0.1.0
 * @category constructors
 */
export const initial = (pauses: Pauses): LoopState => ({
  pushWanted: false,
  pullWanted: true,
  announced: 0,
  hold: "none",
  pushAwaitsWrite: false,
  pullAwaitsNewsUntil: 0,
  error: undefined,
  backoff: pauses.shortest,
  notBefore: 0,
  pushNotBefore: 0,
  pulledAt: 0,
  pullJitter: 1
})

/**
 * What the coordinator sees when it decides. `jitter` is a factor around 1, drawn anew for every decision.
 *
 * @since 0.1.0
 * @category models
 */
export interface Circumstances {
  readonly now: number
  readonly jitter: number
  /** Something waits for the server: dirty rows, a frozen upload, or an unacknowledged seed. */
  readonly pending: boolean
  readonly checkpoint: number
  readonly uploadsPaused: boolean
  readonly downloadsPaused: boolean
  /** Another operation of this client is running. */
  readonly busy: boolean
  readonly listening: boolean
}

/**
 * After a success of the coordinator's own operation: back-off at its shortest, the wish fulfilled. A push that succeeds
 * after failures has found the server again, so the pull is asked for as well.
 *
 * @since 0.1.0
 * @category transitions
 */
export const succeeded = (state: LoopState, direction: Direction, now: Circumstances, pauses: Pauses): LoopState => ({
  ...state,
  ...(direction === "push"
    ? {
      pushWanted: false,
      pushAwaitsWrite: false,
      pushNotBefore: now.now + pauses.shortest * now.jitter,
      pullWanted: state.pullWanted || state.backoff > pauses.shortest
    }
    : { pullWanted: false, pullAwaitsNewsUntil: 0, pulledAt: now.now, pullJitter: now.jitter }),
  error: direction === "push" && now.now < state.pullAwaitsNewsUntil ? state.error : undefined,
  backoff: pauses.shortest,
  notBefore: 0
})

const retryAfterOf = (error: SyncError): number => {
  const failure = error._tag === "RetryExhausted" ? error.cause : error
  return failure._tag === "TransportError" && failure.retryAfter !== undefined
    ? Duration.toMillis(failure.retryAfter)
    : 0
}

/**
 * After a failure of the coordinator's own operation, by its {@link Reaction}. `closed` is the caller's.
 *
 * @since 0.1.0
 * @category transitions
 */
export const failed = (
  state: LoopState,
  direction: Direction,
  error: SyncError,
  now: Circumstances,
  pauses: Pauses
): LoopState => {
  const wanted: LoopState = direction === "push" ? { ...state, pushWanted: true } : { ...state, pullWanted: true }
  const soon = now.now + pauses.shortest * now.jitter
  switch (reactionTo(direction, error)) {
    case "closed":
      return state
    case "busy":
      return { ...wanted, notBefore: soon }
    case "detached":
      return { ...wanted, error, hold: "detached", backoff: pauses.shortest }
    case "repeat": {
      // A server that says how long it wants to be left alone is left alone, within the longest pause.
      const pause = Math.max(state.backoff * now.jitter, Math.min(retryAfterOf(error), pauses.longest))
      return { ...wanted, error, notBefore: now.now + pause, backoff: Math.min(state.backoff * 2, pauses.longest) }
    }
    case "push_first":
      return { ...state, pushWanted: true, pullWanted: true, notBefore: soon }
    case "await_write":
      return { ...wanted, error, pushAwaitsWrite: true }
    case "await_news":
      return { ...wanted, error, pullAwaitsNewsUntil: now.now + pauses.longest * now.jitter }
    case "stop":
      return { ...wanted, error, hold: "stopped" }
  }
}

/**
 * The host has written: what was wrong with the data may be right now.
 *
 * @since 0.1.0
 * @category transitions
 */
export const written = (state: LoopState): LoopState => ({
  ...state,
  pushAwaitsWrite: false,
  pullAwaitsNewsUntil: 0,
  error: state.pushAwaitsWrite || state.pullAwaitsNewsUntil > 0 ? undefined : state.error
})

/**
 * The host has written while an upload was refused: it is worth another push, after the shortest pause.
 *
 * @since 0.1.0
 * @category transitions
 */
export const writtenMeanwhile = (
  state: LoopState,
  now: Pick<Circumstances, "now" | "jitter">,
  pauses: Pauses
): LoopState => ({ ...written(state), notBefore: now.now + pauses.shortest * now.jitter })

/**
 * The server has announced a bundle. Nothing is asked for if the checkpoint is there already, which it is after the
 * client's own contiguous bundles (retry-and-loops.md §5).
 *
 * @since 0.1.0
 * @category transitions
 */
export const announced = (state: LoopState, bundleSeq: number): LoopState => ({
  ...state,
  announced: Math.max(state.announced, bundleSeq),
  pullAwaitsNewsUntil: 0,
  error: state.pullAwaitsNewsUntil > 0 ? undefined : state.error
})

/**
 * The network is back: no pause counts any more, and what happened meanwhile is asked for.
 *
 * @since 0.1.0
 * @category transitions
 */
export const reconnected = (state: LoopState, pauses: Pauses): LoopState => ({
  ...state,
  pullWanted: true,
  backoff: pauses.shortest,
  notBefore: 0
})

/**
 * An operation of the host has succeeded: whatever was in the way is looked at anew.
 *
 * @since 0.1.0
 * @category transitions
 */
export const restarted = (state: LoopState, pauses: Pauses): LoopState => ({
  ...written(state),
  hold: "none",
  error: undefined,
  backoff: pauses.shortest,
  notBefore: 0
})

/**
 * What is due.
 *
 * @since 0.1.0
 * @category models
 */
export type Step =
  | { readonly _tag: "Push" }
  | { readonly _tag: "Pull" }
  /** Nothing until this time; `Infinity` for until a signal. */
  | { readonly _tag: "Wait"; readonly until: number }

const wait = (until: number): Step => ({ _tag: "Wait", until })

/** When the timer asks for the next pull. */
const pullTimer = (state: LoopState, now: Circumstances, pauses: Pauses): number =>
  state.pulledAt + (now.listening ? pauses.fallback : pauses.shortest) * state.pullJitter

/**
 * Whether a pull is asked for, by whatever source.
 *
 * @since 0.1.0
 * @category deciding
 */
export const pullAsked = (state: LoopState, now: Circumstances, pauses: Pauses): boolean =>
  state.pullWanted || state.announced > now.checkpoint || now.now >= pullTimer(state, now, pauses)

/**
 * The step that is due: push before pull, nothing that a gate would refuse, nothing in a paused direction.
 *
 * @since 0.1.0
 * @category deciding
 */
export const nextStep = (state: LoopState, now: Circumstances, pauses: Pauses): Step => {
  if (state.hold !== "none") return wait(Number.POSITIVE_INFINITY)
  if (now.now < state.notBefore) return wait(state.notBefore)
  const look = now.now + pauses.shortest * now.jitter
  if ((state.pushWanted || now.pending) && !now.uploadsPaused && !state.pushAwaitsWrite) {
    if (now.now >= state.pushNotBefore) return { _tag: "Push" }
    // The gates of the pull refuse while something is pending.
    if (now.pending) return wait(Math.min(state.pushNotBefore, look))
  }
  if (now.downloadsPaused || now.pending) return wait(look)
  if (now.now < state.pullAwaitsNewsUntil) return wait(Math.min(state.pullAwaitsNewsUntil, look))
  if (!pullAsked(state, now, pauses)) return wait(Math.min(pullTimer(state, now, pauses), look))
  // What an event asks for may be on its way already: the operation's end is a signal.
  const byEventOnly = !state.pullWanted && now.now < pullTimer(state, now, pauses)
  return byEventOnly && now.busy ? wait(look) : { _tag: "Pull" }
}
