/**
 * `npm run planted -- [--seeds N] [--steps K] [--only NAME]`: how many seeds it takes to find each planted bug.
 */
import { Effect } from "effect"
import { parseArgs } from "node:util"
import type { Finding } from "../src/testing/PlantedBugs.js"
import { bugs, find, firstSeedOf, isSound, worldOf } from "../src/testing/PlantedBugs.js"

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "40" },
    steps: { type: "string", default: "60" },
    only: { type: "string", default: "" }
  }
})

const out = (line: string) => process.stdout.write(`${line}\n`)

const program = Effect.gen(function*() {
  const chosen = Object.entries(bugs).filter(([name]) => name.includes(values.only))
  let found = 0
  const sound = new Map<string, Effect.Effect<boolean>>()
  out("planted bug | seeds | times it took effect | first violation")
  for (const [name, plant] of chosen) {
    const last = firstSeedOf(name) - 1 + Number(values.seeds)
    let seed = firstSeedOf(name) - 1
    let planted = 0
    let finding: Finding | undefined
    while (finding?.outcome !== "found" && seed < last) {
      seed++
      const world = worldOf(name)
      const options = { ...world, seed, devices: 3, steps: Number(values.steps) }
      const key = `${seed} ${JSON.stringify(world)}`
      const known = sound.get(key) ?? (yield* Effect.cached(isSound(options)))
      sound.set(key, known)
      finding = yield* find(plant, options, known)
      planted += finding.planted
      if (finding.outcome === "unproven") out(`seed ${seed} fails without "${name}" as well: ${finding.violation}`)
    }
    if (finding?.outcome === "found") found++
    const verdict = finding?.outcome === "found"
      ? `${seed}`
      : planted === 0
      ? `ERROR: planted bug "${name}" never took effect in ${seed}`
      : `not found in ${seed}`
    out(`${name} | ${verdict} | ${planted} | ${(finding?.violation ?? "").replaceAll(/\s+/gu, " ").slice(0, 160)}`)
  }
  out(`${found} of ${chosen.length} planted bugs found`)
  process.exitCode = found === chosen.length ? 0 : 1
})

await Effect.runPromise(program)
