import { SqliteClient } from "@effect/sql-sqlite-node"
import type { SqlClient } from "@effect/sql/SqlClient"
import { Context, Effect, Layer } from "effect"
import type { SyncClient, SyncOptions } from "oversqlite"
import { Credentials, make as makeClient } from "oversqlite"
import type { TableDeclaration } from "oversqlite/server"
import { Authentication, InProcess, ServerStorageSqlite, SyncServer } from "oversqlite/server"

/** The server of a test: the real one, on a database of its own, reached without a socket. */
export const serverTables: ReadonlyArray<TableDeclaration> = [
  { schema: "business", table: "users", key: { column: "id", kind: "text" } },
  {
    schema: "business",
    table: "posts",
    key: { column: "id", kind: "text" },
    references: [{ column: "author_id", table: "users", onDelete: "cascade" }]
  },
  { schema: "business", table: "files", key: { column: "id", kind: "uuid" }, columns: { name: "text", data: "bytea" } }
]

export const tables: SyncOptions["tables"] = [
  { name: "users", key: "id" },
  { name: "posts", key: "id" },
  { name: "files", key: "id" }
]

export const ddl: ReadonlyArray<string> = [
  "CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT, email TEXT UNIQUE, score REAL)",
  `CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, title TEXT,
     author_id TEXT REFERENCES users (id) ON DELETE CASCADE)`,
  "CREATE TABLE files (id BLOB PRIMARY KEY NOT NULL, name TEXT, data BLOB)"
]

export const server = (filename = ":memory:", declared = serverTables) =>
  InProcess.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(
      SyncServer.layer({ tables: declared }).pipe(
        Layer.provideMerge(ServerStorageSqlite.layer),
        Layer.provide(SqliteClient.layer({ filename }))
      ),
      Authentication.layerTokenIsUser
    ))
  )

export interface Device {
  readonly sync: SyncClient["Type"]
  readonly sql: SqlClient
  readonly run: (
    text: string,
    parameters?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<Record<string, unknown>>>
}

/** A device: a database with the tables of the test and a client, both in the scope of the test. */
export const device = (
  user: string,
  options: Partial<SyncOptions> & { readonly filename?: string; readonly ddl?: ReadonlyArray<string> } = {}
) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(SqliteClient.layer({ filename: options.filename ?? ":memory:" }))
    const sql = Context.get(context, SqliteClient.SqliteClient)
    const run: Device["run"] = (text, parameters) => Effect.orDie(sql.unsafe(text, parameters))
    for (const statement of options.ddl ?? ddl) {
      yield* run(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS "))
    }
    const credentials = yield* Layer.build(Credentials.layerBearer(user))
    const sync = yield* makeClient({ baseUrl: "http://localhost", schema: "business", tables, ...options }).pipe(
      Effect.provide(Context.merge(context, credentials))
    )
    return { sync, sql, run } satisfies Device
  })
