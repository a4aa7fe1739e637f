import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Either, Fiber, TestClock } from "effect"
import * as OperationLock from "../../src/engine/OperationLock.js"
import { before } from "./support/Network.js"
import { turn } from "./support/Time.js"
import { makeWorld } from "./support/World.js"

describe("one operation at a time [lifecycle.md §1.3]", () => {
  it.scoped("an operation that is refused is told which one runs, also if both have started in the same moment", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { sync } = yield* world.attached({ onBusy: "fail" })
      const gate = yield* Deferred.make<void>()
      yield* world.network.fault("pull", before(Deferred.await(gate)))
      // Two callers without Effect, in the same moment.
      // @effect-diagnostics-next-line runEffectInsideEffect:off
      const calls = [sync.pullToStable, sync.rebuild].map((call) => Effect.runPromise(Effect.either(call)))
      for (let turns = 0; turns < 20; turns++) yield* turn
      yield* Deferred.succeed(gate, undefined)
      const outcomes = yield* Effect.promise(() => Promise.all(calls))
      const refusals = outcomes.filter(Either.isLeft).map(({ left }) => left)
      assert.strictEqual(refusals.length, 1)
      assert.deepInclude(refusals[0], {
        _tag: "SyncOperationInProgress",
        operation: "rebuild",
        runningOperation: "pullToStable"
      })
    }))

  it.effect("waits in order of arrival, however often others come and go", () =>
    Effect.gen(function*() {
      const lock = yield* OperationLock.make
      const order: Array<number> = []
      const fibers = yield* Effect.forEach([0, 1, 2, 3, 4, 5], (place) =>
        Effect.fork(lock.withLock(Effect.zipRight(
          Effect.sync(() => order.push(place)),
          Effect.sleep("1 second")
        ))))
      yield* TestClock.adjust("1500 millis")
      const [, , third, , fifth] = fibers
      if (third !== undefined) yield* Fiber.interrupt(third)
      if (fifth !== undefined) yield* Fiber.interrupt(fifth)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(order, [0, 1, 3, 5])
      assert.strictEqual(yield* lock.withLock(Effect.succeed("free")), "free")
    }))
})
