/**
 * The tables of a simulation and what hosts do to them.
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { TableDeclaration } from "../server/TableDeclaration.js"
import type { SyncTableConfig } from "../storage/SyncTable.js"
import type * as Prng from "./Prng.js"

/**
 * A table that devices synchronise. Every table has a text column `stamp` (by default called `stamp`) that each host
 * write fills with a fresh value: the name under which the ledger knows the write.
 *
 * @since 0.1.0
 * @category models
 */
export interface SimulatedTable {
  readonly name: string
  readonly key: string
  /** The key is a UUID in a BLOB column. */
  readonly isBlobKey?: boolean | undefined
  /** Columns that refer to a row whose deletion deletes this one. */
  readonly cascades?: ReadonlyArray<{ readonly column: string; readonly table: string }> | undefined
}

/**
 * Tables, and the same tables as the server knows them.
 *
 * @since 0.1.0
 * @category models
 */
export interface SimulatedSchema {
  /** Schema name on the server. */
  readonly schema: string
  /** The statements that create the tables on a device. */
  readonly ddl: ReadonlyArray<string>
  readonly tables: ReadonlyArray<SimulatedTable>
  readonly declarations: ReadonlyArray<TableDeclaration>
  /** Name of the stamp column; default `stamp`. */
  readonly stamp?: string | undefined
}

/**
 * What a host action may use. Everything it writes is one transaction.
 *
 * @since 0.1.0
 * @category models
 */
export interface Host {
  readonly prng: Prng.Prng
  /** A value for the stamp column, never given before. */
  readonly stamp: () => string
  readonly run: (
    text: string,
    parameters?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<Record<string, unknown>>, SqlError>
  /** One of the keys of a table, `undefined` if it is empty. */
  readonly someKey: (table: string) => Effect.Effect<unknown, SqlError>
}

/**
 * Something a host does now and then. A failure rolls it back and counts for nothing.
 *
 * @since 0.1.0
 * @category models
 */
export interface HostAction {
  readonly name: string
  /** How often, compared with the others. */
  readonly weight: number
  readonly act: (host: Host) => Effect.Effect<unknown, SqlError>
}

/**
 * Repairs the rows that an error has named, or all pending rows: what a user does when told that data has to be
 * corrected. `attempt` counts from 1 and grows while the error persists.
 *
 * @since 0.1.0
 * @category models
 */
export type Repair = (
  host: Host,
  row: { readonly table: string; readonly key: unknown },
  attempt: number
) => Effect.Effect<unknown, SqlError>

/**
 * The configuration of the client for a schema.
 *
 * @since 0.1.0
 * @category getters
 */
export const clientTables = (schema: SimulatedSchema): ReadonlyArray<SyncTableConfig> =>
  schema.tables.map(({ key, name }) => ({ name, key }))

/**
 * A row as the ledger sees it.
 *
 * @since 0.1.0
 * @category models
 */
export interface StampedRow {
  readonly stamp: string
  /** The rows whose deletion takes this one along, as `table key`. */
  readonly owners: ReadonlyArray<string>
}

/** The owners of a row: `valueOf` says what it refers to by its n-th cascade. @internal */
export const ownersOf = (
  cascades: SimulatedSchema["tables"][number]["cascades"],
  valueOf: (column: string, index: number) => unknown
): ReadonlyArray<string> =>
  (cascades ?? []).flatMap(({ column, table }, index) => {
    const key = valueOf(column, index) ?? null
    return key === null ? [] : [`${table} ${String(key)}`]
  })

/** The rows of a database as `table key` → stamp. @internal */
export const stampedRows = (
  sql: SqlClient.SqlClient,
  { stamp = "stamp", tables }: SimulatedSchema
): Effect.Effect<ReadonlyMap<string, StampedRow>, SqlError> =>
  Effect.gen(function*() {
    const found = new Map<string, StampedRow>()
    for (const table of tables) {
      const owners = table.cascades ?? []
      const rows = yield* sql.unsafe<Record<string, unknown>>(
        `SELECT ${table.isBlobKey === true ? `lower(hex("${table.key}"))` : `"${table.key}"`} AS k, "${stamp}" AS s${
          owners.map(({ column }, index) => `, "${column}" AS o${index}`).join("")
        } FROM "${table.name}"`
      )
      for (const row of rows) {
        found.set(`${table.name} ${String(row["k"])}`, {
          stamp: String(row["s"]),
          owners: ownersOf(table.cascades, (_column, index) => row[`o${index}`])
        })
      }
    }
    return found
  })

/** Every value of every table, spelled exactly, one line a row. @internal */
export const contents = (
  sql: SqlClient.SqlClient,
  { tables }: SimulatedSchema
): Effect.Effect<ReadonlyArray<string>, SqlError> =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    for (const { name } of tables) {
      const columns = yield* sql.unsafe<{ readonly name: string }>("SELECT name FROM pragma_table_info(?)", [name])
      const values = columns.map((column) => `quote("${column.name}")`).join(" || ', ' || ")
      const rows = yield* sql.unsafe<{ readonly line: string }>(`SELECT ${values} AS line FROM "${name}" ORDER BY 1`)
      lines.push(...rows.map(({ line }) => `${name}: ${line}`))
    }
    return lines
  })
