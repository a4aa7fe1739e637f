/**
 * Status reads (errors.md §2): one statement, whatever the number of rows, so that what it says is true of one moment.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { PendingSyncStatus, SyncStatus } from "../contract/SyncResult.js"
import type { DurableState } from "../storage/ClientState.js"
import * as ClientState from "../storage/ClientState.js"
import * as DirtyRows from "../storage/DirtyRows.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { Situation } from "./Gates.js"
import * as Session from "./Session.js"

/**
 * Pending work as the host sees it.
 *
 * @since 0.1.0
 * @category deciding
 */
export const pendingStatusOf = (durable: DurableState, pending: DirtyRows.Pending): PendingSyncStatus => {
  const pendingRowCount = pending.dirty + pending.frozen + (durable.attachment.initializationId === "" ? 0 : 1)
  return {
    pendingRowCount,
    hasPendingSyncData: pendingRowCount > 0,
    blocksDetach: durable.attachment.bindingState === "attached" && pendingRowCount > 0
  }
}

/**
 * The status as the host sees it.
 *
 * @since 0.1.0
 * @category deciding
 */
export const statusOf = (durable: DurableState, pending: DirtyRows.Pending): SyncStatus => ({
  authority: durable.attachment.initializationId !== ""
    ? "pending_local_seed"
    : pending.materialized
    ? "authoritative_materialized"
    : "authoritative_empty",
  pending: pendingStatusOf(durable, pending),
  lastBundleSeqSeen: durable.attachment.checkpoint
})

/**
 * What one read of the durable state says.
 *
 * @since 0.1.0
 * @category models
 */
export interface Observed {
  readonly durable: DurableState
  readonly pending: DirtyRows.Pending
  readonly situation: Situation
}

/**
 * Durable state, pending counts and what the gates judge by, with further scalar expressions in the same statement; in
 * the ambient transaction if there is one.
 *
 * @since 0.1.0
 * @category reading
 */
export const observeWith = Effect.fnUntraced(function*<Extra extends object>(
  columns: ReadonlyArray<string>
): Effect.fn.Return<Observed & { readonly extra: Extra }, SqlError, SyncDatabase | Session.Session> {
  const db = yield* SyncDatabase
  const { extra, state: durable } = yield* ClientState.readWith<DirtyRows.PendingRow & Extra>([
    ...DirtyRows.pendingColumns,
    ...columns
  ])
  const pending = DirtyRows.pendingOf(extra)
  const situation: Situation = {
    memory: yield* Session.memory,
    durable,
    takenOver: durable.engineEpoch !== (yield* db.epoch),
    dirtyRowCount: pending.dirty,
    outboxRowCount: pending.frozen
  }
  return { durable, pending, situation, extra }
})

/**
 * {@link observeWith} nothing further.
 *
 * @since 0.1.0
 * @category reading
 */
export const observe: Effect.Effect<Observed, SqlError, SyncDatabase | Session.Session> = observeWith([])

/**
 * What the gates judge by.
 *
 * @since 0.1.0
 * @category reading
 */
export const situation: Effect.Effect<Situation, SqlError, SyncDatabase | Session.Session> = Effect.map(
  observe,
  (observed) => observed.situation
)

/**
 * The status now.
 *
 * @since 0.1.0
 * @category reading
 */
export const read: Effect.Effect<SyncStatus, SqlError, SyncDatabase | Session.Session> = Effect.map(
  observe,
  ({ durable, pending }) => statusOf(durable, pending)
)
