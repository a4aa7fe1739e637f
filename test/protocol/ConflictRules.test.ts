import { assert, describe, it } from "@effect/vitest"
import { Either, Option, Schema } from "effect"
import { AnswerRules, ExactJson, WireError } from "oversqlite/protocol"
import { scenarios } from "./fixtures.js"

const decodeBody = Schema.decodeUnknownSync(WireError.ErrorBody)

const details = {
  schema: "business",
  table: "users",
  key: { id: "1" },
  op: "UPDATE",
  base_row_version: 1,
  server_row_version: 2,
  server_row_deleted: false,
  server_row: { id: "1" }
}

const recognise = (status: number, body: object) =>
  AnswerRules.conflict(status, decodeBody({ error: "push_conflict", message: "m", ...body }))

const outcome = (status: number, body: object): string =>
  Either.match(recognise(status, body), {
    onLeft: ({ rule }) => rule,
    onRight: Option.match({ onNone: () => "none", onSome: (conflicts) => `${conflicts.length}` })
  })

describe("structured conflicts", () => {
  const cases: ReadonlyArray<readonly [string, number, object, string]> = [
    ["a conflict", 409, { conflict: details }, "1"],
    ["another status", 400, { conflict: details }, "none"],
    ["another code", 409, { error: "source_retired", conflict: details }, "none"],
    ["no details", 409, {}, "none"],
    ["null details", 409, { conflict: null }, "none"],
    ["a list", 409, { conflict: details, conflicts: [details, { ...details, key: { id: "2" } }] }, "2"],
    ["a null list", 409, { conflict: details, conflicts: null }, "1"],
    ["an empty list", 409, { conflict: details, conflicts: [] }, "field_invalid"],
    ["a list that is none", 409, { conflict: details, conflicts: details }, "field_invalid"],
    ["a bad entry", 409, { conflict: details, conflicts: [details, { ...details, op: "" }] }, "row_invalid"],
    ["a text", 409, { conflict: "users 1" }, "field_invalid"],
    ["no schema", 409, { conflict: { ...details, schema: null } }, "row_invalid"],
    ["a blank table", 409, { conflict: { ...details, table: " " } }, "row_invalid"],
    ["no key", 409, { conflict: { ...details, key: {} } }, "row_invalid"],
    ["a number as key", 409, { conflict: { ...details, key: { id: 1 } } }, "row_invalid"],
    ["an unknown op", 409, { conflict: { ...details, op: "UPSERT" } }, "row_invalid"],
    ["a negative version", 409, { conflict: { ...details, server_row_version: -1 } }, "field_invalid"],
    ["a version as text", 409, { conflict: { ...details, server_row_version: "2" } }, "field_invalid"],
    ["a row that is none", 409, { conflict: { ...details, server_row: [1] } }, "field_invalid"],
    ["a deleted row that is there", 409, { conflict: { ...details, server_row_deleted: true } }, "field_invalid"],
    ["a tombstone", 409, { conflict: { ...details, server_row_deleted: true, server_row: null } }, "1"],
    ["an unknown row", 409, { conflict: { ...details, server_row_version: 0, server_row: null } }, "1"],
    ["an absent row", 409, { conflict: { ...details, server_row: undefined } }, "1"],
    ["a hidden column", 409, { conflict: { ...details, server_row: { _sync_scope_id: "u" } } }, "hidden_column"]
  ]

  for (const [name, status, body, expected] of cases) {
    it(`${name} → ${expected} [conflicts.md §1]`, () => {
      assert.strictEqual(outcome(status, body), expected)
    })
  }

  it("gives every recorded shape with all its members [wire.md §2.5]", () => {
    const shapes = new Map<string, number>()
    for (const { response } of scenarios.flatMap(({ steps }) => steps)) {
      if (response.status !== 409) continue
      const body = decodeBody(ExactJson.parse(response.body))
      const found = Either.getOrThrow(AnswerRules.conflict(response.status, body))
      assert.strictEqual(Option.isSome(found), body.error === "push_conflict")
      if (Option.isSome(found)) {
        assert.deepStrictEqual<unknown>(found.value, [body.conflict])
        for (const { op, server_row, server_row_deleted, server_row_version } of found.value) {
          const shape = `${op} ${server_row === null ? server_row_deleted ? "tombstone" : "missing" : "live"}`
          assert.strictEqual(server_row_version === 0, shape.endsWith("missing"))
          shapes.set(shape, (shapes.get(shape) ?? 0) + 1)
        }
      }
    }
    assert.deepStrictEqual([...shapes.keys()].sort(), [
      "DELETE live",
      "DELETE missing",
      "DELETE tombstone",
      "INSERT live",
      "INSERT tombstone",
      "UPDATE live",
      "UPDATE missing",
      "UPDATE tombstone"
    ])
  })

  it("keeps integers beyond 2^53 in a server row [wire.md §12]", () => {
    const text = JSON.stringify({ error: "push_conflict", message: "", conflict: details })
      .replace("{\"id\":\"1\"}}", "{\"n\":9007199254740993}}")
    const found = AnswerRules.conflict(409, decodeBody(ExactJson.parse(text)))
    const [first] = Option.getOrThrow(Either.getOrThrow(found))
    assert.deepStrictEqual(first?.server_row, { n: 9007199254740993n })
  })
})
