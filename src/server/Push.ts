/**
 * Push sessions: create, upload, delete (wire.md §4.2, §4.3, §4.5).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { PushChunkRequest, PushSessionRequest } from "../protocol/Wire.js"
import type { Actor } from "./Actor.js"
import * as ScopeState from "./ScopeState.js"
import type { Fault, ServerParts } from "./ServerParts.js"
import { now, sessionId } from "./ServerParts.js"
import type { BundleHeader, PushSession, Scope } from "./ServerStorage.js"
import * as SourceState from "./SourceState.js"
import { refused, SyncRefused } from "./SyncRefused.js"
import * as UploadRow from "./UploadRow.js"

/**
 * What creating a session comes to: a staging area, or the bundle this tuple became long ago.
 *
 * @since 0.1.0
 * @category models
 */
export type CreateOutcome =
  | { readonly status: "staging"; readonly session: PushSession }
  | { readonly status: "already_committed"; readonly bundle: BundleHeader }

const extendLease = ({ settings, store }: ServerParts, userId: string, lease: ScopeState.Initializing, at: number) =>
  store.putScopeState(userId, { ...lease, leaseExpiresAt: at + settings.initializationLeaseTtl })

/**
 * Opens the staging area of a bundle, in place of an older one of the same tuple (wire.md §4.2).
 *
 * @since 0.1.0
 * @category flows
 */
export const create = (parts: ServerParts) => {
  const { settings, store, uuid } = parts
  return Effect.fnUntraced(function*(
    actor: Actor,
    request: PushSessionRequest
  ): Effect.fn.Return<CreateOutcome, SyncRefused | Fault> {
    const { source_bundle_id: sourceBundleId } = request
    const plannedRows = Math.min(request.planned_row_count, Number.MAX_SAFE_INTEGER)
    if (sourceBundleId <= 0) return yield* refused("push_session_invalid", "source_bundle_id must be > 0")
    if (plannedRows <= 0) return yield* refused("push_session_invalid", "planned_row_count must be > 0")
    const pushId = yield* uuid
    return yield* store.draft(Effect.gen(function*() {
      const at = yield* now
      const scope = yield* store.scope(actor.userId)
      const lease = yield* ScopeState.admitCreate(actor.userId, scope?.state ?? ScopeState.uninitialized, {
        sourceId: actor.sourceId,
        initializationId: request.initialization_id.trim(),
        now: at
      })
      // A scope without record is uninitialized, and was refused.
      if (scope === undefined) return yield* refused("scope_uninitialized", "sync scope is not initialized")
      const bundle = yield* store.bundleOf(scope.id, actor.sourceId, sourceBundleId)
      if (bundle !== undefined && bundle.bundleSeq > scope.retainedFloor) {
        yield* store.dropExpiredPushSessions(at)
        return { status: "already_committed", bundle } as const
      }
      const source = yield* store.source(scope.id, actor.sourceId)
      yield* SourceState.admitCreate(actor.userId, actor.sourceId, source, sourceBundleId)
      yield* store.dropExpiredPushSessions(at)
      if (lease !== undefined) yield* extendLease(parts, actor.userId, lease, at)
      const session = yield* store.openPushSession({
        pushId,
        scopeId: scope.id,
        sourceId: actor.sourceId,
        sourceBundleId,
        plannedRows,
        initializationId: lease?.initializationId,
        expiresAt: at + settings.pushSessionTtl
      })
      return { status: "staging", session } as const
    }))
  })
}

/**
 * The live session of a request, with the scope it belongs to; a step inside a transaction (wire.md §4.3 #4–6).
 *
 * @since 0.1.0
 * @category steps
 */
export const ownSession = ({ store }: ServerParts) =>
  Effect.fnUntraced(function*(
    actor: Actor,
    pushId: string,
    at: number
  ): Effect.fn.Return<{ readonly session: PushSession; readonly scope: Scope }, SyncRefused | Fault> {
    const id = sessionId(pushId)
    const session = id === undefined ? undefined : yield* store.pushSession(id)
    if (session === undefined) return yield* refused("push_session_not_found", `push session ${pushId} was not found`)
    const scope = yield* store.scope(actor.userId)
    if (scope?.id !== session.scopeId) {
      return yield* refused("push_session_forbidden", `push session ${pushId} belongs to another user`)
    }
    if (session.expiresAt <= at) return yield* refused("push_session_expired", `push session ${pushId} has expired`)
    return { session, scope }
  })

/**
 * Takes the next rows of a session (wire.md §4.3); the value is the next expected ordinal. Not idempotent: a repeated
 * chunk is out of order.
 *
 * @since 0.1.0
 * @category flows
 */
export const upload = (parts: ServerParts) => {
  const { settings, store, tables } = parts
  return Effect.fnUntraced(function*(
    actor: Actor,
    pushId: string,
    request: PushChunkRequest
  ): Effect.fn.Return<number, SyncRefused | Fault> {
    const { rows, start_row_ordinal: start } = request
    if (start < 0) return yield* refused("push_chunk_invalid", "start_row_ordinal must be >= 0")
    if (rows.length === 0) return yield* refused("push_chunk_invalid", "rows must not be empty")
    if (rows.length > settings.maxRowsPerPushChunk) {
      return yield* refused(
        "push_chunk_invalid",
        `rows must not exceed ${settings.maxRowsPerPushChunk} per chunk, got ${rows.length}`
      )
    }
    const decoded = UploadRow.decode(tables, rows)
    const [first] = decoded.refused
    if (first !== undefined) {
      return yield* new SyncRefused({ code: "push_chunk_invalid", message: first.reason, rows: decoded.refused })
    }
    return yield* store.draft(Effect.gen(function*() {
      const at = yield* now
      const { scope, session } = yield* ownSession(parts)(actor, pushId, at)
      const lease = yield* ScopeState.admitLeased(scope.state, session, at)
      if (start !== session.nextRowOrdinal) {
        return yield* refused(
          "push_chunk_out_of_order",
          `push session ${pushId} expected start_row_ordinal ${session.nextRowOrdinal}, got ${start}`
        )
      }
      const next = start + rows.length
      if (next > session.plannedRows) {
        return yield* refused(
          "push_chunk_invalid",
          `chunk ends at row ${next}, beyond planned_row_count ${session.plannedRows}`
        )
      }
      yield* store.stage(session, decoded.staged, at + settings.pushSessionTtl)
      if (lease !== undefined) yield* extendLease(parts, actor.userId, lease, at)
      return next
    }))
  })
}

/**
 * Gives a session up (wire.md §4.5).
 *
 * @since 0.1.0
 * @category flows
 */
export const drop = (parts: ServerParts) =>
  Effect.fnUntraced(function*(actor: Actor, pushId: string): Effect.fn.Return<void, SyncRefused | Fault> {
    yield* parts.store.draft(Effect.gen(function*() {
      const { session } = yield* ownSession(parts)(actor, pushId, yield* now)
      yield* parts.store.dropPushSession(session)
    }))
  })
