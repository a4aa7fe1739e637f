/**
 * The sources that this database has known (client-state.md §2.1).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as ClientState from "./ClientState.js"
import { SyncDatabase } from "./SyncDatabase.js"

/**
 * One known source (client-state.md §2.1).
 *
 * @since 0.1.0
 * @category models
 */
export interface Source {
  readonly sourceId: string
  readonly nextSourceBundleId: number
  readonly replacedBy: string
  readonly ownerUserId: string
}

/**
 * All sources this database ever knew, oldest first.
 *
 * @since 0.1.0
 * @category reading
 */
export const all: Effect.Effect<ReadonlyArray<Source>, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) =>
    db.all<Source>(
      `SELECT source_id AS "sourceId", next_source_bundle_id AS "nextSourceBundleId",
              replaced_by_source_id AS "replacedBy", owner_user_id AS "ownerUserId"
         FROM _sync_source_state ORDER BY rowid`
    )
)

/**
 * Makes sure that a source is known (counter 1 if it is new) and, if it has no owner yet, whose it is.
 *
 * @since 0.1.0
 * @category writing
 */
export const ensure = (sourceId: string, ownerUserId = ""): Effect.Effect<void, SqlError, SyncDatabase> =>
  Effect.flatMap(SyncDatabase, (db) =>
    db.all(
      `INSERT INTO _sync_source_state (source_id, owner_user_id) VALUES (?, ?)
           ON CONFLICT (source_id) DO UPDATE SET owner_user_id = excluded.owner_user_id
        WHERE owner_user_id = '' AND excluded.owner_user_id <> ''`,
      [sourceId, ownerUserId]
    )).pipe(Effect.asVoid)

/**
 * Raises the number of the source's next upload; never lowers it.
 *
 * @since 0.1.0
 * @category writing
 */
export const raiseCounter = (
  sourceId: string,
  nextSourceBundleId: number
): Effect.Effect<void, SqlError, SyncDatabase> =>
  Effect.flatMap(SyncDatabase, (db) =>
    db.all(
      `INSERT INTO _sync_source_state (source_id, next_source_bundle_id) VALUES (?, ?)
           ON CONFLICT (source_id) DO UPDATE
          SET next_source_bundle_id = max(next_source_bundle_id, excluded.next_source_bundle_id)`,
      [sourceId, nextSourceBundleId]
    )).pipe(Effect.asVoid)

/**
 * Makes `next` the current source and marks `previous` as replaced by it on this device. The successor gets the owner
 * of its predecessor and, if it is new, counter 1 (client-state.md §2.1).
 *
 * @since 0.1.0
 * @category writing
 */
export const replace = Effect.fnUntraced(function*(
  previous: string,
  next: string
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  yield* db.all(
    `INSERT INTO _sync_source_state (source_id, owner_user_id)
     SELECT ?, coalesce((SELECT owner_user_id FROM _sync_source_state WHERE source_id = ?), '') WHERE true
         ON CONFLICT (source_id) DO UPDATE SET owner_user_id = excluded.owner_user_id WHERE owner_user_id = ''`,
    [next, previous]
  )
  yield* db.all("UPDATE _sync_source_state SET replaced_by_source_id = ? WHERE source_id = ?", [next, previous])
  yield* ClientState.setAttachment({ sourceId: next })
})
