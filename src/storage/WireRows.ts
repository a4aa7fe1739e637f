/**
 * Rows of an answer on their way into the stages: are they rows of registered tables with keys that can be stored?
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import type { LocalDataCode } from "../contract/SyncError.js"
import type { RowRef } from "../contract/SyncOperation.js"
import * as SyncKey from "../protocol/SyncKey.js"
import { literal, wireKeyToKeyJson } from "./SqlText.js"
import type { SyncTable, SyncTables } from "./SyncTable.js"

/**
 * What all received rows have in common.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReceivedRow {
  readonly schema: string
  readonly table: string
  readonly key: Readonly<Record<string, unknown>>
}

/**
 * A received row that has no place here: `index` is its position in the list.
 *
 * @since 0.1.0
 * @category models
 */
export interface Stranger {
  readonly index: number
  readonly code: LocalDataCode
  readonly row: RowRef
}

/**
 * The first received row of another schema, of a table that is not registered (`unknown_table`, unless those are to be
 * ignored), or with a key that is none of the table's (`payload_bad_wire_encoding`) (pull.md §4.1 step 1).
 *
 * @since 0.1.0
 * @category checking
 */
export const findStranger = (
  tables: SyncTables,
  rows: ReadonlyArray<ReceivedRow>,
  options: { readonly ignoreUnknown: boolean }
): Stranger | undefined => {
  const byName = new Map(tables.tables.map((table) => [table.name, table]))
  for (let index = 0; index < rows.length; index++) {
    const row = rows[index]
    if (row === undefined) continue
    const code = problemOf(tables.schema, byName, row, options.ignoreUnknown)
    if (code !== undefined) {
      return { index, code, row: { schema: row.schema, table: row.table, key: JSON.stringify(row.key) } }
    }
  }
  return undefined
}

/**
 * Number of received rows of tables that are not registered (pull.md §4.1 step 1).
 *
 * @since 0.1.0
 * @category checking
 */
export const countUnknown = (tables: SyncTables, rows: ReadonlyArray<Pick<ReceivedRow, "table">>): number => {
  const known = new Set(tables.tables.map((table) => table.name))
  return rows.filter((row) => !known.has(row.table)).length
}

const problemOf = (
  schema: string,
  byName: ReadonlyMap<string, SyncTable>,
  row: ReceivedRow,
  ignoreUnknown: boolean
): LocalDataCode | undefined => {
  const table = byName.get(row.table)
  if (table === undefined) return ignoreUnknown ? undefined : "unknown_table"
  if (row.schema !== schema) return "schema_mismatch"
  return Either.isLeft(SyncKey.fromWire(table.key.name, table.keyKind, row.key))
    ? "payload_bad_wire_encoding"
    : undefined
}

/**
 * SQL: the local key JSON of a received row, from its table's name and its wire key (both SQL expressions).
 *
 * @since 0.1.0
 * @category sql
 */
export const keyJsonOf = (tables: ReadonlyArray<SyncTable>, table: string, key: string): string =>
  tables.length === 0
    ? "NULL"
    : `CASE ${table} ${
      tables.map((candidate) => `WHEN ${literal(candidate.name)} THEN ${wireKeyToKeyJson(candidate, key)}`).join(" ")
    } END`
