/**
 * The rules for a single received row (push.md §7, pull.md §3, §5.3).
 *
 * @since 0.1.0
 */
import { canonicalKey } from "./SyncKey.js"
import type { Violation } from "./Violation.js"
import type { WireKey } from "./Wire.js"
import { hiddenColumn } from "./Wire.js"

interface ReceivedRow {
  readonly schema: string
  readonly table: string
  readonly key: WireKey
  readonly row_version: number
  readonly payload?: unknown
}

const isText = (value: unknown) => typeof value === "string"

const isKey = (key: WireKey): boolean => {
  const values = Object.values(key)
  return values.length > 0 && values.every(isText)
}

/**
 * Whether a payload has the hidden ownership column (wire.md §2.2).
 *
 * @internal
 */
export const hasHiddenColumn = (payload: unknown): boolean =>
  typeof payload === "object" && payload !== null && Object.hasOwn(payload, hiddenColumn)

const shapeProblem = (row: ReceivedRow, op: string): string | undefined => {
  if (row.schema.trim() === "") return "a schema"
  if (row.table.trim() === "") return "a table"
  if (!isKey(row.key)) return "a key of text"
  if (!(row.row_version > 0)) return "row_version > 0"
  if (op !== "INSERT" && op !== "UPDATE" && op !== "DELETE") return "a known op"
  return op !== "DELETE" && (row.payload === undefined || row.payload === null) ? "a payload" : undefined
}

/** A row as far as it can be named. */
const reference = (row: ReceivedRow): NonNullable<Violation["row"]> => ({
  schema: row.schema,
  table: row.table,
  ...(isKey(row.key) ? { key: JSON.stringify(row.key) } : {})
})

/**
 * The rule a received row breaks, if any. `seen` holds the keys of the rows before it in the same bundle and takes this
 * one's; a snapshot row counts as an INSERT.
 *
 * @internal
 */
export const rowViolation = (row: ReceivedRow, op: string, seen: Set<string> | undefined): Violation | undefined => {
  const expected = shapeProblem(row, op)
  if (expected !== undefined) return { rule: "row_invalid", expected, row: reference(row) }
  if (hasHiddenColumn(row.payload)) {
    return { rule: "hidden_column", expected: `no member ${hiddenColumn}`, row: reference(row) }
  }
  if (seen === undefined) return undefined
  const identity = `${row.schema}\n${row.table}\n${canonicalKey(row.key)}`
  const size = seen.size
  return seen.add(identity).size === size
    ? { rule: "row_invalid", expected: "each key once in a bundle", row: reference(row) }
    : undefined
}
