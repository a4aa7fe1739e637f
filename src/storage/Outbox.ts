/**
 * The frozen upload: freeze, load, chunks and thaw (push.md §3, §5, §14; client-state.md §2.7, §2.8).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as BundleHash from "../protocol/BundleHash.js"
import type { OutboxHeader } from "./ClientState.js"
import * as ClientState from "./ClientState.js"
import * as Sources from "./Sources.js"
import { SyncDatabase } from "./SyncDatabase.js"
import { Breathe } from "./WorkTables.js"

/**
 * Narrows `_sync_outbox_rows` to the one frozen upload. Its primary key begins with the bundle id: without this condition
 * every read of a range of ordinals would scan the whole outbox.
 *
 * @since 0.1.0
 * @category reading
 */
export const ofBundle = "source_bundle_id = (SELECT min(source_bundle_id) FROM _sync_outbox_rows)"

interface FrozenRow {
  readonly row_ordinal: number
  readonly schema_name: string
  readonly table_name: string
  readonly wire_key_json: string
  readonly op: "INSERT" | "UPDATE" | "DELETE"
  readonly base_row_version: number
  readonly wire_payload: string | null
}

/**
 * The canonical request hash of the frozen rows (hashing.md §4), read in pages of `applyRows`.
 *
 * @since 0.1.0
 * @category reading
 */
export const requestHash: Effect.Effect<string, SqlError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const breathe = yield* Breathe
  const digest = BundleHash.requestDigest()
  for (let after = -1;;) {
    const rows = yield* db.all<FrozenRow>(
      `SELECT row_ordinal, schema_name, table_name, wire_key_json, op, base_row_version, wire_payload
         FROM _sync_outbox_rows WHERE ${ofBundle} AND row_ordinal > ? ORDER BY row_ordinal LIMIT ?`,
      [after, db.applyRows]
    )
    digest.add(rows.map((row) => ({
      schema: row.schema_name,
      table: row.table_name,
      key: JSON.parse(row.wire_key_json),
      op: row.op,
      base_row_version: row.base_row_version,
      payload: row.wire_payload === null ? undefined : JSON.parse(row.wire_payload)
    })))
    const last = rows.at(-1)
    if (last === undefined || rows.length < db.applyRows) return digest.finish().hash
    after = last.row_ordinal
    yield* breathe
  }
})

/**
 * A piece of the frozen upload: its rows as the text of a JSON array of upload rows, exactly as frozen; how many there
 * are; and how many bytes their keys and payloads have.
 *
 * @since 0.1.0
 * @category models
 */
export interface Chunk {
  readonly rowsJson: string
  readonly rowCount: number
  readonly bytes: number
}

const bytesOf = "length(CAST(wire_key_json AS BLOB)) + coalesce(length(CAST(wire_payload AS BLOB)), 0)"

/**
 * The rows from a 0-based ordinal on that fit into the limits; one at least, however large it is (push.md §14.2).
 *
 * @since 0.1.0
 * @category reading
 */
export const chunk = (
  first: number,
  limits: { readonly rows: number; readonly bytes: number }
): Effect.Effect<Chunk, SqlError, SyncDatabase> =>
  Effect.flatMap(SyncDatabase, (db) =>
    Effect.map(
      db.all<Chunk>(
        `SELECT json_group_array(
                  CASE op WHEN 'DELETE'
                    THEN json_object('schema', schema_name, 'table', table_name, 'key', json(wire_key_json), 'op', op,
                                     'base_row_version', base_row_version)
                    ELSE json_object('schema', schema_name, 'table', table_name, 'key', json(wire_key_json), 'op', op,
                                     'base_row_version', base_row_version, 'payload', json(wire_payload)) END
                  ORDER BY row_ordinal) AS rowsJson,
                count(*) AS rowCount, coalesce(sum(${bytesOf}), 0) AS bytes
           FROM _sync_outbox_rows WHERE ${ofBundle} AND row_ordinal BETWEEN ? AND (
             SELECT max(row_ordinal) FROM (
               SELECT row_ordinal, sum(${bytesOf}) OVER (ORDER BY row_ordinal) AS bytes
                 FROM _sync_outbox_rows WHERE ${ofBundle} AND row_ordinal BETWEEN ? AND ?)
              WHERE row_ordinal = ? OR bytes <= ?)`,
        [first, first, first + limits.rows - 1, first, limits.bytes]
      ),
      ([row]) => row ?? { rowsJson: "[]", rowCount: 0, bytes: 0 }
    ))

/** Puts the frozen rows from an ordinal on back as dirty rows, in upload order; they stay in the outbox. */
const putBack = (from: number) =>
  Effect.flatMap(SyncDatabase, (db) =>
    db.all(
      `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
       SELECT o.schema_name, o.table_name, o.key_json, o.op, o.base_row_version, o.local_payload,
              coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0) + row_number() OVER (ORDER BY o.row_ordinal)
         FROM _sync_outbox_rows AS o
        WHERE o.row_ordinal >= ?
          AND NOT EXISTS (SELECT 1 FROM _sync_dirty_rows AS d WHERE d.schema_name = o.schema_name
                             AND d.table_name = o.table_name AND d.key_json = o.key_json)`,
      [from]
    ))

/**
 * Puts the frozen rows back as dirty rows, in upload order, and empties the outbox. A newer dirty row of the same key
 * stays as it is (conflicts.md §5).
 *
 * @since 0.1.0
 * @category writing
 */
export const thaw: Effect.Effect<void, SqlError, SyncDatabase> = Effect.suspend(() =>
  Effect.zipRight(putBack(0), clear)
)

/**
 * Keeps the first rows of a `prepared` upload, which are those that do not need the others, and puts the others back as
 * {@link thaw} does.
 *
 * @since 0.1.0
 * @category writing
 */
export const shorten = Effect.fnUntraced(function*(
  rowCount: number
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  yield* putBack(rowCount)
  yield* db.all("DELETE FROM _sync_outbox_rows WHERE row_ordinal >= ?", [rowCount])
  const { outbox } = yield* ClientState.read
  yield* ClientState.setOutboxHeader({ ...outbox, rowCount, requestHash: yield* requestHash })
})

/**
 * Empties the outbox.
 *
 * @since 0.1.0
 * @category writing
 */
export const clear: Effect.Effect<void, SqlError, SyncDatabase> = Effect.zipRight(
  Effect.flatMap(SyncDatabase, (db) => db.all("DELETE FROM _sync_outbox_rows")),
  ClientState.setOutboxHeader()
)

/**
 * Gives up the number of a committed upload whose rows are not needed any more: the counter moves past it and the
 * outbox is emptied (recovery.md §4).
 *
 * @since 0.1.0
 * @category writing
 */
export const settleCommitted = (header: OutboxHeader): Effect.Effect<void, SqlError, SyncDatabase> =>
  Effect.zipRight(Sources.raiseCounter(header.sourceId, header.sourceBundleId + 1), clear)

/**
 * Gives the frozen rows that are left to a new source, as its first upload; with none left the outbox is emptied
 * (recovery.md §5.3).
 *
 * @since 0.1.0
 * @category writing
 */
export const retarget = Effect.fnUntraced(function*(
  header: OutboxHeader,
  sourceId: string
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  yield* db.all("UPDATE _sync_outbox_rows SET source_bundle_id = 1")
  const [row] = yield* db.all<{ readonly n: number }>("SELECT count(*) AS n FROM _sync_outbox_rows")
  const rowCount = row?.n ?? 0
  if (rowCount === 0) return yield* clear
  yield* ClientState.setOutboxHeader({
    ...header,
    state: "prepared",
    sourceId,
    sourceBundleId: 1,
    requestHash: yield* requestHash,
    rowCount,
    remoteBundleHash: "",
    remoteBundleSeq: 0
  })
})

/**
 * Takes a `committed_remote` upload for a `prepared` one: another client has recorded the commit, maybe without having seen
 * its answer, so that the bundle may be another writer's. The next create tells (client-state.md §2.7, push.md §8).
 *
 * @since 0.1.0
 * @category writing
 */
export const doubtCommit: Effect.Effect<void, SqlError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) =>
    db.all(
      `UPDATE _sync_outbox_bundle
          SET state = 'prepared', row_count = (SELECT count(*) FROM _sync_outbox_rows), remote_bundle_hash = '', remote_bundle_seq = 0
        WHERE state = 'committed_remote' AND EXISTS (SELECT 1 FROM _sync_outbox_rows)`
    )
)

interface Shape {
  readonly n: number
  readonly first: number | null
  readonly last: number | null
  readonly keys: number
  readonly misfits: number
}

/**
 * Loads the header of a frozen upload inside a transaction and repairs what breaks the invariants 17–20: a `prepared`
 * one is thawed, of a `committed_remote` one the number is given up and its bundle arrives by pull
 * (client-state.md, quirk 4). Answers the header as it is afterwards.
 *
 * @since 0.1.0
 * @category writing
 */
export const load: Effect.Effect<OutboxHeader, SqlError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { attachment, outbox, source } = yield* ClientState.read
  const [shape] = yield* db.all<Shape>(
    `SELECT count(*) AS n, min(row_ordinal) AS first, max(row_ordinal) AS last,
            (SELECT count(*) FROM (SELECT DISTINCT schema_name, table_name, key_json FROM _sync_outbox_rows)) AS keys,
            coalesce(sum(source_bundle_id <> ?
                         OR (op = 'DELETE') <> (local_payload IS NULL)
                         OR (op = 'DELETE') <> (wire_payload IS NULL)), 0) AS misfits
       FROM _sync_outbox_rows`,
    [outbox.sourceBundleId]
  )
  const n = shape?.n ?? 0
  if (outbox.state === "none") {
    if (n > 0) yield* thaw
    return outbox.state === "none" && n === 0 ? outbox : (yield* ClientState.read).outbox
  }
  const sound = n > 0 && shape?.first === 0 && shape.last === n - 1 && shape.keys === n && shape.misfits === 0 &&
    outbox.sourceId === attachment.sourceId
  const settled = outbox.state === "committed_remote"
    ? outbox.remoteBundleSeq > 0 && outbox.remoteBundleHash !== ""
    : outbox.rowCount === n && outbox.sourceBundleId === source.nextSourceBundleId &&
      outbox.requestHash === (yield* requestHash)
  if (sound && settled) return outbox
  yield* outbox.state === "committed_remote" ? settleCommitted(outbox) : thaw
  return (yield* ClientState.read).outbox
})
