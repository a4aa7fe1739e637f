/**
 * Cheap looks at pending work for whoever looks often (retry-and-loops.md §4.3): their cost does not depend on the
 * number of rows as long as nobody writes.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { SyncDatabase } from "./SyncDatabase.js"

/**
 * Whether something waits for the server, and how far the server's bundles are applied.
 *
 * @since 0.1.0
 * @category models
 */
export interface Glance {
  readonly pending: boolean
  readonly checkpoint: number
}

/**
 * One statement of existence checks.
 *
 * @since 0.1.0
 * @category reading
 */
export const glance: Effect.Effect<Glance, SqlError, SyncDatabase> = Effect.flatMap(SyncDatabase, (db) =>
  Effect.map(
    db.all<{ readonly pending: number; readonly checkpoint: number }>(
      `SELECT EXISTS (SELECT 1 FROM _sync_dirty_rows) OR EXISTS (SELECT 1 FROM _sync_outbox_rows) AS pending,
              last_bundle_seq_seen AS checkpoint
         FROM _sync_attachment_state WHERE singleton_key = 1`
    ),
    ([row]) => ({ pending: row?.pending === 1, checkpoint: row?.checkpoint ?? 0 })
  ))

/**
 * What changes when the host writes: how often the database was written by this and by other connections, and the
 * number and times of the dirty rows.
 *
 * @since 0.1.0
 * @category models
 */
export interface WriteTrace {
  readonly ownWrites: number
  readonly otherWrites: number
  readonly rows: string
}

/**
 * The trace now. The dirty rows are looked at only if the database was written since the one before.
 *
 * @since 0.1.0
 * @category reading
 */
export const trace = (before: WriteTrace | undefined): Effect.Effect<WriteTrace, SqlError, SyncDatabase> =>
  Effect.gen(function*() {
    const db = yield* SyncDatabase
    const [writes] = yield* db.all<{ readonly own: number; readonly other: number }>(
      "SELECT total_changes() AS own, data_version AS other FROM pragma_data_version"
    )
    const ownWrites = writes?.own ?? 0
    const otherWrites = writes?.other ?? 0
    if (before !== undefined && before.ownWrites === ownWrites && before.otherWrites === otherWrites) return before
    const [row] = yield* db.all<{ readonly rows: string }>(
      `SELECT count(*) || ' ' || coalesce(sum(CAST(unixepoch(updated_at, 'subsec') * 1000 AS INTEGER)), 0) AS rows
         FROM _sync_dirty_rows`
    )
    return { ownWrites, otherWrites, rows: row?.rows ?? "" }
  })
