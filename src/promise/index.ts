/**
 * oversqlite for callers who know promises only: a factory, operations as methods, streams as async iterables.
 *
 * @since 0.1.0
 */
export {
  acceptServer,
  type ConflictDecision,
  type ConflictInput,
  keepLocal,
  keepMerged,
  recreate
} from "../contract/ConflictResolution.js"
export * from "../contract/SyncError.js"
export type { RowRef, SourceRecoveryReason, SyncAction, SyncOperation, SyncRequest } from "../contract/SyncOperation.js"
export type {
  Authority,
  DetachResult,
  Inspection,
  LocalRowsSummary,
  PendingSyncStatus,
  PushOutcome,
  PushReport,
  PushTransfer,
  RemoteOutcome,
  RemoteSyncReport,
  RestoreSummary,
  SnapshotTransfer,
  SourceInfo,
  SyncReport,
  SyncStatus,
  SyncThenDetachResult
} from "../contract/SyncResult.js"
export type { LocalRows } from "../engine/Attach.js"
export type { Progress, TablesChanged } from "../engine/Session.js"
export type { ClientStatus } from "../engine/SyncClient.js"
export type { BackgroundStatus } from "../engine/SyncLoopRules.js"
export type { ColumnValue, Row } from "../protocol/RowPayload.js"
export type { SyncTableConfig } from "../storage/SyncTable.js"
export { type AttachResult, createSyncClient, type SyncClient } from "./PromiseClient.js"
export {
  type BearerToken,
  byTable,
  clientWins,
  type ConflictResolver,
  type RetryPolicy,
  serverWins,
  type SyncClientOptions,
  type TokenProvider
} from "./PromiseOptions.js"
export type { CallOptions } from "./PromiseRuntime.js"
