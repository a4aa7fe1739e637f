/**
 * Local work that a snapshot must not swallow: collected before the tables are cleared, put back over the snapshot
 * (pull.md §6.3, §6.4). Runs inside the authoritative transaction that applies the snapshot.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { LocalDataError } from "../contract/SyncError.js"
import type { OutboxHeader } from "./ClientState.js"
import * as RowApply from "./RowApply.js"
import { allOf, hasKey, hasKeyIn, identifier, keyFromJson, keyJson } from "./SqlText.js"
import type { ConstraintKind } from "./StorageFailure.js"
import { isConstraint } from "./StorageFailure.js"
import { SyncDatabase } from "./SyncDatabase.js"
import type { SyncColumn, SyncTable } from "./SyncTable.js"
import { parkStatements } from "./TableSql.js"

/**
 * How pending work is treated.
 *
 * @since 0.1.0
 * @category models
 */
export interface PendingWorkPlan {
  readonly outbox: OutboxHeader
  /** The frozen rows stay frozen (rotated rebuild of a `prepared` outbox). */
  readonly keepOutbox: boolean
  /** The server has gone back: what it has lost becomes pending, bases are corrected (pull.md §6.4). */
  readonly serverWentBack: boolean
  /** Bases become 0: the rows were never this account's (remote replace). */
  readonly rebaseToZero: boolean
  readonly snapshotId: string
}

const sameKey = (left: string, right: string): string =>
  `${left}.table_name = ${right}.table_name AND ${left}.key_json = ${right}.key_json`

/**
 * Fails with the error of a freeze if a table holds a row whose key is NULL. Nothing finds such a row by its key, so that
 * it could neither be kept aside nor come back. One look into the index of the key, and only where it may be NULL.
 *
 * @since 0.1.0
 * @category checking
 */
export const refuseNullKeys: Effect.Effect<void, SqlError | LocalDataError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  for (const table of tables.filter(({ key }) => key.nullable)) {
    const [row] = yield* db.all<{ readonly key: string }>(
      `SELECT ${keyJson(table, "t")} AS key FROM ${identifier(table.declaredName)} AS t
        WHERE t.${identifier(table.key.declaredName)} IS NULL LIMIT 1`
    )
    if (row === undefined) continue
    return yield* RowApply.raiseOffender({
      ord: 0,
      bundle: 0,
      code: "key_not_text",
      table: table.name,
      key: row.key,
      column: table.key.name
    })
  }
})

/**
 * Collects the pending keys into `temp._sync_pending` and copies their live rows aside, as they are.
 *
 * @since 0.1.0
 * @category steps
 */
export const collect = Effect.fnUntraced(function*(
  plan: PendingWorkPlan
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const committedSeq = plan.outbox.state === "committed_remote" ? plan.outbox.remoteBundleSeq : 0
  yield* db.all("DELETE FROM temp._sync_pending")
  yield* db.all(
    // An edit of a row whose committed version is known was made on that version.
    `INSERT INTO temp._sync_pending (table_name, key_json, base, ordinal, dirty, frozen, lost)
     SELECT d.table_name, d.key_json,
            CASE WHEN ? > 0 AND EXISTS (SELECT 1 FROM _sync_outbox_rows AS o
                                         WHERE o.schema_name = d.schema_name AND ${sameKey("o", "d")})
                 THEN ? ELSE d.base_row_version END,
            d.dirty_ordinal, 1, 0, 0
       FROM _sync_dirty_rows AS d`,
    [committedSeq, committedSeq]
  )
  if (plan.keepOutbox) {
    yield* db.all(
      `INSERT INTO temp._sync_pending (table_name, key_json, base, ordinal, dirty, frozen, lost)
       SELECT o.table_name, o.key_json, o.base_row_version, o.row_ordinal, 0, 1, 0 FROM _sync_outbox_rows AS o WHERE true
           ON CONFLICT (table_name, key_json) DO UPDATE SET frozen = 1`
    )
  }
  if (plan.serverWentBack) yield* collectLost(plan, committedSeq, tables)
  for (const table of tables) {
    const columns = table.columns.map((column) =>
      `t.${identifier(column.declaredName)} AS ${keptColumn(table, column)}`
    )
    yield* db.all(`DROP TABLE IF EXISTS temp.${keptName(table)}`)
    yield* db.all(
      `CREATE TEMP TABLE ${keptName(table)} AS
       SELECT p.key_json, ${columns.join(", ")}
         FROM temp._sync_pending AS p
         JOIN ${identifier(table.declaredName)} AS t
           ON ${hasKey(table, "t", "p.key_json")}
        WHERE p.table_name = '${table.name}'`
    )
    if (plan.serverWentBack) {
      // A row that is not there cannot be the last copy of anything.
      yield* db.all(
        `DELETE FROM temp._sync_pending WHERE lost = 1 AND table_name = ?
            AND key_json NOT IN (SELECT key_json FROM temp.${keptName(table)})`,
        [table.name]
      )
    }
  }
})

const keptName = (table: SyncTable): string => `_sync_kept_${table.order}`

// Names of its own: under those of the host, `rowid` would hide the rowid, and SQLite copies no column `true` or `false`.
const keptColumn = (table: SyncTable, column: SyncColumn): string => `c${table.columns.indexOf(column)}`

/**
 * `lost` is 1 for a live row that the server has lost, 2 for a deletion that it has forgotten (pull.md §6.4). Row state
 * outlives the configuration of its table (capture.md §10), and what nobody could push must not become pending.
 */
const collectLost = (plan: PendingWorkPlan, committedSeq: number, tables: ReadonlyArray<SyncTable>) =>
  Effect.flatMap(SyncDatabase, (db) =>
    db.all(
      `INSERT INTO temp._sync_pending (table_name, key_json, base, ordinal, dirty, frozen, lost)
       SELECT r.table_name, r.key_json, coalesce(s.row_version, 0),
              coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0)
                + row_number() OVER (ORDER BY r.row_version, r.table_name, r.key_json),
              1, 0, 1 + r.deleted
         FROM (SELECT o.table_name, o.key_json, ? AS row_version, o.op = 'DELETE' AS deleted
                 FROM _sync_outbox_rows AS o WHERE ? > 0
                UNION ALL
               SELECT k.table_name, k.key_json, k.row_version, k.deleted FROM _sync_row_state AS k
                WHERE k.schema_name = ?
                  AND NOT (? > 0 AND EXISTS (SELECT 1 FROM _sync_outbox_rows AS o WHERE ${sameKey("o", "k")}))) AS r
         LEFT JOIN _sync_snapshot_stage AS s ON s.snapshot_id = ? AND ${sameKey("s", "r")}
        WHERE r.table_name IN (SELECT value FROM json_each(?))
          AND CASE r.deleted WHEN 1 THEN s.row_version < r.row_version
                   ELSE s.row_version IS NULL OR s.row_version < r.row_version END
          AND NOT EXISTS (SELECT 1 FROM temp._sync_pending AS p WHERE ${sameKey("p", "r")})`,
      [
        committedSeq,
        committedSeq,
        db.schema,
        committedSeq,
        plan.snapshotId,
        JSON.stringify(tables.map((table) => table.name))
      ]
    ))

/**
 * Counts of what was put back.
 *
 * @since 0.1.0
 * @category models
 */
export interface PutBack {
  readonly kept: number
  readonly identical: number
  readonly recovered: number
}

interface Counts {
  readonly kept: number
  readonly recovered: number
}

const counts = Effect.flatMap(SyncDatabase, (db) =>
  Effect.map(
    db.all<Counts>(
      `SELECT coalesce(sum(lost = 0), 0) AS kept, coalesce(sum(lost > 0), 0) AS recovered FROM temp._sync_pending`
    ),
    ([row]) => row ?? { kept: 0, recovered: 0 }
  ))

const dropIdentical = Effect.fnUntraced(function*(
  table: SyncTable
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const same = table.columns.map((column) => {
    const name = identifier(column.declaredName)
    return `(t.${name} COLLATE BINARY) IS k.${keptColumn(table, column)}`
  })
  yield* db.all(
    `DELETE FROM temp._sync_pending WHERE table_name = ? AND key_json IN (
       SELECT k.key_json FROM temp.${keptName(table)} AS k JOIN ${identifier(table.declaredName)} AS t ON t.${
      identifier(table.key.declaredName)
    } = k.${keptColumn(table, table.key)}
        WHERE ${allOf(same)})`,
    [table.name]
  )
  yield* db.all(
    `DELETE FROM temp._sync_pending AS p
      WHERE p.table_name = ? AND p.key_json NOT IN (SELECT key_json FROM temp.${keptName(table)})
        AND NOT EXISTS (SELECT 1 FROM _sync_row_state AS s WHERE s.schema_name = ? AND ${sameKey("s", "p")})`,
    [table.name, db.schema]
  )
})

/** Finds the kept row that stands in the way by trying ever smaller ranges. */
const locate = Effect.fnUntraced(function*(
  table: SyncTable,
  statement: string,
  last: number
): Effect.fn.Return<string, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const rowid = yield* RowApply.halve(1, last, (first, end) => db.all(statement, [table.name, first, end]))
  const [row] = yield* db.all<{ readonly key: string }>(
    `SELECT key_json AS key FROM temp.${keptName(table)} WHERE rowid = ?`,
    [rowid]
  )
  return row?.key ?? ""
})

const refuse = (table: SyncTable, key: string, constraint: ConstraintKind, cause: unknown) =>
  Effect.fail(
    new RowApply.RowRefused({
      offender: { ord: 0, bundle: 0, code: "local_constraint", table: table.name, key },
      constraint,
      cause
    })
  )

/** A snapshot row whose key only the collation of the key column takes for that of a kept row would be overwritten. */
const refuseCollision = Effect.fnUntraced(function*(
  table: SyncTable
): Effect.fn.Return<void, SqlError | RowApply.RowRefused, SyncDatabase> {
  if (table.exactKey) return
  const db = yield* SyncDatabase
  const key = `t.${identifier(table.key.declaredName)}`
  const keptKey = `k.${keptColumn(table, table.key)}`
  const [taken] = yield* db.all<{ readonly key: string }>(
    `SELECT k.key_json AS key FROM temp.${keptName(table)} AS k
       JOIN ${identifier(table.declaredName)} AS t ON ${key} = ${keptKey} AND ${key} COLLATE BINARY <> ${keptKey}
      WHERE k.key_json IN (SELECT key_json FROM temp._sync_pending WHERE table_name = ?) ORDER BY k.rowid LIMIT 1`,
    [table.name]
  )
  if (taken !== undefined) return yield* refuse(table, taken.key, "unique", undefined)
})

const writeBack = Effect.fnUntraced(function*(
  table: SyncTable
): Effect.fn.Return<void, SqlError | RowApply.RowRefused, SyncDatabase> {
  const db = yield* SyncDatabase
  const name = identifier(table.declaredName)
  const key = identifier(table.key.declaredName)
  const columns = table.columns.map((column) => identifier(column.declaredName))
  const others = columns.filter((column) => column !== key)
  const [kept] = yield* db.all<{ readonly last: number | null }>(
    `SELECT max(rowid) AS last FROM temp.${keptName(table)}`
  )
  // The alias: beside a table of the host that is called excluded, the word would mean its old row.
  const statement = `INSERT INTO ${name} AS t (${columns.join(", ")})
SELECT ${table.columns.map((column) => `k.${keptColumn(table, column)}`).join(", ")} FROM temp.${keptName(table)} AS k
 WHERE k.key_json IN (SELECT key_json FROM temp._sync_pending WHERE table_name = ?) AND k.rowid BETWEEN ? AND ?
 ORDER BY k.rowid
    ON CONFLICT (${key}) ${
    others.length === 0
      ? "DO NOTHING"
      : `DO UPDATE SET ${others.map((column) => `${column} = excluded.${column}`).join(", ")}`
  }`
  const last = kept?.last ?? 0
  if (last === 0) return
  yield* refuseCollision(table)
  yield* Effect.catchIf(
    db.all(statement, [table.name, 1, last]),
    (error) => isConstraint(error) !== undefined,
    (error) =>
      Effect.flatMap(
        locate(table, statement, last),
        (key) => refuse(table, key, isConstraint(error)?.kind ?? "check", error)
      )
  )
})

/** Takes the rows away again that the host had deleted. */
const removeAgain = Effect.fnUntraced(function*(
  table: SyncTable
): Effect.fn.Return<void, SqlError | RowApply.RowRefused, SyncDatabase> {
  const db = yield* SyncDatabase
  const gone = `FROM temp._sync_pending AS p
        WHERE p.table_name = ? AND p.key_json NOT IN (SELECT key_json FROM temp.${keptName(table)})`
  const remove = (more: string) =>
    `DELETE FROM ${identifier(table.declaredName)} WHERE ${
      hasKeyIn(table, "", `SELECT ${keyFromJson(table, "p.key_json")} ${gone}${more}`)
    }`
  yield* Effect.catchIf(
    db.all(remove(""), [table.name]),
    (error) => isConstraint(error) !== undefined,
    (error) =>
      Effect.gen(function*() {
        const keys = (yield* db.all<{ readonly key: string }>(
          `SELECT p.key_json AS key ${gone} ORDER BY p.key_json`,
          [table.name]
        )).map(({ key }) => key)
        const some = remove(" AND p.key_json IN (SELECT value FROM json_each(?))")
        const at = yield* RowApply.halve(0, keys.length - 1, (first, last) =>
          db.all(some, [table.name, JSON.stringify(keys.slice(first, last + 1))]))
        return yield* refuse(table, keys[at] ?? "", isConstraint(error)?.kind ?? "check", error)
      })
  )
})

/**
 * Puts the collected work back over the applied snapshot: intents that the snapshot already shows are dropped, the
 * others are written as the host had left them, with capture switched on, so that what the writes do to other rows
 * (cascades) is captured like any host write. Fails with `RowRefused` if a row contradicts the snapshot.
 *
 * @since 0.1.0
 * @category steps
 */
export const putBack = Effect.fnUntraced(function*(
  plan: PendingWorkPlan
): Effect.fn.Return<PutBack, SqlError | RowApply.RowRefused, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const before = yield* counts
  for (const table of tables) yield* dropIdentical(table)
  const after = yield* counts
  const concerned = new Set(
    (yield* db.all<{ readonly table_name: string }>("SELECT DISTINCT table_name FROM temp._sync_pending"))
      .map((row) => row.table_name)
  )
  const involved = tables.filter((table) => concerned.has(table.name))
  yield* db.all(
    // The triggers fill in operation and payload; base and ordinal of an existing dirty row they leave alone.
    `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
     SELECT ?, p.table_name, p.key_json, 'DELETE',
            CASE WHEN ? THEN 0 WHEN ? THEN coalesce(min(p.base, s.row_version), 0) ELSE p.base END,
            NULL, p.ordinal
       FROM temp._sync_pending AS p
       LEFT JOIN _sync_row_state AS s ON s.schema_name = ? AND ${sameKey("s", "p")}
      WHERE p.dirty = 1`,
    [db.schema, plan.rebaseToZero ? 1 : 0, plan.serverWentBack ? 1 : 0, db.schema]
  )
  for (const table of involved) {
    for (
      const statement of parkStatements(
        table,
        `SELECT ${keyFromJson(table, "p.key_json")} FROM temp._sync_pending AS p WHERE p.table_name = '${table.name}'`
      )
    ) {
      yield* Effect.catchIf(db.all(statement), (error) => isConstraint(error) !== undefined, () => Effect.void)
    }
  }
  yield* db.all("UPDATE _sync_apply_state SET apply_mode = 0 WHERE singleton_key = 1")
  for (const table of [...involved].reverse()) yield* removeAgain(table)
  for (const table of involved) yield* writeBack(table)
  yield* db.all("UPDATE _sync_apply_state SET apply_mode = 1 WHERE singleton_key = 1")
  yield* db.all(
    `DELETE FROM _sync_dirty_rows WHERE (table_name, key_json) IN (
       SELECT table_name, key_json FROM temp._sync_pending WHERE dirty = 0)`
  )
  if (plan.keepOutbox) yield* reviseOutbox(plan)
  for (const table of tables) yield* db.all(`DROP TABLE temp.${keptName(table)}`)
  return {
    kept: after.kept,
    identical: before.kept - after.kept,
    recovered: after.recovered
  }
})

/**
 * Frozen rows that the server already has leave the outbox, the others are renumbered; if the server has gone back,
 * their operations and bases follow what it has now (recovery.md §5.3). The header is the caller's part.
 */
const reviseOutbox = Effect.fnUntraced(function*(
  plan: PendingWorkPlan
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  yield* db.all(
    `DELETE FROM _sync_outbox_rows
      WHERE (table_name, key_json) NOT IN (SELECT table_name, key_json FROM temp._sync_pending)`
  )
  if (plan.serverWentBack) {
    yield* db.all(
      `UPDATE _sync_outbox_rows AS o
          SET op = CASE WHEN o.local_payload IS NULL THEN 'DELETE' WHEN x.row_version IS NULL THEN 'INSERT' ELSE 'UPDATE' END,
              base_row_version = coalesce(min(o.base_row_version, x.row_version), 0)
         FROM (SELECT o2.rowid AS id, s.row_version FROM _sync_outbox_rows AS o2
                 LEFT JOIN _sync_row_state AS s
                        ON s.schema_name = o2.schema_name AND ${sameKey("s", "o2")}) AS x
        WHERE x.id = o.rowid`
    )
    yield* db.all(
      `DELETE FROM _sync_outbox_rows AS o
        WHERE o.local_payload IS NULL
          AND NOT EXISTS (SELECT 1 FROM _sync_row_state AS s WHERE s.schema_name = o.schema_name AND ${
        sameKey("s", "o")
      })`
    )
  }
  // Ordinals are part of the primary key: they are moved out of the way before they close up.
  yield* db.all("UPDATE _sync_outbox_rows SET row_ordinal = -1 - row_ordinal")
  yield* db.all(
    `UPDATE _sync_outbox_rows AS o SET row_ordinal = n.ordinal
       FROM (SELECT rowid AS id, row_number() OVER (ORDER BY row_ordinal DESC) - 1 AS ordinal FROM _sync_outbox_rows) AS n
      WHERE n.id = o.rowid`
  )
})
