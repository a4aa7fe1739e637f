/**
 * Payloads of rows: the local encoding of the client's own tables, the wire encoding, and decoded rows between them
 * (payload-codec.md). The two encodings are texts that must never be mixed; what converts says so in its name.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { Buffer } from "node:buffer"
import { base64ToBytes, bytesToBase64, bytesToHex, hexToBytes, hexToUuid, uuidToHex } from "./BlobText.js"
import { type ColumnShape, numberAsText } from "./ColumnShape.js"
import { parseEither } from "./ExactJson.js"
import { members, type MemberSpan, unquote } from "./JsonText.js"

export { base64ToHex, hexToBase64, hexToUuid, uuidToHex } from "./BlobText.js"
export {
  type Affinity,
  affinityOf,
  type ColumnClass,
  columnClass,
  type ColumnShape,
  numberAsText
} from "./ColumnShape.js"
export { equivalentWire } from "./RowEquality.js"

/**
 * The value of a column: a `bigint` for integers beyond ±(2^53−1), bytes for blobs. Booleans are 1 and 0.
 *
 * @category models
 * @since 0.1.0
 */
export type ColumnValue = null | string | number | bigint | Uint8Array

/**
 * A decoded row; its members are the lowercase column names.
 *
 * @category models
 * @since 0.1.0
 */
export type Row = Readonly<Record<string, ColumnValue>>

/**
 * Why a payload and a table do not fit, with a code of the catalogue (errors.md §1.7):
 *
 * - `payload_undecodable`: a local payload that is not JSON, or holds something capture does not write
 * - `payload_column_mismatch`: not exactly the columns of the table; `column` is the first missing one if the number fits
 * - `payload_bad_wire_encoding`: UUID or base64 not canonical, or a value that SQLite cannot hold
 * - `invalid_blob_uuid_key`, `invalid_blob_uuid_reference`: not 16 bytes
 * - `blob_in_plain_column`, `real_not_finite`: a value without JSON form
 *
 * `detail` continues a sentence that begins with "payload for <table>"; it never holds a value.
 *
 * @category models
 * @since 0.1.0
 */
export interface PayloadProblem {
  readonly code:
    | "payload_undecodable"
    | "payload_column_mismatch"
    | "payload_bad_wire_encoding"
    | "invalid_blob_uuid_key"
    | "invalid_blob_uuid_reference"
    | "blob_in_plain_column"
    | "real_not_finite"
  readonly column?: string
  readonly detail: string
}

type Encoding = "local" | "wire"

const problem = (code: PayloadProblem["code"], column: ColumnShape, what: string): PayloadProblem => ({
  code,
  column: column.name,
  detail: `${what} in column ${column.name}`
})

const notSixteenBytes = (column: ColumnShape): PayloadProblem =>
  column.class === "uuid-key"
    ? problem("invalid_blob_uuid_key", column, "has an invalid blob UUID pk")
    : problem("invalid_blob_uuid_reference", column, "has an invalid blob UUID reference")

/**
 * What a column of this affinity holds after the number was stored in it. SQLite keeps no negative zero, and a numeric
 * column turns every double that is an integer of 64 bits into that integer.
 */
const storedNumber = (column: ColumnShape, value: number | bigint): ColumnValue => {
  if (column.affinity === "TEXT") return numberAsText(value)
  if (value === 0) return 0
  if (column.affinity === "REAL") return Number(value)
  return typeof value === "number" && column.affinity !== "BLOB" && Number.isInteger(value) &&
      !Number.isSafeInteger(value) && Math.abs(value) < 2 ** 63
    ? BigInt(value)
    : value
}

const decodePlain = (
  column: ColumnShape,
  value: unknown,
  encoding: Encoding
): Either.Either<ColumnValue, PayloadProblem> => {
  switch (typeof value) {
    case "string":
      return Either.right(value)
    case "boolean":
      return Either.right(storedNumber(column, value ? 1 : 0))
    case "bigint":
      return Either.right(storedNumber(column, value))
    case "number":
      if (Number.isFinite(value)) return Either.right(storedNumber(column, value))
      return Either.left(
        problem(
          encoding === "local" ? "real_not_finite" : "payload_bad_wire_encoding",
          column,
          "has a number beyond binary64"
        )
      )
    default:
      return Either.left(
        problem(
          encoding === "local" ? "payload_undecodable" : "payload_bad_wire_encoding",
          column,
          "has an array or object"
        )
      )
  }
}

const decodeLocalBlob = (column: ColumnShape, value: unknown): Either.Either<Uint8Array, PayloadProblem> => {
  const undecodable = () => problem("payload_undecodable", column, "has no hex digits")
  if (typeof value !== "string") return Either.left(undecodable())
  if (column.class === "blob") return Either.mapLeft(hexToBytes(value), undecodable)
  // A TEXT value in a blob column comes back from the reference's driver as the text itself.
  const digits = Either.getOrElse(uuidToHex(value), () => value)
  return hexToBytes(digits).pipe(
    Either.mapLeft(undecodable),
    Either.filterOrLeft((bytes) => bytes.length === 16, () => notSixteenBytes(column))
  )
}

const decodeWireBlob = (column: ColumnShape, value: unknown): Either.Either<ColumnValue, PayloadProblem> => {
  const bad = (what: string) => () => problem("payload_bad_wire_encoding", column, what)
  if (typeof value !== "string") return Either.left(bad("has something else than a string")())
  return column.class === "blob"
    ? Either.mapLeft(base64ToBytes(value), bad("has no canonical base64"))
    : uuidToHex(value).pipe(Either.flatMap(hexToBytes), Either.mapLeft(bad("has no dashed UUID")))
}

const decodeValue = (
  column: ColumnShape,
  value: unknown,
  encoding: Encoding
): Either.Either<ColumnValue, PayloadProblem> => {
  if (value === null || value === undefined) return Either.right(null)
  if (column.class === "plain") return decodePlain(column, value, encoding)
  return encoding === "local" ? decodeLocalBlob(column, value) : decodeWireBlob(column, value)
}

const isMembers = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const decode = (
  columns: ReadonlyArray<ColumnShape>,
  text: string,
  encoding: Encoding
): Either.Either<Row, PayloadProblem> => {
  const parsed = parseEither(text)
  if (Either.isLeft(parsed)) {
    const code = encoding === "local" ? "payload_undecodable" : "payload_bad_wire_encoding"
    return Either.left({ code, detail: "is not a JSON text" })
  }
  const given = parsed.right
  if (!isMembers(given) || Object.keys(given).length !== columns.length) {
    return Either.left({ code: "payload_column_mismatch", detail: "must contain every table column" })
  }
  const missing = columns.find((column) => !Object.hasOwn(given, column.name))
  if (missing !== undefined) {
    return Either.left({
      code: "payload_column_mismatch",
      column: missing.name,
      detail: `is missing column ${missing.name}`
    })
  }
  const row: Record<string, ColumnValue> = {}
  for (const column of columns) {
    const value = decodeValue(column, given[column.name], encoding)
    if (Either.isLeft(value)) return Either.left(value.left)
    row[column.name] = value.right
  }
  return Either.right(row)
}

/**
 * A local payload as a row (payload-codec.md §2). The payload must have exactly the given columns.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeLocal = (
  columns: ReadonlyArray<ColumnShape>,
  text: string
): Either.Either<Row, PayloadProblem> => decode(columns, text, "local")

/**
 * A wire payload as the row that SQLite will hold (payload-codec.md §5): numbers by the affinity of their column,
 * booleans as 1 and 0. The payload must have exactly the given columns.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeWire = (
  columns: ReadonlyArray<ColumnShape>,
  text: string
): Either.Either<Row, PayloadProblem> => decode(columns, text, "wire")

/**
 * Whether a row, which may come from the host, has exactly the given columns and values that both encodings can carry.
 * {@link encodeLocal} and {@link encodeWire} rely on it.
 *
 * @category encoding
 * @since 0.1.0
 */
export const checkRow = (columns: ReadonlyArray<ColumnShape>, row: Row): Either.Either<Row, PayloadProblem> => {
  const missing = columns.find((column) => !Object.hasOwn(row, column.name))
  if (missing !== undefined || Object.keys(row).length !== columns.length) {
    return Either.left({
      code: "payload_column_mismatch",
      ...(missing === undefined ? {} : { column: missing.name }),
      detail: "must contain every table column"
    })
  }
  for (const column of columns) {
    const value = row[column.name]
    if (typeof value === "number" && !Number.isFinite(value)) {
      return Either.left(problem("real_not_finite", column, "has a number that is not finite"))
    }
    if (value instanceof Uint8Array) {
      if (column.class === "plain") {
        return Either.left(problem("blob_in_plain_column", column, "has a blob"))
      }
      if (column.class !== "blob" && value.length !== 16) return Either.left(notSixteenBytes(column))
    } else if (value !== null && (column.class === "uuid-key" || column.class === "uuid-ref")) {
      return Either.left(notSixteenBytes(column))
    }
  }
  return Either.right(row)
}

const encodePlain = (column: ColumnShape, value: string | number | bigint): string => {
  if (typeof value !== "number") return typeof value === "bigint" ? String(value) : JSON.stringify(value)
  if (!Number.isFinite(value)) {
    throw new TypeError(`column ${column.name}: a number that is not finite has no JSON form`)
  }
  const digits = value === 0 ? "0" : String(value)
  // Digits alone are an integer to SQLite. A REAL is never written so, nor is a double beyond the exact integers, which
  // would else come back as an integer of 64 bits.
  const isReal = column.affinity === "REAL" || !Number.isSafeInteger(value)
  return isReal && /^-?\d+$/.test(digits) ? `${digits}.0` : digits
}

/** What capture takes as the bytes of a blob column: a text or number in it counts as its text. */
const bytesOf = (value: string | number | bigint | Uint8Array): Uint8Array =>
  value instanceof Uint8Array ? value : Buffer.from(typeof value === "string" ? value : numberAsText(value), "utf8")

const encodeBlob = (column: ColumnShape, bytes: Uint8Array, encoding: Encoding): string => {
  if (encoding === "local") return bytesToHex(bytes)
  if (column.class === "blob") return bytesToBase64(bytes)
  return Either.getOrThrowWith(
    hexToUuid(bytesToHex(bytes)),
    () => new TypeError(`column ${column.name}: a UUID has 16 bytes`)
  )
}

const encode = (columns: ReadonlyArray<ColumnShape>, row: Row, encoding: Encoding): string => {
  let text = ""
  for (const column of columns) {
    const value = row[column.name] ?? null
    text += (text === "" ? "" : ",") + JSON.stringify(column.name) + ":"
    if (value === null) text += "null"
    else if (column.class !== "plain") text += `"${encodeBlob(column, bytesOf(value), encoding)}"`
    else if (value instanceof Uint8Array) throw new TypeError(`column ${column.name}: a blob has no JSON form here`)
    else text += encodePlain(column, value)
  }
  return `{${text}}`
}

/**
 * A row as local payload, members in column order (payload-codec.md §2). Throws a `TypeError` for what {@link checkRow}
 * refuses.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeLocal = (columns: ReadonlyArray<ColumnShape>, row: Row): string => encode(columns, row, "local")

/**
 * A row as wire payload, members in column order (payload-codec.md §4). Throws a `TypeError` for what {@link checkRow}
 * refuses.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeWire = (columns: ReadonlyArray<ColumnShape>, row: Row): string => encode(columns, row, "wire")

const wireText = (
  column: ColumnShape,
  span: MemberSpan,
  text: string
): Either.Either<string, PayloadProblem> => {
  const literal = text.slice(span.start, span.end)
  if (literal === "null" || literal === "\"\"") return Either.right(literal)
  return Either.map(
    decodeLocalBlob(column, literal.startsWith("\"") ? unquote(literal) : undefined),
    (bytes) => `"${encodeBlob(column, bytes, "wire")}"`
  )
}

/**
 * The wire payload of a local one (payload-codec.md §4). Only the values of blob columns are rewritten; number spelling,
 * member order and everything else stay as they are (DESIGN D7). A member that is no column stays too.
 *
 * @category encoding
 * @since 0.1.0
 */
export const localToWire = (
  columns: ReadonlyArray<ColumnShape>,
  text: string
): Either.Either<string, PayloadProblem> => {
  const blobs = new Map(columns.flatMap((column) => column.class === "plain" ? [] : [[column.name, column]]))
  if (blobs.size === 0) return Either.right(text)
  const spans = members(text)
  if (spans === undefined) {
    return Either.left({ code: "payload_undecodable", detail: "is not a JSON object" })
  }
  let wire = ""
  let copied = 0
  for (const span of spans) {
    const column = blobs.get(span.name)
    if (column === undefined) continue
    const value = wireText(column, span, text)
    if (Either.isLeft(value)) return Either.left(value.left)
    wire += text.slice(copied, span.start) + value.right
    copied = span.end
  }
  return Either.right(wire + text.slice(copied))
}
