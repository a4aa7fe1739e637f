/**
 * `npm run simulate -- --seeds N [--seed S] [--devices D] [--steps K] [--shrink] [--salts A,B,C] [--script FILE] [--trace]`:
 * runs N simulations from seed S on and prints what they have shown. `--shrink` shortens the script of a seed that fails and
 * prints the command that runs what is left; `--salts` keeps the steps with these salts only, `--script` takes the steps
 * from a JSON file.
 */
import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import * as Script from "../src/testing/Script.js"
import type { SimulationOptions, SimulationReport } from "../src/testing/Simulation.js"
import * as Simulation from "../src/testing/Simulation.js"

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "10" },
    seed: { type: "string", default: "1" },
    devices: { type: "string", default: "3" },
    steps: { type: "string", default: "60" },
    salts: { type: "string" },
    script: { type: "string" },
    runs: { type: "string", default: "200" },
    shrink: { type: "boolean", default: false },
    trace: { type: "boolean", default: false }
  }
})

const out = (line: string) => process.stdout.write(`${line}\n`)

const total = {
  seeds: 0,
  hours: 0,
  steps: 0,
  writes: 0,
  points: 0,
  crashPoints: 0,
  events: 0,
  violations: 0,
  failed: 0
}
const faults: Record<string, number> = {}
const kinds: Record<string, number> = {}

const count = (counts: Record<string, number>, name: string, by: number) => {
  counts[name] = (counts[name] ?? 0) + by
}

const add = (report: SimulationReport) => {
  total.seeds++
  total.hours += report.virtualMillis * report.devices / 3_600_000
  total.steps += report.script.length
  total.writes += report.writes
  total.points += report.points
  total.crashPoints += report.crashPoints
  total.events += report.watchEvents
  total.violations += report.violations.length
  if (report.violations.length > 0) total.failed++
  for (const [kind, times] of Object.entries(report.faults)) count(faults, kind, times)
  for (const { kind } of report.script) count(kinds, kind, 1)
}

const listed = (counts: Record<string, number>) =>
  Object.entries(counts).sort(([left], [right]) => left < right ? -1 : 1)
    .map(([kind, times]) => `${kind} ${times}`).join(", ")

/** Files in memory: the simulation cuts them off by itself, it needs no disk. */
const folder = existsSync("/dev/shm") ? "/dev/shm" : undefined

const scriptOf = (seed: number, devices: number, steps: number): ReadonlyArray<Script.Step> => {
  const whole = values.script === undefined
    ? Script.make({ seed, devices, steps })
    : JSON.parse(readFileSync(values.script, "utf8"))
  return values.salts === undefined ? whole : Script.only(whole, new Set(values.salts.split(",").map(Number)))
}

const told = (report: SimulationReport, lines: number) => {
  for (const line of report.violations.slice(0, lines)) out(`  ${line.slice(0, 1500)}`)
}

const program = Effect.gen(function*() {
  const began = performance.now()
  const first = Number(values.seed)
  const devices = Number(values.devices)
  const steps = Number(values.steps)
  const command = (seed: number) => `npm run simulate -- --seeds 1 --seed ${seed} --devices ${devices} --steps ${steps}`
  for (let seed = first; seed < first + Number(values.seeds); seed++) {
    const options: SimulationOptions = {
      seed,
      devices,
      folder,
      trace: values.trace,
      script: scriptOf(seed, devices, steps)
    }
    const report = yield* Simulation.run(options)
    add(report)
    if (values.trace) { for (const line of report.trace) out(line) }
    if (report.violations.length === 0) continue
    out(`seed ${seed} fails:`)
    told(report, 10)
    out(`  reproduce: ${command(seed)} --shrink`)
    if (values.shrink) {
      const shortest = yield* Simulation.shrink({ ...options, trace: false }, { runs: Number(values.runs) })
      out(`  shortest script (${shortest.script.length} steps):`)
      for (const step of shortest.script) out(`    ${Script.describe(step)}`)
      told(shortest, 3)
      out(`  reproduce it: ${command(seed)} --salts ${shortest.script.map(({ salt }) => salt).join(",")} --trace`)
    }
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  out(
    `${total.seeds} seeds, ${devices} devices, ${total.hours.toFixed(1)} device-hours, ${total.steps} steps, `
      + `${total.writes} writes, ${total.points} points, ${total.crashPoints} crash points, ${total.events} watch events, `
      + `${total.violations} violations in ${total.failed} seeds, ${seconds} s`
  )
  out(`steps: ${listed(kinds)}`)
  out(`faults: ${listed(faults)}`)
  process.exitCode = total.violations === 0 ? 0 : 1
})

await Effect.runPromise(program)
