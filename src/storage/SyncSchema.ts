/**
 * The `_sync_*` tables: their definitions, and what a database of an older client lacks (client-state.md §2).
 *
 * Names, columns, defaults and constraints of the eleven tables of the reference are fixed: existing databases and
 * inspection tools rely on them. What is ours besides is additive and does not disturb it.
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { now } from "./SqlText.js"
import { execute } from "./Statement.js"
import { isConstraint } from "./StorageFailure.js"

const singleton = "singleton_key INTEGER NOT NULL PRIMARY KEY CHECK (singleton_key = 1)"
const text = "TEXT NOT NULL DEFAULT ''"
const integer = "INTEGER NOT NULL DEFAULT 0"
const timestamp = `TEXT NOT NULL DEFAULT (${now})`
const operation = "TEXT NOT NULL CHECK (op IN ('INSERT', 'UPDATE', 'DELETE'))"

const tables: Readonly<Record<string, string>> = {
  _sync_source_state: `
    source_id TEXT NOT NULL PRIMARY KEY,
    next_source_bundle_id INTEGER NOT NULL DEFAULT 1,
    replaced_by_source_id ${text},
    created_at ${timestamp},
    owner_user_id ${text}`,
  _sync_attachment_state: `
    ${singleton},
    current_source_id ${text},
    binding_state TEXT NOT NULL DEFAULT 'anonymous' CHECK (binding_state IN ('anonymous', 'attached')),
    attached_user_id ${text},
    schema_name ${text},
    last_bundle_seq_seen ${integer},
    rebuild_required ${integer},
    pending_initialization_id ${text}`,
  _sync_operation_state: `
    ${singleton},
    kind TEXT NOT NULL DEFAULT 'none' CHECK (kind IN ('none', 'remote_replace', 'source_recovery')),
    target_user_id ${text},
    reason ${text},
    replacement_source_id ${text},
    staged_snapshot_id ${text},
    snapshot_bundle_seq ${integer},
    snapshot_row_count ${integer}`,
  _sync_apply_state: `
    ${singleton},
    apply_mode ${integer}`,
  _sync_row_state: `
    schema_name TEXT NOT NULL,
    table_name TEXT NOT NULL,
    key_json TEXT NOT NULL,
    row_version ${integer},
    deleted ${integer},
    updated_at ${timestamp},
    PRIMARY KEY (schema_name, table_name, key_json)`,
  _sync_dirty_rows: `
    schema_name TEXT NOT NULL,
    table_name TEXT NOT NULL,
    key_json TEXT NOT NULL,
    op ${operation},
    base_row_version ${integer},
    payload TEXT,
    dirty_ordinal ${integer},
    updated_at ${timestamp},
    PRIMARY KEY (schema_name, table_name, key_json)`,
  _sync_outbox_bundle: `
    ${singleton},
    state TEXT NOT NULL DEFAULT 'none' CHECK (state IN ('none', 'prepared', 'committed_remote')),
    source_id ${text},
    source_bundle_id ${integer},
    canonical_request_hash ${text},
    row_count ${integer},
    initialization_id ${text},
    remote_bundle_hash ${text},
    remote_bundle_seq ${integer}`,
  _sync_outbox_rows: `
    source_bundle_id INTEGER NOT NULL,
    row_ordinal INTEGER NOT NULL,
    schema_name TEXT NOT NULL,
    table_name TEXT NOT NULL,
    key_json TEXT NOT NULL,
    wire_key_json TEXT NOT NULL,
    op ${operation},
    base_row_version ${integer},
    local_payload TEXT,
    wire_payload TEXT,
    PRIMARY KEY (source_bundle_id, row_ordinal)`,
  _sync_push_stage: `
    bundle_seq INTEGER NOT NULL,
    row_ordinal INTEGER NOT NULL,
    schema_name TEXT NOT NULL,
    table_name TEXT NOT NULL,
    key_json TEXT NOT NULL,
    op ${operation},
    row_version INTEGER NOT NULL,
    payload TEXT,
    PRIMARY KEY (bundle_seq, row_ordinal)`,
  _sync_snapshot_stage: `
    snapshot_id TEXT NOT NULL,
    row_ordinal INTEGER NOT NULL,
    schema_name TEXT NOT NULL,
    table_name TEXT NOT NULL,
    key_json TEXT NOT NULL,
    row_version INTEGER NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (snapshot_id, row_ordinal)`,
  _sync_managed_tables: `
    schema_name TEXT NOT NULL,
    table_name TEXT NOT NULL,
    PRIMARY KEY (schema_name, table_name)`,
  _sync_engine_state: `
    ${singleton},
    engine_epoch ${integer},
    newest_bundle_seq ${integer},
    newest_bundle_hash ${text},
    rows_of_user_id ${text},
    configured_tables ${text},
    history_id ${text},
    own_bundle_seq ${integer},
    own_bundle_hash ${text}`
}

const singletons = [
  "_sync_attachment_state",
  "_sync_operation_state",
  "_sync_apply_state",
  "_sync_outbox_bundle",
  "_sync_engine_state"
]

// Ours, and absent from the tables of older clients.
const addedColumns: ReadonlyArray<readonly [table: string, column: string, definition: string]> = [
  ["_sync_source_state", "owner_user_id", text],
  ["_sync_engine_state", "configured_tables", text],
  ["_sync_engine_state", "history_id", text],
  ["_sync_engine_state", "own_bundle_seq", integer],
  ["_sync_engine_state", "own_bundle_hash", text]
]

// Keeps the cost of capture independent of the number of pending rows.
const ordinalIndex = "CREATE INDEX IF NOT EXISTS _sync_dirty_rows_ordinal ON _sync_dirty_rows (dirty_ordinal)"

const frozenKeyIndex = (kind: "UNIQUE INDEX" | "INDEX"): string =>
  `CREATE ${kind} IF NOT EXISTS _sync_outbox_rows_key ON _sync_outbox_rows (schema_name, table_name, key_json)`

/**
 * Names of the twelve tables of the engine.
 *
 * @since 0.1.0
 * @category schema
 */
export const stateTables: ReadonlyArray<string> = Object.keys(tables)

/**
 * Creates what is missing of the engine's tables, columns, indexes and singleton rows; what is there stays. Other tables
 * with the same prefix are left alone. Runs inside the transaction of the construction (client-state.md §3, steps 5, 6).
 *
 * @since 0.1.0
 * @category schema
 */
export const create: Effect.Effect<void, SqlError, SqlClient.SqlClient> = Effect.gen(function*() {
  const run = yield* execute
  for (const [name, definition] of Object.entries(tables)) {
    yield* run(`CREATE TABLE IF NOT EXISTS ${name} (${definition}\n)`)
  }
  const present = yield* run<{ readonly table_name: string; readonly column_name: string }>(
    `SELECT t.value AS table_name, c.name AS column_name
       FROM json_each(?) AS t, pragma_table_info(t.value, 'main') AS c`,
    [JSON.stringify(addedColumns.map(([table]) => table))]
  )
  for (const [table, column, definition] of addedColumns) {
    if (!present.some((one) => one.table_name === table && one.column_name === column)) {
      yield* run(`ALTER TABLE ${table} ADD COLUMN ${column} ${definition}`)
    }
  }
  yield* run(ordinalIndex)
  // A broken outbox of another client must not keep the database shut; loading it repairs it (client-state.md quirk 4).
  yield* Effect.catchIf(
    run(frozenKeyIndex("UNIQUE INDEX")),
    (error) => isConstraint(error) !== undefined,
    () => run(frozenKeyIndex("INDEX"))
  )
  for (const table of singletons) {
    yield* run(`INSERT INTO ${table} (singleton_key) VALUES (1) ON CONFLICT (singleton_key) DO NOTHING`)
  }
})

/**
 * Drops the engine's tables with everything in them (lifecycle.md §8). The engine's triggers have to be gone before.
 *
 * @since 0.1.0
 * @category schema
 */
export const drop: Effect.Effect<void, SqlError, SqlClient.SqlClient> = Effect.flatMap(
  execute,
  (run) => Effect.forEach(stateTables, (name) => run(`DROP TABLE IF EXISTS main.${name}`), { discard: true })
)

// A key as SQLite's own JSON functions write it.
const canonical =
  "CASE WHEN json_valid(key_json) THEN (SELECT json_object(e.key, e.value) FROM json_each(key_json) AS e) END"

// The escapes in question all begin like this; other keys are passed over unread.
const misspelt = `instr(key_json, '\\u') > 0 AND ${canonical} <> key_json`

const canonicalising: ReadonlyArray<string> = [
  // What was captured under the other spelling found no row state and took the row for a new one.
  `UPDATE _sync_dirty_rows AS d SET base_row_version = s.row_version
     FROM (SELECT schema_name, table_name, ${canonical} AS key_json, row_version
             FROM _sync_row_state WHERE ${misspelt}) AS s
    WHERE d.schema_name = s.schema_name AND d.table_name = s.table_name AND d.key_json = s.key_json
      AND d.base_row_version = 0`,
  `INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted, updated_at)
   SELECT schema_name, table_name, ${canonical}, row_version, deleted, updated_at FROM _sync_row_state WHERE ${misspelt}
       ON CONFLICT (schema_name, table_name, key_json)
       DO UPDATE SET row_version = excluded.row_version, deleted = excluded.deleted
    WHERE excluded.row_version > row_version`,
  `DELETE FROM _sync_row_state WHERE ${misspelt}`,
  `UPDATE OR IGNORE _sync_dirty_rows SET key_json = ${canonical} WHERE ${misspelt}`,
  `DELETE FROM _sync_dirty_rows WHERE ${misspelt}`,
  `UPDATE OR IGNORE _sync_outbox_rows SET key_json = ${canonical} WHERE ${misspelt}`,
  `UPDATE _sync_push_stage SET key_json = ${canonical} WHERE ${misspelt}`,
  `UPDATE _sync_snapshot_stage SET key_json = ${canonical} WHERE ${misspelt}`
]

/**
 * Rewrites stored keys to their canonical form: the reference escapes `<`, `>`, `&`, U+2028 and U+2029 where its own
 * code writes a key, so that one row has two identities (capture.md §5.3, quirk 3; client-state.md invariant 5). Of two
 * row states of a key the one with the higher version stays, of two dirty rows the one that a trigger wrote, on the
 * version that the row really had.
 *
 * One pass over the keys, meant for the first `open` of a database that another client has written (engine epoch 0).
 * Idempotent; runs inside the transaction of `open`.
 *
 * @since 0.1.0
 * @category schema
 */
export const canonicaliseKeys: Effect.Effect<void, SqlError, SqlClient.SqlClient> = Effect.flatMap(
  execute,
  (run) => Effect.forEach(canonicalising, (statement) => run(statement), { discard: true })
)
