/**
 * Push sessions and staged rows in the embedded store.
 *
 * @since 0.1.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import type { PushSession, ServerStore, StagedRow } from "./ServerStorage.js"
import type { Catalog } from "./SqliteSchema.js"
import { steps } from "./SqliteStep.js"

interface PushRow {
  readonly push_pk: number
  readonly push_id: string
  readonly scope_id: number
  readonly source_id: string
  readonly source_bundle_id: number
  readonly planned_rows: number
  readonly next_row_ordinal: number
  readonly initialization_id: string | null
  readonly expires_at: number
}

const sessionOf = (row: PushRow): PushSession => ({
  id: row.push_pk,
  pushId: row.push_id,
  scopeId: row.scope_id,
  sourceId: row.source_id,
  sourceBundleId: row.source_bundle_id,
  plannedRows: row.planned_rows,
  nextRowOrdinal: row.next_row_ordinal,
  initializationId: row.initialization_id ?? undefined,
  expiresAt: row.expires_at
})

type Steps = Pick<
  ServerStore,
  "openPushSession" | "pushSession" | "stage" | "dropPushSession" | "dropExpiredPushSessions" | "stagedShape"
>

/**
 * The steps on push sessions.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (sql: SqlClient, catalog: Catalog): Steps => ({
  openPushSession: steps((session: Omit<PushSession, "id" | "nextRowOrdinal">) =>
    Effect.gen(function*() {
      const { scopeId, sourceBundleId, sourceId } = session
      yield* sql`DELETE FROM server_push_row WHERE push_pk IN (SELECT push_pk FROM server_push
        WHERE scope_id = ${scopeId} AND source_id = ${sourceId} AND source_bundle_id = ${sourceBundleId})`
      yield* sql`DELETE FROM server_push
        WHERE scope_id = ${scopeId} AND source_id = ${sourceId} AND source_bundle_id = ${sourceBundleId}`
      const [row] = yield* sql<PushRow>`INSERT INTO server_push
          (push_id, scope_id, source_id, source_bundle_id, planned_rows, initialization_id, expires_at)
        VALUES (${session.pushId}, ${scopeId}, ${sourceId}, ${sourceBundleId}, ${session.plannedRows},
          ${session.initializationId ?? null}, ${session.expiresAt})
        RETURNING *`
      return row === undefined ? yield* Effect.dieMessage("a stored session was not returned") : sessionOf(row)
    })
  ),

  pushSession: steps((pushId: string) =>
    Effect.map(
      sql<PushRow>`SELECT * FROM server_push WHERE push_id = ${pushId}`,
      ([row]) => row === undefined ? undefined : sessionOf(row)
    )
  ),

  stage: steps((session: PushSession, rows: ReadonlyArray<StagedRow>, expiresAt: number) => {
    const text = JSON.stringify(rows.map((row) => [
      catalog.idOf(row.table),
      row.key,
      row.op,
      row.baseRowVersion,
      row.payload,
      row.partial ? 1 : 0,
      row.problem
    ]))
    return Effect.zipRight(
      sql`INSERT INTO server_push_row
          (push_pk, row_ordinal, table_id, key, op, base_version, payload, partial, problem)
        SELECT ${session.id}, ${session.nextRowOrdinal} + e.key, e.value ->> 0, e.value ->> 1, e.value ->> 2,
          e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6
        FROM json_each(${text}) AS e`,
      Effect.asVoid(sql`UPDATE server_push
        SET next_row_ordinal = ${session.nextRowOrdinal + rows.length}, expires_at = ${expiresAt}
        WHERE push_pk = ${session.id}`)
    )
  }),

  dropPushSession: steps((session: PushSession) =>
    Effect.zipRight(
      sql`DELETE FROM server_push_row WHERE push_pk = ${session.id}`,
      Effect.asVoid(sql`DELETE FROM server_push WHERE push_pk = ${session.id}`)
    )
  ),

  dropExpiredPushSessions: steps((now: number) =>
    Effect.zipRight(
      sql`DELETE FROM server_push_row
        WHERE push_pk IN (SELECT push_pk FROM server_push WHERE expires_at <= ${now})`,
      Effect.asVoid(sql`DELETE FROM server_push WHERE expires_at <= ${now}`)
    )
  ),

  stagedShape: steps((session: PushSession) =>
    Effect.gen(function*() {
      const [shape] = yield* sql<{ readonly rowCount: number; readonly last: number | null }>`
        SELECT count(*) AS rowCount, max(row_ordinal) AS last FROM server_push_row WHERE push_pk = ${session.id}`
      const repeated = yield* sql`SELECT 1 AS found FROM server_push_row WHERE push_pk = ${session.id}
        GROUP BY table_id, key HAVING count(*) > 1 LIMIT 1`
      const rowCount = shape?.rowCount ?? 0
      // Ordinals are unique and not negative, so the last one tells whether any is missing.
      return { rowCount, contiguous: (shape?.last ?? -1) === rowCount - 1, duplicate: repeated.length > 0 }
    })
  )
})
