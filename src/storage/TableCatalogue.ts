/**
 * What the database says about its tables: the input of `TableInspector`, read by few statements.
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { execute } from "./Statement.js"
import { storageCode } from "./StorageFailure.js"

/**
 * A column as the catalogue lists it. `primaryKey` is its 1-based position in the primary key or 0; `hidden` is 0 for an
 * ordinary column, 2 and 3 for generated ones.
 *
 * @since 0.1.0
 * @category models
 */
export interface CatalogueColumn {
  readonly table: string
  readonly name: string
  readonly type: string
  readonly notNull: boolean
  readonly primaryKey: number
  readonly hidden: number
}

/**
 * One column of a foreign key. `to` is NULL where the parent's primary key is meant; `id` groups the columns of a key.
 *
 * @since 0.1.0
 * @category models
 */
export interface CatalogueForeignKey {
  readonly child: string
  readonly id: number
  readonly from: string
  readonly parent: string
  readonly to: string | null
  /** As declared, in capitals: `NO ACTION`, `CASCADE`, … */
  readonly onDelete: string
}

/**
 * One column of a UNIQUE index besides the primary key's; `column` is NULL for an expression.
 *
 * @since 0.1.0
 * @category models
 */
export interface CatalogueUnique {
  readonly table: string
  readonly index: string
  readonly column: string | null
}

/**
 * A trigger with its stored text.
 *
 * @since 0.1.0
 * @category models
 */
export interface CatalogueTrigger {
  readonly name: string
  readonly table: string
  readonly sql: string
}

/**
 * What the catalogue of the database says: everything that has to do with the configured tables, and all triggers.
 * Columns are in declaration order.
 *
 * @since 0.1.0
 * @category models
 */
export interface Catalogue {
  readonly tables: ReadonlyArray<{
    readonly name: string
    readonly isStrict: boolean
    readonly isWithoutRowid: boolean
    /** Collation of the first column of the primary key, BINARY where nothing says otherwise. */
    readonly keyCollation: string
  }>
  /** Configured tables whose description SQLite could not give. */
  readonly unreadable: ReadonlyArray<string>
  readonly columns: ReadonlyArray<CatalogueColumn>
  readonly foreignKeys: ReadonlyArray<CatalogueForeignKey>
  readonly uniques: ReadonlyArray<CatalogueUnique>
  readonly triggers: ReadonlyArray<CatalogueTrigger>
  /** `PRAGMA schema_version`. */
  readonly schemaVersion: number
}

// The parents of foreign keys are described too, for messages about tables that are not registered.
const wanted = `WITH input(names) AS (SELECT ?), wanted(name) AS (
  SELECT value FROM input, json_each(input.names)
   UNION SELECT lower(f."table") FROM input, json_each(input.names) AS w, pragma_foreign_key_list(w.value, 'main') AS f)`

/**
 * Reads what `inspect` needs: six statements, whatever the number of tables; one more per table if one of them cannot be
 * described. Read inside the transaction that uses it.
 *
 * @since 0.1.0
 * @category reading
 */
export const readCatalogue = (
  names: ReadonlyArray<string>
): Effect.Effect<Catalogue, SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const run = yield* execute
    const input = JSON.stringify(names.map((name) => name.trim().toLowerCase()))
    const describe = (text: string) =>
      run<Omit<CatalogueColumn, "notNull"> & { readonly notNull: number }>(
        `${wanted} SELECT w.name AS "table", c.name, c.type, c."notnull" AS "notNull", c.pk AS "primaryKey", c.hidden
           FROM wanted AS w, pragma_table_xinfo(w.name, 'main') AS c ORDER BY w.name, c.cid`,
        [text]
      )
    const unreadable: Array<string> = []
    // One table that SQLite cannot describe (a view of a dropped table, a module that is not loaded) fails them all.
    const columns = yield* Effect.catchIf(describe(input), (error) => storageCode(error) === "other", () =>
      Effect.map(
        Effect.forEach(new Set(names), (name) =>
          Effect.catchIf(
            describe(JSON.stringify([name.trim().toLowerCase()])),
            (error) => storageCode(error) === "other",
            () =>
              Effect.sync(() => {
                unreadable.push(name)
                return []
              })
          )),
        (found) => found.flat()
      ))
    const tables = yield* run<{
      readonly name: string
      readonly strict: number
      readonly wr: number
      readonly collation: string | null
    }>(
      `${wanted} SELECT l.name, l.strict, l.wr,
              (SELECT x.coll FROM pragma_index_list(l.name, 'main') AS i, pragma_index_xinfo(i.name, 'main') AS x
                WHERE i.origin = 'pk' AND x.seqno = 0) AS collation
         FROM wanted AS w JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = w.name COLLATE NOCASE`,
      [input]
    )
    const foreignKeys = yield* run<CatalogueForeignKey>(
      `SELECT m.name AS child, f.id, f."from", f."table" AS parent, f."to", f.on_delete AS "onDelete"
         FROM main.sqlite_schema AS m, pragma_foreign_key_list(m.name, 'main') AS f
        WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq`
    )
    const uniques = yield* run<CatalogueUnique>(
      `SELECT w.value AS "table", l.name AS "index", i.name AS "column"
         FROM json_each(?) AS w, pragma_index_list(w.value, 'main') AS l, pragma_index_info(l.name, 'main') AS i
        WHERE l."unique" AND l.origin <> 'pk' ORDER BY w.value, l.name, i.seqno`,
      [input]
    )
    const triggers = yield* run<CatalogueTrigger>(
      `SELECT name, tbl_name AS "table", sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY name`
    )
    const [version] = yield* run<{ readonly schema_version: number }>("PRAGMA main.schema_version")
    return {
      tables: tables.map(({ collation, name, strict, wr }) => ({
        name,
        isStrict: strict === 1,
        isWithoutRowid: wr === 1,
        keyCollation: collation ?? "BINARY"
      })),
      unreadable,
      columns: columns.map((column) => ({ ...column, notNull: column.notNull === 1 })),
      foreignKeys,
      uniques,
      triggers,
      schemaVersion: version?.schema_version ?? 0
    }
  })
