/**
 * Whose bundle is it that the server already has under our number: frozen and committed rows compared (push.md §8.1).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as RowPayload from "../protocol/RowPayload.js"
import * as Outbox from "./Outbox.js"
import { hasKey, identifier, localObject } from "./SqlText.js"
import { SyncDatabase } from "./SyncDatabase.js"
import type { SyncTable } from "./SyncTable.js"
import { Breathe } from "./WorkTables.js"

interface Compared {
  readonly row_ordinal: number
  readonly table_name: string
  readonly op: string
  readonly base_row_version: number
  readonly wire_payload: string | null
  readonly staged_op: string | null
  readonly staged_version: number | null
  readonly staged_payload: string | null
}

type Verdict = "same" | "differs" | "as_frozen"

const verdictOf = (table: SyncTable, row: Compared): Verdict => {
  if (row.staged_op === null || row.staged_version === null) return "as_frozen"
  // The intent was made on this very version or a later one: it is younger than the bundle.
  if (row.base_row_version >= row.staged_version) return "as_frozen"
  if ((row.op === "DELETE") !== (row.staged_op === "DELETE")) return "differs"
  if (row.op === "DELETE") return "same"
  return row.wire_payload !== null && row.staged_payload !== null &&
      RowPayload.equivalentWire(table.columns, row.wire_payload, row.staged_payload)
    ? "same"
    : "differs"
}

/**
 * Numbers of uploaded rows that were put back as pending.
 *
 * @since 0.1.0
 * @category models
 */
export interface Classified {
  /** The bundle has another value. */
  readonly differing: number
  /** The bundle does not have the row, or is older than the intent. */
  readonly asFrozen: number
}

/**
 * Compares frozen and staged rows after an `already_committed` answer (push.md §8.1). Rows that differ, and rows that
 * the bundle does not have or that are younger than it, are put back as pending. Works on the rows that the replay has
 * loaded into `temp._sync_incoming`.
 *
 * @since 0.1.0
 * @category replay
 */
export const classify: Effect.Effect<Classified, SqlError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const byName = new Map(tables.map((table) => [table.name, table]))
  const breathe = yield* Breathe
  let classified: Classified = { differing: 0, asFrozen: 0 }
  for (let after = -1;;) {
    const rows = yield* db.all<Compared>(
      `SELECT o.row_ordinal, o.table_name, o.op, o.base_row_version, o.wire_payload,
              p.op AS staged_op, p.row_version AS staged_version, p.payload AS staged_payload
         FROM (SELECT * FROM _sync_outbox_rows WHERE ${Outbox.ofBundle} AND row_ordinal > ? ORDER BY row_ordinal LIMIT ?) AS o
         LEFT JOIN temp._sync_incoming AS p ON p.table_name = o.table_name AND p.key_json = o.key_json
        ORDER BY o.row_ordinal`,
      [after, db.applyRows]
    )
    const differing: Array<number> = []
    const asFrozen: Array<number> = []
    for (const row of rows) {
      const table = byName.get(row.table_name)
      const verdict = table === undefined ? "as_frozen" : verdictOf(table, row)
      if (verdict === "differs") differing.push(row.row_ordinal)
      else if (verdict === "as_frozen") asFrozen.push(row.row_ordinal)
    }
    classified = {
      differing: classified.differing + differing.length,
      asFrozen: classified.asFrozen + asFrozen.length
    }
    if (differing.length > 0) yield* requeueDiffering(differing)
    if (asFrozen.length > 0) yield* requeueAsFrozen(asFrozen)
    const last = rows.at(-1)
    if (last === undefined || rows.length < db.applyRows) return classified
    after = last.row_ordinal
    yield* breathe
  }
})

/** The bundle's row is recorded, the local intent goes on top of it (push.md §8.1). */
const requeueDiffering = Effect.fnUntraced(function*(
  ordinals: ReadonlyArray<number>
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const chosen = JSON.stringify(ordinals)
  for (const table of tables) {
    yield* db.all(
      `UPDATE temp._sync_incoming AS s SET (requeue, live, mode) = (
         SELECT CASE WHEN x.live IS NULL THEN 'DELETE' WHEN s.op = 'DELETE' THEN 'INSERT' ELSE 'UPDATE' END,
                x.live, CASE WHEN s.mode IN ('stale', 'overtaken') THEN 'stale' ELSE 'record' END
           FROM (SELECT (SELECT ${localObject(table, "t")} FROM ${identifier(table.declaredName)} AS t
                          WHERE ${hasKey(table, "t", "s.key_json")}) AS live) AS x)
        WHERE s.table_name = ?
          AND s.key_json IN (SELECT o.key_json FROM _sync_outbox_rows AS o
                              WHERE o.table_name = ? AND o.row_ordinal IN (SELECT value FROM json_each(?)))`,
      [table.name, table.name, chosen]
    )
  }
})

/** The intent is younger than the bundle, or the bundle does not know the row: it stays what it was (push.md §8.1). */
const requeueAsFrozen = Effect.fnUntraced(function*(
  ordinals: ReadonlyArray<number>
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const chosen = JSON.stringify(ordinals)
  yield* db.all(
    `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
     SELECT o.schema_name, o.table_name, o.key_json, o.op, o.base_row_version, o.local_payload,
            coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0) + row_number() OVER (ORDER BY o.row_ordinal)
       FROM _sync_outbox_rows AS o
      WHERE o.row_ordinal IN (SELECT value FROM json_each(?))
        AND NOT EXISTS (SELECT 1 FROM _sync_dirty_rows AS d WHERE d.schema_name = o.schema_name
                           AND d.table_name = o.table_name AND d.key_json = o.key_json)`,
    [chosen]
  )
  yield* db.all(
    `UPDATE temp._sync_incoming AS s SET mode = 'stale', requeue = NULL
      WHERE (s.table_name, s.key_json) IN (SELECT o.table_name, o.key_json FROM _sync_outbox_rows AS o
                                            WHERE o.row_ordinal IN (SELECT value FROM json_each(?)))`,
    [chosen]
  )
})
