/**
 * What a declared column accepts, and how the server keeps and emits it (values.md §4).
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as CanonicalJson from "../protocol/CanonicalJson.js"
import * as AsciiText from "./AsciiText.js"
import type { ColumnKind, ServerColumn } from "./TableDeclaration.js"
import { timestamptz } from "./Timestamp.js"

/**
 * Turns an uploaded JSON value into the stored JSON text of a column; `undefined` where the column does not take it.
 *
 * @since 0.1.0
 * @category models
 */
export type Conversion = (value: unknown) => string | undefined

const quote = CanonicalJson.encodeString

const uuidText = /^\{?[0-9a-f]{4}(-?[0-9a-f]{4}){7}\}?$/i

const uuid: Conversion = (value) => {
  if (typeof value !== "string" || !uuidText.test(value) || value.startsWith("{") !== value.endsWith("}")) {
    return undefined
  }
  const digits = value.replace(/[{}-]/g, "").toLowerCase()
  return `"${digits.slice(0, 8)}-${digits.slice(8, 12)}-${digits.slice(12, 16)}-${digits.slice(16, 20)}-${
    digits.slice(20)
  }"`
}

/** Decimal digits without an exponent: what a text column makes of a number. */
const plainDecimal = (value: number): string => {
  const shortest = String(value)
  const match = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(shortest)
  if (match === null) return shortest
  const [, sign, first, rest = "", exponent] = match
  const digits = `${first}${rest}`
  const point = 1 + Number(exponent)
  return point <= 0
    ? `${sign}0.${"0".repeat(-point)}${digits}`
    : `${sign}${digits.padEnd(point, "0")}`
}

const byLengthThenName = (left: string, right: string) => left.length - right.length || (left < right ? -1 : 1)

/** The JSON text a text column makes of an array or object: blanks after separators, members by length and name. */
const spacedJson = (value: unknown): string => {
  if (Array.isArray(value)) return "[" + value.map(spacedJson).join(", ") + "]"
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).sort(([left], [right]) => byLengthThenName(left, right))
    return "{" + members.map(([name, member]) => `${JSON.stringify(name)}: ${spacedJson(member)}`).join(", ") + "}"
  }
  return typeof value === "number"
    ? plainDecimal(value)
    : typeof value === "bigint"
    ? String(value)
    : JSON.stringify(value)
}

const text: Conversion = (value) => {
  if (typeof value === "string") return value.includes("\u0000") ? undefined : quote(value)
  return quote(spacedJson(value))
}

const digits = /^([+-]?)0*(\d+)$/
const mostDigits = "9223372036854775808".length

/** The integer a text spells; `undefined` where it spells none, or one that no column holds. */
const integerFromText = (value: string): bigint | undefined => {
  const [, sign, rest = ""] = digits.exec(AsciiText.strip(value)) ?? []
  if (sign === undefined || rest.length > mostDigits) return undefined
  return sign === "-" ? -BigInt(rest) : BigInt(rest)
}

const integerOf = (value: unknown): bigint | undefined => {
  switch (typeof value) {
    case "string":
      return integerFromText(value)
    case "number":
      return Number.isInteger(value) ? BigInt(value) : undefined
    default:
      return typeof value === "bigint" ? value : undefined
  }
}

const integer = (lowest: bigint, highest: bigint): Conversion => (value) => {
  const exact = integerOf(value)
  return exact === undefined || exact < lowest || exact > highest ? undefined : String(exact)
}

const decimal = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i
const hexadecimal = /^0x[0-9a-f]+$/i
const zero = /^[^e]*[1-9]/i

const doubleFromText = (value: string): string | undefined => {
  const trimmed = AsciiText.strip(value)
  if (/^nan$/i.test(trimmed)) return "\"NaN\""
  const infinite = /^([+-]?)inf(inity)?$/i.exec(trimmed)
  if (infinite !== null) return infinite[1] === "-" ? "\"-Infinity\"" : "\"Infinity\""
  if (!decimal.test(trimmed) && !hexadecimal.test(trimmed)) return undefined
  const number = Number(trimmed)
  const underflow = number === 0 && zero.test(trimmed) && !hexadecimal.test(trimmed)
  return Number.isFinite(number) && !underflow ? doubleText(number) : undefined
}

const doubleText = (value: number) => CanonicalJson.encodeNumber(value === 0 ? 0 : value)

const double: Conversion = (value) => {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? doubleText(value) : undefined
    case "bigint":
      return doubleText(Number(value))
    case "string":
      return doubleFromText(value)
    default:
      return undefined
  }
}

const truths = ["true", "yes", "on"]
const falsehoods = ["false", "no", "off"]

const booleanFromText = (value: string): boolean | undefined => {
  const word = AsciiText.strip(value).toLowerCase()
  if (word === "1" || word === "0") return word === "1"
  // Any unambiguous abbreviation; "o" could be on or off.
  if (word === "" || word === "o") return undefined
  if (truths.some((_) => _.startsWith(word))) return true
  return falsehoods.some((_) => _.startsWith(word)) ? false : undefined
}

const boolean: Conversion = (value) => {
  const truth = typeof value === "boolean"
    ? value
    : value === 0 || value === 1
    ? value === 1
    : typeof value === "string"
    ? booleanFromText(value)
    : undefined
  return truth === undefined ? undefined : String(truth)
}

// No repeated group: it would take stack for each repetition, and a binary may be large.
const base64 = /^[A-Za-z0-9+/]*={0,2}$/

/**
 * Canonical base64 of a binary member, `undefined` where the value is no standard base64 text with padding. Line ends are
 * ignored (values.md §4).
 *
 * @since 0.1.0
 * @category conversions
 */
export const bytea: Conversion = (value) => {
  if (typeof value !== "string") return undefined
  const packed = value.replace(/[\r\n]/g, "")
  return packed.length % 4 === 0 && base64.test(packed)
    ? `"${Buffer.from(packed, "base64").toString("base64")}"`
    : undefined
}

const time: Conversion = (value) => {
  if (typeof value !== "string" && typeof value !== "number") return undefined
  const spelled = timestamptz(String(value))
  return spelled === undefined ? undefined : `"${spelled}"`
}

/** No bundle holds a negative zero (hashing.md §8 #2). */
const json: Conversion = (value) => CanonicalJson.encodeExact(value, doubleText)

/**
 * The conversion of each kind. NULL is not theirs: it is stored wherever the column is not NOT NULL.
 *
 * @since 0.1.0
 * @category conversions
 */
export const conversions: Readonly<Record<ColumnKind, Conversion>> = {
  uuid,
  text,
  integer: integer(-(2n ** 31n), 2n ** 31n - 1n),
  bigint: integer(-(2n ** 63n), 2n ** 63n - 1n),
  "double precision": double,
  boolean,
  bytea,
  timestamptz: time,
  json
}

/** Stands for the time of the commit; JSON text never holds it raw. */
const commitTime = "\u0001"

/**
 * The stored JSON text of a column's default; U+0001 where it is the time of the commit.
 *
 * @since 0.1.0
 * @category conversions
 */
export const defaultText = (column: Pick<ServerColumn, "kind" | "default">): string => {
  if (column.default === undefined || column.default === null) return "null"
  if (column.kind === "timestamptz" && column.default === "now()") return commitTime
  return conversions[column.kind](column.default) ?? "null"
}
