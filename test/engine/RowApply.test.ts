import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { failsWith } from "./support/Outcome.js"
import { pullAnswer, snapshotAnswer } from "./support/Scripted.js"
import type { ScriptedRow } from "./support/Scripted.js"
import { makeWorld } from "./support/World.js"

type Way = "pull" | "snapshot"

const ways: ReadonlyArray<Way> = ["pull", "snapshot"]

interface Setting {
  readonly ddl: ReadonlyArray<string>
  readonly names: ReadonlyArray<string>
  readonly kind?: "text" | "uuid"
}

/** A device that receives rows by a pull or by a snapshot, whatever a real server would say to them. */
const receiver = Effect.fnUntraced(function*(way: Way, { ddl, kind = "text", names }: Setting) {
  const world = yield* makeWorld({
    declared: names.map((table) => ({ schema: "business", table: table.toLowerCase(), key: { column: "id", kind } }))
  })
  const device = yield* world.attached({ ddl, tables: names.map((name) => ({ name, key: "id" })) })
  const arrive = (rows: ReadonlyArray<ScriptedRow>) =>
    Effect.gen(function*() {
      const seen = yield* device.sync.lastBundleSeqSeen
      if (way === "pull") {
        yield* pullAnswer(world.network, [rows], seen + 1)
        return yield* device.sync.pullToStable
      }
      yield* snapshotAnswer(world.network, rows, seen + 1)
      return yield* device.sync.rebuild
    })
  return { ...device, arrive }
})

const literal = (device: Pick<Device, "run">, text: string) =>
  Effect.map(device.run(`SELECT typeof(${text}) || ' ' || quote(${text}) AS held`), ([row]) => row?.["held"])

const held = (device: Pick<Device, "run">, column: string, key: string) =>
  Effect.map(
    device.run(`SELECT typeof(${column}) || ' ' || quote(${column}) AS held FROM things WHERE id = ?`, [key]),
    ([row]) => row?.["held"]
  )

/** What a column holds, as SQL literals; the columns of the table in payload-codec.md §5. */
interface Held {
  readonly integer: string
  readonly real: string
  readonly text: string
  readonly none: string
}

const same = (text: string): Held => ({ integer: text, real: text, text, none: text })

const values: ReadonlyArray<readonly [json: string, held: Held]> = [
  ["null", same("NULL")],
  // Digits only, within 64 bits.
  ["5", { integer: "5", real: "5.0", text: "'5'", none: "5" }],
  ["-7", { integer: "-7", real: "-7.0", text: "'-7'", none: "-7" }],
  ["9007199254740993", {
    integer: "9007199254740993",
    real: "9007199254740992.0",
    text: "'9007199254740993'",
    none: "9007199254740993"
  }],
  ["9223372036854775807", {
    integer: "9223372036854775807",
    real: "9223372036854775807.0",
    text: "'9223372036854775807'",
    none: "9223372036854775807"
  }],
  ["-9223372036854775808", {
    integer: "-9223372036854775808",
    real: "-9223372036854775808.0",
    text: "'-9223372036854775808'",
    none: "-9223372036854775808"
  }],
  // Other integral values below 2^53.
  ["5.0", { integer: "5", real: "5.0", text: "'5'", none: "5" }],
  ["1e2", { integer: "100", real: "100.0", text: "'100'", none: "100" }],
  ["-0.0", { integer: "0", real: "0.0", text: "'0'", none: "0" }],
  // Otherwise a double.
  ["0.5", { integer: "0.5", real: "0.5", text: "'0.5'", none: "0.5" }],
  ["0.30000000000000004", {
    integer: "0.30000000000000004",
    real: "0.30000000000000004",
    text: "'0.30000000000000004'",
    none: "0.30000000000000004"
  }],
  ["1e300", { integer: "1e300", real: "1e300", text: "'1e+300'", none: "1e300" }],
  ["1e-7", { integer: "1e-7", real: "1e-7", text: "'1e-7'", none: "1e-7" }],
  ["9223372036854775808", {
    integer: "9223372036854775808.0",
    real: "9223372036854775808.0",
    text: "'9223372036854776000'",
    none: "9223372036854775808.0"
  }],
  ["12345678901234567890", {
    integer: "12345678901234567890.0",
    real: "12345678901234567890.0",
    text: "'12345678901234567000'",
    none: "12345678901234567890.0"
  }],
  // Booleans are 1 and 0.
  ["true", { integer: "1", real: "1.0", text: "'1'", none: "1" }],
  ["false", { integer: "0", real: "0.0", text: "'0'", none: "0" }],
  // Texts stay texts, but for what the affinity makes of them.
  [`"5"`, { integer: "5", real: "5.0", text: "'5'", none: "'5'" }],
  [`"abc"`, same("'abc'")],
  [`""`, same("''")],
  [`"it's \\"quoted\\" \\u00e9 \\ud83d\\ude00 <&>"`, same(`'it''s "quoted" é 😀 <&>'`)],
  [`"2026-03-24 18:42:11"`, same("'2026-03-24 18:42:11'")]
]

const columns: ReadonlyArray<readonly [type: string, held: keyof Held]> = [
  ["INTEGER", "integer"],
  ["BIGINT", "integer"],
  ["NUMERIC", "integer"],
  ["BOOLEAN", "integer"],
  ["DATETIME", "integer"],
  ["DECIMAL(10,2)", "integer"],
  ["REAL", "real"],
  ["DOUBLE PRECISION", "real"],
  ["TEXT", "text"],
  ["VARCHAR(3)", "text"],
  ["", "none"]
]

describe("what a number, text or boolean becomes in a column [payload-codec.md §5]", () => {
  for (const way of ways) {
    it.scoped(`by ${way}`, () =>
      Effect.gen(function*() {
        const a = yield* receiver(way, {
          ddl: [
            `CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, ${
              columns.map(([type], index) => `c${index} ${type}`).join(", ")
            })`
          ],
          names: ["things"]
        })
        yield* a.arrive(values.map(([json], row): ScriptedRow => ({
          table: "things",
          key: `{"id":"k${row}"}`,
          payload: `{"id":"k${row}",${columns.map((_, index) => `"c${index}":${json}`).join(",")}}`
        })))
        for (const [row, [json, expected]] of values.entries()) {
          for (const [index, [type, of]] of columns.entries()) {
            assert.strictEqual(
              yield* held(a, `c${index}`, `k${row}`),
              yield* literal(a, expected[of]),
              `${json} in a column ${type}`
            )
          }
        }
        yield* checkInvariants(a)
      }))
  }
})

describe("STRICT tables [payload-codec.md §5]", () => {
  // Without a literal: the column takes nothing like it, `local_constraint`.
  const table: ReadonlyArray<readonly [type: string, json: string, holds: string | undefined]> = [
    ["INTEGER", "5", "5"],
    ["INTEGER", "5.0", "5"],
    ["INTEGER", "9223372036854775807", "9223372036854775807"],
    ["INTEGER", "true", "1"],
    ["INTEGER", `"12"`, "12"],
    ["INTEGER", "0.5", undefined],
    ["INTEGER", "9223372036854775808", undefined],
    ["INTEGER", `"abc"`, undefined],
    ["REAL", "5", "5.0"],
    ["REAL", "true", "1.0"],
    ["REAL", `"abc"`, undefined],
    ["TEXT", "5", "'5'"],
    ["TEXT", "5.0", "'5'"],
    ["TEXT", "0.5", "'0.5'"],
    ["TEXT", "9007199254740993", "'9007199254740993'"],
    ["TEXT", "true", "'1'"],
    ["ANY", "5.0", "5"],
    ["ANY", "0.5", "0.5"],
    ["ANY", `"5"`, "'5'"],
    ["ANY", "9007199254740993", "9007199254740993"]
  ]
  for (const way of ways) {
    it.scoped(`by ${way}`, () =>
      Effect.gen(function*() {
        const a = yield* receiver(way, {
          ddl: [
            "CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, integer INTEGER, real REAL, text TEXT, any ANY) STRICT"
          ],
          names: ["things"]
        })
        for (const [index, [type, json, holds]] of table.entries()) {
          const members = ["integer", "real", "text", "any"].map((name) =>
            `"${name}":${name === type.toLowerCase() ? json : "null"}`
          )
          const row = { table: "things", key: `{"id":"k${index}"}`, payload: `{"id":"k${index}",${members.join(",")}}` }
          if (holds === undefined) {
            yield* failsWith(a.arrive([row]), {
              _tag: "LocalDataError",
              code: "local_constraint",
              row: { schema: "business", table: "things", key: row.key }
            })
            assert.isUndefined(yield* held(a, type, `k${index}`))
          } else {
            yield* a.arrive([row])
            assert.strictEqual(yield* held(a, type, `k${index}`), yield* literal(a, holds), `${json} in ${type}`)
          }
          yield* checkInvariants(a)
        }
      }))
  }
})

describe("blobs and UUIDs [payload-codec.md §5]", () => {
  const uuid = "00112233-4455-6677-8899-aabbccddeeff"
  const setting: Setting = {
    ddl: [
      "CREATE TABLE files (id BLOB PRIMARY KEY NOT NULL, data BLOB, other BLOB)",
      "CREATE TABLE reviews (id BLOB PRIMARY KEY NOT NULL, file_id BLOB REFERENCES files (id) ON DELETE CASCADE)"
    ],
    names: ["files", "reviews"],
    kind: "uuid"
  }
  const file = (data: string): ReadonlyArray<ScriptedRow> => [{
    table: "files",
    key: `{"id":"${uuid}"}`,
    payload: `{"id":"${uuid}","data":${data},"other":null}`
  }]
  const review = (reference: string): ReadonlyArray<ScriptedRow> => [
    ...file("null"),
    { table: "reviews", key: `{"id":"${uuid}"}`, payload: `{"id":"${uuid}","file_id":${reference}}` }
  ]
  const good: ReadonlyArray<readonly [rows: ReadonlyArray<ScriptedRow>, query: string, holds: unknown]> = [
    [file("null"), "SELECT quote(id) AS held FROM files", "X'00112233445566778899AABBCCDDEEFF'"],
    [file("null"), "SELECT quote(data) AS held FROM files", "NULL"],
    [file(`""`), "SELECT quote(data) AS held FROM files", "X''"],
    [file(`"AQL/"`), "SELECT quote(data) AS held FROM files", "X'0102FF'"],
    [file(`"AQ=="`), "SELECT quote(data) AS held FROM files", "X'01'"],
    [review("null"), "SELECT quote(file_id) AS held FROM reviews", "NULL"],
    [review(`"${uuid}"`), "SELECT quote(file_id) AS held FROM reviews", "X'00112233445566778899AABBCCDDEEFF'"],
    [
      review(`"${uuid.toUpperCase()}"`),
      "SELECT quote(file_id) AS held FROM reviews",
      "X'00112233445566778899AABBCCDDEEFF'"
    ]
  ]
  const bad: ReadonlyArray<readonly [says: string, rows: ReadonlyArray<ScriptedRow>]> = [
    ["base64 without padding", file(`"AQI"`)],
    ["base64 with the other alphabet", file(`"AQ-_"`)],
    ["base64 with blanks", file(`"AQL/ "`)],
    ["base64 that does not come back", file(`"AQJ="`)],
    ["a number in a blob column", file("1")],
    ["a boolean in a blob column", file("true")],
    ["an object in a blob column", file(`{"a":1}`)],
    ["a UUID without dashes", review(`"00112233445566778899aabbccddeeff"`)],
    ["a UUID with a blank before it", review(`" ${uuid}"`)],
    ["a UUID that is too short", review(`"00112233-4455-6677-8899-aabbccddeef"`)],
    ["a UUID with other digits", review(`"00112233-4455-6677-8899-aabbccddeefg"`)],
    ["dashes in other places", review(`"0011223-34455-6677-8899-aabbccddeeff"`)],
    ["a number as a UUID", review("7")]
  ]
  for (const way of ways) {
    it.scoped(`accepted, by ${way}`, () =>
      Effect.gen(function*() {
        const a = yield* receiver(way, setting)
        for (const [rows, query, holds] of good) {
          yield* a.arrive(rows)
          assert.deepStrictEqual(yield* a.run(query), [{ held: holds }], rows.at(-1)?.payload)
          yield* checkInvariants(a)
        }
      }))

    it.scoped(`refused, by ${way}: payload_bad_wire_encoding`, () =>
      Effect.gen(function*() {
        const a = yield* receiver(way, setting)
        for (const [says, rows] of bad) {
          yield* failsWith(a.arrive(rows), {
            _tag: "LocalDataError",
            code: "payload_bad_wire_encoding",
            row: { schema: "business", table: rows.at(-1)?.table, key: `{"id":"00112233445566778899aabbccddeeff"}` }
          })
          assert.deepStrictEqual(yield* a.run("SELECT * FROM files"), [], says)
          yield* checkInvariants(a)
        }
      }))
  }
})

describe("the shape of a payload [payload-codec.md §5, §9.1]", () => {
  const table: ReadonlyArray<readonly [says: string, payload: string, code: string, column: string | undefined]> = [
    ["a missing column", `{"id":"k"}`, "payload_column_mismatch", undefined],
    ["one unknown and one missing member", `{"id":"k","d":1}`, "payload_column_mismatch", "c"],
    ["a member too many", `{"id":"k","c":1,"d":1}`, "payload_column_mismatch", undefined],
    ["a member in another case", `{"id":"k","C":1}`, "payload_column_mismatch", "c"],
    ["a member twice", `{"id":"k","c":1,"c":2}`, "payload_column_mismatch", undefined],
    ["another key in the payload", `{"id":"other","c":1}`, "payload_key_mismatch", undefined],
    ["a key that is no text", `{"id":1,"c":1}`, "payload_key_mismatch", undefined],
    ["an object as a value", `{"id":"k","c":{"a":1}}`, "payload_bad_wire_encoding", undefined],
    ["an array as a value", `{"id":"k","c":[]}`, "payload_bad_wire_encoding", undefined]
  ]
  for (const way of ways) {
    it.scoped(`by ${way}`, () =>
      Effect.gen(function*() {
        const a = yield* receiver(way, {
          ddl: ["CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, c INTEGER)"],
          names: ["things"]
        })
        for (const [says, payload, code, column] of table) {
          const error = yield* failsWith(a.arrive([{ table: "things", key: `{"id":"k"}`, payload }]), {
            _tag: "LocalDataError",
            code,
            row: { schema: "business", table: "things", key: `{"id":"k"}` },
            ...(column === undefined ? {} : { column }),
            action: code === "payload_column_mismatch" ? "fix_configuration" : "fix_data"
          })
          if (code === "payload_column_mismatch") assert.include(String(error), "payload for things", says)
          assert.deepStrictEqual(yield* a.run("SELECT * FROM things"), [], says)
          yield* checkInvariants(a)
        }
      }))
  }
})
