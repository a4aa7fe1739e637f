/** A fresh SQLite database for one test, and what tests ask of one. */
import * as Reactivity from "@effect/experimental/Reactivity"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect, type Scope, Tracer } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

type Made = Effect.Effect<SqliteClient.SqliteClient, never, Scope.Scope>

/** A client of its own on a database in memory; closed with the scope. */
export const memory: Made = SqliteClient.make({ filename: ":memory:" }).pipe(Effect.provide(Reactivity.layer))

/** A client that gives every column another name, as hosts do who like camel case. */
export const shouting: Made = SqliteClient.make({
  filename: ":memory:",
  transformResultNames: (name) => name.toUpperCase()
}).pipe(Effect.provide(Reactivity.layer))

/** A client on a file: several of them are several connections. */
export const onFile = (filename: string): Made => SqliteClient.make({ filename }).pipe(Effect.provide(Reactivity.layer))

/** The name of a database file in a directory that goes with the scope. */
export const temporaryFile: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "oversqlite-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
).pipe(Effect.map((directory) => join(directory, "test.db")))

/** Runs statements one after the other. */
export const script = (sql: SqlClient.SqlClient, statements: ReadonlyArray<string>) =>
  Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })

/** The whole `sqlite_schema`, to compare what a refused operation may have left behind. */
export const catalogueText = (sql: SqlClient.SqlClient) =>
  sql.unsafe<{ readonly type: string; readonly name: string; readonly tbl_name: string; readonly sql: string | null }>(
    "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY rowid"
  )

/** What a statement counter has seen: the SQL texts in order, and the number of transactions. */
export interface Counted {
  readonly statements: Array<string>
  transactions: number
}

/** Runs an effect and tells which statements it sent. */
export const counting = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<readonly [A, Counted], E, R> =>
  Effect.suspend(() => {
    const counted: Counted = { statements: [], transactions: 0 }
    return Effect.flatMap(Effect.tracer, (native) => {
      const tracer = Tracer.make({
        span: (name, parent, context, links, startTime, kind, options) => {
          const span = native.span(name, parent, context, links, startTime, kind, options)
          if (name === "sql.transaction") counted.transactions++
          if (name !== "sql.execute") return span
          return {
            ...span,
            addLinks: (added) => span.addLinks(added),
            attribute: (key: string, value: unknown) => {
              if (key === "db.query.text") counted.statements.push(String(value))
              span.attribute(key, value)
            },
            end: (endTime, exit) => span.end(endTime, exit),
            event: (event, at, attributes) => span.event(event, at, attributes)
          }
        },
        context: (f, fiber) => native.context(f, fiber)
      })
      return Effect.map(Effect.withTracer(self, tracer), (value): readonly [A, Counted] => [value, counted])
    })
  })

/** A database in memory as the ambient `SqlClient`. */
export const withMemory = <A, E, R>(
  body: (sql: SqliteClient.SqliteClient) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, SqlClient.SqlClient> | Scope.Scope> =>
  Effect.flatMap(memory, (sql) => Effect.provideService(body(sql), SqlClient.SqlClient, sql))
