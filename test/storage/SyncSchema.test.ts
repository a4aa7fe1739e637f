import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as SyncSchema from "../../src/storage/SyncSchema.js"
import { immediate } from "../../src/storage/Transaction.js"
import { catalogueText, memory, script } from "./support/database.js"
import { schema } from "./support/install.js"
import { referenceDatabase } from "./support/reference.js"

const providing = <A, E>(sql: SqlClient.SqlClient, self: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.provideService(self, SqlClient.SqlClient, sql)

const now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"

// name type default; * primary key, ? nullable: as the tables of client-state.md §2 list them.
const columns: Readonly<Record<string, string>> = {
  _sync_source_state:
    `source_id TEXT *1|next_source_bundle_id INTEGER 1|replaced_by_source_id TEXT ''|created_at TEXT ${now}|owner_user_id TEXT ''`,
  _sync_attachment_state:
    "singleton_key INTEGER *1|current_source_id TEXT ''|binding_state TEXT 'anonymous'|attached_user_id TEXT ''|schema_name TEXT ''|last_bundle_seq_seen INTEGER 0|rebuild_required INTEGER 0|pending_initialization_id TEXT ''",
  _sync_operation_state:
    "singleton_key INTEGER *1|kind TEXT 'none'|target_user_id TEXT ''|reason TEXT ''|replacement_source_id TEXT ''|staged_snapshot_id TEXT ''|snapshot_bundle_seq INTEGER 0|snapshot_row_count INTEGER 0",
  _sync_apply_state: "singleton_key INTEGER *1|apply_mode INTEGER 0",
  _sync_row_state:
    `schema_name TEXT *1|table_name TEXT *2|key_json TEXT *3|row_version INTEGER 0|deleted INTEGER 0|updated_at TEXT ${now}`,
  _sync_dirty_rows:
    `schema_name TEXT *1|table_name TEXT *2|key_json TEXT *3|op TEXT|base_row_version INTEGER 0|payload TEXT ?|dirty_ordinal INTEGER 0|updated_at TEXT ${now}`,
  _sync_outbox_bundle:
    "singleton_key INTEGER *1|state TEXT 'none'|source_id TEXT ''|source_bundle_id INTEGER 0|canonical_request_hash TEXT ''|row_count INTEGER 0|initialization_id TEXT ''|remote_bundle_hash TEXT ''|remote_bundle_seq INTEGER 0",
  _sync_outbox_rows:
    "source_bundle_id INTEGER *1|row_ordinal INTEGER *2|schema_name TEXT|table_name TEXT|key_json TEXT|wire_key_json TEXT|op TEXT|base_row_version INTEGER 0|local_payload TEXT ?|wire_payload TEXT ?",
  _sync_push_stage:
    "bundle_seq INTEGER *1|row_ordinal INTEGER *2|schema_name TEXT|table_name TEXT|key_json TEXT|op TEXT|row_version INTEGER|payload TEXT ?",
  _sync_snapshot_stage:
    "snapshot_id TEXT *1|row_ordinal INTEGER *2|schema_name TEXT|table_name TEXT|key_json TEXT|row_version INTEGER|payload TEXT",
  _sync_managed_tables: "schema_name TEXT *1|table_name TEXT *2",
  _sync_engine_state:
    "singleton_key INTEGER *1|engine_epoch INTEGER 0|newest_bundle_seq INTEGER 0|newest_bundle_hash TEXT ''|rows_of_user_id TEXT ''|configured_tables TEXT ''|history_id TEXT ''|own_bundle_seq INTEGER 0|own_bundle_hash TEXT ''"
}

const columnsOf = (sql: SqlClient.SqlClient, table: string) =>
  Effect.map(
    sql.unsafe<{
      readonly name: string
      readonly type: string
      readonly notnull: number
      readonly dflt_value: string | null
      readonly pk: number
    }>(`PRAGMA table_info(${table})`),
    (rows) =>
      rows.map(({ dflt_value: value, name, notnull, pk, type }) =>
        [name, type, ...(value === null ? [] : [value]), ...(pk > 0 ? [`*${pk}`] : []), ...(notnull === 0 ? ["?"] : [])]
          .join(" ")
      ).join("|")
  )

describe("create [client-state.md §2]", () => {
  it("knows twelve tables", () => assert.deepStrictEqual(SyncSchema.stateTables, Object.keys(columns)))

  for (const [table, expected] of Object.entries(columns)) {
    it.scoped(`gives ${table} its columns`, () =>
      Effect.gen(function*() {
        const sql = yield* memory
        yield* providing(sql, SyncSchema.create)
        assert.strictEqual(yield* columnsOf(sql, table), expected)
      }))
  }

  const refused = [
    "INSERT INTO _sync_apply_state (singleton_key) VALUES (2)",
    "UPDATE _sync_attachment_state SET binding_state = 'other'",
    "UPDATE _sync_operation_state SET kind = 'other'",
    "UPDATE _sync_outbox_bundle SET state = 'other'",
    "INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op) VALUES ('s', 't', 'k', 'UPSERT')",
    "INSERT INTO _sync_outbox_rows (source_bundle_id, row_ordinal, schema_name, table_name, key_json, wire_key_json, op) VALUES (1, 1, 's', 't', 'k', 'k', 'insert')",
    "INSERT INTO _sync_push_stage (bundle_seq, row_ordinal, schema_name, table_name, key_json, op, row_version) VALUES (1, 1, 's', 't', 'k', '', 1)"
  ]
  for (const statement of refused) {
    it.scoped(`refuses ${statement}`, () =>
      Effect.gen(function*() {
        const sql = yield* memory
        yield* providing(sql, SyncSchema.create)
        assert.strictEqual((yield* Effect.flip(sql.unsafe(statement)))._tag, "SqlError")
      }))
  }

  it.scoped("fills the singleton rows with their defaults, once", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* providing(sql, SyncSchema.create)
      yield* sql`UPDATE _sync_attachment_state SET current_source_id = 's'`
      yield* providing(sql, SyncSchema.create)
      assert.deepStrictEqual(yield* sql`SELECT * FROM _sync_attachment_state`, [{
        singleton_key: 1,
        current_source_id: "s",
        binding_state: "anonymous",
        attached_user_id: "",
        schema_name: "",
        last_bundle_seq_seen: 0,
        rebuild_required: 0,
        pending_initialization_id: ""
      }])
      for (const table of ["_sync_operation_state", "_sync_apply_state", "_sync_outbox_bundle", "_sync_engine_state"]) {
        assert.strictEqual((yield* sql.unsafe(`SELECT * FROM ${table}`)).length, 1, table)
      }
    }))

  it.scoped("writes timestamps in UTC with milliseconds", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* providing(sql, SyncSchema.create)
      yield* sql`INSERT INTO _sync_source_state (source_id) VALUES ('s')`
      const [row] = yield* sql<{ created_at: string }>`SELECT created_at FROM _sync_source_state`
      assert.match(row?.created_at ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    }))

  it.scoped("is idempotent, down to the catalogue", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* providing(sql, SyncSchema.create)
      const before = yield* catalogueText(sql)
      yield* providing(sql, SyncSchema.create)
      assert.deepStrictEqual(yield* catalogueText(sql), before)
    }))

  it.scoped("adds to a database of the reference what is ours, and leaves the rest and strangers alone", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* referenceDatabase(sql, ["users"])
      yield* script(sql, ["CREATE TABLE _sync_stranger (x)"])
      const before = yield* catalogueText(sql)
      yield* providing(sql, SyncSchema.create)
      const after = yield* catalogueText(sql)
      assert.deepStrictEqual(
        after.filter(({ name }) => !before.some((one) => one.name === name)).map(({ name }) => name),
        ["_sync_engine_state", "_sync_dirty_rows_ordinal", "_sync_outbox_rows_key"]
      )
      const changed = before.filter(({ name, sql: text }) => after.find((one) => one.name === name)?.sql !== text)
      assert.deepStrictEqual(changed.map(({ name }) => name), ["_sync_source_state"])
      assert.strictEqual(
        yield* columnsOf(sql, "_sync_source_state"),
        columns._sync_source_state?.replace("', 'now", "','now")
      )
      assert.deepStrictEqual(
        yield* sql`SELECT source_id, next_source_bundle_id, owner_user_id FROM _sync_source_state`,
        [{ source_id: "source-1", next_source_bundle_id: 4, owner_user_id: "" }]
      )
      // The reference goes on with the database: it names its columns.
      yield* sql`INSERT INTO _sync_source_state (source_id, next_source_bundle_id, replaced_by_source_id) VALUES ('x', 1, '')`
    }))
})

describe("a broken outbox of the reference [client-state.md quirk 4]", () => {
  it.scoped("does not keep the database shut", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* referenceDatabase(sql, ["users"])
      const row = (bundle: number) =>
        `INSERT INTO _sync_outbox_rows VALUES (${bundle}, 0, '${schema}', 'users', 'k', 'k', 'DELETE', 0, NULL, NULL)`
      yield* script(sql, [row(1), row(2)])
      yield* immediate(sql)(providing(sql, SyncSchema.create))
      assert.strictEqual((yield* sql`SELECT 1 FROM _sync_outbox_rows`).length, 2)
      const [index] = yield* sql<{ sql: string }>`SELECT sql FROM sqlite_schema WHERE name = '_sync_outbox_rows_key'`
      assert.match(index?.sql ?? "", /^CREATE INDEX/)
      yield* providing(sql, SyncSchema.create)
    }))

  it.scoped("is refused from then on in a sound database", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* providing(sql, SyncSchema.create)
      const row = (bundle: number) =>
        `INSERT INTO _sync_outbox_rows VALUES (${bundle}, 0, '${schema}', 'users', 'k', 'k', 'DELETE', 0, NULL, NULL)`
      yield* script(sql, [row(1)])
      assert.strictEqual((yield* Effect.flip(sql.unsafe(row(2))))._tag, "SqlError")
    }))
})

describe("drop [lifecycle.md §8]", () => {
  it.scoped("leaves nothing but what is the host's", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, ["CREATE TABLE users (id TEXT PRIMARY KEY)"])
      const before = yield* catalogueText(sql)
      yield* providing(sql, SyncSchema.create)
      yield* providing(sql, SyncSchema.drop)
      assert.deepStrictEqual(yield* catalogueText(sql), before)
    }))
})

describe("canonicaliseKeys [capture.md quirk 3]", () => {
  const raw = (key: string) => JSON.stringify({ id: key })
  const escaped = (key: string) =>
    raw(key).replaceAll(/[<>&\u2028\u2029]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)

  const states = (sql: SqlClient.SqlClient) =>
    sql`SELECT key_json, row_version, deleted FROM _sync_row_state ORDER BY key_json`
  const state = (key: string, version: number, deleted = 0) =>
    `INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted)
     VALUES ('${schema}', 'users', '${key}', ${version}, ${deleted})`
  const dirty = (key: string, op: string, base: number, ordinal: number) =>
    `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, dirty_ordinal)
     VALUES ('${schema}', 'users', '${key}', '${op}', ${base}, ${ordinal})`

  it.scoped("gives every key its one spelling and changes no other", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* providing(sql, SyncSchema.create)
      const keys = ["a&b", "<x>", "\u2028", "plain", "\u0001", "back\\u0026slash"]
      yield* script(sql, keys.map((key, index) => state(escaped(key), index + 1)))
      yield* script(
        sql,
        keys.flatMap((key, index) => [
          `INSERT INTO _sync_push_stage VALUES (1, ${index}, '${schema}', 'users', '${
            escaped(key)
          }', 'DELETE', 1, NULL)`,
          `INSERT INTO _sync_snapshot_stage VALUES ('s', ${index}, '${schema}', 'users', '${escaped(key)}', 1, '{}')`,
          `INSERT INTO _sync_outbox_rows VALUES (1, ${index}, '${schema}', 'users', '${
            escaped(key)
          }', '{}', 'DELETE', 0, NULL, NULL)`
        ])
      )
      yield* providing(sql, SyncSchema.canonicaliseKeys)
      const expected = keys.map((key, index) => ({ key_json: raw(key), row_version: index + 1, deleted: 0 }))
      assert.sameDeepMembers([...yield* states(sql)], expected)
      for (const table of ["_sync_push_stage", "_sync_snapshot_stage", "_sync_outbox_rows"]) {
        const found = yield* sql.unsafe<{ key_json: string }>(`SELECT key_json FROM ${table} ORDER BY row_ordinal`)
        assert.deepStrictEqual(found.map(({ key_json }) => key_json), keys.map(raw), table)
      }
      yield* providing(sql, SyncSchema.canonicaliseKeys)
      assert.sameDeepMembers([...yield* states(sql)], expected)
    }))

  it.scoped("keeps the row state of the higher version where a key has two", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* providing(sql, SyncSchema.create)
      yield* script(sql, [
        state(escaped("a&b"), 5, 1),
        state(raw("a&b"), 3),
        state(escaped("c&d"), 2),
        state(raw("c&d"), 8)
      ])
      yield* providing(sql, SyncSchema.canonicaliseKeys)
      assert.deepStrictEqual(yield* states(sql), [
        { key_json: raw("a&b"), row_version: 5, deleted: 1 },
        { key_json: raw("c&d"), row_version: 8, deleted: 0 }
      ])
    }))

  it.scoped("puts a change that was taken for a new row on the version the row had", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* providing(sql, SyncSchema.create)
      yield* script(sql, [
        state(escaped("a&b"), 5),
        dirty(raw("a&b"), "INSERT", 0, 2),
        state(raw("plain"), 6),
        dirty(raw("plain"), "UPDATE", 4, 1),
        dirty(escaped("x>y"), "UPDATE", 3, 3),
        dirty(escaped("u&v"), "UPDATE", 3, 4),
        dirty(raw("u&v"), "DELETE", 2, 5)
      ])
      yield* providing(sql, SyncSchema.canonicaliseKeys)
      assert.deepStrictEqual(
        yield* sql`SELECT key_json, op, base_row_version AS base FROM _sync_dirty_rows ORDER BY dirty_ordinal`,
        [
          { key_json: raw("plain"), op: "UPDATE", base: 4 },
          { key_json: raw("a&b"), op: "INSERT", base: 5 },
          { key_json: raw("x>y"), op: "UPDATE", base: 3 },
          { key_json: raw("u&v"), op: "DELETE", base: 2 }
        ]
      )
    }))

  it.scoped("leaves texts alone that are no JSON", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* providing(sql, SyncSchema.create)
      yield* script(sql, [state("\\u0026 no json", 1)])
      yield* providing(sql, SyncSchema.canonicaliseKeys)
      assert.strictEqual((yield* states(sql)).length, 1)
    }))
})
