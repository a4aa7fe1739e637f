import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck } from "effect"
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { CanonicalJson } from "oversqlite/protocol"
import { finiteDouble, json, seeded } from "./arbitraries.js"
import { inputOf, vectors } from "./vectors.js"

const canonical = (text: string) => Either.getOrThrow(CanonicalJson.canonicalize(text))

const reasonOf = (text: string) =>
  Either.match(CanonicalJson.canonicalize(text), { onLeft: (error) => error.reason, onRight: () => "accepted" })

/** The recipe of hashing.md §1.5 taken literally: slow, and without a line in common with the implementation. */
const byRecipe = (value: unknown): string => {
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value)
  if (typeof value === "string") {
    return JSON.stringify(Array.from(value, (point) => /^[\ud800-\udfff]$/.test(point) ? "\ufffd" : point).join(""))
      .replaceAll("<", "\\u003c").replaceAll(">", "\\u003e").replaceAll("&", "\\u0026")
      .replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029")
  }
  if (Array.isArray(value)) return `[${value.map(byRecipe).join(",")}]`
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
      .sort(([left], [right]) => Buffer.compare(Buffer.from(left), Buffer.from(right)))
      .map(([name, member]) => `${byRecipe(name)}:${byRecipe(member)}`)
    return `{${entries.join(",")}}`
  }
  return String(value)
}

/** Another spelling of the same value: members turned round, white space everywhere, numbers with exponent, escapes. */
const respell = (value: unknown): string => {
  if (typeof value === "number") return Object.is(value, -0) ? "-0.0e1" : ` ${value.toExponential()}\t`
  if (typeof value === "string") {
    const escape = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0").toUpperCase()}`
    return `"${value.split("").map(escape).join("")}"`
  }
  if (Array.isArray(value)) return `\n[ ${value.map(respell).join(" ,\r")} ] `
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).reverse().map(([name, member]) => `${respell(name)} : ${respell(member)}`)
    return ` { ${entries.join(" , ")}\t} `
  }
  return ` ${value} `
}

describe("CanonicalJson", () => {
  it("has all 71 published vectors to prove itself against [hashing.md §7]", () => {
    assert.strictEqual(vectors.length, 71)
    assert.strictEqual(new Set(vectors.map(({ id }) => id)).size, 71)
  })

  for (const vector of vectors) {
    it(`reproduces the vector ${vector.id} [hashing.md §7]`, () => {
      const actual = CanonicalJson.canonicalize(inputOf(vector))
      if (vector.error === true) {
        assert.isTrue(Either.isLeft(actual))
      } else {
        const text = Either.getOrThrow(actual)
        assert.strictEqual(text, vector.out)
        assert.strictEqual(Buffer.byteLength(text), vector.bytes)
        assert.strictEqual(createHash("sha256").update(text).digest("hex"), vector.sha256)
      }
    })
  }

  it("agrees with the recipe for every value [hashing.md §1.5]", () => {
    FastCheck.assert(
      FastCheck.property(json, (value) => {
        assert.strictEqual(CanonicalJson.encode(value), byRecipe(value))
      }),
      seeded
    )
  })

  it("does not depend on member order, white space, escapes or number spelling [hashing.md §1.1]", () => {
    FastCheck.assert(
      FastCheck.property(json, (value) => {
        assert.strictEqual(canonical(respell(value)), byRecipe(value))
      }),
      seeded
    )
  })

  it("leaves canonical text as it is [hashing.md §1]", () => {
    FastCheck.assert(
      FastCheck.property(json, (value) => {
        const text = CanonicalJson.encode(value)
        assert.strictEqual(canonical(text), text)
      }),
      seeded
    )
  })

  it("spells every double so that it reads back as the same double [hashing.md §1.4]", () => {
    FastCheck.assert(
      FastCheck.property(finiteDouble, (value) => {
        assert.isTrue(Object.is(Number(CanonicalJson.encodeNumber(value)), value))
      }),
      seeded
    )
  })

  it("sorts by code point where UTF-16 order differs [hashing.md §1.2]", () => {
    const value = {
      "\u{1f600}": 1,
      "\uff5e": 2,
      "\ue000": 3,
      "\ud7ff": 4,
      "\u{10000}a": 5,
      "\u{10000}": 6,
      a: 7,
      "": 8
    }
    assert.strictEqual(
      CanonicalJson.encode(value),
      "{\"\":8,\"a\":7,\"\ud7ff\":4,\"\ue000\":3,\"\uff5e\":2,\"\u{10000}\":6,\"\u{10000}a\":5,\"\u{1f600}\":1}"
    )
  })

  it("lets the last of members count whose names become equal by U+FFFD [hashing.md §1.1]", () => {
    assert.strictEqual(canonical("{\"\\ud800\":1,\"\ufffd\":2,\"\\uDFFF\":3}"), "{\"\ufffd\":3}")
    assert.strictEqual(CanonicalJson.encode({ "\ud800": 1, z: 0, "\ufffd": 2 }), "{\"z\":0,\"\ufffd\":2}")
  })

  it("takes an escaped backslash before a u for what it is [hashing.md §1.1]", () => {
    assert.strictEqual(canonical("\"\\\\ud800\""), "\"\\\\ud800\"")
    assert.strictEqual(canonical("\"\\\\\\ud800\\\\\""), "\"\\\\\ufffd\\\\\"")
    assert.strictEqual(canonical("\"\\ud83d\\ude00\\ude00\""), "\"\u{1f600}\ufffd\"")
  })

  it("keeps members called like parts of every object [hashing.md §1.5]", () => {
    assert.strictEqual(
      canonical("{\"__proto__\":{\"toString\":1},\"hasOwnProperty\":null}"),
      "{\"__proto__\":{\"toString\":1},\"hasOwnProperty\":null}"
    )
  })

  it("writes integers beyond 2^53 through binary64 [hashing.md §1.1]", () => {
    assert.strictEqual(
      CanonicalJson.encode([9007199254740993n, -9223372036854775808n]),
      "[9007199254740992,-9223372036854776000]"
    )
  })

  it("leaves out members without a value and writes elements without a value as null", () => {
    assert.strictEqual(CanonicalJson.encode({ a: undefined, b: [undefined], c: undefined }), "{\"b\":[null]}")
    assert.strictEqual(CanonicalJson.encode({ a: undefined }), "{}")
  })

  it.each([
    "",
    " ",
    "{",
    "[1,]",
    "{\"a\":1,}",
    "1 2",
    "{} x",
    "+1",
    "01",
    ".5",
    "1.",
    "NaN",
    "Infinity",
    "// c\n1",
    "\ufeff1",
    "\"\u0001\"",
    "\"\\x\"",
    "'a'",
    "\u00a01"
  ])("refuses %j, which is no JSON [hashing.md §1.1]", (text) => {
    assert.strictEqual(reasonOf(text), "syntax")
  })

  it.each([
    "1e309",
    "-1e309",
    "[1,{\"a\":1E400}]",
    `${"9".repeat(310)}`,
    `[${"9".repeat(310)}.5]`,
    "1e0000309",
    "1e+999"
  ])(
    "refuses %s, which is beyond binary64 [hashing.md §1.1]",
    (text) => {
      assert.strictEqual(reasonOf(text), "number_out_of_range")
    }
  )

  it("accepts numbers that only look large [hashing.md §1.1]", () => {
    assert.strictEqual(canonical("[1e-400, -1e-400, 0.0000000e500, 1e00000020]"), "[0,-0,0,100000000000000000000]")
    assert.strictEqual(canonical("\"1e999\""), "\"1e999\"")
  })

  it("accepts a nesting of 10 000 and refuses one more [hashing.md §1.1]", () => {
    const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth)
    assert.strictEqual(canonical(nested(CanonicalJson.maxNesting)), nested(10_000))
    assert.strictEqual(reasonOf(nested(CanonicalJson.maxNesting + 1)), "nesting")
    const objects = (depth: number) => "{\"a\":".repeat(depth) + "1" + "}".repeat(depth)
    assert.strictEqual(canonical(objects(10_000)), objects(10_000))
    assert.strictEqual(reasonOf(objects(10_001)), "nesting")
  })

  it("gives a number that is not finite a text that is no JSON, so that no hash can agree with it", () => {
    assert.strictEqual(CanonicalJson.encode({ a: JSON.parse("1e309") }), "{\"a\":Infinity}")
  })
})
