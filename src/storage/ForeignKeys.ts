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

/** A foreign key of a table that rows break; one of them has the rowid, where the table has one. */
interface Violated {
  readonly child: string
  readonly parent: string
  readonly id: number
  readonly rowid: number | null
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

const violations = Effect.flatMap(SyncDatabase, (db) =>
  db.all<Violated>(
    `SELECT lower(c."table") AS child, lower(c.parent) AS parent, c.fkid AS id, min(c.rowid) AS rowid
       FROM pragma_foreign_key_check AS c GROUP BY c."table", c.parent, c.fkid`
  ))

const primaryKeyOf = (table: string): string =>
  `SELECT i.name, i.pk FROM pragma_table_info(${literal(table)}, 'main') AS i WHERE i.pk > 0`

interface Pair {
  readonly from: string
  readonly to: string
}

/** The key of a row that breaks a foreign key: `{"rowid":…}` in a table that declares no primary key. */
const keyOfOrphan = Effect.fnUntraced(function*(
  { child, id, parent, rowid }: Violated
): Effect.fn.Return<string, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const key = yield* db.all<{ readonly name: string }>(`${primaryKeyOf(child)} ORDER BY i.pk`)
  const pairs = yield* db.all<Pair>(
    `SELECT f."from", coalesce(f."to", k.name) AS "to" FROM pragma_foreign_key_list(${literal(child)}, 'main') AS f
       LEFT JOIN (${primaryKeyOf(parent)}) AS k ON k.pk = f.seq + 1 WHERE f.id = ?`,
    [id]
  )
  const members = key.map(({ name }) => {
    const value = `t.${identifier(name)}`
    return `${
      literal(name.toLowerCase())
    }, CASE typeof(${value}) WHEN 'blob' THEN lower(hex(${value})) ELSE ${value} END`
  })
  const [orphan] = members.length === 0 ? [] : yield* db.all<{ readonly key: string }>(
    `SELECT json_object(${members.join(", ")}) AS key FROM ${identifier(child)} AS t
      WHERE ${pairs.map(({ from }) => `t.${identifier(from)} IS NOT NULL`).join(" AND ")}
        AND NOT EXISTS (SELECT 1 FROM ${identifier(parent)} AS p WHERE ${
      pairs.map(({ from, to }) => `p.${identifier(to)} = t.${identifier(from)}`).join(" AND ")
    }) LIMIT 1`
  )
  return orphan?.key ?? JSON.stringify({ rowid })
})

/**
 * For `SyncDatabase.authoritative`: turns a commit refused for a foreign key into `RowRefused`. It names a pending row
 * that lacks its parent if there is one, else a pending deletion of a parent, else any row of a registered table, else a
 * row of a table that is the host's alone, which only the host can correct (recovery.md §10). Other failures pass.
 *
 * @since 0.1.0
 * @category checking
 */
export const onCommitFailure = (error: SqlError): Effect.Effect<never, SqlError | RowRefused, SyncDatabase> =>
  Effect.gen(function*() {
    if (isConstraint(error)?.kind !== "foreign_key") return yield* error
    const db = yield* SyncDatabase
    const installed = yield* db.tables
    const violated = yield* violations
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
    // A row that lacks a registered parent has most likely lost it just now.
    const stray = violated.find(({ parent }) => findTable(installed, parent) !== undefined) ?? violated[0]
    if (stray === undefined) return yield* error
    const { key, table } = worst ?? { table: stray.child, key: yield* keyOfOrphan(stray) }
    return yield* new RowRefused({
      offender: { ord: 0, bundle: 0, code: "local_constraint", table, key },
      constraint: "foreign_key",
      cause: error
    })
  })
