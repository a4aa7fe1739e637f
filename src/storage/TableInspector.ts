/**
 * Which tables can be registered, and what the engine has to know about them (capture.md §2, §7.1): a pure function over
 * the catalogue of the database.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import type { ConfigurationCode } from "../contract/SyncError.js"
import { affinityOf, columnClass } from "../protocol/ColumnShape.js"
import type { SyncColumn, SyncReference, SyncTable, SyncTableConfig } from "./SyncTable.js"
import type { Catalogue, CatalogueColumn, CatalogueForeignKey } from "./TableCatalogue.js"

/**
 * A configuration that does not fit. `table` and `column` are as configured.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConfigurationProblem {
  readonly code: ConfigurationCode
  readonly table?: string
  readonly column?: string
  readonly detail: string
}

const same = (left: string, right: string): boolean => left.toLowerCase() === right.toLowerCase()

const fail = (code: ConfigurationCode, detail: string, table?: string, column?: string) =>
  Either.left<ConfigurationProblem>({
    code,
    detail,
    ...(table === undefined ? {} : { table }),
    ...(column === undefined ? {} : { column })
  })

const isIdentifier = (name: string): boolean => /^[a-z0-9_]+$/.test(name.toLowerCase())

const configuredKeys = (key: SyncTableConfig["key"]): ReadonlyArray<string> => {
  const names = (typeof key === "string" ? [key] : key).map((name) => name.trim()).filter((name) => name !== "")
  return names.filter((name, position) => names.findIndex((other) => same(other, name)) === position)
}

const keyOf = (
  table: string,
  key: string,
  columns: ReadonlyArray<CatalogueColumn>
): Either.Either<{ readonly column: CatalogueColumn; readonly kind: SyncTable["keyKind"] }, ConfigurationProblem> => {
  const column = columns.find(({ name }) => same(name, key))
  if (column === undefined) {
    return fail(
      "key_column_missing",
      `table ${table} does not contain configured primary key column ${key}`,
      table,
      key
    )
  }
  if (column.primaryKey !== 1) {
    return fail("key_not_primary", `column ${key} of table ${table} is not declared as PRIMARY KEY`, table, key)
  }
  if (columns.some(({ primaryKey }) => primaryKey > 1)) {
    return fail(
      "key_composite_primary",
      `the primary key of table ${table} must be the column ${key} alone`,
      table,
      key
    )
  }
  const type = column.type.toLowerCase()
  if (type.includes("blob")) return Either.right({ column, kind: "uuid" })
  if (type.includes("text")) return Either.right({ column, kind: "text" })
  return fail(
    "key_type_unsupported",
    `column ${key} of table ${table} has type ${
      column.type === "" ? "(none)" : column.type
    }; sync supports only TEXT keys and UUID-backed BLOB keys`,
    table,
    key
  )
}

const checkNames = (
  table: string,
  columns: ReadonlyArray<CatalogueColumn>
): Either.Either<void, ConfigurationProblem> => {
  if (!isIdentifier(table)) {
    return fail("identifier_invalid", `table name ${table} must consist of letters, digits and underscores`, table)
  }
  if (same(table.slice(0, 6), "_sync_")) {
    return fail("identifier_invalid", `table ${table} belongs to the engine and cannot be synchronised`, table)
  }
  for (const [position, { hidden, name }] of columns.entries()) {
    if (hidden !== 0) return fail("column_generated", `column ${name} of table ${table} is generated`, table, name)
    if (same(name, "_sync_scope_id")) {
      return fail(
        "column_reserved",
        `column ${name} of table ${table} has a name that the server reserves`,
        table,
        name
      )
    }
    if (!isIdentifier(name)) {
      return fail(
        "identifier_invalid",
        `column name ${name} of table ${table} must consist of letters, digits and underscores`,
        table,
        name
      )
    }
    if (columns.findIndex((other) => same(other.name, name)) !== position) {
      return fail("identifier_invalid", `two columns of table ${table} differ only in case: ${name}`, table, name)
    }
  }
  return Either.right(undefined)
}

interface Registered {
  readonly declaredName: string
  readonly key: CatalogueColumn
  readonly keyKind: SyncTable["keyKind"]
  readonly columns: ReadonlyArray<CatalogueColumn>
  readonly isStrict: boolean
  readonly isWithoutRowid: boolean
  readonly keyCollation: string
}

const register = (
  config: SyncTableConfig,
  earlier: ReadonlySet<string>,
  catalogue: Catalogue
): Either.Either<Registered, ConfigurationProblem> => {
  const name = config.name.trim()
  if (name === "") return fail("table_name_missing", "a sync table name must be provided")
  if (name.includes(".")) {
    return fail("table_name_qualified", `table name ${name} must not include a schema qualifier`, name)
  }
  if (earlier.has(name.toLowerCase())) {
    return fail("table_duplicate", `duplicate sync table registration of ${name}`, name)
  }
  const keys = configuredKeys(config.key)
  if (typeof config.key === "string" ? keys.length === 0 : config.key.length === 0) {
    return fail("key_missing", `table ${name} declares no sync key column`, name)
  }
  const [key] = keys
  if (key === undefined || keys.length > 1) {
    return fail("key_not_single", `table ${name} must declare exactly one sync key column`, name)
  }
  if (catalogue.unreadable.some((other) => same(other.trim(), name))) {
    return fail("table_unreadable", `failed to inspect table ${name}`, name)
  }
  const columns = catalogue.columns.filter(({ table }) => same(table, name))
  const found = catalogue.tables.find((table) => same(table.name, name))
  return Either.flatMap(keyOf(name, key, columns), ({ column, kind }) =>
    Either.map(checkNames(name, columns), () => ({
      declaredName: found?.name ?? name,
      key: column,
      keyKind: kind,
      columns,
      isStrict: found?.isStrict === true,
      isWithoutRowid: found?.isWithoutRowid === true,
      keyCollation: found?.keyCollation ?? "BINARY"
    })))
}

const parentColumn = (catalogue: Catalogue, { parent, to }: CatalogueForeignKey): string | undefined =>
  (to ?? catalogue.columns.find((column) => same(column.table, parent) && column.primaryKey === 1)?.name)?.toLowerCase()

const checkForeignKeys = (
  tables: ReadonlyArray<Registered>,
  catalogue: Catalogue
): Either.Either<void, ConfigurationProblem> => {
  const isManaged = (name: string) => tables.some((table) => same(table.declaredName, name))
  const managed = catalogue.foreignKeys.filter(({ child }) => isManaged(child))
  const listed = (lines: ReadonlyArray<string>) => [...new Set(lines)].sort().join(", ")

  const composite = managed.filter((one) =>
    managed.some((other) => other.child === one.child && other.id === one.id && other.from !== one.from)
  )
  if (composite.length > 0) {
    const list = listed(composite.map(({ child, parent }) => `${child.toLowerCase()} -> ${parent.toLowerCase()}`))
    return fail("foreign_key_composite", `managed tables have unsupported composite foreign keys: ${list}`)
  }
  const open = managed.filter(({ parent }) => !isManaged(parent))
  if (open.length > 0) {
    const list = listed(open.map((key) => {
      const column = parentColumn(catalogue, key)
      const parent = key.parent.toLowerCase()
      return `${key.child.toLowerCase()}.${key.from.toLowerCase()} -> ${
        column === undefined ? parent : `${parent}.${column}`
      }`
    }))
    return fail("foreign_key_not_closed", `the managed tables are not FK-closed: ${list}`)
  }
  return Either.right(undefined)
}

const referencesOf = (table: Registered, catalogue: Catalogue): ReadonlyArray<SyncReference> =>
  catalogue.foreignKeys.filter(({ child }) => same(child, table.declaredName)).map((key) => ({
    column: key.from.toLowerCase(),
    parentTable: key.parent.toLowerCase(),
    parentColumn: parentColumn(catalogue, key) ?? ""
  }))

type Parking = SyncTable["parked"][number]

const parkingOf = (table: Registered, of: SyncColumn): Parking["by"] | undefined => {
  if (of.nullable) return "null"
  if (!table.isStrict) return "text"
  switch (of.declaredType.toUpperCase()) {
    case "TEXT":
    case "ANY":
      return "text"
    case "INT":
    case "INTEGER":
    case "REAL":
      return table.isWithoutRowid ? undefined : "negative"
    default:
      return undefined
  }
}

// One column of every UNIQUE constraint is enough to get its rows out of each other's way.
const parkedColumns = (
  table: Registered,
  columns: ReadonlyArray<SyncColumn>,
  catalogue: Catalogue
): ReadonlyArray<Parking> => {
  const isReferenced = (name: string) =>
    catalogue.foreignKeys.some(({ parent, to }) => same(parent, table.declaredName) && to !== null && same(to, name))
  const ofTable = catalogue.uniques.filter((unique) => same(unique.table, table.declaredName))
  const parked: Array<Parking> = []
  for (const index of new Set(ofTable.map((unique) => unique.index))) {
    const members = ofTable.filter((unique) => unique.index === index).map(({ column }) => column ?? "")
    // Rows with different keys never meet in an index that holds the key.
    if (members.some((name) => same(name, table.key.name))) continue
    if (parked.some(({ column }) => members.some((name) => same(name, column.name)))) continue
    const places = columns.flatMap((column): ReadonlyArray<Parking> => {
      const by = parkingOf(table, column)
      const candidate = members.some((name) => same(name, column.name)) && !isReferenced(column.name)
      return candidate && by !== undefined ? [{ column, by }] : []
    })
    const best = places.find(({ by }) => by === "null") ?? places[0]
    if (best !== undefined) parked.push(best)
  }
  return parked
}

const describeTable = (table: Registered, catalogue: Catalogue): Omit<SyncTable, "order"> => {
  const references = referencesOf(table, catalogue)
  const describe = (column: CatalogueColumn): SyncColumn => {
    const name = column.name.toLowerCase()
    return {
      name,
      declaredName: column.name,
      declaredType: column.type,
      nullable: !column.notNull,
      // ANY converts nothing, unlike the NUMERIC that its name would mean in an ordinary table.
      affinity: table.isStrict && same(column.type, "any") ? "BLOB" : affinityOf(column.type),
      class: columnClass({
        declaredType: column.type,
        isKey: column === table.key,
        isReference: references.some((reference) => reference.column === name)
      })
    }
  }
  const key = describe(table.key)
  const columns = table.columns.map((column) => column === table.key ? key : describe(column))
  return {
    name: table.declaredName.toLowerCase(),
    declaredName: table.declaredName,
    key,
    keyKind: table.keyKind,
    exactKey: table.keyKind === "uuid" || same(table.keyCollation, "BINARY"),
    columns,
    references,
    parked: parkedColumns(table, columns, catalogue)
  }
}

/**
 * Parents before children: repeatedly the first table in the given order whose parents are all placed; what is left
 * (cycles and what hangs on them) follows in the given order (capture.md §7.1).
 *
 * @since 0.1.0
 * @category ordering
 */
export const parentsFirst = <T extends Pick<SyncTable, "name" | "references">>(
  tables: ReadonlyArray<T>
): ReadonlyArray<T> => {
  const placed: Array<T> = []
  const isReady = (table: T) =>
    table.references.every(({ parentTable }) =>
      parentTable === table.name || placed.some(({ name }) => name === parentTable)
    )
  for (let left = tables; left.length > 0;) {
    const next = left.find(isReady)
    if (next === undefined) return [...placed, ...left]
    placed.push(next)
    left = left.filter((table) => table !== next)
  }
  return placed
}

/**
 * Decides whether the configured tables can be registered: every check of capture.md §2 in its order, the first failure
 * wins. The result is in table order, parents first.
 *
 * @since 0.1.0
 * @category inspection
 */
export const inspect = (
  config: ReadonlyArray<SyncTableConfig>,
  catalogue: Catalogue
): Either.Either<ReadonlyArray<SyncTable>, ConfigurationProblem> => {
  const names = new Set<string>()
  const registered: Array<Registered> = []
  for (const table of config) {
    const result = register(table, names, catalogue)
    if (Either.isLeft(result)) return Either.left(result.left)
    names.add(table.name.trim().toLowerCase())
    registered.push(result.right)
  }
  return Either.map(
    checkForeignKeys(registered, catalogue),
    () =>
      parentsFirst(registered.map((table) => describeTable(table, catalogue)))
        .map((table, order) => ({ ...table, order }))
  )
}
