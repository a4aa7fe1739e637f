/**
 * `npm run certificate -- [--operation O] [--state S] [--every N]`: stops every operation at every point, on the device
 * and on the server, and prints how many points there were and what was violated.
 */
import { Effect } from "effect"
import { parseArgs } from "node:util"
import * as Certificate from "../src/testing/Certificate.js"

const { values } = parseArgs({
  options: { operation: { type: "string" }, state: { type: "string" }, every: { type: "string", default: "1" } }
})

const out = (line: string) => process.stdout.write(`${line}\n`)

const program = Effect.gen(function*() {
  let points = 0
  let violations = 0
  for (const [operation, state] of Certificate.pairs) {
    if (values.operation !== undefined && operation !== values.operation) continue
    if (values.state !== undefined && state !== values.state) continue
    for (const machine of ["device", "server"] as const) {
      const shown = yield* Certificate.certify(operation, state, { machine, every: Number(values.every) })
      points += shown.points
      violations += shown.violations.length
      out(`${operation} | ${state} | ${machine} | ${shown.points} points | ${shown.violations.length} violations`)
      for (const line of shown.violations.slice(0, 5)) out(`  ${line.slice(0, 600)}`)
    }
  }
  out(`${points} points, ${violations} violations`)
  process.exitCode = violations === 0 ? 0 : 1
})

await Effect.runPromise(program)
