/**
 * The state machine of a scope: who may say what an account's first data are (server.md §4). Times are milliseconds of
 * the server's clock.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { refused } from "./SyncRefused.js"
import type { SyncRefused } from "./SyncRefused.js"
import { rfc3339 } from "./Timestamp.js"

/**
 * Nobody has initialized the scope; a scope without a record is in this state too.
 *
 * @since 0.1.0
 * @category models
 */
export interface Uninitialized {
  readonly _tag: "Uninitialized"
}

/**
 * One source holds a lease and uploads the first data. The lease is over at `leaseExpiresAt`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Initializing {
  readonly _tag: "Initializing"
  readonly sourceId: string
  readonly initializationId: string
  readonly leaseExpiresAt: number
}

/**
 * The scope has its first data, or was declared empty. Nothing leads out of this state.
 *
 * @since 0.1.0
 * @category models
 */
export interface Initialized {
  readonly _tag: "Initialized"
  readonly sourceId: string
  readonly at: number
}

/**
 * The state of a scope (server.md §4).
 *
 * @since 0.1.0
 * @category models
 */
export type ScopeState = Uninitialized | Initializing | Initialized

/**
 * The state of a scope nobody has connected to.
 *
 * @since 0.1.0
 * @category constructors
 */
export const uninitialized: ScopeState = { _tag: "Uninitialized" }

/**
 * The state that counts at `now`: a lease that is over is none.
 *
 * @since 0.1.0
 * @category getters
 */
export const at = (state: ScopeState, now: number): ScopeState =>
  state._tag === "Initializing" && state.leaseExpiresAt <= now ? uninitialized : state

/**
 * What connect answers (wire.md §4.1).
 *
 * @since 0.1.0
 * @category models
 */
export type ConnectOutcome =
  | { readonly resolution: "remote_authoritative" | "initialize_empty" }
  | { readonly resolution: "initialize_local"; readonly initializationId: string; readonly leaseExpiresAt: number }
  | { readonly resolution: "retry_later"; readonly leaseExpiresAt: number; readonly retryAfterSeconds: number }

/**
 * Connect: the answer, and the state to store if it changes. `freshId` is used only where a new lease begins.
 *
 * @since 0.1.0
 * @category transitions
 */
export const connect = (state: ScopeState, caller: {
  readonly sourceId: string
  readonly hasLocalPendingRows: boolean
  readonly now: number
  readonly leaseTtl: number
  readonly freshId: string
}): { readonly outcome: ConnectOutcome; readonly next: ScopeState | undefined } => {
  const current = at(state, caller.now)
  if (current._tag === "Initialized") return { outcome: { resolution: "remote_authoritative" }, next: undefined }
  if (current._tag === "Initializing" && current.sourceId !== caller.sourceId) {
    const remaining = Math.floor((current.leaseExpiresAt - caller.now) / 1000)
    return {
      outcome: {
        resolution: "retry_later",
        leaseExpiresAt: current.leaseExpiresAt,
        retryAfterSeconds: Math.max(1, remaining)
      },
      next: undefined
    }
  }
  if (!caller.hasLocalPendingRows) {
    return {
      outcome: { resolution: "initialize_empty" },
      next: { _tag: "Initialized", sourceId: caller.sourceId, at: caller.now }
    }
  }
  const lease: Initializing = {
    _tag: "Initializing",
    sourceId: caller.sourceId,
    initializationId: current._tag === "Initializing" ? current.initializationId : caller.freshId,
    leaseExpiresAt: caller.now + caller.leaseTtl
  }
  return {
    outcome: {
      resolution: "initialize_local",
      initializationId: lease.initializationId,
      leaseExpiresAt: lease.leaseExpiresAt
    },
    next: lease
  }
}

const scopeUninitialized = (userId: string) =>
  refused("scope_uninitialized", `sync scope for user ${userId} is not initialized`)

const leaseMismatch = () =>
  refused("initialization_stale", "initialization_id does not match the active initialization lease")

/**
 * Whether a push session may be created; the value is the lease it belongs to, if any (wire.md §4.2 #3–7).
 *
 * @since 0.1.0
 * @category guards
 */
export const admitCreate = (
  userId: string,
  state: ScopeState,
  caller: { readonly sourceId: string; readonly initializationId: string; readonly now: number }
): Either.Either<Initializing | undefined, SyncRefused> => {
  const current = at(state, caller.now)
  const given = caller.initializationId !== ""
  switch (current._tag) {
    case "Uninitialized":
      return Either.left(
        given ? refused("initialization_expired", "the initialization lease has expired") : scopeUninitialized(userId)
      )
    case "Initializing":
      if (!given) {
        return Either.left(
          refused("push_session_invalid", "initialization_id is required while the scope is initializing")
        )
      }
      return current.sourceId === caller.sourceId && current.initializationId === caller.initializationId
        ? Either.right(current)
        : Either.left(leaseMismatch())
    case "Initialized":
      return given
        ? Either.left(
          refused("push_session_invalid", "initialization_id must be absent once the scope is initialized")
        )
        : Either.right(undefined)
  }
}

/**
 * Whether a session opened under a lease still goes with the active one (wire.md §4.3 #7); `undefined` for a session
 * without lease, which needs nothing.
 *
 * @since 0.1.0
 * @category guards
 */
export const admitLeased = (
  state: ScopeState,
  session: { readonly sourceId: string; readonly initializationId: string | undefined },
  now: number
): Either.Either<Initializing | undefined, SyncRefused> => {
  if (session.initializationId === undefined) return Either.right(undefined)
  const current = at(state, now)
  return current._tag === "Initializing" && current.sourceId === session.sourceId &&
      current.initializationId === session.initializationId
    ? Either.right(current)
    : Either.left(leaseMismatch())
}

/**
 * Whether history and snapshots may be read, and events watched (server.md §4).
 *
 * @since 0.1.0
 * @category guards
 */
export const admitRead = (userId: string, state: ScopeState, now: number): Either.Either<void, SyncRefused> => {
  const current = at(state, now)
  switch (current._tag) {
    case "Uninitialized":
      return Either.left(scopeUninitialized(userId))
    case "Initializing":
      return Either.left(refused(
        "scope_initializing",
        `sync scope for user ${userId} is initializing until ${rfc3339(current.leaseExpiresAt)}`
      ))
    case "Initialized":
      return Either.void
  }
}
