/**
 * One HTTP exchange with the server: credentials, request, answer (retry-and-loops.md §2, §2.1).
 *
 * @since 0.1.0
 */
import type { Headers } from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import type { HttpClientError } from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import * as HttpTraceContext from "@effect/platform/HttpTraceContext"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Record from "effect/Record"
import * as Redacted from "effect/Redacted"
import type { ConfigurationError, ProtocolError } from "../contract/SyncError.js"
import { CredentialsMismatch, TransportError } from "../contract/SyncError.js"
import type { SyncRequest } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"
import { SourceIdHeader } from "../protocol/Wire.js"
import { protocolError, toRefusal } from "./Answer.js"
import type { Bearer } from "./Credentials.js"
import { Credentials } from "./Credentials.js"
import { encodeSegment, normaliseBaseUrl } from "./Endpoint.js"
import type { Refusal } from "./RequestFailure.js"
import type { BodyLimits } from "./ResponseBody.js"
import { readText } from "./ResponseBody.js"

/**
 * Who is calling: the current source (header `Oversync-Source-ID`, left out if blank), and the user the token must
 * belong to (blank: not yet known).
 *
 * @since 0.1.0
 * @category models
 */
export interface Caller {
  readonly sourceId: string
  readonly userId: string
}

/**
 * A request before it knows who sends it. `path` are raw segments below the base address; `json` is the text of the
 * body, sent verbatim.
 *
 * @since 0.1.0
 * @category models
 */
export interface Outgoing {
  readonly request: SyncRequest
  readonly method: "GET" | "POST" | "DELETE"
  readonly path: ReadonlyArray<string>
  readonly query?: Readonly<Record<string, number | undefined>>
  readonly json?: string
  readonly accept?: "text/event-stream"
}

/**
 * What one exchange can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type ExchangeFailure = TransportError | ProtocolError | CredentialsMismatch | Refusal

/**
 * A 200 answer that was read to its end.
 *
 * @since 0.1.0
 * @category models
 */
export interface Received {
  readonly text: string
  readonly headers: Headers
}

/**
 * Sends requests, one attempt each.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpExchange {
  /** Sends a request and returns as soon as a 200 answer's headers are there. Its body must be read to free the connection. */
  readonly open: (caller: Caller, outgoing: Outgoing) => Effect.Effect<HttpClientResponse, ExchangeFailure>
  /** A whole 200 answer; any other status is a `Refusal`. */
  readonly receive: (caller: Caller, outgoing: Outgoing) => Effect.Effect<Received, ExchangeFailure>
  /** Whether a token for this caller can be had now; sends nothing. `request` is the one it would be for. */
  readonly authorise: (
    caller: Caller,
    request: SyncRequest
  ) => Effect.Effect<void, TransportError | CredentialsMismatch>
  /** How often a token that the server no longer took has been replaced by another one. */
  readonly refreshes: Effect.Effect<number>
}

/**
 * Settings of {@link make}, in normal form.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpExchangeOptions {
  /** Absent: requests go to bare paths. */
  readonly baseUrl: string | undefined
  readonly requestTimeout: Duration.Duration
  readonly body: BodyLimits
  readonly tracePropagation: boolean
}

const transportError = (
  request: SyncRequest,
  code: "connection" | "timeout" | "credentials",
  cause?: unknown
): Effect.Effect<never, TransportError> =>
  raise((operation) => new TransportError({ operation, request, code, ...(cause === undefined ? {} : { cause }) }))

/** Statuses whose meaning does not depend on the body: one that is too large to be read changes nothing. */
const bodilessStatuses: ReadonlySet<number> = new Set([429, 502, 503, 504])

/** What a header may carry. Others would be refused by the transport in an error that shows the token. */
const sendableToken = /^[\x21-\x7e]+$/u

/** Header values are bytes, one per character; source ids are compared as UTF-8 (wire.md §1.2). */
const headerBytes = (text: string): string => {
  let bytes = ""
  for (const byte of new TextEncoder().encode(text)) bytes += String.fromCharCode(byte)
  return bytes
}

const toRequest = (baseUrl: string, outgoing: Outgoing): HttpClientRequest.HttpClientRequest | undefined => {
  const segments = outgoing.path.map(encodeSegment)
  if (segments.includes(undefined)) return undefined
  const request = HttpClientRequest.make(outgoing.method)(`${baseUrl}/${segments.join("/")}`).pipe(
    HttpClientRequest.setHeaders({
      "accept": outgoing.accept ?? "application/json",
      "accept-encoding": "identity",
      "cache-control": "no-store"
    }),
    HttpClientRequest.setUrlParams(outgoing.query ?? {})
  )
  return outgoing.json === undefined
    ? request
    : HttpClientRequest.bodyText(request, outgoing.json, "application/json")
}

const traceHeaders = Effect.match(Effect.currentSpan, {
  onFailure: (): Readonly<Record<string, string>> => ({}),
  onSuccess: HttpTraceContext.toHeaders
})

/** One span per attempt, named after the request; it records no headers, no ids and no text of the server. */
const traced = <A, E, R>(outgoing: Outgoing, attempt: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withSpan(attempt, `SyncApi.${outgoing.request}`, {
    kind: "client",
    captureStackTrace: false,
    attributes: {
      "http.request.method": outgoing.method,
      ...Record.filter(outgoing.query ?? {}, (value) => value !== undefined)
    }
  })

/**
 * Builds the exchange over the host's transport and credentials. A base address that is none fails with
 * `ConfigurationError(base_url_invalid)`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: HttpExchangeOptions
): Effect.Effect<HttpExchange, ConfigurationError, HttpClient.HttpClient | Credentials> =>
  Effect.gen(function*() {
    const baseUrl = options.baseUrl === undefined ? "" : yield* normaliseBaseUrl(options.baseUrl)
    const transport = yield* HttpClient.HttpClient
    // The spans of the transport would carry its failures, and those the request with its token.
    const client = HttpClient.withTracerDisabledWhen(transport, () => true)
    const credentials = yield* Credentials

    const bearer = (request: SyncRequest, forceRefresh: boolean): Effect.Effect<Bearer, TransportError> =>
      credentials.bearer({ forceRefresh }).pipe(
        Effect.catchAll(({ cause }) => transportError(request, "credentials", cause)),
        Effect.timeoutOption(options.requestTimeout),
        Effect.flatMap(Option.match({
          onNone: () => transportError(request, "credentials"),
          onSome: Effect.succeed
        })),
        Effect.filterOrElse(
          ({ token }) => sendableToken.test(Redacted.value(token)),
          () => transportError(request, "credentials")
        )
      )

    const belongsTo = (caller: Caller, { userId }: Bearer): Effect.Effect<void, CredentialsMismatch> => {
      const attachedUserId = caller.userId.trim()
      const credentialsUserId = Option.getOrElse(userId, () => "").trim()
      return attachedUserId === "" || credentialsUserId === "" || attachedUserId === credentialsUserId
        ? Effect.void
        : raise((operation) => new CredentialsMismatch({ operation, attachedUserId, credentialsUserId }))
    }

    const execute = (
      request: SyncRequest,
      httpRequest: HttpClientRequest.HttpClientRequest
    ): Effect.Effect<HttpClientResponse, TransportError> =>
      client.execute(httpRequest).pipe(
        Effect.catchAll((error: HttpClientError) =>
          // The host's client may turn statuses into errors.
          error._tag === "ResponseError" && error.reason === "StatusCode"
            ? Effect.succeed(error.response)
            : transportError(request, "connection", error.cause)
        ),
        Effect.timeoutOption(options.requestTimeout),
        Effect.flatMap(Option.match({
          onNone: () => transportError(request, "timeout"),
          onSome: Effect.succeed
        }))
      )

    let refreshes = 0

    const authorise = (caller: Caller, request: SyncRequest, refused: string | undefined) =>
      bearer(request, refused !== undefined).pipe(
        Effect.tap((granted) => belongsTo(caller, granted)),
        Effect.tap(({ token }) =>
          Effect.sync(() => {
            if (refused !== undefined && Redacted.value(token) !== refused) refreshes++
          })
        )
      )

    const send = Effect.fnUntraced(function*(
      caller: Caller,
      request: SyncRequest,
      httpRequest: HttpClientRequest.HttpClientRequest,
      granted: Bearer
    ) {
      const trace = options.tracePropagation ? yield* traceHeaders : {}
      const response = yield* execute(
        request,
        HttpClientRequest.setHeaders(httpRequest, {
          authorization: `Bearer ${Redacted.value(granted.token)}`,
          ...(caller.sourceId.trim() === "" ? {} : { [SourceIdHeader.toLowerCase()]: headerBytes(caller.sourceId) }),
          ...trace
        })
      )
      yield* Effect.annotateCurrentSpan("http.response.status_code", response.status)
      return response
    })

    const read = (request: SyncRequest, response: HttpClientResponse) => readText(request, response, options.body)

    const refuse = (
      request: SyncRequest,
      response: HttpClientResponse
    ): Effect.Effect<never, TransportError | ProtocolError | Refusal> =>
      read(request, response).pipe(
        Effect.catchTags({
          ProtocolError: () => Effect.succeed(""),
          TransportError: (error) =>
            error.code === "response_too_large" && bodilessStatuses.has(response.status)
              ? Effect.succeed("")
              : Effect.fail(error)
        }),
        Effect.flatMap((text) => Effect.fail(toRefusal(request, response, text)))
      )

    const open = Effect.fnUntraced(function*(caller: Caller, outgoing: Outgoing) {
      const { request } = outgoing
      const httpRequest = toRequest(baseUrl, outgoing)
      if (httpRequest === undefined) {
        return yield* protocolError(request, "field_invalid", "an id that can be asked for")
      }
      const granted = yield* authorise(caller, request, undefined)
      let response = yield* send(caller, request, httpRequest, granted)
      if (response.status === 401) {
        yield* Effect.ignore(read(request, response))
        response = yield* send(
          caller,
          request,
          httpRequest,
          yield* authorise(caller, request, Redacted.value(granted.token))
        )
      }
      return response.status === 200 ? response : yield* refuse(request, response)
    })

    return {
      authorise: (caller, request) => Effect.asVoid(authorise(caller, request, undefined)),
      refreshes: Effect.sync(() => refreshes),
      open: (caller, outgoing) => traced(outgoing, open(caller, outgoing)),
      receive: (caller, outgoing) =>
        traced(
          outgoing,
          Effect.flatMap(
            open(caller, outgoing),
            (response) => Effect.map(read(outgoing.request, response), (text) => ({ text, headers: response.headers }))
          )
        )
    }
  })
