/**
 * `npm run simulate -- --seeds N [--seed S] [--devices D] [--steps K] [--shrink] [--trace]`: runs N simulations from
 * seed S on and prints what they have shown.
 */
import { Effect } from "effect"
import { parseArgs } from "node:util"
import * as Script from "../src/testing/Script.js"
import type { SimulationReport } from "../src/testing/Simulation.js"
import * as Simulation from "../src/testing/Simulation.js"

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "10" },
    seed: { type: "string", default: "1" },
    devices: { type: "string", default: "3" },
    steps: { type: "string", default: "60" },
    shrink: { type: "boolean", default: false },
    trace: { type: "boolean", default: false }
  }
})

const out = (line: string) => process.stdout.write(`${line}\n`)

const total = { seeds: 0, hours: 0, steps: 0, writes: 0, points: 0, crashPoints: 0, violations: 0 }
const faults: Record<string, number> = {}

const add = (report: SimulationReport) => {
  total.seeds++
  total.hours += report.virtualMillis * report.devices / 3_600_000
  total.steps += report.script.length
  total.writes += report.writes
  total.points += report.points
  total.crashPoints += report.crashPoints
  total.violations += report.violations.length
  for (const [kind, count] of Object.entries(report.faults)) faults[kind] = (faults[kind] ?? 0) + count
}

const program = Effect.gen(function*() {
  const began = performance.now()
  const first = Number(values.seed)
  const options = { devices: Number(values.devices), steps: Number(values.steps), trace: values.trace }
  for (let seed = first; seed < first + Number(values.seeds); seed++) {
    const report = yield* Simulation.run({ ...options, seed })
    add(report)
    if (values.trace) { for (const line of report.trace) out(line) }
    if (report.violations.length === 0) continue
    out(`seed ${seed} fails:`)
    for (const line of report.violations.slice(0, 10)) out(`  ${line.slice(0, 1500)}`)
    out(
      `  reproduce: npm run simulate -- --seeds 1 --seed ${seed} --devices ${options.devices} --steps ${options.steps} --shrink`
    )
    if (values.shrink) {
      const shortest = yield* Simulation.shrink({ ...options, seed })
      out(`  shortest script (${shortest.script.length} steps):`)
      for (const step of shortest.script) out(`    ${Script.describe(step)}`)
      for (const line of shortest.violations.slice(0, 3)) out(`    -> ${line.slice(0, 1500)}`)
    }
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  const kinds = Object.entries(faults).sort(([left], [right]) => left < right ? -1 : 1)
  out(
    `${total.seeds} seeds, ${options.devices} devices, ${total.hours.toFixed(1)} device-hours, ${total.steps} steps, `
      + `${total.writes} writes, ${total.points} points, ${total.crashPoints} crash points, `
      + `${total.violations} violations, ${seconds} s`
  )
  out(`faults: ${kinds.map(([kind, count]) => `${kind} ${count}`).join(", ")}`)
  process.exitCode = total.violations === 0 ? 0 : 1
})

await Effect.runPromise(program)
