/**
 * Capabilities, connect and health on the wire (wire.md §4.1, §4.12, §4.13).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import {
  always,
  flag,
  integer,
  integerUnlessZero,
  listUnlessEmpty,
  orNull,
  request,
  text,
  textUnlessBlank
} from "./WireBlocks.js"

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
  features: always(orNull(Features, () => ({})), () => ({})),
  bundle_limits: always(orNull(BundleLimits, () => noLimits), () => noLimits),
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
  registered_tables: always(orNull(Schema.Array(Schema.String), () => []), () => []),
  features: always(orNull(Features, () => ({})), () => ({})),
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
