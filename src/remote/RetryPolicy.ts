/**
 * When and how often a failed exchange is repeated (retry-and-loops.md §1).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { RetryExhausted, TransportError } from "../contract/SyncError.js"
import type { SyncRequest } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"
import { Refusal, transportErrorOf } from "./RequestFailure.js"

/**
 * What a host may set. A given object without `enabled: true` switches retries off; every other absent, non-positive or
 * meaningless member takes its default (retry-and-loops.md §1).
 *
 * @since 0.1.0
 * @category models
 */
export interface RetryPolicyOptions {
  /** `false`: one attempt, and its error as it is. */
  readonly enabled: boolean
  /** Attempts in all, the first included; default 3. */
  readonly maxAttempts?: number | undefined
  /** The first wait; default 100 ms. */
  readonly initialBackoff?: Duration.DurationInput | undefined
  /** The longest wait before jitter; default 1 s, at least `initialBackoff`. */
  readonly maxBackoff?: Duration.DurationInput | undefined
  /** Each wait varies uniformly by this share of itself, 0 to 1; default 0.2. */
  readonly jitterFraction?: number | undefined
  /** The longest wait that a `Retry-After` header of the server is granted; default 30 s. */
  readonly maxRetryAfter?: Duration.DurationInput | undefined
}

/**
 * A policy in normal form; made by {@link make}.
 *
 * @since 0.1.0
 * @category models
 */
export interface RetryPolicy {
  readonly enabled: boolean
  readonly maxAttempts: number
  readonly initialBackoff: Duration.Duration
  readonly maxBackoff: Duration.Duration
  readonly jitterFraction: number
  readonly maxRetryAfter: Duration.Duration
}

/**
 * A duration from the settings of a host; absent, zero or negative means the default.
 *
 * @since 0.1.0
 * @category constructors
 */
export const positiveOr = (
  input: Duration.DurationInput | undefined,
  fallback: Duration.DurationInput
): Duration.Duration => {
  const duration = input === undefined ? Duration.zero : Duration.decode(input)
  return Duration.greaterThan(duration, Duration.zero) ? duration : Duration.decode(fallback)
}

/**
 * Brings the settings of a host into normal form; without settings the default policy (retry-and-loops.md §1).
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: RetryPolicyOptions = { enabled: true }): RetryPolicy => {
  const attempts = Math.floor(options.maxAttempts ?? 0)
  const initialBackoff = positiveOr(options.initialBackoff, "100 millis")
  const jitter = options.jitterFraction ?? 0.2
  return {
    enabled: options.enabled === true,
    maxAttempts: attempts >= 1 ? attempts : 3,
    initialBackoff,
    maxBackoff: Duration.max(positiveOr(options.maxBackoff, "1 second"), initialBackoff),
    jitterFraction: Number.isNaN(jitter) ? 0.2 : Math.min(Math.max(jitter, 0), 1),
    maxRetryAfter: positiveOr(options.maxRetryAfter, "30 seconds")
  }
}

const transientStatuses: ReadonlySet<number> = new Set([429, 502, 503, 504])
const transientCodes: ReadonlySet<TransportError["code"]> = new Set(["connection", "timeout", "body_interrupted"])

/**
 * Whether the engine repeats this failure by itself (retry-and-loops.md §1.1). This is not the field `retryable` of an
 * error, which tells the caller whether calling the operation again makes sense.
 *
 * @since 0.1.0
 * @category guards
 */
export const isTransient = (failure: unknown): boolean => {
  if (failure instanceof Refusal) return transientStatuses.has(failure.status)
  if (failure instanceof TransportError) {
    return failure.code === "status" ? transientStatuses.has(failure.status ?? 0) : transientCodes.has(failure.code)
  }
  return false
}

const statusesWithRetryAfter: ReadonlySet<number> = new Set([429, 503])

/**
 * The wait before the next attempt: the back-off, or the server's `Retry-After` on 429 and 503 if that is longer, the
 * latter capped by the policy (retry-and-loops.md §1).
 *
 * @since 0.1.0
 * @category combinators
 */
export const delayOf = (policy: RetryPolicy, failure: unknown, backoff: Duration.Duration): Duration.Duration =>
  (failure instanceof Refusal || failure instanceof TransportError) && failure.retryAfter !== undefined &&
    statusesWithRetryAfter.has(failure.status ?? 0)
    ? Duration.max(backoff, Duration.min(failure.retryAfter, policy.maxRetryAfter))
    : backoff

/**
 * The one schedule: `maxAttempts − 1` waits that double from `initialBackoff` to `maxBackoff`, each varied by the
 * jitter, none shorter than the server asked for. Its input is the failure, its output the number of waits before.
 *
 * @since 0.1.0
 * @category constructors
 */
export const schedule = (policy: RetryPolicy): Schedule.Schedule<number, unknown> =>
  Schedule.exponential(policy.initialBackoff).pipe(
    Schedule.either(Schedule.spaced(policy.maxBackoff)),
    Schedule.jitteredWith({ min: 1 - policy.jitterFraction, max: 1 + policy.jitterFraction }),
    Schedule.intersect(Schedule.identity<unknown>()),
    Schedule.modifyDelay(([, failure], delay) => delayOf(policy, failure, Duration.decode(delay))),
    Schedule.intersect(Schedule.recurs(policy.enabled ? policy.maxAttempts - 1 : 0)),
    Schedule.map(([, waits]) => waits)
  )

/**
 * Attempts that may fail in a row without progress (retry-and-loops.md §2, the budget of `push_pending`). It belongs to
 * one fiber at a time.
 *
 * @since 0.1.0
 * @category models
 */
export interface Budget {
  /**
   * Takes note of a failed attempt: waits its back-off and says `true`, or says `false` at once if that was the last
   * attempt. Interruption during the wait is an interruption.
   */
  readonly again: (failure: unknown) => Effect.Effect<boolean>
  /** Takes note of progress: the failures so far are forgotten and the back-off starts from its beginning. */
  readonly progress: Effect.Effect<void>
  /**
   * Runs an effect, and runs it again after each transient failure while the budget lasts. `isTransient` widens or
   * replaces the rule, for instance for a lost session (push.md §5.1) or for a value of the caller's own error type
   * that stands for an answer to be asked for again (pull.md §3).
   *
   * A failure that is not transient, and every failure if retries are off, comes back as it is. When the attempts are
   * used up: `RetryExhausted` if the last failure is a `TransportError` or a `Refusal`, else that failure as it is.
   */
  readonly retry: <A, E, R>(
    self: Effect.Effect<A, E, R>,
    options?: { readonly isTransient?: ((failure: E) => boolean) | undefined } | undefined
  ) => Effect.Effect<A, E | RetryExhausted, R>
}

/**
 * A fresh budget for one request, or for the push as a whole.
 *
 * @since 0.1.0
 * @category constructors
 */
export const budget = (policy: RetryPolicy, request: SyncRequest): Effect.Effect<Budget> =>
  Effect.map(Schedule.driver(schedule(policy)), (driver) => {
    let failures = 0
    const again = (failure: unknown): Effect.Effect<boolean> =>
      Effect.suspend(() => {
        failures += 1
        return Effect.match(driver.next(failure), { onFailure: () => false, onSuccess: () => true })
      })
    const exhausted = <E>(failure: E): Effect.Effect<never, E | RetryExhausted> => {
      if (!policy.enabled) return Effect.fail(failure)
      if (!(failure instanceof Refusal || failure instanceof TransportError)) return Effect.fail(failure)
      return raise((operation) =>
        new RetryExhausted({
          operation,
          request,
          attempts: failures,
          cause: failure instanceof Refusal ? transportErrorOf(failure, operation) : failure
        })
      )
    }
    return {
      again,
      progress: Effect.suspend(() => {
        failures = 0
        return driver.reset
      }),
      retry: <A, E, R>(
        self: Effect.Effect<A, E, R>,
        options?: { readonly isTransient?: ((failure: E) => boolean) | undefined }
      ) => {
        const isRepeated = options?.isTransient ?? isTransient
        const attempt: Effect.Effect<A, E | RetryExhausted, R> = Effect.catchAll(
          self,
          (failure) =>
            isRepeated(failure)
              ? Effect.flatMap(again(failure), (more) => more ? attempt : exhausted(failure))
              : Effect.fail(failure)
        )
        return attempt
      }
    }
  })

/**
 * Repeats one exchange, body and decoding included, as the policy says (retry-and-loops.md §2).
 *
 * @since 0.1.0
 * @category combinators
 */
export const retry = (policy: RetryPolicy, request: SyncRequest) =>
<A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E | RetryExhausted, R> => Effect.flatMap(budget(policy, request), (fresh) => fresh.retry(self))
