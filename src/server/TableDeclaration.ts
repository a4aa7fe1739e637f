/**
 * What the server is told about a synchronised table: its key, and, where it shall enforce them, columns and references
 * (server.md §3).
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"

/**
 * How values of a column are checked, normalised and emitted (values.md §4).
 *
 * @since 0.1.0
 * @category models
 */
export const ColumnKind = Schema.Literal(
  "uuid",
  "text",
  "integer",
  "bigint",
  "double precision",
  "boolean",
  "bytea",
  "timestamptz",
  "json"
)

/**
 * How values of a column are checked, normalised and emitted (values.md §4).
 *
 * @since 0.1.0
 * @category models
 */
export type ColumnKind = typeof ColumnKind.Type

/**
 * A column. `default` is the value an INSERT without the member gets: any JSON value, and for `timestamptz` also
 * `"now()"`, the time of the commit. Without it the value is NULL. `unique` holds within a scope, at the end of a bundle.
 *
 * @since 0.1.0
 * @category models
 */
export const ColumnDeclaration = Schema.Struct({
  kind: ColumnKind,
  notNull: Schema.optional(Schema.Boolean),
  unique: Schema.optional(Schema.Boolean),
  default: Schema.optional(Schema.Unknown)
})

/**
 * A column with its options.
 *
 * @since 0.1.0
 * @category models
 */
export type ColumnDeclaration = typeof ColumnDeclaration.Type

/**
 * What happens to the referring row when the row it refers to is deleted. All but `restrict` take effect, or are checked,
 * with the whole bundle in place; `set default` writes the column's default.
 *
 * @since 0.1.0
 * @category models
 */
export const DeleteAction = Schema.Literal("no action", "restrict", "cascade", "set null", "set default")

/**
 * What happens to the referring row when the row it refers to is deleted.
 *
 * @since 0.1.0
 * @category models
 */
export type DeleteAction = typeof DeleteAction.Type

/**
 * A column that holds the key of a row of another declared table (or of the same one). `table` without a schema means the
 * schema of the referring table. NULL refers to nothing.
 *
 * @since 0.1.0
 * @category models
 */
export const ReferenceDeclaration = Schema.Struct({
  column: Schema.String,
  table: Schema.String,
  onDelete: Schema.optionalWith(DeleteAction, { default: () => "no action" as const })
})

/**
 * A synchronised table. Names are lowercase letters, digits and underscores; `schema` is `public` when left out.
 *
 * Without `columns` a row is a document whose members the server does not look at. With `columns` members are checked and
 * normalised, missing ones of an INSERT get their default, and unknown ones are refused; the key column need not be listed.
 *
 * @example
 * ```ts
 * import { TableDeclaration } from "oversqlite/server"
 *
 * const posts: typeof TableDeclaration.Encoded = {
 *   schema: "business",
 *   table: "posts",
 *   key: { column: "id", kind: "uuid" },
 *   columns: { title: "text", author_id: { kind: "uuid", notNull: true } },
 *   references: [{ column: "author_id", table: "users", onDelete: "cascade" }]
 * }
 * ```
 *
 * @since 0.1.0
 * @category models
 */
export const TableDeclaration = Schema.Struct({
  schema: Schema.optionalWith(Schema.String, { default: () => "public" }),
  table: Schema.String,
  key: Schema.Struct({ column: Schema.String, kind: Schema.Literal("uuid", "text") }),
  columns: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Union(ColumnKind, ColumnDeclaration) })),
  references: Schema.optionalWith(Schema.Array(ReferenceDeclaration), { default: () => [] })
})

/**
 * A table declaration as it is written in code or in a JSON file.
 *
 * @since 0.1.0
 * @category models
 */
export type TableDeclaration = typeof TableDeclaration.Encoded

/**
 * A column of a resolved table, with every option decided.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerColumn {
  readonly name: string
  readonly kind: ColumnKind
  readonly notNull: boolean
  readonly unique: boolean
  /** The declared default; `undefined` means NULL. */
  readonly default: unknown
}

/**
 * A reference of a resolved table. `table` is a full name, `ordinal` its place in the order of cascades.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerReference {
  readonly ordinal: number
  readonly column: string
  readonly table: string
  readonly onDelete: DeleteAction
}

/**
 * A resolved table. `name` is `schema.table`; `columns` are sorted by name and include the key.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerTable {
  readonly name: string
  readonly schema: string
  readonly table: string
  readonly key: { readonly column: string; readonly kind: "uuid" | "text" }
  readonly columns: ReadonlyArray<ServerColumn> | undefined
  readonly references: ReadonlyArray<ServerReference>
}

/**
 * The declared tables by full name, in ascending order of the name.
 *
 * @since 0.1.0
 * @category models
 */
export type ServerTables = ReadonlyMap<string, ServerTable>

/**
 * A declaration the server cannot work with: it refuses to start (server.md §3). `table` is the full name.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidTableDeclaration extends Data.TaggedError("InvalidTableDeclaration")<{
  readonly table: string
  readonly problem: string
}> {
  override get message() {
    return `table ${this.table}: ${this.problem}`
  }
}

const identifier = /^[a-z0-9_]+$/
// The second one would be lost among the members of a declaration.
const unusable = ["_sync_scope_id", "__proto__"]

type Decoded = typeof TableDeclaration.Type

const resolveColumns = (declared: Decoded): ReadonlyArray<ServerColumn> | undefined => {
  if (declared.columns === undefined) return undefined
  const columns = Object.entries(declared.columns).map(([name, column]): ServerColumn =>
    typeof column === "string"
      ? { name, kind: column, notNull: false, unique: false, default: undefined }
      : {
        name,
        kind: column.kind,
        notNull: column.notNull ?? false,
        unique: column.unique ?? false,
        default: column.default
      }
  ).filter((column) => column.name !== declared.key.column)
  columns.push({ name: declared.key.column, kind: declared.key.kind, notNull: true, unique: false, default: undefined })
  // By name and not by locale: this is the member order of canonical JSON (hashing.md §1.2).
  return columns.sort((left, right) => left.name < right.name ? -1 : 1)
}

const fullName = (schema: string, table: string) => table.includes(".") ? table : `${schema}.${table}`

/** The first thing wrong with one declaration, looked at by itself. */
const problemOf = (declared: Decoded, declaration: TableDeclaration): string | undefined => {
  if (!identifier.test(declared.schema) || !identifier.test(declared.table)) {
    return "schema and table must be lowercase letters, digits and underscores"
  }
  const names = [
    declared.key.column,
    ...Object.keys(declaration.columns ?? {}),
    ...declared.references.map((_) => _.column)
  ]
  const name = names.find((name) => !identifier.test(name) || unusable.includes(name))
  return name === undefined ? undefined : `column ${JSON.stringify(name)} cannot be used`
}

/** The first thing wrong with the references, which need the other tables. */
const referenceProblem = (tables: ServerTables, table: ServerTable): string | undefined => {
  for (const reference of table.references) {
    const parent = tables.get(reference.table)
    const column = table.columns?.find((_) => _.name === reference.column)
    if (parent === undefined) return `reference to ${reference.table}, which is not declared`
    if (table.columns !== undefined && column?.kind !== parent.key.kind) {
      return `column ${reference.column} must be declared with the kind of the key of ${reference.table}`
    }
    if (reference.onDelete === "set null" && column?.notNull === true) {
      return `column ${reference.column} is set to null by a delete and must not be NOT NULL`
    }
  }
  return undefined
}

/**
 * Checks declarations and brings them into their resolved form.
 *
 * @since 0.1.0
 * @category constructors
 */
export const resolve = (
  declarations: ReadonlyArray<TableDeclaration>
): Either.Either<ServerTables, InvalidTableDeclaration> =>
  Either.gen(function*() {
    const tables = new Map<string, ServerTable>()
    let ordinal = 0
    for (const declaration of declarations) {
      const declared = yield* Either.mapLeft(
        Schema.decodeUnknownEither(TableDeclaration)(declaration),
        (error) => new InvalidTableDeclaration({ table: String(declaration.table), problem: error.message })
      )
      const name = `${declared.schema}.${declared.table}`
      const problem = problemOf(declared, declaration) ?? (tables.has(name) ? "declared twice" : undefined)
      if (problem !== undefined) return yield* Either.left(new InvalidTableDeclaration({ table: name, problem }))
      tables.set(name, {
        name,
        schema: declared.schema,
        table: declared.table,
        key: declared.key,
        columns: resolveColumns(declared),
        references: declared.references.map((reference) => ({
          ordinal: ordinal++,
          column: reference.column,
          table: fullName(declared.schema, reference.table),
          onDelete: reference.onDelete
        }))
      })
    }
    for (const table of tables.values()) {
      const problem = referenceProblem(tables, table)
      if (problem !== undefined) {
        return yield* Either.left(new InvalidTableDeclaration({ table: table.name, problem }))
      }
    }
    return new Map(Array.from(tables).sort(([left], [right]) => left < right ? -1 : 1))
  })
