/**
 * The example for application authors: a shared counter, the resolver that loses clicks, and the one that does not.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { acceptServer, keepMerged, serverWins } from "oversqlite"
import type { ConflictResolver } from "oversqlite"
import { Simulation } from "oversqlite/testing"
import type { HostAction, SimulatedSchema } from "oversqlite/testing"

/** Clicks of everybody, one counter a device and day would be better. */
const schema: SimulatedSchema = {
  schema: "shop",
  ddl: ["CREATE TABLE clicks (id TEXT PRIMARY KEY NOT NULL, seen TEXT NOT NULL, stamp TEXT)"],
  tables: [{ name: "clicks", key: "id" }],
  declarations: [{ schema: "shop", table: "clicks", key: { column: "id", kind: "text" } }]
}

/** Every click adds its own name to the row. */
const click: HostAction = {
  name: "click",
  weight: 1,
  act: ({ run, stamp }) => {
    const name = stamp()
    return run(
      `INSERT INTO clicks (id, seen, stamp) VALUES ('home', ?, ?)
         ON CONFLICT (id) DO UPDATE SET seen = seen || ' ' || excluded.seen, stamp = excluded.stamp`,
      [name, name]
    )
  }
}

const words = (value: unknown) => String(value).split(" ").filter((word) => word !== "")

/** Takes every click that either side has seen. */
const union: ConflictResolver = ({ localRow, server }) =>
  Effect.succeed(
    localRow === null || server.row === null
      ? acceptServer
      : keepMerged({
        ...localRow,
        seen: [...new Set([...words(server.row["seen"]), ...words(localRow["seen"])])].sort().join(" ")
      })
  )

/** What the shop is promised: every acknowledged click is counted. */
const everyClickCounts = ({ acknowledged, rows }: Simulation.SimulationEnd) => {
  const counted = rows("clicks").flatMap(({ seen }) => words(seen)).length
  const clicked = acknowledged["click"] ?? 0
  return counted === clicked ? [] : [`${clicked} clicks were acknowledged, ${counted} are counted`]
}

/** No restored copies: clicks that only a lost device knew are lost with it. */
const options = (seed: number, resolver: ConflictResolver): Simulation.SimulationOptions => ({
  seed,
  devices: 2,
  steps: 20,
  schema,
  hosts: [click],
  resolver,
  verify: everyClickCounts,
  weights: { "back up": 0, "roll back": 0, "clone": 0, "switch": 0, "server back up": 0, "server restore": 0 }
})

describe("a lost update [conflicts.md §2]", () => {
  it.effect("is found when the resolver lets the server win", () =>
    Effect.gen(function*() {
      const failing: Array<string> = []
      for (let seed = 1; seed <= 10 && failing.length === 0; seed++) {
        failing.push(...(yield* Simulation.run(options(seed, serverWins))).violations)
      }
      assert.match(failing[0] ?? "", /\d+ clicks were acknowledged, \d+ are counted/)
    }), 60_000)

  it.effect("does not happen when the resolver takes both sides", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 2; seed++) {
        assert.deepStrictEqual((yield* Simulation.run(options(seed, union))).violations, [])
      }
    }), 60_000)
})
