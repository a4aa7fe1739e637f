import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Data,
  Effect,
  Exit,
  Fiber,
  HashMap,
  Inspectable,
  Layer,
  Logger,
  LogLevel,
  Option,
  Redacted,
  Stream,
  TestClock,
  Tracer
} from "effect"
import { CurrentOperation } from "../../src/contract/SyncOperation.js"
import { Credentials } from "../../src/remote/Credentials.js"
import { SyncApi } from "../../src/remote/SyncApi.js"
import type { Handler } from "./ScriptedServer.js"
import { bodyOf, json, noConnection, refusal, remote, scriptedServer } from "./ScriptedServer.js"

const caller = (userId: string) => ({ sourceId: "source-a", userId })

const pull = (userId = "") =>
  Effect.flatMap(
    SyncApi,
    (api) => api.pull(caller(userId), { afterBundleSeq: 0, maxBundles: 10, targetBundleSeq: undefined })
  )

/** A provider that hands out token-1, token-2, … and records how it was asked. */
const counting = (userId?: string) => {
  const asked: Array<boolean> = []
  const layer = Credentials.layer(({ forceRefresh }) =>
    Effect.sync(() => {
      asked.push(forceRefresh)
      return { token: Redacted.make(`token-${asked.length}`), userId: Option.fromNullable(userId) }
    })
  )
  return { asked, layer }
}

describe("tokens", () => {
  it.effect("are fetched for each request [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const server = scriptedServer(json({}))
      const { asked, layer } = counting()
      yield* Effect.provide(Effect.replicateEffect(pull(), 3), remote(server, {}, layer))
      assert.deepStrictEqual(server.received.map(({ headers }) => headers["authorization"]), [
        "Bearer token-1",
        "Bearer token-2",
        "Bearer token-3"
      ])
      assert.deepStrictEqual(asked, [false, false, false])
    }))

  it.effect("are renewed once after a 401, and the request is sent again with its body [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const server = scriptedServer((received) =>
        received.headers["authorization"] === "Bearer token-1"
          ? new Response("invalid token\n", { status: 401 })
          : json({ resolution: "initialize_empty" })()
      )
      const { asked, layer } = counting()
      const answer = yield* SyncApi.pipe(
        Effect.flatMap((api) => api.connect(caller(""), true)),
        Effect.provide(remote(server, {}, layer))
      )
      assert.strictEqual(answer.resolution, "initialize_empty")
      assert.deepStrictEqual(asked, [false, true])
      assert.deepStrictEqual(server.received.map(({ body }) => body), [
        `{"has_local_pending_rows":true}`,
        `{"has_local_pending_rows":true}`
      ])
    }))

  it.effect("are renewed for the watch too [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const server = scriptedServer((_received, index) =>
        index === 0
          ? refusal(401, "authentication_failed")()
          : new Response(`event: bundle\ndata: {"bundle_seq":3}\n\n`)
      )
      const { asked, layer } = counting()
      const first = yield* SyncApi.pipe(
        Effect.flatMap((api) => Stream.runHead(api.watch(caller(""), 0))),
        Effect.provide(remote(server, {}, layer))
      )
      assert.strictEqual(Option.getOrThrow(first).bundle_seq, 3)
      assert.deepStrictEqual(asked, [false, true])
    }))

  it.effect("are not renewed a second time: the second 401 is a refusal [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const server = scriptedServer(refusal(401, "authentication_failed"))
      const { asked, layer } = counting()
      const failure = yield* Effect.flip(Effect.provide(pull(), remote(server, {}, layer)))
      assert.deepStrictEqual(failure._tag === "Refusal" ? [failure.status, failure.serverCode] : failure._tag, [
        401,
        "authentication_failed"
      ])
      assert.deepStrictEqual(asked, [false, true])
      assert.lengthOf(server.received, 2)
    }))

  it.effect("a 401 whose body breaks off is renewed all the same [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const body = bodyOf(["inval"], "break")
      const server = scriptedServer((_received, index) =>
        index === 0 ? new Response(body.stream, { status: 401 }) : json({})()
      )
      yield* Effect.provide(pull(), remote(server, {}, counting().layer))
      assert.lengthOf(server.received, 2)
    }))

  it.effect("that the provider cannot deliver end the request before it is sent [errors.md §1.6]", () =>
    Effect.gen(function*() {
      class SignedOut extends Data.TaggedError("SignedOut")<{}> {}
      const server = scriptedServer(json({}))
      const error = yield* pull().pipe(
        Effect.provide(remote(server, {}, Credentials.layer(new SignedOut()))),
        Effect.provideService(CurrentOperation, "pullToStable"),
        Effect.flip
      )
      if (error._tag !== "TransportError") return assert.fail(error._tag)
      assert.deepStrictEqual(
        [error.code, error.request, error.operation, error.action, error.retryable],
        ["credentials", "pull_request", "pullToStable", "reauthenticate", true]
      )
      assert.isTrue(error.cause instanceof SignedOut)
      assert.lengthOf(server.received, 0)
    }))

  it.effect("that take longer than a request may are given up [retry-and-loops.md §2.1]", () =>
    Effect.gen(function*() {
      const server = scriptedServer(json({}))
      const fiber = yield* pull().pipe(
        Effect.provide(remote(server, { requestTimeout: "10 seconds" }, Credentials.layer(Effect.never))),
        Effect.flip,
        Effect.fork
      )
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag === "TransportError" ? error.code : error._tag, "credentials")
    }))

  it.effect.each(["", " ", "two words", "line\nbreak", "snow☃man"])(
    "that no header can carry (%j) are a failure of the provider [errors.md §1.6]",
    (token) =>
      Effect.gen(function*() {
        const server = scriptedServer(json({}))
        const error = yield* Effect.flip(
          Effect.provide(pull(), remote(server, {}, Credentials.layerBearer(Redacted.make(token))))
        )
        assert.strictEqual(error._tag === "TransportError" ? error.code : error._tag, "credentials")
        assert.lengthOf(server.received, 0)
      })
  )

  it.effect("a provider takes what it needs from the layer's context", () =>
    Effect.gen(function*() {
      class Vault extends Context.Tag("test/Vault")<Vault, { readonly token: string }>() {}
      const server = scriptedServer(json({}))
      const layer = Credentials.layer(
        Effect.map(Vault, ({ token }) => ({ token: Redacted.make(token), userId: Option.none() }))
      ).pipe(Layer.provide(Layer.succeed(Vault, { token: "from-the-vault" })))
      yield* Effect.provide(pull(), remote(server, {}, layer))
      assert.strictEqual(server.received[0]?.headers["authorization"], "Bearer from-the-vault")
    }))
})

describe("whose token it is [lifecycle.md §4.5]", () => {
  const cases: ReadonlyArray<readonly [string, string | undefined, boolean]> = [
    ["user-1", "user-1", true],
    ["user-1", " user-1 ", true],
    ["user-1", undefined, true],
    ["user-1", "", true],
    ["", "user-2", true],
    ["user-1", "user-2", false],
    ["user-1", "USER-1", false]
  ]
  it.effect.each(cases)(
    "caller %j with a token of %j may go on: %s",
    ([userId, owner, allowed]) =>
      Effect.gen(function*() {
        const server = scriptedServer(json({}))
        const exit = yield* pull(userId).pipe(
          Effect.provide(remote(server, {}, Credentials.layerBearer("t", { userId: owner }))),
          Effect.provideService(CurrentOperation, "sync"),
          Effect.exit
        )
        assert.lengthOf(server.received, allowed ? 1 : 0)
        const error = Exit.isFailure(exit) && exit.cause._tag === "Fail" ? exit.cause.error : undefined
        assert.deepStrictEqual(
          error?._tag === "CredentialsMismatch"
            ? [error.attachedUserId, error.credentialsUserId, error.operation]
            : [error?._tag],
          allowed ? [undefined] : [userId, owner, "sync"]
        )
      })
  )

  it.effect("is asked again after a forced refresh: nothing is sent under another user's new token", () =>
    Effect.gen(function*() {
      const server = scriptedServer(refusal(401, "authentication_failed"))
      const layer = Credentials.layer(({ forceRefresh }) =>
        Effect.succeed({ token: Redacted.make("t"), userId: Option.some(forceRefresh ? "user-2" : "user-1") })
      )
      const error = yield* Effect.flip(Effect.provide(pull("user-1"), remote(server, {}, layer)))
      assert.strictEqual(error._tag, "CredentialsMismatch")
      assert.lengthOf(server.received, 1)
    }))

  it.effect("also stops session deletes, silently", () =>
    Effect.gen(function*() {
      const server = scriptedServer(json({}))
      yield* SyncApi.pipe(
        Effect.flatMap((api) => api.deletePushSession(caller("user-1"), "p")),
        Effect.provide(remote(server, {}, Credentials.layerBearer("t", { userId: "user-2" })))
      )
      assert.lengthOf(server.received, 0)
    }))
})

describe("the token stays secret [errors.md, general rule 4]", () => {
  const secret = "eyJhbGciOi.secret-token.signature"
  const outcomes: ReadonlyArray<readonly [string, Handler]> = [
    ["success", json({})],
    ["refusal", refusal(500, "pull_failed")],
    ["401", refusal(401, "authentication_failed")],
    ["no connection", () => noConnection],
    ["broken body", () => new Response(bodyOf(["{"], "break").stream)],
    ["no JSON", json("no json")],
    ["defect", () => Effect.die(new Error("boom"))]
  ]
  it.effect.each(outcomes)("after %s: in spans, errors, causes and logs", ([_name, handler]) =>
    Effect.gen(function*() {
      const spans: Array<Tracer.Span> = []
      const native = yield* Effect.tracer
      const tracer = Tracer.make({
        span: (...options) => {
          const span = native.span(...options)
          spans.push(span)
          return span
        },
        context: (...options) => native.context(...options)
      })
      const logged: Array<string> = []
      const logger = Logger.make<unknown, void>(({ annotations, cause, message }) => {
        logged.push(Inspectable.toStringUnknown([message, Cause.pretty(cause), HashMap.toEntries(annotations)]))
      })
      const fiber = yield* Effect.gen(function*() {
        const api = yield* SyncApi
        const exit = yield* Effect.exit(pull())
        yield* api.deletePushSession(caller(""), "p")
        yield* Effect.logDebug("ended", exit)
        return exit
      }).pipe(
        Effect.tapErrorCause(Effect.logError),
        Effect.provide(remote(scriptedServer(handler), { tracePropagation: true }, Credentials.layerBearer(secret))),
        Effect.withTracer(tracer),
        Effect.withTracerEnabled(true),
        Logger.withMinimumLogLevel(LogLevel.All),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Effect.fork
      )
      yield* TestClock.adjust("1 minute")
      const exit = yield* Fiber.join(fiber)
      const seen = [
        ...logged,
        Inspectable.toStringUnknown(exit),
        JSON.stringify(exit),
        String(exit),
        Exit.isFailure(exit) ? Cause.pretty(exit.cause, { renderErrorCause: true }) : "",
        ...spans.map(({ attributes, name, status }) =>
          Inspectable.toStringUnknown([
            name,
            [...attributes],
            status._tag === "Ended" && Exit.isFailure(status.exit)
              ? [Cause.pretty(status.exit.cause, { renderErrorCause: true }), status.exit]
              : ""
          ])
        )
      ]
      assert.isTrue(spans.some(({ name }) => name === "SyncApi.pull_request"))
      assert.isTrue(spans.some(({ name }) => name === "SyncApi.push_session_delete"))
      assert.isAbove(logged.length, 0)
      for (const text of seen) assert.notInclude(text, "secret-token")
    }))
})

describe("the trace of the host [retry-and-loops.md §2]", () => {
  const headersWith = (tracePropagation: boolean | undefined) =>
    Effect.gen(function*() {
      const server = scriptedServer(json({}))
      yield* pull().pipe(Effect.withSpan("host"), Effect.provide(remote(server, { tracePropagation })))
      return Object.keys(server.received[0]?.headers ?? {}).filter((name) => name === "traceparent" || name === "b3")
    })

  it.effect("is not sent unless the host wants it", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* headersWith(undefined), [])
      assert.deepStrictEqual(yield* headersWith(false), [])
      assert.sameMembers(yield* headersWith(true), ["traceparent", "b3"])
    }))
})
