/**
 * Status reads (errors.md §2): two statements, whatever the number of rows.
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

interface Pending {
  readonly dirty: number
  readonly frozen: number
  readonly materialized: boolean
}

/**
 * Pending work as the host sees it.
 *
 * @since 0.1.0
 * @category deciding
 */
export const pendingStatusOf = (durable: DurableState, pending: Pending): PendingSyncStatus => {
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
export const statusOf = (durable: DurableState, pending: Pending): SyncStatus => ({
  authority: durable.attachment.initializationId !== ""
    ? "pending_local_seed"
    : pending.materialized
    ? "authoritative_materialized"
    : "authoritative_empty",
  pending: pendingStatusOf(durable, pending),
  lastBundleSeqSeen: durable.attachment.checkpoint
})

/**
 * Durable state, pending counts and what the gates judge by, in the ambient transaction if there is one.
 *
 * @since 0.1.0
 * @category reading
 */
export const observe: Effect.Effect<
  { readonly durable: DurableState; readonly pending: Pending; readonly situation: Situation },
  SqlError,
  SyncDatabase | Session.Session
> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const durable = yield* ClientState.read
  const pending = yield* DirtyRows.pending
  const situation: Situation = {
    memory: yield* Session.memory,
    durable,
    takenOver: durable.engineEpoch !== (yield* db.epoch),
    dirtyRowCount: pending.dirty,
    outboxRowCount: pending.frozen
  }
  return { durable, pending, situation }
})

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
