/**
 * The sync engine for callers who know promises only.
 *
 * @since 0.1.0
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import { ClientClosed, StorageError } from "../contract/SyncError.js"
import type { SyncOperation } from "../contract/SyncOperation.js"
import type {
  AttachResult as EngineAttachResult,
  DetachResult,
  Inspection,
  PendingSyncStatus,
  PushReport,
  PushTransfer,
  RemoteSyncReport,
  SnapshotTransfer,
  SourceInfo,
  SyncReport,
  SyncStatus,
  SyncThenDetachResult
} from "../contract/SyncResult.js"
import type { LocalRows } from "../engine/Attach.js"
import type { Progress, TablesChanged } from "../engine/Session.js"
import { SourceIdGenerator } from "../engine/SourceIds.js"
import type { ClientStatus } from "../engine/SyncClient.js"
import { SyncClient as Engine } from "../engine/SyncClient.js"
import type { ConflictResolver, SyncClientOptions } from "./PromiseOptions.js"
import { toCredentials, toResolver, toSyncOptions } from "./PromiseOptions.js"
import type { CallOptions } from "./PromiseRuntime.js"
import * as PromiseRuntime from "./PromiseRuntime.js"

/**
 * Answer of `attach` (lifecycle.md §4): as the engine's, with the wait in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export type AttachResult =
  | Exclude<EngineAttachResult, { readonly status: "retry_later" }>
  | { readonly status: "retry_later"; readonly retryAfterMs: number }

/**
 * The sync engine of one database. Every operation answers with a promise of the same result as the engine's, and
 * rejects with the very error: `instanceof` the classes of "oversqlite", `_tag`, `code` and `action` tell which
 * (errors.md §1.2). A call that its signal or `dispose` has interrupted rejects with an `AbortError`, as soon as nothing
 * of it runs any more; after `dispose` every operation rejects with `ClientClosed`.
 *
 * Operations run one at a time, in the order of their calls; status reads never wait for them. The application may write
 * to the same file through connections of its own at any time, but should not wait for anything inside a transaction.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncClient extends AsyncDisposable {
  /** Takes the database over and captures the rows that were there before. No network. Idempotent (lifecycle.md §3). */
  readonly open: (options?: CallOptions) => Promise<void>
  /** Attaches to a user; resumes without network if that user is attached already (lifecycle.md §4). */
  readonly attach: (
    userId: string,
    options?: CallOptions & { readonly localRows?: LocalRows | undefined }
  ) => Promise<AttachResult>
  /** Ends the binding and clears the managed tables, unless something is pending (lifecycle.md §6). */
  readonly detach: (options?: CallOptions) => Promise<DetachResult>
  /** What waits for the server. Never waits for a running operation. */
  readonly pendingSyncStatus: (options?: CallOptions) => Promise<PendingSyncStatus>
  /** Authority, pending work and checkpoint of the connected client. Never waits for a running operation. */
  readonly syncStatus: (options?: CallOptions) => Promise<SyncStatus>
  /** Syncs and detaches as one uninterrupted sequence, three rounds at most (lifecycle.md §7). */
  readonly syncThenDetach: (options?: CallOptions) => Promise<SyncThenDetachResult>
  /** Removes triggers and `_sync_*` tables, keeps the application's rows, and closes the client (lifecycle.md §8). */
  readonly uninstallSync: (options?: CallOptions) => Promise<void>
  /** Uploads what is pending and replays what the server made of it (push.md). */
  readonly pushPending: (options?: CallOptions) => Promise<PushReport>
  /** Applies other devices' bundles up to the server's ceiling (pull.md). */
  readonly pullToStable: (options?: CallOptions) => Promise<RemoteSyncReport>
  /** Push, then pull (pull.md §7). */
  readonly sync: (options?: CallOptions) => Promise<SyncReport>
  /** Replaces the tables by a snapshot and keeps pending work; leaves every gate (pull.md §5, recovery.md §5). */
  readonly rebuild: (options?: CallOptions) => Promise<RemoteSyncReport>
  /** The checkpoint: the highest bundle up to which everything is durably applied. */
  readonly lastBundleSeqSeen: (options?: CallOptions) => Promise<number>
  /** The source id of this database and whether it can go on. */
  readonly sourceInfo: (options?: CallOptions) => Promise<SourceInfo>
  /** The whole durable state as a value, without row contents. */
  readonly inspect: (options?: CallOptions) => Promise<Inspection>
  /**
   * Works in the background until the signal, `close` or `dispose` ends it, and resolves then. Never rejects: what goes
   * wrong is in `status`. Never attaches and never rebuilds (retry-and-loops.md §4.3, §5).
   */
  readonly run: (options?: CallOptions) => Promise<void>
  /** Tells `run` that the application has written, so that it need not find out by looking. Never rejects. */
  readonly notifyLocalWrite: () => Promise<void>
  /** Tells `run` that the network is back. Never rejects. */
  readonly notifyOnline: () => Promise<void>
  /** Pushes end as `skipped_paused` from now on; a running one goes on. Never rejects. */
  readonly pauseUploads: () => Promise<void>
  /** The opposite of `pauseUploads`. */
  readonly resumeUploads: () => Promise<void>
  /** Pulls and rebuilds end as `skipped_paused` from now on; a running one goes on. Never rejects. */
  readonly pauseDownloads: () => Promise<void>
  /** The opposite of `pauseDownloads`. */
  readonly resumeDownloads: () => Promise<void>
  /** Replaces the conflict resolver, from the next conflict on. Never rejects. */
  readonly setResolver: (resolver: ConflictResolver) => Promise<void>
  /** Push transfer counters of this client. Never rejects. */
  readonly pushTransfer: () => Promise<PushTransfer>
  /** Snapshot transfer counters of this client. Never rejects. */
  readonly snapshotTransfer: () => Promise<SnapshotTransfer>
  /** Sets the counters of one direction to 0. Never rejects. */
  readonly resetTransfer: (direction: "push" | "snapshot") => Promise<void>
  /** What the client is doing: the present state first, then every change, from the call on; ends with the client. */
  readonly status: (options?: CallOptions) => AsyncIterableIterator<ClientStatus>
  /** Steps of running operations, from the call on; ends with the client. */
  readonly progress: (options?: CallOptions) => AsyncIterableIterator<Progress>
  /** Tables changed by committed transactions of the engine, from the call on; ends with the client. */
  readonly changes: (options?: CallOptions) => AsyncIterableIterator<TablesChanged>
  /** Waits for the operation that runs, lets no other one begin, and disposes. Idempotent. */
  readonly close: () => Promise<void>
  /**
   * Interrupts what runs or waits, waits until nothing runs any more, then gives the database up and closes its file:
   * another client may be built on it at once. Idempotent.
   */
  readonly dispose: () => Promise<void>
}

/** The driver throws where it cannot open the file, and takes no name for a database that vanishes. */
const openDatabase = (filename: string) =>
  (filename === ""
    ? Layer.die(new TypeError("the path of the database is empty"))
    : SqliteClient.layer({ filename })).pipe(
      Layer.catchAllCause((cause) =>
        Layer.fail(new StorageError({ operation: "construct", code: "io", cause: Cause.squash(cause) }))
      )
    )

const engineLayer = ({ layers, ...options }: SyncClientOptions) =>
  Engine.layer(toSyncOptions(options)).pipe(
    Layer.provideMerge(
      options.generateSourceId === undefined
        ? Layer.empty
        : Layer.succeed(SourceIdGenerator, Effect.sync(options.generateSourceId))
    ),
    Layer.provide([
      openDatabase(options.database),
      layers?.httpClient ?? NodeHttpClient.layerUndici,
      toCredentials(options.token)
    ]),
    Layer.provide(layers?.environment ?? Layer.empty)
  )

/**
 * Builds a client: opens the database file, installs what the engine needs in it, and claims it within this process.
 * No network. Rejects with `ConfigurationError` (nothing is changed), `DatabaseAlreadyOwned` or `StorageError`.
 *
 * @example
 * ```ts
 * import { createSyncClient } from "oversqlite/promise"
 *
 * const sync = await createSyncClient({
 *   database: "app.db",
 *   server: "https://sync.example.com",
 *   token: async () => "a fresh token",
 *   schema: "business",
 *   tables: [{ name: "users", key: "id" }]
 * })
 * await sync.open()
 * await sync.attach("user-1")
 * const stop = new AbortController()
 * const background = sync.run({ signal: stop.signal })
 * // ... the application reads and writes app.db ...
 * stop.abort()
 * await background
 * await sync.dispose()
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const createSyncClient = async (options: SyncClientOptions): Promise<SyncClient> => {
  const runtime = await PromiseRuntime.make(Engine, engineLayer(options))
  const engine = runtime.service

  const call = async <A, E>(
    operation: SyncOperation,
    effect: Effect.Effect<A, E>,
    callOptions?: CallOptions
  ): Promise<A> => {
    if (runtime.isDisposed()) throw new ClientClosed({ operation })
    return runtime.run(effect, callOptions)
  }
  /** What does not need the database is always there. */
  const always = <A>(effect: Effect.Effect<A>): Promise<A> => Effect.runPromise(effect)
  const iterate = <A>(stream: Stream.Stream<A>) => (callOptions?: CallOptions) => runtime.iterate(stream, callOptions)

  const dispose = runtime.dispose
  return {
    open: (given) => call("open", engine.open, given),
    attach: async (userId, given) => {
      const result = await call("attach", engine.attach(userId, { localRows: given?.localRows }), given)
      return result.status === "retry_later"
        ? { status: result.status, retryAfterMs: Duration.toMillis(result.retryAfter) }
        : result
    },
    detach: (given) => call("detach", engine.detach, given),
    pendingSyncStatus: (given) => call("pendingSyncStatus", engine.pendingSyncStatus, given),
    syncStatus: (given) => call("syncStatus", engine.syncStatus, given),
    syncThenDetach: (given) => call("syncThenDetach", engine.syncThenDetach, given),
    uninstallSync: (given) => call("uninstallSync", engine.uninstallSync, given),
    pushPending: (given) => call("pushPending", engine.pushPending, given),
    pullToStable: (given) => call("pullToStable", engine.pullToStable, given),
    sync: (given) => call("sync", engine.sync, given),
    rebuild: (given) => call("rebuild", engine.rebuild, given),
    lastBundleSeqSeen: (given) => call("lastBundleSeqSeen", engine.lastBundleSeqSeen, given),
    sourceInfo: (given) => call("sourceInfo", engine.sourceInfo, given),
    inspect: (given) => call("inspect", engine.inspect, given),
    run: (given) => runtime.runUntilInterrupted(engine.run, given),
    notifyLocalWrite: () => always(engine.notifyLocalWrite),
    notifyOnline: () => always(engine.notifyOnline),
    pauseUploads: () => always(engine.pauseUploads),
    resumeUploads: () => always(engine.resumeUploads),
    pauseDownloads: () => always(engine.pauseDownloads),
    resumeDownloads: () => always(engine.resumeDownloads),
    setResolver: (resolver) => always(engine.setResolver(toResolver(resolver))),
    pushTransfer: () => always(engine.pushTransfer),
    snapshotTransfer: () => always(engine.snapshotTransfer),
    resetTransfer: (direction) => always(engine.resetTransfer(direction)),
    status: iterate(engine.status),
    progress: iterate(engine.progress),
    changes: iterate(engine.changes),
    close: async () => {
      if (!runtime.isDisposed()) await always(engine.close)
      await dispose()
    },
    dispose,
    [Symbol.asyncDispose]: dispose
  }
}
