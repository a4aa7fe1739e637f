/**
 * Who broke a deferred foreign key: asked only after a commit was refused, because the check scans whole tables
 * (pull.md §10.3).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { RowRefused } from "./RowApply.js"
import { identifier, keyJson, keyJsonOfValue, literal } from "./SqlText.js"
import { isConstraint } from "./StorageFailure.js"
import { SyncDatabase } from "./SyncDatabase.js"
import type { SyncReference, SyncTable } from "./SyncTable.js"
import { findTable } from "./SyncTable.js"

interface Violated {
  readonly child: string
  readonly parent: string
}

interface Orphan {
  readonly key: string
  readonly pending: number
  /** Key of the missing parent if its deletion is pending. */
  readonly deleted: string | null
}

const isPending = (table: SyncTable, key: string, more = ""): string =>
  ["_sync_dirty_rows", "_sync_outbox_rows"].map((rows) =>
    `EXISTS (SELECT 1 FROM ${rows} AS w WHERE w.table_name = ${literal(table.name)} AND w.key_json = ${key}${more})`
  ).join(" OR ")

/** The worst row of a table that lacks its parent: a pending one, else one whose parent's deletion is pending. */
const orphanQuery = (child: SyncTable, parent: SyncTable, reference: SyncReference): string | undefined => {
  const from = child.columns.find((column) => column.name === reference.column)
  const to = parent.columns.find((column) => column.name === reference.parentColumn)
  if (from === undefined || to === undefined) return undefined
  const value = `t.${identifier(from.declaredName)}`
  const parentKey = to === parent.key ? keyJsonOfValue(parent, value) : "NULL"
  return `SELECT o.key, ${isPending(child, "o.key")} AS pending,
       CASE WHEN ${isPending(parent, "o.parent", " AND w.op = 'DELETE'")} THEN o.parent END AS deleted
  FROM (SELECT ${keyJson(child, "t")} AS key, ${parentKey} AS parent FROM ${identifier(child.declaredName)} AS t
         WHERE ${value} IS NOT NULL AND NOT EXISTS (
           SELECT 1 FROM ${identifier(parent.declaredName)} AS p WHERE p.${
    identifier(to.declaredName)
  } = ${value})) AS o
 ORDER BY pending DESC, deleted IS NULL LIMIT 1`
}

/** 0 is what the host can do most about: a row of its own, then a deletion of its own, then a row of the server. */
const rankOf = (orphan: Orphan): number => orphan.pending === 1 ? 0 : orphan.deleted !== null ? 1 : 2

/**
 * For `SyncDatabase.authoritative`: turns a commit refused for a foreign key into `RowRefused`. It names a pending row
 * that lacks its parent if there is one, else a pending deletion of a parent, else any row; other failures pass.
 *
 * @since 0.1.0
 * @category checking
 */
export const onCommitFailure = (error: SqlError): Effect.Effect<never, SqlError | RowRefused, SyncDatabase> =>
  Effect.gen(function*() {
    if (isConstraint(error)?.kind !== "foreign_key") return yield* error
    const db = yield* SyncDatabase
    const installed = yield* db.tables
    const violated = yield* db.all<Violated>(
      `SELECT DISTINCT lower(c."table") AS child, lower(c.parent) AS parent FROM pragma_foreign_key_check AS c`
    )
    let worst: { readonly rank: number; readonly table: string; readonly key: string } | undefined
    for (const { child: childName, parent: parentName } of violated) {
      const child = findTable(installed, childName)
      const parent = findTable(installed, parentName)
      if (child === undefined || parent === undefined) continue
      for (const reference of child.references) {
        if (reference.parentTable !== parent.name) continue
        const query = orphanQuery(child, parent, reference)
        const [orphan] = query === undefined ? [] : yield* db.all<Orphan>(query)
        if (orphan === undefined || rankOf(orphan) >= (worst?.rank ?? 3)) continue
        const rank = rankOf(orphan)
        worst = rank === 1
          ? { rank, table: parent.name, key: orphan.deleted ?? "" }
          : { rank, table: child.name, key: orphan.key }
      }
    }
    if (worst === undefined) return yield* error
    return yield* new RowRefused({
      offender: { ord: 0, bundle: 0, code: "local_constraint", table: worst.table, key: worst.key },
      constraint: "foreign_key",
      cause: error
    })
  })
