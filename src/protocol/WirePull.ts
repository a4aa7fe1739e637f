/**
 * Pull, watch and snapshots on the wire (wire.md §4.7–4.11).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { always, flag, folded, integer, integerUnlessZero, request, text, textUnlessBlank } from "./WireBlocks.js"
import * as Row from "./WireRow.js"

/**
 * Answer of `GET /sync/pull` (wire.md §4.7).
 *
 * @category pull
 * @since 0.1.0
 */
export const PullPage = Schema.Struct({
  stable_bundle_seq: integer,
  bundles: always(Row.BundlesSchema, () => []),
  has_more: flag,
  history_id: textUnlessBlank
})

/**
 * Answer of `GET /sync/pull` (wire.md §4.7).
 *
 * @category pull
 * @since 0.1.0
 */
export type PullPage = typeof PullPage.Type

/**
 * Data of a `bundle` event of `GET /sync/watch` (wire.md §4.8); the source is blank in a catch-up event.
 *
 * @category pull
 * @since 0.1.0
 */
export const ChangeEvent = Schema.Struct({
  bundle_seq: integer,
  source_id: textUnlessBlank,
  source_bundle_id: integerUnlessZero
})

/**
 * Data of a `bundle` event of `GET /sync/watch` (wire.md §4.8).
 *
 * @category pull
 * @since 0.1.0
 */
export type ChangeEvent = typeof ChangeEvent.Type

/**
 * Rotation asked for with a snapshot (wire.md §4.9). Unknown members are refused.
 *
 * @category snapshots
 * @since 0.1.0
 */
export const SourceReplacement = folded(
  Schema.Struct({ previous_source_id: text, new_source_id: text, reason: text })
    .annotations({ parseOptions: { onExcessProperty: "error" } }),
  ["previous_source_id", "new_source_id", "reason"]
)

/**
 * Rotation asked for with a snapshot (wire.md §4.9).
 *
 * @category snapshots
 * @since 0.1.0
 */
export type SourceReplacement = typeof SourceReplacement.Type

/**
 * Body of `POST /sync/snapshot-sessions` (wire.md §4.9): absent replacement for a keep-source snapshot. Unknown members
 * are refused.
 *
 * @category snapshots
 * @since 0.1.0
 */
export const SnapshotSessionRequest = request(
  Schema.Struct({ source_replacement: Schema.optionalWith(SourceReplacement, { exact: true, nullable: true }) })
    .annotations({ parseOptions: { onExcessProperty: "error" } }),
  ["source_replacement"]
)

/**
 * Body of `POST /sync/snapshot-sessions` (wire.md §4.9).
 *
 * @category snapshots
 * @since 0.1.0
 */
export type SnapshotSessionRequest = typeof SnapshotSessionRequest.Type

/**
 * Answer of `POST /sync/snapshot-sessions` (wire.md §4.9). `byte_count` is a figure of the server, not the transfer size.
 *
 * @category snapshots
 * @since 0.1.0
 */
export const SnapshotSession = Schema.Struct({
  snapshot_id: text,
  snapshot_bundle_seq: integer,
  row_count: integer,
  byte_count: integerUnlessZero,
  expires_at: text,
  history_id: textUnlessBlank
})

/**
 * Answer of `POST /sync/snapshot-sessions` (wire.md §4.9).
 *
 * @category snapshots
 * @since 0.1.0
 */
export type SnapshotSession = typeof SnapshotSession.Type

/**
 * Answer of `GET /sync/snapshot-sessions/{snapshot_id}` (wire.md §4.10). `next_row_ordinal` is the number of rows read
 * up to and including this chunk.
 *
 * @category snapshots
 * @since 0.1.0
 */
export const SnapshotChunk = Schema.Struct({
  snapshot_id: text,
  snapshot_bundle_seq: integer,
  rows: always(Row.SnapshotRowsSchema, () => []),
  next_row_ordinal: integer,
  has_more: flag
})

/**
 * Answer of `GET /sync/snapshot-sessions/{snapshot_id}` (wire.md §4.10).
 *
 * @category snapshots
 * @since 0.1.0
 */
export type SnapshotChunk = typeof SnapshotChunk.Type
