/**
 * The singleton rows of the durable client state as typed reads and transitions (client-state.md §2).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { SourceRecoveryReason } from "../contract/SyncOperation.js"
import { SyncDatabase } from "./SyncDatabase.js"

/**
 * `_sync_attachment_state` (client-state.md §2.2).
 *
 * @since 0.1.0
 * @category models
 */
export interface Attachment {
  readonly sourceId: string
  readonly bindingState: "anonymous" | "attached"
  readonly userId: string
  readonly schema: string
  readonly checkpoint: number
  readonly rebuildRequired: boolean
  readonly initializationId: string
}

/**
 * `_sync_operation_state` (client-state.md §2.3).
 *
 * @since 0.1.0
 * @category models
 */
export type Operation =
  | { readonly kind: "none" }
  | {
    readonly kind: "remote_replace"
    readonly targetUserId: string
    readonly snapshotId: string
    readonly bundleSeq: number
    readonly rowCount: number
  }
  | { readonly kind: "source_recovery"; readonly reason: string; readonly replacementSourceId: string }

/**
 * `_sync_outbox_bundle` (client-state.md §2.7).
 *
 * @since 0.1.0
 * @category models
 */
export interface OutboxHeader {
  readonly state: "none" | "prepared" | "committed_remote"
  readonly sourceId: string
  readonly sourceBundleId: number
  readonly requestHash: string
  readonly rowCount: number
  readonly initializationId: string
  readonly remoteBundleHash: string
  readonly remoteBundleSeq: number
}

/**
 * A bundle of the server, as a database remembers it: number 0 for none, blank hash where none is known.
 *
 * @since 0.1.0
 * @category models
 */
export interface BundleMark {
  readonly seq: number
  readonly hash: string
}

/**
 * Everything the singletons say, as one consistent read, with the current source's counter.
 *
 * @since 0.1.0
 * @category models
 */
export interface DurableState {
  readonly attachment: Attachment
  readonly operation: Operation
  readonly outbox: OutboxHeader
  /** Replacement id left in the operation row whatever its kind (recovery.md §3). */
  readonly storedReplacement: string
  /** Whether a row of kind `none` carries left-over fields, which `open` blanks (client-state.md §2.3). */
  readonly operationLeftOver: boolean
  readonly source: { readonly known: boolean; readonly nextSourceBundleId: number; readonly ownerUserId: string }
  /** The bundle that moved the checkpoint last (client-state.md §2.12). */
  readonly newestBundle: BundleMark
  /** The newest own bundle that was replayed beyond the checkpoint; the checkpoint may have passed it since. */
  readonly ownBundle: BundleMark
  /** History id of the server that the checkpoint belongs to, blank if it has none (wire.md §12). */
  readonly historyId: string
  readonly rowsOfUserId: string
  /** Which `open` of the database was the last (client-state.md §5). */
  readonly engineEpoch: number
}

interface StateRow {
  readonly current_source_id: string
  readonly binding_state: string
  readonly attached_user_id: string
  readonly schema_name: string
  readonly last_bundle_seq_seen: number
  readonly rebuild_required: number
  readonly pending_initialization_id: string
  readonly kind: string
  readonly target_user_id: string
  readonly reason: string
  readonly replacement_source_id: string
  readonly staged_snapshot_id: string
  readonly snapshot_bundle_seq: number
  readonly snapshot_row_count: number
  readonly state: OutboxHeader["state"]
  readonly source_id: string
  readonly source_bundle_id: number
  readonly canonical_request_hash: string
  readonly row_count: number
  readonly initialization_id: string
  readonly remote_bundle_hash: string
  readonly remote_bundle_seq: number
  readonly newest_bundle_seq: number
  readonly newest_bundle_hash: string
  readonly own_bundle_seq: number
  readonly own_bundle_hash: string
  readonly history_id: string
  readonly rows_of_user_id: string
  readonly engine_epoch: number
  readonly next_source_bundle_id: number | null
  readonly owner_user_id: string | null
}

const operationOf = (row: StateRow): Operation => {
  switch (row.kind) {
    case "remote_replace":
      return {
        kind: "remote_replace",
        targetUserId: row.target_user_id,
        snapshotId: row.staged_snapshot_id,
        bundleSeq: row.snapshot_bundle_seq,
        rowCount: row.snapshot_row_count
      }
    case "source_recovery":
      return { kind: "source_recovery", reason: row.reason, replacementSourceId: row.replacement_source_id }
    default:
      return { kind: "none" }
  }
}

const stateColumns = `a.current_source_id, a.binding_state, a.attached_user_id, a.schema_name, a.last_bundle_seq_seen,
            a.rebuild_required, a.pending_initialization_id,
            o.kind, o.target_user_id, o.reason, o.replacement_source_id, o.staged_snapshot_id,
            o.snapshot_bundle_seq, o.snapshot_row_count,
            b.state, b.source_id, b.source_bundle_id, b.canonical_request_hash, b.row_count, b.initialization_id,
            b.remote_bundle_hash, b.remote_bundle_seq,
            e.newest_bundle_seq, e.newest_bundle_hash, e.own_bundle_seq, e.own_bundle_hash, e.history_id,
            e.rows_of_user_id, e.engine_epoch,
            s.next_source_bundle_id, s.owner_user_id`

const stateOf = (row: StateRow): DurableState => {
  const operation = operationOf(row)
  return {
    attachment: {
      sourceId: row.current_source_id,
      bindingState: row.binding_state === "attached" ? "attached" : "anonymous",
      userId: row.attached_user_id,
      schema: row.schema_name,
      checkpoint: row.last_bundle_seq_seen,
      rebuildRequired: row.rebuild_required === 1,
      initializationId: row.pending_initialization_id
    },
    operation,
    outbox: {
      state: row.state,
      sourceId: row.source_id,
      sourceBundleId: row.source_bundle_id,
      requestHash: row.canonical_request_hash,
      rowCount: row.row_count,
      initializationId: row.initialization_id,
      remoteBundleHash: row.remote_bundle_hash,
      remoteBundleSeq: row.remote_bundle_seq
    },
    storedReplacement: row.replacement_source_id,
    operationLeftOver: operation.kind === "none" &&
      (row.target_user_id !== "" || row.reason !== "" || row.replacement_source_id !== "" ||
        row.staged_snapshot_id !== "" || row.snapshot_bundle_seq !== 0 || row.snapshot_row_count !== 0),
    source: {
      known: row.next_source_bundle_id !== null,
      nextSourceBundleId: row.next_source_bundle_id ?? 1,
      ownerUserId: row.owner_user_id ?? ""
    },
    newestBundle: { seq: row.newest_bundle_seq, hash: row.newest_bundle_hash },
    ownBundle: { seq: row.own_bundle_seq, hash: row.own_bundle_hash },
    historyId: row.history_id,
    rowsOfUserId: row.rows_of_user_id,
    engineEpoch: row.engine_epoch
  }
}

/**
 * Reads all singletons, and whatever else the scalar expressions in `columns` say, in one statement: one consistent read
 * of the last committed state, or of the ambient transaction's. Members of the extra columns must not be named like
 * columns of the singletons.
 *
 * @since 0.1.0
 * @category reading
 */
export const readWith = Effect.fnUntraced(function*<Extra extends object>(
  columns: ReadonlyArray<string>
): Effect.fn.Return<{ readonly state: DurableState; readonly extra: Extra }, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const [row] = yield* db.all<StateRow & Extra>(
    `SELECT ${[...columns, stateColumns].join(", ")}
       FROM _sync_attachment_state AS a
       JOIN _sync_operation_state AS o ON o.singleton_key = 1
       JOIN _sync_outbox_bundle AS b ON b.singleton_key = 1
       JOIN _sync_engine_state AS e ON e.singleton_key = 1
       LEFT JOIN _sync_source_state AS s ON s.source_id = a.current_source_id
      WHERE a.singleton_key = 1`
  )
  if (row === undefined) return yield* Effect.dieMessage("the singleton rows of the sync state are missing")
  return { state: stateOf(row), extra: row }
})

/**
 * Reads all singletons in one statement. Joins the ambient transaction.
 *
 * @since 0.1.0
 * @category reading
 */
export const read: Effect.Effect<DurableState, SqlError, SyncDatabase> = Effect.map(
  readWith([]),
  ({ state }) => state
)

const assignments = (values: Readonly<Record<string, string | number>>): string =>
  Object.keys(values).map((column) => `${column} = ?`).join(", ")

const setSingleton = (table: string, values: Readonly<Record<string, string | number>>) =>
  Effect.flatMap(
    SyncDatabase,
    (db) => db.all(`UPDATE ${table} SET ${assignments(values)} WHERE singleton_key = 1`, Object.values(values))
  ).pipe(
    Effect.asVoid
  )

const attachmentColumns = {
  sourceId: "current_source_id",
  bindingState: "binding_state",
  userId: "attached_user_id",
  schema: "schema_name",
  checkpoint: "last_bundle_seq_seen",
  rebuildRequired: "rebuild_required",
  initializationId: "pending_initialization_id"
} as const

/**
 * Changes the named fields of the attachment.
 *
 * @since 0.1.0
 * @category writing
 */
export const setAttachment = (changes: Partial<Attachment>): Effect.Effect<void, SqlError, SyncDatabase> => {
  const values: Record<string, string | number> = {}
  for (const [field, column] of Object.entries(attachmentColumns)) {
    const value = changes[field as keyof Attachment]
    if (value !== undefined) values[column] = typeof value === "boolean" ? Number(value) : value
  }
  return setSingleton("_sync_attachment_state", values)
}

/**
 * Replaces the operation row; fields of other kinds become blank (client-state.md §2.3).
 *
 * @since 0.1.0
 * @category writing
 */
export const setOperation = (operation: Operation): Effect.Effect<void, SqlError, SyncDatabase> =>
  setSingleton("_sync_operation_state", {
    kind: operation.kind,
    target_user_id: operation.kind === "remote_replace" ? operation.targetUserId : "",
    reason: operation.kind === "source_recovery" ? operation.reason : "",
    replacement_source_id: operation.kind === "source_recovery" ? operation.replacementSourceId : "",
    staged_snapshot_id: operation.kind === "remote_replace" ? operation.snapshotId : "",
    snapshot_bundle_seq: operation.kind === "remote_replace" ? operation.bundleSeq : 0,
    snapshot_row_count: operation.kind === "remote_replace" ? operation.rowCount : 0
  })

const noOutbox: OutboxHeader = {
  state: "none",
  sourceId: "",
  sourceBundleId: 0,
  requestHash: "",
  rowCount: 0,
  initializationId: "",
  remoteBundleHash: "",
  remoteBundleSeq: 0
}

/**
 * Replaces the header of the outbox; without an argument it becomes `none` (client-state.md §2.7).
 *
 * @since 0.1.0
 * @category writing
 */
export const setOutboxHeader = (header: OutboxHeader = noOutbox): Effect.Effect<void, SqlError, SyncDatabase> =>
  setSingleton("_sync_outbox_bundle", {
    state: header.state,
    source_id: header.sourceId,
    source_bundle_id: header.sourceBundleId,
    canonical_request_hash: header.requestHash,
    row_count: header.rowCount,
    initialization_id: header.initializationId,
    remote_bundle_hash: header.remoteBundleHash,
    remote_bundle_seq: header.remoteBundleSeq
  })

/**
 * Moves the checkpoint to a bundle that was applied, and remembers its hash (client-state.md §2.12).
 *
 * @since 0.1.0
 * @category writing
 */
export const advance = (bundle: BundleMark): Effect.Effect<void, SqlError, SyncDatabase> =>
  Effect.zipRight(
    setAttachment({ checkpoint: bundle.seq }),
    setSingleton("_sync_engine_state", { newest_bundle_seq: bundle.seq, newest_bundle_hash: bundle.hash })
  )

/**
 * Remembers an own bundle that was replayed beyond the checkpoint.
 *
 * @since 0.1.0
 * @category writing
 */
export const setOwnBundle = (bundle: BundleMark): Effect.Effect<void, SqlError, SyncDatabase> =>
  setSingleton("_sync_engine_state", { own_bundle_seq: bundle.seq, own_bundle_hash: bundle.hash })

/**
 * Puts the checkpoint where a snapshot was taken, or to the beginning, and forgets what was known of bundles before.
 * Blank `historyId`: the server's history is unknown.
 *
 * @since 0.1.0
 * @category writing
 */
export const beginHistory = (
  historyId: string,
  bundle: BundleMark = { seq: 0, hash: "" }
): Effect.Effect<void, SqlError, SyncDatabase> =>
  Effect.zipRight(
    setAttachment({ checkpoint: bundle.seq, rebuildRequired: false }),
    setSingleton("_sync_engine_state", {
      newest_bundle_seq: bundle.seq,
      newest_bundle_hash: bundle.hash,
      own_bundle_seq: 0,
      own_bundle_hash: "",
      history_id: historyId
    })
  )

/**
 * Remembers to which history of the server the checkpoint belongs; blank: unknown.
 *
 * @since 0.1.0
 * @category writing
 */
export const setHistoryId = (historyId: string): Effect.Effect<void, SqlError, SyncDatabase> =>
  setSingleton("_sync_engine_state", { history_id: historyId })

/**
 * Remembers whose rows are in the tables while nobody is attached (lifecycle.md §9).
 *
 * @since 0.1.0
 * @category writing
 */
export const setRowsOfUser = (userId: string): Effect.Effect<void, SqlError, SyncDatabase> =>
  setSingleton("_sync_engine_state", { rows_of_user_id: userId })

/**
 * The stored recovery reason as one of the four codes; an unknown one counts as `history_pruned` (recovery.md §9.1).
 *
 * @since 0.1.0
 * @category getters
 */
export const recoveryReason = (stored: string): SourceRecoveryReason => {
  switch (stored) {
    case "source_sequence_out_of_order":
    case "source_sequence_changed":
    case "source_retired":
      return stored
    default:
      return "history_pruned"
  }
}
