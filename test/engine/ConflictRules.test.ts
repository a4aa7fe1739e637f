/** The truth table of conflicts.md §4 and the shapes of §2.1, pure. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { byTable, clientWins, serverWins } from "oversqlite"
import type { ConflictDecision, ConflictInput } from "oversqlite"
import type { ConflictEffect } from "../../src/engine/ConflictRules.js"
import { effectOf, shapeOf } from "../../src/engine/ConflictRules.js"

type Op = ConflictInput["localOp"]
type Shape = ConflictInput["server"]["shape"]

const effect = (
  row: ConflictEffect["row"],
  state: ConflictEffect["state"],
  requeue: ConflictEffect["requeue"] = undefined
): ConflictEffect => ({ row, state, requeue })

const invalid = undefined

/** conflicts.md §4, cell by cell: accept server, keep local, keep merged, recreate. */
const table: ReadonlyArray<
  readonly [Op, Shape, accept: ConflictEffect, ...others: ReadonlyArray<ConflictEffect | undefined>]
> = [
  [
    "INSERT",
    "live",
    effect("take_server", "live"),
    effect("leave", "live", "UPDATE"),
    effect("take_merged", "live", "UPDATE"),
    invalid
  ],
  [
    "INSERT",
    "tombstone",
    effect("delete", "deleted"),
    effect("leave", "deleted", "INSERT"),
    effect("take_merged", "deleted", "INSERT"),
    effect("leave", "deleted", "INSERT")
  ],
  [
    "INSERT",
    "missing",
    effect("delete", "removed"),
    effect("leave", "removed", "INSERT"),
    effect("take_merged", "removed", "INSERT"),
    effect("leave", "removed", "INSERT")
  ],
  [
    "UPDATE",
    "live",
    effect("take_server", "live"),
    effect("leave", "live", "UPDATE"),
    effect("take_merged", "live", "UPDATE"),
    invalid
  ],
  ["UPDATE", "tombstone", effect("delete", "deleted"), invalid, invalid, effect("leave", "deleted", "INSERT")],
  ["UPDATE", "missing", effect("delete", "removed"), invalid, invalid, effect("leave", "removed", "INSERT")],
  ["DELETE", "live", effect("take_server", "live"), effect("leave", "live", "DELETE"), invalid, invalid],
  ["DELETE", "tombstone", effect("delete", "deleted"), effect("delete", "deleted"), invalid, invalid],
  ["DELETE", "missing", effect("delete", "removed"), effect("delete", "removed"), invalid, invalid]
]

const decisions: ReadonlyArray<ConflictDecision["_tag"]> = ["AcceptServer", "KeepLocal", "KeepMerged", "Recreate"]

describe("the effect of a decision [conflicts.md §4]", () => {
  for (const [op, shape, ...cells] of table) {
    for (const [position, decision] of decisions.entries()) {
      it(`local ${op}, server ${shape}, ${decision}: ${JSON.stringify(cells[position] ?? "invalid")}`, () => {
        assert.deepStrictEqual(effectOf(op, shape, decision), cells[position])
      })
    }
  }
})

describe("the shape of the server's row [conflicts.md §2.1]", () => {
  const shapes: ReadonlyArray<readonly [row: unknown, deleted: boolean, Shape]> = [
    [{ id: "u1" }, false, "live"],
    [null, true, "tombstone"],
    [undefined, true, "tombstone"],
    [null, false, "missing"],
    [undefined, false, "missing"]
  ]
  for (const [row, deleted, shape] of shapes) {
    it(`row ${JSON.stringify(row)}, deleted ${deleted}: ${shape}`, () => {
      assert.strictEqual(shapeOf({ server_row: row, server_row_deleted: deleted }), shape)
    })
  }
})

describe("the built-in resolvers [conflicts.md §2.3]", () => {
  const input = (localOp: Op, shape: Shape, table = "users"): ConflictInput => ({
    schema: "business",
    table,
    key: "u1",
    localOp,
    localRow: null,
    baseRowVersion: 1,
    server: { shape, rowVersion: 2, row: null }
  })

  for (const [op, shape] of table) {
    it.effect(`give an allowed answer to ${op} against ${shape}`, () =>
      Effect.gen(function*() {
        const server = yield* serverWins(input(op, shape))
        const client = yield* clientWins(input(op, shape))
        assert.strictEqual(server._tag, "AcceptServer")
        assert.strictEqual(client._tag, op === "UPDATE" && shape !== "live" ? "Recreate" : "KeepLocal")
        assert.isDefined(effectOf(op, shape, server._tag))
        assert.isDefined(effectOf(op, shape, client._tag))
      }))
  }

  it.effect("can be chosen by table, with a fallback", () =>
    Effect.gen(function*() {
      const resolver = byTable({ notes: clientWins })
      assert.strictEqual((yield* resolver(input("UPDATE", "live", "notes")))._tag, "KeepLocal")
      assert.strictEqual((yield* resolver(input("UPDATE", "live", "users")))._tag, "AcceptServer")
      assert.strictEqual((yield* resolver(input("UPDATE", "live", "constructor")))._tag, "AcceptServer")
      const other = byTable({}, clientWins)
      assert.strictEqual((yield* other(input("UPDATE", "live")))._tag, "KeepLocal")
    }))
})
