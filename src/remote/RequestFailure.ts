/**
 * What a request can fail with, and the answer that flows interpret before it becomes an error (errors.md §1.2, §1.6).
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import { answerInWords } from "../contract/ErrorFields.js"
import type { CredentialsMismatch, ProtocolError, RetryExhausted } from "../contract/SyncError.js"
import { TransportError } from "../contract/SyncError.js"
import type { SyncOperation, SyncRequest } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"
import type * as WireError from "../protocol/WireError.js"

/**
 * A non-200 answer that the flows interpret; it never leaves the engine. `serverCode` is blank and `body` undefined if
 * the answer carried no error envelope (plain text of a proxy, wire.md §1.2); `retryAfter` is what the server sent,
 * not capped.
 *
 * @since 0.1.0
 * @category errors
 */
export class Refusal extends Data.TaggedError("Refusal")<{
  readonly request: SyncRequest
  readonly status: number
  readonly serverCode: string
  readonly body: WireError.ErrorBody | undefined
  readonly retryAfter?: Duration.Duration | undefined
}> {
  override get message(): string {
    return `${this.request} was answered with status ${answerInWords(this.status, this.serverCode)}`
  }
}

/**
 * Everything a method of the remote service can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type RequestFailure = TransportError | RetryExhausted | ProtocolError | CredentialsMismatch | Refusal

/**
 * The error of a refusal for a given operation: code `status`, with the status, the server's code and its
 * `Retry-After`. The server's free text is left behind (errors.md, general rule 4).
 *
 * @since 0.1.0
 * @category conversions
 */
export const transportErrorOf = (refusal: Refusal, operation: SyncOperation): TransportError =>
  new TransportError({
    code: "status",
    operation,
    request: refusal.request,
    status: refusal.status,
    serverCode: refusal.serverCode,
    ...(refusal.retryAfter === undefined ? {} : { retryAfter: refusal.retryAfter })
  })

/**
 * Fails with the error of a refusal that no rule consumes, in the name of the running operation
 * (errors.md §1.6). Made for `Effect.catchTag("Refusal", toTransportError)`.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toTransportError = (refusal: Refusal): Effect.Effect<never, TransportError> =>
  raise((operation) => transportErrorOf(refusal, operation))
