/**
 * Refusals on the wire: the error envelope, its codes and their status (wire.md §1.3, §6).
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { WireKey } from "./Wire.js"

/**
 * The status that goes with each error code (wire.md §6).
 *
 * @category codes
 * @since 0.1.0
 */
export const statusOf = {
  authentication_failed: 401,
  bundle_change_watch_disabled: 503,
  bundle_change_watch_failed: 500,
  bundle_change_watch_forbidden: 403,
  committed_bundle_chunk_invalid: 400,
  committed_bundle_not_found: 404,
  committed_bundle_rows_failed: 500,
  connect_failed: 500,
  connect_invalid: 400,
  health_failed: 500,
  history_pruned: 409,
  initialization_expired: 410,
  initialization_stale: 409,
  invalid_request: 400,
  method_not_allowed: 405,
  pull_failed: 500,
  push_chunk_failed: 500,
  push_chunk_invalid: 400,
  push_chunk_out_of_order: 409,
  push_commit_invalid: 400,
  push_conflict: 409,
  push_session_commit_failed: 500,
  push_session_create_failed: 500,
  push_session_delete_failed: 500,
  push_session_expired: 410,
  push_session_forbidden: 403,
  push_session_invalid: 400,
  push_session_not_found: 404,
  scope_initializing: 409,
  scope_uninitialized: 409,
  service_unavailable: 503,
  snapshot_chunk_failed: 500,
  snapshot_chunk_invalid: 400,
  snapshot_session_create_failed: 500,
  snapshot_session_delete_failed: 500,
  snapshot_session_expired: 410,
  snapshot_session_forbidden: 403,
  snapshot_session_invalid: 400,
  snapshot_session_not_found: 404,
  source_replacement_invalid: 409,
  source_retired: 409,
  source_sequence_changed: 409,
  source_sequence_out_of_order: 409,
  status_failed: 500
} as const

/**
 * An error code of the catalogue (wire.md §6).
 *
 * @category codes
 * @since 0.1.0
 */
export type WireErrorCode = keyof typeof statusOf

/**
 * Whether a text is an error code of the catalogue (wire.md §6).
 *
 * @category codes
 * @since 0.1.0
 */
export const isWireErrorCode = (code: string): code is WireErrorCode => Object.hasOwn(statusOf, code)

/**
 * A row that a server with the feature `named_refusals` could not store (wire.md §12).
 *
 * @category bodies
 * @since 0.1.0
 */
export const RefusedRow = Schema.Struct({
  schema: Schema.String,
  table: Schema.String,
  key: WireKey,
  reason: Schema.optionalWith(Schema.String, { default: () => "", nullable: true })
})

/**
 * A row that a server with the feature `named_refusals` could not store (wire.md §12).
 *
 * @category bodies
 * @since 0.1.0
 */
export type RefusedRow = typeof RefusedRow.Type

const optionalText = Schema.optionalWith(Schema.String, { exact: true, nullable: true })

/**
 * The error envelope (wire.md §1.3). `message` is free text of the server: not a contract, and it carries ids.
 *
 * The members of single codes are kept as they came, so that a malformed one does not hide the code: `conflict` and
 * `conflicts` (`push_conflict`) are checked by `AnswerRules.conflict`, `rows` by {@link refusedRows}. `source_id` and
 * `replaced_by_source_id` belong to `source_retired`.
 *
 * @category bodies
 * @since 0.1.0
 */
export const ErrorBody = Schema.Struct({
  error: Schema.String,
  message: Schema.optionalWith(Schema.String, { default: () => "", nullable: true }),
  conflict: Schema.optionalWith(Schema.Unknown, { exact: true }),
  conflicts: Schema.optionalWith(Schema.Unknown, { exact: true }),
  source_id: optionalText,
  replaced_by_source_id: optionalText,
  rows: Schema.optionalWith(Schema.Unknown, { exact: true })
})

/**
 * The error envelope (wire.md §1.3).
 *
 * @category bodies
 * @since 0.1.0
 */
export type ErrorBody = typeof ErrorBody.Type

const decodeRefusedRow = Schema.decodeUnknownOption(RefusedRow)

/**
 * The rows a refusal names (wire.md §12), those left out that are not of this shape.
 *
 * @category bodies
 * @since 0.1.0
 */
export const refusedRows = (body: ErrorBody): ReadonlyArray<RefusedRow> =>
  Array.isArray(body.rows) ? body.rows.flatMap((row) => Option.toArray(decodeRefusedRow(row))) : []
