/**
 * The server as an `HttpClient`, without a socket.
 *
 * @since 0.1.0
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import type { Authentication } from "./Authentication.js"
import { app } from "./SyncRoutes.js"
import type { SyncServer } from "./SyncServer.js"

const bodyOf = (
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<Option.Option<Uint8Array>, HttpClientError.RequestError> => {
  const body = request.body
  switch (body._tag) {
    case "Empty":
      return Effect.succeed(Option.none())
    case "Uint8Array":
      return Effect.succeed(Option.some(body.body))
    case "Stream":
      return body.stream.pipe(
        Stream.mapError((cause) => new HttpClientError.RequestError({ request, reason: "Encode", cause })),
        Stream.runCollect,
        Effect.map((chunks) => Option.some(Buffer.concat(Chunk.toReadonlyArray(chunks))))
      )
    case "Raw":
    case "FormData":
      return Effect.fail(
        new HttpClientError.RequestError({ request, reason: "Encode", description: `${body._tag} bodies are not sent` })
      )
  }
}

const responseOf = (
  request: HttpClientRequest.HttpClientRequest,
  response: HttpServerResponse.HttpServerResponse
): HttpClientResponse.HttpClientResponse => {
  const body = response.body
  const streams = body._tag === "Stream"
  const sent = HttpClientResponse.fromWeb(
    request,
    HttpServerResponse.toWeb(response, { withoutBody: streams || request.method === "HEAD" })
  )
  if (!streams) return sent
  // Passed on as it is, so that it runs in the fiber that reads it.
  const stream = Stream.mapError(
    body.stream,
    (cause) => new HttpClientError.ResponseError({ request, response: sent, reason: "Decode", cause })
  )
  return Object.defineProperty(sent, "stream", { value: stream })
}

/**
 * A client whose requests are answered by an application in the fiber that sends them: its clock, its spans and its
 * interruption are the server's too. Any host and port will do. A streamed answer runs where it is read.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <R>(httpApp: HttpApp.Default<never, R>): Effect.Effect<HttpClient.HttpClient, never, R> =>
  Effect.map(
    Effect.context<R>(),
    (context) =>
      HttpClient.make((request, url) =>
        Effect.flatMap(bodyOf(request), (body) => {
          const received = HttpServerRequest.fromWeb(
            new Request(url, {
              method: request.method,
              headers: request.headers,
              ...(Option.isNone(body) ? {} : { body: body.value })
            })
          )
          return httpApp.pipe(
            Effect.provideService(HttpServerRequest.HttpServerRequest, received),
            Effect.provide(context),
            Effect.map((response) => responseOf(request, response))
          )
        })
      )
  )

/**
 * The sync server of this process as the `HttpClient`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<HttpClient.HttpClient, never, SyncServer | Authentication> = Layer.effect(
  HttpClient.HttpClient,
  make(app)
)
