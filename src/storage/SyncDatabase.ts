/**
 * The database of one client: its connection, its registered tables and the transactions of the engine.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"

import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as MutableRef from "effect/MutableRef"
import type { ConfigurationError, StorageError } from "../contract/SyncError.js"
import { DatabaseTakenOver } from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import { refreshIfChanged } from "./Installation.js"
import type { Execute } from "./Statement.js"
import { executeOn } from "./Statement.js"
import { catchSql } from "./StorageFailure.js"
import type { SyncTables } from "./SyncTable.js"
import { immediate } from "./Transaction.js"

/**
 * What the engine does with the database. Statements given to `all` fail with the driver's `SqlError`; `read`,
 * `transaction` and `authoritative` turn it into a `StorageError`, so no flow ever sees it.
 *
 * @since 0.1.0
 * @category services
 */
export class SyncDatabase extends Context.Tag("oversqlite/SyncDatabase")<SyncDatabase, {
  /** The configured schema (client-state.md §4). */
  readonly schema: string
  /** Rows handled by one statement of a batch (client-state.md §3.1, `applyRows`). */
  readonly applyRows: number
  /** The registered tables, parents first. Inside a transaction they fit the database as it is then. */
  readonly tables: Effect.Effect<SyncTables>
  /** The epoch that this client has written by `open`, −1 before (client-state.md §5). */
  readonly epoch: Effect.Effect<number>
  /** The host's client, for the parts of the installation that flows repeat. */
  readonly sql: SqlClient.SqlClient
  /** One statement, in the ambient transaction if there is one. */
  readonly all: Execute
  /** Plain reads of the last committed state. */
  readonly read: <A, E, R>(
    self: Effect.Effect<A, E | SqlError, R>
  ) => Effect.Effect<A, StorageError | Exclude<E, SqlError>, R>
  /**
   * One immediate transaction of the client that owns the database: fails with `DatabaseTakenOver` if a younger client
   * has opened it (client-state.md §5), and first gives tables that were altered their new triggers (capture.md §10).
   */
  readonly transaction: <A, E, R>(
    self: Effect.Effect<A, E | SqlError, R>
  ) => Effect.Effect<A, StorageError | DatabaseTakenOver | ConfigurationError | Exclude<E, SqlError>, R>
  /** Like `transaction`, whatever has become of the tables since they were installed. */
  readonly asInstalled: <A, E, R>(
    self: Effect.Effect<A, E | SqlError, R>
  ) => Effect.Effect<A, StorageError | DatabaseTakenOver | Exclude<E, SqlError>, R>
  /**
   * Like `transaction`, with capture and guard triggers silent and foreign keys checked at the commit: the way
   * authoritative data is written. `onCommitFailure` runs while the refused commit is still open, for looking at it.
   */
  readonly authoritative: <A, E, R, E2 = never, R2 = never>(
    self: Effect.Effect<A, E | SqlError, R>,
    onCommitFailure?: (error: SqlError) => Effect.Effect<never, E2 | SqlError, R2>
  ) => Effect.Effect<
    A,
    StorageError | DatabaseTakenOver | ConfigurationError | Exclude<E, SqlError> | Exclude<E2, SqlError>,
    R | R2
  >
  /**
   * The transaction of `open`: not fenced, because it takes the database over by writing the new epoch. Tables that were
   * altered get their new triggers here too.
   */
  readonly takeOver: <A, E, R>(
    self: (epoch: number) => Effect.Effect<A, E | SqlError, R>
  ) => Effect.Effect<A, StorageError | ConfigurationError | Exclude<E, SqlError>, R>
}>() {}

interface Fence {
  readonly engine_epoch: number
  readonly schema_version: number
}

/**
 * Builds the database of a client from installed tables.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  installed: SyncTables,
  options: { readonly applyRows: number }
): Effect.fn.Return<SyncDatabase["Type"], never, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const tables = MutableRef.make(installed)
  const ownEpoch = MutableRef.make(-1)

  const all = executeOn(sql)

  const refresh = (schemaVersion: number) =>
    schemaVersion === MutableRef.get(tables).schemaVersion
      ? Effect.void
      : Effect.map(
        Effect.provideService(refreshIfChanged(MutableRef.get(tables)), SqlClient.SqlClient, sql),
        (changed) => void MutableRef.set(tables, changed)
      )

  const checkEpoch = Effect.gen(function*() {
    const [row] = yield* all<Fence>(
      "SELECT e.engine_epoch, v.schema_version FROM _sync_engine_state AS e, pragma_schema_version AS v WHERE e.singleton_key = 1"
    )
    if (row === undefined || row.engine_epoch !== MutableRef.get(ownEpoch)) {
      return yield* raise((operation) => new DatabaseTakenOver({ operation }))
    }
    return row.schema_version
  })

  const fence = Effect.flatMap(checkEpoch, refresh)

  // A rolled-back refresh has changed neither triggers nor schema version: what was known before is true again.
  const keepingTables = <A, E, R>(self: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      const before = MutableRef.get(tables)
      return Effect.onError(self, () => Effect.sync(() => MutableRef.set(tables, before)))
    })

  const silenced = Effect.fnUntraced(function*<A, E, R>(self: Effect.Effect<A, E, R>) {
    yield* all("UPDATE _sync_apply_state SET apply_mode = 1 WHERE singleton_key = 1")
    yield* all("PRAGMA defer_foreign_keys = ON")
    const result = yield* self
    yield* all("UPDATE _sync_apply_state SET apply_mode = 0 WHERE singleton_key = 1")
    return result
  })

  return {
    schema: installed.schema,
    applyRows: options.applyRows,
    tables: Effect.sync(() => MutableRef.get(tables)),
    epoch: Effect.sync(() => MutableRef.get(ownEpoch)),
    sql,
    all,
    read: catchSql,
    transaction: <A, E, R>(self: Effect.Effect<A, E | SqlError, R>) =>
      catchSql<A, E | DatabaseTakenOver | ConfigurationError | StorageError, R>(
        keepingTables(immediate(sql)(Effect.zipRight(fence, self)))
      ),
    asInstalled: <A, E, R>(self: Effect.Effect<A, E | SqlError, R>) =>
      catchSql<A, E | DatabaseTakenOver, R>(immediate(sql)(Effect.zipRight(checkEpoch, self))),
    authoritative: <A, E, R, E2, R2>(
      self: Effect.Effect<A, E | SqlError, R>,
      onCommitFailure?: (error: SqlError) => Effect.Effect<never, E2 | SqlError, R2>
    ) =>
      catchSql<A, E | E2 | DatabaseTakenOver | ConfigurationError | StorageError, R | R2>(
        keepingTables(immediate(sql, onCommitFailure)(Effect.zipRight(fence, silenced(self))))
      ),
    takeOver: (self) =>
      catchSql(keepingTables(
        immediate(sql)(Effect.gen(function*() {
          const [row] = yield* all<Fence>(
            `UPDATE _sync_engine_state SET engine_epoch = engine_epoch + 1 WHERE singleton_key = 1
          RETURNING engine_epoch, (SELECT schema_version FROM pragma_schema_version) AS schema_version`
          )
          const epoch = row?.engine_epoch ?? 0
          if (row !== undefined) yield* refresh(row.schema_version)
          const result = yield* self(epoch)
          return { epoch, result }
        }))
      )).pipe(Effect.map(({ epoch, result }) => {
        MutableRef.set(ownEpoch, epoch)
        return result
      }))
  }
})
