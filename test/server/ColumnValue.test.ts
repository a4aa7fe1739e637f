/** What declared columns accept and what comes back, by the tables of values.md §4–6. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { ExactJson } from "oversqlite/protocol"
import { conversions } from "../../src/server/ColumnValue.js"
import { device, insert, outcome, payloads } from "./support/Device.js"
import { inProcess } from "./support/TestServer.js"

type Kind = "uuid" | "text" | "integer" | "bigint" | "double precision" | "boolean" | "timestamptz" | "json"

const refused = Symbol("refused")

const uuidText = "0b5f2f3e-9f57-4d0e-8a51-2f6c3d1a7e10"

/** Uploads as JSON text; answers as JSON text. */
const cases: ReadonlyArray<readonly [kind: Kind, upload: string, stored: string | typeof refused]> = [
  ["bigint", "1", "1"],
  ["bigint", "3.0", "3"],
  ["bigint", "3e2", "300"],
  ["bigint", "-0", "0"],
  ["bigint", "1.5", refused],
  ["bigint", "9007199254740993", "9007199254740993"],
  ["bigint", "9223372036854775807", "9223372036854775807"],
  ["bigint", "-9223372036854775808", "-9223372036854775808"],
  ["bigint", "9223372036854775808", refused],
  ["bigint", "\"9007199254740993\"", "9007199254740993"],
  ["bigint", "\" +7 \"", "7"],
  ["bigint", "\"1.0\"", refused],
  ["bigint", "\"1e3\"", refused],
  ["bigint", "\"0x1A\"", refused],
  ["bigint", "\"1_000\"", refused],
  ["bigint", "\"\"", refused],
  ["bigint", "true", refused],
  ["bigint", "[]", refused],
  ["bigint", "{}", refused],
  ["integer", "2147483647", "2147483647"],
  ["integer", "2147483648", refused],
  ["double precision", "0.1", "0.1"],
  ["double precision", "1e-7", "1e-7"],
  ["double precision", "1e21", "1e+21"],
  ["double precision", "-0", "0"],
  ["double precision", "9007199254740993", "9007199254740992"],
  ["double precision", "1e-400", "0"],
  ["double precision", "\"1e3\"", "1000"],
  ["double precision", "\" 2.5 \"", "2.5"],
  ["double precision", "\"0x1A\"", "26"],
  ["double precision", "\"nan\"", "\"NaN\""],
  ["double precision", "\"inf\"", "\"Infinity\""],
  ["double precision", "\"-Infinity\"", "\"-Infinity\""],
  ["double precision", "\"1e-400\"", refused],
  ["double precision", "\"1e400\"", refused],
  ["double precision", "\"\"", refused],
  ["double precision", "true", refused],
  ["double precision", "[1]", refused],
  ["boolean", "true", "true"],
  ["boolean", "0", "false"],
  ["boolean", "1", "true"],
  ["boolean", "2", refused],
  ["boolean", "\"t\"", "true"],
  ["boolean", "\" YES \"", "true"],
  ["boolean", "\"tr\"", "true"],
  ["boolean", "\"off\"", "false"],
  ["boolean", "\"of\"", "false"],
  ["boolean", "\"o\"", refused],
  ["boolean", "\"1\"", "true"],
  ["boolean", "\"\"", refused],
  ["boolean", "[]", refused],
  ["text", "\"a\"", "\"a\""],
  ["text", "5", "\"5\""],
  ["text", "1.10", "\"1.1\""],
  ["text", "1e21", "\"1000000000000000000000\""],
  ["text", "1.5e22", "\"15000000000000000000000\""],
  ["text", "1e-7", "\"0.0000001\""],
  ["text", "-1.25e-8", "\"-0.0000000125\""],
  ["text", "-0", "\"0\""],
  ["text", "true", "\"true\""],
  ["text", "{\"b\":1,\"a\":[1,2.5]}", "\"{\\\"a\\\": [1, 2.5], \\\"b\\\": 1}\""],
  ["text", "{\"bb\":1,\"c\":2}", "\"{\\\"c\\\": 2, \\\"bb\\\": 1}\""],
  ["text", "\"a\\u0000b\"", refused],
  ["uuid", `"${uuidText}"`, `"${uuidText}"`],
  ["uuid", `"${uuidText.toUpperCase()}"`, `"${uuidText}"`],
  ["uuid", `"{${uuidText}}"`, `"${uuidText}"`],
  ["uuid", `"${uuidText.replaceAll("-", "")}"`, `"${uuidText}"`],
  ["uuid", `"{${uuidText}"`, refused],
  ["uuid", "\"0b5f2f3e\"", refused],
  ["uuid", "7", refused],
  ["uuid", `"${uuidText}-"`, refused],
  ["uuid", `"{${uuidText}-}"`, refused],
  ["bigint", "\"\u00a07\"", refused],
  ["bigint", "\"\\t-0000000000000000000000000000009223372036854775808\"", "-9223372036854775808"],
  ["bigint", "\"-9223372036854775809\"", refused],
  ["bigint", "\"0\"", "0"],
  ["double precision", "\"2.5\u00a0\"", refused],
  ["double precision", "\"2.\"", "2"],
  ["double precision", "\"\\u000b.5\"", "0.5"],
  ["boolean", "\"\u00a0true\"", refused],
  ["timestamptz", "\"\u00a02026-03-24\"", refused],
  ["timestamptz", "\"2026-03-24 \u00a018:42\"", refused],
  ["json", "{\"a\":[-0,{\"b\":-0.0}],\"c\":9007199254740993}", "{\"a\":[0,{\"b\":0}],\"c\":9007199254740993}"],
  ["json", "{\"b\":[1.50,null],\"a\":\"x\"}", "{\"a\":\"x\",\"b\":[1.5,null]}"],
  ["json", "\"text\"", "\"text\""],
  ["timestamptz", "\"2026-03-24T18:42:11Z\"", "\"2026-03-24T18:42:11+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11+05\"", "\"2026-03-24T13:42:11+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11+0530\"", "\"2026-03-24T13:12:11+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11+05:30:15\"", "\"2026-03-24T13:11:56+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11+15:59:59\"", "\"2026-03-24T02:42:12+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11+16:00\"", refused],
  ["timestamptz", "\"2026-03-24t18:42:11z\"", "\"2026-03-24T18:42:11+00:00\""],
  ["timestamptz", "\" 2026-03-24 18:42:11 \"", "\"2026-03-24T18:42:11+00:00\""],
  ["timestamptz", "\"20260324T184211Z\"", "\"2026-03-24T18:42:11+00:00\""],
  ["timestamptz", "\"2026-083T00:00:00Z\"", "\"2026-03-24T00:00:00+00:00\""],
  ["timestamptz", "\"2026-03-24\"", "\"2026-03-24T00:00:00+00:00\""],
  ["timestamptz", "20260324", "\"2026-03-24T00:00:00+00:00\""],
  ["timestamptz", "\"2026-03-24T24:00:00Z\"", "\"2026-03-25T00:00:00+00:00\""],
  ["timestamptz", "\"2026-03-24T23:59:60Z\"", "\"2026-03-25T00:00:00+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42Z\"", "\"2026-03-24T18:42:00+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11.120000Z\"", "\"2026-03-24T18:42:11.12+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11.000Z\"", "\"2026-03-24T18:42:11+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11.123456789Z\"", "\"2026-03-24T18:42:11.123457+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11.1234565Z\"", "\"2026-03-24T18:42:11.123456+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11.1234575Z\"", "\"2026-03-24T18:42:11.123458+00:00\""],
  ["timestamptz", "\"2026-03-24T18:42:11.9999999Z\"", "\"2026-03-24T18:42:12+00:00\""],
  ["timestamptz", "\"infinity\"", "\"infinity\""],
  ["timestamptz", "\"-infinity\"", "\"-infinity\""],
  ["timestamptz", "\"4714-11-24 00:00:00+00 BC\"", "\"4714-11-24T00:00:00+00:00 BC\""],
  ["timestamptz", "\"4714-11-23 00:00:00+00 BC\"", refused],
  ["timestamptz", "\"294276-12-31T23:59:59Z\"", "\"294276-12-31T23:59:59+00:00\""],
  ["timestamptz", "\"294277-01-01T00:00:00Z\"", refused],
  ["timestamptz", "\"2024-02-29\"", "\"2024-02-29T00:00:00+00:00\""],
  ["timestamptz", "\"2026-02-30\"", refused],
  ["timestamptz", "\"0000-01-01\"", refused],
  ["timestamptz", "\"1774377731\"", refused],
  ["timestamptz", "\"2026-03-24T18:42:11,5Z\"", refused],
  ["timestamptz", "\"2026:03:24 18:42:11\"", refused],
  ["timestamptz", "\"\"", refused],
  ["timestamptz", "true", refused]
]

const a = device("source-a")

describe("values of declared columns", () => {
  for (const [kind, upload, expected] of cases) {
    it(`${kind}: ${upload} ${expected === refused ? "is refused" : `becomes ${expected}`} [values.md §4]`, () => {
      assert.strictEqual(conversions[kind](ExactJson.parse(upload)), expected === refused ? undefined : expected)
    })
  }

  for (
    const [upload, expected] of [
      ["AAEi/w==", "AAEi/w=="],
      ["", ""],
      ["\n", ""],
      ["AAEi\r\n/w==", "AAEi/w=="],
      ["AAF=", "AAE="]
    ]
  ) {
    it.effect(`bytea: ${JSON.stringify(upload)} becomes ${JSON.stringify(expected)} [values.md §4]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        yield* a.push(1, [insert("files", 1, { data: upload })])
        assert.strictEqual(payloads(yield* a.rows(1))[0]?.["data"], expected)
      }).pipe(Effect.provide(inProcess())))
  }

  it("bytea: a binary of any size is taken [values.md §4]", () => {
    const large = "A".repeat(40_000_000)
    assert.strictEqual(conversions.bytea(large)?.length, large.length + 2)
    assert.isUndefined(conversions.bytea(large + "="))
  })

  for (
    const upload of [
      "AAEi_w==",
      "=",
      "==",
      "====",
      "A===",
      "A=AA",
      "AA==AAAA",
      "AAEi/w",
      "AAEi/w===",
      "AA Ei",
      "\t",
      "\\x00ff",
      5,
      true,
      ["AA=="]
    ]
  ) {
    it.effect(`bytea: ${JSON.stringify(upload)} is refused with its chunk [values.md §3 A5]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        const reply = yield* a.push(1, [insert("files", 1, { Data: upload })])
        assert.strictEqual(outcome(reply), "400 push_chunk_invalid")
      }).pipe(Effect.provide(inProcess())))
  }

  it("every instant within the years of a four-digit calendar survives [values.md §6]", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.integer({ min: -62_135_596_800_000, max: 253_402_300_799_999 }), (millis) => {
        const emitted = conversions.timestamptz(new Date(millis).toISOString())
        return new Date(String(JSON.parse(emitted ?? "null"))).getTime() === millis
      }),
      { seed: 7 }
    )
  })
})
