/**
 * What can be set on a server: names, limits, lifetimes (wire.md §4.12, §7).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Limits } from "../protocol/Wire.js"
import type { Actor } from "./Actor.js"

/**
 * Options of a server. A number or duration that is not positive means its default.
 *
 * @since 0.1.0
 * @category options
 */
export interface ServerOptions {
  /** Name in capabilities and health; none by default. */
  readonly appName?: string | undefined
  /** `schema_version` in capabilities; default 1. */
  readonly schemaVersion?: number | undefined
  /** Largest request body in bytes; default 64 MiB. A larger one is answered 413. */
  readonly maxRequestBytes?: number | undefined
  /** Advice to clients; default 1000. */
  readonly defaultRowsPerPushChunk?: number | undefined
  /** More rows in a chunk are refused; default 5000. */
  readonly maxRowsPerPushChunk?: number | undefined
  /** Rows of a page of committed rows where the request does not say; default 1000. */
  readonly defaultRowsPerCommittedBundleChunk?: number | undefined
  /** Most rows of a page of committed rows; default 5000. */
  readonly maxRowsPerCommittedBundleChunk?: number | undefined
  /** Rows of a page of a snapshot where the request does not say; default 1000. */
  readonly defaultRowsPerSnapshotChunk?: number | undefined
  /** Most rows of a page of a snapshot; default 5000. */
  readonly maxRowsPerSnapshotChunk?: number | undefined
  /** Advertised only; default none. */
  readonly maxRowsPerBundle?: number | undefined
  /** Advertised only; default none. */
  readonly maxBytesPerBundle?: number | undefined
  /** Most rows of a snapshot; default unlimited. */
  readonly maxRowsPerSnapshotSession?: number | undefined
  /** Most bytes of payload text of a snapshot; default unlimited. */
  readonly maxBytesPerSnapshotSession?: number | undefined
  /** Life of a push session since its last accepted chunk; default 15 minutes. */
  readonly pushSessionTtl?: Duration.DurationInput | undefined
  /** Life of a snapshot session; default 15 minutes. */
  readonly snapshotSessionTtl?: Duration.DurationInput | undefined
  /** Life of an initialization lease since its last renewal; default 15 minutes. */
  readonly initializationLeaseTtl?: Duration.DurationInput | undefined
  /** Bundles kept per scope; default 10 000. */
  readonly retainedBundles?: number | undefined
  /** Bundles that one commit prunes at most; default 1000. */
  readonly prunedBundlesPerCommit?: number | undefined
  /** The event stream of commits; on by default. */
  readonly watch?: WatchOptions | undefined
}

/**
 * Options of `GET /sync/watch`.
 *
 * @since 0.1.0
 * @category options
 */
export interface WatchOptions {
  /** Default true. */
  readonly enabled?: boolean | undefined
  /** Pause between two heartbeats; default 25 seconds. */
  readonly heartbeat?: Duration.DurationInput | undefined
  /** Whether an actor may watch; everybody may by default. */
  readonly allow?: ((actor: Actor) => Effect.Effect<boolean>) | undefined
}

/**
 * Options with every default filled in. Durations are milliseconds; a limit of 0 is none.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerSettings {
  readonly appName: string
  readonly schemaVersion: number
  readonly maxRequestBytes: number
  readonly defaultRowsPerPushChunk: number
  readonly maxRowsPerPushChunk: number
  readonly defaultRowsPerCommittedBundleChunk: number
  readonly maxRowsPerCommittedBundleChunk: number
  readonly defaultRowsPerSnapshotChunk: number
  readonly maxRowsPerSnapshotChunk: number
  readonly maxRowsPerBundle: number
  readonly maxBytesPerBundle: number
  readonly maxRowsPerSnapshotSession: number
  readonly maxBytesPerSnapshotSession: number
  readonly pushSessionTtl: number
  readonly snapshotSessionTtl: number
  readonly initializationLeaseTtl: number
  readonly retainedBundles: number
  readonly prunedBundlesPerCommit: number
  readonly watch: {
    readonly enabled: boolean
    readonly heartbeat: number
    readonly allow: (actor: Actor) => Effect.Effect<boolean>
  }
}

const count = (given: number | undefined, byDefault: number): number =>
  given === undefined || given <= 0 ? byDefault : Math.floor(given)

const millis = (given: Duration.DurationInput | undefined, byDefaultSeconds: number): number =>
  count(given === undefined ? undefined : Duration.toMillis(given), byDefaultSeconds * 1000)

/**
 * Fills in the defaults.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: ServerOptions): ServerSettings => ({
  appName: options.appName ?? "",
  schemaVersion: options.schemaVersion ?? 1,
  maxRequestBytes: count(options.maxRequestBytes, 64 * 1024 * 1024),
  defaultRowsPerPushChunk: count(options.defaultRowsPerPushChunk, Limits.defaultRowsPerPushChunk),
  maxRowsPerPushChunk: count(options.maxRowsPerPushChunk, Limits.maxRowsPerPushChunk),
  defaultRowsPerCommittedBundleChunk: count(
    options.defaultRowsPerCommittedBundleChunk,
    Limits.defaultRowsPerCommittedBundleChunk
  ),
  maxRowsPerCommittedBundleChunk: count(
    options.maxRowsPerCommittedBundleChunk,
    Limits.maxRowsPerCommittedBundleChunk
  ),
  defaultRowsPerSnapshotChunk: count(options.defaultRowsPerSnapshotChunk, Limits.defaultRowsPerSnapshotChunk),
  maxRowsPerSnapshotChunk: count(options.maxRowsPerSnapshotChunk, Limits.maxRowsPerSnapshotChunk),
  maxRowsPerBundle: count(options.maxRowsPerBundle, 0),
  maxBytesPerBundle: count(options.maxBytesPerBundle, 0),
  maxRowsPerSnapshotSession: count(options.maxRowsPerSnapshotSession, 0),
  maxBytesPerSnapshotSession: count(options.maxBytesPerSnapshotSession, 0),
  pushSessionTtl: millis(options.pushSessionTtl, Limits.pushSessionTtlSeconds),
  snapshotSessionTtl: millis(options.snapshotSessionTtl, Limits.snapshotSessionTtlSeconds),
  initializationLeaseTtl: millis(options.initializationLeaseTtl, Limits.initializationLeaseTtlSeconds),
  retainedBundles: count(options.retainedBundles, Limits.retainedBundles),
  prunedBundlesPerCommit: count(options.prunedBundlesPerCommit, Limits.prunedBundlesPerCommit),
  watch: {
    enabled: options.watch?.enabled ?? true,
    heartbeat: millis(options.watch?.heartbeat, Limits.watchHeartbeatSeconds),
    allow: options.watch?.allow ?? (() => Effect.succeed(true))
  }
})
