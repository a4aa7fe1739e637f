/** Clients as plain callers have them, on files of their own, over the network of a test's world. */
import { HttpClient } from "@effect/platform"
import Database from "better-sqlite3"
import { Effect, Layer } from "effect"
import * as path from "node:path"
import type { SyncClient, SyncClientOptions } from "oversqlite/promise"
import { createSyncClient } from "oversqlite/promise"
import { ddl, tables } from "../../engine/support/Devices.js"
import type { World } from "../../engine/support/World.js"
import { temporaryFolder } from "../../engine/support/World.js"

/** The plain connection of an application to a file. */
export const connection = (filename: string) =>
  Effect.acquireRelease(
    Effect.sync(() => new Database(filename)),
    (database) => Effect.sync(() => database.close())
  )

/** A file with the tables of the test, and the application's own connection to it. */
export const applicationFile = Effect.gen(function*() {
  const filename = path.join(yield* temporaryFolder, "app.db")
  const database = yield* connection(filename)
  for (const statement of ddl) database.exec(statement)
  return { filename, database }
})

/** Options of a client whose network and clock are the test's. */
export const optionsFor = (world: World, filename: string, more: Partial<SyncClientOptions> = {}) =>
  Effect.map(Effect.clock, (clock): SyncClientOptions => ({
    database: filename,
    server: "http://localhost",
    token: "ann",
    schema: "business",
    tables,
    ...more,
    layers: {
      httpClient: Layer.succeed(HttpClient.HttpClient, world.network.client),
      environment: Layer.setClock(clock),
      ...more.layers
    }
  }))

/** A client that is disposed with the test. */
export const plainClient = (world: World, filename: string, more?: Partial<SyncClientOptions>) =>
  Effect.flatMap(optionsFor(world, filename, more), (options) =>
    Effect.acquireRelease(
      Effect.promise(() => createSyncClient(options)),
      (client) => Effect.promise(() => client.dispose())
    ))

/** A client on a new file, opened and attached, with the application's connection. */
export const attachedClient = (world: World, more?: Partial<SyncClientOptions>) =>
  Effect.gen(function*() {
    const { database, filename } = yield* applicationFile
    const client = yield* plainClient(world, filename, more)
    yield* Effect.promise(async () => {
      await client.open()
      await client.attach("ann")
    })
    return { client, database, filename }
  })

/** What a promise was rejected with. */
export const rejection = (call: () => Promise<unknown>): Effect.Effect<unknown> =>
  // @effect-diagnostics-next-line unknownInEffectCatch:off
  Effect.flip(Effect.tryPromise({ try: call, catch: (error) => error })).pipe(
    Effect.catchAll((value) => Effect.dieMessage(`resolved with ${JSON.stringify(value)}`))
  )

export const insert = (database: Database.Database, id: string) =>
  database.prepare("INSERT INTO users VALUES (?, 'N', ?, 1)").run(id, `${id}@x`)

export type { SyncClient }
