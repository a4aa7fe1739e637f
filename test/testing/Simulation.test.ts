import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Simulation } from "oversqlite/testing"

const options = { devices: 3, steps: 30 }

describe("the simulation", () => {
  for (const seed of [2, 3, 5]) {
    it.effect(
      `ends with equal rows everywhere and nothing lost: seed ${seed} [client-state.md §7]`,
      () =>
        Effect.gen(function*() {
          const report = yield* Simulation.run({ ...options, seed })
          assert.deepStrictEqual(report.violations, [])
          assert.isAbove(report.points, 500)
          assert.isAbove(report.writes, 0)
        }),
      60_000
    )
  }

  it.effect("does the same twice, whatever happens in it", () =>
    Effect.gen(function*() {
      const rare = [
        "interrupt",
        "pause",
        "look",
        "power cut",
        "close",
        "take over",
        "uninstall",
        "switch",
        "clock"
      ] as const
      const others = ["token", "server power cut", "server write", "server wipe", "server restore", "spell"] as const
      const weights = Object.fromEntries([...rare, ...others, "server back up" as const].map((kind) => [kind, 4]))
      for (const seed of [21, 22]) {
        const first = yield* Simulation.run({ ...options, steps: 40, seed, weights })
        const again = yield* Simulation.run({ ...options, steps: 40, seed, weights })
        assert.deepStrictEqual(first.violations, [])
        assert.strictEqual(again.hash, first.hash)
        assert.isAbove(new Set(first.script.map(({ kind }) => kind)).size, 10)
      }
    }), 120_000)

  it.effect("does the same twice for one seed, and something else for another", () =>
    Effect.gen(function*() {
      const first = yield* Simulation.run({ ...options, steps: 25, seed: 11 })
      const again = yield* Simulation.run({ ...options, steps: 25, seed: 11 })
      const other = yield* Simulation.run({ ...options, steps: 25, seed: 12 })
      assert.strictEqual(again.hash, first.hash)
      assert.strictEqual(again.points, first.points)
      assert.notStrictEqual(other.hash, first.hash)
    }), 60_000)

  it.effect("says what was violated, and shrinks the script to what is needed for it", () =>
    Effect.gen(function*() {
      const weights = { "crash": 0, "server crash": 0, "weather": 0, "clone": 0, "switch": 0 }
      const verify = ({ rows }: Simulation.SimulationEnd) =>
        ["people", "notes", "teams", "photos"].flatMap((table) => rows(table).length > 0 ? [`there are ${table}`] : [])
      const shortest = yield* Simulation.shrink({ seed: 2, devices: 1, steps: 10, weights, verify }, { runs: 8 })
      assert.isNotEmpty(shortest.violations)
      assert.isBelow(shortest.script.length, 10)
      assert.match(shortest.violations[0] ?? "", /there are (people|notes|teams|photos)/)
    }), 60_000)
})
