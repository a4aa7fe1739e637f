import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { Buffer } from "node:buffer"
import { JsonText } from "oversqlite/protocol"
import { json, seeded, text } from "./arbitraries.js"

/** The first byte that is not part of a valid sequence, found with the platform's strict decoder. */
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const isValid = (bytes: Uint8Array): boolean => {
  try {
    strict.decode(bytes)
    return true
  } catch {
    return false
  }
}

/** The rule taken literally: the longest valid sequence from each byte, else one U+FFFD for the byte. */
const byRule = (bytes: Uint8Array): string => {
  let result = ""
  for (let at = 0; at < bytes.length;) {
    const length = [1, 2, 3, 4].find((count) => at + count <= bytes.length && isValid(bytes.subarray(at, at + count)))
    result += length === undefined ? "\ufffd" : strict.decode(bytes.subarray(at, at + length))
    at += length ?? 1
  }
  return result
}

describe("JsonText", () => {
  it("turns each byte of an invalid sequence into one U+FFFD [wire.md §1.4]", () => {
    const tricky = FastCheck.uint8Array({ maxLength: 12 }).map((bytes) =>
      bytes.map((byte) =>
        byte % 3 === 0 ? byte : [0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xed, 0xa0, 0xc0, 0xf4, 0x90, 0xc2][byte % 11] ?? byte
      )
    )
    FastCheck.assert(
      FastCheck.property(tricky, (bytes) => {
        assert.strictEqual(JsonText.decodeUtf8(bytes), byRule(bytes))
      }),
      { ...seeded, numRuns: 2000 }
    )
  })

  it("reads valid UTF-8 as it is and keeps a byte order mark [wire.md §1.4]", () => {
    FastCheck.assert(
      FastCheck.property(text, (value) => {
        assert.strictEqual(JsonText.decodeUtf8(Buffer.from(value)), value)
      }),
      seeded
    )
    assert.strictEqual(JsonText.decodeUtf8(Uint8Array.of(0xef, 0xbb, 0xbf, 0x31)), "\ufeff1")
  })

  it("reads a part of a larger buffer only", () => {
    assert.strictEqual(JsonText.decodeUtf8(Buffer.from("abcdef").subarray(2, 4)), "cd")
    assert.strictEqual(JsonText.decodeUtf8(Uint8Array.of(0x61, 0xff, 0x62, 0x63).subarray(1, 3)), "\ufffdb")
  })

  it("replaces unpaired surrogates, raw and escaped, and nothing else [wire.md §1.4]", () => {
    assert.strictEqual(JsonText.wellFormed("\"a\\ud800b\\udc00\\ud83d\\ude00\""), "\"a\ufffdb\ufffd\\ud83d\\ude00\"")
    assert.strictEqual(JsonText.wellFormed("\"\ud800 \u{1f600}\""), "\"\ufffd \u{1f600}\"")
    assert.strictEqual(JsonText.wellFormed("\"\\\\ud800\""), "\"\\\\ud800\"")
  })

  it("finds the members of any object, whatever their values look like [payload-codec.md §4]", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(FastCheck.tuple(text, json), { maxLength: 5 }), (entries) => {
        const spaced = entries.map(([name, value]) =>
          ` ${JSON.stringify(name)} :\n ${JSON.stringify(value, null, 1)}\t`
        )
        const source = ` {${spaced.join(",")} } `
        const found = JsonText.members(source)?.map(({ end, name, start }) => [name, source.slice(start, end)])
        assert.deepStrictEqual(found, entries.map(([name, value]) => [name, JSON.stringify(value, null, 1)]))
      }),
      seeded
    )
  })

  it.each(["", "[1]", "null", "\"{}\"", "{\"a\":1", "{\"a\":1}}", "{a:1}"])("finds no members in %j", (source) => {
    assert.isUndefined(JsonText.members(source))
  })
})
