/** Tables of the host alone that refer to registered ones: what the server deletes, they may hold on to (pull.md §4.2). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { ddl, tables } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { failsWith } from "./support/Outcome.js"
import { contents, makeWorld } from "./support/World.js"

const uuid = "00112233445566778899aabbccddeeff"

interface Case {
  readonly says: string
  readonly ddl: ReadonlyArray<string>
  readonly insert: string
  readonly table: string
  readonly key: string
}

const cases: ReadonlyArray<Case> = [
  {
    says: "NO ACTION",
    ddl: ["CREATE TABLE Drafts (Id TEXT PRIMARY KEY, author TEXT REFERENCES users (id))"],
    insert: "INSERT INTO drafts VALUES ('other', 'stays'), ('d1', 'u1'), ('none', NULL)",
    table: "drafts",
    key: "{\"id\":\"d1\"}"
  },
  {
    says: "RESTRICT, the key a blob",
    ddl: ["CREATE TABLE drafts (id BLOB PRIMARY KEY, author TEXT REFERENCES users ON DELETE RESTRICT)"],
    insert: `INSERT INTO drafts VALUES (x'${uuid}', 'u1')`,
    table: "drafts",
    key: `{"id":"${uuid}"}`
  },
  {
    says: "no primary key",
    ddl: ["CREATE TABLE drafts (author TEXT REFERENCES users)"],
    insert: "INSERT INTO drafts (rowid, author) VALUES (7, 'u1')",
    table: "drafts",
    key: "{\"rowid\":7}"
  },
  {
    says: "a key of two columns and no rowid",
    ddl: ["CREATE TABLE drafts (a TEXT, b INTEGER, author TEXT REFERENCES users, PRIMARY KEY (b, a)) WITHOUT ROWID"],
    insert: "INSERT INTO drafts VALUES ('a', 1, 'u1')",
    table: "drafts",
    key: "{\"b\":1,\"a\":\"a\"}"
  },
  {
    says: "behind another table of the host, which goes with its user",
    ddl: [
      "CREATE TABLE folders (a TEXT, b TEXT, author TEXT REFERENCES users ON DELETE CASCADE, PRIMARY KEY (a, b))",
      "CREATE TABLE drafts (id TEXT PRIMARY KEY, a TEXT, b TEXT, FOREIGN KEY (a, b) REFERENCES folders)"
    ],
    insert: "INSERT INTO folders VALUES ('a', 'b', 'u1'); INSERT INTO drafts VALUES ('d1', 'a', 'b')",
    table: "drafts",
    key: "{\"id\":\"d1\"}"
  }
]

const person = (id: string) => ({ table: "users", key: id, payload: { name: id, email: null, score: 1 } })

/** A device whose drafts hold on to a user. */
const holding = (one: Pick<Case, "ddl" | "insert">) =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    yield* world.write([person("u1"), person("stays")])
    const a = yield* world.attached({ ddl: [...ddl, ...one.ddl], retryPolicy: { enabled: false } })
    for (const statement of one.insert.split("; ")) yield* a.run(statement)
    return { world, a }
  })

describe("a row of the host's own tables refers to a row that the server deletes [pull.md §4.2, recovery.md §10]", () => {
  for (const one of cases) {
    it.scoped(`${one.says}: sync and rebuild name it, and go on when the host has removed it`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* holding(one)
        yield* world.write([{ table: "users", key: "u1", payload: null }])
        const named = {
          _tag: "LocalDataError",
          code: "local_constraint",
          row: { schema: "business", table: one.table, key: one.key }
        }
        yield* failsWith(a.sync.sync, named)
        yield* failsWith(a.sync.rebuild, named)
        yield* failsWith(a.sync.detach, { _tag: "LocalDataError", code: "local_constraint", operation: "detach" })
        yield* checkInvariants(a)
        yield* a.run("DELETE FROM drafts")
        yield* a.sync.sync
        assert.deepStrictEqual((yield* contents(a))["users"]?.map((row) => row["id"]), ["stays"])
        yield* checkInvariants(a)
      }))
  }

  it.scoped("a row that the server brings back later: pulled in one group, nothing is refused", () =>
    Effect.gen(function*() {
      const { a, world } = yield* holding({
        ddl: ["CREATE TABLE drafts (id TEXT PRIMARY KEY, author TEXT REFERENCES users (id))"],
        insert: "INSERT INTO drafts VALUES ('d1', 'u1')"
      })
      const b = yield* world.replaced(a, { applyRows: 1, retryPolicy: { enabled: false } })
      yield* b.sync.open
      yield* b.sync.attach("ann")
      yield* world.write([{ table: "users", key: "u1", payload: null }])
      yield* world.write([person("u1")])
      yield* b.sync.pullToStable
      assert.deepStrictEqual((yield* contents(b))["users"]?.length, 2)
      yield* checkInvariants(b)
    }))

  it.scoped("a table that left the configuration: the snapshot that takes its rows away helps", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const schema = ddl.map((statement) => statement.replace(" ON DELETE CASCADE", ""))
      const a = yield* world.attached({ ddl: schema })
      yield* a.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      yield* a.run("INSERT INTO posts VALUES ('p1', 'Post', 'u1')")
      yield* a.sync.sync
      const fewer = yield* world.restarted(a, {
        tables: tables.filter(({ name }) => name !== "posts"),
        unknownTables: "ignore"
      })
      yield* world.write([{ table: "posts", key: "p1", payload: null }, { table: "users", key: "u1", payload: null }])
      const report = yield* fewer.sync.pullToStable
      assert.strictEqual(report.outcome, "applied_snapshot")
      assert.deepStrictEqual((yield* contents(fewer))["users"], [])
    }))
})
