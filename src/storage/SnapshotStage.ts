/**
 * A downloaded snapshot before it is applied (client-state.md §2.10, pull.md §5.3).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { literal } from "./SqlText.js"
import { SyncDatabase } from "./SyncDatabase.js"
import { keyJsonOf } from "./WireRows.js"

/**
 * Empties the stage.
 *
 * @since 0.1.0
 * @category staging
 */
export const clear: Effect.Effect<void, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) => Effect.asVoid(db.all("DELETE FROM _sync_snapshot_stage"))
)

/**
 * Stages the rows of one chunk in one statement; `after` is the number of rows received before it (ordinals are
 * 1-based). Rows of tables that are not registered are left out, so that their ordinals stay unused.
 *
 * @since 0.1.0
 * @category staging
 */
export const stage = Effect.fnUntraced(function*(
  snapshotId: string,
  after: number,
  chunk: string
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const known = tables.map((table) => literal(table.name)).join(", ")
  yield* db.all(
    `INSERT INTO _sync_snapshot_stage (snapshot_id, row_ordinal, schema_name, table_name, key_json, row_version, payload)
     SELECT ?, ? + 1 + r.key, r.value ->> 'schema', r.value ->> 'table',
            ${keyJsonOf(tables, "r.value ->> 'table'", "r.value -> 'key'")},
            r.value ->> 'row_version', r.value -> 'payload'
       FROM json_each(?, '$.rows') AS r WHERE r.value ->> 'table' IN (${known})`,
    [snapshotId, after, chunk]
  )
})

/**
 * Number of rows staged for a snapshot.
 *
 * @since 0.1.0
 * @category staging
 */
export const stagedCount = (snapshotId: string): Effect.Effect<number, SqlError, SyncDatabase> =>
  Effect.flatMap(SyncDatabase, (db) =>
    Effect.map(
      db.all<{ readonly n: number }>("SELECT count(*) AS n FROM _sync_snapshot_stage WHERE snapshot_id = ?", [
        snapshotId
      ]),
      ([row]) => row?.n ?? 0
    ))
