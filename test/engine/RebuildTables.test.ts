/** A rebuild by the shape of the tables: tables that left the configuration, columns with awkward names, NULL keys. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { TableDeclaration } from "oversqlite/server"
import { checkInvariants } from "./support/Invariants.js"
import { failsWith } from "./support/Outcome.js"
import { contents, makeWorld } from "./support/World.js"

const once = { retryPolicy: { enabled: false } }

const insertUser = (id: string) => `INSERT INTO users VALUES ('${id}', 'Ann', NULL, 1)`

describe("a table that left the configuration [pull.md §6.4, capture.md §10]", () => {
  it.scoped("has nothing recovered from a server that has gone back, because nobody could push it", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const first = yield* world.attached(once)
      yield* first.run(insertUser("x"))
      yield* first.sync.sync
      const backup = yield* world.backup
      yield* first.run(insertUser("y"))
      yield* first.run("INSERT INTO files VALUES (x'000102030405060708090a0b0c0d0e0f', 'f', x'00')")
      yield* first.sync.sync
      const a = yield* world.restarted(first, {
        ...once,
        tables: [{ name: "users", key: "id" }, { name: "posts", key: "id" }]
      })
      yield* world.restore(backup, { renewHistory: true })
      assert.strictEqual((yield* Effect.either(a.sync.sync))._tag, "Left")
      const { localRows } = yield* a.sync.rebuild
      assert.deepStrictEqual(localRows, { kept: 0, identical: 0, discarded: 0, recovered: 1 })
      yield* checkInvariants(a, { historyWentBack: true })
      yield* a.sync.sync
      assert.deepStrictEqual([...(yield* world.serverRows).keys()].sort(), ["users x", "users y"])
      yield* world.restarted(a, { ...once, tables: [{ name: "users", key: "id" }, { name: "posts", key: "id" }] })
    }))
})

const declared: ReadonlyArray<TableDeclaration> = [
  { schema: "business", table: "notes", key: { column: "id", kind: "text" } }
]

describe("a column that hides the rowid [pull.md §6.3, payload-codec.md §9.3]", () => {
  for (const columns of [["rowid"], ["_rowid_"], ["oid"], ["rowid", "_rowid_", "oid"]]) {
    const notes = {
      ...once,
      tables: [{ name: "notes", key: "id" }],
      ddl: [
        `CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, place INTEGER NOT NULL UNIQUE,
           ${columns.map((name) => `${name} INTEGER`).join(", ")}) STRICT`
      ]
    }
    const [first] = columns
    const insert = (id: string, place: number, value: number) =>
      `INSERT INTO notes (id, place, ${columns.join(", ")})
       VALUES ('${id}', ${place}, ${columns.map(() => value).join(", ")})`
    const title = columns.join(", ")

    it.scoped(`keeps pending rows: ${title}`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld({ declared })
        const a = yield* world.attached(notes)
        yield* a.run(insert("n1", 1, -1))
        yield* a.run(insert("n2", 2, -1))
        yield* a.sync.sync
        yield* a.run(`UPDATE notes SET ${first} = -2 WHERE id = 'n1'`)
        yield* a.run(insert("n3", 3, -3))
        const { localRows } = yield* a.sync.rebuild
        assert.deepStrictEqual(localRows, { kept: 2, identical: 0, discarded: 0, recovered: 0 })
        assert.deepStrictEqual(
          (yield* a.run(`SELECT id || ' ' || ${first} AS note FROM notes ORDER BY id`)).map(({ note }) => note),
          ["n1 -2", "n2 -1", "n3 -3"]
        )
        yield* checkInvariants(a)
      }))

    it.scoped(`names the pending row that contradicts the snapshot: ${title}`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld({ declared })
        const a = yield* world.attached(notes)
        yield* a.run(insert("n1", 1, -1))
        yield* a.run(insert("n2", 2, -1))
        const payload = { place: 2, ...Object.fromEntries(columns.map((name) => [name, -9])) }
        yield* world.write([{ table: "notes", key: "n9", payload }])
        yield* failsWith(a.sync.rebuild, {
          _tag: "LocalDataError",
          code: "local_constraint",
          row: { schema: "business", table: "notes", key: "{\"id\":\"n2\"}" }
        })
      }))

    // Three such columns leave no place to set a value aside.
    if (columns.length === 3) continue
    it.scoped(`lets unique values swap: ${title}`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld({ declared })
        const a = yield* world.attached(notes)
        yield* a.run(insert("n1", 1, 7))
        yield* a.run(insert("n2", 2, 7))
        yield* a.sync.sync
        const swapped = (id: string, place: number) => ({
          table: "notes",
          key: id,
          payload: { place, ...Object.fromEntries(columns.map((name) => [name, 8])) }
        })
        yield* world.write([swapped("n1", 2), swapped("n2", 1)])
        assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
        assert.deepStrictEqual(
          (yield* a.run("SELECT place FROM notes ORDER BY id")).map(({ place }) => place),
          [2, 1]
        )
      }))
  }
})

describe("a row whose key is NULL [pull.md §6.3, push.md §3]", () => {
  const loose = {
    ...once,
    tables: [{ name: "notes", key: "id" }],
    // Triggers refuse such a row: it was there before them.
    ddl: ["CREATE TABLE notes (id TEXT PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (NULL, 'mine')"]
  }
  const refused = {
    _tag: "LocalDataError",
    code: "key_not_text",
    row: { schema: "business", table: "notes", key: "{\"id\":null}" },
    column: "id",
    action: "fix_data"
  }

  /** An account with a note, and a device with a note without a key. */
  const before = Effect.gen(function*() {
    const world = yield* makeWorld({ declared })
    yield* world.write([{ table: "notes", key: "n1", payload: { body: "theirs" } }])
    const a = yield* world.device(loose)
    yield* a.sync.open
    return { world, a }
  })

  it.scoped("is not lost by an attach: it is named, nothing changes, and corrected it goes up", () =>
    Effect.gen(function*() {
      const { a, world } = yield* before
      const untouched = yield* contents(a, ["notes", "_sync_dirty_rows"])
      yield* failsWith(a.sync.attach("ann"), refused)
      assert.deepStrictEqual(yield* contents(a, ["notes", "_sync_dirty_rows"]), untouched)
      yield* a.run("UPDATE notes SET id = 'n2' WHERE id IS NULL")
      yield* a.sync.attach("ann")
      yield* a.sync.sync
      assert.deepStrictEqual([...(yield* world.serverRows).keys()].sort(), ["notes n1", "notes n2"])
      yield* checkInvariants(a)
    }))

  it.scoped("does not stop an attach that replaces local rows", () =>
    Effect.gen(function*() {
      const { a } = yield* before
      yield* a.sync.attach("ann", { localRows: "replace" })
      assert.deepStrictEqual(yield* a.run("SELECT * FROM notes"), [{ id: "n1", body: "theirs" }])
    }))

  it.scoped("is not lost by a rebuild: it is named, nothing changes, and without it the rebuild succeeds", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      const first = yield* world.attached({ ...loose, tables: [] })
      yield* world.write([{ table: "notes", key: "n1", payload: { body: "theirs" } }])
      const a = yield* world.restarted(first, loose)
      const untouched = yield* contents(a, ["notes", "_sync_dirty_rows"])
      yield* failsWith(a.sync.rebuild, refused)
      assert.deepStrictEqual(yield* contents(a, ["notes", "_sync_dirty_rows"]), untouched)
      yield* a.run("DELETE FROM notes WHERE id IS NULL")
      yield* a.sync.rebuild
      yield* a.sync.sync
      assert.deepStrictEqual(yield* a.run("SELECT * FROM notes"), [{ id: "n1", body: "theirs" }])
      yield* checkInvariants(a)
    }))
})
