import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import type { SyncTableConfig } from "../../src/storage/SyncTable.js"
import { type Catalogue, readCatalogue } from "../../src/storage/TableCatalogue.js"
import { inspect, parentsFirst } from "../../src/storage/TableInspector.js"
import { counting, script, shouting, withMemory } from "./support/database.js"

const inspecting = (ddl: ReadonlyArray<string>, config: ReadonlyArray<SyncTableConfig>) =>
  withMemory((sql) =>
    Effect.gen(function*() {
      yield* script(sql, ddl)
      return inspect(config, yield* readCatalogue(config.map(({ name }) => name)))
    }).pipe(Effect.orDie)
  )

const inspected = (ddl: ReadonlyArray<string>, config: ReadonlyArray<SyncTableConfig>) =>
  Effect.map(inspecting(ddl, config), Either.getOrThrowWith((problem) => new Error(problem.detail)))

const users = "CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT)"
const posts = "CREATE TABLE posts (id TEXT PRIMARY KEY, author_id TEXT REFERENCES users (id))"

interface Refused {
  readonly says: string
  readonly ddl: ReadonlyArray<string>
  readonly config: ReadonlyArray<SyncTableConfig>
  readonly code: string
  readonly phrase: string
  readonly table?: string
  readonly column?: string
}

const keyed = (type: string) => [`CREATE TABLE t (id ${type} PRIMARY KEY, v TEXT)`]
const t: ReadonlyArray<SyncTableConfig> = [{ name: "t", key: "id" }]

const refused: ReadonlyArray<Refused> = [
  {
    says: "1: blank name",
    ddl: [],
    config: [{ name: "  ", key: "id" }],
    code: "table_name_missing",
    phrase: "sync table name must be provided"
  },
  {
    says: "2: qualified name",
    ddl: [users],
    config: [{ name: "main.users", key: "id" }],
    code: "table_name_qualified",
    phrase: "must not include a schema qualifier",
    table: "main.users"
  },
  {
    says: "3: registered twice",
    ddl: [users],
    config: [{ name: "users", key: "id" }, { name: " USERS ", key: "id" }],
    code: "table_duplicate",
    phrase: "duplicate sync table registration",
    table: "USERS"
  },
  {
    says: "4: no key",
    ddl: [users],
    config: [{ name: "users", key: [] }],
    code: "key_missing",
    phrase: "key",
    table: "users"
  },
  {
    says: "4: blank key",
    ddl: [users],
    config: [{ name: "users", key: " " }],
    code: "key_missing",
    phrase: "key",
    table: "users"
  },
  {
    says: "5: two keys",
    ddl: [users],
    config: [{ name: "users", key: ["id", "name"] }],
    code: "key_not_single",
    phrase: "exactly one sync key column",
    table: "users"
  },
  {
    says: "5: only blanks",
    ddl: [users],
    config: [{ name: "users", key: ["", " "] }],
    code: "key_not_single",
    phrase: "exactly one sync key column",
    table: "users"
  },
  {
    says: "6: a view that cannot be described",
    ddl: ["CREATE VIEW t AS SELECT * FROM nowhere"],
    config: t,
    code: "table_unreadable",
    phrase: "failed to inspect table",
    table: "t"
  },
  {
    says: "7: no such column",
    ddl: [users],
    config: [{ name: "users", key: "uid" }],
    code: "key_column_missing",
    phrase: "does not contain configured primary key column uid",
    table: "users",
    column: "uid"
  },
  {
    says: "7: no such table",
    ddl: [],
    config: t,
    code: "key_column_missing",
    phrase: "does not contain configured primary key column id",
    table: "t"
  },
  {
    says: "8: not the primary key",
    ddl: [users],
    config: [{ name: "users", key: "name" }],
    code: "key_not_primary",
    phrase: "is not declared as PRIMARY KEY",
    table: "users",
    column: "name"
  },
  {
    says: "8: UNIQUE is not enough",
    ddl: ["CREATE TABLE t (id TEXT UNIQUE NOT NULL)"],
    config: t,
    code: "key_not_primary",
    phrase: "is not declared as PRIMARY KEY"
  },
  {
    says: "8: a view",
    ddl: [users, "CREATE VIEW t AS SELECT * FROM users"],
    config: t,
    code: "key_not_primary",
    phrase: "is not declared as PRIMARY KEY"
  },
  {
    says: "8: a virtual table",
    ddl: ["CREATE VIRTUAL TABLE t USING fts5 (id)"],
    config: t,
    code: "key_not_primary",
    phrase: "is not declared as PRIMARY KEY"
  },
  {
    says: "8: the second column of a composite key",
    ddl: ["CREATE TABLE t (a TEXT, id TEXT, PRIMARY KEY (a, id))"],
    config: t,
    code: "key_not_primary",
    phrase: "is not declared as PRIMARY KEY"
  },
  ...["VARCHAR(36)", "CHAR(36)", "UUID", "INTEGER", "BIGINT", ""].map((type): Refused => ({
    says: `9: key of type ${type === "" ? "(none)" : type}`,
    ddl: keyed(type),
    config: t,
    code: "key_type_unsupported",
    phrase: "supports only TEXT keys and UUID-backed BLOB keys",
    column: "id"
  })),
  {
    says: "10: composite foreign key",
    ddl: [
      "CREATE TABLE p (id TEXT PRIMARY KEY, a TEXT, b TEXT, UNIQUE (a, b))",
      "CREATE TABLE c (id TEXT PRIMARY KEY, x TEXT, y TEXT, FOREIGN KEY (x, y) REFERENCES p (a, b))",
      "CREATE TABLE a (id TEXT PRIMARY KEY, x TEXT, y TEXT, FOREIGN KEY (x, y) REFERENCES p (a, b))"
    ],
    config: ["p", "c", "a"].map((name) => ({ name, key: "id" })),
    code: "foreign_key_composite",
    phrase: "unsupported composite foreign keys: a -> p, c -> p"
  },
  {
    says: "11: parent not managed",
    ddl: [
      users,
      posts,
      "CREATE TABLE Likes (id TEXT PRIMARY KEY, Post TEXT REFERENCES posts, who TEXT REFERENCES users (id))"
    ],
    config: [{ name: "likes", key: "id" }],
    code: "foreign_key_not_closed",
    phrase: "not FK-closed: likes.post -> posts.id, likes.who -> users.id"
  },
  {
    says: "11: parent does not exist",
    ddl: ["CREATE TABLE t (id TEXT PRIMARY KEY, p TEXT REFERENCES gone)"],
    config: t,
    code: "foreign_key_not_closed",
    phrase: "not FK-closed: t.p -> gone"
  },
  {
    says: "D: first column of a composite key",
    ddl: ["CREATE TABLE t (id TEXT, b TEXT, PRIMARY KEY (id, b))"],
    config: t,
    code: "key_composite_primary",
    phrase: "alone",
    table: "t",
    column: "id"
  },
  {
    says: "D: virtual generated column",
    ddl: ["CREATE TABLE t (id TEXT PRIMARY KEY, a INT, g INT AS (a + 1))"],
    config: t,
    code: "column_generated",
    phrase: "generated",
    column: "g"
  },
  {
    says: "D: stored generated column",
    ddl: ["CREATE TABLE t (id TEXT PRIMARY KEY, a INT, g INT AS (a + 1) STORED)"],
    config: t,
    code: "column_generated",
    phrase: "generated",
    column: "g"
  },
  {
    says: "D: reserved column",
    ddl: ["CREATE TABLE t (id TEXT PRIMARY KEY, _Sync_Scope_ID TEXT)"],
    config: t,
    code: "column_reserved",
    phrase: "reserves",
    column: "_Sync_Scope_ID"
  },
  {
    says: "D: table name",
    ddl: ["CREATE TABLE \"we-ird\" (id TEXT PRIMARY KEY)"],
    config: [{ name: "we-ird", key: "id" }],
    code: "identifier_invalid",
    phrase: "we-ird"
  },
  {
    says: "D: column name",
    ddl: ["CREATE TABLE t (id TEXT PRIMARY KEY, \"na me\" TEXT)"],
    config: t,
    code: "identifier_invalid",
    phrase: "na me",
    column: "na me"
  },
  {
    says: "D: column name beyond ASCII",
    ddl: ["CREATE TABLE t (id TEXT PRIMARY KEY, größe TEXT)"],
    config: t,
    code: "identifier_invalid",
    phrase: "größe"
  },
  {
    says: "D: a table of the engine",
    ddl: ["CREATE TABLE _sync_source_state (source_id TEXT PRIMARY KEY)"],
    config: [{ name: "_sync_source_state", key: "source_id" }],
    code: "identifier_invalid",
    phrase: "belongs to the engine"
  }
]

describe("inspect refuses [capture.md §2]", () => {
  for (const { code, column, config, ddl, phrase, says, table } of refused) {
    it.scoped(says, () =>
      Effect.gen(function*() {
        const problem = yield* Effect.flip(Effect.flatten(inspecting(ddl, config)))
        assert.strictEqual(problem.code, code)
        assert.include(problem.detail, phrase)
        if (table !== undefined) assert.strictEqual(problem.table, table)
        if (column !== undefined) assert.strictEqual(problem.column, column)
      }))
  }

  it("D: two columns that differ only in case", () => {
    const column = (name: string, primaryKey: number) => ({
      table: "t",
      name,
      type: "TEXT",
      notNull: false,
      primaryKey,
      hidden: 0
    })
    const catalogue: Catalogue = {
      tables: [{ name: "t", isStrict: false, isWithoutRowid: false, keyCollation: "BINARY" }],
      unreadable: [],
      columns: [column("id", 1), column("Name", 0), column("name", 0)],
      foreignKeys: [],
      uniques: [],
      triggers: [],
      schemaVersion: 1
    }
    const problem = Either.getLeft(inspect(t, catalogue))
    assert.strictEqual(problem._tag === "Some" && problem.value.code, "identifier_invalid")
  })

  it.scoped("the first table that fails, and its first check", () =>
    Effect.gen(function*() {
      const problem = yield* Effect.flip(Effect.flatten(
        inspecting([users, "CREATE TABLE b (id INTEGER PRIMARY KEY)"], [
          { name: "users", key: "id" },
          { name: "b", key: "id" },
          { name: "", key: [] }
        ])
      ))
      assert.strictEqual(problem.code, "key_type_unsupported")
    }))
})

describe("inspect accepts [capture.md §2]", () => {
  it.scoped("an empty list", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* inspected([], []), [])
    }))

  it.scoped("names in any case and spacing, a key list with repetitions and blanks", () =>
    Effect.gen(function*() {
      const [table] = yield* inspected(["CREATE TABLE \"Users\" (\"ID\" TEXT PRIMARY KEY, \"Order\" INT)"], [
        { name: " uSERS ", key: ["", " id ", "Id"] }
      ])
      assert.strictEqual(table?.name, "users")
      assert.strictEqual(table?.declaredName, "Users")
      assert.deepStrictEqual(table?.columns.map(({ declaredName, name }) => [name, declaredName]), [["id", "ID"], [
        "order",
        "Order"
      ]])
      assert.strictEqual(table?.key, table?.columns[0])
    }))

  for (
    const [type, kind] of [["text", "text"], ["LONGTEXT", "text"], ["BLOB", "uuid"], ["uuid_blob", "uuid"]] as const
  ) {
    it.scoped(`a key of type ${type} as ${kind}`, () =>
      Effect.gen(function*() {
        const [table] = yield* inspected(keyed(type), t)
        assert.strictEqual(table?.keyKind, kind)
        assert.strictEqual(table?.key.class, kind === "uuid" ? "uuid-key" : "plain")
      }))
  }

  it.scoped("WITHOUT ROWID and STRICT tables, self-references, and foreign keys that name no parent column", () =>
    Effect.gen(function*() {
      const tables = yield* inspected([
        "CREATE TABLE folders (id BLOB PRIMARY KEY NOT NULL, parent BLOB REFERENCES folders, data BLOB, any_one ANY) STRICT, WITHOUT ROWID",
        "CREATE TABLE files (id TEXT PRIMARY KEY, folder_id BLOB REFERENCES Folders, CODE TEXT REFERENCES codes (Code))",
        "CREATE TABLE codes (id TEXT PRIMARY KEY, code TEXT UNIQUE)"
      ], ["files", "folders", "codes"].map((name) => ({ name, key: "id" })))
      assert.deepStrictEqual(tables.map(({ name, order }) => [name, order]), [["folders", 0], ["codes", 1], [
        "files",
        2
      ]])
      assert.deepStrictEqual(tables[0]?.columns.map((column) => [column.name, column.class, column.affinity]), [
        ["id", "uuid-key", "BLOB"],
        ["parent", "uuid-ref", "BLOB"],
        ["data", "blob", "BLOB"],
        ["any_one", "plain", "BLOB"]
      ])
      assert.deepStrictEqual(tables[2]?.references, [
        { column: "code", parentTable: "codes", parentColumn: "code" },
        { column: "folder_id", parentTable: "folders", parentColumn: "id" }
      ])
    }))

  it.scoped("reads the catalogue in six statements, whatever the number of tables [DESIGN §5]", () =>
    withMemory((sql) =>
      Effect.gen(function*() {
        const names = Array.from({ length: 30 }, (_, n) => `t${n}`)
        yield* script(sql, names.map((name) => `CREATE TABLE ${name} (id TEXT PRIMARY KEY, v TEXT UNIQUE)`))
        const [, few] = yield* counting(readCatalogue(["t1"]))
        const [, many] = yield* counting(readCatalogue(names))
        assert.strictEqual(few.statements.length, 6)
        assert.strictEqual(many.statements.length, 6)
      })
    ))

  it.scoped("is not disturbed by broken views and unknown modules among the other tables", () =>
    Effect.gen(function*() {
      const [table] = yield* inspected([users, "CREATE VIEW broken AS SELECT * FROM nowhere"], [{
        name: "users",
        key: "id"
      }])
      assert.strictEqual(table?.name, "users")
    }))

  it.scoped("reads through a client that renames columns", () =>
    Effect.gen(function*() {
      const sql = yield* shouting
      yield* script(sql, [users])
      const catalogue = yield* Effect.provideService(readCatalogue(["users"]), SqlClient.SqlClient, sql)
      assert.deepStrictEqual(catalogue.columns.map(({ name }) => name), ["id", "name"])
      assert.deepStrictEqual(catalogue.tables.map(({ name }) => name), ["users"])
    }))
})

describe("parentsFirst [capture.md §7.1]", () => {
  const table = (name: string, ...parents: ReadonlyArray<string>) => ({
    name,
    references: parents.map((parentTable) => ({ column: "x", parentTable, parentColumn: "id" }))
  })
  const cases: ReadonlyArray<readonly [string, ReadonlyArray<ReturnType<typeof table>>, ReadonlyArray<string>]> = [
    ["keeps the configured order of independent tables", [table("b"), table("a"), table("c")], ["b", "a", "c"]],
    ["puts parents before children", [table("c", "b"), table("b", "a"), table("a")], ["a", "b", "c"]],
    ["takes the first that is ready, again and again", [table("c", "a"), table("d"), table("a")], ["d", "a", "c"]],
    ["ignores self-references and repetitions", [table("b", "b", "a", "a"), table("a")], ["a", "b"]],
    ["appends cycles and what hangs on them in configured order", [
      table("x", "y"),
      table("z", "x"),
      table("y", "x"),
      table("a")
    ], ["a", "x", "z", "y"]]
  ]
  for (const [says, tables, expected] of cases) {
    it(says, () => assert.deepStrictEqual(parentsFirst(tables).map(({ name }) => name), expected))
  }
})

describe("columns to park [payload-codec.md §9.3]", () => {
  const cases: ReadonlyArray<
    readonly [says: string, ddl: ReadonlyArray<string>, parked: ReadonlyArray<readonly [string, string]>]
  > = [
    ["none without UNIQUE", ["CREATE TABLE t (id TEXT PRIMARY KEY UNIQUE, a TEXT)"], []],
    ["a nullable column by NULL", ["CREATE TABLE t (id TEXT PRIMARY KEY, Email TEXT UNIQUE)"], [["email", "null"]]],
    ["a NOT NULL column by a text", ["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE)"], [[
      "email",
      "text"
    ]]],
    ["a NOT NULL integer by a text, which no number equals", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER NOT NULL UNIQUE)"
    ], [["n", "text"]]],
    ["a STRICT integer by a negative number", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER NOT NULL UNIQUE, r REAL NOT NULL UNIQUE, x ANY NOT NULL UNIQUE) STRICT"
    ], [["n", "negative"], ["r", "negative"], ["x", "text"]]],
    ["no STRICT integer without rowid, no STRICT blob", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, n INT NOT NULL UNIQUE, b BLOB NOT NULL UNIQUE) STRICT, WITHOUT ROWID"
    ], []],
    ["one column of a UNIQUE pair, rather one that may be NULL", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT NOT NULL, b TEXT, UNIQUE (a, b))"
    ], [["b", "null"]]],
    ["one column for two constraints that share it", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT UNIQUE, b TEXT, UNIQUE (a, b))"
    ], [["a", "null"]]],
    ["nothing for a pair with the key", ["CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT, UNIQUE (a, id))"], []],
    ["columns of unique indexes, partial ones too", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT, b TEXT)",
      "CREATE UNIQUE INDEX one ON t (a) WHERE b IS NOT NULL"
    ], [["a", "null"]]],
    ["nothing for an expression", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT)",
      "CREATE UNIQUE INDEX one ON t (lower(a))"
    ], []],
    ["no column that another table references, managed or not", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT UNIQUE)",
      "CREATE TABLE host (x TEXT REFERENCES T (A))"
    ], []],
    ["no column that the table itself references", [
      "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT UNIQUE, up TEXT REFERENCES t (a))"
    ], []]
  ]
  for (const [says, ddl, parked] of cases) {
    it.scoped(says, () =>
      Effect.gen(function*() {
        const [table] = yield* inspected(ddl, t)
        assert.deepStrictEqual(
          table?.parked.map(({ by, column }): readonly [string, string] => [column.name, by]),
          parked
        )
      }))
  }
})
