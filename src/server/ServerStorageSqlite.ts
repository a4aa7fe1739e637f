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
import { storageError } from "./SqliteStep.js"

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
 * The store on a SQLite client of its own. The client has one connection, so the scopes take turns, transaction by
 * transaction.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<ServerStorage["Type"], never, SqlClient> = Effect.gen(function*() {
  const sql = (yield* SqlClient).withoutTransforms()
  return {
    open: Effect.fnUntraced(function*(tables) {
      const identifiers = yield* Identifiers
      const historyId = yield* identifiers.uuid
      const install = Effect.mapError(
        SqliteSchema.install(sql, tables, historyId),
        (error) => error instanceof SqlError ? storageError(error) : error
      )
      yield* Effect.mapError(SqliteSchema.installTemporary(sql), storageError)
      const catalog = yield* transaction(sql)(install)
      const store: ServerStore = {
        write: transaction(sql),
        read: transaction(sql),
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
export const layer: Layer.Layer<ServerStorage, never, SqlClient> = Layer.effect(ServerStorage, make)
