/**
 * Who broke a deferred foreign key: asked only after a commit was refused, because the check scans whole tables
 * (pull.md §10.3).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { RowRefused } from "./RowApply.js"
import { identifier, keyJson } from "./SqlText.js"
import { isConstraint } from "./StorageFailure.js"
import { SyncDatabase } from "./SyncDatabase.js"

interface Violation {
  readonly table: string
  readonly rowid: number | null
}

/**
 * For `SyncDatabase.authoritative`: turns a commit refused for a foreign key into `RowRefused`, naming a pending row if
 * there is one among the offenders; other failures pass.
 *
 * @since 0.1.0
 * @category checking
 */
export const onCommitFailure = (error: SqlError): Effect.Effect<never, SqlError | RowRefused, SyncDatabase> =>
  Effect.gen(function*() {
    if (isConstraint(error)?.kind !== "foreign_key") return yield* error
    const db = yield* SyncDatabase
    const { tables } = yield* db.tables
    const violations = yield* db.all<Violation>("PRAGMA foreign_key_check")
    let first: { readonly table: string; readonly key: string } | undefined
    for (const { rowid, table: declaredName } of violations) {
      const table = tables.find((candidate) => candidate.name === declaredName.toLowerCase())
      if (table === undefined) continue
      const [row] = rowid === null ? [] : yield* db.all<{ readonly key: string; readonly pending: number }>(
        `SELECT k.key, EXISTS (SELECT 1 FROM _sync_dirty_rows AS d WHERE d.table_name = ? AND d.key_json = k.key) AS pending
           FROM (SELECT ${keyJson(table, "t")} AS key FROM ${
          identifier(table.declaredName)
        } AS t WHERE t.rowid = ?) AS k`,
        [table.name, rowid]
      )
      const found = { table: table.name, key: row?.key ?? "" }
      if (first === undefined || row?.pending === 1) first = found
      if (row?.pending === 1) break
    }
    if (first === undefined) return yield* error
    return yield* new RowRefused({
      offender: { ord: 0, bundle: 0, code: "local_constraint", ...first },
      constraint: "foreign_key",
      cause: error
    })
  })
