/** Applying a staged snapshot: what the property of PendingWork does not see (pull.md §6). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { clientWins } from "oversqlite"
import type { TableDeclaration } from "oversqlite/server"
import { onFile, temporaryFile } from "../storage/support/database.js"
import { dirty, dump, rowState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, before } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { snapshotAnswer } from "./support/Scripted.js"
import { contents, makeWorld } from "./support/World.js"
import type { DeviceOptions, World } from "./support/World.js"

/** An account with authors, their books with unique numbers, and the reviews of these. */
const ddl = [
  "CREATE TABLE authors (id TEXT PRIMARY KEY NOT NULL, name TEXT, email TEXT UNIQUE)",
  `CREATE TABLE books (id TEXT PRIMARY KEY NOT NULL, title TEXT, number INTEGER NOT NULL UNIQUE,
     author TEXT REFERENCES authors (id) ON DELETE CASCADE)`,
  "CREATE TABLE reviews (id TEXT PRIMARY KEY NOT NULL, text TEXT, book TEXT REFERENCES books (id) ON DELETE SET NULL)",
  "CREATE TABLE loans (id TEXT PRIMARY KEY NOT NULL, book TEXT NOT NULL REFERENCES books (id)) WITHOUT ROWID"
]

const names = ["authors", "books", "reviews", "loans"]

const tables = names.map((name) => ({ name, key: "id" }))

const key = { column: "id", kind: "text" } as const

const declared: ReadonlyArray<TableDeclaration> = [
  { schema: "business", table: "authors", key },
  {
    schema: "business",
    table: "books",
    key,
    references: [{ column: "author", table: "authors", onDelete: "cascade" }]
  },
  { schema: "business", table: "reviews", key, references: [{ column: "book", table: "books", onDelete: "set null" }] },
  { schema: "business", table: "loans", key }
]

const author = (id: string, email: string | null = null) => ({
  table: "authors",
  key: id,
  payload: { name: id, email }
})
const book = (id: string, number: number, by: string | null) => ({
  table: "books",
  key: id,
  payload: { title: id, number, author: by }
})
const review = (id: string, of: string | null) => ({ table: "reviews", key: id, payload: { text: id, book: of } })
const loan = (id: string, of: string) => ({ table: "loans", key: id, payload: { book: of } })
const gone = (table: string, id: string) => ({ table, key: id, payload: null })

const library = (options: DeviceOptions = {}) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared })
    yield* world.write([
      author("a1", "1@x"),
      author("a2", "2@x"),
      book("b1", 1, "a1"),
      book("b2", 2, "a2"),
      review("r1", "b1"),
      loan("l1", "b2")
    ])
    const a = yield* world.attached({ ddl, tables, ...options })
    return { world, a }
  })

/** After its work the device is in order, and its work reaches the server: a fresh device sees the same. */
const arrives = (world: World, a: Device) =>
  Effect.gen(function*() {
    yield* checkInvariants(a)
    const wanted = yield* contents(a, names)
    yield* a.sync.sync
    yield* checkInvariants(a)
    assert.deepStrictEqual(yield* contents(a, names), wanted)
    const fresh = yield* world.attached({ ddl, tables })
    assert.deepStrictEqual(yield* contents(fresh, names), wanted)
  })

describe("pending rows meet the snapshot's other rows [pull.md §6.3]", () => {
  it.scoped("unique values that kept rows have swapped among themselves", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* a.run("UPDATE authors SET email = NULL")
      yield* a.run("UPDATE authors SET email = CASE id WHEN 'a1' THEN '2@x' ELSE '1@x' END")
      yield* a.run("UPDATE books SET number = -number")
      yield* a.run("UPDATE books SET number = 3 + number")
      yield* world.write([author("a3", "3@x"), book("b3", 3, "a3")])
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(report.localRows, { kept: 4, identical: 0, discarded: 0, recovered: 0 })
      assert.deepStrictEqual(yield* a.run("SELECT id, email FROM authors ORDER BY id"), [
        { id: "a1", email: "2@x" },
        { id: "a2", email: "1@x" },
        { id: "a3", email: "3@x" }
      ])
      yield* arrives(world, a)
    }))

  it.scoped("a new row that took over a value of a row which gave it up here", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* a.run("UPDATE authors SET email = 'new@x' WHERE id = 'a1'")
      yield* a.run("INSERT INTO authors VALUES ('mine', 'Mine', '1@x')")
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* dirty(a), ["UPDATE authors a1 base 1", "INSERT authors mine base 0"])
      yield* arrives(world, a)
    }))

  it.scoped("a row that was deleted here stays deleted, and takes the snapshot's new children along", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* a.run("DELETE FROM authors WHERE id = 'a1'")
      yield* world.write([book("b3", 3, "a1"), review("r2", "b3"), author("a3")])
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* a.run("SELECT id FROM books"), [{ id: "b2" }])
      // What the cascade did to rows of the snapshot is captured like any host write.
      assert.deepStrictEqual(yield* dirty(a), [
        "UPDATE reviews r1 base 1",
        "DELETE books b1 base 1",
        "DELETE authors a1 base 1",
        "UPDATE reviews r2 base 2",
        "DELETE books b3 base 2"
      ])
      yield* arrives(world, a)
    }))

  it.scoped("a row whose parent was deleted elsewhere is named, and nothing is changed; correcting it leads on", () =>
    Effect.gen(function*() {
      for (const changed of ["a new child", "an old child"]) {
        // The server has a tombstone of the old child; that it is to live on has to be said.
        const { a, world } = yield* library({ resolver: clientWins })
        yield* a.run(
          changed === "a new child"
            ? "INSERT INTO books VALUES ('mine', 'Mine', 7, 'a1')"
            : "UPDATE books SET title = 'Mine' WHERE id = 'b1'"
        )
        yield* world.write([gone("authors", "a1")])
        const was = yield* dump(a, ["_sync_snapshot_stage"])
        const bookId = changed === "a new child" ? "mine" : "b1"
        yield* failsWith(a.sync.rebuild, {
          _tag: "LocalDataError",
          code: "local_constraint",
          row: { schema: "business", table: "books", key: `{"id":"${bookId}"}` },
          action: "fix_data"
        })
        assert.deepStrictEqual(yield* dump(a, ["_sync_snapshot_stage"]), was)
        yield* checkInvariants(a)
        yield* a.run("UPDATE books SET author = NULL WHERE id = ?", [bookId])
        yield* a.sync.rebuild
        assert.deepStrictEqual(yield* a.run("SELECT author FROM books WHERE id = ?", [bookId]), [{ author: null }])
        yield* arrives(world, a)
      }
    }))

  it.scoped("so is a child in a table without rowid", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* a.run("INSERT INTO loans VALUES ('mine', 'b1')")
      yield* world.write([gone("books", "b1")])
      yield* failsWith(a.sync.rebuild, {
        _tag: "LocalDataError",
        code: "local_constraint",
        row: { schema: "business", table: "loans", key: `{"id":"mine"}` }
      })
      yield* checkInvariants(a)
      yield* a.run("DELETE FROM loans WHERE id = 'mine'")
      yield* a.sync.rebuild
      yield* arrives(world, a)
    }))

  it.scoped("a row that was deleted here while the server got a child of it: the deletion is named, not the stranger", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* a.run("DELETE FROM books WHERE id = 'b1'")
      yield* world.write([loan("theirs", "b1")])
      yield* failsWith(a.sync.rebuild, {
        _tag: "LocalDataError",
        code: "local_constraint",
        row: { schema: "business", table: "books", key: `{"id":"b1"}` }
      })
      yield* checkInvariants(a)
      yield* a.run("INSERT INTO books VALUES ('b1', 'b1', 1, 'a1')")
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* a.run("SELECT id FROM loans ORDER BY id"), [{ id: "l1" }, { id: "theirs" }])
      yield* arrives(world, a)
    }))

  it.scoped("a value that a row of the snapshot has taken meanwhile: the kept row is named", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* a.run("INSERT INTO authors VALUES ('mine', 'Mine', 'new@x')")
      yield* world.write([author("a9", "new@x")])
      const was = yield* dump(a, ["_sync_snapshot_stage"])
      yield* failsWith(a.sync.rebuild, {
        _tag: "LocalDataError",
        code: "local_constraint",
        row: { schema: "business", table: "authors", key: `{"id":"mine"}` }
      })
      assert.deepStrictEqual(yield* dump(a, ["_sync_snapshot_stage"]), was)
      yield* checkInvariants(a)
      yield* a.run("UPDATE authors SET email = 'other@x' WHERE id = 'mine'")
      yield* a.sync.rebuild
      yield* arrives(world, a)
    }))

  it.scoped("the row is found among many", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* a.run(
        `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO authors SELECT 'n' || i, 'N', i || '@new' FROM n`
      )
      yield* world.write([author("a9", "371@new")])
      yield* failsWith(a.sync.rebuild, {
        _tag: "LocalDataError",
        row: { schema: "business", table: "authors", key: `{"id":"n371"}` }
      })
      yield* checkInvariants(a)
    }))
})

describe("host writes during the download [pull.md §6.2]", () => {
  const edit = (run: Device["run"]) =>
    Effect.gen(function*() {
      yield* run("UPDATE authors SET name = 'Edited' WHERE id = 'a1'")
      yield* run("INSERT INTO authors VALUES ('mine', 'Mine', NULL)")
      yield* run("DELETE FROM loans WHERE id = 'l1'")
    })
  const kept = ["UPDATE authors a1 base 1", "INSERT authors mine base 0", "DELETE loans l1 base 1"]

  it.scoped("through the same connection are kept", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* world.write([author("a3")])
      yield* world.network.fault("snapshot chunk", after(edit(a.run)))
      assert.strictEqual((yield* a.sync.rebuild).localRows?.kept, 3)
      assert.deepStrictEqual(yield* dirty(a), kept)
      yield* arrives(world, a)
    }))

  it.scoped("through a second connection are kept", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const { a, world } = yield* library({ filename })
      const host = yield* onFile(filename)
      yield* world.write([author("a3")])
      yield* world.network.fault(
        "snapshot chunk",
        after(edit((text, parameters) => Effect.orDie(host.unsafe(text, parameters))))
      )
      assert.strictEqual((yield* a.sync.rebuild).localRows?.kept, 3)
      assert.deepStrictEqual(yield* dirty(a), kept)
      yield* arrives(world, a)
    }))

  it.scoped("between two chunks, with slices of one row", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library({ snapshotChunkRows: 1, applyRows: 1 })
      yield* world.network.fault("snapshot chunk", (_, ask) => ask, 3)
      yield* world.network.fault("snapshot chunk", before(edit(a.run)))
      assert.strictEqual((yield* a.sync.rebuild).localRows?.kept, 3)
      assert.deepStrictEqual(yield* dirty(a), kept)
      yield* arrives(world, a)
    }))
})

describe("clearing [pull.md §6.1, client-state.md quirk 5]", () => {
  it.scoped("tables that left the configuration are cleared too, whatever the case of their name", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      yield* world.write([author("a1"), book("b1", 1, "a1"), loan("l1", "b1")])
      const mixed = ddl.map((text) => text.replace("TABLE loans", "TABLE \"Loans\""))
      const a = yield* world.attached({ ddl: mixed, tables })
      assert.strictEqual((yield* a.run("SELECT * FROM loans")).length, 1)
      const less = yield* world.restarted(a, { ddl: [], tables: tables.slice(0, 3), unknownTables: "ignore" })
      assert.strictEqual((yield* less.run("SELECT * FROM loans")).length, 1)
      yield* less.sync.rebuild
      assert.strictEqual((yield* less.run("SELECT * FROM loans")).length, 0)
      assert.deepStrictEqual(yield* less.run("SELECT DISTINCT table_name FROM _sync_row_state ORDER BY 1"), [
        { table_name: "authors" },
        { table_name: "books" }
      ])
      yield* checkInvariants(less)
    }))

  it.scoped("a registered table that was dropped is no obstacle", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* a.sync.close
      yield* a.run("DROP TABLE loans")
      const less = yield* world.restarted(a, { ddl: [], tables: tables.slice(0, 3), unknownTables: "ignore" })
      yield* less.sync.rebuild
      yield* checkInvariants(less)
    }))
})

describe("the announced count [pull.md §6 step 5]", () => {
  const payload = `{"id":"a1","name":"x","email":null}`
  const row = { table: "authors", key: `{"id":"a1"}`, payload }

  it.scoped("a row twice is not the announced number of rows", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      const was = yield* dump(a, ["_sync_snapshot_stage", "_sync_attachment_state"])
      yield* snapshotAnswer(world.network, [row, row], 2)
      yield* failsWith(a.sync.rebuild, {
        _tag: "ProtocolError",
        rule: "count_mismatch",
        request: "snapshot_chunk_fetch"
      })
      assert.deepStrictEqual(yield* dump(a, ["_sync_snapshot_stage", "_sync_attachment_state"]), was)
      yield* checkInvariants(a)
    }))

  it.scoped("an empty snapshot empties the tables", () =>
    Effect.gen(function*() {
      const { a, world } = yield* library()
      yield* snapshotAnswer(world.network, [], 2)
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(report.restore, { bundleSeq: 2, rowCount: 0 })
      assert.deepStrictEqual(yield* rowState(a), {})
      assert.deepStrictEqual(yield* a.run("SELECT * FROM authors"), [])
      yield* checkInvariants(a)
    }))
})
