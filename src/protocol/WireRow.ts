/**
 * The rows of the wire and their decoders. Pages carry thousands of rows, so these are plain functions: a row that
 * already has the shape of its type is passed on as it is, everything else goes the long way round.
 *
 * @since 0.1.0
 */
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { extent } from "./CanonicalJson.js"
import { setMember } from "./JsonText.js"

/**
 * A key on the wire: the lowercase name of the key column and its text (wire.md §2.1). The value is not trusted to be a
 * string before a rule or the server has looked at it.
 *
 * @category models
 * @since 0.1.0
 */
export type WireKey = Readonly<Record<string, unknown>>

/**
 * A row of a committed bundle (wire.md §2.3). `op` is one of INSERT, UPDATE and DELETE; `payload` is the full
 * after-image, absent for DELETE.
 *
 * @category models
 * @since 0.1.0
 */
export interface BundleRow {
  readonly schema: string
  readonly table: string
  readonly key: WireKey
  readonly op: string
  readonly row_version: number
  readonly payload?: unknown
}

/**
 * A committed, atomic set of row effects (wire.md §2.4). `row_count` is 0 and `bundle_hash` blank where the server does
 * not say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Bundle {
  readonly bundle_seq: number
  readonly source_id: string
  readonly source_bundle_id: number
  readonly row_count: number
  readonly bundle_hash: string
  readonly rows: ReadonlyArray<BundleRow>
}

/**
 * A row of a snapshot (wire.md §2.6): the row as of `snapshot_bundle_seq`, last changed by bundle `row_version`.
 *
 * @category models
 * @since 0.1.0
 */
export interface SnapshotRow {
  readonly schema: string
  readonly table: string
  readonly key: WireKey
  readonly row_version: number
  readonly payload?: unknown
}

/**
 * A row of an upload (wire.md §2.2). For `payload` absent and `null` are different: a DELETE must not have the member at
 * all.
 *
 * @category models
 * @since 0.1.0
 */
export interface PushRequestRow {
  readonly schema: string
  readonly table: string
  readonly key: WireKey
  readonly op: string
  readonly base_row_version: number
  readonly payload?: unknown
}

/** A member that has not the type of its place. Says where, never what. */
class Fault {
  readonly path: ReadonlyArray<string | number>
  constructor(path: ReadonlyArray<string | number>) {
    this.path = path
  }
}

const isFault = (value: unknown): value is Fault => value instanceof Fault

type Members = Readonly<Record<string, unknown>>

const isMembers = (value: unknown): value is Members =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isAbsent = (value: unknown): value is null | undefined => value === undefined || value === null

// The members' decoders: the value, its zero value where it is absent, `undefined` where it has not the type.

const asText = (value: unknown): string | undefined =>
  typeof value === "string" ? value : isAbsent(value) ? "" : undefined

const asFlag = (value: unknown): boolean | undefined =>
  typeof value === "boolean" ? value : isAbsent(value) ? false : undefined

const asInteger = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isSafeInteger(value) ? value : isAbsent(value) ? 0 : undefined

const largest = 2 ** 63 - 1024

/**
 * Beyond 2^53 an integer is only rounded, which keeps its order against every counter there is. Those of the 64-bit range
 * come as `bigint` (`ExactJson`) and stay below 2^63; a number that is as large was out of range before it was rounded.
 */
const asInteger64 = (value: unknown): number | undefined => {
  if (typeof value === "bigint") return Math.max(-largest, Math.min(Number(value), largest))
  if (typeof value === "number" && Number.isInteger(value) && Math.abs(value) <= largest) return value
  return isAbsent(value) ? 0 : undefined
}

const asKey = (value: unknown): WireKey | undefined => isMembers(value) ? value : isAbsent(value) ? {} : undefined

const onlyTexts = (key: WireKey): boolean => {
  for (const name in key) {
    if (typeof key[name] !== "string") return false
  }
  return true
}

/** Members of a key that are none of ours must be numbers of binary64 all the same (wire.md §1.4). */
const asRequestKey = (value: unknown): WireKey | undefined => {
  const key = asKey(value)
  return key === undefined || onlyTexts(key) || extent(key).finite ? key : undefined
}

const member = <A>(members: Members, name: string, as: (value: unknown) => A | undefined): A | Fault =>
  as(members[name]) ?? new Fault([name])

const isBundleRow = (value: unknown): value is BundleRow =>
  isMembers(value) && typeof value["schema"] === "string" && typeof value["table"] === "string" &&
  typeof value["op"] === "string" && Number.isSafeInteger(value["row_version"]) && isMembers(value["key"]) &&
  value["payload"] !== null

const isSnapshotRow = (value: unknown): value is SnapshotRow =>
  isMembers(value) && typeof value["schema"] === "string" && typeof value["table"] === "string" &&
  Number.isSafeInteger(value["row_version"]) && isMembers(value["key"]) && value["payload"] !== null

const payloadOf = (members: Members) => isAbsent(members["payload"]) ? {} : { payload: members["payload"] }

const decodeSnapshotRow = (value: unknown): SnapshotRow | Fault => {
  if (isSnapshotRow(value)) return value
  const members = isAbsent(value) ? {} : value
  if (!isMembers(members)) return new Fault([])
  const schema = member(members, "schema", asText)
  const table = member(members, "table", asText)
  const keyObject = member(members, "key", asKey)
  const version = member(members, "row_version", asInteger)
  if (isFault(schema)) return schema
  if (isFault(table)) return table
  if (isFault(keyObject)) return keyObject
  if (isFault(version)) return version
  return { schema, table, key: keyObject, row_version: version, ...payloadOf(members) }
}

const decodeBundleRow = (value: unknown): BundleRow | Fault => {
  if (isBundleRow(value)) return value
  const row = decodeSnapshotRow(value)
  if (isFault(row)) return row
  const op = isMembers(value) ? member(value, "op", asText) : ""
  if (isFault(op)) return op
  return { ...row, op, ...payloadOf({ payload: row.payload }) }
}

const requestMembers: ReadonlySet<string> = new Set([
  "schema",
  "table",
  "key",
  "op",
  "base_row_version",
  "payload"
])

/**
 * A request object whose member names are spelled as in the protocol. The server matches names without regard to case,
 * of several spellings the last counts (wire.md §1.4); unknown members stay.
 *
 * @internal
 */
export const foldNames = (value: Members, known: ReadonlySet<string>): Members => {
  let foreign = false
  for (const name in value) {
    foreign ||= !known.has(name)
  }
  if (!foreign) return value
  const folded: Record<string, unknown> = {}
  for (const [name, member] of Object.entries(value)) {
    const lower = name.toLowerCase()
    setMember(folded, known.has(lower) ? lower : name, member)
  }
  return folded
}

/** Five or six members of their types, and none besides: nothing to fold, nothing to default. */
const isPushRequestRow = (value: unknown): value is PushRequestRow =>
  isMembers(value) && typeof value["schema"] === "string" && typeof value["table"] === "string" &&
  typeof value["op"] === "string" && Number.isSafeInteger(value["base_row_version"]) && isMembers(value["key"]) &&
  onlyTexts(value["key"]) &&
  Object.keys(value).length === (value["payload"] === undefined ? 5 : 6)

const decodePushRequestRow = (value: unknown): PushRequestRow | Fault => {
  if (isPushRequestRow(value)) return value
  const given = isAbsent(value) ? {} : value
  if (!isMembers(given)) return new Fault([])
  const members = foldNames(given, requestMembers)
  const schema = member(members, "schema", asText)
  const table = member(members, "table", asText)
  const keyObject = member(members, "key", asRequestKey)
  const op = member(members, "op", asText)
  const version = member(members, "base_row_version", asInteger64)
  if (isFault(schema)) return schema
  if (isFault(table)) return table
  if (isFault(keyObject)) return keyObject
  if (isFault(op)) return op
  if (isFault(version)) return version
  const row = { schema, table, key: keyObject, op, base_row_version: version }
  return members["payload"] === undefined ? row : { ...row, payload: members["payload"] }
}

const arrayOf = <A>(decode: (value: unknown) => A | Fault) => (value: unknown): ReadonlyArray<A> | Fault => {
  if (isAbsent(value)) return []
  if (!Array.isArray(value)) return new Fault([])
  const values: ReadonlyArray<unknown> = value
  const decoded: Array<A> = []
  for (let index = 0; index < values.length; index++) {
    const item = decode(values[index])
    if (isFault(item)) return new Fault([index, ...item.path])
    decoded.push(item)
  }
  return decoded
}

const decodeBundleRows = arrayOf(decodeBundleRow)

const decodeBundle = (value: unknown): Bundle | Fault => {
  const members = isAbsent(value) ? {} : value
  if (!isMembers(members)) return new Fault([])
  const bundleSeq = member(members, "bundle_seq", asInteger)
  const sourceId = member(members, "source_id", asText)
  const sourceBundleId = member(members, "source_bundle_id", asInteger)
  const rowCount = member(members, "row_count", asInteger)
  const bundleHash = member(members, "bundle_hash", asText)
  const rows = decodeBundleRows(members["rows"])
  if (isFault(bundleSeq)) return bundleSeq
  if (isFault(sourceId)) return sourceId
  if (isFault(sourceBundleId)) return sourceBundleId
  if (isFault(rowCount)) return rowCount
  if (isFault(bundleHash)) return bundleHash
  if (isFault(rows)) return new Fault(["rows", ...rows.path])
  return {
    bundle_seq: bundleSeq,
    source_id: sourceId,
    source_bundle_id: sourceBundleId,
    row_count: rowCount,
    bundle_hash: bundleHash,
    rows
  }
}

/** A schema around a plain decoder; encoding passes the value on. The issue names the place, never the content. */
const fromDecoder = <A>(identifier: string, decode: (value: unknown) => A | Fault): Schema.Schema<A, unknown> =>
  Schema.declare<A, unknown, []>([], {
    decode: () => (input, _options, ast) => {
      const decoded = decode(input)
      if (!isFault(decoded)) return ParseResult.succeed(decoded)
      const issue = new ParseResult.Type(ast, undefined, `not of the type ${identifier}`)
      const [first, ...rest] = decoded.path
      return ParseResult.fail(first === undefined ? issue : new ParseResult.Pointer([first, ...rest], undefined, issue))
    },
    encode: () => (input) => ParseResult.succeed(input)
  }, { identifier })

const fromMember = <A>(identifier: string, as: (value: unknown) => A | undefined) =>
  fromDecoder(identifier, (value) => as(value) ?? new Fault([]))

/**
 * {@link BundleRow} as a schema.
 *
 * @internal
 */
export const BundleRowSchema = fromDecoder("BundleRow", decodeBundleRow)
/**
 * The rows of a bundle or of a page of it.
 *
 * @internal
 */
export const BundleRowsSchema = fromDecoder("rows", decodeBundleRows)
/**
 * {@link Bundle} as a schema.
 *
 * @internal
 */
export const BundleSchema = fromDecoder("Bundle", decodeBundle)
/**
 * The bundles of a pull page.
 *
 * @internal
 */
export const BundlesSchema = fromDecoder("bundles", arrayOf(decodeBundle))
/**
 * {@link SnapshotRow} as a schema.
 *
 * @internal
 */
export const SnapshotRowSchema = fromDecoder("SnapshotRow", decodeSnapshotRow)
/**
 * The rows of a snapshot chunk.
 *
 * @internal
 */
export const SnapshotRowsSchema = fromDecoder("rows", arrayOf(decodeSnapshotRow))
/**
 * {@link PushRequestRow} as a schema.
 *
 * @internal
 */
export const PushRequestRowSchema = fromDecoder("PushRequestRow", decodePushRequestRow)
/**
 * The rows of an uploaded chunk.
 *
 * @internal
 */
export const PushRequestRowsSchema = fromDecoder("rows", arrayOf(decodePushRequestRow))
/**
 * {@link WireKey} as a schema.
 *
 * @internal
 */
export const WireKeySchema = fromMember("key", asKey)
/**
 * A text.
 *
 * @internal
 */
export const Text = fromMember("text", asText)
/**
 * A boolean.
 *
 * @internal
 */
export const Flag = fromMember("boolean", asFlag)
/**
 * An integer within ±(2^53−1): every number an answer may carry outside of payloads.
 *
 * @internal
 */
export const Integer = fromMember("integer", asInteger)
/**
 * Any integer of the signed 64-bit range, as requests may carry it; rounded to a double beyond 2^53.
 *
 * @internal
 */
export const Integer64 = fromMember("integer", asInteger64)
