/**
 * Request bodies: bytes into values by the rules of the wire (wire.md §1.4).
 *
 * Two things differ from the reference. Of repeated composite members (`rows`, `key`, `source_replacement`) the last one
 * counts, where the reference merges them; and member names match regardless of case for ASCII letters only.
 *
 * @since 0.1.0
 */
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as CanonicalJson from "../protocol/CanonicalJson.js"
import * as ExactJson from "../protocol/ExactJson.js"
import * as JsonText from "../protocol/JsonText.js"

/**
 * Why a body was not read: `too_large` is beyond the limit of the server, `malformed` is everything else.
 *
 * @since 0.1.0
 * @category models
 */
export type BodyProblem = "too_large" | "malformed"

const integerMember =
  /"(?:start_row_ordinal|base_row_version|source_bundle_id|planned_row_count)"\s*:\s*-?\d+(?:\.|[eE])/i

/** The name of a member may be spelled with escapes. */
const escapedLetter = /\\u00[4-7]/

/** Numbers spelled with a fraction or an exponent are no integers, whatever their value. */
const spelledNumber = (text: string): unknown => /^-?\d+$/.test(text) ? Number(text) : text

/**
 * Decodes a body text. Integers must be spelled as integers; text after the first value is ignored. Deeper nesting than
 * canonical JSON has is malformed.
 *
 * @since 0.1.0
 * @category decoding
 */
export const decode = <A, I>(schema: Schema.Schema<A, I>) => {
  const decodeValue = Schema.decodeUnknownEither(schema)
  return (text: string): Either.Either<A, BodyProblem> => {
    const { depth, end } = JsonText.firstValue(text)
    if (depth > CanonicalJson.maxNesting) return Either.left("malformed")
    const first = text.slice(0, end)
    const value = Either.flatMap(ExactJson.parseEither(first), decodeValue)
    const misspelled = Either.isRight(value) && (integerMember.test(first) || escapedLetter.test(first)) &&
      Either.isLeft(decodeValue(JsonText.valueOf(first, spelledNumber)))
    return misspelled ? Either.left("malformed") : Either.mapLeft(value, () => "malformed" as const)
  }
}

const blank = /^[ \t\n\r]*$/

/**
 * Whether a text has no JSON value at all. A byte order mark is no white space (wire.md §1.4).
 *
 * @since 0.1.0
 * @category predicates
 */
export const isBlank = (text: string): boolean => blank.test(text)

/**
 * Whether nothing follows the first value of a text, or a second value does; what follows that one does not count
 * (wire.md §1.4, snapshot sessions).
 *
 * @since 0.1.0
 * @category predicates
 */
export const endsWell = (text: string): boolean => {
  const rest = text.slice(JsonText.firstValue(text).end)
  const second = JsonText.firstValue(rest)
  return isBlank(rest) ||
    (second.depth <= CanonicalJson.maxNesting && Either.isRight(ExactJson.parseEither(rest.slice(0, second.end))))
}

/**
 * The text of a request body of at most `maxBytes` bytes. Invalid UTF-8 becomes U+FFFD byte by byte; a byte order mark
 * stays, and makes the text malformed.
 *
 * @since 0.1.0
 * @category decoding
 */
export const text = (
  request: HttpServerRequest.HttpServerRequest,
  maxBytes: number
): Effect.Effect<string, BodyProblem> =>
  Number(request.headers["content-length"] ?? "0") > maxBytes
    ? Effect.fail("too_large")
    : request.arrayBuffer.pipe(
      HttpIncomingMessage.withMaxBodySize(Option.some(maxBytes)),
      Effect.mapError((): BodyProblem => "too_large"),
      Effect.flatMap((bytes) =>
        bytes.byteLength > maxBytes
          ? Effect.fail("too_large" as const)
          : Effect.succeed(JsonText.decodeUtf8(new Uint8Array(bytes)))
      )
    )
