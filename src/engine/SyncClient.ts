/**
 * The public service: one method per operation, one operation at a time.
 *
 * @since 0.1.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ConflictResolver } from "../contract/ConflictResolution.js"
import type { ConfigurationError, DatabaseAlreadyOwned, StorageError, SyncError } from "../contract/SyncError.js"
import { ClientClosed, InvalidArgumentError, SyncOperationInProgress } from "../contract/SyncError.js"
import type { SyncOperation } from "../contract/SyncOperation.js"
import { CurrentOperation, raise } from "../contract/SyncOperation.js"
import type {
  AttachResult,
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
import type { Credentials } from "../remote/Credentials.js"
import * as RetryPolicy from "../remote/RetryPolicy.js"
import { make as makeApi, SyncApi } from "../remote/SyncApi.js"
import { install, validSchema } from "../storage/Installation.js"
import { catchSql } from "../storage/StorageFailure.js"
import { make as makeDatabase, SyncDatabase } from "../storage/SyncDatabase.js"
import { insideTransaction } from "../storage/Transaction.js"
import * as WorkTables from "../storage/WorkTables.js"
import type { DatabaseError } from "./Answers.js"
import type { AttachError, LocalRows } from "./Attach.js"
import { attach } from "./Attach.js"
import * as Detach from "./Detach.js"
import type { GateError } from "./Gates.js"
import * as Gates from "./Gates.js"
import { inspect, sourceInfoOf } from "./Inspect.js"
import type { OpenError } from "./Open.js"
import { open } from "./Open.js"
import * as OperationLock from "./OperationLock.js"
import * as Ownership from "./Ownership.js"
import type { PullError } from "./Pull.js"
import * as Pull from "./Pull.js"
import type { PushError } from "./Push.js"
import * as Push from "./Push.js"
import type { Progress, TablesChanged } from "./Session.js"
import * as Session from "./Session.js"
import { SourceIdGenerator } from "./SourceIds.js"
import * as Status from "./Status.js"
import type { SyncOptions } from "./SyncConfig.js"
import * as SyncConfig from "./SyncConfig.js"
import * as SyncLoop from "./SyncLoop.js"
import type { BackgroundStatus } from "./SyncLoopRules.js"
import * as SyncLoopSignals from "./SyncLoopSignals.js"
import * as SyncMetrics from "./SyncMetrics.js"

/**
 * What every operation may fail with before it starts.
 *
 * @since 0.1.0
 * @category errors
 */
export type EntryError = ClientClosed | InvalidArgumentError

type Busy = EntryError | SyncOperationInProgress

/**
 * What the client is doing, as a stream of changes.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClientStatus {
  readonly running: SyncOperation | undefined
  readonly connected: boolean
  readonly uploadsPaused: boolean
  readonly downloadsPaused: boolean
  /** The error of the last operation that failed, `undefined` after a success. */
  readonly lastError: SyncError | undefined
  /** What `run` is doing. */
  readonly background: BackgroundStatus
}

/**
 * The sync engine of one database. Every operation is one `Effect` whose error channel lists what can happen; expected
 * branches are result values. Operations run one at a time, in order of arrival; status reads never wait for them.
 *
 * @example
 * ```ts
 * import { FetchHttpClient } from "@effect/platform"
 * import { SqliteClient } from "@effect/sql-sqlite-node"
 * import { Effect, Layer } from "effect"
 * import { Credentials, SyncClient } from "oversqlite"
 *
 * const SyncLive = SyncClient.layer({
 *   baseUrl: "https://sync.example.com",
 *   schema: "business",
 *   tables: [{ name: "users", key: "id" }]
 * }).pipe(
 *   Layer.provide([FetchHttpClient.layer, Credentials.layerBearer("token")]),
 *   Layer.provideMerge(SqliteClient.layer({ filename: "app.db" }))
 * )
 *
 * export const program = Effect.gen(function*() {
 *   const sync = yield* SyncClient
 *   yield* sync.open
 *   yield* sync.attach("user-1")
 *   return yield* sync.sync
 * }).pipe(Effect.provide(SyncLive))
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class SyncClient extends Context.Tag("oversqlite/SyncClient")<SyncClient, {
  /** Takes the database over and captures the rows that were there before. No network. Idempotent (lifecycle.md §3). */
  readonly open: Effect.Effect<void, Busy | OpenError>
  /** Attaches to a user; resumes without network if that user is attached already (lifecycle.md §4). */
  readonly attach: (
    userId: string,
    options?: { readonly localRows?: LocalRows | undefined }
  ) => Effect.Effect<AttachResult, Busy | GateError | AttachError>
  /** Ends the binding and clears the managed tables, unless something is pending (lifecycle.md §6). */
  readonly detach: Effect.Effect<DetachResult, Busy | Detach.DetachError>
  /** What waits for the server. Never waits for a running operation. */
  readonly pendingSyncStatus: Effect.Effect<PendingSyncStatus, EntryError | GateError | StorageError>
  /** Authority, pending work and checkpoint of the connected client. Never waits for a running operation. */
  readonly syncStatus: Effect.Effect<SyncStatus, EntryError | GateError | StorageError>
  /** Syncs and detaches as one uninterrupted sequence, three rounds at most (lifecycle.md §7). */
  readonly syncThenDetach: Effect.Effect<SyncThenDetachResult, Busy | PushError | PullError>
  /** Removes triggers and `_sync_*` tables, keeps the host's rows, and closes the client (lifecycle.md §8). */
  readonly uninstallSync: Effect.Effect<void, Busy | GateError | DatabaseError>
  /** Uploads what is pending and replays what the server made of it (push.md). */
  readonly pushPending: Effect.Effect<PushReport, Busy | PushError>
  /** Applies other devices' bundles up to the server's ceiling (pull.md). */
  readonly pullToStable: Effect.Effect<RemoteSyncReport, Busy | PullError>
  /** Push, then pull (pull.md §7). */
  readonly sync: Effect.Effect<SyncReport, Busy | PushError | PullError>
  /** Replaces the tables by a snapshot and keeps pending work; leaves every gate (pull.md §5, recovery.md §5). */
  readonly rebuild: Effect.Effect<RemoteSyncReport, Busy | PushError | PullError>
  /** The checkpoint: the highest bundle up to which everything is durably applied. */
  readonly lastBundleSeqSeen: Effect.Effect<number, EntryError | GateError | StorageError>
  /** The source id of this database and whether it can go on. */
  readonly sourceInfo: Effect.Effect<SourceInfo, EntryError | GateError | StorageError>
  /** The whole durable state as a value, without row contents; in every state until `close`. */
  readonly inspect: Effect.Effect<Inspection, EntryError | StorageError>
  /** Waits for the running operation, then closes the client and gives the database up. Idempotent. */
  readonly close: Effect.Effect<void>
  /** Pushes end as `skipped_paused` from now on; a running one goes on. */
  readonly pauseUploads: Effect.Effect<void>
  /** The opposite of `pauseUploads`. */
  readonly resumeUploads: Effect.Effect<void>
  /** Pulls and rebuilds end as `skipped_paused` from now on; a running one goes on. */
  readonly pauseDownloads: Effect.Effect<void>
  /** The opposite of `pauseDownloads`. */
  readonly resumeDownloads: Effect.Effect<void>
  /**
   * Works in the background until the fiber is interrupted or the client closed: pushes what the host writes and pulls
   * what others write, with growing pauses while something is in the way. Never fails: what goes wrong is in `status`.
   * Takes its turn like any operation; never attaches and never rebuilds. A second `run` waits for the first
   * (retry-and-loops.md §4.3, §5).
   */
  readonly run: Effect.Effect<void>
  /** Tells `run` that the host has written, so that it need not find out by looking. */
  readonly notifyLocalWrite: Effect.Effect<void>
  /** Tells `run` that the network is back: no pause counts any more. */
  readonly notifyOnline: Effect.Effect<void>
  /** Replaces the conflict resolver, from the next conflict on. */
  readonly setResolver: (resolver: ConflictResolver) => Effect.Effect<void>
  /** Push transfer counters of this client instance. */
  readonly pushTransfer: Effect.Effect<PushTransfer>
  /** Snapshot transfer counters of this client instance. */
  readonly snapshotTransfer: Effect.Effect<SnapshotTransfer>
  /** Sets the counters of one direction to 0. */
  readonly resetTransfer: (direction: "push" | "snapshot") => Effect.Effect<void>
  /** What the client is doing: the present state first, then every change. */
  readonly status: Stream.Stream<ClientStatus>
  /** Steps of running operations. */
  readonly progress: Stream.Stream<Progress>
  /** Tables changed by committed transactions of the engine. */
  readonly changes: Stream.Stream<TablesChanged>
}>() {
  /**
   * A client on the host's `SqlClient` and `HttpClient`. The end of the layer's scope closes it.
   *
   * Fails with `ConfigurationError` (nothing is changed), `DatabaseAlreadyOwned`, `StorageError`.
   */
  static readonly layer = (
    options: SyncOptions
  ): Layer.Layer<
    SyncClient,
    ConfigurationError | DatabaseAlreadyOwned | StorageError | InvalidArgumentError,
    SqlClient.SqlClient | HttpClient.HttpClient | Credentials
  > => Layer.scoped(SyncClient, make(options))
}

type Environment = SyncDatabase | SyncApi | Session.Session

const isSyncError = (error: unknown): error is SyncError =>
  typeof error === "object" && error !== null && "code" in error

/**
 * Builds a client in the current scope; see {@link SyncClient.layer}.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  options: SyncOptions
): Effect.fn.Return<
  SyncClient["Type"],
  ConfigurationError | DatabaseAlreadyOwned | StorageError | InvalidArgumentError,
  SqlClient.SqlClient | HttpClient.HttpClient | Credentials | Scope.Scope
> {
  const sql = yield* SqlClient.SqlClient
  if (yield* insideTransaction) {
    return yield* raise((operation) => new InvalidArgumentError({ operation, argument: "transaction" }))
  }
  const config = SyncConfig.make(options)
  const api = yield* makeApi(options)
  yield* validSchema(options.schema)
  const ownership = yield* Effect.acquireRelease(Ownership.claim(sql), ({ release }) => release)
  // Whoever builds a client may try again in the same scope: a construction that fails must not hold the database.
  const database = yield* Effect.onError(
    Effect.gen(function*() {
      const made = yield* makeDatabase(yield* install(options), { applyRows: config.applyRows })
      yield* catchSql(Effect.provideService(WorkTables.create, SyncDatabase, made))
      return made
    }),
    () => ownership.release
  )
  const session = yield* Session.make(config, RetryPolicy.make(options.retryPolicy))
  const lock = yield* OperationLock.make
  const loopLock = yield* OperationLock.make
  const signals = yield* SyncLoopSignals.make
  const environment = Context.make(SyncDatabase, database).pipe(
    Context.add(SyncApi, api),
    Context.add(Session.Session, session),
    Context.add(SourceIdGenerator, yield* SourceIdGenerator)
  )
  const within = <A, E>(self: Effect.Effect<A, E, Environment>): Effect.Effect<A, E> =>
    Effect.provide(self, environment)

  const notClosed = Effect.flatMap(
    within(Session.memory),
    ({ closed }) => closed ? raise((operation) => new ClientClosed({ operation })) : Effect.void
  )
  const notInTransaction = Effect.flatMap(insideTransaction, (inside) =>
    inside
      ? raise((operation) => new InvalidArgumentError({ operation, argument: "transaction" }))
      : Effect.void)

  const named = (operation: SyncOperation) => <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    self.pipe(
      Effect.provideService(CurrentOperation, operation),
      Effect.withSpan(`SyncClient.${operation}`, { captureStackTrace: false })
    )

  const busy = (holder: SyncOperation | undefined) =>
    raise((operation) => new SyncOperationInProgress({ operation, runningOperation: holder ?? operation }))

  const locked = (operation: SyncOperation) => <A, E>(self: Effect.Effect<A, E>) =>
    config.onBusy === "fail" ? lock.withLockOr(operation, busy)(self) : lock.withLock(self)

  const noteError = (error: unknown) =>
    isSyncError(error)
      ? Session.remember(
        // After a transport failure the server may be another one than before (DESIGN D18).
        error._tag === "TransportError" || error._tag === "RetryExhausted"
          ? { lastError: error, historyChecked: false }
          : { lastError: error }
      )
      : Effect.void

  const alone = <A, E>(
    operation: SyncOperation,
    self: Effect.Effect<A, E, Environment>
  ): Effect.Effect<A, E | Busy> =>
    notInTransaction.pipe(
      Effect.zipRight(notClosed),
      Effect.zipRight(
        locked(operation)(Effect.zipRight(
          notClosed,
          within(Effect.ensuring(
            Session.remember({ running: operation }).pipe(
              Effect.zipRight(SyncMetrics.measured(operation)(self)),
              Effect.tapBoth({ onFailure: noteError, onSuccess: () => Session.remember({ lastError: undefined }) })
            ),
            Session.remember({ running: undefined })
          ))
        ))
      ),
      named(operation)
    )

  /** An operation that the host has called: the background work hears of its end. */
  const exclusive = <A, E>(
    operation: SyncOperation,
    self: Effect.Effect<A, E, Environment>
  ): Effect.Effect<A, E | Busy> =>
    Effect.onExit(
      alone(operation, self),
      (exit) => signals.notify({ _tag: "Finished", operation, succeeded: Exit.isSuccess(exit) })
    )

  const switched = (change: Parameters<typeof Session.remember>[0]) =>
    Effect.zipRight(within(Session.remember(change)), signals.notify({ _tag: "Switched" }))

  const gated = <A, E>(operation: SyncOperation, self: Effect.Effect<A, E, Environment>) =>
    Effect.flatMap(
      SyncDatabase,
      (db) => Effect.flatMap(db.read(Status.situation), (situation) => Gates.pass(operation, situation))
    ).pipe(
      Effect.zipRight(self)
    )

  const readOnly = <A, E>(
    operation: SyncOperation,
    self: Effect.Effect<A, E | SqlError, Environment>
  ): Effect.Effect<A, Exclude<E, SqlError> | StorageError | EntryError> =>
    notInTransaction.pipe(Effect.zipRight(notClosed), Effect.zipRight(within(database.read(self))), named(operation))

  const forget = Effect.zipRight(
    Session.remember({ closed: true, connected: false, sourceId: "", userId: "", initializationId: "" }),
    // The host may have closed its database already.
    Effect.ignore(database.read(WorkTables.drop))
  )
  // Once only: the next client of the same connection has tables of these names.
  const release = within(Effect.flatMap(Session.memory, ({ closed }) => closed ? Effect.void : forget)).pipe(
    Effect.ensuring(ownership.release),
    Effect.zipRight(signals.notify({ _tag: "Switched" }))
  )
  const close = Effect.uninterruptible(lock.withLockNext(release))

  yield* Effect.addFinalizer(() => close)

  const statusRead = <A>(
    operation: SyncOperation,
    project: (observed: Status.Observed) => A
  ) =>
    readOnly(
      operation,
      Effect.flatMap(Status.observe, (now) => Effect.as(Gates.pass(operation, now.situation), project(now)))
    )

  return {
    open: exclusive("open", open),
    attach: (userId, attachOptions) =>
      userId.trim() === ""
        ? named("attach")(raise((operation) => new InvalidArgumentError({ operation, argument: "userId" })))
        : exclusive("attach", gated("attach", attach(userId.trim(), attachOptions?.localRows ?? "keep"))),
    detach: exclusive("detach", gated("detach", Detach.detach)),
    pendingSyncStatus: statusRead(
      "pendingSyncStatus",
      ({ durable, pending }) => Status.pendingStatusOf(durable, pending)
    ),
    syncStatus: statusRead("syncStatus", ({ durable, pending }) => Status.statusOf(durable, pending)),
    syncThenDetach: exclusive("syncThenDetach", Detach.syncThenDetach),
    uninstallSync: exclusive(
      "uninstallSync",
      gated("uninstallSync", Effect.uninterruptible(Effect.zipRight(Detach.uninstall, release)))
    ),
    pushPending: exclusive("pushPending", Push.push),
    pullToStable: exclusive("pullToStable", Pull.pull),
    sync: exclusive("sync", Detach.sync),
    rebuild: exclusive("rebuild", Pull.rebuild(Push.settle)),
    lastBundleSeqSeen: statusRead("lastBundleSeqSeen", ({ durable }) => durable.attachment.checkpoint),
    sourceInfo: statusRead("sourceInfo", ({ durable }) => sourceInfoOf(durable)),
    inspect: readOnly("inspect", inspect),
    close,
    pauseUploads: switched({ uploadsPaused: true }),
    resumeUploads: switched({ uploadsPaused: false }),
    pauseDownloads: switched({ downloadsPaused: true }),
    resumeDownloads: switched({ downloadsPaused: false }),
    run: loopLock.withLock(within(SyncLoop.run({
      push: alone("pushPending", Push.push),
      pull: alone("pullToStable", Pull.pull),
      signals
    }))),
    notifyLocalWrite: signals.notify({ _tag: "Written" }),
    notifyOnline: signals.notify({ _tag: "Online" }),
    setResolver: (resolver) => within(Session.remember({ resolver })),
    pushTransfer: Effect.map(within(Session.memory), (memory) => memory.pushTransfer),
    snapshotTransfer: Effect.map(within(Session.memory), (memory) => memory.snapshotTransfer),
    resetTransfer: (direction) => within(Session.resetTransfer(direction)),
    status: session.memory.changes.pipe(
      Stream.map((memory): ClientStatus => ({
        running: memory.running,
        connected: memory.connected,
        uploadsPaused: memory.uploadsPaused,
        downloadsPaused: memory.downloadsPaused,
        lastError: memory.lastError,
        background: memory.background
      })),
      Stream.changesWith((left, right) =>
        left.running === right.running && left.connected === right.connected && left.lastError === right.lastError &&
        left.uploadsPaused === right.uploadsPaused && left.downloadsPaused === right.downloadsPaused &&
        left.background === right.background
      )
    ),
    progress: Stream.fromPubSub(session.progress),
    changes: Stream.fromPubSub(session.changes)
  }
})
