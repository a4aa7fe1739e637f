/**
 * What the flows of the server share.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { ServerSettings } from "./ServerSettings.js"
import type { Scope, ServerStorageError, ServerStore } from "./ServerStorage.js"
import type { ServerTables } from "./TableDeclaration.js"
import type { Watchers } from "./Watchers.js"

/**
 * The parts of a running server.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerParts {
  readonly store: ServerStore
  readonly tables: ServerTables
  readonly settings: ServerSettings
  readonly watchers: Watchers
  readonly uuid: Effect.Effect<string>
}

const undashed = /^[0-9a-f]{32}$/
const dashed = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/**
 * The canonical form of a session id in a path; undashed, uppercase and brace-wrapped spellings are accepted
 * (wire.md §9 #13). `undefined` where the text is no UUID.
 *
 * @since 0.1.0
 * @category decoding
 */
export const sessionId = (text: string): string | undefined => {
  const lower = (/^\{.*\}$/.test(text) ? text.slice(1, -1) : text).toLowerCase()
  if (dashed.test(lower)) return lower
  return undashed.test(lower)
    ? lower.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")
    : undefined
}

/**
 * Whole milliseconds of the server's clock: a test clock may stand between two.
 *
 * @since 0.1.0
 * @category getters
 */
export const now: Effect.Effect<number> = Effect.map(Clock.currentTimeMillis, Math.floor)

/**
 * Newest bundle of a scope that may have no record.
 *
 * @since 0.1.0
 * @category getters
 */
export const latestOf = (scope: Scope | undefined): number => scope?.latestBundleSeq ?? 0

/**
 * What a flow can fail with because of the store.
 *
 * @since 0.1.0
 * @category models
 */
export type Fault = ServerStorageError
