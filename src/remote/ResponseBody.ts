/**
 * Reading an answer to its end, within limits (retry-and-loops.md §2.1).
 *
 * @since 0.1.0
 */
import type { HttpClientError } from "@effect/platform/HttpClientError"
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { ProtocolError, TransportError } from "../contract/SyncError.js"
import type { SyncRequest } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"

/**
 * Limits of one body: the silence allowed between two pieces, and its size in bytes.
 *
 * @since 0.1.0
 * @category models
 */
export interface BodyLimits {
  readonly idleTimeout: Duration.Duration
  readonly maxBytes: number
}

class BodyFault extends Data.TaggedError("BodyFault")<{
  readonly code: "timeout" | "body_interrupted" | "response_too_large" | "not_text"
  readonly cause?: unknown
}> {}

const interrupted = (cause?: unknown) => new BodyFault({ code: "body_interrupted", cause })

/** The announced size of the body in bytes; `exact` unless the transport may have unpacked it. */
const announced = (response: HttpClientResponse): { readonly bytes: number; readonly exact: boolean } | undefined => {
  const length = response.headers["content-length"]
  if (length === undefined || !/^\d+$/u.test(length)) return undefined
  const encoding = response.headers["content-encoding"]
  return { bytes: Number(length), exact: encoding === undefined || encoding === "identity" }
}

/**
 * The bytes of an answer; failures of the transport are interruptions, a silence beyond the limit is a timeout. An
 * answer without a body has no bytes.
 */
const pieces = (
  response: HttpClientResponse,
  idleTimeout: Duration.Duration
): Stream.Stream<Uint8Array, BodyFault> =>
  response.stream.pipe(
    Stream.catchAll((error: HttpClientError) =>
      error._tag === "ResponseError" && error.reason === "EmptyBody"
        ? Stream.empty
        : Stream.fail(interrupted(error.cause))
    ),
    Stream.timeoutFail(() => new BodyFault({ code: "timeout" }), idleTimeout)
  )

const toFailure = (request: SyncRequest) => (fault: BodyFault): Effect.Effect<never, TransportError | ProtocolError> =>
  raise((operation) =>
    fault.code === "not_text"
      ? new ProtocolError({ operation, request, rule: "invalid_json", expected: "UTF-8" })
      : new TransportError({
        operation,
        request,
        code: fault.code,
        ...(fault.cause === undefined ? {} : { cause: fault.cause })
      })
  )

/**
 * The whole body as text. Whatever the outcome, the connection is free afterwards.
 *
 * - A connection that breaks, a body that is not as long as announced, or one that ends inside a character:
 *   `TransportError(body_interrupted)`.
 * - No byte within `idleTimeout`: `TransportError(timeout)`.
 * - More than `maxBytes`, announced or received: `TransportError(response_too_large)`.
 * - A complete body that is not UTF-8: `ProtocolError(invalid_json)`.
 *
 * @since 0.1.0
 * @category decoding
 */
export const readText = (
  request: SyncRequest,
  response: HttpClientResponse,
  limits: BodyLimits
): Effect.Effect<string, TransportError | ProtocolError> =>
  Effect.suspend(() => {
    const size = announced(response)
    const tooLarge = size !== undefined && size.bytes > limits.maxBytes
    const decoder = new TextDecoder("utf-8", { fatal: true })
    let received = 0
    let text = ""

    const add = (piece: Uint8Array): BodyFault | undefined => {
      received += piece.byteLength
      if (tooLarge || received > limits.maxBytes) return new BodyFault({ code: "response_too_large" })
      try {
        text += decoder.decode(piece, { stream: true })
      } catch {
        return new BodyFault({ code: "not_text" })
      }
      return undefined
    }

    const finish = (): Effect.Effect<string, BodyFault> => {
      if (size !== undefined && size.exact && received !== size.bytes) return Effect.fail(interrupted())
      try {
        return Effect.succeed(text + decoder.decode())
      } catch {
        return Effect.fail(interrupted())
      }
    }

    return pieces(response, limits.idleTimeout).pipe(
      Stream.runForEach((piece) => Effect.suspend(() => add(piece) ?? Effect.void)),
      Effect.flatMap(finish),
      Effect.mapError((fault) => tooLarge ? new BodyFault({ code: "response_too_large" }) : fault),
      Effect.catchAll(toFailure(request))
    )
  })

/**
 * The bytes of a stream of events, which ends only by breaking: `TransportError(body_interrupted)` when the server
 * closes it, `TransportError(timeout)` after a silence of `idleTimeout` (retry-and-loops.md §5.3).
 *
 * @since 0.1.0
 * @category decoding
 */
export const endlessBytes = (
  request: SyncRequest,
  response: HttpClientResponse,
  idleTimeout: Duration.Duration
): Stream.Stream<Uint8Array, TransportError | ProtocolError> =>
  pieces(response, idleTimeout).pipe(
    Stream.concat(Stream.fail(interrupted())),
    Stream.catchAll((fault) => Stream.fromEffect(toFailure(request)(fault)))
  )
