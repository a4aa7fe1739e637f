/**
 * Errors of construction, ownership, preconditions and attach (errors.md §1.2).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { fields, sentence, taggedError } from "./ErrorFields.js"
import type { SyncAction } from "./SyncOperation.js"
import { SyncOperation } from "./SyncOperation.js"

/**
 * Codes of {@link ConfigurationError} (errors.md §1.4); their conditions are in capture.md §2, §10 and
 * client-state.md §3, §4.
 *
 * @since 0.1.0
 * @category models
 */
export const ConfigurationCode = Schema.Literal(
  "schema_missing",
  "schema_invalid",
  "schema_scope_mismatch",
  "base_url_invalid",
  "pragma_failed",
  "sqlite_unsupported",
  "table_name_missing",
  "table_name_qualified",
  "table_duplicate",
  "key_missing",
  "key_not_single",
  "table_unreadable",
  "key_column_missing",
  "key_not_primary",
  "key_composite_primary",
  "key_type_unsupported",
  "key_changed",
  "column_generated",
  "column_reserved",
  "identifier_invalid",
  "foreign_key_composite",
  "foreign_key_not_closed",
  "removed_table_pending",
  "trigger_failed"
)

/**
 * See {@link ConfigurationCode}.
 *
 * @since 0.1.0
 * @category models
 */
export type ConfigurationCode = typeof ConfigurationCode.Type

/**
 * The configuration does not fit the database or is not usable. Nothing was changed; `code` says which check failed.
 *
 * @since 0.1.0
 * @category errors
 */
export class ConfigurationError extends taggedError<ConfigurationError>()(
  "ConfigurationError",
  fields({
    code: ConfigurationCode,
    table: Schema.optional(Schema.String),
    column: Schema.optional(Schema.String),
    detail: Schema.String
  })
) {
  readonly retryable = false
  readonly action: SyncAction = "fix_configuration"
  override get message(): string {
    return sentence(this, this.detail)
  }
}

/**
 * Another live client of this process owns the same database (client-state.md §5). Close it first.
 *
 * @since 0.1.0
 * @category errors
 */
export class DatabaseAlreadyOwned extends taggedError<DatabaseAlreadyOwned>()(
  "DatabaseAlreadyOwned",
  fields({ database: Schema.String })
) {
  readonly code = "database_already_owned"
  readonly retryable = true
  readonly action: SyncAction = "new_client"
  override get message(): string {
    return sentence(this, "another client of this process owns the database")
  }
}

/**
 * A younger client has opened the database since this one did (client-state.md §5). Nothing was changed; `open` takes it back.
 *
 * @since 0.1.0
 * @category errors
 */
export class DatabaseTakenOver extends taggedError<DatabaseTakenOver>()("DatabaseTakenOver", fields({})) {
  readonly code = "database_taken_over"
  readonly retryable = false
  readonly action: SyncAction = "open"
  override get message(): string {
    return sentence(this, "a younger client has opened the database")
  }
}

/**
 * The client was closed, or the sync state uninstalled. A new client is needed.
 *
 * @since 0.1.0
 * @category errors
 */
export class ClientClosed extends taggedError<ClientClosed>()("ClientClosed", fields({})) {
  readonly code = "client_closed"
  readonly retryable = false
  readonly action: SyncAction = "new_client"
  override get message(): string {
    return sentence(this, "the client is closed")
  }
}

/**
 * An argument cannot be used: a blank user id, or an operation started inside an open transaction of the same client.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidArgumentError extends taggedError<InvalidArgumentError>()(
  "InvalidArgumentError",
  fields({ argument: Schema.Literal("userId", "transaction") })
) {
  readonly code = "invalid_argument"
  readonly retryable = false
  readonly action: SyncAction = "fix_argument"
  override get message(): string {
    return sentence(
      this,
      this.argument === "userId" ? "the user id is blank" : "the operation was started inside an open transaction"
    )
  }
}

/**
 * `open` has not succeeded on this client instance.
 *
 * @since 0.1.0
 * @category errors
 */
export class OpenRequired extends taggedError<OpenRequired>()("OpenRequired", fields({})) {
  readonly code = "open_required"
  readonly retryable = false
  readonly action: SyncAction = "open"
  override get message(): string {
    return sentence(this, "the database is not opened by this client")
  }
}

/**
 * No user is attached (`anonymous`), this session is not connected (`not_connected`), or the durable binding is another one than this client remembers (`binding_changed`).
 *
 * @since 0.1.0
 * @category errors
 */
export class AttachRequired extends taggedError<AttachRequired>()(
  "AttachRequired",
  fields({ reason: Schema.Literal("anonymous", "not_connected", "binding_changed") })
) {
  readonly code = "attach_required"
  readonly retryable = false
  readonly action: SyncAction = "attach"
  override get message(): string {
    return sentence(this, `no attached session (${this.reason})`)
  }
}

/**
 * An unfinished remote replace stands in the way; `attach` finishes it, `detach` cancels it (recovery.md §6.4).
 *
 * @since 0.1.0
 * @category errors
 */
export class DestructiveTransitionInProgress extends taggedError<DestructiveTransitionInProgress>()(
  "DestructiveTransitionInProgress",
  fields({ transitionKind: Schema.Literal("remote_replace") })
) {
  readonly code = "destructive_transition_in_progress"
  readonly retryable = false
  readonly action: SyncAction = "attach"
  override get message(): string {
    return sentence(this, "an unfinished remote replace is in the way")
  }
}

/**
 * Another operation of this client runs and the client is configured not to wait (`onBusy: "fail"`).
 *
 * @since 0.1.0
 * @category errors
 */
export class SyncOperationInProgress extends taggedError<SyncOperationInProgress>()(
  "SyncOperationInProgress",
  fields({ runningOperation: SyncOperation })
) {
  readonly code = "sync_operation_in_progress"
  readonly retryable = true
  readonly action: SyncAction = "retry_later"
  override get message(): string {
    return sentence(this, `${this.runningOperation} is running`)
  }
}

/**
 * The server does not speak the connect lifecycle of this protocol (lifecycle.md §4.2).
 *
 * @since 0.1.0
 * @category errors
 */
export class AttachLifecycleUnsupported extends taggedError<AttachLifecycleUnsupported>()(
  "AttachLifecycleUnsupported",
  fields({
    reason: Schema.Literal(
      "capabilities_endpoint_missing",
      "connect_endpoint_missing",
      "capabilities_invalid",
      "connect_lifecycle_absent",
      "protocol_version_unsupported"
    ),
    serverVersion: Schema.optional(Schema.String)
  })
) {
  readonly code = "attach_lifecycle_unsupported"
  readonly retryable = false
  readonly action: SyncAction = "upgrade_server"
  override get message(): string {
    return sentence(this, `the server does not support this client (${this.reason})`)
  }
}

/**
 * A configured table is missing on the server or has another key column there (lifecycle.md §4.2).
 *
 * @since 0.1.0
 * @category errors
 */
export class TableContractMismatch extends taggedError<TableContractMismatch>()(
  "TableContractMismatch",
  fields({
    clientOnly: Schema.Array(Schema.String),
    keyMismatches: Schema.Array(
      Schema.Struct({ table: Schema.String, clientKey: Schema.String, serverKey: Schema.String })
    ),
    serverOnly: Schema.Array(Schema.String)
  })
) {
  readonly code = "table_contract_mismatch"
  readonly retryable = false
  readonly action: SyncAction = "fix_configuration"
  override get message(): string {
    return sentence(
      this,
      `the server's tables differ: missing there [${this.clientOnly.join(", ")}], other key [${
        this.keyMismatches.map((mismatch) => mismatch.table).join(", ")
      }]`
    )
  }
}

/**
 * The database is attached to another user. Detach first.
 *
 * @since 0.1.0
 * @category errors
 */
export class AttachBindingConflict extends taggedError<AttachBindingConflict>()(
  "AttachBindingConflict",
  fields({ attachedUserId: Schema.String, requestedUserId: Schema.String })
) {
  readonly code = "attach_binding_conflict"
  readonly retryable = false
  readonly action: SyncAction = "detach"
  override get message(): string {
    return sentence(this, "the database is attached to another user")
  }
}

/**
 * The local state belongs to another attach: an unfinished replace for another user, rows left by another user, or a binding that changed meanwhile (lifecycle.md §4, §9).
 *
 * @since 0.1.0
 * @category errors
 */
export class AttachLocalStateConflict extends taggedError<AttachLocalStateConflict>()(
  "AttachLocalStateConflict",
  fields({
    reason: Schema.Literal("remote_replace_for_other_user", "rows_of_other_user", "binding_changed"),
    pendingUserId: Schema.optional(Schema.String)
  })
) {
  readonly code = "attach_local_state_conflict"
  readonly retryable = false
  get action(): SyncAction {
    return this.reason === "rows_of_other_user" ? "choose_local_rows" : "detach"
  }
  override get message(): string {
    return sentence(this, `the local state belongs to another attach (${this.reason})`)
  }
}

/**
 * The account has data on the server, rows are pending here, and `localRows` is `refuse` (lifecycle.md §5). Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class LocalRowsPending extends taggedError<LocalRowsPending>()(
  "LocalRowsPending",
  fields({ pendingRowCount: Schema.Number })
) {
  readonly code = "local_rows_pending"
  readonly retryable = false
  readonly action: SyncAction = "choose_local_rows"
  override get message(): string {
    return sentence(this, `${this.pendingRowCount} local rows are pending and the account has data of its own`)
  }
}

/**
 * The credentials are another user's (lifecycle.md §4.5). No request was sent.
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialsMismatch extends taggedError<CredentialsMismatch>()(
  "CredentialsMismatch",
  fields({ attachedUserId: Schema.String, credentialsUserId: Schema.String })
) {
  readonly code = "credentials_mismatch"
  readonly retryable = false
  readonly action: SyncAction = "reauthenticate"
  override get message(): string {
    return sentence(this, "the credentials are another user's")
  }
}
