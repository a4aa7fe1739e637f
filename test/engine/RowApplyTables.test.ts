import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { TableDeclaration } from "oversqlite/server"
import { checkInvariants } from "./support/Invariants.js"
import { failsWith } from "./support/Outcome.js"
import { pullAnswer, snapshotAnswer } from "./support/Scripted.js"
import { contents, makeWorld } from "./support/World.js"

interface Kind {
  readonly says: string
  readonly ddl: ReadonlyArray<string>
  readonly tables: ReadonlyArray<{ readonly name: string; readonly key: string }>
  readonly keyKind?: "uuid"
  /** Statements of device A; after each all devices must agree. */
  readonly writes: ReadonlyArray<string>
}

const wide = Array.from({ length: 130 }, (_, index) => `c${index}`)
const widest = Array.from({ length: 1100 }, (_, index) => `c${index}`)

const wideKind = (says: string, columns: ReadonlyArray<string>): Kind => ({
  says,
  ddl: [`CREATE TABLE wide (id TEXT PRIMARY KEY NOT NULL, ${columns.map((name) => `${name} TEXT`).join(", ")})`],
  tables: [{ name: "wide", key: "id" }],
  writes: [
    `INSERT INTO wide (id, ${columns.join(", ")}) VALUES ('a', ${columns.map((_, index) => `'${index}'`).join(", ")})`,
    `INSERT INTO wide (id) VALUES ('b')`,
    `UPDATE wide SET ${columns.at(-1)} = 'last'`,
    "DELETE FROM wide WHERE id = 'a'"
  ]
})

const kinds: ReadonlyArray<Kind> = [
  wideKind("131 columns", wide),
  wideKind("1101 columns", widest),
  {
    says: "WITHOUT ROWID, with a unique text that swaps",
    ddl: ["CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL UNIQUE) WITHOUT ROWID"],
    tables: [{ name: "notes", key: "id" }],
    writes: [
      "INSERT INTO notes VALUES ('a', 'one'), ('b', 'two')",
      "UPDATE notes SET body = CASE id WHEN 'a' THEN 'x' ELSE 'y' END",
      "DELETE FROM notes WHERE id = 'a'"
    ]
  },
  {
    says: "reserved words as names",
    ddl: [
      `CREATE TABLE "order" ("select" TEXT PRIMARY KEY NOT NULL, "from" TEXT, "where" INTEGER, "group" REAL)`,
      `CREATE TABLE "table" ("select" TEXT PRIMARY KEY NOT NULL, "order" TEXT REFERENCES "order" ("select") ON DELETE CASCADE)`
    ],
    tables: [{ name: "order", key: "select" }, { name: "table", key: "select" }],
    writes: [
      `INSERT INTO "order" VALUES ('a', 'x', 1, 0.5), ('b', NULL, NULL, NULL)`,
      `INSERT INTO "table" VALUES ('t', 'a'), ('u', 'b')`,
      `UPDATE "order" SET "where" = 7 WHERE "select" = 'b'`,
      `DELETE FROM "order" WHERE "select" = 'a'`
    ]
  },
  {
    says: "names in mixed case, configured in another one",
    ddl: [
      `CREATE TABLE "Users" ("Id" TEXT PRIMARY KEY NOT NULL, "Full_Name" TEXT, "Data" BLOB)`,
      `CREATE TABLE "userPosts" ("ID" TEXT PRIMARY KEY NOT NULL, "Author" TEXT REFERENCES users ("ID") ON DELETE CASCADE)`
    ],
    tables: [{ name: "USERS", key: "ID" }, { name: "userposts", key: "id" }],
    writes: [
      `INSERT INTO users VALUES ('a', 'Ann', x'00ff'), ('B', 'Bob', NULL)`,
      `INSERT INTO userposts VALUES ('p', 'a'), ('q', 'B')`,
      `UPDATE users SET full_name = 'Anna', data = x'' WHERE id = 'a'`,
      "DELETE FROM users WHERE id = 'a'"
    ]
  },
  {
    says: "names that begin with a digit",
    ddl: [`CREATE TABLE "2fa" ("1st" TEXT PRIMARY KEY NOT NULL, "2nd" TEXT)`],
    tables: [{ name: "2fa", key: "1st" }],
    writes: [`INSERT INTO "2fa" VALUES ('a', 'x')`, `UPDATE "2fa" SET "2nd" = 'y'`, `DELETE FROM "2fa"`]
  },
  {
    says: "columns that compare without regard to case",
    ddl: [
      "CREATE TABLE tags (id TEXT PRIMARY KEY NOT NULL, label TEXT COLLATE NOCASE UNIQUE, note TEXT COLLATE RTRIM)"
    ],
    tables: [{ name: "tags", key: "id" }],
    writes: [
      "INSERT INTO tags VALUES ('a', 'Red', 'x  '), ('b', 'Blue', 'y')",
      "UPDATE tags SET label = 'RED', note = 'x' WHERE id = 'a'",
      "UPDATE tags SET label = NULL WHERE id = 'a'",
      "UPDATE tags SET label = 'red' WHERE id = 'b'"
    ]
  },
  {
    says: "keys that compare without regard to case",
    ddl: [
      "CREATE TABLE words (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, body TEXT)",
      "CREATE TABLE uses (id TEXT PRIMARY KEY NOT NULL, word TEXT REFERENCES words (id) ON UPDATE CASCADE ON DELETE CASCADE)"
    ],
    tables: [{ name: "words", key: "id" }, { name: "uses", key: "id" }],
    writes: [
      "INSERT INTO words VALUES ('Ab', 'x'), ('cd', 'y')",
      "INSERT INTO uses VALUES ('u', 'Ab'), ('v', 'cd')",
      "UPDATE words SET id = 'aB', body = 'z' WHERE id = 'Ab'",
      "UPDATE words SET body = 'w'",
      "DELETE FROM words WHERE id = 'AB'"
    ]
  },
  {
    says: "only a key",
    ddl: ["CREATE TABLE marks (id TEXT PRIMARY KEY NOT NULL)"],
    tables: [{ name: "marks", key: "id" }],
    writes: ["INSERT INTO marks VALUES ('a'), ('b')", "UPDATE marks SET id = 'c' WHERE id = 'a'", "DELETE FROM marks"]
  },
  {
    says: "keys with every odd character",
    ddl: ["CREATE TABLE odd (id TEXT PRIMARY KEY NOT NULL, c TEXT)"],
    tables: [{ name: "odd", key: "id" }],
    writes: [
      `INSERT INTO odd VALUES ('a&b<c>', ''), ('it''s "q" \\ /', 'x'), (char(9, 10, 13, 31, 127, 0x2028, 0x1f600), 'y'), ('', 'empty')`,
      "UPDATE odd SET c = c || '!'",
      "DELETE FROM odd WHERE id = 'a&b<c>'"
    ]
  },
  {
    says: "UUID blob keys, blob references and blobs",
    ddl: [
      "CREATE TABLE files (id BLOB PRIMARY KEY NOT NULL, data BLOB, hash BLOB UNIQUE)",
      "CREATE TABLE reviews (id BLOB PRIMARY KEY NOT NULL, file BLOB REFERENCES files (id) ON DELETE CASCADE, text TEXT)"
    ],
    tables: [{ name: "files", key: "id" }, { name: "reviews", key: "id" }],
    keyKind: "uuid",
    writes: [
      "INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', x'', x'01'), (x'ff112233445566778899aabbccddeeff', NULL, x'02')",
      "INSERT INTO reviews VALUES (x'aa112233445566778899aabbccddeeff', x'00112233445566778899aabbccddeeff', 'good')",
      "UPDATE files SET hash = NULL WHERE id = x'00112233445566778899aabbccddeeff'",
      "UPDATE files SET hash = x'01' WHERE id = x'ff112233445566778899aabbccddeeff'",
      "DELETE FROM files WHERE id = x'00112233445566778899aabbccddeeff'"
    ]
  }
]

const declaredFor = (kind: Kind): ReadonlyArray<TableDeclaration> =>
  kind.tables.map((table) => ({
    schema: "business",
    table: table.name.toLowerCase(),
    key: { column: table.key.toLowerCase(), kind: kind.keyKind ?? "text" }
  }))

describe("every kind of table travels by push, pull, snapshot and rebuild [payload-codec.md §9.3]", () => {
  for (const kind of kinds) {
    it.scoped(kind.says, () =>
      Effect.gen(function*() {
        const { ddl, tables } = kind
        const names = tables.map((table) => table.name)
        const world = yield* makeWorld({ declared: declaredFor(kind) })
        const a = yield* world.attached({ ddl, tables })
        const b = yield* world.attached({ ddl, tables })
        for (const write of kind.writes) {
          yield* a.run(write)
          const written = yield* contents(a, names)
          const pushed = yield* a.sync.sync
          assert.strictEqual(pushed.pushOutcome, "committed", write)
          assert.strictEqual(pushed.status.pending.pendingRowCount, 0, write)
          assert.deepStrictEqual(yield* contents(a, names), written, `replay of ${write}`)
          yield* checkInvariants(a)
          const pulled = yield* b.sync.pullToStable
          assert.strictEqual(pulled.outcome, "applied_incremental", write)
          assert.deepStrictEqual(yield* contents(b, names), written, `pull of ${write}`)
          yield* checkInvariants(b)
        }
        const c = yield* world.attached({ ddl, tables })
        assert.deepStrictEqual(yield* contents(c, names), yield* contents(a, names))
        yield* checkInvariants(c)
        yield* b.sync.rebuild
        assert.deepStrictEqual(yield* contents(b, names), yield* contents(a, names))
        yield* checkInvariants(b)
      }))
  }
})

describe("keys that only a collation takes for one [capture.md §5.3]", () => {
  const ddl = ["CREATE TABLE words (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, body TEXT)"]
  const tables = [{ name: "words", key: "id" }]
  const declared: ReadonlyArray<TableDeclaration> = [
    { schema: "business", table: "words", key: { column: "id", kind: "text" } }
  ]
  const rows = [
    { table: "words", key: `{"id":"ab"}`, payload: `{"id":"ab","body":"1"}` },
    { table: "words", key: `{"id":"AB"}`, payload: `{"id":"AB","body":"2"}` }
  ]
  const refusal = { _tag: "LocalDataError", code: "local_constraint", action: "fix_data" }

  it.scoped("two such rows of the server are one too many: one of them is named, by pull and by snapshot", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      const a = yield* world.attached({ ddl, tables })
      yield* pullAnswer(world.network, [rows])
      yield* snapshotAnswer(world.network, rows)
      yield* failsWith(a.sync.pullToStable, {
        ...refusal,
        row: { schema: "business", table: "words", key: `{"id":"ab"}` }
      })
      yield* checkInvariants(a)
      yield* snapshotAnswer(world.network, rows)
      yield* failsWith(a.sync.rebuild, { ...refusal, row: { schema: "business", table: "words", key: `{"id":"ab"}` } })
      assert.deepStrictEqual(yield* a.run("SELECT * FROM words"), [])
      yield* checkInvariants(a)
    }))

  it.scoped("a pending row under the other spelling stays pending and is named by a rebuild", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      const a = yield* world.attached({ ddl, tables })
      yield* a.run("INSERT INTO words VALUES ('AB', 'mine')")
      yield* world.write([{ table: "words", key: "ab", payload: { body: "theirs" } }])
      yield* failsWith(a.sync.rebuild, { ...refusal, row: { schema: "business", table: "words", key: `{"id":"AB"}` } })
      assert.deepStrictEqual(yield* a.run("SELECT * FROM words"), [{ id: "AB", body: "mine" }])
      yield* checkInvariants(a)
      yield* a.run("UPDATE words SET id = 'ab'")
      assert.strictEqual((yield* a.sync.rebuild).localRows?.kept, 1)
      yield* checkInvariants(a)
    }))
})
