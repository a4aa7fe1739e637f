/**
 * One live client per database within the process (client-state.md §5).
 *
 * @since 0.1.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { StorageError } from "../contract/SyncError.js"
import { DatabaseAlreadyOwned } from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import { executeOn } from "../storage/Statement.js"
import { catchSql } from "../storage/StorageFailure.js"

/** The registry of this process: file paths, and handles of databases in memory. */
const owned = new Set<string | object>()

const identityOf = (sql: SqlClient): Effect.Effect<string | object, SqlError> =>
  Effect.map(
    executeOn(sql)<{ readonly name: string; readonly file: string | null }>("PRAGMA database_list"),
    (databases) => {
      // SQLite answers the absolute path with symbolic links resolved.
      const file = databases.find((database) => database.name === "main")?.file ?? ""
      return file === "" ? sql : file
    }
  )

/**
 * Claims the database of a client; the release is idempotent. Fails with `DatabaseAlreadyOwned` while another client of
 * this process holds it.
 *
 * @since 0.1.0
 * @category ownership
 */
export const claim = (
  sql: SqlClient
): Effect.Effect<{ readonly release: Effect.Effect<void> }, DatabaseAlreadyOwned | StorageError> =>
  Effect.flatMap(catchSql(identityOf(sql)), (identity) =>
    Effect.suspend(() => {
      if (owned.has(identity)) {
        const database = typeof identity === "string" ? identity : ":memory:"
        return raise((operation) => new DatabaseAlreadyOwned({ operation, database }))
      }
      owned.add(identity)
      let held = true
      return Effect.succeed({
        release: Effect.sync(() => {
          if (held) owned.delete(identity)
          held = false
        })
      })
    }))
