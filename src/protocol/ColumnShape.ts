/**
 * What a declared type says about a column (payload-codec.md §1, §5).
 *
 * @since 0.1.0
 */
import { encodeNumber } from "./CanonicalJson.js"

/**
 * How a column's values are encoded (payload-codec.md §1):
 *
 * - `uuid-key`: the key, declared as a blob: 16 bytes, a UUID on the wire
 * - `uuid-ref`: child column of a foreign key, declared as a blob: the same
 * - `blob`: another column declared as a blob: base64 on the wire
 * - `plain`: everything else
 *
 * @category models
 * @since 0.1.0
 */
export type ColumnClass = "uuid-key" | "uuid-ref" | "blob" | "plain"

/**
 * SQLite's affinity of a column; `BLOB` is also that of a column without a declared type.
 *
 * @category models
 * @since 0.1.0
 */
export type Affinity = "INTEGER" | "NUMERIC" | "REAL" | "TEXT" | "BLOB"

/**
 * A column as far as its values are concerned. `name` is the lowercase member name of payloads.
 *
 * @category models
 * @since 0.1.0
 */
export interface ColumnShape {
  readonly name: string
  readonly class: ColumnClass
  readonly affinity: Affinity
}

/**
 * The class of a column (payload-codec.md §1): decided by its declared type, not by its affinity or by what it holds.
 * `isKey`: it is the key column; `isReference`: it is the child column of some foreign key.
 *
 * @category rules
 * @since 0.1.0
 */
export const columnClass = (column: {
  readonly declaredType: string
  readonly isKey: boolean
  readonly isReference: boolean
}): ColumnClass => {
  if (!column.declaredType.toLowerCase().includes("blob")) return "plain"
  return column.isKey ? "uuid-key" : column.isReference ? "uuid-ref" : "blob"
}

/**
 * The affinity that SQLite gives to a declared type; a blank type has affinity `BLOB`.
 *
 * @category rules
 * @since 0.1.0
 */
export const affinityOf = (declaredType: string): Affinity => {
  const type = declaredType.toUpperCase()
  if (type.includes("INT")) return "INTEGER"
  if (/CHAR|CLOB|TEXT/.test(type)) return "TEXT"
  if (type.includes("BLOB") || type.trim() === "") return "BLOB"
  return /REAL|FLOA|DOUB/.test(type) ? "REAL" : "NUMERIC"
}

/**
 * The text that a TEXT column holds after a JSON number was stored in it (payload-codec.md §5): the digits of an integer,
 * without a fraction (`5`, also for `5.0`), the canonical spelling of every other number. The client's side of the matter:
 * PostgreSQL writes large and small numbers without exponent.
 *
 * @category numbers
 * @since 0.1.0
 */
export const numberAsText = (value: number | bigint): string =>
  typeof value === "bigint" ? String(value) : value === 0 ? "0" : encodeNumber(value)
