/** Tables that come, go or change between two runs: capture.md §10, row by row. */
import type { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { InstallOptions } from "../../src/storage/Installation.js"
import { hasKeyForm } from "../../src/storage/TableChanges.js"
import { catalogueText, counting, memory, script } from "./support/database.js"
import { dirtyRows, installing, rowState, silently, tableOf } from "./support/install.js"
import { referenceDatabase } from "./support/reference.js"

const tables = [
  "CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT)",
  "CREATE TABLE notes (id TEXT PRIMARY KEY, body TEXT)"
]

type State = "fresh" | "anonymous" | "attached"

/** A database with `users` installed and two rows of `notes` that nobody has captured. */
const prepared = (state: State) =>
  Effect.gen(function*() {
    const sql = yield* memory
    yield* script(sql, [...tables, "INSERT INTO notes VALUES ('n2', 'two'), ('n1', 'one')"])
    yield* installing(sql, ["users"])
    yield* become(sql, state)
    return sql
  })

const become = (sql: SqliteClient.SqliteClient, state: State) =>
  script(
    sql,
    state === "fresh" ? [] : [
      "INSERT INTO _sync_source_state (source_id) VALUES ('source-1')",
      `UPDATE _sync_attachment_state SET current_source_id = 'source-1', schema_name = 'business'${
        state === "attached" ? ", binding_state = 'attached', attached_user_id = 'u'" : ""
      }`
    ]
  )

const gate = (sql: SqliteClient.SqliteClient) =>
  Effect.map(
    sql<{ readonly rebuild_required: number }>`SELECT rebuild_required FROM _sync_attachment_state`,
    ([row]) => row?.rebuild_required
  )

const summary = (sql: SqliteClient.SqliteClient) =>
  Effect.map(
    dirtyRows(sql),
    (rows) => rows.map((row) => `${row.op} ${row.table_name} ${JSON.parse(row.key_json).id} ${row.base_row_version}`)
  )

const registry = (sql: SqliteClient.SqliteClient) =>
  Effect.map(
    sql<{ readonly table_name: string }>`SELECT table_name FROM _sync_managed_tables ORDER BY table_name`,
    (rows) => rows.map(({ table_name: name }) => name)
  )

const triggers = (sql: SqliteClient.SqliteClient) =>
  Effect.map(
    sql<{ readonly name: string }>`SELECT name || ' on ' || tbl_name AS name FROM sqlite_schema
                                    WHERE type = 'trigger' ORDER BY name`,
    (rows) => rows.map(({ name }) => name)
  )

const refusal = (
  sql: SqliteClient.SqliteClient,
  configured: Parameters<typeof installing>[1],
  options: Partial<InstallOptions> = {}
) =>
  Effect.gen(function*() {
    const before = yield* catalogueText(sql)
    const dirtyBefore = yield* dirtyRows(sql)
    const error = yield* Effect.flip(installing(sql, configured, options))
    assert.deepStrictEqual(yield* catalogueText(sql), before)
    assert.deepStrictEqual(yield* dirtyRows(sql), dirtyBefore)
    return error._tag === "ConfigurationError" ? error : yield* Effect.dieMessage(error._tag)
  })

describe("table newly configured", () => {
  it.scoped("no source id yet: nothing special, the first open captures its rows", () =>
    Effect.gen(function*() {
      const sql = yield* prepared("fresh")
      yield* installing(sql, ["users", "notes"])
      assert.deepStrictEqual(yield* summary(sql), [])
      assert.strictEqual(yield* gate(sql), 0)
    }))

  it.scoped("source id exists, anonymous: its rows are captured as new ones", () =>
    Effect.gen(function*() {
      const sql = yield* prepared("anonymous")
      yield* installing(sql, ["users", "notes"])
      assert.deepStrictEqual(yield* summary(sql), ["INSERT notes n1 0", "INSERT notes n2 0"])
      assert.strictEqual(yield* gate(sql), 0)
    }))

  it.scoped("attached: its rows are captured but for those the server knows, and a rebuild is required", () =>
    Effect.gen(function*() {
      const sql = yield* prepared("attached")
      yield* rowState(sql, "notes", "{\"id\":\"n1\"}", 5)
      yield* installing(sql, ["users", "notes"])
      assert.deepStrictEqual(yield* summary(sql), ["INSERT notes n2 0"])
      assert.strictEqual(yield* gate(sql), 1)
    }))

  it.scoped("happens once: the next construction does nothing", () =>
    Effect.gen(function*() {
      const sql = yield* prepared("attached")
      yield* installing(sql, ["users", "notes"])
      yield* script(sql, ["DELETE FROM _sync_dirty_rows", "UPDATE _sync_attachment_state SET rebuild_required = 0"])
      yield* installing(sql, ["notes", "users"])
      assert.deepStrictEqual(yield* summary(sql), [])
      assert.strictEqual(yield* gate(sql), 0)
    }))

  it.scoped("is queued in configuration order, one statement a table however many rows", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, [
        "CREATE TABLE parents (id TEXT PRIMARY KEY)",
        "CREATE TABLE children (id TEXT PRIMARY KEY, parent TEXT REFERENCES parents)",
        "INSERT INTO parents VALUES ('p')",
        "INSERT INTO children VALUES ('c', 'p')"
      ])
      yield* installing(sql, [])
      yield* become(sql, "anonymous")
      const [, { statements }] = yield* counting(installing(sql, ["children", "parents"]))
      assert.deepStrictEqual(yield* summary(sql), ["INSERT children c 0", "INSERT parents p 0"])
      assert.strictEqual(statements.filter((text) => text.startsWith("INSERT INTO _sync_dirty_rows")).length, 2)
    }))

  it.scoped("a row that cannot be uploaded does not stop it; freezing will name it", () =>
    Effect.gen(function*() {
      const sql = yield* prepared("anonymous")
      yield* script(sql, ["INSERT INTO notes VALUES ('n3', x'0c'), (NULL, 'none')"])
      yield* installing(sql, ["users", "notes"])
      assert.strictEqual((yield* dirtyRows(sql)).length, 4)
    }))

  it.scoped("makes a remote replace that was downloaded without it start again", () =>
    Effect.gen(function*() {
      const sql = yield* prepared("anonymous")
      yield* sql`UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'u', staged_snapshot_id = 's',
                        snapshot_bundle_seq = 4, snapshot_row_count = 2`
      yield* installing(sql, ["users"])
      assert.strictEqual(
        (yield* sql<{ kind: string }>`SELECT kind FROM _sync_operation_state`)[0]?.kind,
        "remote_replace"
      )
      yield* installing(sql, ["users", "notes"])
      assert.deepStrictEqual(yield* sql`SELECT * FROM _sync_operation_state`, [{
        singleton_key: 1,
        kind: "none",
        target_user_id: "",
        reason: "",
        replacement_source_id: "",
        staged_snapshot_id: "",
        snapshot_bundle_seq: 0,
        snapshot_row_count: 0
      }])
    }))

  it.scoped("in a database of the reference: what its registry lists is not new", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, [...tables, "INSERT INTO users VALUES ('a', 'A')", "INSERT INTO notes VALUES ('n', 'N')"])
      yield* referenceDatabase(sql, ["users"])
      yield* installing(sql, ["users"])
      assert.deepStrictEqual(yield* summary(sql), [])
      assert.strictEqual(yield* gate(sql), 0)
      yield* installing(sql, ["users", "notes"])
      assert.deepStrictEqual(yield* summary(sql), ["INSERT notes n 0"])
      assert.strictEqual(yield* gate(sql), 1)
    }))
})

describe("table left the configuration", () => {
  const both = Effect.gen(function*() {
    const sql = yield* memory
    yield* script(sql, tables)
    yield* installing(sql, ["users", "notes"])
    yield* become(sql, "attached")
    return sql
  })

  it.scoped("nothing pending: its triggers go; rows, row state and registry entry stay", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* silently(sql, script(sql, ["INSERT INTO notes VALUES ('n', 'N')"]))
      yield* rowState(sql, "notes", "{\"id\":\"n\"}", 5)
      yield* installing(sql, ["users"])
      assert.isTrue((yield* triggers(sql)).every((name) => name.endsWith("on users")))
      assert.deepStrictEqual(yield* registry(sql), ["notes", "users"])
      assert.strictEqual((yield* sql`SELECT 1 FROM notes`).length, 1)
      assert.strictEqual((yield* sql`SELECT 1 FROM _sync_row_state`).length, 1)
      yield* sql`UPDATE notes SET body = 'changed'`
      assert.deepStrictEqual(yield* summary(sql), [])
    }))

  it.scoped("and came back: it is newly configured again, because bundles may have passed it by", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* installing(sql, ["users"])
      yield* sql`INSERT INTO notes VALUES ('n', 'N')`
      yield* installing(sql, ["users", "notes"])
      assert.deepStrictEqual(yield* summary(sql), ["INSERT notes n 0"])
      assert.strictEqual(yield* gate(sql), 1)
    }))

  it.scoped("a migration that dropped the triggers is no such thing", () =>
    Effect.gen(function*() {
      const sql = yield* both
      const names = yield* triggers(sql)
      yield* script(
        sql,
        names.filter((name) => name.endsWith("notes")).map((name) => `DROP TRIGGER ${name.split(" ")[0]}`)
      )
      yield* sql`INSERT INTO notes VALUES ('n', 'N')`
      yield* installing(sql, ["users", "notes"])
      assert.deepStrictEqual(yield* summary(sql), [])
      assert.strictEqual(yield* gate(sql), 0)
      assert.deepStrictEqual(yield* triggers(sql), names)
    }))

  it.scoped("dirty rows left: removed_table_pending names table and count", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* script(sql, ["INSERT INTO notes VALUES ('n', 'N'), ('m', 'M')", "INSERT INTO users VALUES ('a', 'A')"])
      const error = yield* refusal(sql, ["users"])
      assert.strictEqual(error.code, "removed_table_pending")
      assert.strictEqual(error.table, "notes")
      assert.match(error.message, /table notes .* with 2 pending rows/)
      assert.match(error.message, /discardPendingOf/)
      yield* installing(sql, ["users", "notes"])
    }))

  it.scoped("dirty rows left, discardPendingOf: they go, those of other tables stay", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* script(sql, ["INSERT INTO notes VALUES ('n', 'N'), ('m', 'M')", "INSERT INTO users VALUES ('a', 'A')"])
      yield* installing(sql, ["users"], { discardPendingOf: [" NOTES ", "users"] })
      assert.deepStrictEqual(yield* summary(sql), ["INSERT users a 0"])
      assert.strictEqual((yield* sql`SELECT 1 FROM notes`).length, 2)
    }))

  const frozen = (state: string) => [
    "INSERT INTO users VALUES ('a', 'A')",
    "INSERT INTO notes VALUES ('n', 'N')",
    `INSERT INTO _sync_outbox_rows SELECT 1, dirty_ordinal - 1, schema_name, table_name, key_json, key_json, op,
            base_row_version + 3, payload, payload FROM _sync_dirty_rows`,
    "DELETE FROM _sync_dirty_rows",
    `UPDATE _sync_outbox_bundle SET state = '${state}', source_id = 'source-1', source_bundle_id = 1, row_count = 2,
            canonical_request_hash = 'h', initialization_id = 'i'`,
    "UPDATE users SET name = 'newer'"
  ]

  it.scoped("outbox rows left: refused, whatever the state of the outbox", () =>
    Effect.gen(function*() {
      for (const state of ["prepared", "committed_remote"]) {
        const sql = yield* both
        yield* script(sql, frozen(state))
        const error = yield* refusal(sql, ["users"])
        assert.strictEqual(error.code, "removed_table_pending")
        assert.match(error.message, /table notes .* with 1 pending rows/)
      }
    }))

  it.scoped("prepared outbox, discardPendingOf: it is thawed first, a newer dirty row stays as it is", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* script(sql, frozen("prepared"))
      yield* installing(sql, ["users"], { discardPendingOf: ["notes"] })
      const rows = yield* dirtyRows(sql)
      assert.deepStrictEqual(rows.map(({ base_row_version, payload }) => [base_row_version, payload]), [
        [0, "{\"id\":\"a\",\"name\":\"newer\"}"]
      ])
      assert.deepStrictEqual(yield* sql`SELECT * FROM _sync_outbox_rows`, [])
      assert.deepStrictEqual(yield* sql`SELECT * FROM _sync_outbox_bundle`, [{
        singleton_key: 1,
        state: "none",
        source_id: "",
        source_bundle_id: 0,
        canonical_request_hash: "",
        row_count: 0,
        initialization_id: "",
        remote_bundle_hash: "",
        remote_bundle_seq: 0
      }])
    }))

  it.scoped("prepared outbox without its rows: it stays frozen", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* script(sql, [...frozen("prepared"), "DELETE FROM _sync_outbox_rows WHERE table_name = 'notes'"])
      yield* script(sql, ["UPDATE notes SET body = 'x'"])
      yield* installing(sql, ["users"], { discardPendingOf: ["notes"] })
      assert.deepStrictEqual(yield* sql`SELECT state FROM _sync_outbox_bundle`, [{ state: "prepared" }])
      assert.deepStrictEqual(yield* summary(sql), ["INSERT users a 0"])
    }))

  it.scoped("committed outbox, discardPendingOf: must be finished with the table configured", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* script(sql, frozen("committed_remote"))
      const error = yield* refusal(sql, ["users"], { discardPendingOf: ["notes"] })
      assert.strictEqual(error.code, "removed_table_pending")
      assert.match(error.message, /committed and must be finished/)
    }))

  it.scoped("dirty rows of a table that was never in the registry count as well", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* sql`INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op) VALUES ('business', 'ghost', '{}', 'DELETE')`
      assert.strictEqual((yield* refusal(sql, ["users", "notes"])).table, "ghost")
    }))

  it.scoped("is found without reading the pending rows", () =>
    Effect.gen(function*() {
      const sql = yield* both
      yield* sql`INSERT INTO users WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT i, i FROM n`
      const [, { statements }] = yield* counting(installing(sql, ["users", "notes"]))
      const question = statements.find((text) => text.includes("RECURSIVE leap"))
      const plan = yield* sql.unsafe<{ readonly detail: string }>(`EXPLAIN QUERY PLAN ${question}`, ["[]"])
      assert.isNotEmpty(plan)
      for (const { detail } of plan) assert.notMatch(detail, /^SCAN _sync_/)
    }))
})

describe("table dropped from the database", () => {
  it.scoped("its pending rows can only be discarded", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, tables)
      yield* installing(sql, ["users", "notes"])
      yield* script(sql, ["INSERT INTO notes VALUES ('n', 'N')", "DROP TABLE notes"])
      assert.strictEqual((yield* refusal(sql, ["users", "notes"])).code, "key_column_missing")
      assert.strictEqual((yield* refusal(sql, ["users"])).code, "removed_table_pending")
      yield* installing(sql, ["users"], { discardPendingOf: ["notes"] })
      assert.deepStrictEqual(yield* summary(sql), [])
      assert.deepStrictEqual(yield* registry(sql), ["notes", "users"])
    }))
})

describe("table renamed in SQLite", () => {
  it.scoped("the triggers it carries along under their old names are dropped, the new name is a new table", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, tables)
      yield* installing(sql, ["users", "notes"])
      yield* become(sql, "attached")
      yield* silently(sql, script(sql, ["INSERT INTO notes VALUES ('n', 'N')"]))
      yield* sql`ALTER TABLE notes RENAME TO memos`
      yield* installing(sql, ["users", "memos"])
      assert.deepStrictEqual((yield* triggers(sql)).filter((name) => name.endsWith("memos")), [
        "trg_memos_ad on memos",
        "trg_memos_ai on memos",
        "trg_memos_au on memos",
        "trg_memos_bd_guard on memos",
        "trg_memos_bi_guard on memos",
        "trg_memos_bu_guard on memos"
      ])
      assert.deepStrictEqual(yield* summary(sql), ["INSERT memos n 0"])
      assert.strictEqual(yield* gate(sql), 1)
      yield* sql`UPDATE memos SET body = 'x'`
      assert.deepStrictEqual(yield* summary(sql), ["INSERT memos n 0"])
    }))

  it.scoped("also if another table takes its old name", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, tables)
      yield* installing(sql, ["users", "notes"])
      yield* script(sql, ["ALTER TABLE notes RENAME TO memos", "CREATE TABLE notes (id TEXT PRIMARY KEY, title TEXT)"])
      yield* installing(sql, ["users", "notes", "memos"])
      assert.strictEqual((yield* triggers(sql)).length, 18)
      yield* script(sql, ["INSERT INTO notes VALUES ('n', 'T')", "INSERT INTO memos VALUES ('m', 'B')"])
      assert.deepStrictEqual((yield* dirtyRows(sql)).map(({ payload }) => payload), [
        "{\"id\":\"n\",\"title\":\"T\"}",
        "{\"id\":\"m\",\"body\":\"B\"}"
      ])
    }))
})

describe("columns", () => {
  const changes: ReadonlyArray<
    readonly [says: string, statements: ReadonlyArray<string>, insert: string, payload: string]
  > = [
    [
      "added",
      ["ALTER TABLE notes ADD COLUMN extra INT"],
      "INSERT INTO notes VALUES ('n', 'N', 1)",
      "\"body\":\"N\",\"extra\":1"
    ],
    [
      "renamed",
      ["ALTER TABLE notes RENAME COLUMN body TO \"order\""],
      "INSERT INTO notes VALUES ('n', 'N')",
      "\"order\":\"N\""
    ],
    [
      "removed and of another type, by a rebuilt table",
      [
        "PRAGMA foreign_keys = OFF",
        "CREATE TABLE copy (id TEXT PRIMARY KEY, body BLOB)",
        "INSERT INTO copy SELECT * FROM notes",
        "DROP TABLE notes",
        "ALTER TABLE copy RENAME TO notes"
      ],
      "INSERT INTO notes VALUES ('n', x'ff')",
      "\"body\":\"ff\""
    ]
  ]
  for (const [says, statements, insert, payload] of changes) {
    it.scoped(`${says}: the triggers are rendered anew, pending rows stay`, () =>
      Effect.gen(function*() {
        const sql = yield* memory
        yield* script(sql, tables)
        yield* installing(sql, ["users", "notes"])
        yield* script(sql, ["INSERT INTO notes VALUES ('old', 'O')", ...statements])
        yield* installing(sql, ["users", "notes"])
        yield* sql.unsafe(insert)
        const rows = yield* dirtyRows(sql)
        assert.deepStrictEqual(rows.map(({ key_json: key }) => key), ["{\"id\":\"old\"}", "{\"id\":\"n\"}"])
        assert.strictEqual(rows[1]?.payload, `{"id":"n",${payload}}`)
      }))
  }
})

describe("key column or key kind changed", () => {
  const changes: ReadonlyArray<readonly [says: string, ddl: string, table: string, key: string, stored: string]> = [
    [
      "another key column, by row state",
      "CREATE TABLE t (code TEXT PRIMARY KEY, id TEXT)",
      "_sync_row_state",
      "code",
      "{\"id\":\"a\"}"
    ],
    [
      "another key column, by a dirty row",
      "CREATE TABLE t (code TEXT PRIMARY KEY, id TEXT)",
      "_sync_dirty_rows",
      "code",
      "{\"id\":\"a\"}"
    ],
    [
      "another key column, by a frozen row",
      "CREATE TABLE t (code TEXT PRIMARY KEY, id TEXT)",
      "_sync_outbox_rows",
      "code",
      "{\"id\":\"a\"}"
    ],
    ["text to blob", "CREATE TABLE t (id BLOB PRIMARY KEY)", "_sync_row_state", "id", "{\"id\":\"a&b\"}"]
  ]
  for (const [says, ddl, table, key, stored] of changes) {
    it.scoped(`${says}: key_changed`, () =>
      Effect.gen(function*() {
        const sql = yield* memory
        yield* script(sql, [ddl])
        yield* installing(sql, [{ name: "t", key }])
        const columns = {
          _sync_row_state: "schema_name, table_name, key_json",
          _sync_dirty_rows: "op, schema_name, table_name, key_json",
          _sync_outbox_rows: "source_bundle_id, row_ordinal, wire_key_json, op, schema_name, table_name, key_json"
        }[table]
        const first =
          { _sync_row_state: "", _sync_dirty_rows: "'UPDATE',", _sync_outbox_rows: "1, 0, '{}', 'UPDATE'," }[table]
        yield* sql.unsafe(`INSERT INTO ${table} (${columns}) VALUES (${first} 'business', 't', '${stored}')`)
        const error = yield* refusal(sql, [{ name: "t", key }])
        assert.strictEqual(error.code, "key_changed")
        assert.deepStrictEqual([error.table, error.column], ["t", key])
        assert.notInclude(error.message, "a&b")
      }))
  }

  it.scoped("one stored key tells, however many there are", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, tables)
      yield* installing(sql, ["users"])
      const [, { statements }] = yield* counting(installing(sql, ["users"]))
      const question = statements.find((text) => text.includes("LIMIT 1"))
      const plan = yield* sql.unsafe<{ readonly detail: string }>(`EXPLAIN QUERY PLAN ${question}`, ["[]"])
      assert.isNotEmpty(plan)
      for (const { detail } of plan) assert.notMatch(detail, /^SCAN _sync_/)
    }))

  it.scoped("the form of a key", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, ["CREATE TABLE t (id TEXT PRIMARY KEY)", "CREATE TABLE b (id BLOB PRIMARY KEY)"])
      const installed = yield* installing(sql, ["t", "b"])
      const hex = "0a".repeat(16)
      const forms: ReadonlyArray<readonly [table: string, key: string, acknowledged: boolean, expected: boolean]> = [
        ["t", "{\"id\":\"anything\"}", true, true],
        ["t", "{\"id\":\"a\\u0026b\"}", true, true],
        ["t", "{\"id\":null}", false, true],
        ["t", "{\"id\":null}", true, false],
        ["t", "{\"id\":1}", false, false],
        ["t", "{\"other\":\"a\"}", false, false],
        ["t", "{\"id\":\"a\",\"b\":\"c\"}", false, false],
        ["t", "{}", false, false],
        ["t", "[\"a\"]", false, false],
        ["t", "no json", false, false],
        ["b", `{"id":"${hex}"}`, true, true],
        ["b", "{\"id\":\"0a\"}", true, false],
        ["b", "{\"id\":\"0a\"}", false, true],
        ["b", "{\"id\":\"0a0\"}", false, false],
        ["b", `{"id":"${hex.toUpperCase()}"}`, true, false],
        ["b", "{\"id\":\"xy\"}", false, false]
      ]
      for (const [table, key, acknowledged, expected] of forms) {
        assert.strictEqual(hasKeyForm(tableOf(installed, table), key, acknowledged), expected, `${table} ${key}`)
      }
    }))
})
