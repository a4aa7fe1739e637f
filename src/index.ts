/**
 * oversqlite: an offline-first sync engine for SQLite, written as Effect programs.
 *
 * @since 0.1.0
 */
export {
  acceptServer,
  byTable,
  clientWins,
  type ConflictDecision,
  type ConflictInput,
  type ConflictResolver,
  keepLocal,
  keepMerged,
  recreate,
  serverWins
} from "./contract/ConflictResolution.js"
export * from "./contract/SyncError.js"
export { RowRef, SourceRecoveryReason, type SyncAction, SyncOperation, SyncRequest } from "./contract/SyncOperation.js"
export type * from "./contract/SyncResult.js"
export type { LocalRows } from "./engine/Attach.js"
export type { Progress, TablesChanged } from "./engine/Session.js"
export { SourceIdGenerator } from "./engine/SourceIds.js"
export { type ClientStatus, make, SyncClient } from "./engine/SyncClient.js"
export type { SyncOptions } from "./engine/SyncConfig.js"
export type { BackgroundStatus } from "./engine/SyncLoopRules.js"
export * as SyncMetrics from "./engine/SyncMetrics.js"
export type { ColumnValue, Row } from "./protocol/RowPayload.js"
export { Credentials } from "./remote/Credentials.js"
export type { RetryPolicyOptions } from "./remote/RetryPolicy.js"
export type { RemoteOptions } from "./remote/SyncApi.js"
export { dropTriggers } from "./storage/ChangeCapture.js"
export type { SyncTableConfig } from "./storage/SyncTable.js"
export { Breathe } from "./storage/WorkTables.js"
