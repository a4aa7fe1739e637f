/**
 * Equality of wire payloads in the sense that the local row would look the same (payload-codec.md §6.2).
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { type ColumnShape, numberAsText } from "./ColumnShape.js"
import { parseEither } from "./ExactJson.js"
import { sameInstant } from "./Timestamp.js"

type JsonNumber = number | bigint

const isNumber = (value: unknown): value is JsonNumber => typeof value === "number" || typeof value === "bigint"

const isArray = (value: unknown): value is ReadonlyArray<unknown> => Array.isArray(value)

const isMembers = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

// Integers that both keep all their digits compare exactly; a `bigint` is one beyond ±(2^53−1), so a mixed pair is never
// a pair of such integers.
const sameNumber = (left: JsonNumber, right: JsonNumber): boolean =>
  typeof left === typeof right ? left === right : Number(left) === Number(right)

const numeral = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/
const integer = /^[+-]?\d+$/

/** A column with numeric affinity turns a text that looks like a number into that number. */
const asStored = (text: string): JsonNumber | undefined => {
  const trimmed = text.trim()
  if (!numeral.test(trimmed)) return undefined
  const value = Number(trimmed)
  if (Number.isSafeInteger(value) || !integer.test(trimmed)) return value
  const exact = BigInt(trimmed)
  return BigInt.asIntN(64, exact) === exact ? exact : value
}

const numberEqualsText = (column: ColumnShape | undefined, value: JsonNumber, text: string): boolean => {
  if (numberAsText(value) === text) return true
  if (column === undefined || column.affinity === "TEXT" || column.affinity === "BLOB") return false
  const stored = asStored(text)
  return stored !== undefined && sameNumber(value, stored)
}

const withoutBoolean = (value: unknown): unknown => typeof value === "boolean" ? (value ? 1 : 0) : value

const sameText = (column: ColumnShape | undefined, left: string, right: string): boolean => {
  if (left === right) return true
  switch (column?.class) {
    case "uuid-key":
    case "uuid-ref":
      return left.toLowerCase() === right.toLowerCase()
    case "blob":
      return false
    default:
      return sameInstant(left, right)
  }
}

const sameValue = (column: ColumnShape | undefined, given: unknown, other: unknown): boolean => {
  const left = withoutBoolean(given)
  const right = withoutBoolean(other)
  if (isNumber(left)) {
    return isNumber(right)
      ? sameNumber(left, right)
      : typeof right === "string" && numberEqualsText(column, left, right)
  }
  if (typeof left === "string") {
    return typeof right === "string"
      ? sameText(column, left, right)
      : isNumber(right) && numberEqualsText(column, right, left)
  }
  if (isArray(left)) {
    return isArray(right) && left.length === right.length &&
      left.every((item, index) => sameValue(undefined, item, right[index]))
  }
  if (isMembers(left)) return isMembers(right) && sameMembers(() => undefined, left, right)
  return left === right
}

const sameMembers = (
  columnOf: (name: string) => ColumnShape | undefined,
  left: Readonly<Record<string, unknown>>,
  right: Readonly<Record<string, unknown>>
): boolean => {
  const names = Object.keys(left)
  return names.length === Object.keys(right).length &&
    names.every((name) => Object.hasOwn(right, name) && sameValue(columnOf(name), left[name], right[name]))
}

/**
 * Whether two wire payloads would leave the same local row (payload-codec.md §6.2). Compared as trees: the same members;
 * numbers exactly if both are integers, else as doubles; booleans as 1 and 0; RFC 3339 timestamps with a zone by instant; a
 * number equals the text that its column would hold for it, and the other way round. Text that is not JSON equals only
 * itself.
 *
 * @example
 * ```ts
 * import { RowPayload } from "oversqlite/protocol"
 *
 * const flag = { name: "flag", class: "plain", affinity: "INTEGER" } as const
 * RowPayload.equivalentWire([flag], "{\"flag\":1}", "{\"flag\":true}") // true
 * ```
 *
 * @category comparing
 * @since 0.1.0
 */
export const equivalentWire = (
  columns: ReadonlyArray<ColumnShape>,
  leftWireText: string,
  rightWireText: string
): boolean => {
  if (leftWireText === rightWireText) return true
  const left = parseEither(leftWireText)
  const right = parseEither(rightWireText)
  if (Either.isLeft(left) || Either.isLeft(right)) return false
  return isMembers(left.right) && isMembers(right.right)
    ? sameMembers((name) => columns.find((column) => column.name === name), left.right, right.right)
    : sameValue(undefined, left.right, right.right)
}
