import { FetchHttpClient, type HttpClient } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Fiber, Layer, Stream } from "effect"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { Credentials } from "../../src/remote/Credentials.js"
import type { RemoteOptions } from "../../src/remote/SyncApi.js"
import { SyncApi } from "../../src/remote/SyncApi.js"
import { caller } from "./ScriptedServer.js"

const transports: ReadonlyArray<readonly [string, Layer.Layer<HttpClient.HttpClient>]> = [
  ["fetch", FetchHttpClient.layer],
  ["node", Layer.provide(NodeHttpClient.layerWithoutAgent, NodeHttpClient.makeAgentLayer({ keepAlive: true }))],
  ["undici", NodeHttpClient.layerUndici]
]

const listen = (handler: Http.RequestListener) =>
  Effect.acquireRelease(
    Effect.async<{ readonly server: Http.Server; readonly baseUrl: string }>((resume) => {
      const server = Http.createServer(handler)
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        resume(Effect.succeed({ server, baseUrl: `http://127.0.0.1:${port}` }))
      })
    }),
    ({ server }) =>
      Effect.async<void>((resume) => {
        server.closeAllConnections()
        server.close(() => resume(Effect.void))
      })
  )

const remote = (transport: Layer.Layer<HttpClient.HttpClient>, options: RemoteOptions) =>
  SyncApi.layer({ retryPolicy: { enabled: false }, ...options }).pipe(
    Layer.provide(Credentials.layerBearer("token-1")),
    Layer.provide(transport)
  )

const pull = SyncApi.pipe(
  Effect.flatMap((api) => api.pull(caller, { afterBundleSeq: 0, maxBundles: 10, targetBundleSeq: undefined }))
)

const emptyPage = `{"stable_bundle_seq":0,"bundles":[],"has_more":false}\n`

describe.each(transports)("over real HTTP through %s", (_name, transport) => {
  it.scopedLive("reads an answer that arrives in pieces and asks for no compression [wire.md §1.1]", () =>
    Effect.gen(function*() {
      let headers: Http.IncomingHttpHeaders = {}
      let rawHeaders: ReadonlyArray<string> = []
      const { baseUrl } = yield* listen((request, response) => {
        headers = request.headers
        rawHeaders = request.rawHeaders
        response.writeHead(200, { "content-type": "application/json" })
        response.write(emptyPage.slice(0, 7))
        setImmediate(() => response.end(emptyPage.slice(7)))
      })
      const page = yield* Effect.provide(pull, remote(transport, { baseUrl }))
      assert.strictEqual(page.text, emptyPage)
      assert.strictEqual(headers["accept-encoding"], "identity")
      assert.strictEqual(headers["authorization"], "Bearer token-1")
      assert.strictEqual(headers["oversync-source-id"], "source-a")
      assert.isFalse(rawHeaders.some((header) => /traceparent|b3/iu.test(header)))
    }))

  it.scopedLive("sends a source id as the UTF-8 bytes the server compares [wire.md §1.2]", () =>
    Effect.gen(function*() {
      let bytes = ""
      const { baseUrl } = yield* listen((request, response) => {
        bytes = Buffer.from(String(request.headers["oversync-source-id"]), "latin1").toString("utf8")
        response.end(emptyPage)
      })
      yield* SyncApi.pipe(
        Effect.flatMap((api) =>
          api.pull({ sourceId: "Gerät 1 – ☃", userId: "" }, {
            afterBundleSeq: 0,
            maxBundles: 1,
            targetBundleSeq: undefined
          })
        ),
        Effect.provide(remote(transport, { baseUrl }))
      )
      assert.strictEqual(bytes, "Gerät 1 – ☃")
    }))

  it.scopedLive("repeats after a chunked body without its end [retry-and-loops.md §1.1 rule 5]", () =>
    Effect.gen(function*() {
      let requests = 0
      const { baseUrl } = yield* listen((request, response) => {
        requests++
        if (requests < 3) {
          response.writeHead(200, { "content-type": "application/json" })
          response.write(emptyPage.slice(0, 20), () => request.socket.destroy())
        } else {
          response.end(emptyPage)
        }
      })
      const page = yield* Effect.provide(
        pull,
        remote(transport, { baseUrl, retryPolicy: { enabled: true, initialBackoff: 1, maxBackoff: 1 } })
      )
      assert.strictEqual(page.body.stable_bundle_seq, 0)
      assert.strictEqual(requests, 3)
    }))

  it.scopedLive("calls a body shorter than announced interrupted [errors.md §1.6]", () =>
    Effect.gen(function*() {
      const { baseUrl } = yield* listen((request, response) => {
        response.writeHead(200, { "content-length": String(emptyPage.length) })
        response.write(emptyPage.slice(0, 20), () => request.socket.destroy())
      })
      const failure = yield* Effect.flip(Effect.provide(pull, remote(transport, { baseUrl })))
      assert.strictEqual(failure._tag === "TransportError" ? failure.code : failure._tag, "body_interrupted")
    }))

  it.scopedLive("reports a refused connection as a connection failure [retry-and-loops.md §1.1]", () =>
    Effect.gen(function*() {
      const baseUrl = yield* Effect.scoped(Effect.map(listen(() => {}), (server) => server.baseUrl))
      const failure = yield* Effect.flip(Effect.provide(pull, remote(transport, { baseUrl })))
      assert.strictEqual(failure._tag === "TransportError" ? failure.code : failure._tag, "connection")
    }))

  it.scopedLive("closes the connection of a body that is too large [retry-and-loops.md §2.1]", () =>
    Effect.gen(function*() {
      const closed = yield* Effect.makeLatch()
      const { baseUrl } = yield* listen((request, response) => {
        request.socket.once("close", () => closed.unsafeOpen())
        response.writeHead(200)
        const more = () => {
          if (response.destroyed) return
          response.write("x".repeat(10_000), () => setImmediate(more))
        }
        more()
      })
      const failure = yield* Effect.flip(
        Effect.provide(pull, remote(transport, { baseUrl, maxResponseBytes: 100_000 }))
      )
      assert.strictEqual(failure._tag === "TransportError" ? failure.code : failure._tag, "response_too_large")
      yield* closed.await
    }))

  it.scopedLive.each([["a long", {}], ["a short", { "content-length": "100" }]] as const)(
    "closes the connection when the caller is interrupted in the middle of %s body [errors.md rule 5]",
    ([_size, headers]) =>
      Effect.gen(function*() {
        const started = yield* Effect.makeLatch()
        const closed = yield* Effect.makeLatch()
        const { baseUrl } = yield* listen((request, response) => {
          request.socket.once("close", () => closed.unsafeOpen())
          response.writeHead(200, headers)
          response.write("{", () => started.unsafeOpen())
        })
        const fiber = yield* Effect.fork(Effect.provide(pull, remote(transport, { baseUrl })))
        yield* started.await
        yield* Fiber.interrupt(fiber)
        yield* closed.await
      })
  )

  it.scopedLive("uses connections again after errors and answers of either framing [wire.md §1.3]", () =>
    Effect.gen(function*() {
      const sockets = new Set<unknown>()
      let requests = 0
      const { baseUrl } = yield* listen((request, response) => {
        sockets.add(request.socket)
        const body = `{"error":"history_pruned","message":"m"}\n`
        response.writeHead(requests % 3 === 0 ? 200 : 409, {
          "content-type": "application/json",
          ...(requests % 2 === 0 ? { "content-length": body.length } : {})
        })
        requests++
        response.end(body)
      })
      yield* Effect.provide(Effect.replicateEffect(Effect.ignore(pull), 12), remote(transport, { baseUrl }))
      assert.strictEqual(requests, 12)
      // A client may open a second one while the first is on its way back into its pool.
      assert.isAtMost(sockets.size, 2)
    }))

  it.scopedLive("reads events until the server closes the stream, and leaves when the reader leaves [wire.md §4.8]", () =>
    Effect.gen(function*() {
      const closed = yield* Effect.makeLatch()
      const { baseUrl } = yield* listen((request, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" })
        response.write(
          `: heartbeat\n\nevent: bundle\ndata: {"bundle_seq":58,"source_id":"a","source_bundle_id":31}\n\n`
        )
        if (request.url === "/end/sync/watch?after_bundle_seq=57") response.end()
        else request.socket.once("close", () => closed.unsafeOpen())
      })
      const seen: Array<number> = []
      const watch = Stream.unwrap(Effect.map(SyncApi, (api) => api.watch(caller, 57)))
      const failure = yield* watch.pipe(
        Stream.runForEach((event) => Effect.sync(() => seen.push(event.bundle_seq))),
        Effect.flip,
        Effect.provide(remote(transport, { baseUrl: `${baseUrl}/end/` }))
      )
      assert.deepStrictEqual(seen, [58])
      assert.strictEqual(failure._tag === "TransportError" ? failure.code : failure._tag, "body_interrupted")

      const first = yield* watch.pipe(
        Stream.take(1),
        Stream.runCollect,
        Effect.provide(remote(transport, { baseUrl }))
      )
      assert.strictEqual(Chunk.unsafeHead(first).bundle_seq, 58)
      yield* closed.await
    }))
})
