/** The real parts of a run: an embedded server behind a socket, and devices that reach it over HTTP. */
import { HttpServer } from "@effect/platform"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import Database from "better-sqlite3"
import { Context, Effect, Layer, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import { createServer } from "node:http"
import { Credentials, SyncClient } from "oversqlite"
import type { SyncOptions } from "oversqlite"
import { Authentication, ServerStorageSqlite, SyncRoutes, SyncServer } from "oversqlite/server"
import { declarations, schema, tables } from "./World.js"

/** The account all devices belong to. */
export const user = "ada"

/**
 * Starts a server with an empty store in `filename` on a free port of the loopback interface. Only tokens signed with a
 * secret of this run are let in.
 */
export const startServer = (filename: string) =>
  Effect.gen(function*() {
    const secret = Redacted.make(randomBytes(32).toString("base64url"))
    const context = yield* Layer.build(
      HttpServer.serve(SyncRoutes.app).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
        Layer.provideMerge(SyncServer.layer({ tables: declarations })),
        Layer.provide(ServerStorageSqlite.layerWith({ reader: SqliteClient.layer({ filename }) })),
        Layer.provide(SqliteClient.layer({ filename })),
        Layer.provide(Authentication.layerJwt({ secret }))
      )
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    if (address._tag !== "TcpAddress") return yield* Effect.dieMessage("the server listens on no port")
    return {
      baseUrl: `http://127.0.0.1:${address.port}`,
      token: yield* Authentication.issueToken({ secret, userId: user, expiresIn: "1 hour" }),
      rows: Context.get(context, SyncServer).rows(user)
    }
  })

export type Server = Effect.Effect.Success<ReturnType<typeof startServer>>

/** The application's own connection to a database file, closed with the scope. */
export const openDatabase = (filename: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const database = new Database(filename)
      database.pragma("foreign_keys = ON")
      return database
    }),
    (database) => Effect.sync(() => database.close())
  )

/** A sync client on the database in `filename`, where the tables are already. */
export const startClient = (
  filename: string,
  { baseUrl, token }: Pick<Server, "baseUrl" | "token">,
  options: Partial<SyncOptions> = {}
) =>
  Effect.map(
    Layer.build(
      SyncClient.layer({ baseUrl, schema, tables, ...options }).pipe(
        Layer.provide([
          SqliteClient.layer({ filename }),
          NodeHttpClient.layerUndici,
          Credentials.layerBearer(token, { userId: user })
        ])
      )
    ),
    Context.get(SyncClient)
  )
