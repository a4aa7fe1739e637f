/**
 * Pulled bundles: a page becomes rows of `temp._sync_page`, a group of whole bundles is applied in one authoritative
 * transaction (pull.md §4, §10).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as ClientState from "./ClientState.js"
import * as DirtyRows from "./DirtyRows.js"
import * as RowApply from "./RowApply.js"
import { literal } from "./SqlText.js"
import { SyncDatabase } from "./SyncDatabase.js"
import { keyJsonOf } from "./WireRows.js"

/**
 * A local change stands in the way of a pulled group; the caller pushes first (pull.md §4.1 steps 4 and 7).
 *
 * @since 0.1.0
 * @category errors
 */
export class DirtyInTheWay extends Data.TaggedError("DirtyInTheWay")<{ readonly dirtyCount: number }> {}

/**
 * Moves the rows of a page's bundles (0-based indexes, both included) into `temp._sync_page`. Rows of tables that are
 * not registered are left out.
 *
 * @since 0.1.0
 * @category staging
 */
export const load = Effect.fnUntraced(function*(
  page: string
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  yield* db.all("DELETE FROM temp._sync_page")
  const known = tables.map((table) => literal(table.name)).join(", ")
  yield* db.all(
    `INSERT INTO temp._sync_page (bundle, ord, table_name, key_json, op, row_version, payload)
     SELECT b.key, r.key, r.value ->> 'table', ${keyJsonOf(tables, "r.value ->> 'table'", "r.value -> 'key'")},
            r.value ->> 'op', r.value ->> 'row_version',
            CASE WHEN r.value ->> 'op' <> 'DELETE' THEN r.value -> 'payload' END
       FROM json_each(?, '$.bundles') AS b, json_each(b.value, '$.rows') AS r
      WHERE r.value ->> 'table' IN (${known})`,
    [page]
  )
})

/**
 * Bundles that are applied together; indexes are 0-based positions in the page, both included.
 *
 * @since 0.1.0
 * @category models
 */
export interface BundleGroup {
  readonly first: number
  readonly last: number
  readonly lastBundleSeq: number
  /** Hash of the last bundle, blank if the server sent none. */
  readonly lastBundleHash: string
}

/**
 * The newest version of every key. A version that is known already is applied again unless the row is pending: an own row
 * ahead of the checkpoint may since have been swept by the local foreign-key actions of an older bundle's delete.
 */
const collect = Effect.fnUntraced(function*(group: BundleGroup) {
  const db = yield* SyncDatabase
  yield* db.all("DELETE FROM temp._sync_incoming")
  yield* db.all(
    `INSERT INTO temp._sync_incoming (ord, bundle, table_name, key_json, op, row_version, payload, mode)
       SELECT row_number() OVER (ORDER BY n.bundle, n.ord), n.bundle, n.table_name, n.key_json, n.op, n.row_version,
              n.payload,
              CASE WHEN n.row_version < k.row_version OR n.row_version = k.row_version AND EXISTS (
                          SELECT 1 FROM _sync_dirty_rows AS d
                           WHERE d.schema_name = k.schema_name AND d.table_name = k.table_name
                             AND d.key_json = k.key_json)
                   THEN 'stale' ELSE 'apply' END
         FROM (SELECT p.*, row_number() OVER (PARTITION BY p.table_name, p.key_json ORDER BY p.bundle DESC) AS newest
                 FROM temp._sync_page AS p WHERE p.bundle BETWEEN ? AND ?) AS n
         LEFT JOIN _sync_row_state AS k
           ON k.schema_name = ? AND k.table_name = n.table_name AND k.key_json = n.key_json
        WHERE n.newest = 1`,
    [group.first, group.last, db.schema]
  )
})

const countDirtyInTheWay = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const [row] = yield* db.all<{ readonly n: number }>(
    `SELECT count(*) AS n FROM temp._sync_incoming AS i
       JOIN _sync_dirty_rows AS d ON d.schema_name = ? AND d.table_name = i.table_name AND d.key_json = i.key_json
      WHERE i.mode = 'apply'`,
    [db.schema]
  )
  return row?.n ?? 0
})

const countSwept = Effect.gen(function*() {
  const db = yield* SyncDatabase
  let swept = 0
  for (const table of yield* DirtyRows.tables) {
    const [row] = yield* db.all<{ readonly n: number }>(
      `SELECT count(*) AS n FROM _sync_dirty_rows AS d
        WHERE d.schema_name = ? AND d.table_name = ? AND ${DirtyRows.isSwept(table)}`,
      [db.schema, table.name]
    )
    swept += row?.n ?? 0
  }
  return swept
})

/**
 * Applies a group, inside an authoritative transaction: newest version per key, stale ones skipped, checkpoint moved.
 * Fails with `DirtyInTheWay`, with `RowRefused` or with a `MisshapenRow`; foreign keys are checked by the commit.
 *
 * @since 0.1.0
 * @category applying
 */
export const apply = Effect.fnUntraced(function*(
  group: BundleGroup
): Effect.fn.Return<void, SqlError | RowApply.RowRefused | DirtyInTheWay | MisshapenRow, SyncDatabase> {
  yield* collect(group)
  const dirty = yield* countDirtyInTheWay
  if (dirty > 0) return yield* new DirtyInTheWay({ dirtyCount: dirty })
  const offender = yield* RowApply.findMisshapen
  if (offender !== undefined) return yield* new MisshapenRow({ offender })
  yield* RowApply.applyIncoming
  if (yield* DirtyRows.exists) {
    const swept = yield* countSwept
    if (swept > 0) return yield* new DirtyInTheWay({ dirtyCount: swept })
    yield* DirtyRows.describeChanged
  }
  const { attachment } = yield* ClientState.read
  if (group.lastBundleSeq > attachment.checkpoint) {
    yield* ClientState.advance({ seq: group.lastBundleSeq, hash: group.lastBundleHash })
  }
})

/**
 * A row of a group has a payload that the table cannot take.
 *
 * @since 0.1.0
 * @category errors
 */
export class MisshapenRow extends Data.TaggedError("MisshapenRow")<{ readonly offender: RowApply.Offender }> {}
