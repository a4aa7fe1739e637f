/**
 * Errors that ask the caller to recover, to correct data or to look at a resolver (errors.md §1.2).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import type { ConflictInput } from "./ConflictResolution.js"
import { answerInWords, fields, forLogs, sentence, taggedError } from "./ErrorFields.js"
import type { SyncAction } from "./SyncOperation.js"
import { RowRef, SourceRecoveryReason, SyncRequest } from "./SyncOperation.js"

/**
 * The rebuild gate is closed: incremental sync is impossible until `rebuild` has run (recovery.md §1).
 *
 * @since 0.1.0
 * @category errors
 */
export class RebuildRequired extends taggedError<RebuildRequired>()("RebuildRequired", fields({})) {
  readonly code = "rebuild_required"
  readonly retryable = false
  readonly action: SyncAction = "rebuild"
  override get message(): string {
    return sentence(this, "a rebuild is required")
  }
}

/**
 * This source cannot go on; `rebuild` gives this database a new one and keeps pending work (recovery.md §2).
 *
 * @since 0.1.0
 * @category errors
 */
export class SourceRecoveryRequired extends taggedError<SourceRecoveryRequired>()(
  "SourceRecoveryRequired",
  fields({ reason: SourceRecoveryReason, serverMessage: Schema.optional(Schema.String) })
) {
  readonly code = "source_recovery_required"
  readonly retryable = false
  readonly action: SyncAction = "rebuild"
  override get message(): string {
    return sentence(this, `this source cannot go on (${this.reason})`)
  }
}

/**
 * The server and this database disagree about the replacement source (recovery.md §5.4). The next `rebuild` gets past it.
 *
 * @since 0.1.0
 * @category errors
 */
export class SourceReplacementDiverged extends taggedError<SourceReplacementDiverged>()(
  "SourceReplacementDiverged",
  fields({
    reason: Schema.Literal("retired_elsewhere", "refused", "used_up"),
    localReplacement: Schema.String,
    remoteReplacement: Schema.optional(Schema.String)
  })
) {
  readonly code = "source_replacement_diverged"
  readonly retryable = false
  readonly action: SyncAction = "rebuild"
  override get message(): string {
    return sentence(this, `the reserved replacement source cannot be used (${this.reason})`)
  }
}

/**
 * A frozen upload must be finished first (pull.md §1, §5.1).
 *
 * @since 0.1.0
 * @category errors
 */
export class PendingPushReplay extends taggedError<PendingPushReplay>()(
  "PendingPushReplay",
  fields({ outboundCount: Schema.Number })
) {
  readonly code = "pending_push_replay"
  readonly retryable = false
  readonly action: SyncAction = "push"
  override get message(): string {
    return sentence(this, `an unfinished upload of ${this.outboundCount} rows comes first`)
  }
}

/**
 * Local changes must be pushed before remote ones are applied (pull.md §1, §4). Bundles applied before stay.
 *
 * @since 0.1.0
 * @category errors
 */
export class DirtyStateRejected extends taggedError<DirtyStateRejected>()(
  "DirtyStateRejected",
  fields({
    dirtyCount: Schema.Number,
    pushOutcome: Schema.optional(Schema.Literal("no_change", "committed", "skipped_paused"))
  })
) {
  readonly code = "dirty_state_rejected"
  readonly retryable = false
  readonly action: SyncAction = "push"
  override get message(): string {
    return sentence(this, `${this.dirtyCount} local changes come first`)
  }
}

/**
 * The lease of a seeding upload is gone; the rows are kept, the client is anonymous again (push.md §10).
 *
 * @since 0.1.0
 * @category errors
 */
export class InitializationLeaseLost extends taggedError<InitializationLeaseLost>()(
  "InitializationLeaseLost",
  fields({ reason: Schema.Literal("initialization_expired", "initialization_stale", "superseded") })
) {
  readonly code = "initialization_lease_lost"
  readonly retryable = false
  readonly action: SyncAction = "attach"
  override get message(): string {
    return sentence(this, `${this.reason}: reconnect required`)
  }
}

/**
 * The server has lost this account's data; every local row is pending again and the client is anonymous (recovery.md §2.4).
 *
 * @since 0.1.0
 * @category errors
 */
export class ScopeLost extends taggedError<ScopeLost>()(
  "ScopeLost",
  fields({ reason: Schema.Literal("scope_uninitialized", "scope_initializing"), requeuedRowCount: Schema.Number })
) {
  readonly code = "scope_lost"
  readonly retryable = false
  readonly action: SyncAction = "attach"
  override get message(): string {
    return sentence(
      this,
      `${this.reason}: the server has lost the account's data, ${this.requeuedRowCount} rows are pending again`
    )
  }
}

/**
 * The server refused the upload for its content; the rows are ordinary pending rows again (push.md §5.2). `rows` are those the server named.
 *
 * @since 0.1.0
 * @category errors
 */
export class UploadRefused extends taggedError<UploadRefused>()(
  "UploadRefused",
  fields({
    request: SyncRequest,
    status: Schema.Number,
    serverCode: Schema.String,
    rows: Schema.Array(RowRef)
  })
) {
  readonly code = "upload_refused"
  readonly retryable = false
  readonly action: SyncAction = "fix_data"
  override get message(): string {
    return sentence(
      this,
      `the server refused the upload (${this.request}, ${
        answerInWords(this.status, this.serverCode)
      }), ${this.rows.length} rows named`
    )
  }
}

/**
 * The server reported a conflict of a row that is not in the upload; the upload was thawed (conflicts.md §3).
 *
 * @since 0.1.0
 * @category errors
 */
export class PushConflictError extends taggedError<PushConflictError>()(
  "PushConflictError",
  fields({ row: RowRef })
) {
  readonly code = "push_conflict_unmatched"
  readonly retryable = true
  readonly action: SyncAction = "report"
  override get message(): string {
    return sentence(this, `a conflict names a row of ${this.row.table} that was not uploaded`)
  }
}

/**
 * The resolver failed or its answer is not allowed; every local intent is kept (conflicts.md §4).
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidConflictResolution extends taggedError<InvalidConflictResolution>()(
  "InvalidConflictResolution",
  fields({
    reason: Schema.Literal(
      "resolver_failed",
      "no_decision",
      "not_allowed",
      "payload_not_object",
      "payload_columns",
      "payload_key"
    ),
    conflict: Schema.declare((_: unknown): _ is ConflictInput => true),
    resolution: Schema.Unknown,
    cause: Schema.optional(Schema.Defect)
  })
) {
  readonly code = "invalid_conflict_resolution"
  readonly retryable = false
  readonly action: SyncAction = "fix_resolver"
  /** Without the rows of both sides and without what the resolver has answered. */
  override toJSON(): object {
    const { baseRowVersion, localOp, schema, server, table } = this.conflict
    return {
      ...forLogs(this),
      conflict: {
        schema,
        table,
        localOp,
        baseRowVersion,
        server: { shape: server.shape, rowVersion: server.rowVersion }
      },
      resolution: undefined
    }
  }
  override get message(): string {
    return sentence(this, `${resolutionProblem[this.reason]} (table ${this.conflict.table})`)
  }
}

/**
 * One row conflicted for the third time within one call; everything is pending, nothing is frozen (conflicts.md §7).
 *
 * @since 0.1.0
 * @category errors
 */
export class PushConflictRetryExhausted extends taggedError<PushConflictRetryExhausted>()(
  "PushConflictRetryExhausted",
  fields({ retryCount: Schema.Literal(2), remainingDirtyCount: Schema.Number })
) {
  readonly code = "push_conflict_retry_exhausted"
  readonly retryable = true
  readonly action: SyncAction = "retry_later"
  override get message(): string {
    return sentence(
      this,
      `conflicts went on after ${this.retryCount} retries, ${this.remainingDirtyCount} rows are pending`
    )
  }
}

const resolutionProblem = {
  resolver_failed: "the conflict resolver failed",
  no_decision: "the conflict resolver returned nil or an unsupported result",
  not_allowed: "the conflict resolver's decision is not allowed for this conflict",
  payload_not_object: "a merged resolution must provide a JSON object payload",
  payload_columns: "a merged resolution must include exactly every table column",
  payload_key: "a merged resolution must keep the key of the conflicting row"
} as const
