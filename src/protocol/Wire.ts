/**
 * The envelopes of the protocol as schemas, members spelled exactly as on the wire (wire.md). An absent member and `null`
 * are the zero value of their type, unknown members are ignored (wire.md §1.4, §1.5); what the server omits when it is
 * zero is omitted on encoding too. The rules beyond shape are in `AnswerRules`.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Row from "./WireRow.js"

/**
 * The header that names the writer of a request (wire.md §1.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const SourceIdHeader = "Oversync-Source-ID"

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

// ------------------------------------------------------------------------------------------------------------------
// Building blocks
// ------------------------------------------------------------------------------------------------------------------

/** Always present on encoding; absent or null decodes to the zero value. */
const always = <A, I>(schema: Schema.Schema<A, I>, zero: () => A) =>
  Schema.optionalWith(schema, { default: zero, nullable: true })

/** As {@link always}, but absent on encoding while it has its zero value. */
const unlessZero = <A, I>(schema: Schema.Schema<A, I>, zero: () => A, isZero: (value: A) => boolean) =>
  Schema.optionalToRequired(Schema.NullOr(schema), Schema.typeSchema(schema), {
    decode: (given) => Option.getOrElse(Option.flatMapNullable(given, (value) => value), zero),
    encode: (value) => isZero(value) ? Option.none() : Option.some(value)
  })

const text = always(Schema.String, () => "")
const textUnlessBlank = unlessZero(Schema.String, () => "", (value) => value === "")
const integer = always(Row.Integer, () => 0)
const integerUnlessZero = unlessZero(Row.Integer, () => 0, (value) => value === 0)
const integer64 = always(Row.Integer64, () => 0)
const flag = always(Schema.Boolean, () => false)

const listUnlessEmpty = <A, I>(item: Schema.Schema<A, I>) =>
  unlessZero(Schema.Array(item), () => [], (value) => value.length === 0)

/** `null` is an empty object, and member names match without regard to case (wire.md §1.4). */
const request = <A, I>(schema: Schema.Schema<A, I>, known: ReadonlyArray<string>) => {
  const names = new Set(known)
  const isMembers = (value: unknown): value is Readonly<Record<string, unknown>> =>
    typeof value === "object" && value !== null && !Array.isArray(value)
  return Schema.declare<A, I, [typeof schema]>([schema], {
    decode: (inner) => (input, options) =>
      ParseResult.decodeUnknown(inner)(
        input === null ? {} : isMembers(input) ? Row.foldNames(input, names) : input,
        options
      ),
    encode: (inner) => (input, options) => ParseResult.encodeUnknown(inner)(input, options)
  })
}

// ------------------------------------------------------------------------------------------------------------------
// Rows
// ------------------------------------------------------------------------------------------------------------------

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

// ------------------------------------------------------------------------------------------------------------------
// Capabilities and connect
// ------------------------------------------------------------------------------------------------------------------

/**
 * A registered table; `sync_key_columns` has one lowercase name (wire.md §4.12).
 *
 * @category capabilities
 * @since 0.1.0
 */
export const RegisteredTable = Schema.Struct({
  schema: text,
  table: text,
  sync_key_columns: listUnlessEmpty(Schema.String)
})

/**
 * A registered table (wire.md §4.12).
 *
 * @category capabilities
 * @since 0.1.0
 */
export type RegisteredTable = typeof RegisteredTable.Type

/** Only what is a boolean is a feature; a server may say more about itself there. */
const Features = Schema.transform(
  Schema.Record({ key: Schema.String, value: Schema.Unknown }),
  Schema.Record({ key: Schema.String, value: Schema.Boolean }),
  {
    strict: true,
    decode: (given) => {
      const features: Record<string, boolean> = {}
      for (const [name, value] of Object.entries(given)) {
        if (typeof value === "boolean") features[name] = value
      }
      return features
    },
    encode: (features) => features
  }
)

/**
 * Limits a server announces; 0 where it says nothing (wire.md §4.12). Times are seconds.
 * `default_bytes_per_snapshot_chunk` is the mark of a later dialect (wire.md §11).
 *
 * @category capabilities
 * @since 0.1.0
 */
export const BundleLimits = Schema.Struct({
  max_rows_per_bundle: integerUnlessZero,
  max_bytes_per_bundle: integerUnlessZero,
  max_bundles_per_pull: integerUnlessZero,
  default_rows_per_push_chunk: integerUnlessZero,
  max_rows_per_push_chunk: integerUnlessZero,
  push_session_ttl_seconds: integerUnlessZero,
  default_rows_per_committed_bundle_chunk: integerUnlessZero,
  max_rows_per_committed_bundle_chunk: integerUnlessZero,
  default_rows_per_snapshot_chunk: integerUnlessZero,
  max_rows_per_snapshot_chunk: integerUnlessZero,
  snapshot_session_ttl_seconds: integerUnlessZero,
  max_rows_per_snapshot_session: integerUnlessZero,
  max_bytes_per_snapshot_session: integerUnlessZero,
  initialization_lease_ttl_seconds: integerUnlessZero,
  default_bytes_per_snapshot_chunk: integerUnlessZero
})

/**
 * Limits a server announces (wire.md §4.12).
 *
 * @category capabilities
 * @since 0.1.0
 */
export type BundleLimits = typeof BundleLimits.Type

const noLimits = Schema.decodeSync(BundleLimits)({})

/**
 * Answer of `GET /sync/capabilities` (wire.md §4.12); `history_id` is an extension of ours (wire.md §12), blank where
 * absent.
 *
 * @category capabilities
 * @since 0.1.0
 */
export const Capabilities = Schema.Struct({
  protocol_version: text,
  schema_version: integer,
  app_name: textUnlessBlank,
  registered_tables: listUnlessEmpty(Schema.String),
  registered_table_specs: listUnlessEmpty(RegisteredTable),
  features: always(Features, () => ({})),
  bundle_limits: always(BundleLimits, () => noLimits),
  history_id: textUnlessBlank
})

/**
 * Answer of `GET /sync/capabilities` (wire.md §4.12).
 *
 * @category capabilities
 * @since 0.1.0
 */
export type Capabilities = typeof Capabilities.Type

/**
 * Body of `POST /sync/connect` (wire.md §4.1).
 *
 * @category connect
 * @since 0.1.0
 */
export const ConnectRequest = request(Schema.Struct({ has_local_pending_rows: flag }), ["has_local_pending_rows"])

/**
 * Body of `POST /sync/connect` (wire.md §4.1).
 *
 * @category connect
 * @since 0.1.0
 */
export type ConnectRequest = typeof ConnectRequest.Type

/**
 * Answer of `POST /sync/connect` (wire.md §4.1). `resolution` is one of `remote_authoritative`, `initialize_local`,
 * `initialize_empty`, `retry_later`; the other members are zero where they do not apply.
 *
 * @category connect
 * @since 0.1.0
 */
export const ConnectResponse = Schema.Struct({
  resolution: text,
  initialization_id: textUnlessBlank,
  lease_expires_at: textUnlessBlank,
  retry_after_seconds: integerUnlessZero
})

/**
 * Answer of `POST /sync/connect` (wire.md §4.1).
 *
 * @category connect
 * @since 0.1.0
 */
export type ConnectResponse = typeof ConnectResponse.Type

// ------------------------------------------------------------------------------------------------------------------
// Push
// ------------------------------------------------------------------------------------------------------------------

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

// ------------------------------------------------------------------------------------------------------------------
// Pull and watch
// ------------------------------------------------------------------------------------------------------------------

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

// ------------------------------------------------------------------------------------------------------------------
// Snapshots
// ------------------------------------------------------------------------------------------------------------------

/**
 * Rotation asked for with a snapshot (wire.md §4.9). Unknown members are refused.
 *
 * @category snapshots
 * @since 0.1.0
 */
export const SourceReplacement = request(
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

// ------------------------------------------------------------------------------------------------------------------
// Health
// ------------------------------------------------------------------------------------------------------------------

/**
 * Body of `GET /syncx/health` and `GET /syncx/status` (wire.md §4.13).
 *
 * @category health
 * @since 0.1.0
 */
export const HealthDocument = Schema.Struct({
  status: text,
  version: text,
  app_name: text,
  lifecycle: text,
  accepting_operations: flag,
  inflight_operations: integer,
  registered_tables: always(Schema.Array(Schema.String), () => []),
  features: always(Features, () => ({})),
  user_state_retention_floor_ahead_count: integer,
  latest_bundle_seq_max: integer,
  retained_bundle_floor_min: integer,
  retained_bundle_floor_max: integer,
  retained_bundle_window_min: integer,
  retained_bundle_window_max: integer,
  history_pruned_error_count: integer,
  accepted_push_replay_count: integer,
  rejected_registered_write_count: integer,
  committed_bundle_count: integer,
  committed_bundle_bytes: integer
})

/**
 * Body of `GET /syncx/health` and `GET /syncx/status` (wire.md §4.13).
 *
 * @category health
 * @since 0.1.0
 */
export type HealthDocument = typeof HealthDocument.Type
