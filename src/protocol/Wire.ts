/**
 * The envelopes of the protocol as schemas, members spelled exactly as on the wire (wire.md). An absent member and `null`
 * are the zero value of their type, unknown members are ignored (wire.md §1.4, §1.5); what the server omits when it is
 * zero is omitted on encoding too. The rules beyond shape are in `AnswerRules`.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { always, flag, integer, integer64, text } from "./WireBlocks.js"
import * as Row from "./WireRow.js"

export * from "./WireCapabilities.js"
export * from "./WirePull.js"
export * from "./WirePush.js"

/**
 * The header that names the writer of a request (wire.md §1.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const SourceIdHeader = "Oversync-Source-ID"

/**
 * The header in which our server names the hash of the bundle that an answer builds on, an extension that needs no
 * negotiation: of the bundle at `after_bundle_seq` in a pull, of the one before in the rows of a committed bundle, of the
 * newest one in a snapshot session. Absent where that bundle is not stored, and from other servers. Whoever has seen that
 * bundle knows at once whether the server has gone back (recovery.md §2.2), whatever its history id says.
 *
 * @category constants
 * @since 0.1.0
 */
export const BaseBundleHashHeader = "Oversync-Base-Bundle-Hash"

/**
 * The protocol version of this dialect (wire.md §4.12).
 *
 * @category constants
 * @since 0.1.0
 */
export const protocolVersion = "v1"

/**
 * The name of the hidden ownership column, which must not occur in any payload (wire.md §2.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const hiddenColumn = "_sync_scope_id"

/**
 * Limits and lifetimes of the reference server (wire.md §4.12, §7). Rows and bundles are counts, times are seconds.
 *
 * @category constants
 * @since 0.1.0
 */
export const Limits = {
  /** More in `max_bundles` is refused. */
  maxBundlesPerPull: 5000,
  /** `max_bundles` where a pull does not say. */
  defaultBundlesPerPull: 1000,
  /** Advice to clients. */
  defaultRowsPerPushChunk: 1000,
  /** More rows in a chunk are refused. */
  maxRowsPerPushChunk: 5000,
  /** Refreshed by each accepted chunk. */
  pushSessionTtlSeconds: 900,
  /** `max_rows` where a request does not say. */
  defaultRowsPerCommittedBundleChunk: 1000,
  /** A larger `max_rows` is capped. */
  maxRowsPerCommittedBundleChunk: 5000,
  /** `max_rows` where a request does not say. */
  defaultRowsPerSnapshotChunk: 1000,
  /** A larger `max_rows` is capped. */
  maxRowsPerSnapshotChunk: 5000,
  /** Counted from creation, never refreshed. */
  snapshotSessionTtlSeconds: 900,
  /** Refreshed by connect, push create and each accepted chunk of the holder. */
  initializationLeaseTtlSeconds: 900,
  /** Pause between two heartbeats of a watch stream. */
  watchHeartbeatSeconds: 25,
  /** Bundles kept per scope. */
  retainedBundles: 10_000,
  /** Bundles that one commit may prune. */
  prunedBundlesPerCommit: 1000,
  /** Entries of `conflicts` in one refusal (wire.md §12). */
  maxConflicts: 1000
} as const

/**
 * The operations of a row (wire.md §2.3).
 *
 * @category rows
 * @since 0.1.0
 */
export const Op = Schema.Literal("INSERT", "UPDATE", "DELETE")

/**
 * The operations of a row (wire.md §2.3).
 *
 * @category rows
 * @since 0.1.0
 */
export type Op = typeof Op.Type

/**
 * A key on the wire (wire.md §2.1).
 *
 * @category rows
 * @since 0.1.0
 */
export const WireKey = Row.WireKeySchema

/**
 * A key on the wire (wire.md §2.1): one member, the lowercase key column, with its text.
 *
 * @category rows
 * @since 0.1.0
 */
export type WireKey = Row.WireKey

/**
 * A row of an upload (wire.md §2.2). A `null` payload stays `null`: for a DELETE only an absent one is right.
 *
 * @category rows
 * @since 0.1.0
 */
export const PushRequestRow = Row.PushRequestRowSchema

/**
 * A row of an upload (wire.md §2.2).
 *
 * @category rows
 * @since 0.1.0
 */
export type PushRequestRow = Row.PushRequestRow

/**
 * A row of a committed bundle (wire.md §2.3). A `null` payload is an absent one.
 *
 * @category rows
 * @since 0.1.0
 */
export const BundleRow = Row.BundleRowSchema

/**
 * A row of a committed bundle (wire.md §2.3).
 *
 * @category rows
 * @since 0.1.0
 */
export type BundleRow = Row.BundleRow

/**
 * A committed bundle as pull delivers it (wire.md §2.4).
 *
 * @category rows
 * @since 0.1.0
 */
export const Bundle = Row.BundleSchema

/**
 * A committed bundle as pull delivers it (wire.md §2.4).
 *
 * @category rows
 * @since 0.1.0
 */
export type Bundle = Row.Bundle

/**
 * A row of a snapshot (wire.md §2.6).
 *
 * @category rows
 * @since 0.1.0
 */
export const SnapshotRow = Row.SnapshotRowSchema

/**
 * A row of a snapshot (wire.md §2.6).
 *
 * @category rows
 * @since 0.1.0
 */
export type SnapshotRow = Row.SnapshotRow

/**
 * Why a row could not be uploaded (wire.md §2.5). `server_row` is `null` for a tombstone and for a row the server never
 * knew; the latter also has `server_row_version` 0.
 *
 * @category rows
 * @since 0.1.0
 */
export const ConflictDetails = Schema.Struct({
  schema: text,
  table: text,
  key: always(WireKey, () => ({})),
  op: text,
  base_row_version: integer64,
  server_row_version: integer,
  server_row_deleted: flag,
  server_row: Schema.optionalWith(Schema.Unknown, { default: () => null })
})

/**
 * Why a row could not be uploaded (wire.md §2.5).
 *
 * @category rows
 * @since 0.1.0
 */
export type ConflictDetails = typeof ConflictDetails.Type
