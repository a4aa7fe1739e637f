/** Every planted defect with one run that is known to find it. `npm run planted` looks for them in all the others. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { PlantedBugs, Simulation } from "oversqlite/testing"

interface Run {
  readonly seed: number
  readonly steps: number
  readonly devices: number
}

const known: ReadonlyMap<string, Run> = new Map([
  ["apply mode is left on", { seed: 1, steps: 15, devices: 2 }],
  ["commits are rolled back", { seed: 1, steps: 15, devices: 2 }],
  ["foreign keys are not deferred", { seed: 12, steps: 25, devices: 2 }],
  ["rows of the outbox are not cleared", { seed: 1, steps: 15, devices: 2 }],
  ["own deletes are not frozen", { seed: 5, steps: 15, devices: 2 }],
  ["uploads name the newest version of the server for their base", { seed: 7, steps: 25, devices: 2 }],
  ["an edit made during its upload counts as uploaded", { seed: 4, steps: 15, devices: 2 }],
  ["the source's counter is not raised", { seed: 4, steps: 15, devices: 2 }],
  ["the push stage is not emptied", { seed: 5, steps: 25, devices: 2 }],
  ["the checkpoint runs ahead", { seed: 1, steps: 15, devices: 2 }],
  ["row state is not written", { seed: 1, steps: 15, devices: 2 }],
  ["deleted rows stay known as live", { seed: 5, steps: 15, devices: 2 }],
  ["updates of known people are not applied", { seed: 2, steps: 15, devices: 2 }],
  ["tables are not emptied before a snapshot", { seed: 2, steps: 15, devices: 2 }],
  ["a snapshot brings pending work its own versions for a base", { seed: 7, steps: 25, devices: 2 }],
  ["the operation is never ended", { seed: 1, steps: 15, devices: 2 }],
  ["the server takes every base version", { seed: 2, steps: 25, devices: 2 }],
  ["the server deletes rows without a tombstone", { seed: 4, steps: 25, devices: 2 }],
  ["the server commits what it refuses", { seed: 2, steps: 60, devices: 3 }],
  ["the server stores other values in bundles than in rows", { seed: 3, steps: 25, devices: 2 }],
  ["pulls leave deletes out", { seed: 5, steps: 15, devices: 2 }],
  ["snapshots hold the rows of other users", { seed: 5, steps: 25, devices: 2 }],
  ["pulled bundles are empty", { seed: 1, steps: 15, devices: 2 }],
  ["pulled values are altered, and no hash tells", { seed: 3, steps: 25, devices: 2 }],
  ["commits are answered without a hash", { seed: 1, steps: 15, devices: 2 }],
  ["a snapshot says that it is older", { seed: 3, steps: 15, devices: 2 }],
  ["a pull does not look for local changes", { seed: 5, steps: 25, devices: 2 }],
  ["the history of the server is not remembered", { seed: 4, steps: 60, devices: 3 }],
  ["the server tells nobody what a cascade deletes", { seed: 8, steps: 60, devices: 3 }],
  ["apply mode is never switched on", { seed: 2, steps: 15, devices: 2 }],
  ["transactions that fail are committed", { seed: 6, steps: 60, devices: 3 }],
  ["dirty rows are kept after a freeze", { seed: 2, steps: 15, devices: 2 }],
  ["the header of the outbox is not written", { seed: 1, steps: 15, devices: 2 }],
  ["uploads name a base version that is one too old", { seed: 4, steps: 15, devices: 2 }],
  ["a thaw forgets the frozen rows", { seed: 2, steps: 25, devices: 2 }],
  ["an edit made during its upload keeps its old base version", { seed: 8, steps: 60, devices: 3 }],
  ["the source's counter is raised by two", { seed: 4, steps: 15, devices: 2 }],
  ["half of a bundle is replayed", { seed: 3, steps: 15, devices: 2 }],
  ["the checkpoint stands still", { seed: 1, steps: 15, devices: 2 }],
  ["row state is one version behind", { seed: 1, steps: 15, devices: 2 }],
  ["pulled deletes are not applied", { seed: 5, steps: 15, devices: 2 }],
  ["of several versions the oldest is applied", { seed: 4, steps: 15, devices: 2 }],
  ["a snapshot drops pending work", { seed: 2, steps: 15, devices: 2 }],
  ["pending work is not written back over a snapshot", { seed: 2, steps: 15, devices: 2 }],
  ["the gate of a rebuild is never opened", { seed: 2, steps: 15, devices: 2 }],
  ["the server lets rows return over a deletion unseen", { seed: 29, steps: 15, devices: 2 }],
  ["the server raises no version", { seed: 4, steps: 15, devices: 2 }],
  ["the server loses every second row of a bundle", { seed: 3, steps: 15, devices: 2 }],
  ["the server forgets which uploads it has", { seed: 3, steps: 25, devices: 2 }],
  ["pulls bring the newest bundles first", { seed: 4, steps: 15, devices: 2 }],
  ["snapshots leave rows out", { seed: 3, steps: 25, devices: 2 }],
  ["snapshots tell versions that are one too old", { seed: 2, steps: 15, devices: 2 }],
  ["pulled deletes arrive as updates", { seed: 5, steps: 15, devices: 2 }],
  ["committed values are altered under their hash", { seed: 3, steps: 25, devices: 2 }],
  ["snapshot values are altered", { seed: 3, steps: 25, devices: 2 }],
  ["conflicts show another version", { seed: 2, steps: 25, devices: 2 }],
  ["own bundles beyond the checkpoint are not remembered", { seed: 668, steps: 60, devices: 3 }],
  ["what a restored server has lost is not queued again", { seed: 1, steps: 25, devices: 2 }]
])

const label = ({ devices, seed, steps }: Run) => `seed ${seed} of ${devices} devices and ${steps} steps`

describe("planted bugs", () => {
  it("are at least thirty, each with a run that finds it", () => {
    assert.isAtLeast(known.size, 30)
    assert.deepStrictEqual([...known.keys()].sort(), Object.keys(PlantedBugs.bugs).sort())
  })

  for (const [name, run] of known) {
    it.effect(`found: ${name}`, () =>
      Effect.gen(function*() {
        const plant = PlantedBugs.bugs[name] ?? {}
        const options = { ...PlantedBugs.worldOf(name), ...run }
        const { outcome, planted, violation } = yield* PlantedBugs.find(plant, options, Effect.succeed(true))
        assert.isAbove(planted, 0, "it never took effect")
        assert.strictEqual(outcome, "found")
        assert.notStrictEqual(violation, "")
      }), 60_000)
  }

  // A run that fails without a defect proves nothing about one. `npm run planted` looks at the longer ones as well.
  const busy = PlantedBugs.worldOf("")
  const usual = [...known].filter(([name, { steps }]) => steps <= 25 && PlantedBugs.worldOf(name) === busy)
  for (const run of new Map(usual.map(([, run]) => [label(run), run])).values()) {
    it.effect(`nothing is violated without a defect: ${label(run)}`, () =>
      Effect.gen(function*() {
        const { planted, violations } = yield* Simulation.run({ ...busy, ...run })
        assert.deepStrictEqual(violations, [])
        assert.strictEqual(planted, 0)
      }), 60_000)
  }

  it.effect("tells a defect that never takes effect from one that is not found", () =>
    Effect.gen(function*() {
      const run: Run = { seed: 1, steps: 3, devices: 1 }
      const never = { statement: (text: string) => text.replace("no statement is like this", "") }
      assert.strictEqual((yield* PlantedBugs.find(never, run)).outcome, "idle")
      const harmless = { statement: (text: string) => `${text} ` }
      const { outcome, planted } = yield* PlantedBugs.find(harmless, run)
      assert.strictEqual(outcome, "missed")
      assert.isAbove(planted, 0)
    }), 60_000)

  it.effect("does not blame a defect for what fails without it", () =>
    Effect.gen(function*() {
      const plant = PlantedBugs.bugs["commits are rolled back"] ?? {}
      const finding = yield* PlantedBugs.find(plant, { seed: 1, steps: 3, devices: 1 }, Effect.succeed(false))
      assert.strictEqual(finding.outcome, "unproven")
    }), 60_000)

  it.effect("ends a run with its first violation if asked to", () =>
    Effect.gen(function*() {
      const options = { seed: 1, steps: 15, devices: 2, plant: PlantedBugs.bugs["apply mode is left on"] }
      const whole = yield* Simulation.run(options)
      const part = yield* Simulation.run({ ...options, stopAtFirstViolation: true })
      assert.strictEqual(part.violations[0], whole.violations[0])
      assert.isBelow(part.points, whole.points)
    }), 60_000)
})
