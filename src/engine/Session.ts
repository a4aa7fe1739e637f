/**
 * What one client instance remembers between operations (client-state.md §6). Nothing here survives a restart, and it
 * changes only after the transaction it mirrors has committed.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { ConflictResolver } from "../contract/ConflictResolution.js"
import type { SyncError } from "../contract/SyncError.js"
import type { SyncOperation } from "../contract/SyncOperation.js"
import type { PushTransfer, SnapshotTransfer } from "../contract/SyncResult.js"
import type { Features } from "../protocol/Dialect.js"
import type { BundleLimits } from "../protocol/Wire.js"
import type { RetryPolicy } from "../remote/RetryPolicy.js"
import type { Caller } from "../remote/SyncApi.js"
import type { SyncConfig } from "./SyncConfig.js"
import { maxUploadBytes } from "./SyncConfig.js"
import type { BackgroundStatus } from "./SyncLoopRules.js"
import { off } from "./SyncLoopRules.js"
import * as SyncMetrics from "./SyncMetrics.js"

/**
 * The memory of a client instance.
 *
 * @since 0.1.0
 * @category models
 */
export interface Memory {
  readonly closed: boolean
  /** Blank until `open`. */
  readonly sourceId: string
  /** Blank unless the durable binding was attached at the last `open` or `attach`. */
  readonly userId: string
  readonly initializationId: string
  /** `attach` has succeeded since the last `open`. */
  readonly connected: boolean
  /** What the server advertised at the last `attach` that asked it. */
  readonly features: Features | undefined
  readonly limits: BundleLimits | undefined
  /** Bytes of rows per uploaded chunk; less after one was too large for the server (push.md §5). */
  readonly uploadBytes: number
  readonly uploadsPaused: boolean
  readonly downloadsPaused: boolean
  readonly resolver: ConflictResolver
  /** Request hash of the upload that was refused last without a definite reason, until a success (push.md §5.2). */
  readonly refusedRequestHash: string
  /** Rows were written while the upload that was refused last was under way; says nothing about other failures. */
  readonly writtenDuringUpload: boolean
  /** A `rebuild` of this instance has met a divergence; the next one goes around it (recovery.md §5.4). */
  readonly diverged: boolean
  /** The bundle at the checkpoint has been compared with the server's in this session (DESIGN D18). */
  readonly historyChecked: boolean
  readonly pushTransfer: PushTransfer
  readonly snapshotTransfer: SnapshotTransfer
  readonly running: SyncOperation | undefined
  readonly lastError: SyncError | undefined
  readonly background: BackgroundStatus
}

/**
 * A step of a running operation: counts only. `total` is 0 where it is not known.
 *
 * @since 0.1.0
 * @category models
 */
export interface Progress {
  readonly operation: SyncOperation
  readonly phase: "freeze" | "upload" | "fetch" | "replay" | "pull" | "download" | "apply"
  readonly done: number
  readonly total: number
}

/**
 * What changed in the host's tables through the engine, after the commit: `replaced` means the whole contents.
 *
 * @since 0.1.0
 * @category models
 */
export interface TablesChanged {
  readonly tables: ReadonlyArray<string>
  readonly reason: "replay" | "pull" | "snapshot" | "conflict" | "detach"
}

/**
 * The session of one client.
 *
 * @since 0.1.0
 * @category services
 */
export class Session extends Context.Tag("oversqlite/Session")<Session, {
  /** The host's options in normal form. */
  readonly config: SyncConfig
  /** When and how often failed exchanges are repeated. */
  readonly retryPolicy: RetryPolicy
  /** What this instance remembers, with its changes. */
  readonly memory: SubscriptionRef.SubscriptionRef<Memory>
  /** Steps of running operations. */
  readonly progress: PubSub.PubSub<Progress>
  /** Tables changed by committed transactions. */
  readonly changes: PubSub.PubSub<TablesChanged>
  /** The scope of the client: small work that must not delay an operation runs there. */
  readonly scope: Scope.Scope
}>() {}

const noPushTransfer: PushTransfer = { sessionsCreated: 0, chunksUploaded: 0, committedBundleChunksRead: 0 }
const noSnapshotTransfer: SnapshotTransfer = { sessionsCreated: 0, chunksFetched: 0 }

/**
 * Builds the session of a client.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  config: SyncConfig,
  retryPolicy: RetryPolicy
): Effect.fn.Return<Session["Type"], never, Scope.Scope> {
  return {
    config,
    retryPolicy,
    memory: yield* SubscriptionRef.make<Memory>({
      closed: false,
      sourceId: "",
      userId: "",
      initializationId: "",
      connected: false,
      features: undefined,
      limits: undefined,
      uploadBytes: maxUploadBytes,
      uploadsPaused: false,
      downloadsPaused: false,
      resolver: config.resolver,
      refusedRequestHash: "",
      writtenDuringUpload: false,
      diverged: false,
      historyChecked: false,
      pushTransfer: noPushTransfer,
      snapshotTransfer: noSnapshotTransfer,
      running: undefined,
      lastError: undefined,
      background: off
    }),
    progress: yield* PubSub.sliding<Progress>(64),
    changes: yield* PubSub.sliding<TablesChanged>(256),
    scope: yield* Effect.scope
  }
})

/**
 * The memory as it is now.
 *
 * @since 0.1.0
 * @category reading
 */
export const memory: Effect.Effect<Memory, never, Session> = Effect.flatMap(Session, (session) => session.memory)

/**
 * Changes some fields of the memory.
 *
 * @since 0.1.0
 * @category writing
 */
export const remember = (changes: Partial<Memory>): Effect.Effect<void, never, Session> =>
  Effect.flatMap(
    Session,
    (session) => SubscriptionRef.update(session.memory, (current) => ({ ...current, ...changes }))
  )

/**
 * Adds to the push transfer counters.
 *
 * @since 0.1.0
 * @category writing
 */
export const countPush = (counter: keyof PushTransfer): Effect.Effect<void, never, Session> =>
  Effect.flatMap(Session, (session) =>
    SubscriptionRef.update(session.memory, (current) => ({
      ...current,
      pushTransfer: { ...current.pushTransfer, [counter]: current.pushTransfer[counter] + 1 }
    }))).pipe(Effect.zipLeft(Metric.increment(SyncMetrics.pushTransfer[counter])))

/**
 * Adds to the snapshot transfer counters.
 *
 * @since 0.1.0
 * @category writing
 */
export const countSnapshot = (counter: keyof SnapshotTransfer): Effect.Effect<void, never, Session> =>
  Effect.flatMap(Session, (session) =>
    SubscriptionRef.update(session.memory, (current) => ({
      ...current,
      snapshotTransfer: { ...current.snapshotTransfer, [counter]: current.snapshotTransfer[counter] + 1 }
    }))).pipe(Effect.zipLeft(Metric.increment(SyncMetrics.snapshotTransfer[counter])))

/**
 * Forgets the counters of one direction.
 *
 * @since 0.1.0
 * @category writing
 */
export const resetTransfer = (direction: "push" | "snapshot"): Effect.Effect<void, never, Session> =>
  remember(direction === "push" ? { pushTransfer: noPushTransfer } : { snapshotTransfer: noSnapshotTransfer })

/**
 * Who calls the server: the current source and the attached user.
 *
 * @since 0.1.0
 * @category reading
 */
export const caller: Effect.Effect<Caller, never, Session> = Effect.map(
  memory,
  ({ sourceId, userId }) => ({ sourceId, userId })
)

/**
 * Publishes a step of the running operation.
 *
 * @since 0.1.0
 * @category writing
 */
export const report = (progress: Progress): Effect.Effect<void, never, Session> =>
  Effect.flatMap(Session, (session) => Effect.asVoid(PubSub.publish(session.progress, progress)))

/**
 * Publishes which tables a committed transaction has changed.
 *
 * @since 0.1.0
 * @category writing
 */
export const announce = (changed: TablesChanged): Effect.Effect<void, never, Session> =>
  Effect.flatMap(
    Session,
    (session) => changed.tables.length === 0 ? Effect.void : Effect.asVoid(PubSub.publish(session.changes, changed))
  )
