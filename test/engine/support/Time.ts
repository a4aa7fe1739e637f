/** Waiting under the test clock. */
import { Effect, Fiber, TestClock } from "effect"

/** Lets work that is not a matter of the clock (promises, turns of the event loop) go on. */
export const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** Runs an effect while as much time passes as it waits for. */
export const whileTimePasses = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(self)
    for (;;) {
      for (let turns = 0; turns < 5; turns++) yield* turn
      if (fiber.unsafePoll() !== null) return yield* Fiber.join(fiber)
      yield* TestClock.adjust("1 second")
    }
  })

/** Lets time pass in steps of some seconds, each followed by time for work that is not a matter of the clock. */
export const secondsPass = (seconds: number, step = 1): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let passed = 0; passed <= seconds; passed += step) {
      if (passed > 0) yield* TestClock.adjust(step * 1000)
      for (let turns = 0; turns < 20; turns++) yield* turn
    }
  })
