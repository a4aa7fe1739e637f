/** Tables and columns of the host that bear names which the engine's own SQL uses (capture.md §2). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import { dirty } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { contents, makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const sources = ["src/storage", "src/engine"].flatMap((folder) =>
  fs.readdirSync(folder).map((file) => fs.readFileSync(`${folder}/${file}`, "utf8"))
)

/** Every alias, every table of a WITH clause, and what SQLite itself gives a name. */
const aliases: ReadonlyArray<string> = [
  ...new Set([
    ...sources.flatMap((source) =>
      [...source.matchAll(/\b(?:AS|WITH|WITH RECURSIVE) "?([a-z]\w*)/g)].map((match) => (match[1] ?? "").toLowerCase())
    ),
    "excluded",
    "false",
    "new",
    "old",
    "true",
    "wanted"
  ])
].filter((name) => !name.startsWith("_")).sort()

const columnsOfEngine = ({ run }: Device) =>
  Effect.map(
    run(
      `SELECT DISTINCT lower(c.name) AS name FROM pragma_table_list AS l, pragma_table_xinfo(l.name, l.schema) AS c
        WHERE l.name LIKE '\\_sync\\_%' ESCAPE '\\' OR l.name = 'json_each' ORDER BY 1`
    ),
    (rows) => rows.map((row) => String(row["name"]))
  )

const quoted = (names: ReadonlyArray<string>): string => names.map((name) => `"${name}"`).join(", ")

const declare = (table: string) => ({ schema: "business", table, key: { column: "id", kind: "text" as const } })

const retryNothing = { retryPolicy: { enabled: false } }

/** Until both have what the server has. */
const converge = (world: World, a: Device, b: Device, tables: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    for (const device of [a, b, a, b]) yield* device.sync.sync
    const expected = yield* contents(a, tables)
    assert.deepStrictEqual(yield* contents(b, tables), expected)
    const onServer = yield* world.serverRows
    for (const table of tables) {
      const rows = (expected[table] ?? []).map((row) => [row["id"], row])
      const known = [...onServer].filter(([key]) => key.startsWith(`${table} `)).map(([, row]) => row)
      const byId = known.map((row) => [(row as Record<string, unknown>)["id"], row]).sort()
      assert.deepStrictEqual(byId, rows, table)
    }
    yield* checkInvariants(a)
    yield* checkInvariants(b)
    return expected
  })

describe("columns of a table bear the names of the engine's SQL [capture.md §2]", () => {
  /** A table with these columns goes through all that the engine does with a row. */
  const goThrough = (names: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared: [declare("things")] })
      const ddl = [`CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, ${quoted(names)})`]
      const options = { ...retryNothing, ddl, tables: [{ name: "things", key: "id" }] }
      const insert = (id: string, value: string) =>
        `INSERT INTO things (id, ${quoted(names)}) VALUES ('${id}', ${names.map(() => value).join(", ")})`
      const update = (id: string, value: string) =>
        `UPDATE things SET ${names.map((name) => `"${name}" = ${value}`).join(", ")} WHERE id = '${id}'`
      const values = ["NULL", "0", "1", "''", "'text'", "'{}'"]

      const a = yield* world.device(options)
      for (const [index, value] of values.entries()) yield* a.run(insert(`r${index}`, value))
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* a.sync.pushPending
      const b = yield* world.attached(options)
      const first = yield* converge(world, a, b, ["things"])
      assert.strictEqual(first["things"]?.length, values.length)

      for (const [index] of values.entries()) yield* b.run(update(`r${index}`, values[(index + 1) % 6] ?? ""))
      yield* b.run("DELETE FROM things WHERE id = 'r5'")
      yield* converge(world, a, b, ["things"])

      // A conflict of every row, one of them about a deletion.
      for (const [index] of values.entries()) {
        yield* a.run(update(`r${index}`, values[(index + 2) % 6] ?? ""))
        yield* b.run(update(`r${index}`, values[(index + 3) % 6] ?? ""))
      }
      yield* a.run("DELETE FROM things WHERE id = 'r4'")
      yield* converge(world, a, b, ["things"])

      yield* a.run(update("r0", "'pending'"))
      yield* a.run(insert("new", "0"))
      yield* a.run("DELETE FROM things WHERE id = 'r1'")
      const report = yield* a.sync.rebuild
      assert.strictEqual(report.localRows?.kept, 3)
      const last = yield* converge(world, a, b, ["things"])
      assert.deepStrictEqual(last["things"]?.map((row) => row["id"]), ["new", "r0", "r2", "r3"])
      const [pending] = last["things"]?.filter((row) => row["id"] === "r0") ?? []
      assert.deepStrictEqual(new Set(Object.values(pending ?? {})), new Set(["r0", "pending"]))
    })

  it.scoped("a column `problem`", () => goThrough(["problem"]))

  it.scoped("columns `true` and `false`", () => goThrough(["true", "false"]))

  it.scoped("columns that hide the rowid", () => goThrough(["rowid", "_rowid_", "oid"]))

  it.scoped("every column of the engine's tables and every alias", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const names = yield* columnsOfEngine(yield* world.attached())
      yield* goThrough([...new Set([...names, ...aliases])].filter((name) => name !== "id"))
    }))

  it.scoped("a column `true`: rows that were there before are all captured, whatever it holds [capture.md §8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device({
        ddl: [`CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, "true")`],
        tables: [{ name: "things", key: "id" }]
      })
      yield* a.run("INSERT INTO things VALUES ('a', NULL), ('b', 0), ('c', ''), ('d', 1)")
      yield* a.sync.open
      assert.strictEqual((yield* dirty(a)).length, 4)
    }))
})

describe("a table bears a name of the engine's SQL [capture.md §2]", () => {
  const goThrough = (names: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared: names.map(declare) })
      const options = {
        ...retryNothing,
        ddl: names.map((name) =>
          `CREATE TABLE "${name}" (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, body TEXT UNIQUE)`
        ),
        tables: names.map((name) => ({ name, key: "id" }))
      }
      const each = (device: Device, statement: (table: string) => string) =>
        Effect.forEach(names, (name) => device.run(statement(`"${name}"`)), { discard: true })
      const set = (id: string, body: string) => (table: string) =>
        `UPDATE ${table} SET body = ${body} WHERE id = '${id}'`

      const a = yield* world.device(options)
      yield* each(a, (table) => `INSERT INTO ${table} VALUES ('Ann', 'one'), ('Bob', 'two'), ('Cid', 'three')`)
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* a.sync.pushPending
      const b = yield* world.attached(options)
      yield* converge(world, a, b, names)

      yield* each(b, set("Ann", "NULL"))
      yield* each(b, set("Bob", "'one'"))
      yield* each(b, set("Ann", "'two'"))
      yield* each(b, (table) => `DELETE FROM ${table} WHERE id = 'Cid'`)
      const swapped = yield* converge(world, a, b, names)
      for (const name of names) {
        assert.deepStrictEqual(swapped[name], [{ id: "Ann", body: "two" }, { id: "Bob", body: "one" }], name)
      }

      yield* each(b, set("Ann", "'aside'"))
      yield* b.sync.sync
      yield* each(a, set("Bob", "'four'"))
      yield* each(a, (table) => `INSERT INTO ${table} VALUES ('Dan', 'one')`)
      yield* a.sync.rebuild
      const rebuilt = yield* converge(world, a, b, names)
      for (const name of names) {
        assert.deepStrictEqual(
          rebuilt[name],
          [{ id: "Ann", body: "aside" }, { id: "Bob", body: "four" }, { id: "Dan", body: "one" }],
          name
        )
      }
    })

  it.scoped("a table `frozen`", () => goThrough(["frozen"]))

  it.scoped("a table `wanted` with a key that ignores case", () => goThrough(["wanted"]))

  it.scoped("a table `excluded`", () => goThrough(["excluded"]))

  it.scoped("every alias", () => goThrough(aliases))
})
