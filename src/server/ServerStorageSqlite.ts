/**
 * The embedded store: everything of the server in one SQLite database (DESIGN §7).
 *
 * @since 0.1.0
 */
import { SqlClient } from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { immediate } from "../storage/Transaction.js"
import { Identifiers } from "./Identifiers.js"
import type { ServerStorageError, ServerStore } from "./ServerStorage.js"
import { ServerStorage } from "./ServerStorage.js"
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

const transaction =
  (sql: SqlClient) => <A, E, R>(steps: Effect.Effect<A, E, R>): Effect.Effect<A, E | ServerStorageError, R> =>
    Effect.mapError(
      immediate(sql)(Effect.mapError(steps, (error) => new Failed(error))),
      (failure) => failure instanceof Failed ? failure.error : storageError(failure)
    )

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
}

/**
 * The store on a SQLite client of its own. The client has one connection, so the scopes take turns, transaction by
 * transaction.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: SqliteStorageOptions = {}
): Effect.Effect<ServerStorage["Type"], never, SqlClient> =>
  Effect.gen(function*() {
    const sql = (yield* SqlClient).withoutTransforms()
    const turn = yield* Effect.makeSemaphore(1)
    const synchronous = (level: "FULL" | "NORMAL") => step(Effect.asVoid(sql.unsafe(`PRAGMA synchronous = ${level}`)))

    const inTurn = <A, E, R>(steps: Effect.Effect<A, E, R>) => turn.withPermits(1)(transaction(sql)(steps))

    // The level cannot be changed inside a transaction, and whoever holds the turn is the only one outside of one.
    const durable = <A, E, R>(steps: Effect.Effect<A, E, R>): Effect.Effect<A, E | ServerStorageError, R> =>
      turn.withPermits(1)(Effect.acquireUseRelease(
        synchronous("FULL"),
        () => transaction(sql)(steps),
        () => Effect.ignore(synchronous("NORMAL"))
      ))

    return {
      open: Effect.fnUntraced(function*(tables) {
        const identifiers = yield* Identifiers
        const historyId = yield* identifiers.uuid
        yield* synchronous("NORMAL")
        yield* step(SqliteSchema.installTemporary(sql))
        const install = Effect.mapError(
          SqliteSchema.install(sql, tables, historyId),
          (error) => error instanceof SqlError ? storageError(error) : error
        )
        const catalog = yield* durable(install)
        const store: ServerStore = {
          write: options.synchronous === "normal" ? inTurn : durable,
          draft: inTurn,
          read: inTurn,
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
 * The embedded store with options.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: SqliteStorageOptions): Layer.Layer<ServerStorage, never, SqlClient> =>
  Layer.effect(ServerStorage, make(options))
