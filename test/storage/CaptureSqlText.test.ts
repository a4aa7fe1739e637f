import type { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import * as SqlText from "../../src/storage/SqlText.js"
import type { SyncTable } from "../../src/storage/SyncTable.js"
import { memory, script } from "./support/database.js"
import { installing, tableOf } from "./support/install.js"

const prepared = (ddl: ReadonlyArray<string>, name = "t") =>
  Effect.gen(function*() {
    const sql = yield* memory
    yield* script(sql, ddl)
    const table = tableOf(yield* installing(sql, [name, ...(name === "t" ? [] : ["t"])]), name)
    return { sql, table }
  })

const selecting = (sql: SqlClient.SqlClient, expression: string, from = "", parameters: ReadonlyArray<string> = []) =>
  Effect.map(
    sql.unsafe<{ readonly value: unknown }>(`SELECT ${expression} AS value ${from}`, parameters),
    ([row]) => row?.value
  )

/** Every row of the table as the engine serialises it. */
const serialised = (sql: SqlClient.SqlClient, table: SyncTable) =>
  Effect.map(
    sql.unsafe<{ readonly value: string }>(`SELECT ${SqlText.localObject(table, "t")} AS value FROM t ORDER BY t.id`),
    (rows) => rows.map(({ value }) => value)
  )

describe("quoting", () => {
  it("of identifiers, literals and paths", () => {
    assert.strictEqual(SqlText.identifier("order"), "\"order\"")
    assert.strictEqual(SqlText.identifier("a\"b"), "\"a\"\"b\"")
    assert.strictEqual(SqlText.literal("it's"), "'it''s'")
    assert.strictEqual(SqlText.path("order"), "'$.\"order\"'")
  })
})

describe("localObject [payload-codec.md §2, §3]", () => {
  const values: ReadonlyArray<readonly [says: string, column: string, value: string, json: string]> = [
    ["NULL", "n INTEGER", "NULL", "null"],
    ["the largest integer", "n INTEGER", "9223372036854775807", "9223372036854775807"],
    ["the smallest integer", "n INTEGER", "-9223372036854775807 - 1", "-9223372036854775808"],
    ["an integer beyond 2^53 in an untyped column", "n", "9007199254740993", "9007199254740993"],
    ["a real that needs 17 digits", "n REAL", "0.1 + 0.2", "0.30000000000000004"],
    ["a real without fraction", "n REAL", "5", "5.0"],
    ["a large real", "n REAL", "1e300", "1.0e+300"],
    ["text", "n TEXT", "'Zoë \"q\" \\ /'", "\"Zoë \\\"q\\\" \\\\ /\""],
    ["text that looks like JSON", "n TEXT", "'{\"a\":1}'", "\"{\\\"a\\\":1}\""],
    ["text with control characters", "n TEXT", "char(1, 8, 9, 10, 12, 13, 31)", "\"\\u0001\\b\\t\\n\\f\\r\\u001f\""],
    ["the word Inf in a TEXT column", "n TEXT", "'Inf'", "\"Inf\""],
    ["a blob", "n BLOB", "x'00FF10'", "\"00ff10\""],
    ["an empty blob", "n BLOB", "x''", "\"\""],
    ["NULL in a blob column", "n BLOB", "NULL", "null"],
    ["text in a blob column", "n BLOB", "'Ab'", "\"4162\""],
    ["a number in a blob column", "n BLOB", "12", "\"3132\""],
    ["text in an INTEGER column", "n INTEGER", "'abc'", "\"abc\""],
    ["BOOLEAN", "n BOOLEAN", "true", "1"],
    ["DATETIME as the text it is", "n DATETIME", "'2026-03-24 18:42:11'", "\"2026-03-24 18:42:11\""]
  ]
  for (const [says, column, value, json] of values) {
    it.scoped(`writes ${says}`, () =>
      Effect.gen(function*() {
        const { sql, table } = yield* prepared([`CREATE TABLE t (id TEXT PRIMARY KEY, ${column})`])
        yield* sql.unsafe(`INSERT INTO t VALUES ('k', ${value})`)
        assert.deepStrictEqual(yield* serialised(sql, table), [`{"id":"k","n":${json}}`])
      }))
  }

  it.scoped("writes blob keys and blob references as hex, members in declaration order and lowercase", () =>
    Effect.gen(function*() {
      const { sql, table } = yield* prepared([
        "CREATE TABLE t (\"B\" TEXT, \"Up\" BLOB REFERENCES t (\"ID\"), \"ID\" BLOB PRIMARY KEY, \"order\" INT)"
      ])
      yield* sql.unsafe(`INSERT INTO t VALUES ('x', x'${"0a".repeat(16)}', x'${"0A".repeat(16)}', 1)`)
      assert.deepStrictEqual(yield* serialised(sql, table), [
        `{"b":"x","up":"${"0a".repeat(16)}","id":"${"0a".repeat(16)}","order":1}`
      ])
    }))

  for (const width of [49, 50, 63, 64, 98, 99, 100, 127, 128, 200]) {
    it.scoped(`writes ${width} columns, NULL members included, as one json_object would`, () =>
      Effect.gen(function*() {
        const columns = Array.from({ length: width - 1 }, (_, n) => `c${n}`)
        const { sql, table } = yield* prepared([`CREATE TABLE t (id TEXT PRIMARY KEY, ${columns.join(", ")})`])
        const kinds: ReadonlyArray<readonly [string, unknown]> = [
          ["NULL", null],
          ["9223372036854775807", 9223372036854775807n],
          ["'a\"\\' || char(10) || 'ü'", "a\"\\\nü"],
          ["0.1 + 0.2", 0.30000000000000004],
          ["''", ""]
        ]
        yield* sql.unsafe(
          `INSERT INTO t VALUES ('k', ${columns.map((_, n) => kinds[n % kinds.length]?.[0]).join(", ")})`
        )
        const json = (value: unknown) => typeof value === "bigint" ? String(value) : JSON.stringify(value)
        assert.deepStrictEqual(yield* serialised(sql, table), [
          `{"id":"k",${columns.map((name, n) => `"${name}":${json(kinds[n % kinds.length]?.[1])}`).join(",")}}`
        ])
        const calls = SqlText.localObject(table, "t").split(/json_(?:object|insert)\(/)
        assert.strictEqual(calls.length - 1, Math.ceil(width / 49), "no call has more than 99 arguments")
      }))
  }

  it.scoped("writes in triggers what it writes in a SELECT, for 200 columns", () =>
    Effect.gen(function*() {
      const columns = Array.from({ length: 199 }, (_, n) => `c${n} ${["TEXT", "INT", "REAL", "BLOB"][n % 4]}`)
      const { sql, table } = yield* prepared([`CREATE TABLE t (id TEXT PRIMARY KEY, ${columns.join(", ")})`])
      yield* sql`INSERT INTO t (id, c0, c1, c2, c3, c198) VALUES ('k', 'x', 1, 1.5, x'ff', 2)`
      yield* sql`UPDATE t SET c197 = 7`
      const [dirty] = yield* sql<{ payload: string }>`SELECT payload FROM _sync_dirty_rows`
      assert.deepStrictEqual([dirty?.payload], yield* serialised(sql, table))
    }))

  it.scoped("gives equal texts for equal rows and reals that read back bit for bit", () =>
    Effect.gen(function*() {
      const { sql, table } = yield* prepared(["CREATE TABLE t (id TEXT PRIMARY KEY, n REAL, s TEXT)"])
      const rows = FastCheck.sample(
        FastCheck.tuple(FastCheck.double({ noNaN: true, noDefaultInfinity: true }), FastCheck.fullUnicodeString()),
        { numRuns: 500, seed: 4711 }
      ).map(([n, s], index) => [String(index), n, s] as const)
      for (const [id, n, s] of rows) yield* sql`INSERT INTO t VALUES (${id}, ${n}, ${s})`
      const found = yield* sql.unsafe<{ readonly id: string; readonly value: string; readonly again: number }>(
        `SELECT t.id, ${SqlText.localObject(table, "t")} AS value,
                ${SqlText.localObject(table, "t")} ->> '$.n' IS t.n AS again FROM t`
      )
      for (const { again, id, value } of found) {
        const [, n, s] = rows[Number(id)] ?? []
        assert.deepStrictEqual(JSON.parse(value), { id, n: n === 0 ? 0 : n, s })
        assert.strictEqual(again, 1)
      }
      assert.strictEqual(found.length, rows.length)
    }))
})

describe("keys [capture.md §5.3, payload-codec.md §9]", () => {
  it.scoped("text keys are canonical: as JSON.stringify writes them, and read back unchanged", () =>
    Effect.gen(function*() {
      const { sql, table } = yield* prepared(["CREATE TABLE t (id TEXT PRIMARY KEY)"])
      const special = ["\"", "\\", "/", "<>&", "\u007f", "\u2028\u2029", "\u0000", "\u0001\u001f", "🙂", "", "'"]
      for (const key of [...special, ...FastCheck.sample(FastCheck.fullUnicodeString(), { numRuns: 300, seed: 7 })]) {
        const keyJson = JSON.stringify({ id: key })
        const row = { ...table, key: { ...table.key, declaredName: "id" } }
        assert.strictEqual(
          yield* selecting(sql, SqlText.keyJson(row, "k"), "FROM (SELECT ? AS id) AS k", [key]),
          keyJson
        )
        const json = "FROM (SELECT ? AS j) AS k"
        assert.strictEqual(yield* selecting(sql, SqlText.keyFromJson(table, "k.j"), json, [keyJson]), key)
        assert.strictEqual(yield* selecting(sql, SqlText.keyJsonToWire(table, "k.j"), json, [keyJson]), keyJson)
        assert.strictEqual(yield* selecting(sql, SqlText.wireKeyToKeyJson(table, "k.j"), json, [keyJson]), keyJson)
      }
    }))

  it.scoped("blob keys are hex locally, dashed on the wire, bytes in the table", () =>
    Effect.gen(function*() {
      const { sql, table } = yield* prepared(["CREATE TABLE t (\"Id\" BLOB PRIMARY KEY)"])
      const uuid = "0F8FAD5B-D9CB-469F-A165-70867728950E"
      const hex = uuid.toLowerCase().replaceAll("-", "")
      const local = JSON.stringify({ id: hex })
      const wire = JSON.stringify({ id: uuid.toLowerCase() })
      yield* sql.unsafe(`INSERT INTO t VALUES (x'${hex}')`)
      assert.strictEqual(yield* selecting(sql, SqlText.keyJson(table, "t"), "FROM t"), local)
      assert.strictEqual(yield* selecting(sql, SqlText.keyJsonToWire(table, "?"), "", Array(5).fill(local)), wire)
      const back = SqlText.wireKeyToKeyJson(table, "?")
      assert.strictEqual(yield* selecting(sql, back, "", [wire]), local)
      assert.strictEqual(yield* selecting(sql, back, "", [JSON.stringify({ id: uuid })]), local)
      assert.strictEqual(
        yield* selecting(sql, "count(*)", `FROM t WHERE t.Id = ${SqlText.keyFromJson(table, "?")}`, [local]),
        1
      )
      assert.isNull(yield* selecting(sql, SqlText.keyFromJson(table, "?"), "", [JSON.stringify({ id: "zz" })]))
    }))

  it.scoped("a NULL key is JSON null, a BLOB in a text key has a text all the same", () =>
    Effect.gen(function*() {
      const { sql, table } = yield* prepared([
        "CREATE TABLE t (id BLOB PRIMARY KEY)",
        "CREATE TABLE u (id TEXT PRIMARY KEY)"
      ], "u")
      const blob = { ...table, keyKind: "uuid" as const, key: { ...table.key, class: "uuid-key" as const } }
      const nothing = "FROM (SELECT NULL AS id) AS k"
      assert.strictEqual(yield* selecting(sql, SqlText.keyJson(table, "k"), nothing), "{\"id\":null}")
      assert.strictEqual(yield* selecting(sql, SqlText.keyJson(blob, "k"), nothing), "{\"id\":null}")
      assert.strictEqual(yield* selecting(sql, SqlText.anyKeyJson(table, "k"), nothing), "{\"id\":null}")
      assert.strictEqual(
        yield* selecting(sql, SqlText.anyKeyJson(table, "k"), "FROM (SELECT x'0c' AS id) AS k"),
        "{\"id\":\"0c\"}"
      )
    }))

  const uuids: ReadonlyArray<readonly [string, number]> = [
    ["0f8fad5b-d9cb-469f-a165-70867728950e", 1],
    ["0F8FAD5B-D9CB-469F-A165-70867728950E", 1],
    ["0f8fad5bd9cb469fa16570867728950e", 0],
    ["0f8fad5b-d9cb-469f-a165-70867728950", 0],
    ["0f8fad5b-d9cb-469f-a165-70867728950eg", 0],
    ["0f8fad5b-d9cb-469f-a165-7086772895-e", 0],
    ["gf8fad5b-d9cb-469f-a165-70867728950e", 0],
    [" f8fad5b-d9cb-469f-a165-70867728950e", 0],
    ["", 0]
  ]
  for (const [text, expected] of uuids) {
    it.scoped(`${JSON.stringify(text)} is ${expected === 1 ? "a" : "no"} dashed UUID [payload-codec.md §5]`, () =>
      Effect.gen(function*() {
        const sql = yield* memory
        assert.strictEqual(yield* selecting(sql, SqlText.isDashedUuid("u"), "FROM (SELECT ? AS u)", [text]), expected)
      }))
  }
})

describe("rows that cannot be uploaded [capture.md §5.4, payload-codec.md §3]", () => {
  const uuid = `x'${"00".repeat(16)}'`
  const rows: ReadonlyArray<readonly [values: string, key: number, value: number, problem: string | null]> = [
    [`${uuid}, 'Inf', 1, 1.5, NULL, x'ff'`, 0, 0, null],
    [`NULL, '', 1, 1, 1, ''`, 1, 0, null],
    [`x'00', '', 1, 1, 1, ''`, 1, 0, null],
    [`'0123456789abcdef', '', 1, 1, 1, ''`, 1, 0, "[\"invalid_blob_uuid_key\",\"id\"]"],
    [`${uuid}, x'0c', 1, 1, 1, ''`, 0, 1, "[\"blob_in_plain_column\",\"s\"]"],
    [`${uuid}, '', 9e999, x'', 1, ''`, 0, 1, "[\"real_not_finite\",\"n\"]"],
    [`${uuid}, '', 1, -9e999, x'00', ''`, 0, 1, "[\"real_not_finite\",\"r\"]"],
    [`${uuid}, '', -9223372036854775808, 1e308, 'Infinity', 9e999`, 0, 0, null]
  ]
  for (const [values, key, value, problem] of rows) {
    it.scoped(`(${values})`, () =>
      Effect.gen(function*() {
        const { sql, table } = yield* prepared([
          "CREATE TABLE t (id BLOB PRIMARY KEY, s TEXT, n INTEGER, r REAL, x, b BLOB)"
        ])
        yield* sql`UPDATE _sync_apply_state SET apply_mode = 1`
        yield* sql.unsafe(`INSERT INTO t VALUES (${values})`)
        assert.strictEqual(yield* selecting(sql, SqlText.isInvalidKey(table, "t"), "FROM t"), key)
        assert.strictEqual(yield* selecting(sql, SqlText.isInvalidValue(table, "t"), "FROM t"), value)
        assert.strictEqual(yield* selecting(sql, SqlText.rowProblem(table, "t"), "FROM t"), problem)
      }))
  }

  it.scoped("is decided for a table of 600 columns as well", () =>
    Effect.gen(function*() {
      const columns = Array.from({ length: 599 }, (_, n) => `c${n} REAL`)
      const { sql } = yield* prepared([`CREATE TABLE t (id TEXT PRIMARY KEY, ${columns.join(", ")})`])
      yield* sql`INSERT INTO t (id, c598) VALUES ('k', 1.5)`
      const error = yield* Effect.flip(sql`UPDATE t SET c598 = 9e999`)
      assert.include(String(error.cause), "SYNC_INVALID_VALUE")
    }))
})
