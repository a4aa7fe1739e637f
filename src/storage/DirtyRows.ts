/**
 * Captured local changes that are not frozen yet (client-state.md §2.6).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { ofBundle } from "./Outbox.js"
import { SyncDatabase } from "./SyncDatabase.js"

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
 * What pending work there is, in one statement: dirty rows, frozen rows (`max(row_ordinal) + 1`), an unacknowledged
 * seed, and whether any live row is known to the server (errors.md §2).
 *
 * @since 0.1.0
 * @category reading
 */
export const pending: Effect.Effect<
  { readonly dirty: number; readonly frozen: number; readonly materialized: boolean },
  SqlError,
  SyncDatabase
> = Effect.flatMap(SyncDatabase, (db) =>
  Effect.map(
    db.all<{ readonly dirty: number; readonly frozen: number; readonly materialized: number }>(
      `SELECT (SELECT count(*) FROM _sync_dirty_rows) AS dirty,
              (SELECT coalesce(max(row_ordinal) + 1, 0) FROM _sync_outbox_rows WHERE ${ofBundle}) AS frozen,
              EXISTS (SELECT 1 FROM _sync_row_state WHERE deleted = 0) AS materialized`
    ),
    ([row]) => ({ dirty: row?.dirty ?? 0, frozen: row?.frozen ?? 0, materialized: row?.materialized === 1 })
  ))
