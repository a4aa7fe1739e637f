/**
 * What operations answer (errors.md §2). Expected branches are results, never errors.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type { SourceRecoveryReason, SyncAction, SyncOperation } from "./SyncOperation.js"

/**
 * Whose data this database holds: a seed that was never acknowledged, an empty scope, or rows the server knows.
 *
 * @since 0.1.0
 * @category models
 */
export type Authority = "pending_local_seed" | "authoritative_empty" | "authoritative_materialized"

/**
 * Rows that wait for the server: dirty rows + frozen rows + 1 for an unacknowledged seed.
 *
 * @since 0.1.0
 * @category models
 */
export interface PendingSyncStatus {
  readonly pendingRowCount: number
  readonly hasPendingSyncData: boolean
  /** Attached and something is pending: `detach` would answer `blocked_unsynced_data`. */
  readonly blocksDetach: boolean
}

/**
 * The state of a connected client after an operation.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncStatus {
  readonly authority: Authority
  readonly pending: PendingSyncStatus
  /** The checkpoint: every bundle up to this sequence is durably applied. */
  readonly lastBundleSeqSeen: number
}

/**
 * An applied snapshot: its bundle sequence and the rows it announced.
 *
 * @since 0.1.0
 * @category models
 */
export interface RestoreSummary {
  readonly bundleSeq: number
  readonly rowCount: number
}

/**
 * What became of the rows that were pending when a snapshot was applied: still pending (`kept`), dropped because the
 * server's row is the same (`identical`), thrown away on request (`discarded`), acknowledged rows that the server has
 * lost and that are pending again (`recovered`).
 *
 * @since 0.1.0
 * @category models
 */
export interface LocalRowsSummary {
  readonly kept: number
  readonly identical: number
  readonly discarded: number
  readonly recovered: number
}

/**
 * Answer of `attach` (lifecycle.md §4).
 *
 * @since 0.1.0
 * @category models
 */
export type AttachResult =
  | {
    readonly status: "connected"
    readonly outcome: "resumed_attached_state" | "seeded_from_local" | "started_empty"
    readonly syncStatus: SyncStatus
    /** Only if rows of another user were discarded. */
    readonly localRows?: LocalRowsSummary
  }
  | {
    readonly status: "connected"
    readonly outcome: "used_remote_state"
    readonly syncStatus: SyncStatus
    readonly restore: RestoreSummary
    readonly localRows: LocalRowsSummary
  }
  | { readonly status: "retry_later"; readonly retryAfter: Duration.Duration }

/**
 * Answer of `detach` (lifecycle.md §6).
 *
 * @since 0.1.0
 * @category models
 */
export type DetachResult =
  | { readonly outcome: "detached"; readonly pendingRowCount: 0 }
  | { readonly outcome: "blocked_unsynced_data"; readonly pendingRowCount: number }

/**
 * How a push ended: nothing left to upload, a bundle committed and replayed, or uploads paused.
 *
 * @since 0.1.0
 * @category models
 */
export type PushOutcome = "no_change" | "committed" | "skipped_paused"

/**
 * Answer of `pushPending` (push.md).
 *
 * @since 0.1.0
 * @category models
 */
export interface PushReport {
  readonly outcome: PushOutcome
  readonly status: SyncStatus
  /** Rows pending again after the replay: edited meanwhile, or another writer's bundle stood under the number. */
  readonly requeuedRowCount: number
  /** Conflicts the resolver decided in this call. */
  readonly conflictCount: number
  /** Uploaded rows without effect in the own committed bundle. */
  readonly discardedByServerCount: number
}

/**
 * How a pull or rebuild ended.
 *
 * @since 0.1.0
 * @category models
 */
export type RemoteOutcome = "already_at_target" | "applied_incremental" | "applied_snapshot" | "skipped_paused"

/**
 * Answer of `pullToStable` and `rebuild` (pull.md). `restore` and `localRows` are there exactly with
 * `applied_snapshot`.
 *
 * @since 0.1.0
 * @category models
 */
export interface RemoteSyncReport {
  readonly outcome: RemoteOutcome
  readonly status: SyncStatus
  readonly restore?: RestoreSummary
  readonly localRows?: LocalRowsSummary
  /** Rows of tables that are not configured, skipped with `unknownTables: "ignore"`. */
  readonly ignoredRowCount: number
}

/**
 * Answer of `sync` (pull.md §7).
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncReport {
  readonly pushOutcome: PushOutcome
  readonly remoteOutcome: RemoteOutcome
  readonly status: SyncStatus
  readonly restore?: RestoreSummary
  readonly localRows?: LocalRowsSummary
}

/**
 * Answer of `syncThenDetach` (lifecycle.md §7).
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncThenDetachResult {
  readonly isSuccess: boolean
  readonly lastSync: SyncReport
  readonly detach: DetachResult
  readonly syncRounds: 1 | 2 | 3
  readonly remainingPendingRowCount: number
}

/**
 * Answer of `sourceInfo`: the writer id of this database and whether it can go on.
 *
 * @since 0.1.0
 * @category models
 */
export interface SourceInfo {
  readonly currentSourceId: string
  readonly rebuildRequired: boolean
  readonly sourceRecoveryRequired: boolean
  readonly sourceRecoveryReason?: SourceRecoveryReason
}

/**
 * Snapshot transfer counters of this client instance (retry-and-loops.md §7).
 *
 * @since 0.1.0
 * @category models
 */
export interface SnapshotTransfer {
  readonly sessionsCreated: number
  readonly chunksFetched: number
}

/**
 * Push transfer counters of this client instance (retry-and-loops.md §7).
 *
 * @since 0.1.0
 * @category models
 */
export interface PushTransfer {
  readonly sessionsCreated: number
  readonly chunksUploaded: number
  readonly committedBundleChunksRead: number
}

/**
 * Answer of `inspect`: the whole durable state without row contents, in every state until `close`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Inspection {
  readonly instance: "constructed" | "opened" | "connected"
  readonly attachment: {
    readonly sourceId: string
    readonly bindingState: "anonymous" | "attached"
    readonly userId: string
    readonly schema: string
    readonly lastBundleSeqSeen: number
    readonly rebuildRequired: boolean
    readonly initializationPending: boolean
  }
  readonly source: { readonly nextSourceBundleId: number; readonly knownSources: number }
  readonly operation: {
    readonly kind: "none" | "remote_replace" | "source_recovery"
    readonly reason?: SourceRecoveryReason
    readonly replacementSourceId?: string
    readonly targetUserId?: string
  }
  readonly outbox: {
    readonly state: "none" | "prepared" | "committed_remote"
    readonly sourceBundleId: number
    readonly rowCount: number
    readonly remoteBundleSeq?: number
  }
  readonly dirtyRowCount: number
  readonly stagedPushRows: boolean
  readonly stagedSnapshotRows: boolean
  readonly tables: ReadonlyArray<{ readonly table: string; readonly configured: boolean }>
  /** For each operation that would be refused now: the tag of the error and what to do. */
  readonly refusals: ReadonlyArray<
    { readonly operation: SyncOperation; readonly tag: string; readonly action: SyncAction }
  >
}
