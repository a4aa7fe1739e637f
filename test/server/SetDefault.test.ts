/** What a delete writes into the rows that refer to the deleted one (server.md §3, hashing.md §2.1). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { BundleHash, Wire } from "oversqlite/protocol"
import type { TableDeclaration } from "oversqlite/server"
import { device, outcome, payloads } from "./support/Device.js"
import { inProcess } from "./support/TestServer.js"

const a = device("source-a")

const decodeRows = Schema.decodeUnknownSync(Schema.Array(Wire.BundleRow))

const tables = (kind: "text" | "uuid", value: unknown): ReadonlyArray<TableDeclaration> => [
  { schema: "business", table: "parents", key: { column: "id", kind }, columns: {} },
  {
    schema: "business",
    table: "children",
    key: { column: "id", kind: "text" },
    columns: { parent: { kind, default: value } },
    references: [{ column: "parent", table: "parents", onDelete: "set default" }]
  }
]

const uuid = (digit: string) => [8, 4, 4, 4, 12].map((length) => digit.repeat(length)).join("-")

describe("set default", () => {
  for (
    const [kind, value, stored] of [
      ["text", "a<&>\u2028\"b\"", "a<&>\u2028\"b\""],
      ["text", ":scope it's :level", ":scope it's :level"],
      ["text", 5, "5"],
      ["uuid", uuid("A"), uuid("a")],
      ["text", undefined, null]
    ] as const
  ) {
    it.effect(`writes ${JSON.stringify(value)} as an upload of it would be stored [hashing.md §1.3, values.md §4]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        const gone = kind === "uuid" ? uuid("f") : "gone"
        const parent = (id: string) => ({ table: "parents", key: { id }, op: "INSERT", payload: {} })
        const child = { table: "children", key: { id: "c" }, op: "INSERT", payload: { parent: gone } }
        const parents = [gone, ...(stored === null ? [] : [stored])].map(parent)
        assert.strictEqual(outcome(yield* a.push(1, [...parents, child])), "200")
        const deleted = { table: "parents", key: { id: gone }, op: "DELETE", base_row_version: 1 }
        assert.strictEqual(outcome(yield* a.push(2, [deleted])), "200")
        const reply = yield* a.rows(2)
        assert.deepStrictEqual(payloads(reply)[1], { id: "c", parent: stored })
        assert.strictEqual(BundleHash.bundleHash(decodeRows(reply.body["rows"])), reply.body["bundle_hash"])
      }).pipe(Effect.provide(inProcess({ tables: tables(kind, value) }))))
  }
})
