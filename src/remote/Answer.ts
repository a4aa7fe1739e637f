/**
 * The text of an answer as a value of the protocol (wire.md §1.3, §1.5).
 *
 * @since 0.1.0
 */
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type { ProtocolRule } from "../contract/SyncError.js"
import { ProtocolError } from "../contract/SyncError.js"
import type { SyncRequest } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"
import * as ExactJson from "../protocol/ExactJson.js"
import * as WireError from "../protocol/WireError.js"
import { Refusal } from "./RequestFailure.js"

/**
 * Fails with a broken rule in the name of the running operation.
 *
 * @since 0.1.0
 * @category constructors
 */
export const protocolError = (
  request: SyncRequest,
  rule: ProtocolRule,
  expected: string
): Effect.Effect<never, ProtocolError> =>
  raise((operation) => new ProtocolError({ operation, request, rule, expected }))

/** Where a value differs from its schema. The value itself may be a secret of the host's and stays out. */
const firstPath = (error: ParseResult.ParseError): string => {
  const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
  return issue === undefined || issue.path.length === 0 ? "the answer" : issue.path.map(String).join(".")
}

/**
 * Decodes an answer. Text that is not JSON: `ProtocolError(invalid_json)`; JSON of another shape:
 * `ProtocolError(field_invalid)`, which names the first wrong member.
 *
 * @since 0.1.0
 * @category decoding
 */
export const decodeJson = <A, I>(
  schema: Schema.Schema<A, I>
): (request: SyncRequest, text: string) => Effect.Effect<A, ProtocolError> => {
  const decode = Schema.decodeUnknownEither(schema)
  return (request, text) =>
    Effect.suspend(() => {
      let value: unknown
      try {
        value = JSON.parse(text)
      } catch {
        return protocolError(request, "invalid_json", "a JSON text")
      }
      return Either.match(decode(value), {
        onLeft: (error) => protocolError(request, "field_invalid", `a valid ${firstPath(error)}`),
        onRight: Effect.succeed
      })
    })
}

const decodeErrorBody = Schema.decodeUnknownEither(WireError.ErrorBody)
const decodeErrorCode = Schema.decodeUnknownEither(Schema.Struct({ error: Schema.String }))

/**
 * The waiting time of a `Retry-After` header in seconds. HTTP dates are not understood: they would need the wall clock
 * (retry-and-loops.md §1).
 */
const retryAfter = (response: HttpClientResponse): Duration.Duration | undefined => {
  const header = response.headers["retry-after"]?.trim()
  return header !== undefined && /^\d+$/u.test(header) ? Duration.seconds(Math.min(Number(header), 1e9)) : undefined
}

/**
 * An answer with another status than the expected one. A body that is no error envelope (plain text of a proxy or of
 * the bearer check, wire.md §1.2) leaves `serverCode` blank. Integers in conflicts keep all their digits.
 *
 * @since 0.1.0
 * @category constructors
 */
export const toRefusal = (request: SyncRequest, response: HttpClientResponse, text: string): Refusal => {
  const parsed = Either.try(() => ExactJson.parse(text))
  const body = Either.flatMap(parsed, decodeErrorBody)
  const code = Either.flatMap(parsed, decodeErrorCode)
  return new Refusal({
    request,
    status: response.status,
    serverCode: Either.isRight(code) ? code.right.error : "",
    body: Either.isRight(body) ? body.right : undefined,
    retryAfter: retryAfter(response)
  })
}
