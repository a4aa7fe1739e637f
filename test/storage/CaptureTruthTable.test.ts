/**
 * The truth tables of capture.md §6.1–6.3, row by row, on every kind of table. `a`, `b`, … are keys; a row of the table
 * is [order, email]; expected dirty rows stand in order of their ordinals, which count from 1 unless given.
 */
import type { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { captureAbort } from "../../src/storage/StorageFailure.js"
import { memory, script } from "./support/database.js"
import { dirtyRows, installing, rowState, silently } from "./support/install.js"

interface Variant {
  readonly name: string
  /** Table and columns as declared. */
  readonly table: string
  readonly key: string
  readonly order: string
  readonly blobKey: boolean
  readonly options: string
  readonly configured: string
}

const base = { table: "users", key: "id", order: "rank", blobKey: false, options: "", configured: "users" }
const variants: ReadonlyArray<Variant> = [
  { ...base, name: "ordinary" },
  { ...base, name: "STRICT", options: "STRICT" },
  { ...base, name: "WITHOUT ROWID", options: "WITHOUT ROWID" },
  { ...base, name: "reserved names", table: "group", key: "select", order: "order", configured: "group" },
  { ...base, name: "mixed case", table: "Users", key: "ID", order: "Order", configured: "uSERS" },
  { ...base, name: "blob key", blobKey: true },
  { ...base, name: "blob key, STRICT, WITHOUT ROWID", blobKey: true, options: "STRICT, WITHOUT ROWID" }
]

type Row = readonly [order: string, email: string | null]
interface Expected {
  readonly of?: "notes"
  readonly key: string
  readonly op: "INSERT" | "UPDATE" | "DELETE"
  readonly base: number
  readonly row: Row | null
  readonly ordinal?: number
  readonly freeze: "INSERT" | "UPDATE" | "DELETE" | "dropped"
}

/** What a variant's table is called and how its keys are written. */
const names = (variant: Variant) => {
  const hex = (key: string) => Buffer.from(key.padEnd(16, "\u0000")).toString("hex")
  const literal = (key: string) => variant.blobKey ? `x'${hex(key)}'` : `'${key}'`
  const text = (value: string | null) => value === null ? "NULL" : `'${value}'`
  const table = `"${variant.table}"`
  const key = `"${variant.key}"`
  const order = `"${variant.order}"`
  return {
    table,
    keyColumn: key,
    orderColumn: order,
    literal,
    keyMember: (of: string) => variant.blobKey ? hex(of) : of,
    insert: (of: string, [rank, email]: Row, verb = "INSERT INTO") =>
      `${verb} ${table} (${key}, ${order}, email) VALUES (${literal(of)}, ${text(rank)}, ${text(email)})`,
    update: (of: string, rank: string, verb = "UPDATE") =>
      `${verb} ${table} SET ${order} = ${text(rank)} WHERE ${key} = ${literal(of)}`,
    remove: (of: string) => `DELETE FROM ${table} WHERE ${key} = ${literal(of)}`,
    move: (from: string, to: string, verb = "UPDATE") =>
      `${verb} ${table} SET ${key} = ${literal(to)} WHERE ${key} = ${literal(from)}`,
    note: (of: string, owner: string) => `INSERT INTO notes VALUES ('${of}', ${literal(owner)})`
  }
}
type Names = ReturnType<typeof names>

/** What is there before: keys the server knows, rows no trigger has seen, then writes that are captured. */
interface Given {
  readonly live?: Readonly<Record<string, Row>>
  readonly synced?: ReadonlyArray<string>
  readonly tombstones?: ReadonlyArray<string>
  readonly notes?: Readonly<Record<string, string>>
  readonly sql?: (n: Names) => ReadonlyArray<string>
}

interface Case extends Given {
  readonly says: string
  readonly host: (n: Names) => ReadonlyArray<string>
  readonly then: ReadonlyArray<Expected>
  /** Where recursive_triggers = OFF makes a difference. */
  readonly off?: ReadonlyArray<Expected>
  /** Where SQLite does not say in which order rows and triggers have their turn. */
  readonly anyOrder?: true
  /** Writes after which the case is looked at. */
  readonly earlier?: (n: Names) => ReadonlyArray<string>
}

const version = 7
const one: Row = ["1", null]
const two: Row = ["2", null]
const synced: Given = { live: { a: one }, synced: ["a"] }

const singleKey: ReadonlyArray<Case> = [
  {
    says: "never / none: INSERT",
    host: (n) => [n.insert("a", one)],
    then: [{ key: "a", op: "INSERT", base: 0, row: one, freeze: "INSERT" }]
  },
  {
    says: "never / INSERT: UPDATE",
    host: (n) => [n.insert("a", one), n.insert("b", one), n.update("a", "2")],
    then: [
      { key: "a", op: "INSERT", base: 0, row: two, freeze: "INSERT" },
      { key: "b", op: "INSERT", base: 0, row: one, freeze: "INSERT" }
    ]
  },
  {
    says: "never / INSERT: DELETE",
    host: (n) => [n.insert("a", one), n.remove("a")],
    then: [{ key: "a", op: "DELETE", base: 0, row: null, freeze: "dropped" }]
  },
  {
    says: "never / DELETE: INSERT",
    host: (n) => [n.insert("a", one), n.remove("a"), n.insert("a", two)],
    then: [{ key: "a", op: "INSERT", base: 0, row: two, freeze: "INSERT" }]
  },
  {
    says: "synced / none: UPDATE",
    ...synced,
    host: (n) => [n.update("a", "2")],
    then: [{ key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }]
  },
  {
    says: "synced / UPDATE: UPDATE",
    ...synced,
    host: (n) => [n.update("a", "9"), n.insert("b", one), n.update("a", "2")],
    then: [
      { key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" },
      { key: "b", op: "INSERT", base: 0, row: one, freeze: "INSERT" }
    ]
  },
  {
    says: "synced / UPDATE: DELETE",
    ...synced,
    host: (n) => [n.update("a", "2"), n.remove("a")],
    then: [{ key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" }]
  },
  {
    says: "synced / none: DELETE",
    ...synced,
    host: (n) => [n.remove("a")],
    then: [{ key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" }]
  },
  {
    says: "synced / DELETE: INSERT of the same key",
    ...synced,
    host: (n) => [n.remove("a"), n.insert("a", two)],
    then: [{ key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }]
  },
  {
    says: "tombstone / none: INSERT",
    tombstones: ["a"],
    host: (n) => [n.insert("a", one)],
    then: [{ key: "a", op: "INSERT", base: version, row: one, freeze: "INSERT" }]
  },
  {
    says: "tombstone / INSERT: DELETE",
    tombstones: ["a"],
    host: (n) => [n.insert("a", one), n.remove("a")],
    then: [{ key: "a", op: "DELETE", base: version, row: null, freeze: "dropped" }]
  },
  {
    says: "tombstone / none, row present: UPDATE",
    tombstones: ["a"],
    live: { a: one },
    host: (n) => [n.update("a", "2")],
    then: [{ key: "a", op: "INSERT", base: version, row: two, freeze: "INSERT" }]
  },
  {
    says: "any: UPDATE that changes nothing",
    ...synced,
    host: (n) => [n.update("a", "1")],
    then: [{ key: "a", op: "UPDATE", base: version, row: one, freeze: "UPDATE" }]
  },
  {
    says: "any / frozen in the outbox, dirty none: any write, the server knew the row",
    ...synced,
    earlier: (n) => [n.update("a", "9"), "DELETE FROM _sync_dirty_rows"],
    host: (n) => [n.update("a", "2")],
    then: [{ key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }]
  },
  {
    says: "any / frozen in the outbox, dirty none: any write, the server did not know the row",
    earlier: (n) => [n.insert("a", one), "DELETE FROM _sync_dirty_rows"],
    host: (n) => [n.update("a", "2")],
    then: [{ key: "a", op: "INSERT", base: 0, row: two, freeze: "INSERT" }]
  },
  {
    says: "none, dirty base v > 0: UPDATE",
    earlier: (n) => [
      n.insert("z", one),
      n.insert("a", one),
      "UPDATE _sync_dirty_rows SET base_row_version = 5",
      n.remove("z"),
      "DELETE FROM _sync_dirty_rows WHERE dirty_ordinal = 1"
    ],
    host: (n) => [n.update("a", "2")],
    then: [{ key: "a", op: "INSERT", base: 5, row: two, ordinal: 2, freeze: "INSERT" }]
  },
  {
    says: "none, dirty base v > 0: DELETE",
    earlier: (n) => [n.insert("a", one), "UPDATE _sync_dirty_rows SET base_row_version = 5"],
    host: (n) => [n.remove("a")],
    then: [{ key: "a", op: "DELETE", base: 5, row: null, freeze: "dropped" }]
  }
]

const keyChange: ReadonlyArray<Case> = [
  {
    says: "synced old, new unknown",
    ...synced,
    host: (n) => [n.move("a", "b")],
    then: [
      { key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "b", op: "INSERT", base: 0, row: one, freeze: "INSERT" }
    ]
  },
  {
    says: "never-synced old",
    host: (n) => [n.insert("a", one), n.move("a", "b")],
    then: [
      { key: "a", op: "DELETE", base: 0, row: null, freeze: "dropped" },
      { key: "b", op: "INSERT", base: 0, row: one, freeze: "INSERT" }
    ]
  },
  {
    says: "changed and changed back",
    ...synced,
    host: (n) => [n.move("a", "b"), n.move("b", "a")],
    then: [
      { key: "a", op: "UPDATE", base: version, row: one, freeze: "UPDATE" },
      { key: "b", op: "DELETE", base: 0, row: null, freeze: "dropped" }
    ]
  },
  {
    says: "onto a key that is dirty-DELETE, known to the server",
    live: { a: one, b: two },
    synced: ["a", "b"],
    host: (n) => [n.remove("b"), n.move("a", "b")],
    then: [
      { key: "b", op: "UPDATE", base: version, row: one, freeze: "UPDATE" },
      { key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" }
    ]
  },
  {
    says: "onto a key that is dirty-DELETE, unknown to the server",
    ...synced,
    host: (n) => [n.insert("b", two), n.remove("b"), n.move("a", "b")],
    then: [
      { key: "b", op: "INSERT", base: 0, row: one, freeze: "INSERT" },
      { key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" }
    ]
  },
  {
    says: "with children that follow by ON UPDATE CASCADE",
    ...synced,
    notes: { n: "a" },
    host: (n) => [n.move("a", "b")],
    then: [
      { of: "notes", key: "n", op: "UPDATE", base: version, row: ["b", null], freeze: "UPDATE" },
      { key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "b", op: "INSERT", base: 0, row: one, freeze: "INSERT" }
    ]
  }
]

const withEmail: Given = { live: { a: ["1", "x"], b: ["2", "y"] }, synced: ["a", "b"], notes: { n: "a" } }

const forms: ReadonlyArray<Case> = [
  {
    says: "INSERT … ON CONFLICT(key) DO UPDATE on a row that is there",
    ...synced,
    host: (n) => [
      `${n.insert("a", two)} ON CONFLICT (${n.keyColumn}) DO UPDATE SET ${n.orderColumn} = excluded.${n.orderColumn}`
    ],
    then: [{ key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }]
  },
  {
    says: "INSERT … ON CONFLICT(key) DO UPDATE of a new row",
    host: (n) => [
      `${n.insert("a", two)} ON CONFLICT (${n.keyColumn}) DO UPDATE SET ${n.orderColumn} = excluded.${n.orderColumn}`
    ],
    then: [{ key: "a", op: "INSERT", base: 0, row: two, freeze: "INSERT" }]
  },
  {
    says: "INSERT OR IGNORE and ON CONFLICT DO NOTHING hitting an existing row",
    ...synced,
    host: (n) => [n.insert("a", two, "INSERT OR IGNORE INTO"), `${n.insert("a", two)} ON CONFLICT DO NOTHING`],
    then: []
  },
  {
    says: "INSERT OR REPLACE of the same key, children cascade",
    anyOrder: true,
    ...synced,
    notes: { n: "a" },
    host: (n) => [n.insert("a", two, "INSERT OR REPLACE INTO")],
    then: [
      { of: "notes", key: "n", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }
    ]
  },
  {
    says: "INSERT OR REPLACE displacing another row through a UNIQUE column",
    anyOrder: true,
    ...withEmail,
    host: (n) => [n.insert("c", ["3", "x"], "INSERT OR REPLACE INTO")],
    then: [
      { of: "notes", key: "n", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "c", op: "INSERT", base: 0, row: ["3", "x"], freeze: "INSERT" }
    ],
    off: [
      { of: "notes", key: "n", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "c", op: "INSERT", base: 0, row: ["3", "x"], freeze: "INSERT" }
    ]
  },
  {
    says: "UPDATE OR REPLACE displacing another row through a UNIQUE column",
    anyOrder: true,
    ...withEmail,
    host: (n) => [`UPDATE OR REPLACE ${n.table} SET email = 'x' WHERE ${n.keyColumn} = ${n.literal("b")}`],
    then: [
      { of: "notes", key: "n", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "b", op: "UPDATE", base: version, row: ["2", "x"], freeze: "UPDATE" }
    ],
    off: [
      { of: "notes", key: "n", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "b", op: "UPDATE", base: version, row: ["2", "x"], freeze: "UPDATE" }
    ]
  },
  {
    says: "DELETE without WHERE",
    live: { a: one, b: two },
    synced: ["a", "b"],
    host: (n) => [`DELETE FROM ${n.table}`],
    then: [
      { key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "b", op: "DELETE", base: version, row: null, freeze: "DELETE" }
    ]
  },
  ...["ROLLBACK", "ABORT", "FAIL", "IGNORE", "REPLACE"].map((clause): Case => ({
    says: `OR ${clause} of the outer statement does not change the trigger's own upsert`,
    ...synced,
    host: (n) => [
      n.update("a", "8"),
      n.update("a", "9", `UPDATE OR ${clause}`),
      n.remove("a"),
      n.insert("a", two, `INSERT OR ${clause} INTO`)
    ],
    then: [{ key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }]
  })),
  {
    says: "writes with apply_mode = 1, also while kind = 'remote_replace'",
    ...synced,
    host: (n) => [
      "UPDATE _sync_operation_state SET kind = 'remote_replace'",
      "UPDATE _sync_apply_state SET apply_mode = 1",
      n.update("a", "2"),
      n.insert("b", one),
      n.remove("a")
    ],
    then: []
  },
  {
    says: "writes while kind = 'source_recovery' (D)",
    ...synced,
    host: (n) => ["UPDATE _sync_operation_state SET kind = 'source_recovery'", n.update("a", "2")],
    then: [{ key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }]
  },
  {
    says: "writes while rebuild_required = 1, kind none",
    ...synced,
    host: (n) => ["UPDATE _sync_attachment_state SET rebuild_required = 1", n.update("a", "2")],
    then: [{ key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }]
  },
  {
    says: "ALTER TABLE",
    ...synced,
    host: (n) => [`ALTER TABLE ${n.table} ADD COLUMN extra TEXT DEFAULT 'x'`],
    then: []
  },
  {
    says: "DROP TABLE: stale dirty rows stay",
    host: (n) => [n.insert("a", one), "DROP TABLE notes", `DROP TABLE ${n.table}`],
    then: [{ key: "a", op: "INSERT", base: 0, row: one, freeze: "dropped" }]
  },
  {
    says: "a singleton row that is missing counts as none and 0",
    ...synced,
    host: (n) => ["DELETE FROM _sync_operation_state", "DELETE FROM _sync_apply_state", n.update("a", "2")],
    then: [{ key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" }]
  },
  {
    says: "cascaded deletes: children before the parent's own (§5.2)",
    live: { a: one, b: two },
    synced: ["a", "b"],
    notes: { n: "a", m: "a" },
    host: (n) => [n.remove("a")],
    then: [
      { of: "notes", key: "n", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { of: "notes", key: "m", op: "DELETE", base: version, row: null, freeze: "DELETE" },
      { key: "a", op: "DELETE", base: version, row: null, freeze: "DELETE" }
    ]
  },
  {
    says: "writes made by a trigger of the host (§5.2)",
    anyOrder: true,
    sql: (n) => [
      `CREATE TRIGGER host AFTER UPDATE OF ${n.orderColumn} ON ${n.table} BEGIN
         INSERT INTO notes VALUES ('log', NEW.${n.keyColumn}); END`
    ],
    ...synced,
    host: (n) => [n.update("a", "2")],
    then: [
      { key: "a", op: "UPDATE", base: version, row: two, freeze: "UPDATE" },
      { of: "notes", key: "log", op: "INSERT", base: 0, row: ["a", null], freeze: "INSERT" }
    ]
  }
]

const setUp = (sql: SqliteClient.SqliteClient, variant: Variant, given: Given, recursive: boolean) =>
  Effect.gen(function*() {
    const n = names(variant)
    const keyType = variant.blobKey ? "BLOB" : "TEXT"
    yield* script(sql, [
      `CREATE TABLE ${n.table} (${n.keyColumn} ${keyType} PRIMARY KEY NOT NULL, ${n.orderColumn} TEXT,
                                email TEXT UNIQUE) ${variant.options}`,
      `CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL,
         owner ${keyType} REFERENCES ${n.table} (${n.keyColumn}) ON DELETE CASCADE ON UPDATE CASCADE)`
    ])
    yield* installing(sql, [{ name: variant.configured, key: variant.key.toLowerCase() }, "notes"])
    yield* sql.unsafe(`PRAGMA recursive_triggers = ${recursive ? "ON" : "OFF"}`)
    if (given.sql !== undefined) yield* script(sql, given.sql(n))
    yield* silently(
      sql,
      script(sql, [
        ...Object.entries(given.live ?? {}).map(([key, row]) => n.insert(key, row)),
        ...Object.entries(given.notes ?? {}).map(([key, owner]) => n.note(key, owner))
      ])
    )
    const keyJson = (key: string) => JSON.stringify({ [variant.key.toLowerCase()]: n.keyMember(key) })
    const table = variant.table.toLowerCase()
    for (const key of given.synced ?? []) yield* rowState(sql, table, keyJson(key), version)
    for (const key of given.tombstones ?? []) yield* rowState(sql, table, keyJson(key), version, 1)
    for (const key of Object.keys(given.notes ?? {})) {
      yield* rowState(sql, "notes", JSON.stringify({ id: key }), version)
    }
    return n
  })

const asStored = (variant: Variant, n: Names, expected: ReadonlyArray<Expected>) =>
  expected.map(({ base, key, of, op, ordinal, row }, position) => ({
    table_name: of ?? variant.table.toLowerCase(),
    key_json: JSON.stringify(of === "notes" ? { id: key } : { [variant.key.toLowerCase()]: n.keyMember(key) }),
    op,
    base_row_version: base,
    payload: row === null ? null : JSON.stringify(
      of === "notes"
        ? { id: key, owner: n.keyMember(row[0]) }
        : { [variant.key.toLowerCase()]: n.keyMember(key), [variant.order.toLowerCase()]: row[0], email: row[1] }
    ),
    dirty_ordinal: ordinal ?? position + 1
  }))

/** What freezing makes of the dirty rows (push.md §3): the live row and the row state decide. */
const derived = (sql: SqliteClient.SqliteClient, variant: Variant, n: Names) =>
  Effect.gen(function*() {
    const exists = yield* sql<{ readonly name: string }>`SELECT name FROM sqlite_schema WHERE name = ${variant.table}`
    const live = (table: string, key: string, member: string) =>
      variant.blobKey && table !== "notes"
        ? `EXISTS (SELECT 1 FROM ${table} WHERE ${key} = unhex(d.key_json ->> '$.${member}'))`
        : `EXISTS (SELECT 1 FROM ${table} WHERE ${key} = d.key_json ->> '$.${member}')`
    if (exists.length === 0) return undefined
    const rows = yield* sql.unsafe<{ readonly op: string }>(
      `SELECT CASE WHEN live THEN iif(known, 'UPDATE', 'INSERT') ELSE iif(known, 'DELETE', 'dropped') END AS op
         FROM (SELECT d.dirty_ordinal,
                      EXISTS (SELECT 1 FROM _sync_row_state AS s WHERE s.table_name = d.table_name
                                 AND s.key_json = d.key_json AND s.deleted = 0) AS known,
                      CASE d.table_name WHEN 'notes' THEN ${live("notes", "id", "id")}
                           ELSE ${live(n.table, n.keyColumn, variant.key.toLowerCase())} END AS live
                 FROM _sync_dirty_rows AS d)
        ORDER BY dirty_ordinal`
    )
    return rows.map(({ op }) => op)
  })

const tables: ReadonlyArray<readonly [string, ReadonlyArray<Case>]> = [
  ["single key [capture.md §6.1]", singleKey],
  ["key change [capture.md §6.2]", keyChange],
  ["statement forms [capture.md §6.3]", forms]
]

for (const variant of variants) {
  for (const recursive of [true, false]) {
    describe(`${variant.name}, recursive_triggers ${recursive ? "on" : "off"}`, () => {
      // REPLACE is what the setting is about; for the rest two kinds of table are enough.
      const everything = recursive || variant.name === "ordinary" || variant.blobKey
      for (const [title, cases] of tables.filter(([title]) => everything || title.startsWith("statement forms"))) {
        describe(title, () => {
          for (const testCase of cases) {
            it.scoped(testCase.says, () =>
              Effect.gen(function*() {
                const sql = yield* memory
                const n = yield* setUp(sql, variant, testCase, recursive)
                yield* script(sql, testCase.earlier?.(n) ?? [])
                yield* script(sql, testCase.host(n))
                const expected = recursive ? testCase.then : testCase.off ?? testCase.then
                const found = yield* dirtyRows(sql)
                const stored = asStored(variant, n, expected)
                const sorted = <T extends { readonly table_name: string; readonly key_json: string }>(
                  rows: ReadonlyArray<T>
                ) =>
                  testCase.anyOrder
                    ? rows.map((row) => ({ ...row, dirty_ordinal: 0 })).sort((x, y) =>
                      `${x.table_name}${x.key_json}` < `${y.table_name}${y.key_json}` ? -1 : 1
                    )
                    : rows
                assert.deepStrictEqual<unknown>(sorted(found), sorted(stored))
                const atFreeze = yield* derived(sql, variant, n)
                if (atFreeze !== undefined) {
                  assert.sameMembers(atFreeze, expected.map(({ freeze }) => freeze))
                }
              }))
          }
        })
      }

      if (everything) {
        describe("guards [capture.md §4]", () => {
          const guarded: ReadonlyArray<readonly [string, (n: Names) => string]> = [
            ["INSERT", (n) => n.insert("b", one)],
            ["UPDATE", (n) => n.update("a", "2")],
            ["DELETE", (n) => n.remove("a")],
            ["DELETE without WHERE", (n) => `DELETE FROM ${n.table}`],
            ["key change", (n) => n.move("a", "b")],
            ["INSERT OR IGNORE", (n) => n.insert("a", two, "INSERT OR IGNORE INTO")],
            ["INSERT OR REPLACE", (n) => n.insert("a", two, "INSERT OR REPLACE INTO")],
            ["UPDATE OR IGNORE", (n) => n.update("a", "2", "UPDATE OR IGNORE")],
            ["ON CONFLICT DO NOTHING on an existing row", (n) => `${n.insert("a", two)} ON CONFLICT DO NOTHING`],
            [
              "ON CONFLICT DO UPDATE",
              (n) => `${n.insert("a", two)} ON CONFLICT (${n.keyColumn}) DO UPDATE SET ${n.orderColumn} = '2'`
            ]
          ]
          for (const [form, statement] of guarded) {
            it.scoped(`${form} is aborted while a remote replace is pending`, () =>
              Effect.gen(function*() {
                const sql = yield* memory
                const n = yield* setUp(sql, variant, synced, recursive)
                yield* sql`UPDATE _sync_operation_state SET kind = 'remote_replace'`
                const error = yield* Effect.flip(sql.unsafe(statement(n)))
                assert.strictEqual(captureAbort(error), "SYNC_TRANSITION_PENDING")
                assert.match(String(error.cause), /^SqliteError: SYNC_TRANSITION_PENDING$/)
                assert.deepStrictEqual(yield* dirtyRows(sql), [])
                assert.strictEqual(
                  (yield* sql.unsafe(`SELECT 1 FROM ${n.table} WHERE ${n.orderColumn} = '1'`)).length,
                  1
                )
              }))
          }

          it.scoped("a statement that touches no row succeeds", () =>
            Effect.gen(function*() {
              const sql = yield* memory
              const n = yield* setUp(sql, variant, synced, recursive)
              yield* sql`UPDATE _sync_operation_state SET kind = 'remote_replace'`
              yield* script(sql, [n.update("nobody", "2"), n.remove("nobody")])
            }))

          it.scoped("a cascade into a guarded table is aborted", () =>
            Effect.gen(function*() {
              const sql = yield* memory
              const n = yield* setUp(sql, variant, { ...synced, notes: { n: "a" } }, recursive)
              yield* sql.unsafe(`DROP TRIGGER "trg_${variant.table.toLowerCase()}_bd_guard"`)
              yield* sql`UPDATE _sync_operation_state SET kind = 'remote_replace'`
              const error = yield* Effect.flip(sql.unsafe(n.remove("a")))
              assert.strictEqual(captureAbort(error), "SYNC_TRANSITION_PENDING")
            }))
        })
      }
    })
  }
}
