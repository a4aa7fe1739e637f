/**
 * The text form in which the server keeps and emits values: canonical JSON (hashing.md §1), except that integers of the
 * signed 64-bit range keep every digit (wire.md §12, `exact_integers`).
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as CanonicalJson from "../protocol/CanonicalJson.js"

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null

/** Deepest nesting the store takes: SQLite's own JSON functions end at 1000. */
const maxDepth = 900

/**
 * Whether a value nests deeper than the store can hold.
 *
 * @since 0.1.0
 * @category predicates
 */
export const tooDeep = (value: unknown, depth = 0): boolean =>
  isObject(value) && (depth >= maxDepth || Object.values(value).some((child) => tooDeep(child, depth + 1)))

const holdsBigint = (value: unknown): boolean =>
  typeof value === "bigint" || (isObject(value) && Object.values(value).some(holdsBigint))

const byUtf8 = (left: string, right: string) => Buffer.compare(Buffer.from(left), Buffer.from(right))

const encodeExact = (value: unknown): string => {
  if (typeof value === "bigint") return String(value)
  if (Array.isArray(value)) return "[" + value.map(encodeExact).join(",") + "]"
  if (!isObject(value)) return CanonicalJson.encode(value)
  const members = Object.keys(value).sort(byUtf8).map((name) =>
    CanonicalJson.encodeString(name) + ":" + encodeExact(value[name])
  )
  return "{" + members.join(",") + "}"
}

/**
 * The stored text of a parsed value. A `bigint` is an integer beyond ±(2^53−1) and keeps its digits.
 *
 * @since 0.1.0
 * @category encoding
 */
export const encode = (value: unknown): string => holdsBigint(value) ? encodeExact(value) : CanonicalJson.encode(value)

const longDigits = /\d{16}/

/**
 * Canonical JSON, as the hash wants it, of a stored text: every number through binary64 (hashing.md §1.1).
 *
 * @since 0.1.0
 * @category encoding
 */
export const canonical = (stored: string): string =>
  longDigits.test(stored) ? CanonicalJson.encode(JSON.parse(stored)) : stored
