/**
 * The only place that begins a transaction.
 *
 * The stock `sql.withTransaction` begins deferred, leaves a transaction open whose commit has failed and cannot be
 * interrupted while it waits. This one begins immediate, so that what it reads is still true when it writes, and ends
 * in every case.
 *
 * @since 0.1.0
 */
import { TransactionConnection } from "@effect/sql/SqlClient"
import type { SqlClient } from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { typed } from "./Statement.js"
import { isBusy } from "./StorageFailure.js"

/**
 * Whether the fiber runs inside a transaction of any `SqlClient`. Statements would go to that transaction's connection,
 * whatever client they name, so engine operations refuse to start there.
 *
 * @since 0.1.0
 * @category getters
 */
export const insideTransaction: Effect.Effect<boolean> = Effect.map(
  Effect.serviceOption(TransactionConnection),
  Option.isSome
)

const busySchedule = Schedule.exponential("50 millis").pipe(Schedule.intersect(Schedule.recurs(2)))

/**
 * Repeats a statement that found the database busy, beyond SQLite's own busy time-out: three attempts in all, 50 and
 * 100 ms apart (retry-and-loops.md §8). The last failure is the result.
 *
 * @since 0.1.0
 * @category error handling
 */
export const retryBusy = <A, R>(self: Effect.Effect<A, SqlError, R>): Effect.Effect<A, SqlError, R> =>
  Effect.retry(self, { schedule: busySchedule, while: isBusy })

/**
 * Runs an effect inside `BEGIN IMMEDIATE … COMMIT` on the client's connection. Needs a client with one connection
 * (every SQLite client of `@effect/sql`).
 *
 * - All statements of the fiber inside the effect belong to the transaction. Nothing asynchronous should happen inside.
 * - Failure, defect and interruption of the effect roll back. A COMMIT that fails (a deferred foreign key) is a typed
 *   `SqlError` and rolls back as well. `onCommitFailure` runs before that ROLLBACK, with the transaction still open: the
 *   moment to ask `PRAGMA foreign_key_check` who it was. If it fails, its failure replaces the commit's.
 * - Waiting for the connection is interruptible and in order of arrival.
 * - A busy database is retried by {@link retryBusy}; between attempts the connection is free.
 * - Starting it inside a transaction is a defect: ask {@link insideTransaction} first.
 *
 * One `sql.transaction` span holds the `sql.execute` spans of the statements; BEGIN, COMMIT and ROLLBACK have none.
 * (DESIGN D13, D14; retry-and-loops.md §8; pull.md §10.3)
 *
 * @since 0.1.0
 * @category transactions
 */
export const immediate = <E2 = never, R2 = never>(
  sql: Pick<SqlClient, "reserve">,
  onCommitFailure?: (error: SqlError) => Effect.Effect<unknown, E2, R2>
): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | E2 | SqlError, R | R2> =>
  transaction(sql, "BEGIN IMMEDIATE", onCommitFailure)

/**
 * Runs an effect that only reads inside `BEGIN … COMMIT`: it sees one state of the database throughout, and in WAL mode
 * neither waits for a writer nor keeps one waiting. Otherwise like {@link immediate}.
 *
 * @since 0.1.0
 * @category transactions
 */
export const reading = (
  sql: Pick<SqlClient, "reserve">
): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError, R> => transaction(sql, "BEGIN")

const transaction = <E2 = never, R2 = never>(
  sql: Pick<SqlClient, "reserve">,
  begin: "BEGIN" | "BEGIN IMMEDIATE",
  onCommitFailure?: (error: SqlError) => Effect.Effect<unknown, E2, R2>
) =>
<A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | E2 | SqlError, R | R2> => {
  // Fails only if the transaction could not be begun, which is what may be repeated; what happened in it is the value.
  const attempt: Effect.Effect<Exit.Exit<A, E | E2 | SqlError>, SqlError, R | R2> = Effect.uninterruptibleMask(
    (restore) =>
      Effect.flatMap(Scope.make(), (scope) =>
        restore(Scope.extend(sql.reserve, scope)).pipe(
          Effect.flatMap((connection) => burst(connection, begin, restore(self), onCommitFailure)),
          Effect.onExit((exit) => Scope.close(scope, exit))
        ))
  )
  return Effect.flatMap(
    insideTransaction,
    (nested) => nested ? Effect.dieMessage("an engine transaction was started inside another one") : retryBusy(attempt)
  ).pipe(
    Effect.flatten,
    Effect.withSpan("sql.transaction", { kind: "client", captureStackTrace: false })
  )
}

// A fiber that yields inside the transaction lets host code run on the same thread, and a host connection that then
// waits for the write lock can never get it (DESIGN D14). Sleeping is still possible for whoever asks for it.
const withoutYielding = Effect.withMaxOpsBeforeYield(Number.MAX_SAFE_INTEGER)

const burst = <A, E, R, E2, R2>(
  connection: Connection,
  begin: string,
  self: Effect.Effect<A, E, R>,
  onCommitFailure: ((error: SqlError) => Effect.Effect<unknown, E2, R2>) | undefined
): Effect.Effect<Exit.Exit<A, E | E2 | SqlError>, SqlError, R | R2> => {
  // Not out of the driver's cache, which would also remember a failure.
  const control = (text: string) => typed(Effect.suspend(() => connection.executeUnprepared(text, [], undefined)))
  const within = Effect.provideService(TransactionConnection, [connection, 0])

  const committed: Effect.Effect<A, E | E2 | SqlError, R | R2> = Effect.flatMap(
    within(self),
    (value) =>
      control("COMMIT").pipe(
        Effect.catchAll((error) => {
          const look = onCommitFailure === undefined ? Effect.void : within(onCommitFailure(error))
          return Effect.zipRight(look, Effect.fail(error))
        }),
        Effect.as(value)
      )
  )
  // SQLite has already rolled back by itself after some failures (disk full); there is nothing left to roll back then.
  return control(begin).pipe(
    Effect.zipRight(Effect.exit(committed)),
    Effect.tap((exit) => Exit.isSuccess(exit) ? Effect.void : Effect.ignore(control("ROLLBACK"))),
    withoutYielding
  )
}
