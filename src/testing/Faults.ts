/**
 * What a network and a server do to requests on a bad day: one fault at a time, as layers around any `HttpClient`.
 *
 * Every fault waits by Effect's clock and decides by a seed, so that a property test under `TestClock` repeats exactly.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Prng from "./Prng.js"

type Answer = Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>

/**
 * A request on its way. `send` lets the server act and brings its answer; it may be run any number of times.
 *
 * @since 0.1.0
 * @category models
 */
export interface Exchange {
  readonly request: HttpClientRequest.HttpClientRequest
  readonly url: URL
  readonly send: Answer
  readonly prng: Prng.Prng
  /** Runs something in the background, as the network does with what is still under way. */
  readonly later: (self: Effect.Effect<unknown>) => Effect.Effect<void>
}

/**
 * What becomes of a request in place of {@link Exchange.send}.
 *
 * @since 0.1.0
 * @category models
 */
export type Fault = (exchange: Exchange) => Answer

const broken = ({ request }: Exchange) =>
  new HttpClientError.RequestError({ request, reason: "Transport", cause: new TypeError("fetch failed") })

const respond = (
  { request }: Exchange,
  status: number,
  body: string,
  headers: Readonly<Record<string, string>> = {}
) =>
  HttpClientResponse.fromWeb(
    request,
    new Response(body, { status, headers: { "content-type": "application/json", ...headers } })
  )

/** The answer with other bytes in its body. */
const withBody = (exchange: Exchange, change: (body: Uint8Array) => Uint8Array): Answer =>
  Effect.flatMap(exchange.send, (response) =>
    Effect.map(response.arrayBuffer, (buffer) => {
      const changed = change(new Uint8Array(buffer))
      const headers = new Headers(Object.entries(response.headers).filter(([name]) => name !== "content-length"))
      return HttpClientResponse.fromWeb(
        exchange.request,
        new Response(changed.byteLength === 0 ? null : changed.slice(), { status: response.status, headers })
      )
    }))

/**
 * The request never arrives.
 *
 * @since 0.1.0
 * @category faults
 */
export const loseRequest: Fault = (exchange) => Effect.fail(broken(exchange))

/**
 * The server acts, but its answer never arrives.
 *
 * @since 0.1.0
 * @category faults
 */
export const loseAnswer: Fault = (exchange) => Effect.zipRight(exchange.send, Effect.fail(broken(exchange)))

/**
 * The server gets the request twice; the second answer arrives.
 *
 * @since 0.1.0
 * @category faults
 */
export const duplicate: Fault = (exchange) => Effect.zipRight(exchange.send, exchange.send)

/**
 * The server gets the request twice, and the first answer arrives.
 *
 * @since 0.1.0
 * @category faults
 */
export const lateDuplicate: Fault = (exchange) => Effect.zipLeft(exchange.send, Effect.exit(exchange.send))

/**
 * The client is told that its connection has broken, but the request is only slow: the server acts on it after `after`,
 * when later requests may have been answered.
 *
 * @since 0.1.0
 * @category faults
 */
export const arriveLate = (after: Duration.DurationInput): Fault => (exchange) =>
  Effect.zipRight(exchange.later(Effect.delay(Effect.exit(exchange.send), after)), Effect.fail(broken(exchange)))

/**
 * The answer arrives, and after `after` the server gets the request a second time, behind later ones.
 *
 * @since 0.1.0
 * @category faults
 */
export const duplicateAfter = (after: Duration.DurationInput): Fault => ({ later, send }) =>
  Effect.zipLeft(send, later(Effect.delay(Effect.exit(send), after)))

/**
 * Request and answer are under way for a time.
 *
 * @since 0.1.0
 * @category faults
 */
export const delay = (before: Duration.DurationInput, after: Duration.DurationInput): Fault => ({ send }) =>
  Effect.zipLeft(Effect.delay(send, before), Effect.sleep(after))

/**
 * The body of the answer ends too early.
 *
 * @since 0.1.0
 * @category faults
 */
export const truncateBody: Fault = (exchange) =>
  withBody(exchange, (body) => body.subarray(0, exchange.prng.integer(Math.max(1, body.byteLength))))

/**
 * The body of the answer is not what was sent: its syntax is destroyed at a place that the seed chooses. (A single wrong
 * digit is caught by no transport; hashes and counts that catch it are tested as planted bugs.)
 *
 * @since 0.1.0
 * @category faults
 */
export const corruptBody: Fault = (exchange) =>
  withBody(exchange, (body) => {
    const corrupt = body.slice()
    if (corrupt.byteLength > 0) corrupt[exchange.prng.integer(corrupt.byteLength)] = 0x00
    return corrupt
  })

/**
 * The server, or something before it, answers with this status and does nothing; `retryAfter` in seconds.
 *
 * @since 0.1.0
 * @category faults
 */
export const status = (code: number, options: { readonly retryAfter?: number | undefined } = {}): Fault => (exchange) =>
  Effect.sync(() =>
    respond(
      exchange,
      code,
      code === 401 ? "Invalid token" : JSON.stringify({ error: "service_unavailable", message: "try again" }),
      options.retryAfter === undefined ? {} : { "retry-after": `${options.retryAfter}` }
    )
  )

/**
 * The token has expired: 401.
 *
 * @since 0.1.0
 * @category faults
 */
export const expiredToken: Fault = status(401)

/**
 * The faults by name.
 *
 * @since 0.1.0
 * @category models
 */
export const kinds = {
  "request lost": loseRequest,
  "answer lost": loseAnswer,
  "duplicated": duplicate,
  "duplicated late": lateDuplicate,
  "overtaken": (exchange) => arriveLate(`${exchange.prng.integer(90_000)} millis`)(exchange),
  "duplicated after others": (exchange) => duplicateAfter(`${exchange.prng.integer(90_000)} millis`)(exchange),
  "delayed": (exchange) =>
    delay(`${exchange.prng.integer(20_000)} millis`, `${exchange.prng.integer(20_000)} millis`)(exchange),
  "timed out": delay("130 seconds", "0 millis"),
  "truncated": truncateBody,
  "corrupted": corruptBody,
  "429": status(429, { retryAfter: 3 }),
  "500": status(500),
  "502": status(502),
  "503": status(503),
  "503 with Retry-After": status(503, { retryAfter: 7 }),
  "expired token": expiredToken
} as const satisfies Readonly<Record<string, Fault>>

/**
 * Name of a fault.
 *
 * @since 0.1.0
 * @category models
 */
export type FaultKind = keyof typeof kinds

/**
 * A client whose requests meet the fault that `decide` names; `undefined` lets a request pass. `later` runs what arrives
 * behind other requests; without it that is lost.
 *
 * @since 0.1.0
 * @category constructors
 */
export const apply = (
  client: HttpClient.HttpClient,
  prng: Prng.Prng,
  decide: (exchange: Exchange) => Fault | undefined,
  later: Exchange["later"] = () => Effect.void
): HttpClient.HttpClient =>
  HttpClient.make((request, url) =>
    Effect.suspend(() => {
      const exchange: Exchange = { request, url, send: client.execute(request), prng, later }
      return (decide(exchange) ?? ((passing) => passing.send))(exchange)
    })
  )

/**
 * What {@link layer} does.
 *
 * @since 0.1.0
 * @category options
 */
export interface FaultOptions {
  /** The same seed and the same requests give the same faults. */
  readonly seed: string | number
  /** Probability of a fault per request, 0 to 1. */
  readonly chance: number
  /** The faults that may happen, equally likely; all of {@link kinds} by default. */
  readonly faults?: ReadonlyArray<FaultKind> | undefined
  /** Which requests are exposed; all but event streams by default. */
  readonly when?: ((request: HttpClientRequest.HttpClientRequest, url: URL) => boolean) | undefined
}

const isStream = (url: URL) => url.pathname.endsWith("/sync/watch")

/**
 * Faults around the `HttpClient` of a program.
 *
 * @example
 * ```ts
 * import { FetchHttpClient } from "@effect/platform"
 * import * as Layer from "effect/Layer"
 * import { Faults } from "oversqlite/testing"
 *
 * // Every fifth answer is lost after the server has acted.
 * export const HostileNetwork = Faults.layer({ seed: 7, chance: 0.2, faults: ["answer lost"] }).pipe(
 *   Layer.provide(FetchHttpClient.layer)
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: FaultOptions): Layer.Layer<HttpClient.HttpClient, never, HttpClient.HttpClient> =>
  Layer.scoped(
    HttpClient.HttpClient,
    Effect.zipWith(HttpClient.HttpClient, Effect.scope, (client, scope) => {
      const prng = Prng.make(options.seed, "faults")
      const possible = options.faults ?? (Object.keys(kinds) as ReadonlyArray<FaultKind>)
      return apply(client, prng, ({ request, url }) => {
        const exposed = options.when === undefined ? !isStream(url) : options.when(request, url)
        const kind = exposed && prng.chance(options.chance) ? prng.pick(possible) : undefined
        return kind === undefined ? undefined : kinds[kind]
      }, (self) => Effect.asVoid(Effect.forkIn(self, scope)))
    })
  )
