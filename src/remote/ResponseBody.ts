/**
 * Reading an answer to its end, within limits (retry-and-loops.md §2.1).
 *
 * @since 0.1.0
 */
import type { HttpClientError } from "@effect/platform/HttpClientError"
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
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

const tooLarge = new BodyFault({ code: "response_too_large" })

/** The announced size of the body in bytes; `exact` unless the transport may have unpacked it. */
const announced = (response: HttpClientResponse): { readonly bytes: number; readonly exact: boolean } | undefined => {
  const length = response.headers["content-length"]
  if (length === undefined || !/^\d+$/u.test(length)) return undefined
  const encoding = response.headers["content-encoding"]
  return { bytes: Number(length), exact: encoding === undefined || encoding === "identity" }
}

/** Failures of the transport in the middle of a body. An answer without a body is an empty one. */
const orEmpty = (error: HttpClientError): BodyFault | undefined =>
  error._tag === "ResponseError" && error.reason === "EmptyBody" ? undefined : interrupted(error.cause)

const pieces = (response: HttpClientResponse): Stream.Stream<Uint8Array, BodyFault> =>
  Stream.catchAll(response.stream, (error) => {
    const fault = orEmpty(error)
    return fault === undefined ? Stream.empty : Stream.fail(fault)
  })

/**
 * Ends an effect that has not shown a sign of life for a time. One watching fiber for the whole body: a timer per piece
 * would cost more than the piece.
 */
const withIdleLimit = <A>(
  idleTimeout: Duration.Duration,
  body: (alive: () => void) => Effect.Effect<A, BodyFault>
): Effect.Effect<A, BodyFault> =>
  Effect.clockWith((clock) => {
    const limit = Duration.toMillis(idleTimeout)
    let last = clock.unsafeCurrentTimeMillis()
    const silence: Effect.Effect<never, BodyFault> = Effect.suspend(() => {
      const left = last + limit - clock.unsafeCurrentTimeMillis()
      return left <= 0
        ? Effect.fail(new BodyFault({ code: "timeout" }))
        : Effect.zipRight(clock.sleep(Duration.millis(left)), silence)
    })
    const alive = () => {
      last = clock.unsafeCurrentTimeMillis()
    }
    return Effect.raceFirst(body(alive), silence)
  })

/** Bodies of up to this many announced bytes are read in one go, which is twice as fast. */
const smallBody = 16 * 1024

const readSmall = (response: HttpClientResponse): Effect.Effect<Uint8Array, BodyFault> =>
  response.arrayBuffer.pipe(
    Effect.map((buffer) => new Uint8Array(buffer)),
    Effect.catchAll((error) => {
      const fault = orEmpty(error)
      return fault === undefined ? Effect.succeed(new Uint8Array()) : Effect.fail(fault)
    })
  )

const readLarge = (
  response: HttpClientResponse,
  announcedTooLarge: boolean,
  maxBytes: number,
  alive: () => void
): Effect.Effect<Uint8Array, BodyFault> => {
  const received: Array<Uint8Array> = []
  let size = 0
  return pieces(response).pipe(
    Stream.runForEach((piece) =>
      Effect.suspend(() => {
        alive()
        received.push(piece)
        size += piece.byteLength
        return announcedTooLarge || size > maxBytes ? Effect.fail(tooLarge) : Effect.void
      })
    ),
    Effect.map(() => {
      const bytes = new Uint8Array(size)
      let offset = 0
      for (const piece of received) {
        bytes.set(piece, offset)
        offset += piece.byteLength
      }
      return bytes
    })
  )
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true })

/** Text that ends inside a character was cut off; a wrong byte anywhere else was meant that way. */
const toText = (bytes: Uint8Array): Effect.Effect<string, BodyFault> =>
  Effect.try({
    try: () => strictUtf8.decode(bytes),
    catch: () => {
      try {
        new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true })
        return interrupted()
      } catch {
        return new BodyFault({ code: "not_text" })
      }
    }
  })

const toFailure =
  (request: SyncRequest, response: HttpClientResponse) =>
  (fault: BodyFault): Effect.Effect<never, TransportError | ProtocolError> =>
    raise((operation) =>
      fault.code === "not_text"
        ? new ProtocolError({ operation, request, rule: "invalid_json", expected: "UTF-8" })
        : new TransportError({
          operation,
          request,
          code: fault.code,
          // Unread, the answer still says whether the request has succeeded.
          ...(fault.code === "response_too_large" ? { status: response.status } : {}),
          ...(fault.cause === undefined ? {} : { cause: fault.cause })
        })
    )

/**
 * The whole body as text. Whatever the outcome, the connection is free afterwards.
 *
 * - A connection that breaks, a body that is not as long as announced, or one that ends inside a character:
 *   `TransportError(body_interrupted)`.
 * - No byte within `idleTimeout`: `TransportError(timeout)`.
 * - More than `maxBytes`, announced or received: `TransportError(response_too_large)`, with the status of the answer.
 * - A complete body that is not UTF-8: `ProtocolError(invalid_json)`.
 *
 * @since 0.1.0
 * @category decoding
 */
export const readText = (
  request: SyncRequest,
  response: HttpClientResponse,
  limits: BodyLimits
): Effect.Effect<string, TransportError | ProtocolError> => {
  const size = announced(response)
  const announcedTooLarge = size !== undefined && size.bytes > limits.maxBytes
  const isSmall = size !== undefined && size.exact && size.bytes <= Math.min(smallBody, limits.maxBytes)
  return withIdleLimit(
    limits.idleTimeout,
    (alive) => isSmall ? readSmall(response) : readLarge(response, announcedTooLarge, limits.maxBytes, alive)
  ).pipe(
    Effect.filterOrFail(
      (bytes) => size === undefined || !size.exact || size.bytes === bytes.byteLength,
      () => interrupted()
    ),
    Effect.flatMap(toText),
    Effect.mapError((fault) => announcedTooLarge ? tooLarge : fault),
    Effect.catchAll(toFailure(request, response))
  )
}

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
  pieces(response).pipe(
    Stream.timeoutFail(() => new BodyFault({ code: "timeout" }), idleTimeout),
    Stream.concat(Stream.fail(interrupted())),
    Stream.catchAll((fault) => Stream.fromEffect(toFailure(request, response)(fault)))
  )
