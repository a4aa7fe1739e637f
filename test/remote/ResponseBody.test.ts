import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, FastCheck, Fiber, TestClock } from "effect"
import type { RemoteOptions } from "../../src/remote/SyncApi.js"
import { SyncApi } from "../../src/remote/SyncApi.js"
import type { Handler } from "./ScriptedServer.js"
import { bodyOf, caller, codeOf, remote, scriptedServer } from "./ScriptedServer.js"

const pull = SyncApi.pipe(
  Effect.flatMap((api) => api.pull(caller, { afterBundleSeq: 0, maxBundles: 10, targetBundleSeq: undefined }))
)

/** One pull without retries against a given answer. */
const pullFrom = (handler: Handler, options: Partial<RemoteOptions> = {}) =>
  Effect.provide(pull, remote(scriptedServer(handler), { retryPolicy: { enabled: false }, ...options }))

/** A valid page of exactly so many bytes. */
const pageOf = (bytes: number): string => {
  const page = `{"stable_bundle_seq":7,"padding":""}`
  return page.replace(`""`, `"${"x".repeat(bytes - page.length)}"`)
}

describe("the time limit for headers [retry-and-loops.md §2.1]", () => {
  it.effect("ends a request without an answer after 120 s", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(Effect.exit(pullFrom(() => Effect.never)))
      yield* TestClock.adjust("119999 millis")
      assert.isNull(fiber.unsafePoll())
      yield* TestClock.adjust("1 millis")
      const failure = yield* Effect.flip(Effect.flatten(Fiber.join(fiber)))
      assert.strictEqual(codeOf(failure), "TransportError(timeout)")
    }))

  it.effect("follows its setting and counts each attempt alone", () =>
    Effect.gen(function*() {
      const server = scriptedServer((_received, index) =>
        index < 2 ? Effect.never : Effect.delay(Effect.succeed(new Response(pageOf(100))), "900 millis")
      )
      const fiber = yield* pull.pipe(
        Effect.provide(remote(server, {
          requestTimeout: "1 second",
          retryPolicy: { enabled: true, jitterFraction: 0 }
        })),
        Effect.fork
      )
      yield* TestClock.adjust("3200 millis")
      const page = yield* Fiber.join(fiber)
      assert.strictEqual(page.body.stable_bundle_seq, 7)
      assert.lengthOf(server.received, 3)
    }))

  it.effect("interrupts the transport", () =>
    Effect.gen(function*() {
      let interrupted = false
      const fiber = yield* Effect.fork(Effect.exit(pullFrom(() =>
        Effect.onInterrupt(Effect.never, () =>
          Effect.sync(() => {
            interrupted = true
          }))
      )))
      yield* TestClock.adjust("120 seconds")
      yield* Fiber.join(fiber)
      assert.isTrue(interrupted)
    }))
})

describe("the time limit within a body [retry-and-loops.md §2.1]", () => {
  it.effect.each([200, 409])(
    "ends a stalled body of status %i after 30 s and lets go of it",
    (status) =>
      Effect.gen(function*() {
        const body = bodyOf([`{"stable_`], "stall")
        const fiber = yield* Effect.fork(Effect.exit(pullFrom(() => new Response(body.stream, { status }))))
        yield* TestClock.adjust("29999 millis")
        assert.isNull(fiber.unsafePoll())
        yield* TestClock.adjust("1 millis")
        const failure = yield* Effect.flip(Effect.flatten(Fiber.join(fiber)))
        assert.strictEqual(codeOf(failure), "TransportError(timeout)")
        assert.isTrue(body.state.cancelled)
      })
  )

  it.effect("ends a stalled body that was announced as a small one", () =>
    Effect.gen(function*() {
      const body = bodyOf([`{"stable_`], "stall")
      const fiber = yield* Effect.fork(Effect.exit(pullFrom(
        () => new Response(body.stream, { headers: { "content-length": "100" } }),
        { bodyIdleTimeout: "2 seconds" }
      )))
      yield* TestClock.adjust("2 seconds")
      const failure = yield* Effect.flip(Effect.flatten(Fiber.join(fiber)))
      assert.strictEqual(codeOf(failure), "TransportError(timeout)")
    }))

  it.effect("does not limit a body whose pieces keep coming", () =>
    Effect.gen(function*() {
      const page = pageOf(40)
      let next = 0
      const wake: Array<() => void> = []
      const stream = new ReadableStream<Uint8Array>({
        pull: (controller) =>
          new Promise((resolve) => {
            wake.push(() => {
              const piece = page.charAt(next++)
              if (piece === "") controller.close()
              else controller.enqueue(new TextEncoder().encode(piece))
              resolve()
            })
          })
      }, { highWaterMark: 0 })
      const fiber = yield* Effect.fork(pullFrom(() => new Response(stream)))
      for (let piece = 0; piece <= page.length; piece++) {
        yield* TestClock.adjust("29 seconds")
        wake.shift()?.()
      }
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.text, page)
    }))
})

describe("the size limit [retry-and-loops.md §2.1]", () => {
  const limit = 20_000
  const bodies: ReadonlyArray<readonly [string, number, boolean, string]> = [
    ["announced, as large as allowed", limit, true, "ok"],
    ["announced, one byte more", limit + 1, true, "TransportError(response_too_large)"],
    ["not announced, as large as allowed", limit, false, "ok"],
    ["not announced, one byte more", limit + 1, false, "TransportError(response_too_large)"]
  ]
  it.effect.each(bodies)("%s: %i bytes", ([_name, bytes, isAnnounced, expected]) =>
    Effect.gen(function*() {
      const page = pageOf(bytes)
      const pieces = [page.slice(0, 7000), page.slice(7000, 14_000), page.slice(14_000)]
      const body = bodyOf(pieces, "close")
      const outcome = yield* pullFrom(
        () => new Response(body.stream, isAnnounced ? { headers: { "content-length": String(bytes) } } : {}),
        { maxResponseBytes: limit }
      ).pipe(Effect.match({ onFailure: codeOf, onSuccess: ({ text }) => text === page ? "ok" : "other text" }))
      assert.strictEqual(outcome, expected)
      assert.strictEqual(body.state.cancelled, expected !== "ok")
    }))

  it.effect("stops reading an announced monster at its first piece", () =>
    Effect.gen(function*() {
      const body = bodyOf(["{", `"a"`], "stall")
      const failure = yield* Effect.flip(pullFrom(
        () => new Response(body.stream, { headers: { "content-length": String(65 * 1024 * 1024) } })
      ))
      assert.strictEqual(codeOf(failure), "TransportError(response_too_large)")
      assert.isTrue(body.state.cancelled)
    }))

  it.effect("is 64 MiB unless set", () =>
    Effect.gen(function*() {
      const mebibyte = new Uint8Array(1024 * 1024).fill(0x20)
      const page = new TextEncoder().encode(pageOf(1000))
      const fits = [...Array.from({ length: 63 }, () => mebibyte), page]
      const result = yield* pullFrom(() => new Response(bodyOf(fits, "close").stream))
      assert.strictEqual(result.body.stable_bundle_seq, 7)
      const failure = yield* Effect.flip(
        pullFrom(() => new Response(bodyOf([mebibyte, ...fits], "close").stream), { maxResponseBytes: -1 })
      )
      assert.strictEqual(codeOf(failure), "TransportError(response_too_large)")
    }))

  const refusals: ReadonlyArray<readonly [number, string]> = [
    [409, "TransportError(response_too_large)"],
    [500, "TransportError(response_too_large)"],
    [429, "Refusal(429)"],
    [502, "Refusal(502)"],
    [503, "Refusal(503)"],
    [504, "Refusal(504)"]
  ]
  it.effect.each(refusals)("holds for the body of status %i too: %s", ([status, expected]) =>
    Effect.gen(function*() {
      const body = bodyOf([`{"error":"x","message":"${"m".repeat(1000)}"}`], "stall")
      const failure = yield* Effect.flip(
        pullFrom(() => new Response(body.stream, { status }), { maxResponseBytes: 500 })
      )
      assert.strictEqual(codeOf(failure), expected)
      assert.isTrue(body.state.cancelled)
    }))
})

describe("the text of a body", () => {
  const bytes = (text: string) => new TextEncoder().encode(text)
  const snowman = bytes(`{"stable_bundle_seq":1,"x":"☃"}`)
  const cases: ReadonlyArray<readonly [string, () => Response, string]> = [
    [
      "shorter than announced",
      () => new Response(`{"stable_bundle_seq":1}`, { headers: { "content-length": "200" } }),
      "TransportError(body_interrupted)"
    ],
    [
      "shorter than announced, a large one",
      () => new Response(pageOf(50_000), { headers: { "content-length": "50001" } }),
      "TransportError(body_interrupted)"
    ],
    [
      "broken off",
      () => new Response(bodyOf([`{"stable_bundle_seq":1}`], "break").stream),
      "TransportError(body_interrupted)"
    ],
    [
      "broken off before its first byte",
      () => new Response(bodyOf([], "break").stream, { headers: { "content-length": "20" } }),
      "TransportError(body_interrupted)"
    ],
    [
      "ended inside of a character",
      () => new Response(snowman.slice(0, snowman.indexOf(0xe2) + 2)),
      "TransportError(body_interrupted)"
    ],
    [
      "not UTF-8",
      () => new Response(new Uint8Array([0x7b, 0xff, 0xfe, 0x7d])),
      "ProtocolError(invalid_json)"
    ],
    [
      "unpacked by the transport, so that the announced length is another one's",
      () => new Response(`{"stable_bundle_seq":1}`, { headers: { "content-length": "9", "content-encoding": "gzip" } }),
      "1"
    ],
    [
      "announced with nonsense",
      () => new Response(`{"stable_bundle_seq":1}`, { headers: { "content-length": "many" } }),
      "1"
    ],
    [
      "behind a byte order mark",
      () => new Response(new Uint8Array([0xef, 0xbb, 0xbf, ...bytes(`{"stable_bundle_seq":1}`)])),
      "1"
    ],
    ["absent", () => new Response(null), "ProtocolError(invalid_json)"]
  ]
  it.effect.each(cases)("%s [retry-and-loops.md §1.1]", ([_name, response, expected]) =>
    Effect.gen(function*() {
      const outcome = yield* pullFrom(response).pipe(
        Effect.match({ onFailure: codeOf, onSuccess: ({ body }) => String(body.stable_bundle_seq) })
      )
      assert.strictEqual(outcome, expected)
    }))

  it.effect.prop(
    "arrives the same however it is cut into pieces [DESIGN D7]",
    {
      value: FastCheck.string({ unit: "binary" }),
      cuts: FastCheck.array(FastCheck.nat(200), { maxLength: 5 })
    },
    ({ cuts, value }) =>
      Effect.gen(function*() {
        const text = `{"stable_bundle_seq":1,"x":${JSON.stringify(value)},"n":9007199254740993,"r":1.0}\n`
        const all = bytes(text)
        const marks = [0, ...cuts.map((cut) => cut % all.length).sort((left, right) => left - right), all.length]
        const pieces = marks.slice(1).map((end, index) => all.slice(marks[index], end)).filter(({ length }) =>
          length > 0
        )
        const page = yield* pullFrom(() => new Response(bodyOf(pieces, "close").stream))
        assert.strictEqual(page.text, text)
      }),
    { fastCheck: { seed: 11, numRuns: 100 } }
  )

  it.effect("lets go of the body when the caller is interrupted [errors.md rule 5]", () =>
    Effect.gen(function*() {
      const body = bodyOf([`{"stable_`], "stall")
      const fiber = yield* Effect.fork(pullFrom(() => new Response(body.stream)))
      yield* TestClock.adjust("1 second")
      const exit = yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.isInterrupted(exit))
      assert.isTrue(body.state.cancelled)
    }))
})
