/**
 * What the server says about itself (wire.md §4.12, §4.13).
 *
 * @since 0.1.0
 */
import type { Capabilities, HealthDocument } from "../protocol/Wire.js"
import { Limits, protocolVersion } from "../protocol/Wire.js"
import type { Activity } from "./Lifecycle.js"
import type { ServerSettings } from "./ServerSettings.js"
import type { Statistics } from "./ServerStorage.js"
import type { ServerTables } from "./TableDeclaration.js"

/**
 * The features of the server, our extensions included (wire.md §12).
 *
 * @since 0.1.0
 * @category documents
 */
export const features = (watch: boolean): Capabilities["features"] => ({
  accepted_push_replay_visibility: true,
  batch_conflicts: true,
  bundle_change_watch: watch,
  bundle_pull: true,
  bundle_push: true,
  capabilities_endpoint: true,
  committed_bundle_row_fetch: true,
  committed_bundle_visibility: true,
  connect_lifecycle: true,
  exact_integers: true,
  graceful_shutdown: true,
  history_id: true,
  history_pruned_errors: true,
  history_pruned_visibility: true,
  named_refusals: true,
  push_session_chunking: true,
  registered_write_rejection_enforced: true,
  retained_floor_visibility: true,
  retained_window_visibility: true,
  scope_initialization_leases: true,
  server_checkpoint_tracking: false,
  snapshot_chunking: true,
  status_endpoint: true,
  structured_sync_keys: true
})

const seconds = (millis: number) => Math.floor(millis / 1000)

/**
 * The capability document of an actor.
 *
 * @since 0.1.0
 * @category documents
 */
export const capabilities = (
  settings: ServerSettings,
  tables: ServerTables,
  actor: { readonly watch: boolean; readonly historyId: string }
): Capabilities => ({
  protocol_version: protocolVersion,
  schema_version: settings.schemaVersion,
  app_name: settings.appName,
  registered_tables: Array.from(tables.keys()),
  registered_table_specs: Array.from(tables.values(), (table) => ({
    schema: table.schema,
    table: table.table,
    sync_key_columns: [table.key.column]
  })),
  features: features(actor.watch),
  bundle_limits: {
    max_rows_per_bundle: settings.maxRowsPerBundle,
    max_bytes_per_bundle: settings.maxBytesPerBundle,
    max_bundles_per_pull: Limits.maxBundlesPerPull,
    default_rows_per_push_chunk: settings.defaultRowsPerPushChunk,
    max_rows_per_push_chunk: settings.maxRowsPerPushChunk,
    push_session_ttl_seconds: seconds(settings.pushSessionTtl),
    default_rows_per_committed_bundle_chunk: settings.defaultRowsPerCommittedBundleChunk,
    max_rows_per_committed_bundle_chunk: settings.maxRowsPerCommittedBundleChunk,
    default_rows_per_snapshot_chunk: settings.defaultRowsPerSnapshotChunk,
    max_rows_per_snapshot_chunk: settings.maxRowsPerSnapshotChunk,
    snapshot_session_ttl_seconds: seconds(settings.snapshotSessionTtl),
    max_rows_per_snapshot_session: settings.maxRowsPerSnapshotSession,
    max_bytes_per_snapshot_session: settings.maxBytesPerSnapshotSession,
    initialization_lease_ttl_seconds: seconds(settings.initializationLeaseTtl),
    default_bytes_per_snapshot_chunk: 0
  },
  history_id: actor.historyId
})

/**
 * The health and status document.
 *
 * @since 0.1.0
 * @category documents
 */
export const health = (
  settings: ServerSettings,
  tables: ServerTables,
  activity: Activity,
  statistics: Statistics
): HealthDocument => ({
  status: activity.lifecycle === "running" ? "healthy" : "unhealthy",
  version: protocolVersion,
  app_name: settings.appName,
  lifecycle: activity.lifecycle,
  accepting_operations: activity.lifecycle === "running",
  inflight_operations: activity.inflight,
  registered_tables: Array.from(tables.keys()),
  features: features(settings.watch.enabled),
  user_state_retention_floor_ahead_count: 0,
  latest_bundle_seq_max: statistics.latestBundleSeqMax,
  retained_bundle_floor_min: statistics.retainedFloorMin,
  retained_bundle_floor_max: statistics.retainedFloorMax,
  retained_bundle_window_min: statistics.retainedWindowMin,
  retained_bundle_window_max: statistics.retainedWindowMax,
  history_pruned_error_count: statistics.historyPrunedErrors,
  accepted_push_replay_count: 0,
  rejected_registered_write_count: 0,
  committed_bundle_count: statistics.committedBundles,
  committed_bundle_bytes: statistics.committedBytes
})
