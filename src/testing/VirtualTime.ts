/**
 * Time that passes only when nothing else can happen.
 *
 * `TestClock` waits for real timers on every adjustment (a millisecond or more) and wakes all sleepers of an instant
 * together. A simulation makes thousands of steps and must repeat exactly, so its clock wakes one sleeper at a time, in
 * an order that the seed decides, and never waits.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import * as Prng from "./Prng.js"

/**
 * Every fiber waits for something that will never happen: no sleeper is left that time could wake. Or, if `timedOut`, it
 * has gone on for longer than the limit.
 *
 * @since 0.1.0
 * @category errors
 */
export class Stuck extends Data.TaggedError("Stuck")<{
  readonly afterMillis: number
  readonly timedOut?: boolean | undefined
}> {
  override get message(): string {
    return this.timedOut === true
      ? `no end after ${this.afterMillis} ms of virtual time`
      : `nothing can go on after ${this.afterMillis} ms of virtual time`
  }
}

interface Sleeper {
  readonly at: number
  readonly order: number
  readonly wake: () => void
}

/** Where virtual time begins: a whole second, so that printed times are easy to read. */
const beginning = 1_700_000_000_000

interface VirtualClock extends Clock.Clock {
  /** Moves to the next sleeper and wakes it; `false` if nobody sleeps. */
  readonly wakeNext: () => boolean
}

const makeClock = (prng: Prng.Prng): VirtualClock => {
  let now = beginning
  const sleepers: Array<Sleeper> = []
  const before = (left: Sleeper, right: Sleeper) => left.at - right.at || left.order - right.order
  const unsafeCurrentTimeNanos = () => BigInt(Math.floor(now)) * 1_000_000n
  return {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => Math.floor(now),
    unsafeCurrentTimeNanos,
    currentTimeMillis: Effect.sync(() => Math.floor(now)),
    currentTimeNanos: Effect.sync(unsafeCurrentTimeNanos),
    sleep: (duration) =>
      Effect.async<void>((resume) => {
        const millis = Duration.toMillis(duration)
        if (millis === Number.POSITIVE_INFINITY) return
        const sleeper: Sleeper = {
          at: now + Math.max(0, millis),
          order: prng.next(),
          wake: () => resume(Effect.void)
        }
        const place = sleepers.findIndex((other) => before(sleeper, other) < 0)
        sleepers.splice(place < 0 ? sleepers.length : place, 0, sleeper)
        return Effect.sync(() => {
          const index = sleepers.indexOf(sleeper)
          if (index >= 0) sleepers.splice(index, 1)
        })
      }),
    wakeNext: () => {
      const next = sleepers.shift()
      if (next === undefined) return false
      now = Math.max(now, next.at)
      next.wake()
      return true
    }
  }
}

/**
 * The same time with a wall clock of its own, which `jumped` says to be so many milliseconds fast. What is slept and
 * measured monotonically (nanoseconds) is not affected, as with the clock of a real machine that is set.
 *
 * @since 0.1.0
 * @category clocks
 */
export const wallClock = (clock: Clock.Clock, jumped: () => number): Clock.Clock => ({
  [Clock.ClockTypeId]: Clock.ClockTypeId,
  unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + jumped(),
  currentTimeMillis: Effect.map(clock.currentTimeMillis, (millis) => millis + jumped()),
  unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
  currentTimeNanos: clock.currentTimeNanos,
  sleep: (duration) => clock.sleep(duration)
})

// All work that is not a matter of time consists of micro-tasks, which are done before the event loop turns.
// eslint-disable-next-line no-restricted-globals
const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** Turns that a promise of the platform (a body that is read) may take. */
const patience = 50

/**
 * Runs an effect in virtual time, with randomness from the same seed: whenever nothing can go on, the clock moves to the
 * next sleeper. Fails with {@link Stuck} if the effect waits for something that no passing of time brings about, or goes
 * on for longer than `limit` of virtual time (default: for ever).
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { VirtualTime } from "oversqlite/testing"
 *
 * // Takes no time at all.
 * export const hour = VirtualTime.run(Effect.sleep("1 hour"), { seed: "example" })
 * ```
 *
 * @since 0.1.0
 * @category running
 */
export const run = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  options: { readonly seed: string | number; readonly limit?: Duration.DurationInput | undefined }
): Effect.Effect<A, E | Stuck, R> =>
  Effect.gen(function*() {
    const clock = makeClock(Prng.make(options.seed, "time"))
    const fiber = yield* self.pipe(
      Effect.withClock(clock),
      Effect.withRandom(Random.make(`${options.seed}`)),
      Effect.withScheduler(new Scheduler.MixedScheduler(Number.MAX_SAFE_INTEGER)),
      Effect.fork
    )
    const limit = options.limit === undefined ? Number.POSITIVE_INFINITY : Duration.toMillis(options.limit)
    let waited = 0
    for (;;) {
      yield* turn
      if (fiber.unsafePoll() !== null) return yield* Fiber.join(fiber)
      const afterMillis = clock.unsafeCurrentTimeMillis() - beginning
      const timedOut = afterMillis > limit
      if (!timedOut && clock.wakeNext()) waited = 0
      else if (timedOut || ++waited > patience) {
        yield* Effect.fork(Fiber.interrupt(fiber))
        return yield* new Stuck({ afterMillis, timedOut })
      }
    }
  })
