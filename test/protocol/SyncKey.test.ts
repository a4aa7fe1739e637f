import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck } from "effect"
import { Buffer } from "node:buffer"
import { SyncKey } from "oversqlite/protocol"
import { seeded, storableText, text, uuidBytes } from "./arbitraries.js"
import { database } from "./database.js"

describe("SyncKey", () => {
  it.scoped("writes a key as SQLite's json_object does [capture.md §5.3]", () =>
    Effect.gen(function*() {
      const sql = yield* database
      const controls = Array.from({ length: 0x2f }, (_, index) => String.fromCharCode(index + 1)).join("")
      const values = [
        ...FastCheck.sample(storableText, { ...seeded, numRuns: 300 }),
        controls,
        "<>&'\"\\/\u007f\u2028\u2029\u{1f600}\ufeff\uffff",
        ""
      ]
      for (const value of values) {
        const [row] = yield* sql<{ readonly key: string }>`SELECT json_object('id', ${value}) AS key`
        assert.strictEqual(SyncKey.localKey("id", value), row?.key)
      }
    }))

  it("has no unpaired surrogate in a key, as no SQLite text has one [capture.md §5.3]", () => {
    assert.strictEqual(SyncKey.localKey("id", "\ud800x"), "{\"id\":\"\ufffdx\"}")
  })

  it("takes a text key to the wire and back verbatim [payload-codec.md §4.1]", () => {
    FastCheck.assert(
      FastCheck.property(text, (value) => {
        const local = SyncKey.localKey("id", value)
        const wire = Either.getOrThrow(SyncKey.wireKey("id", "text", local))
        assert.deepStrictEqual(JSON.parse(wire), { id: value })
        assert.deepStrictEqual(SyncKey.fromWire("id", "text", JSON.parse(wire)), Either.right(local))
        assert.deepStrictEqual(SyncKey.localValue("id", local), Either.right(value))
      }),
      seeded
    )
  })

  it("takes a blob key to the wire as UUID and back as hex [payload-codec.md §4.1]", () => {
    FastCheck.assert(
      FastCheck.property(uuidBytes, (bytes) => {
        const local = SyncKey.localKey("id", Buffer.from(bytes).toString("hex"))
        const wire = Either.getOrThrow(SyncKey.wireKey("id", "uuid", local))
        assert.match(wire, /^\{"id":"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"\}$/)
        assert.deepStrictEqual(SyncKey.fromWire("id", "uuid", JSON.parse(wire)), Either.right(local))
        assert.deepStrictEqual(
          SyncKey.fromWire("id", "uuid", JSON.parse(wire.toUpperCase().replace("ID", "id"))),
          Either.right(local)
        )
      }),
      seeded
    )
  })

  it.each<readonly [string, SyncKey.KeyKind, string, SyncKey.KeyProblem]>([
    ["a NULL key", "text", "{\"id\":null}", "key_not_text"],
    ["a number", "text", "{\"id\":1}", "key_not_text"],
    ["another member", "text", "{\"ID\":\"1\"}", "key_not_text"],
    ["no object", "text", "[\"id\"]", "key_not_text"],
    ["no JSON", "text", "{", "key_not_text"],
    ["15 bytes", "uuid", `{"id":"${"00".repeat(15)}"}`, "invalid_blob_uuid_key"],
    ["dashes", "uuid", "{\"id\":\"550e8400-e29b-41d4-a716-446655440000\"}", "invalid_blob_uuid_key"]
  ])("refuses a local key with %s [errors.md §1.7]", (_, kind, keyJson, problem) => {
    assert.deepStrictEqual(SyncKey.wireKey("id", kind, keyJson), Either.left(problem))
  })

  it.each<readonly [string, SyncKey.KeyKind, unknown, SyncKey.KeyProblem]>([
    ["no member", "text", {}, "key_not_text"],
    ["an inherited member", "text", Object.create({ id: "1" }), "key_not_text"],
    ["a number", "text", { id: 1 }, "key_not_text"],
    ["null", "text", null, "key_not_text"],
    ["an array", "text", ["id"], "key_not_text"],
    ["hex", "uuid", { id: "00".repeat(16) }, "payload_bad_wire_encoding"],
    ["a text", "uuid", { id: "row-1" }, "payload_bad_wire_encoding"]
  ])("refuses a wire key with %s [payload-codec.md §5]", (_, kind, key, problem) => {
    assert.deepStrictEqual(SyncKey.fromWire("id", kind, key), Either.left(problem))
  })

  it("compares wire keys as canonical JSON of the whole object [payload-codec.md §6.3]", () => {
    assert.strictEqual(
      SyncKey.canonicalKey({ b: "<", a: "1" }),
      SyncKey.canonicalKey(JSON.parse("{\"a\":\"1\",\"b\":\"\\u003c\"}"))
    )
    assert.notStrictEqual(SyncKey.canonicalKey({ id: "a" }), SyncKey.canonicalKey({ id: "A" }))
  })
})
