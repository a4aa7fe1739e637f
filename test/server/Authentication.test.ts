/** Who is let in, and what is never written down (wire.md §1.2, server.md §16.2). */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, LogLevel, Redacted, TestClock } from "effect"
import { SignJWT } from "jose"
import { Authentication, InProcess, ServerStorageSqlite, SyncServer } from "oversqlite/server"
import { businessTables } from "./support/BusinessTables.js"
import { id } from "./support/Device.js"
import { spansOf } from "./support/Spans.js"
import { inProcess, overHttp, secret } from "./support/TestServer.js"

const withJwt = InProcess.layer.pipe(
  Layer.provideMerge(SyncServer.layer({ tables: businessTables })),
  Layer.provide(ServerStorageSqlite.layer),
  Layer.provide(SqliteClient.layer({ filename: ":memory:" })),
  Layer.provide(Authentication.layerJwt({ secret }))
)

const get = (authorization: string | undefined, path = "/sync/capabilities") =>
  Effect.gen(function*() {
    const client = yield* HttpClient.HttpClient
    const answer = yield* client.execute(
      HttpClientRequest.get(`http://server${path}`).pipe(
        HttpClientRequest.setHeaders({
          "oversync-source-id": "source-a",
          ...(authorization === undefined ? {} : { authorization })
        })
      )
    )
    return { status: answer.status, contentType: answer.headers["content-type"], text: yield* answer.text }
  })

const signed = (
  claims: Record<string, unknown>,
  options: { readonly alg?: string; readonly key?: string } = {}
) =>
  Effect.promise(() =>
    new SignJWT(claims).setProtectedHeader({ alg: options.alg ?? "HS256" })
      .sign(new TextEncoder().encode(options.key ?? Redacted.value(secret)))
  )

/** `{"alg":"none"}` with a subject and no signature. */
const unsigned = `${Buffer.from("{\"alg\":\"none\"}").toString("base64url")}.${
  Buffer.from("{\"sub\":\"user-1\"}").toString("base64url")
}.`

describe("JSON Web Tokens", () => {
  it.effect("let in whom the secret has signed, with HS256, HS384 or HS512 [wire.md §1.2]", () =>
    Effect.gen(function*() {
      for (const alg of ["HS256", "HS384", "HS512"]) {
        assert.strictEqual((yield* get(`Bearer ${yield* signed({ sub: "user-1" }, { alg })}`)).status, 200)
      }
      const issued = yield* Authentication.issueToken({ secret, userId: "user-1" })
      assert.strictEqual((yield* get(`  Bearer ${Redacted.value(issued)}  `)).status, 200)
    }).pipe(Effect.provide(withJwt)))

  it.effect("everything else is 401 in plain text [wire.md §1.2]", () =>
    Effect.gen(function*() {
      const token = yield* signed({ sub: "user-1" })
      const wrong: ReadonlyArray<string | undefined> = [
        undefined,
        "",
        token,
        `bearer ${token}`,
        `Bearer  ${token}`,
        `Bearer ${token} more`,
        `Basic ${token}`,
        "Bearer",
        "Bearer garbage",
        `Bearer ${token}x`,
        `Bearer ${unsigned}`,
        `Bearer ${yield* signed({ sub: "user-1" }, { key: "another secret that is long enough" })}`,
        `Bearer ${yield* signed({})}`,
        `Bearer ${yield* signed({ sub: "  " })}`,
        `Bearer ${yield* signed({ sub: 7 })}`
      ]
      for (const authorization of wrong) {
        const answer = yield* get(authorization)
        assert.strictEqual(answer.status, 401, authorization)
        assert.strictEqual(answer.contentType, "text/plain; charset=utf-8")
        assert.notInclude(answer.text, token)
      }
    }).pipe(Effect.provide(withJwt)))

  it.effect("count from nbf and until exp, by the server's clock [wire.md §1.2]", () =>
    Effect.gen(function*() {
      const early = `Bearer ${yield* signed({ sub: "user-1", nbf: 60 })}`
      const short = Redacted.value(yield* Authentication.issueToken({ secret, userId: "u", expiresIn: "1 minute" }))
      assert.strictEqual((yield* get(early)).status, 401)
      assert.strictEqual((yield* get(`Bearer ${short}`)).status, 200)
      yield* TestClock.adjust("61 seconds")
      assert.strictEqual((yield* get(early)).status, 200)
      assert.strictEqual((yield* get(`Bearer ${short}`)).status, 401)
    }).pipe(Effect.provide(withJwt)))

  it.effect("name the scope by their trimmed subject [wire.md §1.2]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      yield* server.connect({ userId: "user-1", sourceId: "s" }, { hasLocalPendingRows: false })
      assert.strictEqual((yield* get(`Bearer ${yield* signed({ sub: " user-1 " })}`, "/sync/pull")).status, 200)
      assert.strictEqual((yield* get(`Bearer ${yield* signed({ sub: "user-2" })}`, "/sync/pull")).status, 409)
    }).pipe(Effect.provide(withJwt)))
})

describe("an authentication of one's own", () => {
  it.effect("a blank user id is answered authentication_failed as JSON [wire.md §1.2]", () =>
    Effect.gen(function*() {
      const answer = yield* get("anything")
      assert.strictEqual(answer.status, 401)
      assert.strictEqual(answer.contentType, "application/json")
      assert.include(answer.text, "\"error\":\"authentication_failed\"")
    }).pipe(
      Effect.provide(InProcess.layer),
      Effect.provideService(Authentication, () => Effect.succeed("  ")),
      Effect.provide(inProcess())
    ))
})

describe("secrets", () => {
  const token = "a-token-nobody-may-see"
  const payload = "a-value-nobody-may-see"

  const requests = Effect.gen(function*() {
    const client = yield* HttpClient.HttpClient
    const request = (path: string, body: string) =>
      client.execute(
        HttpClientRequest.post(path).pipe(
          HttpClientRequest.bearerToken(token),
          HttpClientRequest.setHeader("oversync-source-id", "source-a"),
          HttpClientRequest.bodyText(body, "application/json")
        )
      )
    const rows = [{
      schema: "business",
      table: "users",
      key: { id: payload },
      op: "INSERT",
      payload: { name: payload }
    }]
    yield* request("/sync/connect", "{}")
    yield* request("/sync/push-sessions", "{\"source_bundle_id\":1,\"planned_row_count\":1}")
    yield* request(`/sync/push-sessions/${id(1)}/chunks`, JSON.stringify({ rows }))
    yield* Effect.flatMap(SyncServer, (server) => server.shutdown)
    assert.strictEqual((yield* request("/sync/connect", JSON.stringify({ payload }))).status, 500)
  })

  /** Everything a tracer and a logger get to see while requests succeed and fail, on both sides. */
  const observed = Effect.fnUntraced(function*<E, R>(effect: Effect.Effect<void, E, R>) {
    const seen: Array<string> = []
    const logger = Logger.make(({ annotations, cause, message }) => {
      seen.push(JSON.stringify([message, Array.from(annotations)]), String(cause))
    })
    const spans = yield* effect.pipe(
      spansOf,
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      Logger.withMinimumLogLevel(LogLevel.All)
    )
    for (const span of spans) seen.push(span.name, JSON.stringify(Array.from(span.attributes).map(String)))
    const text = seen.join("\n")
    assert.isAbove(spans.filter((span) => span.name === "sql.execute").length, 5)
    assert.include(text, "ServerClosed")
    assert.notInclude(text, token)
    assert.notInclude(text, payload)
  })

  it.effect("tokens and row contents are in no span and no log, in process [issue 4]", () =>
    observed(requests.pipe(Effect.provide(inProcess()))))

  it.live("tokens and row contents are in no span and no log, over HTTP [issue 4]", () =>
    observed(requests.pipe(Effect.provide(overHttp()))))
})
