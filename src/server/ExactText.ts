/**
 * The text form in which the server keeps and emits values: canonical JSON (hashing.md §1), except that integers of the
 * signed 64-bit range keep every digit (wire.md §12, `exact_integers`).
 *
 * @since 0.1.0
 */
import * as CanonicalJson from "../protocol/CanonicalJson.js"

/**
 * Deepest nesting the store takes: SQLite's own JSON functions end at 1000.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxNesting = 900

/**
 * The stored text of a parsed value. A `bigint` is an integer beyond ±(2^53−1) and keeps its digits.
 *
 * @since 0.1.0
 * @category encoding
 */
export const encode = (value: unknown): string => CanonicalJson.encodeExact(value)

const longDigits = /\d{16}/

/**
 * Canonical JSON, as the hash wants it, of a stored text: every number through binary64 (hashing.md §1.1).
 *
 * @since 0.1.0
 * @category encoding
 */
export const canonical = (stored: string): string =>
  longDigits.test(stored) ? CanonicalJson.encode(JSON.parse(stored)) : stored
