/**
 * `oversqlite serve`
 *
 * @since 0.1.0
 */
import * as Command from "@effect/cli/Command"
import * as HttpServer from "@effect/platform/HttpServer"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Authentication, SyncRoutes, SyncServer } from "../server/index.js"
import { CommandFailed } from "./CommandFailed.js"
import * as DataDirectory from "./DataDirectory.js"
import * as Listener from "./Listener.js"
import * as Mount from "./Mount.js"
import { version } from "./PackageVersion.js"
import * as SecretFile from "./SecretFile.js"
import * as Signals from "./Signals.js"
import * as TablesFile from "./TablesFile.js"

/** The features in which servers differ, as they are announced at the start (wire.md §4.12, §12). */
const announced = ["bundle_change_watch", "exact_integers", "batch_conflicts", "history_id", "named_refusals"]

const list = (names: ReadonlyArray<string>) => names.length === 0 ? "none" : names.join(", ")

const announce = Effect.fnUntraced(function*(directory: DataDirectory.DataDirectory, prefix: string) {
  const server = yield* SyncServer
  const { features, registered_tables: tables } = yield* Effect.mapError(
    server.health,
    (error) => new CommandFailed({ subject: "--data", problem: error.message })
  )
  yield* Console.log([
    `oversqlite ${yield* version}`,
    `data      ${directory.file}${directory.isNew ? " (new)" : ""}`,
    `history   ${yield* server.historyId}`,
    `tables    ${list(tables)}`,
    `features  ${list(announced.filter((name) => features[name] === true))}`,
    `listening on ${Listener.urlOf(yield* HttpServer.HttpServer)}${prefix}`
  ].join("\n"))
})

/** Works until it is interrupted. */
const running = Effect.onInterrupt(
  Effect.never,
  () => Console.log("shutting down: no new requests, running ones finish; a second signal ends at once")
)

/**
 * Serves a directory until the process is told to end. Then new operations are refused, running ones finish, event streams
 * end, and the database is closed (server.md §14).
 *
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make(
  "serve",
  {
    data: DataDirectory.option,
    port: Listener.port,
    tables: TablesFile.option,
    secretFile: SecretFile.option,
    host: Listener.host,
    prefix: Mount.option
  },
  ({ data, host, port, prefix, secretFile, tables }) =>
    Effect.scoped(Effect.gen(function*() {
      yield* Signals.secondEndsAtOnce
      // Nothing is created before everything has been read.
      const secret = yield* SecretFile.read(secretFile)
      const declarations = yield* TablesFile.read(tables)
      const directory = yield* DataDirectory.make(data, { create: true })
      const context = yield* Layer.build(
        // Drained first, while requests are still answered.
        SyncRoutes.drain.pipe(
          Layer.provide(HttpServer.serve(Mount.app(prefix))),
          Layer.provideMerge(Listener.layer({ host, port })),
          Layer.provideMerge(DataDirectory.server(directory, declarations)),
          Layer.provide(Authentication.layerJwt({ secret }))
        )
      )
      yield* Effect.provide(announce(directory, prefix), context)
      return yield* running
    }))
).pipe(Command.withDescription("Serves the sync protocol over HTTP until it is told to end (SIGTERM, SIGINT)."))
