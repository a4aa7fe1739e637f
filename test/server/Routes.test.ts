/** Transport conventions (wire.md §1). */
import { HttpClient, HttpClientRequest, HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import type { HttpMethod } from "@effect/platform/HttpMethod"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Stream } from "effect"
import { InProcess, SyncRoutes } from "oversqlite/server"
import { device, id, insert, outcome, parsed, user } from "./support/Device.js"
import { ask, inProcess, overHttp, server } from "./support/TestServer.js"

const a = device("source-a")

const routes: ReadonlyArray<readonly [path: string, allow: string]> = [
  ["/sync/capabilities", "GET, HEAD"],
  ["/sync/connect", "POST"],
  ["/sync/push-sessions", "POST"],
  [`/sync/push-sessions/${id(1)}`, "DELETE"],
  [`/sync/push-sessions/${id(1)}/chunks`, "POST"],
  [`/sync/push-sessions/${id(1)}/commit`, "POST"],
  ["/sync/committed-bundles/1/rows", "GET, HEAD"],
  ["/sync/pull", "GET, HEAD"],
  ["/sync/watch", "GET, HEAD"],
  ["/sync/snapshot-sessions", "POST"],
  [`/sync/snapshot-sessions/${id(1)}`, "DELETE, GET, HEAD"],
  ["/syncx/health", "GET, HEAD"],
  ["/syncx/status", "GET, HEAD"]
]

const methods: ReadonlyArray<HttpMethod> = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

const send = (method: HttpMethod, path: string, headers: Readonly<Record<string, string>> = {}) =>
  Effect.flatMap(
    HttpClient.HttpClient,
    (client) => client.execute(HttpClientRequest.setHeaders(HttpClientRequest.make(method)(path), headers))
  )

const identified = { authorization: "Bearer user-1", "oversync-source-id": "source-a" }

/** The application itself, for targets that no client would send. */
const target = (url: string, method: HttpMethod = "GET") =>
  Effect.provideService(
    SyncRoutes.app,
    HttpServerRequest.HttpServerRequest,
    HttpServerRequest.fromWeb(new Request("http://server/", { method })).modify({ url })
  )

describe("methods and paths", () => {
  it.effect("another method on a known path is 405 with Allow, before authentication [wire.md §1.6]", () =>
    Effect.gen(function*() {
      for (const [path, allow] of routes) {
        for (const method of methods.filter((method) => !allow.split(", ").includes(method))) {
          const answer = yield* send(method, path)
          assert.strictEqual(answer.status, 405, `${method} ${path}`)
          assert.strictEqual(answer.headers["allow"], allow)
          assert.strictEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
        }
      }
    }).pipe(Effect.provide(inProcess())))

  it.effect("HEAD on a GET route is authenticated and then 405 as JSON, without Allow [wire.md §1.6]", () =>
    Effect.gen(function*() {
      for (const [path, allow] of routes.filter(([, allow]) => allow.includes("HEAD"))) {
        const open = path.startsWith("/syncx/")
        assert.strictEqual((yield* send("HEAD", path)).status, open ? 405 : 401, `${path} ${allow}`)
        const answer = yield* send("HEAD", path, identified)
        assert.strictEqual(answer.status, 405)
        assert.strictEqual(answer.headers["content-type"], "application/json")
        assert.isUndefined(answer.headers["allow"])
      }
    }).pipe(Effect.provide(inProcess())))

  it.effect("unknown paths are 404 in plain text, whatever the method [wire.md §1.6]", () =>
    Effect.gen(function*() {
      for (
        const path of [
          "/",
          "/sync",
          "/sync/",
          "/sync/pull/",
          "/Sync/pull",
          "/sync/pull/x",
          "/syncx",
          "/sync/push-sessions/"
        ]
      ) {
        for (const method of methods) {
          const answer = yield* send(method, path, identified)
          assert.strictEqual(answer.status, 404, `${method} ${path}`)
          assert.strictEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
        }
      }
    }).pipe(Effect.provide(inProcess())))

  it.effect("unclean paths are redirected with their query, known or not [wire.md §1.6]", () =>
    Effect.gen(function*() {
      for (
        const [url, location] of [
          ["//sync/pull?a=1&b=//", "/sync/pull?a=1&b=//"],
          ["/sync/./pull", "/sync/pull"],
          ["/sync/x/../pull", "/sync/pull"],
          ["/../../nowhere", "/nowhere"],
          ["/sync//", "/sync/"]
        ] as const
      ) {
        const answer = yield* target(url, "POST")
        assert.strictEqual(answer.status, 307, url)
        assert.strictEqual(answer.headers["location"], location)
      }
    }).pipe(Effect.provide(server())))
})

describe("identity", () => {
  it.effect("the token comes first, then the source, then the request [wire.md §1.2]", () =>
    Effect.gen(function*() {
      const noToken = yield* ask("/sync/connect", { body: "{", user: null, source: null })
      assert.strictEqual(noToken.status, 401)
      assert.strictEqual(noToken.contentType, "text/plain; charset=utf-8")
      const noSource = yield* ask("/sync/connect", { body: "{", source: null })
      assert.deepInclude(parsed(noSource), { error: "invalid_request" })
      const blankSource = yield* ask("/sync/capabilities", { source: " \t" })
      assert.strictEqual(blankSource.status, 400)
    }).pipe(Effect.provide(inProcess())))

  it.effect("the source is trimmed and else taken as it is, in any length [wire.md §1.2]", () =>
    Effect.gen(function*() {
      const long = "s".repeat(9000)
      yield* device(`  ${long} `).connect(false)
      yield* device(` ${long}`).push(1, [user(1)])
      assert.strictEqual((yield* device(`${long}  `).create(1, 1)).body["source_id"], long)
    }).pipe(Effect.provide(inProcess())))

  it.effect("a source in a body is ignored [wire.md §1.2]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [user(1)])
      const answer = yield* a.request("/sync/push-sessions", {
        body: { source_bundle_id: 1, planned_row_count: 1, source_id: "source-z" }
      })
      assert.strictEqual(answer.body["source_id"], "source-a")
    }).pipe(Effect.provide(inProcess())))
})

/** Bodies of push create, whose members are of every kind. */
const bodies: ReadonlyArray<readonly [body: string, expected: string]> = [
  ["{\"source_bundle_id\":1,\"planned_row_count\":1}", "200"],
  ["{\"Source_Bundle_ID\":1,\"PLANNED_ROW_COUNT\":1}", "200"],
  ["{\"source_bundle_id\":9,\"source_bundle_id\":1,\"planned_row_count\":1}", "200"],
  ["{\"source_bundle_id\":1,\"planned_row_count\":1,\"unknown\":[{}]}", "200"],
  ["{\"source_bundle_id\":1,\"planned_row_count\":1,\"initialization_id\":null}", "200"],
  ["{\"source_bundle_id\":1,\"planned_row_count\":1,\"initialization_id\":\"  \"}", "200"],
  ["  {\"source_bundle_id\":1,\"planned_row_count\":1}  ", "200"],
  ["{\"source_bundle_id\":1,\"planned_row_count\":1} trailing } data", "200"],
  ["{\"source_bundle_id\":1,\"planned_row_count\":1,\"note\":\"\\\"planned_row_count\\\": 1.5\"}", "200"],
  ["{\"source_bundle_id\":1,\"planned_row_count\":-0}", "400 push_session_invalid"],
  ["{\"source_bundle_id\":1}", "400 push_session_invalid"],
  ["{\"source_bundle_id\":null,\"planned_row_count\":1}", "400 push_session_invalid"],
  ["{}", "400 push_session_invalid"],
  ["null", "400 push_session_invalid"],
  ["{\"source_bundle_id\":9223372036854775807,\"planned_row_count\":1}", "409 source_sequence_out_of_order"],
  ["{\"source_bundle_id\":9223372036854775808,\"planned_row_count\":1}", "400 invalid_request"],
  ["{\"source_bundle_id\":1.0,\"planned_row_count\":1}", "400 invalid_request"],
  ["{\"source_bundle_id\":1e0,\"planned_row_count\":1}", "400 invalid_request"],
  ["{\"source_bundle_id\":1.5,\"planned_row_count\":1}", "400 invalid_request"],
  ["{\"source_bundle_id\":\"1\",\"planned_row_count\":1}", "400 invalid_request"],
  ["{\"source_bundle_id\":true,\"planned_row_count\":1}", "400 invalid_request"],
  ["{\"source_bundle_id\":1,\"planned_row_count\":1,\"initialization_id\":5}", "400 invalid_request"],
  ["[]", "400 invalid_request"],
  ["\"text\"", "400 invalid_request"],
  ["1", "400 invalid_request"],
  ["", "400 invalid_request"],
  ["   ", "400 invalid_request"],
  ["{", "400 invalid_request"],
  ["{\"source_bundle_id\":1,}", "400 invalid_request"],
  ["{'source_bundle_id':1}", "400 invalid_request"],
  ["\ufeff{\"source_bundle_id\":1,\"planned_row_count\":1}", "400 invalid_request"]
]

describe("request bodies", () => {
  for (const [body, expected] of bodies) {
    it.effect(`${JSON.stringify(body)} is answered ${expected} [wire.md §1.4]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        const answer = yield* ask("/sync/push-sessions", { body })
        assert.strictEqual(outcome({ status: answer.status, body: parsed(answer) }), expected, answer.text)
      }).pipe(Effect.provide(inProcess())))
  }

  for (
    const [body, expected] of [
      ["{\"has_local_pending_rows\":1}", 400],
      ["{\"has_local_pending_rows\":\"true\"}", 400],
      ["{\"HAS_LOCAL_PENDING_ROWS\":false}", 200],
      ["{\"has_local_pending_rows\":null}", 200]
    ] as const
  ) {
    it.effect(`connect answers ${expected} to ${body} [wire.md §1.4]`, () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* ask("/sync/connect", { body })).status, expected)
      }).pipe(Effect.provide(inProcess())))
  }

  const chunk = (rows: string) =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const pushId = String((yield* a.create(1, 1)).body["push_id"])
      const answer = yield* ask(`/sync/push-sessions/${pushId}/chunks`, {
        body: `{"start_row_ordinal":0,"rows":${rows}}`
      })
      return outcome({ status: answer.status, body: parsed(answer) })
    }).pipe(Effect.provide(inProcess()))

  const row = (members: string) => `[{"schema":"business","table":"users","key":{"id":"${id(1)}"},${members}}]`

  for (
    const [rows, expected] of [
      [row("\"op\":\"INSERT\",\"payload\":{}"), "200"],
      [row("\"op\":\" insert \",\"payload\":{}"), "200"],
      [`[{"SCHEMA":" Business ","Table":"USERS","key":{"id":"${id(1)}","x":"y"},"op":"INSERT","payload":{}}]`, "200"],
      [row("\"op\":\"DELETE\",\"base_row_version\":-9223372036854775808"), "200"],
      [row("\"op\":\"DELETE\",\"base_row_version\":9223372036854775807"), "200"],
      [row("\"op\":\"DELETE\",\"base_row_version\":1.0"), "400 invalid_request"],
      [row("\"op\":\"DELETE\",\"base_row_version\":\"1\""), "400 invalid_request"],
      [row("\"op\":\"DELETE\",\"payload\":null"), "400 push_chunk_invalid"],
      [row("\"op\":\"INSERT\",\"payload\":null"), "400 push_chunk_invalid"],
      [row("\"op\":\"INSERT\",\"payload\":[]"), "400 push_chunk_invalid"],
      [row("\"op\":\"INSERT\",\"payload\":\"x\""), "400 push_chunk_invalid"],
      [row("\"op\":\"INSERT\",\"payload\":{\"name\":1e400}"), "400 push_chunk_invalid"],
      [row("\"op\":\"INSERT\",\"payload\":{\"na-me\":1}"), "400 push_chunk_invalid"],
      [row("\"op\":\"INSERT\",\"payload\":{\"\":1}"), "400 push_chunk_invalid"],
      [row(`"op":"INSERT","payload":{"id":"${id(2)}"}`), "400 push_chunk_invalid"],
      [row("\"op\":\"INSERT\",\"payload\":{\"id\":5}"), "400 push_chunk_invalid"],
      [row("\"op\":\"INSERT\",\"payload\":{\"_sync_scope_id\":null}"), "400 push_chunk_invalid"],
      ["[null]", "400 push_chunk_invalid"],
      ["null", "400 push_chunk_invalid"],
      ["{}", "400 invalid_request"],
      ["[5]", "400 invalid_request"],
      [`[{"table":"users","key":{"ID":"${id(1)}"},"op":"DELETE"}]`, "400 push_chunk_invalid"],
      [`[{"schema":"business","table":"users","key":{"ID":"${id(1)}"},"op":"DELETE"}]`, "400 push_chunk_invalid"],
      [`[{"schema":"business","table":"users","key":{},"op":"DELETE"}]`, "400 push_chunk_invalid"],
      [`[{"schema":"business","table":"users","key":[],"op":"DELETE"}]`, "400 invalid_request"],
      [`[{"schema":"business","table":"users","op":"DELETE"}]`, "400 push_chunk_invalid"],
      [
        `[{"schema":"business","table":"users","key":{"id":"${id(1).toUpperCase().replace("8", "A")}"},"op":"DELETE"}]`,
        "400 push_chunk_invalid"
      ]
    ] as const
  ) {
    it.effect(`the rows ${rows} are answered ${expected} [wire.md §2.2]`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* chunk(rows), expected)
      }))
  }

  it.effect("invalid UTF-8 becomes U+FFFD byte by byte, unpaired surrogates too [wire.md §1.4]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const pushId = String((yield* a.create(1, 1)).body["push_id"])
      const text = `{"rows":${row("\"op\":\"INSERT\",\"payload\":{\"name\":\"a@b\\ud800c\"}")}}`
      const bytes = new TextEncoder().encode(text)
      const at = bytes.indexOf("@".charCodeAt(0))
      const broken = Uint8Array.from([...bytes.slice(0, at), 0xe2, 0x82, ...bytes.slice(at + 1)])
      const client = yield* HttpClient.HttpClient
      const answer = yield* client.execute(
        HttpClientRequest.post(`/sync/push-sessions/${pushId}/chunks`).pipe(
          HttpClientRequest.setHeaders(identified),
          HttpClientRequest.bodyUint8Array(broken)
        )
      )
      assert.strictEqual(answer.status, 200)
      yield* a.commit(pushId)
      assert.include((yield* ask("/sync/pull")).text, "\"name\":\"a\ufffd\ufffdb\ufffdc\"")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a body on a GET request is ignored [wire.md §1.4]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const answer = yield* target("/sync/pull", "GET")
      assert.strictEqual(answer.status, 401)
    }).pipe(Effect.provide(inProcess())))
})

describe("answers", () => {
  it.effect("are one JSON value and one line feed, with the escapes of the wire [wire.md §1.1, §1.5]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [insert("users", 1, { name: "<&>\u2028\u2029" })])
      const escaped = "\"name\":\"\\u003c\\u0026\\u003e\\u2028\\u2029\""
      for (const path of ["/sync/pull", "/sync/committed-bundles/1/rows"]) {
        const { contentType, text } = yield* ask(path)
        assert.strictEqual(contentType, "application/json")
        assert.include(text, escaped)
        assert.match(text, /^\{[^\n]*\}\n$/)
      }
      const refused = yield* ask("/sync/push-sessions", { body: "{\"source_bundle_id\":0}", source: "<" })
      assert.include(refused.text, "must be \\u003e 0")
    }).pipe(Effect.provide(inProcess())))

  it.effect("omit members that are zero and carry the others [wire.md §4.2]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const staging = yield* a.create(1, 1)
      assert.deepStrictEqual(Object.keys(staging.body).sort(), ["planned_row_count", "push_id", "status"])
      yield* a.chunk(staging.body["push_id"], 0, [user(1)])
      yield* a.commit(staging.body["push_id"])
      assert.deepStrictEqual(Object.keys((yield* a.create(1, 1)).body).sort(), [
        "bundle_hash",
        "bundle_seq",
        "row_count",
        "source_bundle_id",
        "source_id",
        "status"
      ])
    }).pipe(Effect.provide(inProcess())))

  it.effect("to DELETE have neither body nor content type [wire.md §4.5]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const pushId = String((yield* a.create(1, 1)).body["push_id"])
      const answer = yield* ask(`/sync/push-sessions/${pushId}`, { method: "DELETE" })
      assert.deepInclude(answer, { status: 204, text: "", contentType: undefined })
    }).pipe(Effect.provide(inProcess())))

  it.effect("of health and status describe the server [wire.md §4.13]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [user(1), user(2)])
      for (const path of ["/syncx/health", "/syncx/status"]) {
        const answer = yield* ask(path, { user: null, source: null })
        assert.strictEqual(answer.status, 200)
        const { committed_bundle_bytes, features, registered_tables, ...rest } = parsed(answer)
        assert.isAbove(Number(committed_bundle_bytes), 400)
        assert.deepInclude(features, { bundle_change_watch: true, exact_integers: true })
        assert.isTrue(Array.isArray(registered_tables) && registered_tables.length === 8)
        assert.deepStrictEqual(rest, {
          status: "healthy",
          version: "v1",
          app_name: "",
          lifecycle: "running",
          accepting_operations: true,
          inflight_operations: 0,
          user_state_retention_floor_ahead_count: 0,
          latest_bundle_seq_max: 1,
          retained_bundle_floor_min: 0,
          retained_bundle_floor_max: 0,
          retained_bundle_window_min: 1,
          retained_bundle_window_max: 1,
          history_pruned_error_count: 0,
          accepted_push_replay_count: 0,
          rejected_registered_write_count: 0,
          committed_bundle_count: 1
        })
      }
    }).pipe(Effect.provide(inProcess())))

  it.effect("of capabilities publish configured limits and omit those that are none [wire.md §4.12]", () =>
    Effect.gen(function*() {
      const { bundle_limits, schema_version } = (yield* a.request("/sync/capabilities")).body
      assert.strictEqual(schema_version, 7)
      assert.deepInclude(bundle_limits, {
        max_rows_per_push_chunk: 5000,
        max_rows_per_bundle: 9,
        push_session_ttl_seconds: 90,
        max_rows_per_snapshot_session: 4
      })
      assert.notProperty(bundle_limits, "max_bytes_per_snapshot_session")
    }).pipe(
      Effect.provide(inProcess({
        schemaVersion: 7,
        maxRowsPerPushChunk: -1,
        maxRowsPerBundle: 9,
        pushSessionTtl: "90.9 seconds",
        maxRowsPerSnapshotSession: 4
      }))
    ))
})

describe("the size of requests", () => {
  const tooLarge = Effect.gen(function*() {
    yield* a.connect(false)
    const pushId = String((yield* a.create(1, 1)).body["push_id"])
    const big = JSON.stringify({ rows: [insert("users", 1, { name: "x".repeat(3000) })] })
    const answer = yield* ask(`/sync/push-sessions/${pushId}/chunks`, { body: big })
    assert.strictEqual(answer.status, 413)
    assert.deepInclude(parsed(answer), { error: "invalid_request" })
    assert.strictEqual((yield* ask("/sync/connect", { body: "{}" })).status, 200)
  })

  it.effect("is limited, in process [issue 4]", () =>
    tooLarge.pipe(Effect.provide(inProcess({ maxRequestBytes: 2000 }))))

  it.live("is limited, over HTTP [issue 4]", () => tooLarge.pipe(Effect.provide(overHttp({ maxRequestBytes: 2000 }))))

  it.live("is limited without a content length by cutting the connection [issue 4]", () =>
    Effect.gen(function*() {
      const client = yield* HttpClient.HttpClient
      const chunks = new ReadableStream<Uint8Array>({
        start: (controller) => {
          controller.enqueue(new TextEncoder().encode(`{"x":"${"y".repeat(5000)}"}`))
          controller.close()
        }
      })
      const answer = yield* Effect.either(client.execute(
        HttpClientRequest.post("/sync/connect").pipe(
          HttpClientRequest.setHeaders(identified),
          HttpClientRequest.bodyStream(Stream.fromReadableStream(() => chunks, (cause) => cause))
        )
      ))
      assert.isTrue(Either.isLeft(answer) || answer.right.status === 413)
      assert.strictEqual(outcome(yield* a.pull(0)), "409 scope_uninitialized")
    }).pipe(Effect.provide(overHttp({ maxRequestBytes: 2000 }))))
})

describe("mounting", () => {
  it.effect("works under a prefix of one's own router, which keeps its other routes", () =>
    Effect.gen(function*() {
      const router = HttpRouter.empty.pipe(
        HttpRouter.get("/hello", HttpServerResponse.text("hi")),
        HttpRouter.mount("/api/v2", SyncRoutes.router)
      )
      const client = yield* InProcess.make(
        Effect.catchTag(router, "RouteNotFound", () => HttpServerResponse.empty({ status: 404 }))
      )
      const get = (path: string, headers = {}) =>
        client.execute(HttpClientRequest.setHeaders(HttpClientRequest.get(`http://host${path}`), headers))
      assert.strictEqual(yield* Effect.flatMap(get("/hello"), (_) => _.text), "hi")
      assert.strictEqual((yield* get("/sync/capabilities", identified)).status, 404)
      assert.strictEqual((yield* get("/api/v2/sync/capabilities")).status, 401)
      assert.strictEqual((yield* get("/api/v2/sync/capabilities", identified)).status, 200)
      const connected = yield* client.execute(
        HttpClientRequest.post("http://host/api/v2/sync/connect").pipe(
          HttpClientRequest.setHeaders(identified),
          HttpClientRequest.bodyText("{}", "application/json")
        )
      )
      assert.strictEqual(yield* connected.text, "{\"resolution\":\"initialize_empty\"}\n")
      const pulled = yield* get("/api/v2/sync/pull?after_bundle_seq=x", identified)
      assert.strictEqual(pulled.status, 400)
    }).pipe(Effect.provide(server())))
})
