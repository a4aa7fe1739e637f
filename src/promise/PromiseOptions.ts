/**
 * The options of a client in plain form, and what they become for the engine.
 *
 * @since 0.1.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { ConflictDecision, ConflictInput } from "../contract/ConflictResolution.js"
import * as ConflictResolution from "../contract/ConflictResolution.js"
import type { SyncOptions } from "../engine/SyncConfig.js"
import type { Bearer } from "../remote/Credentials.js"
import { Credentials } from "../remote/Credentials.js"
import type { RetryPolicyOptions } from "../remote/RetryPolicy.js"

/**
 * Decides one conflict, at once or later (conflicts.md §2). A resolver that throws or rejects counts as an invalid
 * resolution: nothing is lost, and the push fails with `InvalidConflictResolution`.
 *
 * @example
 * ```ts
 * import { acceptServer, keepMerged } from "oversqlite/promise"
 * import type { ConflictResolver } from "oversqlite/promise"
 *
 * export const joinNotes: ConflictResolver = ({ localRow, server, table }) =>
 *   table === "notes" && localRow !== null && server.row !== null
 *     ? keepMerged({ ...server.row, text: `${server.row["text"]}\n${localRow["text"]}` })
 *     : acceptServer
 * ```
 *
 * @since 0.1.0
 * @category models
 */
export type ConflictResolver = (conflict: ConflictInput) => ConflictDecision | Promise<ConflictDecision>

const plain = (resolver: ConflictResolution.ConflictResolver): ConflictResolver => (conflict) =>
  // The resolvers of this package do not fail.
  // @effect-diagnostics-next-line anyUnknownInErrorContext:off
  Effect.runPromise(resolver(conflict))

/**
 * The default resolver: the server wins (conflicts.md §2.3).
 *
 * @since 0.1.0
 * @category resolvers
 */
export const serverWins: ConflictResolver = plain(ConflictResolution.serverWins)

/**
 * The local change wins, also over a deletion on the server (conflicts.md §2.3).
 *
 * @since 0.1.0
 * @category resolvers
 */
export const clientWins: ConflictResolver = plain(ConflictResolution.clientWins)

/**
 * One resolver per table (lowercase name), with a fallback for the others.
 *
 * @since 0.1.0
 * @category resolvers
 */
export const byTable = (
  resolvers: Readonly<Record<string, ConflictResolver>>,
  fallback: ConflictResolver = serverWins
): ConflictResolver =>
(conflict) => (Object.hasOwn(resolvers, conflict.table) ? resolvers[conflict.table] ?? fallback : fallback)(conflict)

/**
 * A bearer token, with the user it was issued for if that is known: a token of another user than the attached one is
 * then refused before anything is sent.
 *
 * @since 0.1.0
 * @category models
 */
export type BearerToken = string | { readonly token: string; readonly userId?: string | undefined }

/**
 * Delivers a token, at once or later; called for every request. `forceRefresh` is true after the server has answered 401
 * to the token before: a cached one must not be handed out again. `signal` ends when the answer is not wanted any more.
 * One that throws or rejects makes the request fail with `TransportError`, code `credentials`.
 *
 * @since 0.1.0
 * @category models
 */
export type TokenProvider = (
  options: { readonly forceRefresh: boolean; readonly signal: AbortSignal }
) => BearerToken | Promise<BearerToken>

/**
 * Retries of single requests (retry-and-loops.md §1), times in milliseconds. A given object without `enabled: true`
 * switches them off.
 *
 * @since 0.1.0
 * @category models
 */
export interface RetryPolicy extends Omit<RetryPolicyOptions, "initialBackoff" | "maxBackoff" | "maxRetryAfter"> {
  /** The first wait in milliseconds; default 100. */
  readonly initialBackoff?: number | undefined
  /** The longest wait before jitter in milliseconds; default 1000, at least `initialBackoff`. */
  readonly maxBackoff?: number | undefined
  /** The longest wait in milliseconds that a `Retry-After` header of the server is granted; default 30 000. */
  readonly maxRetryAfter?: number | undefined
}

type Replaced =
  | "baseUrl"
  | "resolver"
  | "retryPolicy"
  | "requestTimeout"
  | "bodyIdleTimeout"
  | "watchIdleTimeout"
  | "backoffMin"
  | "backoffMax"
  | "watchFallbackInterval"

/**
 * Options of a client. `database`, `server`, `token`, `schema` and `tables` are required. All times are milliseconds; what
 * is absent, zero or negative takes its default.
 *
 * @since 0.1.0
 * @category models
 */
export interface SyncClientOptions extends Omit<SyncOptions, Replaced> {
  /** Path of the SQLite file, which is made if it is not there; its folder must exist. */
  readonly database: string
  /** Address of the server, `http` or `https`, with the path prefix of the deployment if there is one. */
  readonly server: string
  /** The token, or who delivers it. */
  readonly token: BearerToken | TokenProvider
  /** Decides conflicts; default: the server wins. Replaceable at any time by `setResolver`. */
  readonly resolver?: ConflictResolver | undefined
  /** Default: three attempts. */
  readonly retryPolicy?: RetryPolicy | undefined
  /** From sending a request to the headers of its answer; default 120 000. */
  readonly requestTimeout?: number | undefined
  /** Between two pieces of a body; default 30 000. */
  readonly bodyIdleTimeout?: number | undefined
  /** Between two bytes of the server's change events; default 65 000. */
  readonly watchIdleTimeout?: number | undefined
  /** Pause of `run` after a success, and its first pause after an error; default 1000. */
  readonly backoffMin?: number | undefined
  /** Longest pause of `run`; default 60 000. */
  readonly backoffMax?: number | undefined
  /** Pull interval of `run` while it listens to the server's change events; default: `backoffMax`. */
  readonly watchFallbackInterval?: number | undefined
  /** Makes source ids; default: random UUIDs. Each must be new in the whole scope. */
  readonly generateSourceId?: (() => string) | undefined
  /** For callers who know Effect: other transports, clocks, loggers. */
  readonly layers?: {
    /** In place of the built-in transport, which keeps connections alive. */
    readonly httpClient?: Layer.Layer<HttpClient.HttpClient> | undefined
    /** What every operation runs with: clock, randomness, logger, tracer. */
    readonly environment?: Layer.Layer<never> | undefined
  } | undefined
}

/**
 * A plain resolver as the engine's.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toResolver = (resolver: ConflictResolver): ConflictResolution.ConflictResolver => (conflict) =>
  // A resolver may reject with anything: the engine makes one typed error of it.
  // @effect-diagnostics-next-line anyUnknownInErrorContext:off unknownInEffectCatch:off
  Effect.tryPromise({ try: async () => resolver(conflict), catch: (error) => error })

const toBearer = (answer: BearerToken): Bearer => {
  const { token, userId } = typeof answer === "string" ? { token: answer, userId: undefined } : answer
  if (typeof token !== "string") throw new TypeError("the token provider has not delivered a string")
  return { token: Redacted.make(token), userId: Option.fromNullable(userId) }
}

/**
 * A plain token, or who delivers it, as the engine's credentials.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toCredentials = (token: SyncClientOptions["token"]): Layer.Layer<Credentials> =>
  Credentials.layer(({ forceRefresh }) =>
    // A provider may reject with anything: `Credentials` makes one typed error of it.
    // @effect-diagnostics-next-line anyUnknownInErrorContext:off unknownInEffectCatch:off
    Effect.tryPromise({
      try: async (signal) => toBearer(typeof token === "function" ? await token({ forceRefresh, signal }) : token),
      catch: (error) => error
    })
  )

/**
 * Plain options as the engine's.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toSyncOptions = (
  { database: _database, generateSourceId: _generate, layers: _layers, resolver, server, token: _token, ...options }:
    SyncClientOptions
): SyncOptions => ({
  ...options,
  baseUrl: server,
  resolver: resolver === undefined ? undefined : toResolver(resolver)
})
