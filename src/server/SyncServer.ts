/**
 * The sync server: one method per endpoint, and the methods of the host application (wire.md §4, server.md §12).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import type { Capabilities, HealthDocument, PushChunkRequest, PushSessionRequest } from "../protocol/Wire.js"
import type { Actor } from "./Actor.js"
import * as Documents from "./Capabilities.js"
import { commit } from "./Commit.js"
import { connect } from "./Connect.js"
import * as History from "./History.js"
import { Identifiers } from "./Identifiers.js"
import * as Lifecycle from "./Lifecycle.js"
import * as Push from "./Push.js"
import type { ConnectOutcome } from "./ScopeState.js"
import type { ServerParts } from "./ServerParts.js"
import { make as makeSettings } from "./ServerSettings.js"
import type { ServerOptions, ServerSettings } from "./ServerSettings.js"
import type { BundleHeader, ServerStorageError, StoredRow } from "./ServerStorage.js"
import { ServerStorage } from "./ServerStorage.js"
import { write } from "./ServerWrite.js"
import type { ServerBundle, ServerRow } from "./ServerWrite.js"
import * as Snapshot from "./Snapshot.js"
import type { Replacement } from "./SourceState.js"
import { refused } from "./SyncRefused.js"
import type { SyncRefused } from "./SyncRefused.js"
import { resolve } from "./TableDeclaration.js"
import type { InvalidTableDeclaration, ServerTables, TableDeclaration } from "./TableDeclaration.js"
import * as Watch from "./Watch.js"
import * as Watchers from "./Watchers.js"
import type { BundleEvent } from "./Watchers.js"

/**
 * What an operation of the server fails with. `SyncRefused` is an answer of the protocol; the other two are 500.
 *
 * @since 0.1.0
 * @category errors
 */
export type ServerFailure = SyncRefused | ServerStorageError | Lifecycle.ServerClosed

type Operation<A> = Effect.Effect<A, ServerFailure>

/**
 * The sync server.
 *
 * Every operation is one transaction of the store: done and durable when it succeeds, without a trace when it fails or is
 * interrupted. Operations of a closing server are refused (`service_unavailable`).
 *
 * @since 0.1.0
 * @category services
 */
export class SyncServer extends Context.Tag("oversqlite/SyncServer")<SyncServer, {
  /** The settings with every default filled in. */
  readonly settings: ServerSettings

  /** `GET /sync/capabilities` (wire.md §4.12). Answers while the server closes, too. */
  readonly capabilities: (actor: Actor) => Effect.Effect<Capabilities>
  /** `POST /sync/connect` (wire.md §4.1). */
  readonly connect: (actor: Actor, request: { readonly hasLocalPendingRows: boolean }) => Operation<ConnectOutcome>
  /** `POST /sync/push-sessions` (wire.md §4.2). */
  readonly createPushSession: (actor: Actor, request: PushSessionRequest) => Operation<Push.CreateOutcome>
  /** `POST /sync/push-sessions/{push_id}/chunks` (wire.md §4.3); the value is the next expected row ordinal. */
  readonly uploadChunk: (actor: Actor, pushId: string, request: PushChunkRequest) => Operation<number>
  /** `POST /sync/push-sessions/{push_id}/commit` (wire.md §4.4). */
  readonly commitPushSession: (actor: Actor, pushId: string) => Operation<BundleHeader>
  /** `DELETE /sync/push-sessions/{push_id}` (wire.md §4.5). */
  readonly deletePushSession: (actor: Actor, pushId: string) => Operation<void>
  /** `GET /sync/committed-bundles/{bundle_seq}/rows` (wire.md §4.6). */
  readonly committedRows: (
    actor: Actor,
    request: { readonly bundleSeq: bigint; readonly after: bigint | undefined; readonly maxRows: number }
  ) => Operation<History.BundlePage>
  /** `GET /sync/pull` (wire.md §4.7). `after` is exclusive, `target` inclusive and 0 for none. */
  readonly pull: (
    actor: Actor,
    request: { readonly after: bigint; readonly target: bigint; readonly maxBundles: number }
  ) => Operation<History.HistoryPage>
  /**
   * `GET /sync/watch` (wire.md §4.8): the commits beyond `after`; `undefined` stands for a cursor that is none, whose
   * refusal has its place between others. The stream registers when it is run.
   */
  readonly watch: (
    actor: Actor,
    after: bigint | undefined
  ) => Operation<Stream.Stream<BundleEvent, ServerStorageError>>
  /** `POST /sync/snapshot-sessions` (wire.md §4.9). */
  readonly createSnapshot: (actor: Actor, replacement: Replacement | undefined) => Operation<Snapshot.CreatedSnapshot>
  /** `GET /sync/snapshot-sessions/{snapshot_id}` (wire.md §4.10). */
  readonly snapshotChunk: (
    actor: Actor,
    snapshotId: string,
    page: { readonly after: bigint; readonly maxRows: number }
  ) => Operation<Snapshot.SnapshotPage>
  /** `DELETE /sync/snapshot-sessions/{snapshot_id}` (wire.md §4.11). */
  readonly deleteSnapshot: (actor: Actor, snapshotId: string) => Operation<void>
  /** `GET /syncx/health` and `/syncx/status` (wire.md §4.13). */
  readonly health: Effect.Effect<HealthDocument, ServerStorageError>

  /**
   * Writes rows of a scope from the host application: one transaction, one bundle under `writerId` (server.md §12).
   *
   * @example
   * ```ts
   * import * as Effect from "effect/Effect"
   * import { SyncServer } from "oversqlite/server"
   *
   * const publish = Effect.flatMap(SyncServer, (server) =>
   *   server.write("user-1", "newsroom", [{ table: "news", key: "n1", payload: { title: "Hello" } }]))
   * ```
   */
  readonly write: (userId: string, writerId: string, rows: ReadonlyArray<ServerRow>) => Operation<ServerBundle>
  /**
   * The live rows of a scope, tables by name and keys by their bytes, read in pages: what is committed while it runs may
   * or may not be seen. An unknown user has none.
   */
  readonly rows: (userId: string) => Stream.Stream<StoredRow, ServerFailure>
  /**
   * Declares the history up to `floor` pruned without deleting it. Fails with `invalid_request` for an unknown user or a
   * floor beyond the newest bundle. It can lower the floor as well, as long as the bundles are there.
   */
  readonly setRetainedFloor: (userId: string, floor: number) => Operation<void>
  /** The id of the store's history (wire.md §12). */
  readonly historyId: Effect.Effect<string>
  /** Gives the store a new history id: to be called once after a backup was restored. The value is the new id. */
  readonly renewHistory: Operation<string>
  /** How many streams watch a user's scope. */
  readonly watcherCount: (userId: string) => Effect.Effect<number>
  /** Refuses new operations, waits for the running ones, and ends all streams. The layer's scope does the same. */
  readonly shutdown: Effect.Effect<void>
}>() {
  /**
   * The server as a layer; its scope shuts it down. Fails with `InvalidTableDeclaration` if the tables contradict each
   * other or the store.
   *
   * @example
   * ```ts
   * import { SqliteClient } from "@effect/sql-sqlite-node"
   * import * as Layer from "effect/Layer"
   * import { ServerStorageSqlite, SyncServer } from "oversqlite/server"
   *
   * const server = SyncServer.layer({ tables: [{ table: "notes", key: { column: "id", kind: "text" } }] }).pipe(
   *   Layer.provide(ServerStorageSqlite.layer),
   *   Layer.provide(SqliteClient.layer({ filename: "server.db" }))
   * )
   * ```
   */
  static layer(
    options: SyncServerOptions
  ): Layer.Layer<SyncServer, InvalidTableDeclaration | ServerStorageError, ServerStorage> {
    return Layer.scoped(SyncServer, make(options))
  }
}

const pageRows = 1000

const liveRows = (parts: ServerParts, userId: string): Stream.Stream<StoredRow, ServerStorageError> =>
  Stream.unwrap(Effect.map(parts.store.read(parts.store.scope(userId)), (scope) =>
    scope === undefined
      ? Stream.empty
      : Stream.flatMap(Stream.fromIterable(parts.tables.values()), (table) =>
        Stream.paginateEffect<string | undefined, ReadonlyArray<StoredRow>, ServerStorageError, never>(
          undefined,
          (after) =>
            Effect.map(
              parts.store.read(parts.store.liveRows(scope.id, table, { after, limit: pageRows })),
              (rows) => [rows, rows.length < pageRows ? Option.none() : Option.some(rows[rows.length - 1]?.key)]
            )
        ).pipe(Stream.flattenIterables))))

const setRetainedFloor = ({ store }: ServerParts) => (userId: string, floor: number) =>
  store.write(Effect.gen(function*() {
    const scope = yield* store.scope(userId)
    if (scope === undefined || floor < 0 || floor > scope.latestBundleSeq) {
      return yield* refused("invalid_request", "the floor must lie between 0 and the newest bundle of a known user")
    }
    yield* store.putRetainedFloor(scope.id, floor)
  }))

/**
 * Opens the store for the declared tables and starts the server on it. The scope shuts it down.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(options: SyncServerOptions) {
  const tables: ServerTables = yield* resolve(options.tables)
  const storage = yield* ServerStorage
  const { uuid } = yield* Identifiers
  const store = yield* storage.open(tables)
  const watchers = yield* Watchers.make
  const settings = makeSettings(options)
  const lifecycle = yield* Lifecycle.make
  const historyId = yield* Ref.make(yield* store.read(store.historyId))
  const parts: ServerParts = { store, tables, settings, watchers, uuid }
  const shutdown = Effect.zipRight(lifecycle.close, watchers.close)
  yield* Effect.addFinalizer(() => shutdown)

  /** Every operation goes through the lifecycle. */
  const operation =
    <Arguments extends ReadonlyArray<unknown>, A, E>(flow: (...args: Arguments) => Effect.Effect<A, E>) =>
    (...args: Arguments) => lifecycle.run(flow(...args))

  const service: SyncServer["Type"] = {
    settings,
    capabilities: (actor) =>
      Effect.zipWith(
        settings.watch.enabled ? settings.watch.allow(actor) : Effect.succeed(false),
        Ref.get(historyId),
        (watch, historyId) => Documents.capabilities(settings, tables, { watch, historyId })
      ),
    connect: operation(connect(parts)),
    createPushSession: operation(Push.create(parts)),
    uploadChunk: operation(Push.upload(parts)),
    commitPushSession: operation(commit(parts)),
    deletePushSession: operation(Push.drop(parts)),
    committedRows: operation(History.committedRows(parts)),
    pull: operation(History.pull(parts)),
    watch: (actor, after) =>
      Effect.zipRight(
        Watch.admit(parts, actor, after === undefined),
        lifecycle.run(Watch.watch(parts)(actor, after ?? 0n))
      ),
    createSnapshot: operation(Snapshot.create(parts)),
    snapshotChunk: operation(Snapshot.chunk(parts)),
    deleteSnapshot: operation(Snapshot.drop(parts)),
    health: Effect.zipWith(
      lifecycle.activity,
      store.read(store.statistics),
      (activity, statistics) => Documents.health(settings, tables, activity, statistics)
    ),
    write: operation(write(parts)),
    rows: (userId) => liveRows(parts, userId),
    setRetainedFloor: operation(setRetainedFloor(parts)),
    historyId: Ref.get(historyId),
    renewHistory: lifecycle.run(Effect.gen(function*() {
      const fresh = yield* uuid
      yield* Effect.uninterruptible(Effect.zipRight(
        store.write(store.renewHistory(fresh)),
        Ref.set(historyId, fresh)
      ))
      return fresh
    })),
    watcherCount: watchers.count,
    shutdown
  }
  return service
})

/**
 * Options of a server: the tables it synchronises, and its settings.
 *
 * @since 0.1.0
 * @category options
 */
export interface SyncServerOptions extends ServerOptions {
  readonly tables: ReadonlyArray<TableDeclaration>
}
