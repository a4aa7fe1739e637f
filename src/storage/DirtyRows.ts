/**
 * Captured local changes that are not frozen yet (client-state.md §2.6).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { ofBundle } from "./Outbox.js"
import { hasKey, identifier, localObject } from "./SqlText.js"
import { SyncDatabase } from "./SyncDatabase.js"
import type { SyncTable } from "./SyncTable.js"

/**
 * Number of dirty rows, counted on their own table.
 *
 * @since 0.1.0
 * @category reading
 */
export const count: Effect.Effect<number, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) =>
    Effect.map(
      db.all<{ readonly n: number }>("SELECT count(*) AS n FROM _sync_dirty_rows"),
      ([row]) => row?.n ?? 0
    )
)

/**
 * Whether there is a dirty row.
 *
 * @since 0.1.0
 * @category reading
 */
export const exists: Effect.Effect<boolean, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) =>
    Effect.map(
      db.all<{ readonly found: number }>("SELECT EXISTS (SELECT 1 FROM _sync_dirty_rows) AS found"),
      ([row]) => row?.found === 1
    )
)

/**
 * The tables that have dirty rows, parents first.
 *
 * @since 0.1.0
 * @category reading
 */
export const tables: Effect.Effect<ReadonlyArray<SyncTable>, SqlError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const registered = (yield* db.tables).tables
  const found = yield* db.all<{ readonly name: string }>(
    `SELECT e.value AS name FROM json_each(?) AS e
      WHERE EXISTS (SELECT 1 FROM _sync_dirty_rows AS d WHERE d.schema_name = ? AND d.table_name = e.value)`,
    [JSON.stringify(registered.map(({ name }) => name)), db.schema]
  )
  const names = new Set(found.map(({ name }) => name))
  return registered.filter(({ name }) => names.has(name))
})

/**
 * What pending work there is.
 *
 * @since 0.1.0
 * @category models
 */
export interface Pending {
  readonly dirty: number
  readonly frozen: number
  /** Whether any live row is known to the server. */
  readonly materialized: boolean
}

/**
 * The answer to {@link pendingColumns}.
 *
 * @since 0.1.0
 * @category models
 */
export interface PendingRow {
  readonly dirty: number
  readonly frozen: number
  readonly materialized: number
}

/**
 * Scalar expressions, each with its name: dirty rows, frozen rows (`max(row_ordinal) + 1`) and whether any live row is
 * known to the server (errors.md §2).
 *
 * @since 0.1.0
 * @category sql
 */
export const pendingColumns: ReadonlyArray<string> = [
  "(SELECT count(*) FROM _sync_dirty_rows) AS dirty",
  `(SELECT coalesce(max(row_ordinal) + 1, 0) FROM _sync_outbox_rows WHERE ${ofBundle}) AS frozen`,
  "EXISTS (SELECT 1 FROM _sync_row_state WHERE deleted = 0) AS materialized"
]

/**
 * The pending work of an answer.
 *
 * @since 0.1.0
 * @category conversions
 */
export const pendingOf = ({ dirty, frozen, materialized }: PendingRow): Pending => ({
  dirty,
  frozen,
  materialized: materialized === 1
})

/**
 * What pending work there is, in one statement.
 *
 * @since 0.1.0
 * @category reading
 */
export const pending: Effect.Effect<Pending, SqlError, SyncDatabase> = Effect.flatMap(SyncDatabase, (db) =>
  Effect.map(
    db.all<PendingRow>(`SELECT ${pendingColumns.join(", ")}`),
    ([row]) => pendingOf(row ?? { dirty: 0, frozen: 0, materialized: 0 })
  ))

/**
 * SQL: whether the live row of the dirty row `d` of a table is gone although it is not deleted: removed by a local
 * foreign-key action, which is not captured (push.md §9.3, pull.md §4.1 step 7, conflicts.md §5.1).
 *
 * @since 0.1.0
 * @category sql
 */
export const isSwept = (table: SyncTable): string =>
  `d.payload IS NOT NULL AND NOT EXISTS (SELECT 1 FROM ${identifier(table.declaredName)} AS t
                                          WHERE ${hasKey(table, "t", "d.key_json")})`

/**
 * Describes dirty rows anew whose live row was changed by a local foreign-key action of authoritative rows (SET NULL, a
 * cascading update), which is not captured (push.md §9.3). At most one statement for each table with references.
 *
 * @since 0.1.0
 * @category steps
 */
export const describeChanged: Effect.Effect<void, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) =>
    Effect.flatMap(
      db.tables,
      ({ tables }) =>
        Effect.forEach(tables.filter((table) => table.references.length > 0), (table) => {
          const live = `(SELECT ${localObject(table, "t")} FROM ${identifier(table.declaredName)} AS t
                        WHERE ${hasKey(table, "t", "d.key_json")})`
          return db.all(
            `UPDATE _sync_dirty_rows AS d SET payload = ${live}
            WHERE d.schema_name = ? AND d.table_name = ? AND d.payload IS NOT NULL AND d.payload IS NOT ${live}`,
            [db.schema, table.name]
          )
        }, { discard: true })
    )
)

/**
 * Dirty rows whose live row was removed by a local foreign-key action of authoritative rows become deletes; those whose
 * row was changed by one are described anew (push.md §9.3, swept rows).
 *
 * @since 0.1.0
 * @category steps
 */
export const describeSwept: Effect.Effect<void, SqlError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  for (const table of tables) {
    yield* db.all(
      `UPDATE _sync_dirty_rows AS d SET op = 'DELETE', payload = NULL
        WHERE d.schema_name = ? AND d.table_name = ? AND ${isSwept(table)}`,
      [db.schema, table.name]
    )
  }
  yield* describeChanged
})
