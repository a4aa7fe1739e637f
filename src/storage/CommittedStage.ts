/**
 * The own committed bundle: staged page by page, then replayed over the tables in one transaction (push.md §7, §9, §14.3).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { LocalDataError } from "../contract/SyncError.js"
import * as ClientState from "./ClientState.js"
import * as CommittedComparison from "./CommittedComparison.js"
import * as DirtyRows from "./DirtyRows.js"
import * as Outbox from "./Outbox.js"
import * as RowApply from "./RowApply.js"
import * as Sources from "./Sources.js"
import { hasKey, hasKeyIn, identifier, keyFromJson, literal, localObject } from "./SqlText.js"
import { StageIncomplete } from "./StageIncomplete.js"
import { SyncDatabase } from "./SyncDatabase.js"
import type { SyncTable } from "./SyncTable.js"
import { keyJsonOf } from "./WireRows.js"

/**
 * What the server says about a committed bundle.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommittedBundle {
  readonly bundleSeq: number
  readonly sourceId: string
  readonly sourceBundleId: number
  readonly rowCount: number
  readonly bundleHash: string
}

/**
 * A committed bundle whose rows are in the stage.
 *
 * @since 0.1.0
 * @category models
 */
export interface StagedBundle extends CommittedBundle {
  /** Rows that must be in the stage: those of the bundle without the ignored ones of unknown tables. */
  readonly stagedRowCount: number
}

/**
 * Empties the stage.
 *
 * @since 0.1.0
 * @category staging
 */
export const clear: Effect.Effect<void, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) => Effect.asVoid(db.all("DELETE FROM _sync_push_stage"))
)

/**
 * Stages the rows of one page in one statement; `first` is the 0-based ordinal of its first row. The rows must have
 * passed `WireRows.findStranger`; those of tables that are not registered are left out, so that their ordinals stay
 * unused. Payload texts stay as received.
 *
 * @since 0.1.0
 * @category staging
 */
export const stage = Effect.fnUntraced(function*(
  bundleSeq: number,
  first: number,
  page: string
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const known = tables.map((table) => literal(table.name)).join(", ")
  yield* db.all(
    `INSERT INTO _sync_push_stage (bundle_seq, row_ordinal, schema_name, table_name, key_json, op, row_version, payload)
     SELECT ?, ? + r.key, r.value ->> 'schema', r.value ->> 'table',
            ${keyJsonOf(tables, "r.value ->> 'table'", "r.value -> 'key'")},
            r.value ->> 'op', r.value ->> 'row_version',
            CASE WHEN r.value ->> 'op' <> 'DELETE' THEN r.value -> 'payload' END
       FROM json_each(?, '$.rows') AS r WHERE r.value ->> 'table' IN (${known})`,
    [bundleSeq, first, page]
  )
})

/**
 * What a replay did besides applying the bundle.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReplayOutcome {
  /** Rows that are pending again. */
  readonly requeued: number
  /** Uploaded rows without effect in the own bundle. */
  readonly discarded: number
  /** The classification of push.md §8.1 put something back: another writer shares the source id. */
  readonly foreign: boolean
  /**
   * A row that shows an upload which the server has accepted and overwritten since: only a snapshot has the newer value.
   */
  readonly overtaken: boolean
}

const keyJoin = (table: SyncTable, key: string): string => hasKey(table, "t", key)

/**
 * Whether a live row differs from the frozen one, both as local payloads (payload-codec.md §6.1). Texts of our own
 * serialiser are compared as they are. A text that is recognisably another's (the reference froze it: other order of
 * members, other spelling) is compared member by member; numbers that are not both integers count to 15 digits, which is
 * what that serialiser may have left of them. Where nobody can tell whose text it is, it counts as different: one more
 * upload, never a lost value.
 */
const differs = (live: string, frozen: string): string =>
  `CASE WHEN ${live} = ${frozen} THEN 0
        WHEN NOT json_valid(${frozen}) THEN 1
        WHEN (SELECT json_group_object(m.key, m.value) FROM json_each(${frozen}) AS m) = ${frozen}
             AND (SELECT json_group_array(m.key) FROM json_each(${frozen}) AS m)
               = (SELECT json_group_array(m.key) FROM json_each(${live}) AS m) THEN 1
        ELSE EXISTS (
          SELECT 1 FROM json_each(${live}) AS l FULL JOIN json_each(${frozen}) AS f ON f.key = l.key
           WHERE NOT CASE WHEN l.type IN ('integer', 'real') AND f.type IN ('integer', 'real')
                            THEN CASE WHEN l.type = 'integer' AND f.type = 'integer' THEN l.value = f.value
                                      ELSE printf('%.15g', l.value + 0.0) = printf('%.15g', f.value + 0.0) END
                          ELSE l.type IS f.type AND l.value IS f.value END)
        END`

/** The decision of push.md §9.2 for every uploaded row of a table, from the live row. */
const decide = (table: SyncTable): string =>
  `UPDATE temp._sync_incoming AS s SET (requeue, live, mode) = (
  SELECT CASE WHEN x.op = 'DELETE' THEN CASE WHEN x.live IS NOT NULL THEN 'INSERT' END
              WHEN x.live IS NULL THEN 'DELETE'
              WHEN ${differs("x.live", "x.local_payload")} THEN 'UPDATE' END,
         x.live,
         CASE WHEN CASE WHEN x.op = 'DELETE' OR x.live IS NULL THEN x.op = 'DELETE' AND x.live IS NULL
                        ELSE NOT ${differs("x.live", "x.local_payload")} END
              THEN CASE s.mode WHEN 'overtaken' THEN s.mode ELSE 'apply' END
              ELSE CASE s.mode WHEN 'overtaken' THEN 'stale' ELSE 'record' END END
    FROM (SELECT o.op, o.local_payload,
                 (SELECT ${localObject(table, "t")} FROM ${identifier(table.declaredName)} AS t
                   WHERE ${keyJoin(table, "o.key_json")}) AS live
            FROM _sync_outbox_rows AS o
           WHERE o.schema_name = ? AND o.table_name = s.table_name AND o.key_json = s.key_json) AS x)
 WHERE s.table_name = ? AND s.mode IN ('uploaded', 'overtaken')`

const load = Effect.fnUntraced(function*(
  bundle: CommittedBundle,
  proven: boolean,
  checkpoint: number
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  yield* db.all("DELETE FROM temp._sync_incoming")
  yield* db.all(
    // What a state at or beyond the bundle does not know was deleted after it: a snapshot has no tombstones.
    `INSERT INTO temp._sync_incoming (ord, table_name, key_json, op, row_version, payload, mode)
     SELECT p.row_ordinal, p.table_name, p.key_json, p.op, p.row_version, p.payload,
            CASE WHEN EXISTS (SELECT 1 FROM _sync_outbox_rows AS o WHERE o.schema_name = p.schema_name
                                 AND o.table_name = p.table_name AND o.key_json = p.key_json)
                   THEN CASE WHEN ? = 0 AND coalesce(s.row_version > p.row_version, gone) THEN 'overtaken'
                             ELSE 'uploaded' END
                 WHEN ? = 0 AND coalesce(s.row_version >= p.row_version, gone) THEN 'stale'
                 WHEN EXISTS (SELECT 1 FROM _sync_dirty_rows AS d WHERE d.schema_name = p.schema_name
                                 AND d.table_name = p.table_name AND d.key_json = p.key_json)
                   THEN 'record'
                 ELSE 'apply' END
       FROM (SELECT *, op <> 'DELETE' AND bundle_seq <= ? AS gone FROM _sync_push_stage) AS p
       LEFT JOIN _sync_row_state AS s USING (schema_name, table_name, key_json)
      WHERE p.bundle_seq = ?`,
    [proven ? 1 : 0, proven ? 1 : 0, checkpoint, bundle.bundleSeq]
  )
})

/** Uploads that are done and overwritten on the server are pending no more; whether there are any. */
const settleOvertaken = Effect.gen(function*() {
  const db = yield* SyncDatabase
  yield* db.all(
    `DELETE FROM _sync_dirty_rows WHERE (schema_name, table_name, key_json) IN (
       SELECT ?, table_name, key_json FROM temp._sync_incoming WHERE mode = 'overtaken')`,
    [db.schema]
  )
  const rows = yield* db.all("UPDATE temp._sync_incoming SET mode = 'stale' WHERE mode = 'overtaken' RETURNING ord")
  return rows.length > 0
})

/** Dirty rows after the bundle's effects (push.md §9.3): applied ones go, re-queued ones come, side effects rebase. */
const settleDirtyRows = Effect.fnUntraced(function*(): Effect.fn.Return<number, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  yield* db.all(
    `DELETE FROM _sync_dirty_rows WHERE rowid IN (
       SELECT d.rowid FROM temp._sync_incoming AS s
         JOIN _sync_dirty_rows AS d
           ON d.schema_name = ? AND d.table_name = s.table_name AND d.key_json = s.key_json
        WHERE s.mode = 'apply')`,
    [db.schema]
  )
  const requeued = yield* db.all<{ readonly n: number }>(
    "SELECT count(*) AS n FROM temp._sync_incoming WHERE requeue IN ('INSERT', 'UPDATE', 'DELETE')"
  )
  yield* db.all(
    `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
     SELECT ?, s.table_name, s.key_json, s.requeue, s.row_version, s.live,
            coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0) + row_number() OVER (ORDER BY s.ord)
       FROM temp._sync_incoming AS s WHERE s.requeue IN ('INSERT', 'UPDATE', 'DELETE')
         ON CONFLICT (schema_name, table_name, key_json)
         DO UPDATE SET op = excluded.op, base_row_version = excluded.base_row_version, payload = excluded.payload`,
    [db.schema]
  )
  // A side effect of the server on a row that was edited here: the edit stays, on top of the server's version.
  yield* db.all(
    `UPDATE _sync_dirty_rows AS d
        SET base_row_version = s.row_version,
            op = CASE WHEN d.payload IS NULL THEN 'DELETE' WHEN s.op = 'DELETE' THEN 'INSERT' ELSE 'UPDATE' END
       FROM temp._sync_incoming AS s
      WHERE s.mode = 'record' AND s.requeue IS NULL
        AND d.schema_name = ? AND d.table_name = s.table_name AND d.key_json = s.key_json`,
    [db.schema]
  )
  yield* db.all(
    `DELETE FROM _sync_dirty_rows WHERE rowid IN (
       SELECT d.rowid FROM temp._sync_incoming AS s
         JOIN _sync_dirty_rows AS d
           ON d.schema_name = ? AND d.table_name = s.table_name AND d.key_json = s.key_json
        WHERE s.mode = 'record' AND s.requeue IS NULL AND s.op = 'DELETE' AND d.payload IS NULL)`,
    [db.schema]
  )
  return requeued[0]?.n ?? 0
})

interface Vanished {
  readonly requeued: number
  readonly discarded: number
}

/** Uploaded rows that a fresh commit left without effect: the server has no such row (push.md §9.3). */
const settleVanished = Effect.fnUntraced(function*(): Effect.fn.Return<Vanished, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const vanished = yield* db.all<{ readonly table_name: string; readonly n: number }>(
    `SELECT o.table_name, count(*) AS n FROM _sync_outbox_rows AS o
      WHERE (o.table_name, o.key_json) NOT IN (SELECT table_name, key_json FROM temp._sync_incoming)
      GROUP BY o.table_name`
  )
  let total = 0
  let requeued = 0
  for (const { n, table_name } of vanished) {
    const table = tables.find((candidate) => candidate.name === table_name)
    if (table === undefined) continue
    const name = identifier(table.declaredName)
    const rows = `SELECT o.row_ordinal, o.key_json, o.op, o.local_payload,
                         (SELECT ${localObject(table, "t")} FROM ${name} AS t WHERE ${
      keyJoin(table, "o.key_json")
    }) AS live
                    FROM _sync_outbox_rows AS o
                   WHERE o.table_name = ?
                     AND o.key_json NOT IN (SELECT key_json FROM temp._sync_incoming WHERE table_name = ?)`
    const changed = `(x.live IS NOT NULL AND (x.local_payload IS NULL OR ${differs("x.live", "x.local_payload")}))`
    // A tombstone keeps its version: the row goes up again over it (server.md §7.4).
    const again = yield* db.all<{ readonly key_json: string }>(
      `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
       SELECT ?, ?, x.key_json, 'INSERT',
              coalesce((SELECT s.row_version FROM _sync_row_state AS s
                         WHERE s.schema_name = ? AND s.table_name = ? AND s.key_json = x.key_json AND s.deleted = 1), 0),
              x.live,
              coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0) + row_number() OVER (ORDER BY x.row_ordinal)
         FROM (${rows}) AS x WHERE ${changed}
           ON CONFLICT (schema_name, table_name, key_json)
           DO UPDATE SET op = excluded.op, base_row_version = excluded.base_row_version, payload = excluded.payload
       RETURNING key_json`,
      [db.schema, table.name, db.schema, table.name, table.name, table.name]
    )
    yield* db.all(
      `DELETE FROM ${name} WHERE ${
        hasKeyIn(
          table,
          "",
          `SELECT ${keyFromJson(table, "x.key_json")} FROM (${rows}) AS x WHERE NOT ${changed}`
        )
      }`,
      [table.name, table.name]
    )
    yield* db.all(
      `DELETE FROM _sync_row_state
        WHERE schema_name = ? AND table_name = ?
          AND key_json IN (SELECT x.key_json FROM (${rows}) AS x) AND deleted = 0`,
      [db.schema, table.name, table.name, table.name]
    )
    // A row that is gone here as well needs no word to a server that does not have it.
    yield* db.all(
      `DELETE FROM _sync_dirty_rows
        WHERE schema_name = ? AND table_name = ?
          AND key_json IN (SELECT x.key_json FROM (${rows}) AS x WHERE x.live IS NULL)`,
      [db.schema, table.name, table.name, table.name]
    )
    total += n
    requeued += again.length
  }
  return { requeued, discarded: total - requeued }
})

/**
 * Replays the staged bundle over the tables, inside an authoritative transaction (push.md §9). `proven`: the bundle is
 * known to be this outbox's own; otherwise frozen and committed rows are compared first (push.md §8). The caller has
 * checked the hash; a stage that has lost or gained rows since fails with `StageIncomplete`.
 *
 * @since 0.1.0
 * @category replay
 */
export const replay = Effect.fnUntraced(function*(
  bundle: StagedBundle,
  proven: boolean
): Effect.fn.Return<
  ReplayOutcome,
  SqlError | LocalDataError | RowApply.RowRefused | StageIncomplete,
  SyncDatabase
> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const { attachment, ownBundle } = yield* ClientState.read
  yield* load(bundle, proven, attachment.checkpoint)
  const loaded = yield* db.all<{ readonly table_name: string; readonly rows: number; readonly uploaded: number }>(
    `SELECT table_name, count(*) AS rows, sum(mode IN ('uploaded', 'overtaken')) AS uploaded
       FROM temp._sync_incoming GROUP BY table_name`
  )
  const count = loaded.reduce((sum, { rows }) => sum + rows, 0)
  if (count !== bundle.stagedRowCount) {
    return yield* new StageIncomplete({ expected: bundle.stagedRowCount, actual: count })
  }
  const uploaded = new Set(loaded.filter((part) => part.uploaded > 0).map((part) => part.table_name))
  for (const table of tables) {
    if (uploaded.has(table.name)) yield* db.all(decide(table), [db.schema, table.name])
  }
  const classified = proven ? { differing: 0, asFrozen: 0 } : yield* CommittedComparison.classify
  const overtaken = proven ? false : yield* settleOvertaken
  const vanished = proven ? yield* settleVanished() : { requeued: 0, discarded: 0 }
  const offender = yield* RowApply.findMisshapen
  if (offender !== undefined) return yield* RowApply.raiseOffender(offender)
  yield* RowApply.applyIncoming
  const requeued = yield* settleDirtyRows()
  if (yield* DirtyRows.exists) yield* DirtyRows.describeSwept
  const replayed = { seq: bundle.bundleSeq, hash: bundle.bundleHash }
  if (replayed.seq === attachment.checkpoint + 1) yield* ClientState.advance(replayed)
  else if (replayed.seq > Math.max(attachment.checkpoint, ownBundle.seq)) yield* ClientState.setOwnBundle(replayed)
  yield* Sources.raiseCounter(bundle.sourceId, bundle.sourceBundleId + 1)
  yield* Outbox.clear
  yield* clear
  return {
    requeued: requeued + classified.asFrozen + vanished.requeued,
    discarded: vanished.discarded,
    foreign: classified.differing + classified.asFrozen > 0,
    overtaken
  }
})
