/** The `_sync_*` tables as the reference client leaves them: without what is ours. */
import type { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { script } from "./database.js"

const now = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"
const singleton = "singleton_key INTEGER NOT NULL PRIMARY KEY CHECK (singleton_key = 1)"
const text = "TEXT NOT NULL DEFAULT ''"
const integer = "INTEGER NOT NULL DEFAULT 0"
const row = "schema_name TEXT NOT NULL, table_name TEXT NOT NULL, key_json TEXT NOT NULL"
const op = "op TEXT NOT NULL CHECK (op IN ('INSERT','UPDATE','DELETE'))"

const statements = [
  `CREATE TABLE _sync_source_state (source_id TEXT NOT NULL PRIMARY KEY, next_source_bundle_id INTEGER NOT NULL DEFAULT 1,
     replaced_by_source_id ${text}, created_at TEXT NOT NULL DEFAULT (${now}))`,
  `CREATE TABLE _sync_attachment_state (${singleton}, current_source_id ${text},
     binding_state TEXT NOT NULL DEFAULT 'anonymous' CHECK (binding_state IN ('anonymous','attached')),
     attached_user_id ${text}, schema_name ${text}, last_bundle_seq_seen ${integer}, rebuild_required ${integer},
     pending_initialization_id ${text})`,
  `CREATE TABLE _sync_operation_state (${singleton},
     kind TEXT NOT NULL DEFAULT 'none' CHECK (kind IN ('none','remote_replace','source_recovery')),
     target_user_id ${text}, reason ${text}, replacement_source_id ${text}, staged_snapshot_id ${text},
     snapshot_bundle_seq ${integer}, snapshot_row_count ${integer})`,
  `CREATE TABLE _sync_apply_state (${singleton}, apply_mode ${integer})`,
  `CREATE TABLE _sync_row_state (${row}, row_version ${integer}, deleted ${integer},
     updated_at TEXT NOT NULL DEFAULT (${now}), PRIMARY KEY (schema_name, table_name, key_json))`,
  `CREATE TABLE _sync_dirty_rows (${row}, ${op}, base_row_version ${integer}, payload TEXT, dirty_ordinal ${integer},
     updated_at TEXT NOT NULL DEFAULT (${now}), PRIMARY KEY (schema_name, table_name, key_json))`,
  `CREATE TABLE _sync_outbox_bundle (${singleton},
     state TEXT NOT NULL DEFAULT 'none' CHECK (state IN ('none','prepared','committed_remote')), source_id ${text},
     source_bundle_id ${integer}, canonical_request_hash ${text}, row_count ${integer}, initialization_id ${text},
     remote_bundle_hash ${text}, remote_bundle_seq ${integer})`,
  `CREATE TABLE _sync_outbox_rows (source_bundle_id INTEGER NOT NULL, row_ordinal INTEGER NOT NULL, ${row},
     wire_key_json TEXT NOT NULL, ${op}, base_row_version ${integer}, local_payload TEXT, wire_payload TEXT,
     PRIMARY KEY (source_bundle_id, row_ordinal))`,
  `CREATE TABLE _sync_push_stage (bundle_seq INTEGER NOT NULL, row_ordinal INTEGER NOT NULL, ${row}, ${op},
     row_version INTEGER NOT NULL, payload TEXT, PRIMARY KEY (bundle_seq, row_ordinal))`,
  `CREATE TABLE _sync_snapshot_stage (snapshot_id TEXT NOT NULL, row_ordinal INTEGER NOT NULL, ${row},
     row_version INTEGER NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (snapshot_id, row_ordinal))`,
  `CREATE TABLE _sync_managed_tables (schema_name TEXT NOT NULL, table_name TEXT NOT NULL,
     PRIMARY KEY (schema_name, table_name))`,
  "INSERT INTO _sync_attachment_state (singleton_key) VALUES (1)",
  "INSERT INTO _sync_operation_state (singleton_key) VALUES (1)",
  "INSERT INTO _sync_apply_state (singleton_key) VALUES (1)",
  "INSERT INTO _sync_outbox_bundle (singleton_key) VALUES (1)"
]

/** Makes a database of the reference: opened, attached to `user-1`, with these tables in its registry. */
export const referenceDatabase = (sql: SqlClient.SqlClient, tables: ReadonlyArray<string>) =>
  script(sql, [
    ...statements,
    "INSERT INTO _sync_source_state (source_id, next_source_bundle_id) VALUES ('source-1', 4)",
    `UPDATE _sync_attachment_state SET current_source_id = 'source-1', binding_state = 'attached',
            attached_user_id = 'user-1', schema_name = 'business', last_bundle_seq_seen = 9`,
    ...tables.map((table) => `INSERT INTO _sync_managed_tables VALUES ('business', '${table}')`)
  ]).pipe(Effect.asVoid)
