/**
 * What the server keeps, as one service: another database serves when it implements this (server.md §2).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Op } from "../protocol/Wire.js"
import type { RefusedRow } from "../protocol/WireError.js"
import type { ScopeState } from "./ScopeState.js"
import type { SourceState } from "./SourceState.js"
import type { RowConflict } from "./SyncRefused.js"
import type { InvalidTableDeclaration, ServerTable, ServerTables } from "./TableDeclaration.js"

/**
 * The database does not do what it should. `reason` is `busy` when another process kept it locked for too long, `full`
 * when it has no room, `layout` when its tables are those of another version of this library, `other` for everything else.
 * `cause` is for logs and holds no row contents.
 *
 * @since 0.1.0
 * @category errors
 */
export class ServerStorageError extends Data.TaggedError("ServerStorageError")<{
  readonly reason: "busy" | "full" | "layout" | "other"
  readonly cause: unknown
}> {
  override get message() {
    return `the server's database failed (${this.reason})`
  }
}

/**
 * A scope: everything of one user. `latestBundleSeq` is 0 before the first bundle; bundles at or below `retainedFloor` are
 * out of contract.
 *
 * @since 0.1.0
 * @category models
 */
export interface Scope {
  readonly id: number
  readonly userId: string
  readonly latestBundleSeq: number
  readonly retainedFloor: number
  readonly state: ScopeState
}

/**
 * The staging area of one outgoing bundle. `id` is the storage's own, `pushId` the one of the wire; `expiresAt` is
 * milliseconds of the server's clock.
 *
 * @since 0.1.0
 * @category models
 */
export interface PushSession {
  readonly id: number
  readonly pushId: string
  readonly scopeId: number
  readonly sourceId: string
  readonly sourceBundleId: number
  readonly plannedRows: number
  readonly nextRowOrdinal: number
  readonly initializationId: string | undefined
  readonly expiresAt: number
}

/**
 * A validated row of an upload.
 *
 * `payload` is stored text, absent for DELETE; the character U+0001, which JSON text cannot hold raw, stands in it for the
 * time of the commit. `partial` says that members may be missing and are to be taken from the row as it then is.
 * `problem` is why the row can never be stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface StagedRow {
  readonly table: ServerTable
  readonly key: string
  readonly op: Op
  readonly baseRowVersion: number
  readonly payload: string | undefined
  readonly partial: boolean
  readonly problem: string | undefined
}

/**
 * A committed bundle without its rows. `bundleHash` is 64 hex digits, `byteCount` the canonical bytes it covers.
 *
 * @since 0.1.0
 * @category models
 */
export interface BundleHeader {
  readonly bundleSeq: number
  readonly sourceId: string
  readonly sourceBundleId: number
  readonly rowCount: number
  readonly byteCount: number
  readonly bundleHash: string
}

/**
 * A row of a committed bundle; `payload` is stored text, `null` for DELETE. `rowOrdinal` is 0-based.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredBundleRow {
  readonly bundleSeq: number
  readonly rowOrdinal: number
  readonly table: ServerTable
  readonly key: string
  readonly op: Op
  readonly payload: string | null
}

/**
 * A live row; `payload` is stored text.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoredRow {
  readonly table: ServerTable
  readonly key: string
  readonly rowVersion: number
  readonly payload: string
}

/**
 * A frozen copy of the live rows of a scope.
 *
 * @since 0.1.0
 * @category models
 */
export interface SnapshotSession {
  readonly id: number
  readonly snapshotId: string
  readonly scopeId: number
  readonly bundleSeq: number
  readonly rowCount: number
  readonly byteCount: number
  readonly expiresAt: number
}

/**
 * Figures over all scopes (wire.md §4.13).
 *
 * @since 0.1.0
 * @category models
 */
export interface Statistics {
  readonly latestBundleSeqMax: number
  readonly retainedFloorMin: number
  readonly retainedFloorMax: number
  readonly retainedWindowMin: number
  readonly retainedWindowMax: number
  readonly historyPrunedErrors: number
  readonly committedBundles: number
  readonly committedBytes: number
}

type Step<A> = Effect.Effect<A, ServerStorageError>

/**
 * The store of the server.
 *
 * `write`, `draft` and `read` are the only transactions. Every other method is a step of one: it is called inside, sees
 * what earlier steps of the transaction have done, and is undone with it. Steps work on sets: what a step costs in
 * statements does not depend on the number of rows, except that very large sets are worked off in slices, between which
 * other fibers run.
 *
 * @since 0.1.0
 * @category services
 */
export interface ServerStore {
  /**
   * Runs steps as one transaction that no other writer interleaves with: all of them are durable when it succeeds, none
   * when it fails or is interrupted. Nests in nothing.
   */
  readonly write: <A, E, R>(steps: Effect.Effect<A, E, R>) => Effect.Effect<A, E | ServerStorageError, R>

  /**
   * As `write`, for what a client can simply repeat: a power cut, but not the end of the process, may undo it until the
   * next `write`.
   */
  readonly draft: <A, E, R>(steps: Effect.Effect<A, E, R>) => Effect.Effect<A, E | ServerStorageError, R>

  /** Runs reading steps against one state of the store. Nests in nothing. */
  readonly read: <A, E, R>(steps: Effect.Effect<A, E, R>) => Effect.Effect<A, E | ServerStorageError, R>

  /** Identity of the store's history (wire.md §12, `history_id`): minted with the store, changed only by the next method. */
  readonly historyId: Step<string>

  /** Gives the store a new history id: to be called once after a backup was restored. */
  readonly renewHistory: (historyId: string) => Step<void>

  // -- scopes and sources ------------------------------------------------------------------------------------------

  /** The scope of a user, if it has a record. */
  readonly scope: (userId: string) => Step<Scope | undefined>

  /** Stores the state of a user's scope, creating the record (no bundle, floor 0) where there is none. */
  readonly putScopeState: (userId: string, state: ScopeState) => Step<Scope>

  /** Stores the retained floor without deleting anything. */
  readonly putRetainedFloor: (scopeId: number, floor: number) => Step<void>

  /** What is known of a source. */
  readonly source: (scopeId: number, sourceId: string) => Step<SourceState | undefined>

  /** Stores what is known of a source. */
  readonly putSource: (scopeId: number, sourceId: string, state: SourceState) => Step<void>

  // -- push sessions -----------------------------------------------------------------------------------------------

  /** Opens an empty session in place of the one of the same tuple, whose rows are dropped. */
  readonly openPushSession: (session: Omit<PushSession, "id" | "nextRowOrdinal">) => Step<PushSession>

  /** A session by its wire id (lowercase, dashed). */
  readonly pushSession: (pushId: string) => Step<PushSession | undefined>

  /** Appends rows with consecutive ordinals from `nextRowOrdinal` on and moves it and the expiry. */
  readonly stage: (session: PushSession, rows: ReadonlyArray<StagedRow>, expiresAt: number) => Step<void>

  /** Drops a session and its rows. */
  readonly dropPushSession: (session: PushSession) => Step<void>

  /** Drops all sessions of all users that expired at or before `now`. */
  readonly dropExpiredPushSessions: (now: number) => Step<void>

  // -- commit ------------------------------------------------------------------------------------------------------

  /** How many rows are staged, whether their ordinals are 0, 1, 2 …, and whether a key occurs twice. */
  readonly stagedShape: (
    session: PushSession
  ) => Step<{ readonly rowCount: number; readonly contiguous: boolean; readonly duplicate: boolean }>

  /** The first `limit` staged rows that conflict with the rows as they are (server.md §7.1), in row order. */
  readonly conflicts: (session: PushSession, limit: number) => Step<ReadonlyArray<RowConflict>>

  /** The first `limit` staged rows with a problem, in row order. */
  readonly stagedProblems: (session: PushSession, limit: number) => Step<ReadonlyArray<RefusedRow>>

  /**
   * Applies the staged rows in row order, with the delete actions of references, as bundle `bundleSeq`, and remembers the
   * effects for the following two steps (server.md §7.2–7.4). A payload's commit time becomes `now`. Returns the rows that
   * a `restrict` reference keeps from being deleted.
   */
  readonly apply: (session: PushSession, bundleSeq: number, now: number) => Step<ReadonlyArray<RefusedRow>>

  /** The first `limit` rows that leave a reference or a unique column violated by the applied bundle. */
  readonly violations: (session: PushSession, limit: number) => Step<ReadonlyArray<RefusedRow>>

  /**
   * Writes the applied effects as the scope's next bundle, which becomes its latest, and returns it; `undefined`, and no
   * bundle, if nothing was affected.
   */
  readonly seal: (
    scopeId: number,
    bundle: Pick<BundleHeader, "bundleSeq" | "sourceId" | "sourceBundleId">,
    now: number
  ) => Step<BundleHeader | undefined>

  /** Moves the retained floor up to `floor` and deletes the bundles at or below it. */
  readonly prune: (scopeId: number, floor: number) => Step<void>

  // -- history -----------------------------------------------------------------------------------------------------

  /** The stored bundle of a source tuple. */
  readonly bundleOf: (scopeId: number, sourceId: string, sourceBundleId: number) => Step<BundleHeader | undefined>

  /** A stored bundle. */
  readonly bundle: (scopeId: number, bundleSeq: bigint) => Step<BundleHeader | undefined>

  /** The first `limit` stored bundles with `after < bundleSeq ≤ through`, ascending. */
  readonly bundles: (
    scopeId: number,
    window: { readonly after: bigint; readonly through: bigint; readonly limit: number }
  ) => Step<ReadonlyArray<BundleHeader>>

  /** All rows of the bundles `first … last`, in bundle and row order. */
  readonly rowsOfBundles: (
    scopeId: number,
    first: number,
    last: number
  ) => Step<ReadonlyArray<StoredBundleRow>>

  /** The first `limit` rows of a bundle with an ordinal above `after`. */
  readonly bundleRows: (
    scopeId: number,
    bundleSeq: number,
    page: { readonly after: bigint; readonly limit: number }
  ) => Step<ReadonlyArray<StoredBundleRow>>

  /** Counts a pull that was answered `history_pruned`. */
  readonly countHistoryPruned: Step<void>

  // -- rows and snapshots ------------------------------------------------------------------------------------------

  /** Version and liveness of single rows; rows that never existed are left out. */
  readonly rowStates: (
    scopeId: number,
    rows: ReadonlyArray<{ readonly table: ServerTable; readonly key: string }>
  ) => Step<ReadonlyArray<{ readonly index: number; readonly rowVersion: number; readonly live: boolean }>>

  /** The first `limit` live rows of a table with a key above `after`, in order of the key's bytes. */
  readonly liveRows: (
    scopeId: number,
    table: ServerTable,
    page: { readonly after: string | undefined; readonly limit: number }
  ) => Step<ReadonlyArray<StoredRow>>

  /** Copies the live rows of a scope, tables by name, then keys by bytes (server.md §10). */
  readonly freezeSnapshot: (
    session: Pick<SnapshotSession, "snapshotId" | "scopeId" | "bundleSeq" | "expiresAt">
  ) => Step<SnapshotSession>

  /** A snapshot by its wire id (lowercase, dashed). */
  readonly snapshot: (snapshotId: string) => Step<SnapshotSession | undefined>

  /** The first `limit` rows of a snapshot after the first `after`. */
  readonly snapshotRows: (
    session: SnapshotSession,
    page: { readonly after: bigint; readonly limit: number }
  ) => Step<ReadonlyArray<StoredRow>>

  /** Drops a snapshot. */
  readonly dropSnapshot: (session: SnapshotSession) => Step<void>

  /** Drops all snapshots of all users that expired at or before `now`. */
  readonly dropExpiredSnapshots: (now: number) => Step<void>

  /** Figures for health and status. */
  readonly statistics: Step<Statistics>
}

/**
 * Where the store of the server comes from.
 *
 * @since 0.1.0
 * @category services
 */
export class ServerStorage extends Context.Tag("oversqlite/ServerStorage")<ServerStorage, {
  /**
   * Opens the store for these tables, creating it where there is none. Fails with `InvalidTableDeclaration` if what it
   * holds does not fit: every table in the store must be declared, with the key it has there. Tables may be added.
   */
  readonly open: (tables: ServerTables) => Effect.Effect<ServerStore, ServerStorageError | InvalidTableDeclaration>
}>() {}
