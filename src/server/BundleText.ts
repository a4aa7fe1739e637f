/**
 * Rows as the text they have on the wire and in the hash. Stored payloads are texts already; nothing is parsed here.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { encodeString } from "../protocol/CanonicalJson.js"
import * as ExactText from "./ExactText.js"
import type { StoredBundleRow, StoredRow } from "./ServerStorage.js"
import type { ServerTable } from "./TableDeclaration.js"

const keyText = (table: ServerTable, key: string) => `{${encodeString(table.key.column)}:${encodeString(key)}}`

const place = (table: ServerTable, key: string) =>
  `{"schema":${encodeString(table.schema)},"table":${encodeString(table.table)},"key":${keyText(table, key)}`

/**
 * A row of a committed bundle (wire.md §2.3).
 *
 * @since 0.1.0
 * @category encoding
 */
export const bundleRow = (row: StoredBundleRow): string =>
  `${place(row.table, row.key)},"op":"${row.op}","row_version":${row.bundleSeq}` +
  (row.payload === null ? "}" : `,"payload":${row.payload}}`)

/**
 * A row of a snapshot (wire.md §2.6).
 *
 * @since 0.1.0
 * @category encoding
 */
export const snapshotRow = (row: StoredRow): string =>
  `${place(row.table, row.key)},"row_version":${row.rowVersion},"payload":${row.payload}}`

const hashRow = (row: StoredBundleRow, ordinal: number, rowVersion: number): string =>
  `{"key":${keyText(row.table, row.key)},"op":"${row.op}","payload":` +
  (row.payload === null ? "null" : ExactText.canonical(row.payload)) +
  `,"row_ordinal":${ordinal},"row_version":${rowVersion},"schema":${encodeString(row.table.schema)}` +
  `,"table":${encodeString(row.table.table)}}`

/**
 * The hash of a bundle over stored rows that arrive in slices: what `protocol/BundleHash` computes from parsed rows
 * (hashing.md §2).
 *
 * @since 0.1.0
 * @category hashing
 */
export const digest = (bundleSeq: number) => {
  const hash = createHash("sha256").update("[")
  let byteCount = 2
  let rowCount = 0
  return {
    /** Takes the next rows into the hash. */
    add: (rows: ReadonlyArray<StoredBundleRow>): void => {
      if (rows.length === 0) return
      const text = (rowCount === 0 ? "" : ",") +
        rows.map((row, index) => hashRow(row, rowCount + index, bundleSeq)).join(",")
      hash.update(text)
      byteCount += Buffer.byteLength(text)
      rowCount += rows.length
    },
    /** Ends the hash: 64 lowercase hex digits, the canonical bytes it covers, and the number of rows. */
    finish: (): { readonly hash: string; readonly byteCount: number; readonly rowCount: number } => ({
      hash: hash.update("]").digest("hex"),
      byteCount,
      rowCount
    })
  }
}
