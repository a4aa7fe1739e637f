/**
 * The statements that move rows of one table between JSON and columns (payload-codec.md §9). Pure text, made once per
 * table; `s` is `temp._sync_incoming`, ranges of `ord` are the two last parameters.
 *
 * @since 0.1.0
 */
import { rowidName } from "./Rowid.js"
import { anyOf, hasKey, hasKeyIn, identifier, keyFromJson, keyJson, path as jsonPath } from "./SqlText.js"
import type { SyncColumn, SyncTable } from "./SyncTable.js"

/**
 * What {@link statementsOf} gives. Statements that do not concern a table are `undefined`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ApplyStatements {
  /** The first row of a range whose payload is not acceptable: `ord`, `key_json`, `problem`, `column_name`. */
  readonly check: string
  /** Values of a range that SQL cannot convert: `ord`, `raw` (a JSON array over `patchColumns`). */
  readonly unconverted: string | undefined
  /** Columns whose values come from `_sync_patch`, in the order of its arrays. */
  readonly patchColumns: ReadonlyArray<SyncColumn>
  /** Set unique values of the rows of a range aside. */
  readonly park: ReadonlyArray<string>
  readonly upsert: string
  readonly remove: string
  /** Finds a row whose key the database takes for another one's: `taken` before the upserts, `overwritten` after. */
  readonly collision: { readonly taken: string; readonly overwritten: string } | undefined
}

const applied = "s.table_name = ? AND s.mode = 'apply' AND s.ord BETWEEN ? AND ?"

const isUuid = (column: SyncColumn): boolean => column.class === "uuid-key" || column.class === "uuid-ref"

const isPatched = (column: SyncColumn): boolean =>
  column.class === "blob" || (column.class === "plain" && column.affinity === "TEXT")

/** A value that is a double in JSON reads as INTEGER where SQLite would otherwise keep `5.0` (payload-codec.md §5). */
const withoutFraction = (value: string): string =>
  `CASE WHEN typeof(${value}) = 'real' AND abs(${value}) < 9007199254740992.0 AND ${value} = CAST(${value} AS INTEGER)
        THEN CAST(${value} AS INTEGER) ELSE ${value} END`

const columnValue = (column: SyncColumn, patchColumns: ReadonlyArray<SyncColumn>): string => {
  const value = `s.payload ->> ${jsonPath(column.name)}`
  const patched = `(SELECT p.value ->> ${patchColumns.indexOf(column)} FROM temp._sync_patch AS p WHERE p.ord = s.ord)`
  if (isUuid(column)) return `unhex(${value}, '-')`
  if (column.class === "blob") return `unhex(${patched})`
  switch (column.affinity) {
    case "TEXT":
      return `CASE typeof(${value}) WHEN 'real' THEN ${patched} ELSE ${value} END`
    case "BLOB":
      return withoutFraction(`(${value})`)
    default:
      return value
  }
}

const problemOf = (column: SyncColumn): string => {
  const path = jsonPath(column.name)
  const type = `json_type(s.payload, ${path})`
  if (isUuid(column)) {
    const value = `s.payload ->> ${path}`
    return `WHEN ${type} <> 'null' AND NOT (${type} = 'text' AND ${value} GLOB '????????-????-????-????-????????????'
                 AND coalesce(length(unhex(${value}, '-')), 0) = 16) THEN 'value'`
  }
  return column.class === "blob"
    ? `WHEN ${type} NOT IN ('null', 'text') THEN 'value'`
    : `WHEN ${type} IN ('object', 'array') THEN 'value'`
}

const keyDiffers = (table: SyncTable): string => {
  const path = jsonPath(table.key.name)
  return table.keyKind === "uuid"
    ? `lower(replace(s.payload ->> ${path}, '-', '')) IS NOT s.key_json ->> ${path}`
    : `s.payload ->> ${path} IS NOT s.key_json ->> ${path}`
}

const check = (table: SyncTable): string => {
  const missing = table.columns.map((column) => `json_type(s.payload, ${jsonPath(column.name)}) IS NULL`)
  const perColumn = table.columns.map((column) => ({ column, when: problemOf(column) }))
  return `SELECT s.ord, s.bundle, s.key_json, s.payload,
       CASE WHEN json_type(s.payload) IS NOT 'object' THEN 'columns'
            WHEN (SELECT count(*) FROM json_each(s.payload)) <> ${table.columns.length} THEN 'columns'
            WHEN ${anyOf(missing)} THEN 'columns'
            WHEN ${keyDiffers(table)} THEN 'key'
            ${perColumn.map(({ when }) => when).join("\n            ")} END AS problem
  FROM temp._sync_incoming AS s
 WHERE ${applied} AND s.op <> 'DELETE' AND problem IS NOT NULL
 ORDER BY s.ord LIMIT 1`
}

const unconverted = (columns: ReadonlyArray<SyncColumn>): string | undefined => {
  if (columns.length === 0) return undefined
  const blobs = columns.some((column) => column.class === "blob")
  const fraction = (column: SyncColumn) => `typeof(s.payload ->> ${jsonPath(column.name)}) = 'real'`
  const items = columns.map((column) =>
    column.class === "blob"
      ? `s.payload ->> ${jsonPath(column.name)}`
      : `CASE WHEN ${fraction(column)} THEN s.payload ->> ${jsonPath(column.name)} END`
  )
  const wanted = blobs ? "" : ` AND ${anyOf(columns.map(fraction))}`
  return `SELECT s.ord, s.bundle, s.key_json, ${jsonArray(items)} AS raw
  FROM temp._sync_incoming AS s WHERE ${applied} AND s.op <> 'DELETE'${wanted}`
}

const itemsPerCall = 50

/**
 * SQL: a JSON array of any length; functions of SQLite take about a hundred arguments.
 *
 * @since 0.1.0
 * @category sql
 */
export const jsonArray = (items: ReadonlyArray<string>): string => {
  let array = `json_array(${items.slice(0, itemsPerCall).join(", ")})`
  for (let from = itemsPerCall; from < items.length; from += itemsPerCall) {
    array = `json_insert(${array}, ${
      items.slice(from, from + itemsPerCall).map((item) => `'$[#]', ${item}`).join(", ")
    })`
  }
  return array
}

/**
 * SQL: statements that set the unique values of some rows aside, so that values that swap or rotate cannot collide
 * (payload-codec.md §9.3). `keys` is a SELECT of key values.
 *
 * @since 0.1.0
 * @category sql
 */
export const parkStatements = (table: SyncTable, keys: string): ReadonlyArray<string> => {
  const key = identifier(table.key.declaredName)
  const rowid = rowidName(table.columns.map((column) => column.name))
  const aside = {
    null: "NULL",
    text: table.keyKind === "uuid" ? `'~' || hex(${key})` : `'~' || ${key}`,
    negative: rowid === undefined ? undefined : `-${rowid}`
  }
  return table.parked.flatMap(({ by, column }) => {
    const columnName = identifier(column.declaredName)
    return aside[by] === undefined ? [] : [`UPDATE ${identifier(table.declaredName)} SET ${columnName} = ${aside[by]}
 WHERE ${columnName} IS NOT NULL AND ${hasKeyIn(table, "", keys)}`]
  })
}

const build = (table: SyncTable): ApplyStatements => {
  const patchColumns = table.columns.filter(isPatched)
  const name = identifier(table.declaredName)
  const key = identifier(table.key.declaredName)
  const columnNames = table.columns.map((column) => identifier(column.declaredName))
  // A row that a collation finds under another spelling of its key takes the new spelling.
  const others = columnNames.filter((column) => column !== key || !table.exactKey)
  const onConflict = others.length === 0
    ? "DO NOTHING"
    : `DO UPDATE SET ${others.map((column) => `${column} = excluded.${column}`).join(", ")}`
  return {
    check: check(table),
    unconverted: unconverted(patchColumns),
    patchColumns,
    park: parkStatements(
      table,
      `SELECT ${keyFromJson(table, "s.key_json")} FROM temp._sync_incoming AS s WHERE ${applied}`
    ),
    // The alias: beside a table of the host that is called excluded, the word would mean its old row.
    upsert: `INSERT INTO ${name} AS t (${columnNames.join(", ")})
SELECT ${table.columns.map((column) => columnValue(column, patchColumns)).join(", ")}
  FROM temp._sync_incoming AS s
 WHERE ${applied} AND s.op <> 'DELETE'
 ORDER BY s.ord
    ON CONFLICT (${key}) ${onConflict}`,
    remove: `DELETE FROM ${name}
 WHERE ${
      hasKeyIn(
        table,
        "",
        `SELECT ${keyFromJson(table, "s.key_json")} FROM temp._sync_incoming AS s WHERE ${applied} AND s.op = 'DELETE'`
      )
    }`,
    collision: collisionOf(table)
  }
}

/** Two keys of the server that are one to the collation of the key column: only one of the rows can be stored. */
const collisionOf = (table: SyncTable): ApplyStatements["collision"] => {
  if (table.exactKey) return undefined
  const name = identifier(table.declaredName)
  const key = `t.${identifier(table.key.declaredName)}`
  const wanted = keyFromJson(table, "s.key_json")
  const upserts = `${applied} AND s.op <> 'DELETE'`
  return {
    taken: `SELECT s.ord FROM temp._sync_incoming AS s JOIN ${name} AS t ON ${key} = ${wanted}
 WHERE ${upserts} AND ${key} COLLATE BINARY <> ${wanted}
   AND NOT EXISTS (SELECT 1 FROM temp._sync_incoming AS d
                    WHERE d.table_name = s.table_name AND d.mode = 'apply' AND d.op = 'DELETE'
                      AND d.key_json = ${keyJson(table, "t")})
 ORDER BY s.ord LIMIT 1`,
    overwritten: `SELECT s.ord FROM temp._sync_incoming AS s
 WHERE ${upserts} AND NOT EXISTS (SELECT 1 FROM ${name} AS t WHERE ${hasKey(table, "t", "s.key_json")})
 ORDER BY s.ord LIMIT 1`
  }
}

const cache = new WeakMap<SyncTable, ApplyStatements>()

/**
 * The statements of a table.
 *
 * @since 0.1.0
 * @category getters
 */
export const statementsOf = (table: SyncTable): ApplyStatements => {
  const known = cache.get(table)
  if (known !== undefined) return known
  const built = build(table)
  cache.set(table, built)
  return built
}
