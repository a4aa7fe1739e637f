/**
 * The HTTP face of the server (wire.md §1, §4).
 *
 * @since 0.1.0
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Authentication } from "./Authentication.js"
import * as Endpoints from "./Endpoints.js"
import * as RequestQuery from "./RequestQuery.js"
import { SyncServer } from "./SyncServer.js"

type Handler = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  SyncServer | Authentication | HttpServerRequest.HttpServerRequest | HttpRouter.RouteContext
>

type Handlers = Readonly<Record<string, Handler>>

const routes: ReadonlyArray<readonly [path: `/${string}`, handlers: Handlers]> = [
  ["/sync/capabilities", { GET: Endpoints.capabilities }],
  ["/sync/connect", { POST: Endpoints.connect }],
  ["/sync/push-sessions", { POST: Endpoints.createPushSession }],
  ["/sync/push-sessions/:push_id", { DELETE: Endpoints.deletePushSession }],
  ["/sync/push-sessions/:push_id/chunks", { POST: Endpoints.uploadChunk }],
  ["/sync/push-sessions/:push_id/commit", { POST: Endpoints.commitPushSession }],
  ["/sync/committed-bundles/:bundle_seq/rows", { GET: Endpoints.committedRows }],
  ["/sync/pull", { GET: Endpoints.pull }],
  ["/sync/watch", { GET: Endpoints.watch }],
  ["/sync/snapshot-sessions", { POST: Endpoints.createSnapshot }],
  ["/sync/snapshot-sessions/:snapshot_id", { GET: Endpoints.snapshotChunk, DELETE: Endpoints.deleteSnapshot }],
  ["/syncx/health", { GET: Endpoints.health }],
  ["/syncx/status", { GET: Endpoints.status }]
]

/** Another method on a known path: `Allow` names the right ones, and nothing is authenticated (wire.md §1.6). */
const notAllowed = (allowed: ReadonlyArray<string>): Handler => {
  const named = allowed.flatMap((method) => method === "GET" ? ["GET", "HEAD"] : [method]).sort()
  return Effect.succeed(HttpServerResponse.text("Method Not Allowed\n", {
    status: 405,
    headers: { allow: named.join(", ") },
    contentType: "text/plain; charset=utf-8"
  }))
}

const byMethod = (handlers: Handlers, open: boolean): Handler =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method }) => {
    const handler = handlers[method]
    if (handler !== undefined) return handler
    if (method !== "HEAD" || handlers["GET"] === undefined) return notAllowed(Object.keys(handlers))
    return open ? Endpoints.openHead : Endpoints.head
  })

const notFound = HttpServerResponse.text("404 page not found\n", {
  status: 404,
  contentType: "text/plain; charset=utf-8"
})

/** A path whose last segment is missing is no path of ours. */
const complete = (handler: Handler): Handler =>
  Effect.flatMap(HttpRouter.params, (params) => Object.values(params).includes("") ? Effect.succeed(notFound) : handler)

/**
 * The routes of the protocol, to be mounted in a router of one's own, under a prefix if need be. Unknown paths are not
 * answered; wrong methods on known paths are.
 *
 * @example
 * ```ts
 * import { HttpRouter } from "@effect/platform"
 * import { SyncRoutes } from "oversqlite/server"
 *
 * const router = HttpRouter.empty.pipe(HttpRouter.mount("/api/v2", SyncRoutes.router))
 * ```
 *
 * @since 0.1.0
 * @category routers
 */
export const router: HttpRouter.HttpRouter<never, SyncServer | Authentication> = HttpRouter.fromIterable(
  routes.map(([path, handlers]) =>
    HttpRouter.makeRoute("*", path, complete(byMethod(handlers, path.startsWith("/syncx/"))))
  )
)

/** A path without `//`, `.` and `..` segments. */
const cleaned = (path: string): string => {
  const segments: Array<string> = []
  for (const segment of path.split("/")) {
    if (segment === "..") segments.pop()
    else if (segment !== "" && segment !== ".") segments.push(segment)
  }
  return "/" + segments.join("/") + (path.endsWith("/") && segments.length > 0 ? "/" : "")
}

/** Unclean paths are redirected, whatever the method and whether or not the clean path exists (wire.md §1.6). */
const redirected = (url: string): HttpServerResponse.HttpServerResponse | undefined => {
  const query = url.indexOf("?")
  const path = query === -1 ? url : url.slice(0, query)
  const clean = cleaned(path)
  return clean === path ? undefined : HttpServerResponse.empty({
    status: 307,
    headers: { location: clean + (query === -1 ? "" : url.slice(query)) }
  })
}

const foreignEscapes = /(?:%[89a-f][\da-f])+/gi

/**
 * A target as the router reads it rightly: it takes `;` for the beginning of the query, and a path with escapes that are no
 * UTF-8 for an unknown one.
 */
const routable = (url: string): string => {
  const query = url.indexOf("?")
  const path = (query === -1 ? url : url.slice(0, query)).replaceAll(";", "%3B")
  return path.replace(foreignEscapes, (escapes) => encodeURIComponent(RequestQuery.percentDecode(escapes) ?? "")) +
    (query === -1 ? "" : url.slice(query))
}

const exact = HttpRouter.withRouterConfig(router, {
  caseSensitive: true,
  ignoreDuplicateSlashes: false,
  ignoreTrailingSlash: false,
  // Beyond what a request target can have: a long id is an unknown one, not an unknown path.
  maxParamLength: 1 << 24
})

/**
 * The whole server as an application: the routes, and the answers to everything else (wire.md §1.6). Paths are matched
 * exactly.
 *
 * @since 0.1.0
 * @category applications
 */
export const app: HttpApp.Default<never, SyncServer | Authentication> = Effect.flatMap(
  HttpServerRequest.HttpServerRequest,
  (request) => {
    const redirect = redirected(request.url)
    if (redirect !== undefined) return Effect.succeed(redirect)
    return exact.pipe(
      Effect.catchTag("RouteNotFound", () => Effect.succeed(notFound)),
      Effect.provideService(HttpServerRequest.HttpServerRequest, request.modify({ url: routable(request.url) }))
    )
  }
)

/**
 * Shuts the sync server down before the HTTP server closes, which would otherwise wait for open event streams for ever:
 * new operations are refused, running ones finish, streams end. For those who mount {@link router} themselves.
 *
 * @since 0.1.0
 * @category layers
 */
export const drain: Layer.Layer<never, never, SyncServer | HttpServer.HttpServer> = Layer.scopedDiscard(
  Effect.gen(function*() {
    const server = yield* SyncServer
    // Required, so that it outlives this layer.
    yield* HttpServer.HttpServer
    yield* Effect.addFinalizer(() => server.shutdown)
  })
)

/**
 * The whole server on an HTTP server; its scope shuts it down gracefully (server.md §14).
 *
 * @example
 * ```ts
 * import { NodeHttpServer } from "@effect/platform-node"
 * import * as Layer from "effect/Layer"
 * import { SyncRoutes } from "oversqlite/server"
 * import { createServer } from "node:http"
 *
 * const http = Layer.provide(SyncRoutes.serve, NodeHttpServer.layer(() => createServer(), { port: 8080 }))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const serve: Layer.Layer<never, never, SyncServer | Authentication | HttpServer.HttpServer> = Layer.merge(
  HttpServer.serve(app),
  drain
)
