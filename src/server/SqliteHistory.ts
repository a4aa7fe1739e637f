/**
 * Committed bundles in the embedded store: written once, read by pull and replay, pruned (server.md §7–9).
 *
 * @since 0.1.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Op } from "../protocol/Wire.js"
import * as BundleText from "./BundleText.js"
import type { BundleHeader, ServerStore, StoredBundleRow } from "./ServerStorage.js"
import type { Catalog } from "./SqliteSchema.js"
import { sliceRows } from "./SqliteSchema.js"
import { breathe, steps } from "./SqliteStep.js"

interface HeaderRow {
  readonly bundle_seq: number
  readonly source_id: string
  readonly source_bundle_id: number
  readonly row_count: number
  readonly byte_count: number
  readonly bundle_hash: string
}

const headerOf = (row: HeaderRow): BundleHeader => ({
  bundleSeq: row.bundle_seq,
  sourceId: row.source_id,
  sourceBundleId: row.source_bundle_id,
  rowCount: row.row_count,
  byteCount: row.byte_count,
  bundleHash: row.bundle_hash
})

interface BundleRow {
  readonly bundle_seq: number
  readonly row_ordinal: number
  readonly table_id: number
  readonly key: string
  readonly op: Op
  readonly payload: string | null
}

type Steps = Pick<
  ServerStore,
  "seal" | "prune" | "bundleOf" | "bundle" | "bundles" | "rowsOfBundles" | "bundleRows"
>

/**
 * The steps on committed bundles.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (sql: SqlClient, catalog: Catalog): Steps => {
  const rowOf = (row: BundleRow): StoredBundleRow => ({
    bundleSeq: row.bundle_seq,
    rowOrdinal: row.row_ordinal,
    table: catalog.byId(row.table_id),
    key: row.key,
    op: row.op,
    payload: row.payload
  })

  const firstHeader = (rows: Effect.Effect<ReadonlyArray<HeaderRow>, SqlError>) =>
    Effect.map(rows, ([row]) => row === undefined ? undefined : headerOf(row))

  return {
    seal: steps((
      scopeId: number,
      bundle: Pick<BundleHeader, "bundleSeq" | "sourceId" | "sourceBundleId">,
      now: number
    ) =>
      Effect.gen(function*() {
        const { bundleSeq, sourceBundleId, sourceId } = bundle
        yield* sql`DELETE FROM temp.server_effect_order`
        yield* sql`INSERT INTO temp.server_effect_order (table_id, key, op)
          SELECT table_id, key, CASE WHEN first_op = 'INSERT' OR last_op = 'DELETE'
            THEN CASE WHEN first_op = 'INSERT' THEN 'INSERT' ELSE 'DELETE' END ELSE 'UPDATE' END
          FROM temp.server_effect ORDER BY row_ordinal, rank`
        yield* sql`DELETE FROM temp.server_effect`
        const digest = BundleText.digest(bundleSeq)
        for (let from = 0;; from += sliceRows) {
          yield* sql`INSERT INTO server_bundle_row
              (scope_id, bundle_seq, row_ordinal, table_id, key, op, payload)
            SELECT ${scopeId}, ${bundleSeq}, o.position - 1, o.table_id, o.key, o.op, r.payload
            FROM temp.server_effect_order AS o CROSS JOIN server_row AS r
              ON r.scope_id = ${scopeId} AND r.table_id = o.table_id AND r.key = o.key
            WHERE o.position > ${from} AND o.position <= ${from + sliceRows}
            ORDER BY o.position`
          const rows = yield* sql<BundleRow>`SELECT * FROM server_bundle_row
            WHERE scope_id = ${scopeId} AND bundle_seq = ${bundleSeq} AND row_ordinal >= ${from}
            ORDER BY row_ordinal`
          digest.add(rows.map(rowOf))
          if (rows.length < sliceRows) break
          yield* breathe
        }
        yield* sql`DELETE FROM temp.server_effect_order`
        const { byteCount, hash, rowCount } = digest.finish()
        if (rowCount === 0) return undefined
        yield* sql`INSERT INTO server_bundle
            (scope_id, bundle_seq, source_id, source_bundle_id, row_count, byte_count, bundle_hash, committed_at)
          VALUES (${scopeId}, ${bundleSeq}, ${sourceId}, ${sourceBundleId}, ${rowCount}, ${byteCount}, ${hash}, ${now})`
        yield* sql`UPDATE server_scope SET latest_bundle_seq = ${bundleSeq} WHERE scope_id = ${scopeId}`
        return { bundleSeq, sourceId, sourceBundleId, rowCount, byteCount, bundleHash: hash }
      })
    ),

    prune: steps((scopeId: number, floor: number) =>
      Effect.gen(function*() {
        yield* sql`UPDATE server_scope SET retained_floor = max(retained_floor, ${BigInt(floor)})
          WHERE scope_id = ${scopeId}`
        yield* sql`DELETE FROM server_bundle_row WHERE scope_id = ${scopeId} AND bundle_seq <= ${floor}`
        yield* sql`DELETE FROM server_bundle WHERE scope_id = ${scopeId} AND bundle_seq <= ${floor}`
      })
    ),

    bundleOf: steps((scopeId: number, sourceId: string, sourceBundleId: number) =>
      firstHeader(sql<HeaderRow>`SELECT * FROM server_bundle
        WHERE scope_id = ${scopeId} AND source_id = ${sourceId} AND source_bundle_id = ${sourceBundleId}`)
    ),

    bundle: steps((scopeId: number, bundleSeq: bigint) =>
      firstHeader(sql<HeaderRow>`SELECT * FROM server_bundle
        WHERE scope_id = ${scopeId} AND bundle_seq = ${bundleSeq}`)
    ),

    bundles: steps((
      scopeId: number,
      window: { readonly after: bigint; readonly through: bigint; readonly limit: number }
    ) =>
      Effect.map(
        sql<HeaderRow>`SELECT * FROM server_bundle
          WHERE scope_id = ${scopeId} AND bundle_seq > ${window.after} AND bundle_seq <= ${window.through}
          ORDER BY bundle_seq LIMIT ${window.limit}`,
        (rows) => rows.map(headerOf)
      )
    ),

    rowsOfBundles: steps((scopeId: number, first: number, last: number) =>
      Effect.map(
        sql<BundleRow>`SELECT * FROM server_bundle_row
          WHERE scope_id = ${scopeId} AND bundle_seq BETWEEN ${first} AND ${last}
          ORDER BY bundle_seq, row_ordinal`,
        (rows) => rows.map(rowOf)
      )
    ),

    bundleRows: steps((
      scopeId: number,
      bundleSeq: number,
      page: { readonly after: bigint; readonly limit: number }
    ) =>
      Effect.map(
        sql<BundleRow>`SELECT * FROM server_bundle_row
          WHERE scope_id = ${scopeId} AND bundle_seq = ${bundleSeq} AND row_ordinal > ${page.after}
          ORDER BY row_ordinal LIMIT ${page.limit}`,
        (rows) => rows.map(rowOf)
      )
    )
  }
}
