import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Either, Random } from "effect"
import { VirtualTime } from "oversqlite/testing"

describe("virtual time", () => {
  it.effect("passes when nothing else can happen, and wakes sleepers in order", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const sleeper = (name: string, hours: number) =>
        Effect.zipRight(Effect.sleep(`${hours} hours`), Effect.sync(() => void order.push(name)))
      const passed = yield* VirtualTime.run(
        Effect.gen(function*() {
          const began = yield* Clock.currentTimeMillis
          yield* Effect.all([sleeper("late", 30), sleeper("early", 2)], { concurrency: "unbounded" })
          return (yield* Clock.currentTimeMillis) - began
        }),
        { seed: 1 }
      )
      assert.deepStrictEqual(order, ["early", "late"])
      assert.strictEqual(passed, 30 * 3_600_000)
    }))

  it.effect("forgets sleepers that were interrupted", () =>
    Effect.gen(function*() {
      const passed = yield* VirtualTime.run(
        Effect.gen(function*() {
          const began = yield* Clock.currentTimeMillis
          yield* Effect.timeoutOption(Effect.sleep("1 day"), "1 minute")
          return (yield* Clock.currentTimeMillis) - began
        }),
        { seed: 1 }
      )
      assert.strictEqual(passed, 60_000)
    }))

  it.effect("keeps sleep and monotonic time apart from a wall clock that jumps", () =>
    Effect.gen(function*() {
      const passed = yield* VirtualTime.run(
        Effect.gen(function*() {
          let jumped = 0
          const clock = VirtualTime.wallClock(yield* Effect.clock, () => jumped)
          return yield* Effect.withClock(
            Effect.gen(function*() {
              const wall = yield* Clock.currentTimeMillis
              const monotonic = yield* Clock.currentTimeNanos
              yield* Effect.sleep("1 minute")
              jumped = -3_600_000
              const later = yield* Clock.currentTimeMillis
              return [later - wall, Number(((yield* Clock.currentTimeNanos) - monotonic) / 1_000_000n)]
            }),
            clock
          )
        }),
        { seed: 1 }
      )
      assert.deepStrictEqual(passed, [60_000 - 3_600_000, 60_000])
    }))

  it.effect("fails when everybody waits for ever", () =>
    Effect.gen(function*() {
      const ended = yield* Effect.either(
        VirtualTime.run(Effect.flatMap(Deferred.make<void>(), Deferred.await), { seed: 1 })
      )
      assert.strictEqual(Either.isLeft(ended) && ended.left._tag, "Stuck")
    }))

  it.effect("makes chance repeat", () =>
    Effect.gen(function*() {
      const throws = VirtualTime.run(Effect.all([Random.next, Random.next]), { seed: "dice" })
      assert.deepStrictEqual(yield* throws, yield* throws)
      assert.notDeepEqual(yield* throws, yield* VirtualTime.run(Effect.all([Random.next, Random.next]), { seed: 2 }))
    }))
})
