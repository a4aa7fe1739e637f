import { HttpClient } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Layer, Random, Stream, TestClock } from "effect"
import { CurrentOperation } from "../../src/contract/SyncOperation.js"
import type { SyncRequest } from "../../src/contract/SyncOperation.js"
import { Credentials } from "../../src/remote/Credentials.js"
import type { RemoteOptions, RequestFailure } from "../../src/remote/SyncApi.js"
import { SyncApi, toTransportError } from "../../src/remote/SyncApi.js"
import type { Handler } from "./ScriptedServer.js"
import { bodyOf, caller, inOrder, json, noConnection, refusal, remote, scriptedServer } from "./ScriptedServer.js"

type Api = typeof SyncApi.Service
type Call = (api: Api) => Effect.Effect<unknown, RequestFailure>

const pull: Call = (api) => api.pull(caller, { afterBundleSeq: 0, maxBundles: 10, targetBundleSeq: undefined })

const committedRows = (request: "committed_bundle_chunk_fetch" | "history_check"): Call => (api) =>
  api.committedRows(caller, { bundleSeq: 1, afterRowOrdinal: undefined, maxRows: 1, request })

const repeated: ReadonlyArray<readonly [SyncRequest, Call]> = [
  ["connect_capabilities", (api) => api.capabilities(caller, "connect_capabilities")],
  ["watch_capabilities", (api) => api.capabilities(caller, "watch_capabilities")],
  ["connect_request", (api) => api.connect(caller, true)],
  ["pull_request", pull],
  ["history_check", committedRows("history_check")],
  ["snapshot_session_create", (api) => api.createSnapshotSession(caller, undefined)],
  ["snapshot_chunk_fetch", (api) => api.snapshotChunk(caller, "s", { afterRowOrdinal: 0, maxRows: 1 })]
]

const once: ReadonlyArray<readonly [SyncRequest, Call]> = [
  [
    "push_session_create",
    (api) => api.createPushSession(caller, { sourceBundleId: 1, plannedRowCount: 1, initializationId: "" })
  ],
  ["push_chunk_upload", (api) => api.uploadChunk(caller, "p", 0, "[]")],
  ["push_session_commit", (api) => api.commitPushSession(caller, "p")],
  ["committed_bundle_chunk_fetch", committedRows("committed_bundle_chunk_fetch")],
  ["bundle_change_watch", (api) => Stream.runDrain(api.watch(caller, 0))]
]

/** Calls a scripted server on virtual time: when requests were made, and how it ended. */
const run = (call: Call, handler: Handler, options: Partial<RemoteOptions> = {}) =>
  Effect.gen(function*() {
    const at: Array<number> = []
    const server = scriptedServer((received, index) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        at.push(now)
        const answer = handler(received, index)
        return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
      })
    )
    const fiber = yield* SyncApi.pipe(
      Effect.flatMap(call),
      Effect.exit,
      Effect.provide(remote(server, { retryPolicy: { enabled: true, jitterFraction: 0 }, ...options })),
      Effect.withRandom(Random.make("seed")),
      Effect.fork
    )
    yield* TestClock.adjust("1 hour")
    const exit = yield* Fiber.join(fiber)
    const failure = Exit.isFailure(exit) && exit.cause._tag === "Fail" ? exit.cause.error : undefined
    return { at, exit, failure, received: server.received }
  })

describe("single requests are repeated as a whole [retry-and-loops.md §2]", () => {
  it.effect.each(repeated)("%s until it is answered", ([_request, call]) =>
    Effect.gen(function*() {
      const { at, exit } = yield* run(call, inOrder(refusal(503, "service_unavailable"), () => noConnection, json({})))
      assert.deepStrictEqual(at, [0, 100, 300])
      assert.isTrue(Exit.isSuccess(exit))
    }))

  it.effect.each(repeated)("%s until the attempts are used up", ([request, call]) =>
    Effect.gen(function*() {
      const { at, failure } = yield* run(call, refusal(503, "service_unavailable"))
      assert.deepStrictEqual(at, [0, 100, 300])
      if (failure?._tag !== "RetryExhausted") return assert.fail(String(failure))
      assert.deepStrictEqual(
        [failure.request, failure.attempts, failure.cause.request, failure.cause.status, failure.cause.serverCode],
        [request, 3, request, 503, "service_unavailable"]
      )
    }))

  it.effect.each(repeated)("%s not after a final refusal", ([request, call]) =>
    Effect.gen(function*() {
      const { failure, received } = yield* run(call, refusal(500, "some_failed"))
      assert.lengthOf(received, 1)
      if (failure?._tag !== "Refusal") return assert.fail(String(failure))
      assert.deepStrictEqual([failure.request, failure.status, failure.serverCode], [request, 500, "some_failed"])
    }))

  it.effect("a body that breaks off is asked for again, three times in all", () =>
    Effect.gen(function*() {
      const broken = () => new Response(bodyOf([`{"stable_bundle_seq":`], "break").stream)
      const { at, failure } = yield* run(pull, inOrder(broken))
      assert.deepStrictEqual(at, [0, 100, 300])
      assert.strictEqual(failure?._tag === "RetryExhausted" ? failure.cause.code : "", "body_interrupted")
    }))

  it.effect("the body of an error that breaks off is asked for again: its code matters", () =>
    Effect.gen(function*() {
      const broken = () => new Response(bodyOf([`{"error":"history_`], "break").stream, { status: 409 })
      const { failure } = yield* run(pull, inOrder(broken, refusal(409, "history_pruned")))
      assert.strictEqual(failure?._tag === "Refusal" ? failure.serverCode : "", "history_pruned")
    }))

  it.effect("the settings count, Retry-After is a floor", () =>
    Effect.gen(function*() {
      const { at } = yield* run(
        pull,
        inOrder(
          refusal(503, "service_unavailable", { "retry-after": "7" }),
          refusal(429, "slow_down", { "retry-after": "1" }),
          refusal(502, "bad_gateway", { "retry-after": "9" }),
          refusal(503, "service_unavailable", { "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT" }),
          refusal(503, "service_unavailable", { "retry-after": "99999999999999999999" }),
          json({})
        ),
        { retryPolicy: { enabled: true, jitterFraction: 0, maxAttempts: 10, initialBackoff: "1 second" } }
      )
      assert.deepStrictEqual(at, [0, 7000, 8000, 9000, 10_000, 40_000])
    }))

  it.effect.each([...repeated, ...once])(
    "%s once if retries are off, with its failure as it is",
    ([_request, call]) =>
      Effect.gen(function*() {
        const off = { retryPolicy: { enabled: false } }
        const refused = yield* run(call, refusal(503, "service_unavailable"), off)
        assert.lengthOf(refused.received, 1)
        assert.strictEqual(refused.failure?._tag, "Refusal")
        const unreachable = yield* run(call, () => noConnection, off)
        assert.lengthOf(unreachable.received, 1)
        assert.strictEqual(unreachable.failure?._tag === "TransportError" ? unreachable.failure.code : "", "connection")
      })
  )
})

describe("requests of a push and the watch have no budget of their own [retry-and-loops.md §2]", () => {
  it.effect.each(once)("%s is sent once", ([request, call]) =>
    Effect.gen(function*() {
      const refused = yield* run(call, refusal(503, "service_unavailable"))
      assert.lengthOf(refused.received, 1)
      if (refused.failure?._tag !== "Refusal") return assert.fail(String(refused.failure))
      assert.deepStrictEqual([refused.failure.request, refused.failure.status], [request, 503])

      const unreachable = yield* run(call, () => noConnection)
      assert.lengthOf(unreachable.received, 1)
      if (unreachable.failure?._tag !== "TransportError") return assert.fail(String(unreachable.failure))
      assert.deepStrictEqual([unreachable.failure.request, unreachable.failure.code], [request, "connection"])
    }))
})

describe("session deletes [retry-and-loops.md §2]", () => {
  const deletes: ReadonlyArray<readonly [string, (api: Api) => Effect.Effect<void>]> = [
    ["push session", (api) => api.deletePushSession(caller, "p")],
    ["snapshot session", (api) => api.deleteSnapshotSession(caller, "s")]
  ]
  const answers: ReadonlyArray<readonly [string, Handler]> = [
    ["204", () => new Response(null, { status: 204 })],
    ["404", refusal(404, "push_session_not_found")],
    ["503", refusal(503, "service_unavailable")],
    ["no connection", () => noConnection],
    ["a broken body", () => new Response(bodyOf(["{"], "break").stream, { status: 500 })],
    ["a defect", () => Effect.dieMessage("boom")]
  ]
  for (const [name, call] of deletes) {
    it.effect.each(answers)(
      `of a ${name} ends without a failure after %s, sent once`,
      ([_answer, handler]) =>
        Effect.gen(function*() {
          const { exit, received } = yield* run(call, handler)
          assert.isTrue(Exit.isSuccess(exit))
          assert.lengthOf(received, 1)
        })
    )
  }

  it.effect("give up after five seconds, also inside a finalizer", () =>
    Effect.gen(function*() {
      const server = scriptedServer(() => Effect.never)
      let ended = -1
      const fiber = yield* SyncApi.pipe(
        Effect.flatMap((api) =>
          Effect.never.pipe(
            Effect.ensuring(api.deletePushSession(caller, "p")),
            Effect.ensuring(Effect.map(Clock.currentTimeMillis, (now) => {
              ended = now
            }))
          )
        ),
        Effect.provide(remote(server)),
        Effect.fork
      )
      yield* TestClock.adjust("1 second")
      yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.await(fiber)
      assert.deepStrictEqual(server.received.map(({ method }) => method), ["DELETE"])
      assert.strictEqual(ended, 6000)
    }))
})

describe("refusals and errors", () => {
  it.effect("a refusal nobody consumes keeps status, code and Retry-After, not the server's text [errors.md §1.6]", () =>
    Effect.gen(function*() {
      const server = scriptedServer(refusal(500, "pull_failed", { "retry-after": "12" }))
      const error = yield* SyncApi.pipe(
        Effect.flatMap(pull),
        Effect.catchTag("Refusal", toTransportError),
        Effect.provide(remote(server)),
        Effect.provideService(CurrentOperation, "sync"),
        Effect.flip
      )
      if (error._tag !== "TransportError") return assert.fail(error._tag)
      assert.deepStrictEqual(
        [error.code, error.request, error.status, error.serverCode, error.operation, error.retryable, error.action],
        ["status", "pull_request", 500, "pull_failed", "sync", true, "retry_later"]
      )
      assert.strictEqual(Duration.toSeconds(error.retryAfter ?? Duration.zero), 12)
      assert.notInclude(JSON.stringify(error) + error.message, "free text")
    }))

  const bodies: ReadonlyArray<readonly [string, string, string]> = [
    ["plain text", "invalid token\n", ""],
    ["HTML of a proxy", "<html>502</html>", ""],
    ["nothing", "", ""],
    ["JSON that is no object", "[1]", ""],
    ["an object without a code", `{"message":"m"}`, ""],
    ["a code that is no text", `{"error":5}`, ""],
    ["a code alone", `{"error":"history_pruned"}`, "history_pruned"],
    ["a code with a message that is no text", `{"error":"history_pruned","message":{}}`, "history_pruned"]
  ]
  it.effect.each(bodies)(
    "a refusal whose body is %s [wire.md §1.3]",
    ([_name, body, serverCode]) =>
      Effect.gen(function*() {
        const { failure } = yield* run(pull, json(body, 409))
        if (failure?._tag !== "Refusal") return assert.fail(String(failure))
        assert.deepStrictEqual([failure.status, failure.serverCode], [409, serverCode])
      })
  )

  it.effect("a conflict keeps every digit of its integers [DESIGN D7]", () =>
    Effect.gen(function*() {
      const body = `{"error":"push_conflict","message":"m","conflict":{"server_row":{"n":9007199254740993}}}`
      const { failure } = yield* run((api) => api.commitPushSession(caller, "p"), json(body, 409))
      assert.deepStrictEqual(failure?._tag === "Refusal" ? failure.body?.conflict : undefined, {
        server_row: { n: 9007199254740993n }
      })
    }))

  const successes: ReadonlyArray<readonly [string, string, string, string | undefined]> = [
    ["not JSON", "not json", "invalid_json", undefined],
    ["nothing", "", "invalid_json", undefined],
    ["half of a JSON text, complete for the transport", `{"stable_bundle_seq":1,`, "invalid_json", undefined],
    ["a number of the wrong type", `{"stable_bundle_seq":"secret"}`, "field_invalid", "stable_bundle_seq"],
    ["an unsafe integer", `{"stable_bundle_seq":9007199254740993}`, "field_invalid", "stable_bundle_seq"],
    ["no object", `"secret"`, "field_invalid", "the answer"]
  ]
  it.effect.each(successes)("an answer that is %s is a ProtocolError, not repeated [errors.md §1.5]", ([
    _name,
    body,
    rule,
    place
  ]) =>
    Effect.gen(function*() {
      const { failure, received } = yield* run(pull, json(body))
      assert.lengthOf(received, 1)
      if (failure?._tag !== "ProtocolError") return assert.fail(String(failure))
      assert.deepStrictEqual([failure.request, failure.rule], ["pull_request", rule])
      if (place !== undefined) assert.include(failure.expected ?? "", place)
      assert.notInclude(JSON.stringify(failure) + failure.message, "secret")
    }))

  it.effect("another 2xx or a redirect is a refusal, not an answer [wire.md §1.1]", () =>
    Effect.gen(function*() {
      for (const status of [201, 202, 203, 301, 307]) {
        const { failure } = yield* run(pull, json({}, status))
        assert.strictEqual(failure?._tag === "Refusal" ? failure.status : 0, status)
      }
      const { failure } = yield* run(pull, () => new Response(null, { status: 204 }))
      assert.strictEqual(failure?._tag === "Refusal" ? failure.status : 0, 204)
    }))

  it.effect.each(
    [
      "",
      "sync.test",
      "ftp://sync.test",
      "/sync",
      "http://",
      "http://sync.test?x=1",
      "http://sync.test/?",
      "http://sync.test/#top",
      "http://user:secret@sync.test",
      "not a url at all"
    ]
  )("the address \"%s\" is refused when the layer is built [errors.md §1.4]", (baseUrl) =>
    Effect.gen(function*() {
      const error = yield* Layer.build(SyncApi.layer({ baseUrl })).pipe(
        Effect.scoped,
        Effect.provide(Credentials.layerBearer("t")),
        Effect.provideService(HttpClient.HttpClient, scriptedServer(json({})).client),
        Effect.flip
      )
      assert.deepStrictEqual([error._tag, error.code, error.operation], [
        "ConfigurationError",
        "base_url_invalid",
        "construct"
      ])
      assert.notInclude(error.message, "secret")
    }))
})
