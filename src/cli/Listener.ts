/**
 * The HTTP server of the command: where it listens, how long it waits, how it ends.
 *
 * @since 0.1.0
 */
import * as Options from "@effect/cli/Options"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import type { HttpServer } from "@effect/platform/HttpServer"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import type { Server } from "node:http"
import { CommandFailed } from "./CommandFailed.js"
import { decoded } from "./DecodedOption.js"

/**
 * `--host ADDRESS`
 *
 * @since 0.1.0
 * @category options
 */
export const host: Options.Options<string> = Options.text("host").pipe(
  Options.withPseudoName("ADDRESS"),
  Options.withDescription("Address or name to listen on; 0.0.0.0 or :: for all of this machine."),
  Options.withDefault("127.0.0.1")
)

/**
 * `--port N`
 *
 * @since 0.1.0
 * @category options
 */
export const port: Options.Options<number> = decoded(
  "port",
  Schema.compose(
    Schema.String.pipe(Schema.pattern(/^\d{1,5}$/)),
    Schema.NumberFromString.pipe(Schema.between(0, 65_535))
  ),
  "a whole number from 0 to 65535"
).pipe(
  Options.withPseudoName("N"),
  Options.withDescription("Port to listen on; 0 for a free one.")
)

/** A request must be complete after this time (wire.md §1.1). */
const requestTimeout = 120_000

/** Bytes of the header of a request; beyond, the answer is 431 (wire.md §1.1). */
const maxHeaderSize = 1 << 20

/** How long a connection is kept for the next request. */
const keepAliveTimeout = 60_000

/** How long a client may take, once the server has ended, to receive the rest of its answer. */
const grace = 5000

const pause = 20

/**
 * Closes the server. Connections are closed as soon as nothing is being answered on them, and all of them after the grace
 * period.
 */
const close = (server: Server): Effect.Effect<void> =>
  Effect.gen(function*() {
    let closed = !server.listening
    const closing = yield* Effect.fork(Effect.async<void>((resume) => {
      server.close(() => {
        closed = true
        resume(Effect.void)
      })
    }))
    yield* Effect.yieldNow()
    for (let waited = 0; !closed && waited < grace; waited += pause) {
      server.closeIdleConnections()
      yield* Effect.sleep(pause)
    }
    server.closeAllConnections()
    yield* Fiber.join(closing)
  })

const refused = (address: { readonly host: string; readonly port: number }, cause: unknown): CommandFailed => {
  const code = Predicate.hasProperty(cause, "code") ? String(cause.code) : ""
  switch (code) {
    case "EADDRINUSE":
      return new CommandFailed({ subject: "--port", problem: `${address.port} is in use` })
    case "EACCES":
      return new CommandFailed({ subject: "--port", problem: `listening on ${address.port} is not allowed` })
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new CommandFailed({ subject: "--host", problem: `${address.host} is not an address of this machine` })
    default:
      return new CommandFailed({
        subject: "--host",
        problem: `cannot listen on ${address.host}: ${Predicate.isError(cause) ? cause.message : String(cause)}`
      })
  }
}

/**
 * An HTTP server that listens on an address until its scope closes.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  address: { readonly host: string; readonly port: number }
): Layer.Layer<HttpServer, CommandFailed> =>
  Layer.unwrapEffect(Effect.sync(() => {
    const server = createServer({ keepAliveTimeout, maxHeaderSize, requestTimeout })
    return Layer.scopedDiscard(Effect.addFinalizer(() => close(server))).pipe(
      Layer.provideMerge(NodeHttpServer.layerServer(() => server, address)),
      Layer.mapError(({ cause }) => refused(address, cause))
    )
  }))

/**
 * The URL of a listening server.
 *
 * @since 0.1.0
 * @category getters
 */
export const urlOf = ({ address }: HttpServer): string =>
  address._tag === "UnixAddress"
    ? address.path
    : `http://${address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname}:${address.port}`
