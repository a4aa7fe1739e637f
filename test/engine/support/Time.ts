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
