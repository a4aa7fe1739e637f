/**
 * Live rows and frozen snapshots in the embedded store (server.md §10).
 *
 * @since 0.1.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import type { ServerStore, SnapshotSession, StoredRow } from "./ServerStorage.js"
import type { Catalog } from "./SqliteSchema.js"
import { sliceRows } from "./SqliteSchema.js"
import { breathe, steps } from "./SqliteStep.js"
import type { ServerTable } from "./TableDeclaration.js"

interface SnapshotHeader {
  readonly snapshot_pk: number
  readonly snapshot_id: string
  readonly scope_id: number
  readonly bundle_seq: number
  readonly row_count: number
  readonly byte_count: number
  readonly expires_at: number
}

const sessionOf = (row: SnapshotHeader): SnapshotSession => ({
  id: row.snapshot_pk,
  snapshotId: row.snapshot_id,
  scopeId: row.scope_id,
  bundleSeq: row.bundle_seq,
  rowCount: row.row_count,
  byteCount: row.byte_count,
  expiresAt: row.expires_at
})

interface LiveRow {
  readonly table_id: number
  readonly key: string
  readonly version: number
  readonly payload: string
}

type Steps = Pick<
  ServerStore,
  | "rowStates"
  | "liveRows"
  | "freezeSnapshot"
  | "snapshot"
  | "snapshotRows"
  | "dropSnapshot"
  | "dropExpiredSnapshots"
>

/**
 * The steps on live rows and snapshots.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (sql: SqlClient, catalog: Catalog): Steps => {
  const rowOf = (row: LiveRow): StoredRow => ({
    table: catalog.byId(row.table_id),
    key: row.key,
    rowVersion: row.version,
    payload: row.payload
  })

  return {
    rowStates: steps((
      scopeId: number,
      rows: ReadonlyArray<{ readonly table: ServerTable; readonly key: string }>
    ) => {
      const keys = JSON.stringify(rows.map((row) => [catalog.idOf(row.table), row.key]))
      return Effect.map(
        sql<{ readonly index: number; readonly rowVersion: number; readonly live: number }>`
          SELECT e.key AS "index", r.version AS rowVersion, r.payload IS NOT NULL AS live
          FROM json_each(${keys}) AS e CROSS JOIN server_row AS r
            ON r.scope_id = ${scopeId} AND r.table_id = e.value ->> 0 AND r.key = e.value ->> 1`,
        (found) => found.map((row) => ({ ...row, live: row.live === 1 }))
      )
    }),

    liveRows: steps((
      scopeId: number,
      table: ServerTable,
      page: { readonly after: string | undefined; readonly limit: number }
    ) =>
      Effect.map(
        page.after === undefined
          ? sql<LiveRow>`SELECT table_id, key, version, payload FROM server_row
              WHERE scope_id = ${scopeId} AND table_id = ${catalog.idOf(table)} AND payload IS NOT NULL
              ORDER BY key LIMIT ${page.limit}`
          : sql<LiveRow>`SELECT table_id, key, version, payload FROM server_row
              WHERE scope_id = ${scopeId} AND table_id = ${catalog.idOf(table)} AND key > ${page.after}
                AND payload IS NOT NULL
              ORDER BY key LIMIT ${page.limit}`,
        (rows) => rows.map(rowOf)
      )
    ),

    freezeSnapshot: steps((
      session: Pick<SnapshotSession, "snapshotId" | "scopeId" | "bundleSeq" | "expiresAt">
    ) =>
      Effect.gen(function*() {
        const { bundleSeq, expiresAt, scopeId, snapshotId } = session
        const [header] = yield* sql<SnapshotHeader>`INSERT INTO server_snapshot
            (snapshot_id, scope_id, bundle_seq, row_count, byte_count, expires_at)
          VALUES (${snapshotId}, ${scopeId}, ${bundleSeq}, 0, 0, ${expiresAt}) RETURNING *`
        if (header === undefined) return yield* Effect.dieMessage("a stored snapshot was not returned")
        const id = header.snapshot_pk
        let rowCount = 0
        for (const table of catalog.tables) {
          for (let after: string | undefined;;) {
            const key = after === undefined ? sql.literal("") : sql`AND key > ${after}`
            yield* sql`INSERT INTO server_snapshot_row (snapshot_pk, row_ordinal, table_id, key, version, payload)
              SELECT ${id}, ${rowCount} + row_number() OVER (ORDER BY key), table_id, key, version, payload
              FROM server_row WHERE scope_id = ${scopeId} AND table_id = ${catalog.idOf(table)} ${key}
                AND payload IS NOT NULL
              ORDER BY key LIMIT ${sliceRows}`
            const [last] = yield* sql<{ readonly row_ordinal: number; readonly key: string }>`
              SELECT row_ordinal, key FROM server_snapshot_row WHERE snapshot_pk = ${id}
              ORDER BY row_ordinal DESC LIMIT 1`
            const copied = (last?.row_ordinal ?? 0) - rowCount
            rowCount += copied
            if (last === undefined || copied < sliceRows) break
            after = last.key
            yield* breathe
          }
        }
        const [figures] = yield* sql<{ readonly byteCount: number }>`
          SELECT coalesce(sum(octet_length(payload)), 0) AS byteCount FROM server_snapshot_row
          WHERE snapshot_pk = ${id}`
        const byteCount = figures?.byteCount ?? 0
        yield* sql`UPDATE server_snapshot SET row_count = ${rowCount}, byte_count = ${byteCount}
          WHERE snapshot_pk = ${id}`
        return { ...sessionOf(header), rowCount, byteCount }
      })
    ),

    snapshot: steps((snapshotId: string) =>
      Effect.map(
        sql<SnapshotHeader>`SELECT * FROM server_snapshot WHERE snapshot_id = ${snapshotId}`,
        ([row]) => row === undefined ? undefined : sessionOf(row)
      )
    ),

    snapshotRows: steps((session: SnapshotSession, page: { readonly after: bigint; readonly limit: number }) =>
      Effect.map(
        sql<LiveRow>`SELECT table_id, key, version, payload FROM server_snapshot_row
          WHERE snapshot_pk = ${session.id} AND row_ordinal > ${page.after}
          ORDER BY row_ordinal LIMIT ${page.limit}`,
        (rows) => rows.map(rowOf)
      )
    ),

    dropSnapshot: steps((session: SnapshotSession) =>
      Effect.zipRight(
        sql`DELETE FROM server_snapshot_row WHERE snapshot_pk = ${session.id}`,
        Effect.asVoid(sql`DELETE FROM server_snapshot WHERE snapshot_pk = ${session.id}`)
      )
    ),

    dropExpiredSnapshots: steps((now: number) =>
      Effect.zipRight(
        sql`DELETE FROM server_snapshot_row
          WHERE snapshot_pk IN (SELECT snapshot_pk FROM server_snapshot WHERE expires_at <= ${now})`,
        Effect.asVoid(sql`DELETE FROM server_snapshot WHERE expires_at <= ${now}`)
      )
    )
  }
}
