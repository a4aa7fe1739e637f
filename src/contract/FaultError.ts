/**
 * Faults: of the network, of the server's answers, of SQLite and of rows (errors.md §1.2, §1.5–1.7).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { answerInWords, fields, sentence, taggedError } from "./ErrorFields.js"
import type { SyncAction } from "./SyncOperation.js"
import { RowRef, SyncRequest } from "./SyncOperation.js"

/**
 * Rules a server's answer can break (errors.md §1.5).
 *
 * @since 0.1.0
 * @category models
 */
export const ProtocolRule = Schema.Literal(
  "invalid_json",
  "field_invalid",
  "echo_mismatch",
  "status_unknown",
  "resolution_unknown",
  "count_mismatch",
  "hash_mismatch",
  "ordinal_mismatch",
  "sequence_invalid",
  "ceiling_changed",
  "ended_early",
  "no_progress",
  "row_invalid",
  "hidden_column"
)

/**
 * See {@link ProtocolRule}.
 *
 * @since 0.1.0
 * @category models
 */
export type ProtocolRule = typeof ProtocolRule.Type

/**
 * Codes of {@link LocalDataError} (errors.md §1.7).
 *
 * @since 0.1.0
 * @category models
 */
export const LocalDataCode = Schema.Literal(
  "invalid_blob_uuid_key",
  "invalid_blob_uuid_reference",
  "key_not_text",
  "payload_undecodable",
  "blob_in_plain_column",
  "real_not_finite",
  "integer_out_of_range",
  "payload_column_mismatch",
  "payload_bad_wire_encoding",
  "payload_key_mismatch",
  "unknown_table",
  "schema_mismatch",
  "local_constraint"
)

/**
 * See {@link LocalDataCode}.
 *
 * @since 0.1.0
 * @category models
 */
export type LocalDataCode = typeof LocalDataCode.Type

/**
 * A request failed, or an answer that no other rule consumes (errors.md §1.6). `status` and `serverCode` are set for code `status`.
 *
 * @since 0.1.0
 * @category errors
 */
export class TransportError extends taggedError<TransportError>()(
  "TransportError",
  fields({
    code: Schema.Literal("connection", "timeout", "body_interrupted", "response_too_large", "credentials", "status"),
    request: SyncRequest,
    status: Schema.optional(Schema.Number),
    serverCode: Schema.optional(Schema.String),
    retryAfter: Schema.optional(Schema.DurationFromSelf),
    cause: Schema.optional(Schema.Defect)
  })
) {
  /** `retryAfter` in milliseconds, for callers without Effect. */
  get retryAfterMs(): number | undefined {
    return this.retryAfter === undefined ? undefined : Duration.toMillis(this.retryAfter)
  }
  get retryable(): boolean {
    return this.code === "status"
      ? [429, 500, 502, 503, 504].includes(this.status ?? 0)
      : this.code !== "response_too_large"
  }
  get action(): SyncAction {
    if (this.code === "credentials") return "reauthenticate"
    if (this.code === "response_too_large") return "report"
    if (this.retryable) return "retry_later"
    if (this.status === 401 || this.status === 403) return "reauthenticate"
    return this.serverCode === "scope_initializing" ? "push" : "report"
  }
  override get message(): string {
    return sentence(
      this,
      this.code === "status"
        ? `${this.request} was answered with status ${answerInWords(this.status ?? 0, this.serverCode ?? "")}`
        : `${this.request} failed (${this.code})`
    )
  }
}

/**
 * The retry policy gave up on a transient failure; `cause` is the last one (retry-and-loops.md §1).
 *
 * @since 0.1.0
 * @category errors
 */
export class RetryExhausted extends taggedError<RetryExhausted>()(
  "RetryExhausted",
  fields({ request: SyncRequest, attempts: Schema.Number, cause: TransportError })
) {
  readonly code = "retry_exhausted"
  readonly retryable = true
  readonly action: SyncAction = "retry_later"
  override get message(): string {
    return sentence(this, `${this.request} still failed after ${this.attempts} attempts (${this.cause.code})`)
  }
}

/**
 * An answer breaks a rule of the protocol. Nothing of that answer was applied.
 *
 * @since 0.1.0
 * @category errors
 */
export class ProtocolError extends taggedError<ProtocolError>()(
  "ProtocolError",
  fields({
    request: SyncRequest,
    rule: ProtocolRule,
    expected: Schema.optional(Schema.String),
    actual: Schema.optional(Schema.String),
    row: Schema.optional(RowRef)
  })
) {
  readonly code = "protocol_error"
  readonly retryable = false
  readonly action: SyncAction = "report"
  override get message(): string {
    return sentence(this, `the answer to ${this.request} breaks the protocol (${this.rule})`)
  }
}

/**
 * SQLite failed for a reason that is not the data's; the transaction was rolled back (errors.md §1.6).
 *
 * @since 0.1.0
 * @category errors
 */
export class StorageError extends taggedError<StorageError>()(
  "StorageError",
  fields({
    code: Schema.Literal("busy", "full", "read_only", "io", "corrupt", "other"),
    sqliteCode: Schema.optional(Schema.String),
    cause: Schema.Defect
  })
) {
  get retryable(): boolean {
    return this.code === "busy" || this.code === "full"
  }
  get action(): SyncAction {
    return this.code === "busy" ? "retry_later" : this.code === "full" ? "free_space" : "report"
  }
  override get message(): string {
    return sentence(this, `the database failed (${this.code})`)
  }
}

/**
 * A row cannot be encoded, decoded or stored; the transaction was rolled back (errors.md §1.7). `row` names it.
 *
 * @since 0.1.0
 * @category errors
 */
export class LocalDataError extends taggedError<LocalDataError>()(
  "LocalDataError",
  fields({
    code: LocalDataCode,
    row: RowRef,
    column: Schema.optional(Schema.String),
    cause: Schema.optional(Schema.Defect)
  })
) {
  readonly retryable = false
  get action(): SyncAction {
    return configurationCodes.has(this.code) ? "fix_configuration" : "fix_data"
  }
  override get message(): string {
    return sentence(this, rowProblem(this.code, this.row.table, this.column))
  }
}

const configurationCodes: ReadonlySet<LocalDataCode> = new Set([
  "payload_column_mismatch",
  "unknown_table",
  "schema_mismatch"
])

const rowProblem = (code: LocalDataCode, table: string, column: string | undefined): string => {
  const place = column === undefined ? `a row of ${table}` : `a row of ${table}, column ${column}`
  switch (code) {
    case "invalid_blob_uuid_key":
      return `invalid blob UUID pk in ${place}`
    case "payload_column_mismatch":
      return column === undefined
        ? `payload for ${table} must contain every table column`
        : `payload for ${table} is missing column ${column}`
    default:
      return `${place} cannot be used (${code})`
  }
}
