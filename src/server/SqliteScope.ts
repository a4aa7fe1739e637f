/**
 * Scopes, sources and figures in the embedded store.
 *
 * @since 0.1.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import type { ScopeState } from "./ScopeState.js"
import { uninitialized } from "./ScopeState.js"
import type { Scope, ServerStore, Statistics } from "./ServerStorage.js"
import type { SourceState } from "./SourceState.js"
import { step, steps } from "./SqliteStep.js"

interface ScopeRow {
  readonly scope_id: number
  readonly user_id: string
  readonly latest_bundle_seq: number
  readonly retained_floor: number
  readonly state: ScopeState["_tag"]
  readonly source_id: string | null
  readonly initialization_id: string | null
  readonly lease_expires_at: number | null
  readonly initialized_at: number | null
}

const stateOf = (row: ScopeRow): ScopeState => {
  switch (row.state) {
    case "Uninitialized":
      return uninitialized
    case "Initializing":
      return {
        _tag: "Initializing",
        sourceId: row.source_id ?? "",
        initializationId: row.initialization_id ?? "",
        leaseExpiresAt: row.lease_expires_at ?? 0
      }
    case "Initialized":
      return { _tag: "Initialized", sourceId: row.source_id ?? "", at: row.initialized_at ?? 0 }
  }
}

const scopeOf = (row: ScopeRow): Scope => ({
  id: row.scope_id,
  userId: row.user_id,
  latestBundleSeq: row.latest_bundle_seq,
  retainedFloor: row.retained_floor,
  state: stateOf(row)
})

interface SourceRow {
  readonly state: SourceState["state"]
  readonly max_committed: number
  readonly replaced_by: string
  readonly reason: string
}

type Steps = Pick<
  ServerStore,
  | "historyId"
  | "renewHistory"
  | "scope"
  | "putScopeState"
  | "putRetainedFloor"
  | "source"
  | "putSource"
  | "countHistoryPruned"
  | "statistics"
>

/**
 * The steps on scopes and sources.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (sql: SqlClient): Steps => ({
  historyId: step(
    Effect.map(
      sql<{ readonly history_id: string }>`SELECT history_id FROM server_meta`,
      ([row]) => row?.history_id ?? ""
    )
  ),

  renewHistory: steps((historyId: string) => Effect.asVoid(sql`UPDATE server_meta SET history_id = ${historyId}`)),

  scope: steps((userId: string) =>
    Effect.map(
      sql<ScopeRow>`SELECT * FROM server_scope WHERE user_id = ${userId}`,
      ([row]) => row === undefined ? undefined : scopeOf(row)
    )
  ),

  putScopeState: steps((userId: string, state: ScopeState) => {
    const holder = state._tag === "Uninitialized" ? null : state.sourceId
    const lease = state._tag === "Initializing" ? state : undefined
    const initializedAt = state._tag === "Initialized" ? state.at : null
    return Effect.flatMap(
      sql<ScopeRow>`INSERT INTO server_scope
          (user_id, state, source_id, initialization_id, lease_expires_at, initialized_at)
        VALUES (${userId}, ${state._tag}, ${holder}, ${lease?.initializationId ?? null},
          ${lease?.leaseExpiresAt ?? null}, ${initializedAt})
        ON CONFLICT (user_id) DO UPDATE SET state = excluded.state, source_id = excluded.source_id,
          initialization_id = excluded.initialization_id, lease_expires_at = excluded.lease_expires_at,
          initialized_at = excluded.initialized_at
        RETURNING *`,
      ([row]) => row === undefined ? Effect.dieMessage("a stored scope was not returned") : Effect.succeed(scopeOf(row))
    )
  }),

  putRetainedFloor: steps((scopeId: number, floor: number) =>
    Effect.asVoid(sql`UPDATE server_scope SET retained_floor = ${floor} WHERE scope_id = ${scopeId}`)
  ),

  source: steps((scopeId: number, sourceId: string) =>
    Effect.map(
      sql<SourceRow>`SELECT state, max_committed, replaced_by, reason FROM server_source
        WHERE scope_id = ${scopeId} AND source_id = ${sourceId}`,
      ([row]): SourceState | undefined =>
        row === undefined
          ? undefined
          : { state: row.state, maxCommitted: row.max_committed, replacedBy: row.replaced_by, reason: row.reason }
    )
  ),

  putSource: steps((scopeId: number, sourceId: string, source: SourceState) =>
    Effect.asVoid(sql`INSERT INTO server_source (scope_id, source_id, state, max_committed, replaced_by, reason)
      VALUES (${scopeId}, ${sourceId}, ${source.state}, ${source.maxCommitted}, ${source.replacedBy}, ${source.reason})
      ON CONFLICT DO UPDATE SET state = excluded.state, max_committed = excluded.max_committed,
        replaced_by = excluded.replaced_by, reason = excluded.reason`)
  ),

  countHistoryPruned: step(
    Effect.asVoid(sql`UPDATE server_meta SET history_pruned_errors = history_pruned_errors + 1`)
  ),

  statistics: step(Effect.gen(function*() {
    const [figures] = yield* sql<Statistics>`SELECT
        coalesce(max(latest_bundle_seq), 0) AS latestBundleSeqMax,
        coalesce(min(retained_floor), 0) AS retainedFloorMin,
        coalesce(max(retained_floor), 0) AS retainedFloorMax,
        coalesce(min(latest_bundle_seq - retained_floor), 0) AS retainedWindowMin,
        coalesce(max(latest_bundle_seq - retained_floor), 0) AS retainedWindowMax,
        (SELECT history_pruned_errors FROM server_meta) AS historyPrunedErrors,
        (SELECT count(*) FROM server_bundle) AS committedBundles,
        (SELECT coalesce(sum(byte_count), 0) FROM server_bundle) AS committedBytes
      FROM server_scope`
    return figures === undefined ? yield* Effect.dieMessage("an aggregate has one row") : figures
  }))
})
