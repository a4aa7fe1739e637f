/**
 * The network of a test: every request is recorded, goes to the server that is running now, and can be given a fault.
 */
import { HttpClient, HttpClientError, HttpClientResponse } from "@effect/platform"
import { Deferred, Effect, FiberId, Stream } from "effect"
import { Wire } from "oversqlite/protocol"
import { turn } from "./Time.js"

/** What a request is for; the names of wire.md §4. */
export type Route =
  | "capabilities"
  | "connect"
  | "push create"
  | "push chunk"
  | "push commit"
  | "push delete"
  | "committed rows"
  | "pull"
  | "snapshot create"
  | "snapshot chunk"
  | "snapshot delete"
  | "watch"

export interface Exchange {
  readonly route: Route
  readonly url: URL
  /** The sender's `Oversync-Source-ID`. */
  readonly source: string
  readonly body: string
}

export interface Answer {
  readonly status: number
  readonly text: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Answers a request in place of the network; `ask` is what the server says, and makes it act. */
export type Fault = (exchange: Exchange, ask: Effect.Effect<Answer, unknown>) => Effect.Effect<Answer, unknown>

export interface Network {
  readonly client: HttpClient.HttpClient
  /** Every request so far. */
  readonly requests: Array<Exchange>
  /** Gives the next requests of a route a fault; faults of one route take turns in the order they were given. */
  readonly fault: (route: Route, fault: Fault, times?: number) => Effect.Effect<void>
  /** Forgets all faults. */
  readonly heal: Effect.Effect<void>
  /** Breaks the event streams that are open. */
  readonly cutStreams: Effect.Effect<void>
  /** Routes asked for since the last call, but for the snapshot sessions that are deleted in the background. */
  readonly asked: Effect.Effect<ReadonlyArray<Route>>
}

const routes: ReadonlyArray<readonly [method: string, path: RegExp, route: Route]> = [
  ["GET", /\/sync\/capabilities$/, "capabilities"],
  ["POST", /\/sync\/connect$/, "connect"],
  ["POST", /\/sync\/push-sessions$/, "push create"],
  ["POST", /\/sync\/push-sessions\/[^/]+\/chunks$/, "push chunk"],
  ["POST", /\/sync\/push-sessions\/[^/]+\/commit$/, "push commit"],
  ["DELETE", /\/sync\/push-sessions\/[^/]+$/, "push delete"],
  ["GET", /\/sync\/committed-bundles\/[^/]+\/rows$/, "committed rows"],
  ["GET", /\/sync\/pull$/, "pull"],
  ["POST", /\/sync\/snapshot-sessions$/, "snapshot create"],
  ["GET", /\/sync\/snapshot-sessions\/[^/]+$/, "snapshot chunk"],
  ["DELETE", /\/sync\/snapshot-sessions\/[^/]+$/, "snapshot delete"],
  ["GET", /\/sync\/watch$/, "watch"]
]

const baseBundleHash = Wire.BaseBundleHashHeader.toLowerCase()

const routeOf = (method: string, url: URL): Route => {
  const found = routes.find(([of, path]) => of === method && path.test(url.pathname))
  if (found === undefined) throw new Error(`no route: ${method} ${url.pathname}`)
  return found[2]
}

/** A network to whatever server `server` names at the time of the request. */
export const makeNetwork = (
  server: () => HttpClient.HttpClient,
  change: (answer: Answer) => Answer = (answer) => answer
): Network => {
  const requests: Array<Exchange> = []
  let faults: Array<{ readonly route: Route; readonly fault: Fault; left: number }> = []
  let seen = 0
  let cut = Deferred.unsafeMake<never, unknown>(FiberId.none)
  /** A stream of events has no end to wait for: it is passed on as it is. */
  const cuttable = (response: HttpClientResponse.HttpClientResponse) =>
    Object.defineProperty(response, "stream", { value: Stream.interruptWhenDeferred(response.stream, cut) })
  const client = HttpClient.make((request, url) =>
    Effect.suspend(() => {
      const body = request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : ""
      const exchange: Exchange = {
        route: routeOf(request.method, url),
        url,
        source: request.headers["oversync-source-id"] ?? "",
        body
      }
      requests.push(exchange)
      const ask = Effect.gen(function*() {
        const response = yield* server().execute(request)
        const text = yield* response.text
        const base = response.headers[baseBundleHash]
        return change({
          status: response.status,
          text,
          ...(base === undefined ? {} : { headers: { [baseBundleHash]: base } })
        })
      })
      const planned = faults.find(({ left, route }) => route === exchange.route && left > 0)
      if (planned !== undefined) planned.left--
      else if (exchange.route === "watch") return Effect.map(server().execute(request), cuttable)
      return (planned === undefined ? ask : planned.fault(exchange, ask)).pipe(
        Effect.map(({ headers, status, text }) =>
          HttpClientResponse.fromWeb(
            request,
            new Response(text === "" ? null : text, {
              status,
              headers: { "content-type": "application/json", ...headers }
            })
          )
        ),
        Effect.mapError((cause) => new HttpClientError.RequestError({ request, reason: "Transport", cause }))
      )
    })
  )
  return {
    client,
    requests,
    fault: (route, fault, times = 1) => Effect.sync(() => void faults.push({ route, fault, left: times })),
    heal: Effect.sync(() => {
      faults = []
    }),
    cutStreams: Effect.suspend(() => {
      const broken = cut
      cut = Deferred.unsafeMake<never, unknown>(FiberId.none)
      return Effect.asVoid(Deferred.fail(broken, new TypeError("terminated")))
    }),
    asked: Effect.gen(function*() {
      // What was begun in the background is on its way then.
      for (let turns = 0; turns < 3; turns++) yield* turn
      const since = requests.slice(seen).map(({ route }) => route).filter((route) => route !== "snapshot delete")
      seen = requests.length
      return since
    })
  }
}

// What fetch itself fails with.
// @effect-diagnostics-next-line globalErrorInEffectFailure:off
const noConnection = Effect.fail(new TypeError("fetch failed"))

/** The request never arrives. */
export const lost: Fault = () => noConnection

/** The server acts, but its answer never arrives. */
export const answerLost: Fault = (_exchange, ask) => Effect.zipRight(ask, noConnection)

/** The server never hears of it; this is the answer. */
export const answered = (status: number, body: unknown): Fault => () =>
  Effect.succeed({ status, text: typeof body === "string" ? body : JSON.stringify(body) })

/** The answer of a server that refuses. */
export const refused = (status: number, code: string, more: Readonly<Record<string, unknown>> = {}): Fault =>
  answered(status, { error: code, message: "free text", ...more })

/** The server's answer with something changed. */
export const changed =
  (change: (body: Record<string, unknown>, exchange: Exchange) => unknown): Fault => (exchange, ask) =>
    Effect.map(ask, (answer) => ({ ...answer, text: JSON.stringify(change(JSON.parse(answer.text), exchange)) }))

/** Something happens before the server hears of the request. */
export const before = (happens: Effect.Effect<unknown, unknown>): Fault => (_exchange, ask) =>
  Effect.zipRight(happens, ask)

/** Something happens between the server's answer and its arrival. */
export const after = (happens: Effect.Effect<unknown, unknown>): Fault => (_exchange, ask) =>
  Effect.zipLeft(ask, happens)

/** The server acts twice, as when something between has delivered the request again; the second answer arrives. */
export const twice: Fault = (_exchange, ask) => Effect.zipRight(ask, ask)

/** The answer ends before its end. */
export const truncated: Fault = (_exchange, ask) =>
  Effect.map(ask, ({ status, text }) => ({
    status,
    text: text.slice(0, -2),
    headers: { "content-length": String(text.length) }
  }))

/** A refusal that says how many seconds to wait. */
export const retryAfter = (status: number, seconds: number): Fault => () =>
  Effect.succeed({
    status,
    text: JSON.stringify({ error: "service_unavailable", message: "busy" }),
    headers: { "retry-after": String(seconds) }
  })
