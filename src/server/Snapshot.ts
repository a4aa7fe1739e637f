/**
 * Snapshot sessions and the rotation of a source (wire.md §4.9–4.11, server.md §10–11).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Actor } from "./Actor.js"
import * as ScopeState from "./ScopeState.js"
import type { Fault, ServerParts } from "./ServerParts.js"
import { latestOf, now, sessionId } from "./ServerParts.js"
import type { SnapshotSession, StoredRow } from "./ServerStorage.js"
import * as SourceState from "./SourceState.js"
import { refused } from "./SyncRefused.js"
import type { SyncRefused } from "./SyncRefused.js"

/**
 * A snapshot that was just made.
 *
 * @since 0.1.0
 * @category models
 */
export interface CreatedSnapshot {
  readonly session: SnapshotSession
  /** Of the newest bundle it contains, if that is stored. */
  readonly baseBundleHash: string | undefined
}

/**
 * A page of a snapshot. `nextRowOrdinal` is the number of rows up to and including this page.
 *
 * @since 0.1.0
 * @category models
 */
export interface SnapshotPage {
  readonly session: SnapshotSession
  readonly rows: ReadonlyArray<StoredRow>
  readonly nextRowOrdinal: bigint
  readonly hasMore: boolean
}

const rotate = ({ store }: ServerParts) =>
  Effect.fnUntraced(function*(
    actor: Actor,
    scopeId: number,
    request: SourceState.Replacement
  ): Effect.fn.Return<void, SyncRefused | Fault> {
    yield* SourceState.checkReplacement(actor.sourceId, request)
    const next = yield* SourceState.replace(
      actor.userId,
      request,
      yield* store.source(scopeId, request.previousSourceId),
      yield* store.source(scopeId, request.newSourceId)
    )
    if (next.replacement !== undefined) yield* store.putSource(scopeId, request.newSourceId, next.replacement)
    if (next.previous !== undefined) yield* store.putSource(scopeId, request.previousSourceId, next.previous)
  })

const beyond = (figure: number, limit: number) => limit > 0 && figure > limit

/**
 * Freezes the live rows of the scope, after replacing the source where asked to; both or nothing (wire.md §4.9).
 *
 * @since 0.1.0
 * @category flows
 */
export const create = (parts: ServerParts) => {
  const { settings, store, uuid } = parts
  return Effect.fnUntraced(function*(
    actor: Actor,
    replacement: SourceState.Replacement | undefined
  ): Effect.fn.Return<CreatedSnapshot, SyncRefused | Fault> {
    const snapshotId = yield* uuid
    const transaction = replacement === undefined ? store.draft : store.write
    return yield* transaction(Effect.gen(function*() {
      const at = yield* now
      yield* store.dropExpiredSnapshots(at)
      const scope = yield* store.scope(actor.userId)
      yield* ScopeState.admitRead(actor.userId, scope?.state ?? ScopeState.uninitialized, at)
      // A scope without record is uninitialized, and was refused.
      if (scope === undefined) return yield* refused("scope_uninitialized", "sync scope is not initialized")
      if (replacement !== undefined) yield* rotate(parts)(actor, scope.id, replacement)
      const session = yield* store.freezeSnapshot({
        snapshotId,
        scopeId: scope.id,
        bundleSeq: latestOf(scope),
        expiresAt: at + settings.snapshotSessionTtl
      })
      if (
        beyond(session.rowCount, settings.maxRowsPerSnapshotSession) ||
        beyond(session.byteCount, settings.maxBytesPerSnapshotSession)
      ) {
        return yield* refused("snapshot_session_create_failed", "the snapshot exceeds the limits of the server")
      }
      const base = yield* store.bundle(scope.id, BigInt(session.bundleSeq))
      return { session, baseBundleHash: base?.bundleHash }
    }))
  })
}

/** The session of a request; a step inside a transaction. `failure` answers an id that is no UUID (wire.md §9 #13). */
const ownSnapshot = ({ store }: ServerParts) =>
  Effect.fnUntraced(function*(
    actor: Actor,
    snapshotId: string,
    failure: "snapshot_chunk_failed" | "snapshot_session_delete_failed"
  ): Effect.fn.Return<SnapshotSession, SyncRefused | Fault> {
    const id = sessionId(snapshotId)
    if (id === undefined) return yield* refused(failure, "malformed snapshot id")
    const session = yield* store.snapshot(id)
    if (session === undefined) {
      return yield* refused("snapshot_session_not_found", `snapshot session ${snapshotId} was not found`)
    }
    const scope = yield* store.scope(actor.userId)
    return scope?.id === session.scopeId
      ? session
      : yield* refused("snapshot_session_forbidden", `snapshot session ${snapshotId} belongs to another user`)
  })

/**
 * Rows of a snapshot (wire.md §4.10). `after` is the number of rows already read.
 *
 * @since 0.1.0
 * @category flows
 */
export const chunk = (parts: ServerParts) =>
  Effect.fnUntraced(function*(
    actor: Actor,
    snapshotId: string,
    page: { readonly after: bigint; readonly maxRows: number }
  ): Effect.fn.Return<SnapshotPage, SyncRefused | Fault> {
    const at = yield* now
    return yield* parts.store.read(Effect.gen(function*() {
      const session = yield* ownSnapshot(parts)(actor, snapshotId, "snapshot_chunk_failed")
      if (session.expiresAt <= at) {
        return yield* refused("snapshot_session_expired", `snapshot session ${snapshotId} has expired`)
      }
      const found = yield* parts.store.snapshotRows(session, { after: page.after, limit: page.maxRows + 1 })
      const rows = found.slice(0, page.maxRows)
      return {
        session,
        rows,
        nextRowOrdinal: page.after + BigInt(rows.length),
        hasMore: found.length > rows.length
      }
    }))
  })

/**
 * Gives a snapshot up, expired or not (wire.md §4.11).
 *
 * @since 0.1.0
 * @category flows
 */
export const drop = (parts: ServerParts) =>
  Effect.fnUntraced(function*(actor: Actor, snapshotId: string): Effect.fn.Return<void, SyncRefused | Fault> {
    yield* parts.store.draft(
      Effect.flatMap(
        ownSnapshot(parts)(actor, snapshotId, "snapshot_session_delete_failed"),
        parts.store.dropSnapshot
      )
    )
  })
