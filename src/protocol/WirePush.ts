/**
 * Push on the wire (wire.md §4.2–4.6).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { always, flag, integer, integer64, integerUnlessZero, request, text, textUnlessBlank } from "./WireBlocks.js"
import * as Row from "./WireRow.js"

/**
 * Body of `POST /sync/push-sessions` (wire.md §4.2); `initialization_id` is blank where the scope is initialized.
 *
 * @category push
 * @since 0.1.0
 */
export const PushSessionRequest = request(
  Schema.Struct({
    source_bundle_id: integer64,
    planned_row_count: integer64,
    initialization_id: textUnlessBlank
  }),
  ["source_bundle_id", "planned_row_count", "initialization_id"]
)

/**
 * Body of `POST /sync/push-sessions` (wire.md §4.2).
 *
 * @category push
 * @since 0.1.0
 */
export type PushSessionRequest = typeof PushSessionRequest.Type

/**
 * Answer of `POST /sync/push-sessions` in both its shapes, `staging` and `already_committed` (wire.md §4.2); members of
 * the other shape are zero.
 *
 * @category push
 * @since 0.1.0
 */
export const PushSessionResponse = Schema.Struct({
  push_id: textUnlessBlank,
  status: text,
  planned_row_count: integerUnlessZero,
  next_expected_row_ordinal: integerUnlessZero,
  bundle_seq: integerUnlessZero,
  source_id: textUnlessBlank,
  source_bundle_id: integerUnlessZero,
  row_count: integerUnlessZero,
  bundle_hash: textUnlessBlank
})

/**
 * Answer of `POST /sync/push-sessions` (wire.md §4.2).
 *
 * @category push
 * @since 0.1.0
 */
export type PushSessionResponse = typeof PushSessionResponse.Type

/**
 * Body of `POST /sync/push-sessions/{push_id}/chunks` (wire.md §4.3); the ordinal is 0-based.
 *
 * @category push
 * @since 0.1.0
 */
export const PushChunkRequest = request(
  Schema.Struct({ start_row_ordinal: integer64, rows: always(Row.PushRequestRowsSchema, () => []) }),
  ["start_row_ordinal", "rows"]
)

/**
 * Body of `POST /sync/push-sessions/{push_id}/chunks` (wire.md §4.3).
 *
 * @category push
 * @since 0.1.0
 */
export type PushChunkRequest = typeof PushChunkRequest.Type

/**
 * Answer of `POST /sync/push-sessions/{push_id}/chunks` (wire.md §4.3).
 *
 * @category push
 * @since 0.1.0
 */
export const PushChunkResponse = Schema.Struct({ push_id: text, next_expected_row_ordinal: integer })

/**
 * Answer of `POST /sync/push-sessions/{push_id}/chunks` (wire.md §4.3).
 *
 * @category push
 * @since 0.1.0
 */
export type PushChunkResponse = typeof PushChunkResponse.Type

/**
 * Answer of `POST /sync/push-sessions/{push_id}/commit` (wire.md §4.4).
 *
 * @category push
 * @since 0.1.0
 */
export const CommitResponse = Schema.Struct({
  bundle_seq: integer,
  source_id: text,
  source_bundle_id: integer,
  row_count: integer,
  bundle_hash: text
})

/**
 * Answer of `POST /sync/push-sessions/{push_id}/commit` (wire.md §4.4).
 *
 * @category push
 * @since 0.1.0
 */
export type CommitResponse = typeof CommitResponse.Type

/**
 * Answer of `GET /sync/committed-bundles/{bundle_seq}/rows` (wire.md §4.6). `row_count` is the bundle's total;
 * `next_row_ordinal` is 0-based, that of the last row of the page.
 *
 * @category push
 * @since 0.1.0
 */
export const CommittedRowsPage = Schema.Struct({
  ...CommitResponse.fields,
  rows: always(Row.BundleRowsSchema, () => []),
  next_row_ordinal: integer,
  has_more: flag
})

/**
 * Answer of `GET /sync/committed-bundles/{bundle_seq}/rows` (wire.md §4.6).
 *
 * @category push
 * @since 0.1.0
 */
export type CommittedRowsPage = typeof CommittedRowsPage.Type
