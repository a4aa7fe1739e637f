/**
 * JSON with the integers of a database: those beyond ±(2^53−1) and within 64 bits are `bigint`, everything else is as
 * with `JSON.parse` (DESIGN D7).
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as Lossless from "lossless-json"
import { valueOf, wellFormed } from "./JsonText.js"

/**
 * The text is not JSON.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidJson extends Data.TaggedError("InvalidJson")<{}> {
  override get message() {
    return "not a JSON text"
  }
}

// A JSON integer of 16 digits or more stands between these characters. Text inside of strings may match too, which
// costs time only.
const longInteger = /(?:^|[[:,\s])-?\d{16,}(?:[\s,\]}]|$)/
const integer = /^-?\d+$/
const longestInteger = "-9223372036854775808".length

const parseNumber = (text: string): number | bigint => {
  const value = Number(text)
  if (Number.isSafeInteger(value) || !integer.test(text)) return value
  if (text.length > longestInteger) return value
  const exact = BigInt(text)
  return BigInt.asIntN(64, exact) === exact ? exact : value
}

/**
 * Parses JSON text like `JSON.parse`, but an integer (digits only) beyond ±(2^53−1) and within 64 bits becomes a
 * `bigint`. Of several members with one name the last counts; unpaired surrogates become U+FFFD (wire.md §1.4).
 *
 * Throws a `SyntaxError` where the text is not JSON; {@link parseEither} returns it as a value.
 *
 * @example
 * ```ts
 * import { ExactJson } from "oversqlite/protocol"
 *
 * ExactJson.parse("[1, 9007199254740993, 1e300]") // [1, 9007199254740993n, 1e300]
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const parse = (text: string): unknown => {
  const source = wellFormed(text)
  const rounded: unknown = JSON.parse(source)
  return longInteger.test(source) ? valueOf(source, parseNumber) : rounded
}

/**
 * {@link parse} with an {@link InvalidJson} instead of an exception.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseEither = (text: string): Either.Either<unknown, InvalidJson> =>
  Either.try({ try: () => parse(text), catch: () => new InvalidJson() })

/**
 * JSON text of a value, like `JSON.stringify` without white space, with a `bigint` written as digits.
 *
 * @category encoding
 * @since 0.1.0
 */
export const stringify = (value: unknown): string => {
  try {
    return JSON.stringify(value) ?? "null"
  } catch {
    // JSON.stringify refuses a bigint; trying first costs nothing where there is none, which is the rule.
    return Lossless.stringify(value) ?? "null"
  }
}
