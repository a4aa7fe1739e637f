/**
 * A server in memory: every request is recorded and answered by a function of it. It runs in the test's own fiber, so
 * that the test's clock and randomness hold.
 */
import { HttpClient, HttpClientError, HttpClientResponse } from "@effect/platform"
import { Effect, Layer } from "effect"
import { Credentials } from "../../src/remote/Credentials.js"
import type { Caller, RemoteOptions, RequestFailure } from "../../src/remote/SyncApi.js"
import { SyncApi } from "../../src/remote/SyncApi.js"

export interface Received {
  readonly method: string
  /** Path and query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

export type Handler = (received: Received, index: number) => Response | Effect.Effect<Response, unknown>

export interface ScriptedServer {
  readonly received: Array<Received>
  readonly client: HttpClient.HttpClient
}

/** The failure of a transport that has no connection: what fetch itself fails with. */
// @effect-diagnostics-next-line globalErrorInEffectFailure:off
export const noConnection: Effect.Effect<never, unknown> = Effect.fail(new TypeError("fetch failed"))

export const scriptedServer = (handler: Handler): ScriptedServer => {
  const received: Array<Received> = []
  const client = HttpClient.make((request, url) =>
    Effect.suspend(() => {
      const body = request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : undefined
      const one = { method: request.method, path: `${url.pathname}${url.search}`, headers: request.headers, body }
      received.push(one)
      const answer = handler(one, received.length - 1)
      return (Effect.isEffect(answer) ? answer : Effect.succeed(answer)).pipe(
        Effect.map((response) => HttpClientResponse.fromWeb(request, response)),
        Effect.mapError((cause) => new HttpClientError.RequestError({ request, reason: "Transport", cause }))
      )
    })
  )
  return { received, client }
}

/** Answers in their order; the last one is repeated. */
export const inOrder =
  (...answers: ReadonlyArray<() => Response | Effect.Effect<Response, unknown>>): Handler => (_received, index) => {
    const answer = answers[Math.min(index, answers.length - 1)]
    return answer === undefined ? new Response("nothing scripted", { status: 599 }) : answer()
  }

export const json = (body: unknown, status = 200, headers: Readonly<Record<string, string>> = {}) => (): Response =>
  new Response(typeof body === "string" ? body : `${JSON.stringify(body)}\n`, {
    status,
    headers: { "content-type": "application/json", ...headers }
  })

export const refusal = (status: number, code: string, headers: Readonly<Record<string, string>> = {}) =>
  json({ error: code, message: "free text" }, status, headers)

/** A body of given pieces that stays open, breaks or ends. */
export const bodyOf = (pieces: ReadonlyArray<string | Uint8Array>, end: "close" | "break" | "stall") => {
  const encoder = new TextEncoder()
  const state = { cancelled: false }
  let next = 0
  const stream = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      const piece = pieces[next++]
      if (piece !== undefined) return controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece)
      if (end === "close") return controller.close()
      if (end === "break") return controller.error(new Error("socket hang up"))
      return new Promise<void>(() => {})
    },
    cancel: () => {
      state.cancelled = true
    }
  }, { highWaterMark: 0 })
  return { state, stream }
}

export const caller: Caller = { sourceId: "source-a", userId: "" }

export const remote = (
  server: ScriptedServer,
  options: Partial<RemoteOptions> = {},
  credentials: Layer.Layer<Credentials> = Credentials.layerBearer("token-1")
): Layer.Layer<SyncApi> =>
  SyncApi.layer({ baseUrl: "http://sync.test", ...options }).pipe(
    Layer.provide(credentials),
    Layer.provide(Layer.succeed(HttpClient.HttpClient, server.client)),
    Layer.orDie
  )

/** The tag of a failure with its code, its rule or its status. */
export const codeOf = (failure: RequestFailure): string => {
  switch (failure._tag) {
    case "ProtocolError":
      return `ProtocolError(${failure.rule})`
    case "Refusal":
      return `Refusal(${failure.status})`
    default:
      return `${failure._tag}(${failure.code})`
  }
}
