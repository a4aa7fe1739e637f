/**
 * The server under a path prefix.
 *
 * @since 0.1.0
 */
import * as Options from "@effect/cli/Options"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Authentication, SyncServer } from "../server/index.js"
import { SyncRoutes } from "../server/index.js"
import { decoded } from "./DecodedOption.js"

/** Dots alone would be taken out of the path by every client. */
const form = /^(?:\/(?!\.{1,2}(?:\/|$))[\w.~-]+)*\/?$/

/**
 * `--prefix PATH`; the value has no slash at its end.
 *
 * @since 0.1.0
 * @category options
 */
export const option: Options.Options<string> = decoded(
  "prefix",
  Schema.String.pipe(Schema.pattern(form)),
  "a path such as /api/sync-server"
).pipe(
  Options.withPseudoName("PATH"),
  Options.map((path) => path.replace(/\/$/, "")),
  Options.withDescription("Path that all routes begin with, such as /api; none by default."),
  Options.withDefault("")
)

const notFound = HttpServerResponse.text("404 page not found\n", {
  status: 404,
  contentType: "text/plain; charset=utf-8"
})

const withPrefix = (prefix: string) => (response: HttpServerResponse.HttpServerResponse) => {
  const location = response.headers["location"]
  return location === undefined ? response : HttpServerResponse.setHeader(response, "location", prefix + location)
}

/**
 * The whole server under a prefix; every other path is 404.
 *
 * @since 0.1.0
 * @category applications
 */
export const app = (prefix: string): HttpApp.Default<never, SyncServer | Authentication> =>
  prefix === ""
    ? SyncRoutes.app
    : Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      if (!request.url.startsWith(`${prefix}/`)) return Effect.succeed(notFound)
      const inner = request.modify({ url: request.url.slice(prefix.length) })
      return SyncRoutes.app.pipe(
        Effect.provideService(HttpServerRequest.HttpServerRequest, inner),
        Effect.map(withPrefix(prefix))
      )
    })
