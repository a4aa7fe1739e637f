import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { RowPayload } from "oversqlite/protocol"
import { seeded, text } from "./arbitraries.js"

const shape = (affinity: RowPayload.Affinity, kind: RowPayload.ColumnClass = "plain"): RowPayload.ColumnShape => ({
  name: "a",
  class: kind,
  affinity
})

const wire = (value: string) => `{"a":${value}}`

const both = (column: RowPayload.ColumnShape, left: string, right: string) => {
  const forth = RowPayload.equivalentWire([column], wire(left), wire(right))
  assert.strictEqual(RowPayload.equivalentWire([column], wire(right), wire(left)), forth, "equality goes both ways")
  return forth
}

const every: ReadonlyArray<RowPayload.Affinity> = ["INTEGER", "NUMERIC", "REAL", "TEXT", "BLOB"]

describe("equivalentWire", () => {
  it.each([
    ["1", "1.0"],
    ["1", "1e0"],
    ["1.10", "1.1"],
    ["0", "-0"],
    ["true", "1"],
    ["false", "0"],
    ["false", "0.0"],
    ["true", "true"],
    ["null", "null"],
    ["9007199254740993", "9007199254740993"],
    ["9007199254740993", "9007199254740992.0"],
    ["5", "\"5\""],
    ["5.0", "\"5\""],
    ["1.50", "\"1.5\""],
    ["true", "\"1\""],
    ["1e21", "\"1e+21\""],
    ["\"x\"", "\"\\u0078\""],
    ["\"2026-03-24T18:42:11Z\"", "\"2026-03-24T18:42:11+00:00\""],
    ["\"2026-03-24T18:42:11.120Z\"", "\"2026-03-24T14:42:11.12-04:00\""],
    ["{\"x\":[1,true]}", "{\"x\":[1.0,1]}"]
  ])("takes %s and %s for the same in every column [payload-codec.md §6.2]", (left, right) => {
    for (const affinity of every) {
      assert.isTrue(both(shape(affinity), left, right), affinity)
    }
  })

  it.each([
    ["1", "2"],
    ["1", "true1"],
    ["2", "true"],
    ["null", "0"],
    ["null", "\"\""],
    ["null", "false"],
    ["\"a\"", "\"A\""],
    ["\"a\"", "\"a \""],
    ["\"\u00e9\"", "\"e\u0301\""],
    ["9007199254740993", "9007199254740992"],
    ["9223372036854775807", "9223372036854775806"],
    ["5", "\"6\""],
    ["\"true\"", "true"],
    ["\"2026-03-24T18:42:11Z\"", "\"2026-03-24T18:42:11\""],
    ["\"2026-03-24T18:42:11\"", "\"2026-03-24T18:42:11+00:00\""],
    ["\"2026-03-24T18:42:11Z\"", "\"2026-03-24T18:42:11.000000001Z\""],
    ["\"2026-03-24T18:42:11Z\"", "\"2026-03-24 18:42:11Z\""],
    ["[1,2]", "[2,1]"],
    ["[1]", "[1,1]"],
    ["{\"x\":1}", "{\"y\":1}"],
    ["{}", "[]"]
  ])("takes %s and %s for different in every column [payload-codec.md §6.2]", (left, right) => {
    for (const affinity of every) {
      assert.isFalse(both(shape(affinity), left, right), affinity)
    }
  })

  it.each<readonly [string, string, ReadonlyArray<RowPayload.Affinity>]>([
    ["5", "\"5.0\"", ["INTEGER", "NUMERIC", "REAL"]],
    ["1e21", "\"1000000000000000000000\"", ["INTEGER", "NUMERIC", "REAL"]],
    ["0.0000001", "\"0.0000001\"", ["INTEGER", "NUMERIC", "REAL"]],
    ["1.5", "\" 1.50 \"", ["INTEGER", "NUMERIC", "REAL"]],
    ["9007199254740993", "\"+9007199254740993\"", ["INTEGER", "NUMERIC", "REAL"]],
    ["1", "\"0x1\"", []],
    ["1", "\"1_0\"", []],
    ["1", "\"\"", []],
    ["0", "\"\"", []]
  ])("compares %s with the text %s as a numeric column would [payload-codec.md §6.2]", (left, right, equal) => {
    for (const affinity of every) {
      assert.strictEqual(both(shape(affinity), left, right), equal.includes(affinity), affinity)
    }
  })

  it("compares UUIDs without regard to case and blobs exactly [payload-codec.md §6.2]", () => {
    const upper = "\"550E8400-E29B-41D4-A716-446655440000\""
    assert.isTrue(both(shape("BLOB", "uuid-key"), upper, upper.toLowerCase()))
    assert.isTrue(both(shape("BLOB", "uuid-ref"), upper, upper.toLowerCase()))
    assert.isFalse(both(shape("BLOB", "blob"), "\"AAAA\"", "\"aaaa\""))
    assert.isFalse(both(shape("TEXT"), upper, upper.toLowerCase()))
  })

  it("does not depend on member order or white space, but on the set of members [payload-codec.md §6.1]", () => {
    const columns = [shape("TEXT"), { ...shape("TEXT"), name: "b" }]
    assert.isTrue(RowPayload.equivalentWire(columns, "{\"a\":1,\"b\":2}", " { \"b\" : 2 , \"a\" : 1 } "))
    assert.isFalse(RowPayload.equivalentWire(columns, "{\"a\":1,\"b\":null}", "{\"a\":1}"))
    assert.isFalse(RowPayload.equivalentWire(columns, "{\"a\":1,\"b\":null}", "{\"a\":1,\"c\":null}"))
    assert.isFalse(RowPayload.equivalentWire(columns, "{\"a\":1}", "{\"a\":1,\"toString\":null}"))
  })

  it("takes text that is no JSON to equal itself only", () => {
    assert.isTrue(RowPayload.equivalentWire([], "{", "{"))
    assert.isFalse(RowPayload.equivalentWire([], "{", "{}"))
    assert.isFalse(RowPayload.equivalentWire([], "1", "[1]"))
  })

  it("takes different texts for different unless both are timestamps [payload-codec.md §6.2]", () => {
    FastCheck.assert(
      FastCheck.property(text, text, (left, right) => {
        assert.strictEqual(both(shape("TEXT"), JSON.stringify(left), JSON.stringify(right)), left === right)
      }),
      seeded
    )
  })
})
