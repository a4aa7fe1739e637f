/**
 * A registered table as the engine sees it (capture.md §2, payload-codec.md §1). Pure data, made by `TableInspector`.
 *
 * @since 0.1.0
 */
import type { ColumnShape } from "../protocol/RowPayload.js"
import type { LocalReference } from "./LocalReferences.js"

/**
 * How the application names a table and its key: one column name or a list that must come down to one (capture.md §2).
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncTableConfig {
  readonly name: string
  readonly key: string | ReadonlyArray<string>
}

/**
 * A column: `name` is the lowercase member name used in payloads, `declaredName` the spelling in the table.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncColumn extends ColumnShape {
  readonly declaredName: string
  readonly declaredType: string
  readonly nullable: boolean
}

/**
 * A foreign key of one column to a registered table; names are lowercase.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncReference {
  readonly column: string
  readonly parentTable: string
  readonly parentColumn: string
}

/**
 * A registered table.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncTable {
  /** Lowercase name, used on the wire and in the `_sync_*` tables. */
  readonly name: string
  /** Name as declared in the database. */
  readonly declaredName: string
  readonly key: SyncColumn
  readonly keyKind: "text" | "uuid"
  /** Whether keys that the database takes for equal are the same bytes: not so under a collation like NOCASE. */
  readonly exactKey: boolean
  /** All columns in declaration order, the key included. */
  readonly columns: ReadonlyArray<SyncColumn>
  readonly references: ReadonlyArray<SyncReference>
  /** 0-based position, parents before children (capture.md §7.1). */
  readonly order: number
  /**
   * Columns of UNIQUE constraints besides the key whose values are set aside before an upsert, so that swaps cannot
   * collide: `null` for nullable ones, `text` a text nobody has, `negative` a negative number (payload-codec.md §9.3).
   */
  readonly parked: ReadonlyArray<{ readonly column: SyncColumn; readonly by: "null" | "text" | "negative" }>
}

/**
 * The tables of one client after installation: parents before children.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncTables {
  readonly schema: string
  readonly tables: ReadonlyArray<SyncTable>
  /** What makes rows of the host's own tables depend on the rows of these. */
  readonly localReferences: ReadonlyArray<LocalReference>
  /** `PRAGMA schema_version` at the time of inspection. */
  readonly schemaVersion: number
}

/**
 * The registered table of this (lowercase) name.
 *
 * @since 0.1.0
 * @category getters
 */
export const findTable = (tables: SyncTables, name: string): SyncTable | undefined =>
  tables.tables.find((table) => table.name === name)
