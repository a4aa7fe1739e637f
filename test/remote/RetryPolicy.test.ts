import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Duration, Effect, FastCheck, Fiber, Option, Random, TestClock } from "effect"
import type { RetryExhausted } from "../../src/contract/SyncError.js"
import { ProtocolError, TransportError } from "../../src/contract/SyncError.js"
import { CurrentOperation } from "../../src/contract/SyncOperation.js"
import { Refusal } from "../../src/remote/RequestFailure.js"
import * as RetryPolicy from "../../src/remote/RetryPolicy.js"

const status = (code: number, retryAfter?: Duration.DurationInput) =>
  new Refusal({
    request: "pull_request",
    status: code,
    serverCode: "some_code",
    body: undefined,
    ...(retryAfter === undefined ? {} : { retryAfter: Duration.decode(retryAfter) })
  })

const transport = (code: TransportError["code"], httpStatus?: number) =>
  new TransportError({
    operation: "sync",
    request: "pull_request",
    code,
    ...(httpStatus === undefined ? {} : { status: httpStatus })
  })

/** Runs attempts that fail in a given order and says at which milliseconds they began, and how it ended. */
const timeline = <E, A>(
  policy: RetryPolicy.RetryPolicyOptions,
  attempts: ReadonlyArray<Effect.Effect<A, E>>,
  seed = "seed"
) =>
  Effect.gen(function*() {
    const begun: Array<number> = []
    const attempt = Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const effect = attempts[Math.min(begun.length, attempts.length - 1)]
      begun.push(now)
      return effect === undefined ? yield* Effect.dieMessage("no attempt left") : yield* effect
    })
    const fiber = yield* Effect.fork(
      Effect.either(RetryPolicy.retry(RetryPolicy.make(policy), "pull_request")(attempt)).pipe(
        Effect.withRandom(Random.make(seed))
      )
    )
    yield* TestClock.adjust("1 hour")
    return { begun, end: yield* Fiber.join(fiber) }
  })

const plain = { enabled: true, jitterFraction: 0 } as const

describe("settings", () => {
  const normal = (options?: RetryPolicy.RetryPolicyOptions) => {
    const policy = RetryPolicy.make(options)
    return [
      policy.enabled,
      policy.maxAttempts,
      Duration.toMillis(policy.initialBackoff),
      Duration.toMillis(policy.maxBackoff),
      policy.jitterFraction,
      Duration.toMillis(policy.maxRetryAfter)
    ]
  }
  const cases: ReadonlyArray<
    readonly [string, RetryPolicy.RetryPolicyOptions | undefined, ReadonlyArray<boolean | number>]
  > = [
    ["no policy is the default policy", undefined, [true, 3, 100, 1000, 0.2, 30_000]],
    ["a disabled policy", { enabled: false }, [false, 3, 100, 1000, 0.2, 30_000]],
    ["values that make no sense", {
      enabled: true,
      maxAttempts: 0,
      initialBackoff: 0,
      maxBackoff: -5,
      jitterFraction: Number.NaN,
      maxRetryAfter: 0
    }, [true, 3, 100, 1000, 0.2, 30_000]],
    ["a number of attempts that is none", { enabled: true, maxAttempts: Number.NaN }, [
      true,
      3,
      100,
      1000,
      0.2,
      30_000
    ]],
    ["a negative number of attempts", { enabled: true, maxAttempts: -1 }, [true, 3, 100, 1000, 0.2, 30_000]],
    ["one attempt", { enabled: true, maxAttempts: 1 }, [true, 1, 100, 1000, 0.2, 30_000]],
    ["a longest wait below the first", { enabled: true, initialBackoff: "2 seconds" }, [
      true,
      3,
      2000,
      2000,
      0.2,
      30_000
    ]],
    ["no jitter", { enabled: true, jitterFraction: 0 }, [true, 3, 100, 1000, 0, 30_000]],
    ["too little jitter", { enabled: true, jitterFraction: -3 }, [true, 3, 100, 1000, 0, 30_000]],
    ["too much jitter", { enabled: true, jitterFraction: 7 }, [true, 3, 100, 1000, 1, 30_000]]
  ]
  it.each(cases)("%s [retry-and-loops.md §1]", (_name, options, expected) => {
    assert.deepStrictEqual(normal(options), expected)
  })

  it("an object without the member `enabled` switches retries off [retry-and-loops.md §1]", () => {
    const untyped: RetryPolicy.RetryPolicyOptions = JSON.parse(`{"maxAttempts":5}`)
    assert.isFalse(RetryPolicy.make(untyped).enabled)
  })
})

describe("what is repeated [retry-and-loops.md §1.1]", () => {
  for (const code of [429, 502, 503, 504]) {
    it(`status ${code} is`, () => {
      assert.isTrue(RetryPolicy.isTransient(status(code)))
      assert.isTrue(RetryPolicy.isTransient(transport("status", code)))
    })
  }
  for (const code of [204, 301, 400, 401, 403, 404, 405, 408, 409, 410, 500, 501, 505]) {
    it(`status ${code} is not`, () => {
      assert.isFalse(RetryPolicy.isTransient(status(code)))
      assert.isFalse(RetryPolicy.isTransient(transport("status", code)))
    })
  }
  for (const code of ["connection", "timeout", "body_interrupted"] as const) {
    it(`a transport failure ${code} is`, () => assert.isTrue(RetryPolicy.isTransient(transport(code))))
  }
  for (const code of ["credentials", "response_too_large"] as const) {
    it(`a transport failure ${code} is not`, () => assert.isFalse(RetryPolicy.isTransient(transport(code))))
  }
  it("a broken protocol and foreign values are not", () => {
    assert.isFalse(
      RetryPolicy.isTransient(new ProtocolError({ operation: "sync", request: "pull_request", rule: "invalid_json" }))
    )
    assert.isFalse(RetryPolicy.isTransient(new Error("connection reset by peer")))
    assert.isFalse(RetryPolicy.isTransient(undefined))
  })
})

describe("waits", () => {
  it.effect("double from the first to the longest [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const { begun } = yield* timeline({ ...plain, maxAttempts: 7 }, [Effect.fail(status(502))])
      assert.deepStrictEqual(begun, [0, 100, 300, 700, 1500, 2500, 3500])
    }))

  it.effect("follow the settings [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const { begun } = yield* timeline(
        { ...plain, maxAttempts: 5, initialBackoff: "2 seconds", maxBackoff: "5 seconds" },
        [Effect.fail(transport("connection"))]
      )
      assert.deepStrictEqual(begun, [0, 2000, 6000, 11_000, 16_000])
    }))

  it.effect.prop(
    "vary by the jitter around the back-off, never below zero [retry-and-loops.md §1]",
    { seed: FastCheck.string(), jitterFraction: FastCheck.double({ min: 0, max: 1, noNaN: true }) },
    ({ jitterFraction, seed }) =>
      Effect.gen(function*() {
        const start = yield* Clock.currentTimeMillis
        const { begun } = yield* timeline({ enabled: true, maxAttempts: 4, jitterFraction }, [
          Effect.fail(status(503))
        ], seed)
        const backoffs = [100, 200, 400]
        let before = start
        begun.slice(1).forEach((at, index) => {
          const backoff = backoffs[index] ?? 0
          // Times are whole milliseconds.
          assert.isAtLeast(at - before, Math.floor(backoff * (1 - jitterFraction)) - 1)
          assert.isAtMost(at - before, Math.ceil(backoff * (1 + jitterFraction)) + 1)
          before = at
        })
        assert.strictEqual(begun.length, 4)
      }),
    { fastCheck: { seed: 7, numRuns: 50 } }
  )

  it.effect("come from the Random service, uniformly [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const waits: Array<number> = []
      for (let seed = 0; seed < 200; seed++) {
        const { begun } = yield* timeline({ enabled: true, maxAttempts: 2 }, [Effect.fail(status(503))], `${seed}`)
        waits.push((begun[1] ?? 0) - (begun[0] ?? 0))
      }
      const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length
      assert.approximately(mean, 100, 3)
      assert.isBelow(Math.min(...waits), 83)
      assert.isAbove(Math.max(...waits), 117)
      const again = yield* timeline({ enabled: true, maxAttempts: 2 }, [Effect.fail(status(503))], "0")
      assert.approximately((again.begun[1] ?? 0) - (again.begun[0] ?? 0), waits[0] ?? 0, 0.001)
    }))

  const asked: ReadonlyArray<readonly [number, number, number]> = [
    // status, seconds asked for, wait in milliseconds
    [503, 7, 7000],
    [429, 7, 7000],
    [503, 0, 100],
    [503, 30, 30_000],
    [503, 3600, 30_000],
    [502, 7, 100],
    [504, 7, 100]
  ]
  it.effect.each(asked)(
    "status %i that asks for %i s waits %i ms [retry-and-loops.md §1]",
    ([code, seconds, wait]) =>
      Effect.gen(function*() {
        const { begun } = yield* timeline(plain, [Effect.fail(status(code, `${seconds} seconds`)), Effect.void])
        assert.deepStrictEqual(begun, [0, wait])
      })
  )

  it.effect("what the server asks for has a limit of its own [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const { begun } = yield* timeline({ ...plain, maxRetryAfter: "2 seconds" }, [
        Effect.fail(status(503, "1 minute")),
        Effect.void
      ])
      assert.deepStrictEqual(begun, [0, 2000])
    }))

  it.effect("end with an interruption of the caller [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      let attempts = 0
      const fiber = yield* Effect.suspend(() => {
        attempts++
        return Effect.fail(status(503, "20 seconds"))
      }).pipe(RetryPolicy.retry(RetryPolicy.make(), "pull_request"), Effect.fork)
      yield* TestClock.adjust("10 seconds")
      const exit = yield* Fiber.interrupt(fiber)
      assert.isTrue(exit._tag === "Failure" && Cause.isInterruptedOnly(exit.cause))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(attempts, 1)
    }))
})

describe("the end", () => {
  it.effect("a success ends the attempts [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const { begun, end } = yield* timeline(plain, [Effect.fail(status(503)), Effect.succeed("answer")])
      assert.strictEqual(begun.length, 2)
      assert.deepStrictEqual(end._tag === "Right" ? end.right : end.left, "answer")
    }))

  it.effect("used up: RetryExhausted with the last failure as its cause [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const { begun, end } = yield* timeline<Refusal | TransportError, never>(plain, [
        Effect.fail(transport("connection")),
        Effect.fail(status(502)),
        Effect.fail(status(503, "1 second"))
      ]).pipe(Effect.provideService(CurrentOperation, "pullToStable"))
      assert.strictEqual(begun.length, 3)
      const failure = (end._tag === "Left" ? end.left : undefined) as RetryExhausted
      assert.strictEqual(failure._tag, "RetryExhausted")
      assert.strictEqual(failure.request, "pull_request")
      assert.strictEqual(failure.attempts, 3)
      assert.strictEqual(failure.operation, "pullToStable")
      const cause = failure.cause
      assert.deepStrictEqual(
        [cause._tag, cause.code, cause.status, cause.serverCode, cause.operation, cause.request],
        ["TransportError", "status", 503, "some_code", "pullToStable", "pull_request"]
      )
      assert.strictEqual(Duration.toSeconds(cause.retryAfter ?? Duration.zero), 1)
    }))

  it.effect("a failure that is not repeated comes back as it is [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const final = status(500)
      const { begun, end } = yield* timeline(plain, [Effect.fail(status(503)), Effect.fail(final)])
      assert.strictEqual(begun.length, 2)
      assert.strictEqual(end._tag === "Left" ? end.left : undefined, final)
    }))

  it.effect("switched off: one attempt and its failure as it is [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      for (const failure of [status(503), transport("timeout")]) {
        const { begun, end } = yield* timeline({ enabled: false, maxAttempts: 5 }, [Effect.fail(failure)])
        assert.strictEqual(begun.length, 1)
        assert.strictEqual(end._tag === "Left" ? end.left : undefined, failure)
      }
    }))

  it.effect("one attempt allowed: exhausted after it [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const { begun, end } = yield* timeline({ ...plain, maxAttempts: 1 }, [Effect.fail(status(503))])
      assert.strictEqual(begun.length, 1)
      assert.strictEqual(end._tag === "Left" ? end.left._tag : undefined, "RetryExhausted")
    }))
})

describe("a budget for a flow", () => {
  const run = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(Effect.either(effect))
      yield* TestClock.adjust("1 hour")
      return yield* Fiber.join(fiber)
    })

  it.effect("counts failures in a row: progress starts it again, back-off included [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const waits: Array<number> = []
      yield* run(Effect.gen(function*() {
        const budget = yield* RetryPolicy.budget(RetryPolicy.make(plain), "push_pending")
        const again = Effect.gen(function*() {
          const before = yield* Clock.currentTimeMillis
          const more = yield* budget.again(status(503))
          waits.push(more ? (yield* Clock.currentTimeMillis) - before : -1)
        })
        yield* again
        yield* again
        yield* budget.progress
        yield* again
        yield* again
        yield* again
        yield* again
      }))
      assert.deepStrictEqual(waits, [100, 200, 100, 200, -1, -1])
    }))

  it.effect("names the push as a whole and the request that failed [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const end = yield* run(Effect.flatMap(
        RetryPolicy.budget(RetryPolicy.make(plain), "push_pending"),
        (budget) =>
          budget.retry(Effect.fail(
            new Refusal({
              request: "push_chunk_upload",
              status: 503,
              serverCode: "service_unavailable",
              body: undefined
            })
          ))
      ))
      const failure = (end._tag === "Left" ? end.left : undefined) as RetryExhausted
      assert.deepStrictEqual(
        [failure._tag, failure.request, failure.attempts, failure.cause.request, failure.cause.serverCode],
        ["RetryExhausted", "push_pending", 3, "push_chunk_upload", "service_unavailable"]
      )
    }))

  it.effect("counts attempts since the last progress only [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      let attempts = 0
      const end = yield* run(Effect.flatMap(
        RetryPolicy.budget(RetryPolicy.make(plain), "push_pending"),
        (budget) =>
          budget.retry(Effect.gen(function*() {
            attempts++
            if (attempts <= 4) yield* budget.progress
            return yield* status(503)
          }))
      ))
      // Attempts 1 to 4 move on; the fifth and the sixth follow the fourth failure.
      assert.strictEqual(attempts, 6)
      assert.strictEqual(end._tag === "Left" && end.left._tag === "RetryExhausted" ? end.left.attempts : 0, 3)
    }))

  it.effect("can be told that a final refusal is transient here [push.md §5.1]", () =>
    Effect.gen(function*() {
      const lost = new Refusal({
        request: "push_session_commit",
        status: 404,
        serverCode: "push_session_not_found",
        body: undefined
      })
      let attempts = 0
      const end = yield* run(Effect.flatMap(
        RetryPolicy.budget(RetryPolicy.make(plain), "push_pending"),
        (budget) =>
          budget.retry(
            Effect.suspend(() => {
              attempts++
              return Effect.fail(lost)
            }),
            { isTransient: (failure) => RetryPolicy.isTransient(failure) || failure.status === 404 }
          )
      ))
      assert.strictEqual(attempts, 3)
      const failure = (end._tag === "Left" ? end.left : undefined) as RetryExhausted
      assert.deepStrictEqual([failure._tag, failure.cause.status], ["RetryExhausted", 404])
    }))

  it.effect("gives back a caller's own value when the attempts are used up [pull.md §3]", () =>
    Effect.gen(function*() {
      const stale = { _tag: "StaleCeiling" } as const
      let attempts = 0
      const end = yield* run(Effect.flatMap(
        RetryPolicy.budget(RetryPolicy.make(plain), "pull_request"),
        (budget) =>
          budget.retry(
            Effect.suspend(() => {
              attempts++
              return Effect.fail(stale)
            }),
            { isTransient: () => true }
          )
      ))
      assert.strictEqual(attempts, 3)
      assert.strictEqual(end._tag === "Left" ? end.left : undefined, stale)
    }))

  it.effect("switched off allows nothing [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const budget = yield* RetryPolicy.budget(RetryPolicy.make({ enabled: false }), "push_pending")
      assert.isFalse(yield* budget.again(status(503)))
      assert.deepStrictEqual(yield* Effect.option(budget.retry(Effect.fail(status(503)))), Option.none())
    }))
})
