/**
 * Laying a staged snapshot over the database, inside one authoritative transaction (pull.md §6). What becomes of source,
 * checkpoint, gates and operation is the flow's part.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { LocalDataError } from "../contract/SyncError.js"
import type { LocalRowsSummary } from "../contract/SyncResult.js"
import * as ClientState from "./ClientState.js"
import * as CommittedStage from "./CommittedStage.js"
import * as DirtyRows from "./DirtyRows.js"
import * as LocalChildren from "./LocalChildren.js"
import * as PendingWork from "./PendingWork.js"
import * as RowApply from "./RowApply.js"
import * as SnapshotStage from "./SnapshotStage.js"
import { identifier } from "./SqlText.js"
import { StageIncomplete } from "./StageIncomplete.js"
import { SyncDatabase } from "./SyncDatabase.js"
import { forEachSlice } from "./WorkTables.js"

/**
 * How a snapshot is applied.
 *
 * @since 0.1.0
 * @category models
 */
export interface SnapshotPlan {
  readonly snapshotId: string
  /** Rows that must be in the stage. */
  readonly stagedRowCount: number
  /** `discard`: pending rows are thrown away and counted (`localRows: "replace"`). */
  readonly pendingWork: "keep" | "discard"
  readonly rebaseToZero: boolean
  readonly keepOutbox: boolean
  readonly serverWentBack: boolean
}

interface Managed {
  readonly name: string
}

/**
 * Empties all managed tables, children first, with their row state, all pending work (the outbox unless it is kept) and
 * the push stage (pull.md §6.1). Tables that left the configuration are emptied too.
 *
 * @since 0.1.0
 * @category steps
 */
export const clearManaged = Effect.fnUntraced(function*(
  options: { readonly keepOutbox: boolean }
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const configured = new Set(tables.map((table) => table.name))
  const registered = yield* db.all<Managed>(
    `SELECT s.name FROM _sync_managed_tables AS m
       JOIN sqlite_schema AS s ON s.type = 'table' AND lower(s.name) = m.table_name`
  )
  const others = registered.map((row) => row.name).filter((name) => !configured.has(name.toLowerCase()))
  for (const name of [...others, ...tables.map((table) => table.declaredName).reverse()]) {
    yield* db.all(`DELETE FROM ${identifier(name)}`)
  }
  yield* db.all("DELETE FROM _sync_row_state WHERE schema_name = ?", [db.schema])
  yield* db.all("DELETE FROM _sync_dirty_rows")
  if (!options.keepOutbox) {
    yield* db.all("DELETE FROM _sync_outbox_rows")
    yield* ClientState.setOutboxHeader()
  }
  yield* CommittedStage.clear
})

const applyStaged = Effect.fnUntraced(function*(
  plan: SnapshotPlan
): Effect.fn.Return<void, SqlError | RowApply.RowRefused | LocalDataError, SyncDatabase> {
  const db = yield* SyncDatabase
  const [extent] = yield* db.all<{ readonly first: number | null; readonly last: number | null }>(
    "SELECT min(row_ordinal) AS first, max(row_ordinal) AS last FROM _sync_snapshot_stage WHERE snapshot_id = ?",
    [plan.snapshotId]
  )
  yield* forEachSlice(
    { first: extent?.first ?? 0, last: extent?.last ?? -1, size: db.applyRows },
    (first, last) =>
      Effect.gen(function*() {
        yield* db.all("DELETE FROM temp._sync_incoming")
        yield* db.all(
          `INSERT INTO temp._sync_incoming (ord, table_name, key_json, op, row_version, payload, mode)
           SELECT row_ordinal, table_name, key_json, 'INSERT', row_version, payload, 'apply'
             FROM _sync_snapshot_stage WHERE snapshot_id = ? AND row_ordinal BETWEEN ? AND ?`,
          [plan.snapshotId, first, last]
        )
        const offender = yield* RowApply.findMisshapen
        if (offender !== undefined) return yield* RowApply.raiseOffender(offender)
        yield* RowApply.applyIncoming
      })
  )
})

/** Rows that are there now: fewer than were staged if the snapshot holds a key twice. */
const countApplied = Effect.flatMap(SyncDatabase, (db) =>
  Effect.map(
    db.all<{ readonly n: number }>("SELECT count(*) AS n FROM _sync_row_state WHERE schema_name = ?", [db.schema]),
    ([row]) => row?.n ?? 0
  ))

/**
 * Replaces the contents of all managed tables by the staged snapshot and puts pending work back over it; rows of
 * the host's own tables that refer to managed ones stay. Fails with
 * `StageIncomplete`, with `RowRefused` if a snapshot row or a pending row violates a constraint, and with a
 * `LocalDataError` for a row of another shape or a row here without a key; deferred foreign keys are checked by the commit.
 *
 * @since 0.1.0
 * @category steps
 */
export const apply = Effect.fnUntraced(function*(
  plan: SnapshotPlan
): Effect.fn.Return<
  LocalRowsSummary,
  SqlError | RowApply.RowRefused | LocalDataError | StageIncomplete,
  SyncDatabase
> {
  const staged = yield* SnapshotStage.stagedCount(plan.snapshotId)
  if (staged !== plan.stagedRowCount) {
    return yield* new StageIncomplete({ expected: plan.stagedRowCount, actual: staged })
  }
  const { outbox } = yield* ClientState.read
  const work = { ...plan, outbox }
  const { dirty, frozen } = yield* DirtyRows.pending
  if (plan.pendingWork === "keep") {
    yield* PendingWork.refuseNullKeys
    yield* PendingWork.collect(work)
  }
  const children = yield* LocalChildren.keep
  yield* clearManaged({ keepOutbox: plan.keepOutbox })
  yield* applyStaged(plan)
  const applied = yield* countApplied
  if (applied !== plan.stagedRowCount) {
    return yield* new StageIncomplete({ expected: plan.stagedRowCount, actual: applied })
  }
  yield* SnapshotStage.clear
  const summary = plan.pendingWork === "keep"
    ? { ...(yield* PendingWork.putBack(work)), discarded: 0 }
    : { kept: 0, identical: 0, discarded: dirty + frozen, recovered: 0 }
  yield* LocalChildren.restore(children)
  return summary
})
