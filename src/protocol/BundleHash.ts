/**
 * The two digests of the protocol: `bundle_hash` of a committed bundle (hashing.md §2) and the fingerprint of a frozen
 * upload (hashing.md §4).
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { encode, encodeNumber, encodeString } from "./CanonicalJson.js"

/**
 * What the bundle hash covers of a committed row: the wire row as received or sent. `payload` is absent (or `null`) for
 * DELETE.
 *
 * @category models
 * @since 0.1.0
 */
export interface CommittedRow {
  readonly schema: string
  readonly table: string
  readonly key: unknown
  readonly op: string
  readonly row_version: number
  readonly payload?: unknown
}

/**
 * What the request hash covers of an uploaded row. `payload` is absent for DELETE.
 *
 * @category models
 * @since 0.1.0
 */
export interface UploadRow {
  readonly schema: string
  readonly table: string
  readonly key: unknown
  readonly op: string
  readonly base_row_version: number
  readonly payload?: unknown
}

/**
 * A hash over rows that arrive in pages. Rows count in the order in which they are added, over all calls.
 *
 * @category models
 * @since 0.1.0
 */
export interface RowDigest<in Row> {
  /** Takes the next rows into the hash. */
  readonly add: (rows: ReadonlyArray<Row>) => void
  /**
   * Ends the hash; call it once, after the last `add`. `hash` is 64 lowercase hex digits, `byteCount` the number of
   * canonical bytes, `rowCount` the number of rows.
   */
  readonly finish: () => { readonly hash: string; readonly byteCount: number; readonly rowCount: number }
}

// Long enough that the calls do not matter, short enough to stay out of the large object space.
const flushLength = 1 << 16

const make = <Row>(encodeRow: (row: Row, ordinal: number) => string): RowDigest<Row> => {
  const digest = createHash("sha256")
  let text = "["
  let byteCount = 0
  let rowCount = 0
  const flush = () => {
    digest.update(text, "utf8")
    byteCount += Buffer.byteLength(text, "utf8")
    text = ""
  }
  return {
    add: (rows) => {
      for (const row of rows) {
        text += (rowCount === 0 ? "" : ",") + encodeRow(row, rowCount)
        rowCount += 1
        if (text.length >= flushLength) flush()
      }
    },
    finish: () => {
      text += "]"
      flush()
      return { hash: digest.digest("hex"), byteCount, rowCount }
    }
  }
}

const encodeCommitted = (row: CommittedRow, ordinal: number): string =>
  "{\"key\":" + encode(row.key) + ",\"op\":" + encodeString(row.op) +
  ",\"payload\":" + (row.payload === undefined ? "null" : encode(row.payload)) +
  ",\"row_ordinal\":" + String(ordinal) + ",\"row_version\":" + encodeNumber(row.row_version) +
  ",\"schema\":" + encodeString(row.schema) + ",\"table\":" + encodeString(row.table) + "}"

const encodeUpload = (row: UploadRow): string =>
  "{\"base_row_version\":" + encodeNumber(row.base_row_version) + ",\"key\":" + encode(row.key) +
  ",\"op\":" + encodeString(row.op) +
  (row.payload === undefined ? "" : ",\"payload\":" + encode(row.payload)) +
  ",\"schema\":" + encodeString(row.schema) + ",\"table\":" + encodeString(row.table) + "}"

/**
 * A running `bundle_hash` (hashing.md §2.1): all rows of the bundle, in bundle order. The same rows in another order, or
 * a part of them, have another hash.
 *
 * @category digests
 * @since 0.1.0
 */
export const bundleDigest = (): RowDigest<CommittedRow> => make(encodeCommitted)

/**
 * A running request hash (hashing.md §4): all rows of the upload, in upload order.
 *
 * @category digests
 * @since 0.1.0
 */
export const requestDigest = (): RowDigest<UploadRow> => make(encodeUpload)

/**
 * `bundle_hash` of a whole bundle: 64 lowercase hex digits (hashing.md §2).
 *
 * @example
 * ```ts
 * import { BundleHash } from "oversqlite/protocol"
 *
 * BundleHash.bundleHash([{
 *   schema: "business",
 *   table: "users",
 *   key: { id: "550e8400-e29b-41d4-a716-446655440000" },
 *   op: "DELETE",
 *   row_version: 7
 * }]) // "4eca1b1bf8e21d024801aab911ab2b7c28532e730b0efd087a367293eb822df0"
 * ```
 *
 * @category digests
 * @since 0.1.0
 */
export const bundleHash = (rows: ReadonlyArray<CommittedRow>): string => {
  const digest = bundleDigest()
  digest.add(rows)
  return digest.finish().hash
}

/**
 * Fingerprint of a frozen upload: 64 lowercase hex digits (hashing.md §4). It stays on the client.
 *
 * @category digests
 * @since 0.1.0
 */
export const requestHash = (rows: ReadonlyArray<UploadRow>): string => {
  const digest = requestDigest()
  digest.add(rows)
  return digest.finish().hash
}
