/** `npm run planted -- [--seeds N] [--steps K]`: how many seeds it takes to find each planted bug. */
import { Effect } from "effect"
import { parseArgs } from "node:util"
import { bugs } from "../src/testing/PlantedBugs.js"
import * as Simulation from "../src/testing/Simulation.js"

const { values } = parseArgs({
  options: { seeds: { type: "string", default: "10" }, steps: { type: "string", default: "30" } }
})

const out = (line: string) => process.stdout.write(`${line}\n`)

const program = Effect.gen(function*() {
  let found = 0
  for (const [name, plant] of Object.entries(bugs)) {
    let seed = 0
    let violation: string | undefined
    while (violation === undefined && seed < Number(values.seeds)) {
      seed++
      violation = (yield* Simulation.run({ seed, devices: 2, steps: Number(values.steps), plant })).violations[0]
    }
    if (violation !== undefined) found++
    out(`${name} | ${violation === undefined ? `not found in ${seed}` : seed} | ${(violation ?? "").slice(0, 120)}`)
  }
  out(`${found} of ${Object.keys(bugs).length} planted bugs found`)
  process.exitCode = found === Object.keys(bugs).length ? 0 : 1
})

await Effect.runPromise(program)
