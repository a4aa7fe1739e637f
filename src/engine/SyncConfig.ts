/**
 * What a host may configure, and the configuration in normal form (client-state.md §3.1).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import type { ConflictResolver } from "../contract/ConflictResolution.js"
import { serverWins } from "../contract/ConflictResolution.js"
import type { BundleLimits } from "../protocol/Wire.js"
import { Limits } from "../protocol/Wire.js"
import type { RemoteOptions } from "../remote/SyncApi.js"
import type { SyncTableConfig } from "../storage/SyncTable.js"

/**
 * Options of a client. Only `schema` and `tables` are required; limits that are zero or negative take their default.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncOptions extends RemoteOptions {
  /** Schema name on the server, `[a-z0-9_]+`; one per database. */
  readonly schema: string
  /** The tables to synchronise; an empty list is legal. */
  readonly tables: ReadonlyArray<SyncTableConfig>
  /** Rows per uploaded chunk; default 1000. */
  readonly uploadLimit?: number | undefined
  /** Bundles per pulled page; default 1000. */
  readonly downloadLimit?: number | undefined
  /** Rows per page of the own committed bundle; default 1000. */
  readonly committedRowsLimit?: number | undefined
  /** Rows per snapshot chunk; default 1000. */
  readonly snapshotChunkRows?: number | undefined
  /** Rows handled by one statement of a batch; default 4096. */
  readonly applyRows?: number | undefined
  /** What a second operation does while one runs: `wait` in order of arrival (default), or `fail` at once. */
  readonly onBusy?: "wait" | "fail" | undefined
  /** Rows of tables that are not configured: `fail` (default) or `ignore` and count them. */
  readonly unknownTables?: "fail" | "ignore" | undefined
  /** Tables that left the configuration and whose pending rows may be dropped (capture.md §10). */
  readonly discardPendingOf?: ReadonlyArray<string> | undefined
  /** `full`: no commit is lost to a power cut; default: the driver's setting (DESIGN D13). */
  readonly synchronous?: "normal" | "full" | undefined
  /** Decides conflicts; default: the server wins. Replaceable at any time. */
  readonly resolver?: ConflictResolver | undefined
  /** Pause of the background work after a success, and its first pause after an error; default 1 s. */
  readonly backoffMin?: Duration.DurationInput | undefined
  /** Longest pause of the background work; default 60 s. */
  readonly backoffMax?: Duration.DurationInput | undefined
  /** Whether the background work listens to the server's change events; default `off`. */
  readonly bundleChangeWatchMode?: "off" | "auto" | undefined
  /** Pull interval while listening; default: `backoffMax`. */
  readonly watchFallbackInterval?: Duration.DurationInput | undefined
}

/**
 * Options in normal form.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncConfig {
  readonly uploadLimit: number
  readonly downloadLimit: number
  readonly committedRowsLimit: number
  readonly snapshotChunkRows: number
  readonly applyRows: number
  readonly onBusy: "wait" | "fail"
  readonly unknownTables: "fail" | "ignore"
  readonly resolver: ConflictResolver
  readonly backoffMin: Duration.Duration
  readonly backoffMax: Duration.Duration
  readonly bundleChangeWatchMode: "off" | "auto"
  readonly watchFallbackInterval: Duration.Duration
}

/**
 * Bytes of keys and payloads in one uploaded chunk, unless a single row has more: far below what servers take.
 *
 * @since 0.1.0
 * @category limits
 */
export const maxUploadBytes = 8 * 1024 * 1024

const positive = (value: number | undefined, fallback: number): number => {
  const whole = Math.floor(value ?? 0)
  return whole > 0 ? whole : fallback
}

const pause = (value: Duration.DurationInput | undefined, fallback: Duration.DurationInput): Duration.Duration => {
  const given = Duration.decode(value ?? 0)
  return Duration.greaterThan(given, Duration.zero) ? given : Duration.decode(fallback)
}

/**
 * Brings options into normal form.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: SyncOptions): SyncConfig => {
  const backoffMin = pause(options.backoffMin, "1 second")
  const backoffMax = Duration.max(pause(options.backoffMax, "60 seconds"), backoffMin)
  return {
    uploadLimit: positive(options.uploadLimit, 1000),
    downloadLimit: positive(options.downloadLimit, 1000),
    committedRowsLimit: positive(options.committedRowsLimit, 1000),
    snapshotChunkRows: positive(options.snapshotChunkRows, 1000),
    applyRows: positive(options.applyRows, 4096),
    onBusy: options.onBusy ?? "wait",
    unknownTables: options.unknownTables ?? "fail",
    resolver: options.resolver ?? serverWins,
    backoffMin,
    backoffMax,
    bundleChangeWatchMode: options.bundleChangeWatchMode ?? "off",
    watchFallbackInterval: pause(options.watchFallbackInterval, backoffMax)
  }
}

/**
 * Page sizes after the server's limits: those of the last attach of this instance, else the protocol's constants
 * (client-state.md §3.1).
 *
 * @since 0.1.0
 * @category getters
 */
export const pageSizes = (config: SyncConfig, advertised: BundleLimits | undefined) => {
  const cap = (configured: number, limit: number | undefined, constant: number) =>
    Math.min(configured, limit !== undefined && limit > 0 ? limit : constant)
  return {
    uploadRows: cap(config.uploadLimit, advertised?.max_rows_per_push_chunk, Limits.maxRowsPerPushChunk),
    bundles: cap(config.downloadLimit, advertised?.max_bundles_per_pull, Limits.maxBundlesPerPull),
    committedRows: cap(
      config.committedRowsLimit,
      advertised?.max_rows_per_committed_bundle_chunk,
      Limits.maxRowsPerCommittedBundleChunk
    ),
    snapshotRows: cap(
      config.snapshotChunkRows,
      advertised?.max_rows_per_snapshot_chunk,
      Limits.maxRowsPerSnapshotChunk
    )
  }
}
