/**
 * The invariants of client-state.md §7 that a database can be asked about, each under its number. Independent of the
 * engine's own SQL: columns, keys and foreign keys come from SQLite's catalogue.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as BundleHash from "../protocol/BundleHash.js"
import { triggerDefinitions } from "../storage/ChangeCapture.js"
import { readCatalogue } from "../storage/TableCatalogue.js"
import { inspect } from "../storage/TableInspector.js"
import { attachment, keyed, operation, rules } from "./InvariantRules.js"

/**
 * What the checks may assume.
 *
 * @since 0.1.0
 * @category options
 */
export interface InvariantOptions {
  /**
   * No engine operation runs and no host write of another connection is under way (default). `false` leaves out the
   * invariants 26 and 29, which hold between operations only.
   */
  readonly quiescent?: boolean | undefined
  /** The database was written by the reference and not operated on since: 5, 9, 14, 19, 21, 26 and 29 are left out. */
  readonly reference?: boolean | undefined
  /** The server's history has gone back since the last check: versions and checkpoint may be lower (10, 28). */
  readonly historyWentBack?: boolean | undefined
}

type Rows = ReadonlyArray<Record<string, unknown>>

interface ManagedTable {
  readonly name: string
  readonly key: string
  readonly isBlobKey: boolean
  /** The row as JSON, the way capture writes it (payload-codec.md §2). */
  readonly payload: string
  readonly keyJson: string
}

const quoted = (name: string) => `"${name.replaceAll("\"", "\"\"")}"`

const member = (name: string, type: string) =>
  `'${name.toLowerCase()}', ${
    /blob/i.test(type)
      ? `CASE WHEN t.${quoted(name)} IS NOT NULL THEN lower(hex(t.${quoted(name)})) END`
      : `t.${quoted(name)}`
  }`

/** In pieces, because a function takes only so many arguments. */
const rowObject = (columns: ReadonlyArray<{ readonly name: string; readonly type: string }>) => {
  let object = "json_object()"
  for (let from = 0; from < columns.length; from += 100) {
    const members = columns.slice(from, from + 100).map(({ name, type }) => member(name, type))
    object = `json_insert(${object}, ${
      members.map((text) => text.replace("'", "'$.\"").replace("',", "\"',")).join(", ")
    })`
  }
  return object
}

const managedTables = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const names = yield* sql.unsafe<{ readonly name: string }>(
    `SELECT s.name FROM _sync_engine_state AS e, json_each(nullif(e.configured_tables, '')) AS t
         JOIN sqlite_schema AS s ON s.type = 'table' AND lower(s.name) = t.value ORDER BY t.key`
  )
  const tables: Array<ManagedTable> = []
  for (const { name } of names) {
    const columns = yield* sql.unsafe<{ readonly name: string; readonly type: string; readonly pk: number }>(
      "SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid",
      [name]
    )
    const key = columns.find(({ pk }) => pk === 1)
    if (key === undefined) continue
    tables.push({
      name,
      key: key.name,
      isBlobKey: /blob/i.test(key.type),
      payload: rowObject(columns),
      keyJson: `json_object(${member(key.name, key.type)})`
    })
  }
  return tables
})

const offenders = (invariant: number, says: string, rows: Rows): ReadonlyArray<string> =>
  rows.map((row) => `invariant ${invariant}: ${says}: ${JSON.stringify(row)}`)

/** 5: keys are spelt as SQLite's JSON functions and `JSON.stringify` spell them. */
const keySpelling = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const found: Array<string> = []
  for (const table of keyed) {
    const keys = yield* sql.unsafe<{ readonly key_json: string }>(`SELECT DISTINCT key_json FROM ${table}`)
    const odd = keys.filter(({ key_json }) => JSON.stringify(JSON.parse(key_json)) !== key_json)
    found.push(...offenders(5, `${table}: keys are canonical`, odd))
  }
  return found
})

/** 4: the registry, and exactly six current triggers a table. */
const installation = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, tables: ReadonlyArray<ManagedTable>) {
  const found: Array<string> = []
  const [attached] = yield* sql.unsafe<{ readonly schema_name: string }>(
    "SELECT schema_name FROM _sync_managed_tables LIMIT 1"
  )
  const schema = attached?.schema_name ?? ""
  const unregistered = yield* sql.unsafe<Record<string, unknown>>(
    `SELECT t.value AS name FROM _sync_engine_state AS e, json_each(nullif(e.configured_tables, '')) AS t
        WHERE t.value NOT IN (SELECT table_name FROM _sync_managed_tables)`
  )
  found.push(...offenders(4, "every configured table is registered", unregistered))
  const catalogue = yield* Effect.provideService(
    readCatalogue(tables.map(({ name }) => name)),
    SqlClient.SqlClient,
    sql
  )
  const inspected = Either.getOrThrow(
    inspect(tables.map(({ key, name }) => ({ name, key })), catalogue)
  )
  const collapsed = (text: string) => text.toLowerCase().replaceAll(/\s+/g, " ").trim()
  const wanted = new Map(
    inspected.flatMap((table) => triggerDefinitions(schema, table)).map(({ name, sql }) => [name, collapsed(sql)])
  )
  const stored = new Map(
    catalogue.triggers.filter(({ name, sql }) => wanted.has(name) || /^trg_.*/i.test(name) && /_sync_/.test(sql))
      .map(({ name, sql }) => [name, collapsed(sql)])
  )
  for (const [name, text] of wanted) {
    if (stored.get(name) !== text) found.push(`invariant 4: trigger ${name} is missing or not current`)
  }
  for (const name of stored.keys()) {
    if (!wanted.has(name)) found.push(`invariant 4: trigger ${name} belongs to no configured table`)
  }
  return found
})

interface FrozenRow {
  readonly schema_name: string
  readonly table_name: string
  readonly wire_key_json: string
  readonly op: "INSERT" | "UPDATE" | "DELETE"
  readonly base_row_version: number
  readonly wire_payload: string | null
}

/** 19: the hash; 22: parents before their children, and the other way round for deletes. */
const frozen = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, hash: boolean) {
  const found: Array<string> = []
  const [header] = yield* sql.unsafe<{ readonly state: string; readonly canonical_request_hash: string }>(
    "SELECT state, canonical_request_hash FROM _sync_outbox_bundle"
  )
  if (hash && header?.state === "prepared") {
    const rows = yield* sql.unsafe<FrozenRow>("SELECT * FROM _sync_outbox_rows ORDER BY row_ordinal")
    const actual = BundleHash.requestHash(rows.map((row) => ({
      schema: row.schema_name,
      table: row.table_name,
      key: JSON.parse(row.wire_key_json),
      op: row.op,
      base_row_version: row.base_row_version,
      payload: row.wire_payload === null ? undefined : JSON.parse(row.wire_payload)
    })))
    if (actual !== header.canonical_request_hash) {
      found.push(`invariant 19: the request hash is ${header.canonical_request_hash}, the rows say ${actual}`)
    }
  }
  const order = yield* sql.unsafe<Record<string, unknown>>(
    `WITH edges(child, parent) AS (
         SELECT DISTINCT lower(m.name), lower(f."table") FROM sqlite_schema AS m, pragma_foreign_key_list(m.name) AS f
          WHERE m.type = 'table' AND lower(m.name) <> lower(f."table"))
       SELECT e.child, e.parent, c.op AS child_op, c.row_ordinal AS child_ordinal, p.row_ordinal AS parent_ordinal
         FROM edges AS e
         JOIN _sync_outbox_rows AS c ON c.table_name = e.child
         JOIN _sync_outbox_rows AS p ON p.table_name = e.parent AND (p.op = 'DELETE') = (c.op = 'DELETE')
        WHERE NOT EXISTS (SELECT 1 FROM edges AS r WHERE r.child = e.parent AND r.parent = e.child)
          AND (c.row_ordinal < p.row_ordinal) <> (c.op = 'DELETE') LIMIT 1`
  )
  found.push(...offenders(22, "frozen rows stand in table order", order))
  return found
})

/** 26 and 29: dirty rows describe the live rows, and row state the others. */
const liveRows = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, tables: ReadonlyArray<ManagedTable>) {
  const found: Array<string> = []
  const [state] = yield* sql.unsafe<{ readonly kind: string; readonly binding: string; readonly gate: number }>(
    `SELECT o.kind, a.binding_state AS binding, a.rebuild_required AS gate
         FROM ${operation} AS o, ${attachment} AS a`
  )
  if (state?.kind !== "none") return found
  const settled = state.binding === "attached" && state.gate === 0
  const pending = `SELECT key_json FROM _sync_dirty_rows WHERE table_name = n.name
                      UNION SELECT key_json FROM _sync_outbox_rows WHERE table_name = n.name`
  for (const table of tables) {
    const name = table.name.toLowerCase()
    const live = `(SELECT ${table.keyJson} AS key_json, ${table.payload} AS payload FROM ${quoted(table.name)} AS t)`
    const dirty = yield* sql.unsafe<Record<string, unknown>>(
      `SELECT d.key_json, d.op, d.payload, l.payload AS live FROM _sync_dirty_rows AS d
           LEFT JOIN ${live} AS l ON l.key_json = d.key_json
          WHERE d.table_name = ? AND d.payload IS NOT l.payload`,
      [name]
    )
    found.push(...offenders(26, `${name}: a dirty row describes the live row`, dirty))
    if (!settled) continue
    const unknown = yield* sql.unsafe<Record<string, unknown>>(
      `SELECT l.key_json FROM ${live} AS l, (SELECT ? AS name) AS n
          WHERE l.key_json NOT IN (${pending})
            AND NOT EXISTS (SELECT 1 FROM _sync_row_state AS s
                             WHERE s.table_name = n.name AND s.key_json = l.key_json AND s.deleted = 0)`,
      [name]
    )
    found.push(...offenders(29, `${name}: a row that is not pending is known to the server`, unknown))
    const gone = yield* sql.unsafe<Record<string, unknown>>(
      `SELECT s.key_json, s.deleted FROM _sync_row_state AS s, (SELECT ? AS name) AS n
          WHERE s.table_name = n.name AND s.key_json NOT IN (${pending})
            -- An own row ahead of the checkpoint may be away until its bundle is pulled (pull.md §4.1), and so may be
            -- what a deletion ahead of the checkpoint, accepted in a conflict, has taken along.
            AND s.row_version <= (SELECT last_bundle_seq_seen FROM ${attachment})
            AND (s.deleted = 1 OR NOT EXISTS (
                  SELECT 1 FROM _sync_row_state AS a
                   WHERE a.deleted = 1 AND a.row_version > (SELECT last_bundle_seq_seen FROM ${attachment})))
            AND (s.deleted = 0) <> EXISTS (SELECT 1 FROM ${live} AS l WHERE l.key_json = s.key_json)`,
      [name]
    )
    found.push(...offenders(29, `${name}: row state that is not pending tells whether the row is there`, gone))
  }
  return found
})

interface Remembered {
  readonly user: string
  readonly source: string
  readonly checkpoint: number
  readonly counters: ReadonlyMap<string, number>
  readonly owners: ReadonlyMap<string, string>
  readonly versions: ReadonlyMap<string, number>
}

const remembered = new WeakMap<object, Remembered>()

/**
 * Lets checks through `later` compare with the last one through `earlier`: the same database, opened again.
 *
 * @since 0.1.0
 * @category checks
 */
export const followOn = (earlier: SqlClient.SqlClient, later: SqlClient.SqlClient): void => {
  const before = remembered.get(earlier)
  if (before !== undefined) remembered.set(later, before)
}

/** 10, 11, 12, 28: compared with the last time this database was checked. */
const sinceLastTime = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, options: InvariantOptions) {
  const found: Array<string> = []
  const [state] = yield* sql.unsafe<{ readonly user: string; readonly source: string; readonly checkpoint: number }>(
    `SELECT attached_user_id AS user, current_source_id AS source, last_bundle_seq_seen AS checkpoint
         FROM ${attachment}`
  )
  const sources = yield* sql.unsafe<{ readonly id: string; readonly next: number; readonly owner: string }>(
    "SELECT source_id AS id, next_source_bundle_id AS next, owner_user_id AS owner FROM _sync_source_state"
  )
  const versions = yield* sql.unsafe<{ readonly key: string; readonly version: number }>(
    "SELECT table_name || key_json AS key, row_version AS version FROM _sync_row_state"
  )
  const now: Remembered = {
    user: state?.user ?? "",
    source: state?.source ?? "",
    checkpoint: state?.checkpoint ?? 0,
    counters: new Map(sources.map(({ id, next }) => [id, next])),
    owners: new Map(sources.map(({ id, owner }) => [id, owner])),
    versions: new Map(versions.map(({ key, version }) => [key, version]))
  }
  const before = remembered.get(sql)
  remembered.set(sql, now)
  if (before === undefined) return found
  for (const [id, next] of before.counters) {
    const later = now.counters.get(id)
    if (later === undefined) found.push(`invariant 11: source ${id} is forgotten`)
    else if (later < next) found.push(`invariant 11: the counter of ${id} went from ${next} back to ${later}`)
  }
  for (const [id, owner] of before.owners) {
    if (owner !== "" && now.owners.get(id) !== owner) found.push(`invariant 12: source ${id} has another owner`)
  }
  const same = now.user !== "" && now.user === before.user && now.source === before.source
  if (!same || options.historyWentBack === true) return found
  if (now.checkpoint < before.checkpoint) {
    found.push(`invariant 10: the checkpoint went from ${before.checkpoint} back to ${now.checkpoint}`)
  }
  for (const [key, version] of before.versions) {
    const later = now.versions.get(key)
    if (later !== undefined && later < version) {
      found.push(`invariant 28: the version of ${key} went from ${version} back to ${later}`)
    }
  }
  return found
})

/** After `uninstallSync` nothing of the engine is left. */
const uninstalled = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql.unsafe<Record<string, unknown>>(
      `SELECT type, name FROM sqlite_schema
        WHERE name LIKE '\\_sync\\_%' ESCAPE '\\' OR (type = 'trigger' AND sql LIKE '%\\_sync\\_%' ESCAPE '\\')`
    ),
    (left) => left.map((row) => `uninstalled, but left behind: ${JSON.stringify(row)}`)
  )

/**
 * Everything that breaks an invariant (1–29 of client-state.md §7, all but 16 and 23), as one readable line each; empty if
 * all is well. Also compares with the last look through the same `SqlClient` (10, 11, 12, 28).
 *
 * @since 0.1.0
 * @category checks
 */
export const findViolations = (
  { sql }: { readonly sql: SqlClient.SqlClient },
  options: InvariantOptions = {}
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const [installed] = yield* sql.unsafe<{ readonly n: number }>(
      "SELECT count(*) AS n FROM sqlite_schema WHERE name = '_sync_attachment_state'"
    )
    if (installed?.n !== 1) return yield* uninstalled(sql)
    const reference = options.reference === true
    const found: Array<string> = []
    for (const rule of rules) {
      if (reference && (rule.notOfReference || rule.invariant === 5)) continue
      found.push(...offenders(rule.invariant, rule.says, yield* sql.unsafe<Record<string, unknown>>(rule.sql)))
    }
    const tables = yield* managedTables(sql)
    found.push(...yield* installation(sql, tables))
    if (!reference) found.push(...yield* keySpelling(sql))
    found.push(...yield* frozen(sql, !reference))
    if (!reference && options.quiescent !== false) found.push(...yield* liveRows(sql, tables))
    found.push(...yield* sinceLastTime(sql, options))
    return found
  }).pipe(Effect.orDie)
