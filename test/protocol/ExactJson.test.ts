import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck } from "effect"
import { CanonicalJson, ExactJson } from "oversqlite/protocol"
import { int64, json, seeded, text } from "./arbitraries.js"

/** A tree with integers of all 64 bits in it. */
const tree = FastCheck.array(
  FastCheck.oneof(
    int64,
    FastCheck.dictionary(
      text.filter((name) => name !== "__proto__"),
      FastCheck.oneof(int64, text, FastCheck.boolean())
    ),
    FastCheck.array(int64, { maxLength: 3 }),
    FastCheck.constantFrom(",1234567890123456789,", "[12345678901234567890]", ": 9007199254740993 ")
  ),
  { maxLength: 6 }
)

/** JSON.stringify writes doubles below 1e21 as digits, and digits are an integer to a database. */
const asInteger = (_name: string, value: unknown): unknown =>
  typeof value !== "number" || !Number.isInteger(value) || Number.isSafeInteger(value) || Math.abs(value) >= 1e21
    ? value
    : BigInt.asIntN(64, BigInt(String(value))) === BigInt(String(value))
    ? BigInt(String(value))
    : value

describe("ExactJson", () => {
  it("keeps every integer of the signed 64-bit range [wire.md §12]", () => {
    FastCheck.assert(
      FastCheck.property(tree, (value) => {
        assert.deepStrictEqual(
          ExactJson.parse(ExactJson.stringify(value)),
          value
        )
      }),
      seeded
    )
  })

  it("reads what has no such integer exactly as JSON.parse does", () => {
    FastCheck.assert(
      FastCheck.property(json, (value) => {
        const source = JSON.stringify(value)
        assert.deepStrictEqual(ExactJson.parse(source), JSON.parse(source, asInteger))
        assert.strictEqual(ExactJson.stringify(value), source)
      }),
      seeded
    )
  })

  it.each<readonly [string, unknown]>([
    ["9007199254740991", 9007199254740991],
    ["9007199254740992", 9007199254740992n],
    ["-9007199254740992", -9007199254740992n],
    ["[9007199254740993]", [9007199254740993n]],
    ["{\"a\":9223372036854775807 }", { a: 9223372036854775807n }],
    ["[1,-9223372036854775808]", [1, -9223372036854775808n]],
    ["9223372036854775808", 9223372036854775808],
    ["-9223372036854775809", -9223372036854775808],
    ["9007199254740993.0", 9007199254740992],
    ["9007199254740993e0", 9007199254740992],
    ["[0.30000000000000004]", [0.30000000000000004]],
    ["\"9007199254740993\"", "9007199254740993"],
    ["[\"a,9007199254740993,\",9007199254740993]", ["a,9007199254740993,", 9007199254740993n]],
    ["-0", -0],
    ["[9007199254740993,-0,1e5,1.50]", [9007199254740993n, -0, 100000, 1.5]]
  ])("reads %s as the database would [DESIGN D7]", (source, value) => {
    assert.deepStrictEqual(ExactJson.parse(source), value)
  })

  it("lets the last of equal members count and replaces unpaired surrogates, with long integers or without [wire.md §1.4]", () => {
    assert.deepStrictEqual(ExactJson.parse("{\"a\":1,\"a\":\"\\ud800\"}"), { a: "\ufffd" })
    assert.deepStrictEqual(ExactJson.parse("{\"a\":9007199254740993,\"a\":\"\\ud800\"}"), { a: "\ufffd" })
    assert.deepStrictEqual(ExactJson.parse("{\"a\":1,\"a\":9007199254740993}"), { a: 9007199254740993n })
  })

  it("reads any depth, and a member called __proto__, with long integers as without [wire.md §1.4]", () => {
    const deep = (inner: string) => "[{\"a\":".repeat(50_000) + inner + "}]".repeat(50_000)
    for (const number of ["1", "9007199254740993"]) {
      assert.strictEqual(CanonicalJson.encodeExact(ExactJson.parse(deep(number))), deep(number))
      const parsed = ExactJson.parse(`{"__proto__":{"b":[]},"a":${number}}`)
      assert.strictEqual(ExactJson.stringify(parsed), `{"__proto__":{"b":[]},"a":${number}}`)
      assert.deepStrictEqual(Object.keys(Object(parsed)), ["__proto__", "a"])
    }
  })

  it.each([
    "",
    "{",
    "[9007199254740993",
    "[9007199254740993,]",
    "09007199254740993",
    "[-]",
    "9007199254740993 x",
    "\"\t\""
  ])(
    "refuses %j, which is no JSON",
    (source) => {
      assert.isTrue(Either.isLeft(ExactJson.parseEither(source)))
      assert.throws(() => ExactJson.parse(source))
    }
  )

  it("writes a bigint as digits at any depth and what JSON cannot write as null", () => {
    assert.strictEqual(
      ExactJson.stringify({ a: [{ b: 2n ** 63n - 1n }], c: undefined, d: "x" }),
      "{\"a\":[{\"b\":9223372036854775807}],\"d\":\"x\"}"
    )
    assert.strictEqual(ExactJson.stringify(-5n), "-5")
    assert.strictEqual(ExactJson.stringify(undefined), "null")
  })
})
