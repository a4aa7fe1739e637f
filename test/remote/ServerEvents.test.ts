import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, FastCheck, Fiber, Stream, TestClock } from "effect"
import { SyncApi } from "../../src/remote/SyncApi.js"
import type { Handler } from "./ScriptedServer.js"
import { bodyOf, caller, codeOf, json, noConnection, refusal, remote, scriptedServer } from "./ScriptedServer.js"

const event = (seq: number, end = "\n") => `event: bundle${end}data: {"bundle_seq":${seq}}${end}${end}`

/** Reads a watch stream to its failure. */
const watch = (handler: Handler) =>
  Effect.gen(function*() {
    const seen: Array<number> = []
    const api = yield* SyncApi
    const failure = yield* api.watch(caller, 0).pipe(
      Stream.runForEach(({ bundle_seq }) => Effect.sync(() => seen.push(bundle_seq))),
      Effect.flip
    )
    return { seen, failure }
  }).pipe(Effect.provide(remote(scriptedServer(handler))))

const stream = (...pieces: ReadonlyArray<string>) => () =>
  new Response(bodyOf(pieces, "close").stream, { headers: { "content-type": "text/event-stream" } })

describe("events of the watch stream [retry-and-loops.md §5.3]", () => {
  const texts: ReadonlyArray<readonly [string, ReadonlyArray<string>, ReadonlyArray<number>]> = [
    ["heartbeats", [": heartbeat\n\n", event(58), ": heartbeat\n\n", event(59)], [58, 59]],
    ["carriage returns", [event(1, "\r\n"), event(2, "\r\n")], [1, 2]],
    ["no space after the colon", [`event:bundle\ndata:{"bundle_seq":4}\n\n`], [4]],
    ["data of several lines", [`event: bundle\ndata: {"bundle_seq":\ndata: 5}\n\n`], [5]],
    ["id and retry fields", [`id: 7\nretry: 300\n${event(6)}`, event(7), event(8)], [6, 7, 8]],
    ["other events and unnamed ones", [`event: other\ndata: no json\n\ndata: {"bundle_seq":9}\n\n`, event(10)], [10]],
    ["unknown fields", [`colour: red\n${event(11)}`], [11]],
    ["a last event without its blank line", [event(12), `event: bundle\ndata: {"bundle_seq":13}\n`], [12]],
    ["a byte order mark", [`\ufeff${event(14)}`], [14]],
    ["all members", [`event: bundle\ndata: {"bundle_seq":15,"source_id":"s","source_bundle_id":3,"x":1}\n\n`], [15]]
  ]
  it.effect.each(texts)("%s", ([_name, pieces, expected]) =>
    Effect.gen(function*() {
      const { failure, seen } = yield* watch(stream(...pieces))
      assert.deepStrictEqual(seen, expected)
      assert.strictEqual(codeOf(failure), "TransportError(body_interrupted)")
      assert.strictEqual(failure._tag === "TransportError" ? failure.request : "", "bundle_change_watch")
    }))

  it.effect("carry their source, blank and zero when the server does not know it [wire.md §4.8]", () =>
    Effect.gen(function*() {
      const api = yield* SyncApi
      const events = yield* Stream.runCollect(Stream.take(api.watch(caller, 0), 2))
      assert.deepStrictEqual(Chunk.toReadonlyArray(events), [
        { bundle_seq: 1, source_id: "s", source_bundle_id: 3 },
        { bundle_seq: 2, source_id: "", source_bundle_id: 0 }
      ])
    }).pipe(Effect.provide(remote(scriptedServer(
      stream(`event: bundle\ndata: {"bundle_seq":1,"source_id":"s","source_bundle_id":3}\n\n${event(2)}`)
    )))))

  it.effect.prop(
    "are the same however the bytes are cut, with either line ending",
    {
      end: FastCheck.constantFrom("\n", "\r\n"),
      cuts: FastCheck.array(FastCheck.nat(400), { maxLength: 12 })
    },
    ({ cuts, end }) =>
      Effect.gen(function*() {
        const text = [event(1, end), `: heartbeat ☃${end}${end}`, `retry: 1${end}`, event(2, end), event(3, end)].join(
          ""
        )
        const all = new TextEncoder().encode(text)
        const marks = [0, ...cuts.map((cut) => cut % all.length).sort((left, right) => left - right), all.length]
        const pieces = marks.slice(1).map((to, index) => all.slice(marks[index], to)).filter(({ length }) => length > 0)
        const { seen } = yield* watch(() => new Response(bodyOf(pieces, "close").stream))
        assert.deepStrictEqual(seen, [1, 2, 3])
      }),
    { fastCheck: { seed: 3, numRuns: 200 } }
  )

  const broken: ReadonlyArray<readonly [string, string, string]> = [
    ["data that is no JSON", "event: bundle\ndata: {oops\n\n", "ProtocolError(invalid_json)"],
    ["no number", `event: bundle\ndata: {"bundle_seq":"1"}\n\n`, "ProtocolError(field_invalid)"],
    ["no bundle_seq", `event: bundle\ndata: {"source_id":"s"}\n\n`, "ProtocolError(field_invalid)"],
    ["a bundle_seq of zero", `event: bundle\ndata: {"bundle_seq":0}\n\n`, "ProtocolError(field_invalid)"],
    ["a negative bundle_seq", `event: bundle\ndata: {"bundle_seq":-1}\n\n`, "ProtocolError(field_invalid)"]
  ]
  it.effect.each(broken)("end the stream with %s", ([_name, text, expected]) =>
    Effect.gen(function*() {
      const { failure, seen } = yield* watch(stream(event(1), text, event(2)))
      assert.deepStrictEqual(seen, [1])
      assert.strictEqual(codeOf(failure), expected)
    }))

  it.effect("end the stream with a line beyond 1 MiB, in pieces", () =>
    Effect.gen(function*() {
      const piece = "x".repeat(64 * 1024)
      const { failure, seen } = yield* watch(stream(event(1), ...Array.from({ length: 20 }, () => piece)))
      assert.deepStrictEqual(seen, [1])
      assert.strictEqual(codeOf(failure), "TransportError(response_too_large)")
    }))

  it.effect("end with the connection", () =>
    Effect.gen(function*() {
      const { failure, seen } = yield* watch(() => new Response(bodyOf([event(1)], "break").stream))
      assert.deepStrictEqual(seen, [1])
      assert.strictEqual(codeOf(failure), "TransportError(body_interrupted)")
    }))
})

describe("opening the watch stream", () => {
  const refusals: ReadonlyArray<readonly [number, string]> = [
    [403, "bundle_change_watch_forbidden"],
    [503, "bundle_change_watch_disabled"],
    [409, "scope_uninitialized"],
    [409, "scope_initializing"],
    [500, "bundle_change_watch_failed"]
  ]
  it.effect.each(refusals)("is refused with %i %s [wire.md §4.8]", ([status, code]) =>
    Effect.gen(function*() {
      const { failure } = yield* watch(refusal(status, code))
      assert.deepStrictEqual(
        failure._tag === "Refusal" ? [failure.request, failure.status, failure.serverCode] : failure._tag,
        ["bundle_change_watch", status, code]
      )
    }))

  it.effect("fails without a connection [errors.md §1.6]", () =>
    Effect.gen(function*() {
      const { failure } = yield* watch(() => noConnection)
      assert.strictEqual(codeOf(failure), "TransportError(connection)")
    }))

  it.effect("ends with an answer that is no stream of events", () =>
    Effect.gen(function*() {
      const { failure, seen } = yield* watch(json({ bundle_seq: 3 }))
      assert.deepStrictEqual(seen, [])
      assert.strictEqual(codeOf(failure), "TransportError(body_interrupted)")
    }))
})

describe("silence on the watch stream [retry-and-loops.md §2.1]", () => {
  const silence = (watchIdleTimeout: string | undefined) =>
    Effect.gen(function*() {
      const wake: Array<() => void> = []
      let cancelled = false
      const body = new ReadableStream<Uint8Array>({
        pull: (controller) =>
          new Promise((resolve) => {
            wake.push(() => {
              controller.enqueue(new TextEncoder().encode(": heartbeat\n\n"))
              resolve()
            })
          }),
        cancel: () => {
          cancelled = true
        }
      }, { highWaterMark: 0 })
      const fiber = yield* SyncApi.pipe(
        Effect.flatMap((api) => Stream.runDrain(api.watch(caller, 0))),
        Effect.flip,
        Effect.provide(remote(
          scriptedServer(() => new Response(body)),
          watchIdleTimeout === undefined ? {} : { watchIdleTimeout: "10 seconds" }
        )),
        Effect.fork
      )
      return { fiber, beat: Effect.sync(() => wake.shift()?.()), isCancelled: () => cancelled }
    })

  it.effect("is broken by heartbeats, for hours, without a total limit", () =>
    Effect.gen(function*() {
      const { beat, fiber, isCancelled } = yield* silence(undefined)
      for (let minute = 0; minute < 100; minute++) {
        yield* TestClock.adjust("1 minute")
        yield* beat
      }
      assert.isNull(fiber.unsafePoll())
      yield* TestClock.adjust("64 seconds")
      assert.isNull(fiber.unsafePoll())
      yield* TestClock.adjust("1 second")
      assert.strictEqual(codeOf(yield* Fiber.join(fiber)), "TransportError(timeout)")
      assert.isTrue(isCancelled())
    }))

  it.effect("follows its setting", () =>
    Effect.gen(function*() {
      const { fiber } = yield* silence("10 seconds")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(codeOf(yield* Fiber.join(fiber)), "TransportError(timeout)")
    }))

  it.effect("ends with its reader", () =>
    Effect.gen(function*() {
      const { fiber, isCancelled } = yield* silence(undefined)
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      assert.isTrue(isCancelled())
    }))
})
