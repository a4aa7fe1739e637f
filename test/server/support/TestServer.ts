import { FetchHttpClient, HttpClient, HttpClientRequest, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect, Layer, Redacted } from "effect"
import { createServer } from "node:http"
import { Authentication, InProcess, ServerStorageSqlite, SyncRoutes, SyncServer } from "oversqlite/server"
import type { SyncServerOptions } from "oversqlite/server"
import { businessTables } from "./BusinessTables.js"

export type Options = Partial<SyncServerOptions> & {
  readonly filename?: string
  readonly synchronous?: "full" | "normal"
}

/** A server over a database of its own, with a second connection for reading if it is a file; tokens are user ids. */
export const server = ({ filename = ":memory:", synchronous = "full", ...options }: Options = {}) =>
  SyncServer.layer({ tables: businessTables, ...options }).pipe(
    Layer.provide(ServerStorageSqlite.layerWith({
      synchronous,
      reader: filename === ":memory:" ? undefined : SqliteClient.layer({ filename })
    })),
    Layer.provideMerge(SqliteClient.layer({ filename })),
    Layer.provideMerge(Authentication.layerTokenIsUser)
  )

/** The server, reached without a socket. */
export const inProcess = (options: Options = {}) =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(HttpClient.HttpClient, HttpClient.mapRequest(HttpClientRequest.prependUrl("http://server")))
  ).pipe(Layer.provide(InProcess.layer), Layer.provideMerge(server(options)))

/** The server behind a real socket on a free port; requests need only a path. */
export const overHttp = (options: Options = {}) =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.gen(function*() {
      const address = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(address))
      return HttpClient.mapRequest(yield* HttpClient.HttpClient, HttpClientRequest.prependUrl(address))
    })
  ).pipe(
    Layer.provide(FetchHttpClient.layer),
    Layer.provideMerge(
      SyncRoutes.serve.pipe(
        Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" }))
      )
    ),
    Layer.provideMerge(server(options))
  )

export const secret = Redacted.make("a secret of the tests that is long enough")

export interface Asked {
  readonly method?: "GET" | "POST" | "DELETE" | "PUT" | "HEAD" | "OPTIONS" | undefined
  readonly body?: string | undefined
  readonly source?: string | null | undefined
  readonly user?: string | null | undefined
}

export interface Answered {
  readonly status: number
  readonly contentType: string | undefined
  readonly text: string
  readonly headers: Readonly<Record<string, string | undefined>>
}

/** One request; `path` is a path and query. */
export const ask = Effect.fnUntraced(function*(path: string, asked: Asked = {}) {
  const { body, method = body === undefined ? "GET" : "POST", source = "source-a", user = "user-1" } = asked
  const client = yield* HttpClient.HttpClient
  const request = HttpClientRequest.make(method)(path).pipe(
    user === null ? (_) => _ : HttpClientRequest.bearerToken(user),
    source === null ? (_) => _ : HttpClientRequest.setHeader("Oversync-Source-ID", source),
    body === undefined ? (_) => _ : HttpClientRequest.bodyText(body, "application/json")
  )
  const response = yield* client.execute(request)
  const text = yield* response.text
  const answered: Answered = {
    status: response.status,
    contentType: response.headers["content-type"],
    text,
    headers: response.headers
  }
  return answered
})
