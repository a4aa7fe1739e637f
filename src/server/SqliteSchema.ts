/**
 * The tables of the embedded store, and which declared table has which number in it (server.md §2, §3).
 *
 * @since 0.1.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { ServerStorageError } from "./ServerStorage.js"
import { InvalidTableDeclaration } from "./TableDeclaration.js"
import type { ServerTable, ServerTables } from "./TableDeclaration.js"

const layout = "oversqlite_server_1"

/**
 * Rows handled by one statement where the client decides how many there are.
 *
 * @since 0.1.0
 * @category constants
 */
export const sliceRows = 4000

const statements: ReadonlyArray<string> = [
  `CREATE TABLE IF NOT EXISTS server_meta (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    layout TEXT NOT NULL,
    history_id TEXT NOT NULL,
    history_pruned_errors INTEGER NOT NULL DEFAULT 0
  ) STRICT`,
  `CREATE TABLE IF NOT EXISTS server_table (
    table_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key_column TEXT NOT NULL,
    key_kind TEXT NOT NULL
  ) STRICT`,
  `CREATE TABLE IF NOT EXISTS server_scope (
    scope_id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    latest_bundle_seq INTEGER NOT NULL DEFAULT 0,
    retained_floor INTEGER NOT NULL DEFAULT 0 CHECK (retained_floor BETWEEN 0 AND latest_bundle_seq),
    state TEXT NOT NULL CHECK (state IN ('Uninitialized', 'Initializing', 'Initialized')),
    source_id TEXT,
    initialization_id TEXT,
    lease_expires_at INTEGER,
    initialized_at INTEGER
  ) STRICT`,
  `CREATE TABLE IF NOT EXISTS server_source (
    scope_id INTEGER NOT NULL REFERENCES server_scope,
    source_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'reserved', 'retired')),
    max_committed INTEGER NOT NULL,
    replaced_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (scope_id, source_id)
  ) STRICT, WITHOUT ROWID`,
  // A live row has a payload, a tombstone has none. Tombstones stay for ever.
  `CREATE TABLE IF NOT EXISTS server_row (
    scope_id INTEGER NOT NULL,
    table_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    payload TEXT,
    PRIMARY KEY (scope_id, table_id, key)
  ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS server_bundle (
    scope_id INTEGER NOT NULL,
    bundle_seq INTEGER NOT NULL,
    source_id TEXT NOT NULL,
    source_bundle_id INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    bundle_hash TEXT NOT NULL,
    committed_at INTEGER NOT NULL,
    PRIMARY KEY (scope_id, bundle_seq),
    UNIQUE (scope_id, source_id, source_bundle_id)
  ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS server_bundle_row (
    scope_id INTEGER NOT NULL,
    bundle_seq INTEGER NOT NULL,
    row_ordinal INTEGER NOT NULL,
    table_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    op TEXT NOT NULL,
    payload TEXT,
    PRIMARY KEY (scope_id, bundle_seq, row_ordinal)
  ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS server_push (
    push_pk INTEGER PRIMARY KEY,
    push_id TEXT NOT NULL UNIQUE,
    scope_id INTEGER NOT NULL,
    source_id TEXT NOT NULL,
    source_bundle_id INTEGER NOT NULL,
    planned_rows INTEGER NOT NULL,
    next_row_ordinal INTEGER NOT NULL DEFAULT 0,
    initialization_id TEXT,
    expires_at INTEGER NOT NULL,
    UNIQUE (scope_id, source_id, source_bundle_id)
  ) STRICT`,
  "CREATE INDEX IF NOT EXISTS server_push_expiry ON server_push (expires_at)",
  `CREATE TABLE IF NOT EXISTS server_push_row (
    push_pk INTEGER NOT NULL,
    row_ordinal INTEGER NOT NULL,
    table_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    op TEXT NOT NULL,
    base_version INTEGER NOT NULL,
    payload TEXT,
    partial INTEGER NOT NULL,
    problem TEXT,
    PRIMARY KEY (push_pk, row_ordinal)
  ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS server_snapshot (
    snapshot_pk INTEGER PRIMARY KEY,
    snapshot_id TEXT NOT NULL UNIQUE,
    scope_id INTEGER NOT NULL,
    bundle_seq INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT`,
  "CREATE INDEX IF NOT EXISTS server_snapshot_expiry ON server_snapshot (expires_at)",
  `CREATE TABLE IF NOT EXISTS server_snapshot_row (
    snapshot_pk INTEGER NOT NULL,
    row_ordinal INTEGER NOT NULL,
    table_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (snapshot_pk, row_ordinal)
  ) STRICT, WITHOUT ROWID`
]

// The effects of the commit that is running; empty between two commits (server.md §7.3, bundle_capture_stage).
const temporaryStatements: ReadonlyArray<string> = [
  `CREATE TEMP TABLE IF NOT EXISTS server_effect (
    table_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    row_ordinal INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    first_op TEXT NOT NULL,
    last_op TEXT NOT NULL,
    version_before INTEGER NOT NULL,
    PRIMARY KEY (table_id, key)
  ) WITHOUT ROWID`,
  `CREATE TEMP TABLE IF NOT EXISTS server_effect_order (
    position INTEGER PRIMARY KEY,
    table_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    op TEXT NOT NULL
  )`,
  `CREATE TEMP TABLE IF NOT EXISTS server_cascade (
    table_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    root INTEGER NOT NULL,
    level INTEGER NOT NULL,
    parent_position INTEGER NOT NULL,
    reference INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (table_id, key)
  ) WITHOUT ROWID`
]

/**
 * The declared tables with the numbers they have in the store.
 *
 * @since 0.1.0
 * @category models
 */
export interface Catalog {
  /** In order of the full name. */
  readonly tables: ReadonlyArray<ServerTable>
  readonly idOf: (table: ServerTable) => number
  readonly named: (name: string) => ServerTable
  readonly byId: (id: number) => ServerTable
}

interface CatalogRow {
  readonly table_id: number
  readonly name: string
  readonly key_column: string
  readonly key_kind: string
}

/** What forbids to open the store with these declarations: rows are only understood by the key they were stored under. */
const catalogProblem = (tables: ServerTables, row: CatalogRow): string | undefined => {
  const table = tables.get(row.name)
  if (table === undefined) return "is in the store but not declared"
  return table.key.column === row.key_column && table.key.kind === row.key_kind
    ? undefined
    : `is in the store with the key ${row.key_column} (${row.key_kind})`
}

const makeCatalog = (tables: ServerTables, rows: ReadonlyArray<CatalogRow>): Catalog => {
  const ids = new Map(rows.map((row) => [row.name, row.table_id]))
  const names = new Map(rows.map((row) => [row.table_id, row.name]))
  const named = (name: string): ServerTable => {
    const table = tables.get(name)
    if (table === undefined) throw new Error(`table ${name} is not declared`)
    return table
  }
  return {
    tables: Array.from(tables.values()),
    idOf: (table) => ids.get(table.name) ?? -1,
    named,
    byId: (id) => named(names.get(id) ?? "")
  }
}

/** Columns whose values are looked up: an index each, over the live rows of their table. */
const lookedUp = (table: ServerTable): ReadonlyArray<string> =>
  Array.from(
    new Set([
      ...table.references.map((reference) => reference.column),
      ...(table.columns ?? []).filter((column) => column.unique).map((column) => column.name)
    ])
  )

const indexPrefix = "server_row_member_"

const memberIndexes = (catalog: Catalog): ReadonlyMap<string, string> =>
  new Map(catalog.tables.flatMap((table) =>
    lookedUp(table).map((column): [string, string] => {
      const id = catalog.idOf(table)
      const name = `${indexPrefix}${id}_${column}`
      return [
        name,
        `CREATE INDEX ${name} ON server_row (scope_id, payload ->> '$.${column}')
          WHERE table_id = ${id} AND payload IS NOT NULL`
      ]
    })
  ))

/**
 * Creates what is missing in the store and numbers the declared tables. A store of another layout is refused. Tables may be added between two starts; a table
 * that is in the store must stay declared, with its key. Runs inside a transaction. `historyId` is used for a new store.
 *
 * @since 0.1.0
 * @category constructors
 */
export const install = Effect.fnUntraced(function*(
  sql: SqlClient,
  tables: ServerTables,
  historyId: string
): Effect.fn.Return<Catalog, SqlError | ServerStorageError | InvalidTableDeclaration> {
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
  yield* sql`INSERT INTO server_meta (singleton, layout, history_id) VALUES (1, ${layout}, ${historyId})
    ON CONFLICT DO NOTHING`
  const found = yield* sql<{ readonly layout: string }>`SELECT layout FROM server_meta`
  if (found[0]?.layout !== layout) {
    const cause = new Error(`the tables have the layout ${found[0]?.layout}, and this version writes ${layout}`)
    return yield* new ServerStorageError({ reason: "layout", cause })
  }
  const names = Array.from(tables.keys())
  yield* sql`INSERT INTO server_table (name, key_column, key_kind)
    SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2
    FROM json_each(${
    JSON.stringify(names.map((name) => [name, tables.get(name)?.key.column, tables.get(name)?.key.kind]))
  })
      AS e WHERE true ON CONFLICT DO NOTHING`
  const rows = yield* sql<CatalogRow>`SELECT table_id, name, key_column, key_kind FROM server_table ORDER BY table_id`
  for (const row of rows) {
    const problem = catalogProblem(tables, row)
    if (problem !== undefined) return yield* new InvalidTableDeclaration({ table: row.name, problem })
  }
  const catalog = makeCatalog(tables, rows)
  const wanted = memberIndexes(catalog)
  const existing = yield* sql<{ readonly name: string }>`SELECT name FROM sqlite_schema
    WHERE type = 'index' AND tbl_name = 'server_row' AND name LIKE ${indexPrefix + "%"}`
  for (const { name } of existing) {
    if (!wanted.has(name)) yield* sql`DROP INDEX ${sql(name)}`
  }
  for (const [name, statement] of wanted) {
    if (!existing.some((index) => index.name === name)) yield* sql.unsafe(statement)
  }
  return catalog
})

/**
 * Creates the temporary tables of the store's connection.
 *
 * @since 0.1.0
 * @category constructors
 */
export const installTemporary = (sql: SqlClient): Effect.Effect<void, SqlError> =>
  Effect.forEach(temporaryStatements, (statement) => sql.unsafe(statement), { discard: true })
