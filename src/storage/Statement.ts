/**
 * Running single statements of the engine.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { sqliteCode } from "./StorageFailure.js"

/**
 * What a parameter can be. Bind integers as `bigint` where the column is not an INTEGER: a number binds as REAL.
 *
 * @since 0.1.0
 * @category models
 */
export type Parameter = string | number | bigint | Uint8Array | null

/**
 * Runs one statement with its parameters and answers its rows, in the ambient transaction if there is one.
 *
 * @since 0.1.0
 * @category models
 */
export type Execute = <A extends object>(
  text: string,
  parameters?: ReadonlyArray<Parameter>
) => Effect.Effect<ReadonlyArray<A>, SqlError>

/** What the driver for Node throws once the host has closed its database. */
const isClosed = (defect: unknown): boolean =>
  defect instanceof TypeError && defect.message === "The database connection is not open"

/**
 * Turns what a driver throws into a failure. Without its cache of statements the driver for Node throws what SQLite says
 * about a text that it cannot prepare.
 *
 * @since 0.1.0
 * @category error handling
 */
export const typed = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError> =>
  Effect.catchAllDefect(self, (defect) =>
    sqliteCode(defect) === undefined && !isClosed(defect)
      ? Effect.die(defect)
      : Effect.fail(new SqlError({ cause: defect, message: "Failed to prepare statement" })))

/**
 * How the engine runs its statements on a client of the host: with the columns' own names, whatever the client makes of
 * them for the host, and with a second look at a statement that could not be prepared. The driver remembers such a failure
 * for ten minutes by the statement's text, although a migration, or another process that had the file locked, may have
 * put it right since.
 *
 * @since 0.1.0
 * @category constructors
 */
export const executeOn = (client: SqlClient.SqlClient): Execute => {
  const sql = client.withoutTransforms()
  return <A extends object>(text: string, parameters?: ReadonlyArray<Parameter>) => {
    const statement = sql.unsafe<A>(text, parameters)
    return Effect.catchIf(
      statement,
      (error) => error.message.startsWith("Failed to prepare"),
      () => typed(statement.unprepared)
    )
  }
}

/**
 * {@link executeOn} the ambient client.
 *
 * @since 0.1.0
 * @category constructors
 */
export const execute: Effect.Effect<Execute, never, SqlClient.SqlClient> = Effect.map(SqlClient.SqlClient, executeOn)
