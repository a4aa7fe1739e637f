/**
 * Rows of the host's own tables that refer to synchronised rows with an action on delete. A snapshot empties the tables
 * before it fills them: the actions take these rows along, although their parents come back (pull.md §6.1). They are
 * copied aside before and put back after; where a parent is really gone, the action stands.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { LocalReference } from "./LocalReferences.js"
import { rowidName } from "./Rowid.js"
import { allOf, anyOf, identifier } from "./SqlText.js"
import { SyncDatabase } from "./SyncDatabase.js"

interface Column {
  readonly table: string
  readonly isWithoutRowid: number
  readonly name: string
  readonly primaryKey: number
  readonly hidden: number
  readonly default: string | null
}

/** An expression for a row of the table (`t`) and for its copy (`k`). */
interface Value {
  readonly live: string
  readonly kept: string
}

type Columns = ReadonlyArray<Value & Column>

/** A reference with its columns resolved: `from` of the child, `to` of the parent. */
interface Reference {
  readonly parent: string
  readonly onDelete: LocalReference["onDelete"]
  readonly columns: ReadonlyArray<{ readonly from: Columns[number]; readonly to: string }>
}

/**
 * A table whose rows are kept: what identifies a row, and what is written to insert it.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeptTable {
  readonly name: string
  readonly copy: string
  readonly columns: ReadonlyArray<Value>
  readonly identity: ReadonlyArray<Value>
  /** The rowid, if it can be named, and all columns but generated ones. */
  readonly inserted: ReadonlyArray<Value & { readonly name: string }>
  readonly references: ReadonlyArray<Reference>
}

const same = (left: string, right: string): boolean => left.toLowerCase() === right.toLowerCase()

const keptTable = (
  name: string,
  position: number,
  references: ReadonlyArray<LocalReference>,
  described: ReadonlyArray<Column>
): KeptTable => {
  const columnsOf = (table: string) => described.filter((column) => same(column.table, table))
  const primaryKeyOf = <C extends Column>(columns: ReadonlyArray<C>) =>
    columns.filter((column) => column.primaryKey > 0).sort((left, right) => left.primaryKey - right.primaryKey)
  // The copy has names of its own: the host's may be any.
  const columns: Columns = columnsOf(name).map((column, index) => ({
    ...column,
    live: `t.${identifier(column.name)}`,
    kept: `k.c${index}`
  }))
  const hasRowid = columns.every(({ isWithoutRowid }) => isWithoutRowid === 0)
  const rowid = hasRowid ? rowidName(columns.map((column) => column.name)) : undefined
  const rowids = rowid === undefined ? [] : [{ name: rowid, live: `t.${rowid}`, kept: "k.id" }]
  const resolved = references.filter(({ child }) => same(child, name)).map((reference): Reference => ({
    parent: reference.parent,
    onDelete: reference.onDelete,
    columns: reference.columns.flatMap(({ from, to }, index) => {
      const column = columns.find((one) => same(one.name, from))
      const target = to ?? primaryKeyOf(columnsOf(reference.parent))[index]?.name
      return column === undefined || target === undefined ? [] : [{ from: column, to: identifier(target) }]
    })
  }))
  const primaryKey = primaryKeyOf(columns)
  return {
    name: identifier(name),
    copy: `temp._sync_local_${position}`,
    columns: [...rowids, ...columns],
    identity: [rowids, primaryKey, columns].find((values) => values.length > 0) ?? [],
    inserted: [
      ...rowids,
      ...columns.filter(({ hidden }) => hidden === 0).map((column) => ({ ...column, name: identifier(column.name) }))
    ],
    references: resolved
  }
}

type Side = keyof Value

const isSet = ({ columns }: Reference, side: Side): string =>
  allOf(columns.map(({ from }) => `${from[side]} IS NOT NULL`))

/** The parent's column comes first: its collation decides, as it does for the foreign key. */
const hasParent = ({ columns, parent }: Reference, side: Side): string =>
  `EXISTS (SELECT 1 FROM ${identifier(parent)} AS p WHERE ${
    allOf(columns.map(({ from, to }) => `p.${to} = ${from[side]}`))
  })`

const isUnchanged = (values: ReadonlyArray<Value>): string =>
  allOf(values.map(({ kept, live }) => `${live} IS ${kept}`))

const copyStatement = ({ columns, copy, name, references }: KeptTable): string =>
  `CREATE TEMP TABLE ${copy.replace("temp.", "")} AS
   SELECT ${columns.map(({ kept, live }) => `${live} AS ${kept.replace("k.", "")}`).join(", ")} FROM ${name} AS t
    WHERE ${anyOf(references.map((reference) => isSet(reference, "live")))}`

/** What no action has touched need not come back. */
const untouchedStatement = ({ copy, identity, name, references }: KeptTable): string =>
  `DELETE FROM ${copy} AS k WHERE EXISTS (SELECT 1 FROM ${name} AS t WHERE ${
    isUnchanged([...identity, ...references.flatMap(({ columns }) => columns.map(({ from }) => from))])
  })`

const insertStatement = ({ copy, identity, inserted, name }: KeptTable): string =>
  `INSERT INTO ${name} (${inserted.map((value) => value.name).join(", ")})
   SELECT ${inserted.map(({ kept }) => kept).join(", ")} FROM ${copy} AS k
    WHERE NOT EXISTS (SELECT 1 FROM ${name} AS t WHERE ${isUnchanged(identity)})`

const assign = (reference: Reference, value: (column: Columns[number]) => string): string =>
  reference.columns.map(({ from }) => `${identifier(from.name)} = ${value(from)}`).join(", ")

const referStatement = ({ copy, identity, name }: KeptTable, reference: Reference): string =>
  `UPDATE ${name} AS t SET ${assign(reference, ({ kept }) => kept)} FROM ${copy} AS k
    WHERE ${isUnchanged(identity)} AND ${isSet(reference, "kept")} AND ${hasParent(reference, "kept")}
      AND NOT ${isUnchanged(reference.columns.map(({ from }) => from))}`

/** What the host has declared for the case that the parent is deleted, for the rows whose parent is. */
const actionStatement = ({ copy, identity, name }: KeptTable, reference: Reference): string => {
  const orphans = `WHERE (${identity.map(({ live }) => live).join(", ")}) IN (
      SELECT ${identity.map(({ kept }) => kept).join(", ")} FROM ${copy} AS k
       WHERE ${isSet(reference, "kept")} AND NOT ${hasParent(reference, "kept")})`
  switch (reference.onDelete) {
    case "CASCADE":
      return `DELETE FROM ${name} AS t ${orphans}`
    case "SET NULL":
      return `UPDATE ${name} AS t SET ${assign(reference, () => "NULL")} ${orphans} AND ${isSet(reference, "live")}`
    case "SET DEFAULT":
      return `UPDATE ${name} AS t SET ${
        assign(reference, (column) => `(${column.default ?? "NULL"})`)
      } ${orphans} AND ${isSet(reference, "live")}`
  }
}

/**
 * Copies the rows aside that clearing the synchronised tables would take along or change. Nothing at all is asked of a
 * database without such tables.
 *
 * @since 0.1.0
 * @category steps
 */
export const keep: Effect.Effect<ReadonlyArray<KeptTable>, SqlError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { localReferences } = yield* db.tables
  if (localReferences.length === 0) return []
  // A table that left the configuration is emptied like the others, and stays empty.
  const registered = yield* db.all<{ readonly table_name: string }>("SELECT table_name FROM _sync_managed_tables")
  const references = localReferences.filter(({ child }) => !registered.some((row) => same(row.table_name, child)))
  const described = yield* db.all<Column>(
    `SELECT w.value AS "table", l.wr AS "isWithoutRowid", c.name, c.pk AS "primaryKey", c.hidden, c.dflt_value AS "default"
       FROM json_each(?) AS w
       JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = w.value COLLATE NOCASE,
            pragma_table_xinfo(w.value, 'main') AS c ORDER BY w.value, c.cid`,
    [JSON.stringify([...new Set(references.flatMap(({ child, parent }) => [child, parent]))])]
  )
  const kept = [...new Set(references.map(({ child }) => child))]
    .map((child, position) => keptTable(child, position, references, described))
  for (const table of kept) {
    yield* db.all(`DROP TABLE IF EXISTS ${table.copy}`)
    yield* db.all(copyStatement(table))
  }
  return kept
})

/**
 * Puts the rows back as they were, then does what the host has declared where a parent is really gone. Capture is silent,
 * foreign keys are checked by the commit.
 *
 * @since 0.1.0
 * @category steps
 */
export const restore = Effect.fnUntraced(function*(
  kept: ReadonlyArray<KeptTable>
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const ofEvery = (statement: (table: KeptTable, reference: Reference) => string, actions: ReadonlyArray<string>) =>
    kept.flatMap((table) =>
      table.references.filter(({ onDelete }) => actions.includes(onDelete)).map((one) => statement(table, one))
    )
  const statements = [
    ...kept.map(untouchedStatement),
    ...kept.map(insertStatement),
    ...ofEvery(referStatement, ["SET NULL", "SET DEFAULT"]),
    // A cascade from one of these tables to another is SQLite's part.
    ...ofEvery(actionStatement, ["CASCADE", "SET NULL", "SET DEFAULT"]),
    ...kept.map(({ copy }) => `DROP TABLE ${copy}`)
  ]
  for (const statement of statements) yield* db.all(statement)
})
