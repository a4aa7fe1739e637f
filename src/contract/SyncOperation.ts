/**
 * The names of what a client does: public operations, the requests they send and what they ask of the caller.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * A public operation of the client, as reported by errors (errors.md §1.1). `construct` is the building of the layer.
 *
 * @since 0.1.0
 * @category models
 */
export const SyncOperation = Schema.Literal(
  "construct",
  "open",
  "attach",
  "detach",
  "pendingSyncStatus",
  "syncStatus",
  "syncThenDetach",
  "uninstallSync",
  "pushPending",
  "pullToStable",
  "sync",
  "rebuild",
  "lastBundleSeqSeen",
  "sourceInfo",
  "inspect"
)

/**
 * See {@link SyncOperation}.
 *
 * @since 0.1.0
 * @category models
 */
export type SyncOperation = typeof SyncOperation.Type

/**
 * One HTTP exchange, or the push attempt as a whole (errors.md §1.1).
 *
 * @since 0.1.0
 * @category models
 */
export const SyncRequest = Schema.Literal(
  "connect_capabilities",
  "connect_request",
  "push_pending",
  "push_session_create",
  "push_chunk_upload",
  "push_session_commit",
  "push_session_delete",
  "committed_bundle_chunk_fetch",
  "history_check",
  "pull_request",
  "snapshot_session_create",
  "snapshot_chunk_fetch",
  "snapshot_session_delete",
  "bundle_change_watch",
  "watch_capabilities"
)

/**
 * See {@link SyncRequest}.
 *
 * @since 0.1.0
 * @category models
 */
export type SyncRequest = typeof SyncRequest.Type

/**
 * What the caller should do about an error (errors.md §1.1).
 *
 * @since 0.1.0
 * @category models
 */
export type SyncAction =
  | "open"
  | "attach"
  | "detach"
  | "push"
  | "rebuild"
  | "retry_later"
  | "reauthenticate"
  | "choose_local_rows"
  | "fix_argument"
  | "fix_configuration"
  | "fix_data"
  | "fix_resolver"
  | "upgrade_server"
  | "new_client"
  | "free_space"
  | "report"

/**
 * Why a source cannot go on (recovery.md §2).
 *
 * @since 0.1.0
 * @category models
 */
export const SourceRecoveryReason = Schema.Literal(
  "history_pruned",
  "source_sequence_out_of_order",
  "source_sequence_changed",
  "source_retired"
)

/**
 * See {@link SourceRecoveryReason}.
 *
 * @since 0.1.0
 * @category models
 */
export type SourceRecoveryReason = typeof SourceRecoveryReason.Type

/**
 * The row an error is about. `key` is the local key JSON; messages never render it (errors.md §1.1).
 *
 * @since 0.1.0
 * @category models
 */
export const RowRef = Schema.Struct({
  schema: Schema.String,
  table: Schema.String,
  key: Schema.optional(Schema.String)
})

/**
 * See {@link RowRef}.
 *
 * @since 0.1.0
 * @category models
 */
export type RowRef = typeof RowRef.Type

/**
 * The public operation that is running in this fiber. Every error reports it, also when an inner step failed.
 *
 * @since 0.1.0
 * @category context
 */
export class CurrentOperation extends Context.Reference<CurrentOperation>()("oversqlite/CurrentOperation", {
  defaultValue: (): SyncOperation => "construct"
}) {}

/**
 * Fails with an error of the running operation.
 *
 * @since 0.1.0
 * @category constructors
 */
export const raise = <E>(make: (operation: SyncOperation) => E): Effect.Effect<never, E> =>
  Effect.flatMap(CurrentOperation, (operation) => Effect.fail(make(operation)))
