/**
 * The embedded store: everything of the server in one SQLite database (DESIGN §7).
 *
 * @since 0.1.0
 */
import { SqlClient, TransactionConnection } from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { immediate, reading } from "../storage/Transaction.js"
import { Identifiers } from "./Identifiers.js"
import type { ServerStore } from "./ServerStorage.js"
import { ServerStorage, ServerStorageError } from "./ServerStorage.js"
import * as Commit from "./SqliteCommit.js"
import * as History from "./SqliteHistory.js"
import * as Push from "./SqlitePush.js"
import * as SqliteSchema from "./SqliteSchema.js"
import * as Scope from "./SqliteScope.js"
import * as Snapshot from "./SqliteSnapshot.js"
import { step, storageError } from "./SqliteStep.js"

/** Keeps a failure of the steps apart from one of the transaction around them. */
class Failed<out E> {
  readonly error: E
  constructor(error: E) {
    this.error = error
  }
}

/** SQLite waits for a lock with the whole process, milliseconds; so it waits here, where others can go on. */
const lockWait = 10

/** How long a lock of another process is waited for. */
const patience = Schedule.spaced("50 millis").pipe(Schedule.upTo("3 seconds"))

const isBusy = (error: unknown): boolean => error instanceof ServerStorageError && error.reason === "busy"

const transaction =
  (begun: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError, R>) =>
  <A, E, R>(steps: Effect.Effect<A, E, R>): Effect.Effect<A, E | ServerStorageError, R> =>
    begun(Effect.mapError(steps, (error) => new Failed(error))).pipe(
      Effect.mapError((failure) => failure instanceof Failed ? failure.error : storageError(failure)),
      Effect.retry({ schedule: patience, while: isBusy })
    )

/** The client's connection with every commit flushed to the disk. The level cannot be changed inside a transaction. */
const flushing = (sql: SqlClient): Pick<SqlClient, "reserve"> => ({
  reserve: Effect.tap(sql.reserve, (connection) => {
    const level = (name: "FULL" | "NORMAL") =>
      Effect.provideService(sql.unsafe(`PRAGMA synchronous = ${name}`), TransactionConnection, [connection, 0])
    return Effect.acquireRelease(level("FULL"), () => Effect.ignore(level("NORMAL")))
  })
})

/**
 * Options of the embedded store.
 *
 * @since 0.1.0
 * @category options
 */
export interface SqliteStorageOptions {
  /**
   * `full`, the default: what was committed survives a power cut; one disk flush per commit, none for staged rows.
   * `normal`: a power cut may take the last commits, never the consistency of the file.
   */
  readonly synchronous?: "full" | "normal" | undefined
  /**
   * Another client on the same file (in WAL mode), for whatever only reads: it then goes on while a scope commits.
   * Without it everything takes turns on one connection, as it must for a database in memory.
   */
  readonly reader?: SqlClient | undefined
}

/**
 * The store on a SQLite client of its own. The client has one connection, so writing scopes take turns, transaction by
 * transaction; see {@link SqliteStorageOptions.reader} for those who read.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: SqliteStorageOptions = {}
): Effect.Effect<ServerStorage["Type"], never, SqlClient> =>
  Effect.gen(function*() {
    const sql = (yield* SqlClient).withoutTransforms()
    const plain = transaction(immediate(sql))
    const flushed = transaction(immediate(flushing(sql)))
    const reader = options.reader?.withoutTransforms()
    const read = reader === undefined ? plain : transaction(reading(reader))

    return {
      open: Effect.fnUntraced(function*(tables) {
        const identifiers = yield* Identifiers
        const historyId = yield* identifiers.uuid
        yield* step(sql`PRAGMA synchronous = NORMAL`)
        yield* step(sql.unsafe(`PRAGMA busy_timeout = ${lockWait}`))
        if (reader !== undefined) {
          yield* step(reader`PRAGMA query_only = ON`)
          yield* step(reader.unsafe(`PRAGMA busy_timeout = ${lockWait}`))
        }
        yield* step(SqliteSchema.installTemporary(sql))
        const install = Effect.mapError(
          SqliteSchema.install(sql, tables, historyId),
          (error) => error instanceof SqlError ? storageError(error) : error
        )
        const catalog = yield* flushed(install)
        const store: ServerStore = {
          write: options.synchronous === "normal" ? plain : flushed,
          draft: plain,
          read,
          ...Scope.make(sql),
          ...Push.make(sql, catalog),
          ...Commit.make(sql, catalog),
          ...History.make(sql, catalog),
          ...Snapshot.make(sql, catalog)
        }
        return store
      })
    }
  })

/**
 * The embedded store as a layer.
 *
 * @example
 * ```ts
 * import { SqliteClient } from "@effect/sql-sqlite-node"
 * import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
 * import { ServerStorageSqlite } from "oversqlite/server"
 *
 * const storage = Layer.provide(ServerStorageSqlite.layer, SqliteClient.layer({ filename: "server.db" }))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ServerStorage, never, SqlClient> = Layer.effect(ServerStorage, make())

/**
 * The embedded store with options. `reader` makes another connection to the same file, as
 * {@link SqliteStorageOptions.reader} describes.
 *
 * @example
 * ```ts
 * import { SqliteClient } from "@effect/sql-sqlite-node"
 * import * as Layer from "effect/Layer"
 * import { ServerStorageSqlite } from "oversqlite/server"
 *
 * const database = SqliteClient.layer({ filename: "server.db" })
 * const storage = ServerStorageSqlite.layerWith({ reader: database }).pipe(Layer.provide(database))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = <E = never>(
  options: Pick<SqliteStorageOptions, "synchronous"> & { readonly reader?: Layer.Layer<SqlClient, E> | undefined }
): Layer.Layer<ServerStorage, E, SqlClient> => {
  const { reader, synchronous } = options
  return Layer.scoped(
    ServerStorage,
    reader === undefined
      ? make({ synchronous })
      : Effect.flatMap(
        // Not the connection that writes, even if both come from one layer.
        Layer.build(Layer.fresh(reader)),
        (context) => make({ synchronous, reader: Context.get(context, SqlClient) })
      )
  )
}
