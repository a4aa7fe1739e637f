/**
 * `oversqlite renew-history`
 *
 * @since 0.1.0
 */
import * as Command from "@effect/cli/Command"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SyncServer } from "../server/index.js"
import { CommandFailed } from "./CommandFailed.js"
import * as DataDirectory from "./DataDirectory.js"
import * as TablesFile from "./TablesFile.js"

/**
 * Gives the store in a directory a new history id, which tells the devices that the server may have gone back
 * (wire.md §12, recovery.md §2.2). No server may be running on the directory.
 *
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make(
  "renew-history",
  { data: DataDirectory.option, tables: TablesFile.option },
  ({ data, tables }) =>
    Effect.scoped(Effect.gen(function*() {
      const declarations = yield* TablesFile.read(tables)
      const directory = yield* DataDirectory.make(data, { create: false })
      const server = Context.get(yield* Layer.build(DataDirectory.server(directory, declarations)), SyncServer)
      const before = yield* server.historyId
      const after = yield* Effect.mapError(
        server.renewHistory,
        (error) => new CommandFailed({ subject: "--data", problem: error.message })
      )
      yield* Console.log(`history ${before} is now ${after}`)
    }))
).pipe(
  Command.withDescription(
    "To be run once after a backup was restored, before the server is started: tells the devices that the server has " +
      "gone back, so that they send again what it has lost."
  )
)
