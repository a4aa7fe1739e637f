/**
 * Conflicting rows: what was frozen, what is wanted now, and the transaction that puts decisions into effect
 * (conflicts.md §3, §5, §6).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { LocalDataError } from "../contract/SyncError.js"
import * as DirtyRows from "./DirtyRows.js"
import * as Outbox from "./Outbox.js"
import * as RowApply from "./RowApply.js"
import { hasKey, identifier, localObject } from "./SqlText.js"
import { SyncDatabase } from "./SyncDatabase.js"
import type { SyncTable } from "./SyncTable.js"

/**
 * The newest local intent of a frozen row (conflicts.md §6). `row` is the local payload, `undefined` for DELETE.
 *
 * @since 0.1.0
 * @category models
 */
export interface Intent {
  readonly key: string
  readonly op: "INSERT" | "UPDATE" | "DELETE"
  readonly base: number
  readonly row: string | undefined
  /** Base of the frozen row, which the server's answer is about. */
  readonly frozenBase: number
}

interface IntentRow {
  readonly key_json: string
  readonly op: Intent["op"]
  readonly base_row_version: number
  readonly local_payload: string | null
  readonly edited_base: number | null
  readonly live: string | null
  readonly deleted: number | null
}

const intentOf = (row: IntentRow): Intent => {
  const frozen = { key: row.key_json, frozenBase: row.base_row_version }
  return row.edited_base === null
    ? { ...frozen, op: row.op, base: row.base_row_version, row: row.local_payload ?? undefined }
    : {
      ...frozen,
      op: row.live === null ? "DELETE" : row.deleted === 0 ? "UPDATE" : "INSERT",
      base: row.edited_base,
      row: row.live ?? undefined
    }
}

/**
 * Reads the newest intents of frozen rows of a table, one statement for all of them, by their keys; keys that are not
 * frozen are left out. A newer edit of the row is the intent, its operation derived from the live row as at freeze.
 *
 * @since 0.1.0
 * @category reading
 */
export const intents = Effect.fnUntraced(function*(
  table: SyncTable,
  keys: ReadonlyArray<string>
): Effect.fn.Return<ReadonlyMap<string, Intent>, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const name = identifier(table.declaredName)
  const rows = yield* db.all<IntentRow>(
    `SELECT o.key_json, o.op, o.base_row_version, o.local_payload, d.base_row_version AS edited_base, s.deleted,
            (SELECT ${localObject(table, "t")} FROM ${name} AS t
              WHERE ${hasKey(table, "t", "o.key_json")}) AS live
       FROM _sync_outbox_rows AS o
       LEFT JOIN _sync_dirty_rows AS d
              ON d.schema_name = o.schema_name AND d.table_name = o.table_name AND d.key_json = o.key_json
       LEFT JOIN _sync_row_state AS s
              ON s.schema_name = o.schema_name AND s.table_name = o.table_name AND s.key_json = o.key_json
      WHERE o.schema_name = ? AND o.table_name = ? AND o.key_json IN (SELECT value FROM json_each(?))`,
    [db.schema, table.name, JSON.stringify(keys)]
  )
  return new Map(rows.map((row) => [row.key_json, intentOf(row)]))
})

/**
 * What becomes of one conflicting row. `payload` is a wire payload for the rows that are written.
 *
 * @since 0.1.0
 * @category models
 */
export interface Resolution {
  readonly table: SyncTable
  readonly key: string
  readonly serverVersion: number
  readonly row: "delete" | "leave" | "write"
  readonly payload: string | undefined
  readonly state: "live" | "deleted" | "removed"
  readonly requeue: "INSERT" | "UPDATE" | "DELETE" | undefined
}

const incomingOf = (resolution: Resolution, ord: number): ReadonlyArray<string | number | null> => [
  ord,
  resolution.table.name,
  resolution.key,
  resolution.row === "delete" ? "DELETE" : "UPDATE",
  resolution.serverVersion,
  resolution.payload ?? null,
  resolution.row === "leave" ? "record" : "apply"
]

const settleRowState = Effect.fnUntraced(function*(
  resolutions: ReadonlyArray<Resolution>
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const keysOf = (state: Resolution["state"]) =>
    JSON.stringify(
      resolutions.filter((resolution) => resolution.state === state).map(({ key, table }) => [table.name, key])
    )
  for (const [state, deleted] of [["live", 0], ["deleted", 1]] as const) {
    yield* db.all(
      `UPDATE _sync_row_state SET deleted = ? WHERE schema_name = ? AND (table_name, key_json) IN (
         SELECT e.value ->> 0, e.value ->> 1 FROM json_each(?) AS e)`,
      [deleted, db.schema, keysOf(state)]
    )
  }
  yield* db.all(
    `DELETE FROM _sync_row_state WHERE schema_name = ? AND (table_name, key_json) IN (
       SELECT e.value ->> 0, e.value ->> 1 FROM json_each(?) AS e)`,
    [db.schema, keysOf("removed")]
  )
})

const requeue = Effect.fnUntraced(function*(
  resolutions: ReadonlyArray<Resolution>
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  for (const table of tables) {
    const again = resolutions.filter((resolution) =>
      resolution.table.name === table.name && resolution.requeue !== undefined
    )
    if (again.length === 0) continue
    yield* db.all(
      `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
       SELECT ?, ?, r.key, r.op, r.base,
              CASE WHEN r.op <> 'DELETE' THEN (
                SELECT ${localObject(table, "t")} FROM ${identifier(table.declaredName)} AS t
                 WHERE ${hasKey(table, "t", "r.key_json")}) END,
              coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0) + r.position
         FROM (SELECT e.value ->> 0 AS key, e.value ->> 0 AS key_json, e.value ->> 1 AS op, e.value ->> 2 AS base,
                      e.key + 1 AS position FROM json_each(?) AS e) AS r WHERE true
           ON CONFLICT (schema_name, table_name, key_json)
           DO UPDATE SET op = excluded.op, base_row_version = excluded.base_row_version, payload = excluded.payload`,
      [
        db.schema,
        table.name,
        JSON.stringify(
          again.map(({ key, requeue: op, serverVersion, state }) => [key, op, state === "removed" ? 0 : serverVersion])
        )
      ]
    )
  }
})

/** A pending row that a decision would sweep away through a local foreign-key action (conflicts.md §5.1). */
const findSwept = Effect.fnUntraced(function*(): Effect.fn.Return<
  { readonly table: string; readonly key: string } | undefined,
  SqlError,
  SyncDatabase
> {
  const db = yield* SyncDatabase
  for (const table of yield* DirtyRows.tables) {
    const [row] = yield* db.all<{ readonly key: string }>(
      `SELECT d.key_json AS key FROM _sync_dirty_rows AS d
        WHERE d.schema_name = ? AND d.table_name = ? AND ${DirtyRows.isSwept(table)} LIMIT 1`,
      [db.schema, table.name]
    )
    if (row !== undefined) return { table: table.name, key: row.key }
  }
  return undefined
})

/**
 * Puts decisions into effect inside an authoritative transaction: rows and row state by the truth table, all other frozen
 * rows back to pending, what is to be retried re-queued, the outbox empty (conflicts.md §5). Fails with `RowRefused`
 * if a constraint or a foreign-key action speaks against it, with a `LocalDataError` for a row of another shape.
 *
 * @since 0.1.0
 * @category writing
 */
export const resolve = Effect.fnUntraced(function*(
  resolutions: ReadonlyArray<Resolution>
): Effect.fn.Return<void, SqlError | RowApply.RowRefused | LocalDataError, SyncDatabase> {
  const db = yield* SyncDatabase
  yield* db.all("DELETE FROM temp._sync_incoming")
  yield* db.all(
    `INSERT INTO temp._sync_incoming (ord, table_name, key_json, op, row_version, payload, mode)
     SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6
       FROM json_each(?) AS e`,
    [JSON.stringify(resolutions.map(incomingOf))]
  )
  const offender = yield* RowApply.findMisshapen
  if (offender !== undefined) return yield* RowApply.raiseOffender(offender)
  yield* RowApply.applyIncoming
  yield* settleRowState(resolutions)
  const keys = JSON.stringify(resolutions.map(({ key, table }) => [table.name, key]))
  const ofKeys = "(table_name, key_json) IN (SELECT e.value ->> 0, e.value ->> 1 FROM json_each(?) AS e)"
  yield* db.all(`DELETE FROM _sync_outbox_rows WHERE ${ofKeys}`, [keys])
  yield* Outbox.thaw
  const settled = JSON.stringify(
    resolutions.filter((resolution) => resolution.requeue === undefined).map(({ key, table }) => [table.name, key])
  )
  yield* db.all(`DELETE FROM _sync_dirty_rows WHERE ${ofKeys}`, [settled])
  yield* requeue(resolutions)
  const swept = yield* findSwept()
  if (swept !== undefined) {
    return yield* new RowApply.RowRefused({
      offender: { ord: 0, bundle: 0, code: "local_constraint", ...swept },
      constraint: "foreign_key",
      cause: undefined
    })
  }
  yield* DirtyRows.describeChanged
})
