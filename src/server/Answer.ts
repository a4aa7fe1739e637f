/**
 * From what an operation comes to, to what the client is sent (wire.md §1.3, §1.5).
 *
 * @since 0.1.0
 */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { Buffer, isUtf8 } from "node:buffer"
import { IncomingMessage } from "node:http"
import { BaseBundleHashHeader, SourceIdHeader } from "../protocol/Wire.js"
import type { WireErrorCode } from "../protocol/WireError.js"
import type { Actor } from "./Actor.js"
import { Authentication } from "./Authentication.js"
import type { Unauthenticated } from "./Authentication.js"
import * as RequestBody from "./RequestBody.js"
import * as ResponseText from "./ResponseText.js"
import type { SyncRefused } from "./SyncRefused.js"
import { refused } from "./SyncRefused.js"
import { SyncServer } from "./SyncServer.js"
import type { ServerFailure } from "./SyncServer.js"

/**
 * A JSON answer: the text and one line feed.
 *
 * @since 0.1.0
 * @category responses
 */
export const json = (text: string, status = 200): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(text + "\n", { status, contentType: "application/json" })

/**
 * The same answer, naming the bundle that it builds on.
 *
 * @since 0.1.0
 * @category responses
 */
export const basedOn = (
  bundleHash: string | undefined,
  response: HttpServerResponse.HttpServerResponse
): HttpServerResponse.HttpServerResponse =>
  bundleHash === undefined ? response : HttpServerResponse.setHeader(response, BaseBundleHashHeader, bundleHash)

/**
 * The answer of a successful DELETE.
 *
 * @since 0.1.0
 * @category responses
 */
export const noContent: HttpServerResponse.HttpServerResponse = HttpServerResponse.empty({ status: 204 })

const refusal = (error: SyncRefused) => json(ResponseText.refusal(error), error.status)

const unauthenticated = (error: Unauthenticated) =>
  HttpServerResponse.text(error.message + "\n", { status: 401, contentType: "text/plain; charset=utf-8" })

/** A request beyond the size limit, which the reference does not have. */
class TooLarge {
  readonly _tag = "TooLarge"
}

const tooLarge = json(
  ResponseText.refusal(refused("invalid_request", "the request body exceeds the limit of the server")),
  413
)

/** Whatever else goes wrong is logged without what the request contained, and answered with the endpoint's own code. */
const fault = (code: WireErrorCode, cause: Cause.Cause<unknown>) =>
  Effect.as(
    Effect.annotateLogs(Effect.logError("sync request failed", cause), { code }),
    refusal(refused(code, "the request could not be completed"))
  )

/**
 * Turns every outcome of an endpoint into a response; `failure` is its code for the unexpected (wire.md §6).
 *
 * @since 0.1.0
 * @category handlers
 */
export const answered = <R>(
  failure: WireErrorCode,
  endpoint: Effect.Effect<HttpServerResponse.HttpServerResponse, ServerFailure | Unauthenticated | TooLarge, R>
): Effect.Effect<HttpServerResponse.HttpServerResponse, never, R> =>
  endpoint.pipe(
    Effect.catchTags({
      SyncRefused: (error) => Effect.succeed(refusal(error)),
      Unauthenticated: (error) => Effect.succeed(unauthenticated(error)),
      TooLarge: () => Effect.succeed(tooLarge)
    }),
    Effect.catchAllCause((cause) => Cause.isInterruptedOnly(cause) ? Effect.interrupt : fault(failure, cause))
  )

/**
 * The source id of a request as it was sent: header values are bytes, one per character, and a source id is their UTF-8
 * (wire.md §1.2). Of several header lines, which Node joins, the first counts.
 */
const sourceIdOf = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<string> => {
  const name = SourceIdHeader.toLowerCase()
  const { source } = request
  const lines = source instanceof IncomingMessage ? source.headersDistinct[name] : undefined
  const bytes = Buffer.from(lines?.[0] ?? request.headers[name] ?? "", "latin1")
  // Two ids must not become one by what replaces their bad bytes.
  return isUtf8(bytes) ? Effect.succeed(bytes.toString("utf8").trim()) : Effect.dieMessage("source id is not UTF-8")
}

/**
 * Who is asking, in the order of the checks: token, user, source (wire.md §1.2).
 *
 * @since 0.1.0
 * @category requests
 */
export const actor: Effect.Effect<
  Actor,
  SyncRefused | Unauthenticated,
  Authentication | HttpServerRequest.HttpServerRequest
> = Effect.gen(function*() {
  const request = yield* HttpServerRequest.HttpServerRequest
  const userId = yield* (yield* Authentication)(request)
  if (userId.trim() === "") return yield* refused("authentication_failed", "user id is required")
  const sourceId = yield* sourceIdOf(request)
  if (sourceId === "") return yield* refused("invalid_request", `${SourceIdHeader} header is required`)
  return { userId, sourceId }
})

/**
 * The text of the body, within the limit of the server.
 *
 * @since 0.1.0
 * @category requests
 */
export const bodyText = (
  malformed: SyncRefused
): Effect.Effect<string, SyncRefused | TooLarge, SyncServer | HttpServerRequest.HttpServerRequest> =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const { settings } = yield* SyncServer
    return yield* Effect.mapError(
      RequestBody.text(request, settings.maxRequestBytes),
      (problem) => problem === "too_large" ? new TooLarge() : malformed
    )
  })
