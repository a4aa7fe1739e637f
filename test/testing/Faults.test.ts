import { HttpClient, HttpClientResponse } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Either, Fiber, Layer, TestClock } from "effect"
import { Faults } from "oversqlite/testing"

/** A server that counts what reaches it. */
const counting = () => {
  const seen = { requests: 0 }
  const client = HttpClient.make((request) =>
    Effect.sync(() => {
      seen.requests++
      return HttpClientResponse.fromWeb(request, new Response(JSON.stringify({ answer: seen.requests })))
    })
  )
  return { seen, client }
}

const ask = (kind: Faults.FaultKind) =>
  Effect.gen(function*() {
    const { client, seen } = counting()
    const faulty = yield* HttpClient.HttpClient.pipe(
      Effect.provide(
        Faults.layer({ seed: 1, chance: 1, faults: [kind] }).pipe(
          Layer.provide(Layer.succeed(HttpClient.HttpClient, client))
        )
      )
    )
    const fiber = yield* Effect.fork(Effect.either(Effect.flatMap(
      faulty.get("http://localhost/sync/pull"),
      (response) => Effect.map(response.text, (text) => ({ status: response.status, text, headers: response.headers }))
    )))
    yield* TestClock.adjust("5 minutes")
    return { ...seen, answer: yield* Fiber.join(fiber) }
  })

const answerOf = (kind: Faults.FaultKind) =>
  Effect.map(ask(kind), ({ answer, requests }) => ({ requests, ...Either.getOrThrow(answer) }))

describe("faults", () => {
  it.effect("lose a request before, or its answer after the server has acted", () =>
    Effect.gen(function*() {
      const lost = yield* ask("request lost")
      assert.isTrue(Either.isLeft(lost.answer))
      assert.strictEqual(lost.requests, 0)
      const unheard = yield* ask("answer lost")
      assert.isTrue(Either.isLeft(unheard.answer))
      assert.strictEqual(unheard.requests, 1)
    }))

  it.effect("send a request twice, and deliver either answer", () =>
    Effect.gen(function*() {
      const second = yield* answerOf("duplicated")
      assert.deepStrictEqual([second.requests, second.text], [2, "{\"answer\":2}"])
      const first = yield* answerOf("duplicated late")
      assert.deepStrictEqual([first.requests, first.text], [2, "{\"answer\":1}"])
    }))

  it.scoped("let a request arrive behind later ones, instead of the first time or as well", () =>
    Effect.gen(function*() {
      for (const [kind, atOnce] of [["overtaken", 0], ["duplicated after others", 1]] as const) {
        const { client, seen } = counting()
        const layer = Faults.layer({ seed: 1, chance: 1, faults: [kind] })
        const context = yield* Layer.build(Layer.provide(layer, Layer.succeed(HttpClient.HttpClient, client)))
        const faulty = Context.get(context, HttpClient.HttpClient)
        const answer = yield* Effect.either(faulty.get("http://localhost/sync/pull"))
        assert.strictEqual(Either.isRight(answer), atOnce === 1)
        assert.strictEqual(seen.requests, atOnce)
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual(seen.requests, atOnce + 1)
      }
    }))

  it.effect("cut a body off, or destroy it", () =>
    Effect.gen(function*() {
      const short = yield* answerOf("truncated")
      assert.isBelow(short.text.length, "{\"answer\":1}".length)
      assert.isTrue("{\"answer\":1}".startsWith(short.text))
      const corrupt = yield* answerOf("corrupted")
      assert.strictEqual(corrupt.text.length, "{\"answer\":1}".length)
      assert.throws(() => JSON.parse(corrupt.text))
    }))

  it.effect("answer with a status, with or without Retry-After, in place of the server", () =>
    Effect.gen(function*() {
      for (
        const [kind, status, retryAfter] of [
          ["429", 429, "3"],
          ["500", 500, undefined],
          ["503", 503, undefined],
          ["503 with Retry-After", 503, "7"],
          ["expired token", 401, undefined]
        ] as const
      ) {
        const answer = yield* answerOf(kind)
        assert.deepStrictEqual([answer.requests, answer.status, answer.headers["retry-after"]], [0, status, retryAfter])
      }
    }))

  it.effect("take time by the clock of the test", () =>
    Effect.gen(function*() {
      const late = yield* answerOf("delayed")
      assert.deepStrictEqual([late.requests, late.status], [1, 200])
    }))

  it.effect("happen as often as they are told, the same for the same seed", () =>
    Effect.gen(function*() {
      const pattern = (seed: number, chance: number) =>
        Effect.gen(function*() {
          const { client } = counting()
          const layer = Faults.layer({ seed, chance, faults: ["request lost"] }).pipe(
            Layer.provide(Layer.succeed(HttpClient.HttpClient, client))
          )
          const faulty = yield* Effect.provide(HttpClient.HttpClient, layer)
          const ends = yield* Effect.forEach(
            Array.from({ length: 200 }),
            () => Effect.either(faulty.get("http://localhost/sync/pull"))
          )
          return ends.map(Either.isLeft)
        })
      const first = yield* pattern(7, 0.3)
      assert.deepStrictEqual(yield* pattern(7, 0.3), first)
      assert.notDeepEqual(yield* pattern(8, 0.3), first)
      const share = first.filter(Boolean).length / first.length
      assert.isTrue(share > 0.2 && share < 0.4)
      assert.isFalse((yield* pattern(7, 0)).includes(true))
    }))
})
