/**
 * The private temporary tables of the engine's connection. They carry rows between the statements of one step and hold
 * nothing that matters afterwards. Their names start with `_sync_`, so that they never shadow a table of the host.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { SyncDatabase } from "./SyncDatabase.js"

const definitions: ReadonlyArray<string> = [
  // Authoritative rows on their way into the tables; `mode` is apply, record, uploaded, overtaken or
  // stale (push.md §14.3).
  `CREATE TEMP TABLE IF NOT EXISTS _sync_incoming (
     ord INTEGER PRIMARY KEY, bundle INTEGER NOT NULL DEFAULT 0, table_name TEXT NOT NULL, key_json TEXT NOT NULL,
     op TEXT NOT NULL, row_version INTEGER NOT NULL, payload TEXT, mode TEXT NOT NULL, requeue TEXT, live TEXT)`,
  // Column values that SQL cannot convert, one JSON array a row (payload-codec.md §9.2).
  "CREATE TEMP TABLE IF NOT EXISTS _sync_patch (ord INTEGER PRIMARY KEY, value TEXT NOT NULL)",
  // What a freeze sends up, with the operation derived from the live row; `position` is 0-based (push.md §14.1).
  `CREATE TEMP TABLE IF NOT EXISTS _sync_intent (
     position INTEGER PRIMARY KEY, table_name TEXT NOT NULL, key_json TEXT NOT NULL, op TEXT NOT NULL,
     base INTEGER NOT NULL)`,
  // The rows of one pull answer (pull.md §10.1).
  `CREATE TEMP TABLE IF NOT EXISTS _sync_page (
     bundle INTEGER NOT NULL, ord INTEGER NOT NULL, table_name TEXT NOT NULL, key_json TEXT NOT NULL,
     op TEXT NOT NULL, row_version INTEGER NOT NULL, payload TEXT, PRIMARY KEY (bundle, ord)) WITHOUT ROWID`,
  // Local work that a snapshot must not swallow (pull.md §6.3).
  `CREATE TEMP TABLE IF NOT EXISTS _sync_pending (
     table_name TEXT NOT NULL, key_json TEXT NOT NULL, base INTEGER NOT NULL, ordinal INTEGER NOT NULL,
     dirty INTEGER NOT NULL, frozen INTEGER NOT NULL, lost INTEGER NOT NULL,
     PRIMARY KEY (table_name, key_json)) WITHOUT ROWID`
]

const names = ["_sync_incoming", "_sync_patch", "_sync_intent", "_sync_page", "_sync_pending"]

/**
 * Creates the temporary tables of this connection, once per client (client-state.md §3).
 *
 * @since 0.1.0
 * @category installation
 */
export const create: Effect.Effect<void, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) => Effect.forEach(definitions, (definition) => db.all(definition), { discard: true })
)

/**
 * Drops the temporary tables of this connection.
 *
 * @since 0.1.0
 * @category installation
 */
export const drop: Effect.Effect<void, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) => Effect.forEach(names, (name) => db.all(`DROP TABLE IF EXISTS temp.${name}`), { discard: true })
)

/**
 * Lets the event loop turn once between two batches of a large step, so that timers, streams and interruption go on.
 * Tests may replace it.
 *
 * @since 0.1.0
 * @category context
 */
export class Breathe extends Context.Reference<Breathe>()("oversqlite/Breathe", {
  defaultValue: (): Effect.Effect<void> =>
    Effect.async<void>((resume) => {
      // A turn of the event loop is no matter of time: the Clock has no word for it.
      // eslint-disable-next-line no-restricted-globals
      const turn = setImmediate(() => resume(Effect.void))
      return Effect.sync(() => clearImmediate(turn))
    })
}) {}

/**
 * Runs a step for each range of at most `size` consecutive ordinals from `first` to `last` (both included), with a
 * turn of the event loop between two ranges.
 *
 * @since 0.1.0
 * @category combinators
 */
export const forEachSlice = <E, R>(
  range: { readonly first: number; readonly last: number; readonly size: number },
  step: (first: number, last: number) => Effect.Effect<void, E, R>
): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    const breathe = yield* Breathe
    for (let first = range.first; first <= range.last; first += range.size) {
      if (first > range.first) yield* breathe
      yield* step(first, Math.min(first + range.size - 1, range.last))
    }
  })
