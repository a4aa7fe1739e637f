/**
 * `npm run certificate -- [--operation O] [--state S] [--kind K] [--every N] [--every-stop] [--folder DIR]`: an incident at every point of
 * every operation, on the device and on the server. Prints how many of the points were visited and what was violated.
 */
import { Clock, Effect } from "effect"
import * as fs from "node:fs"
import { parseArgs } from "node:util"
import * as Certificate from "../src/testing/Certificate.js"

const inMemory = "/dev/shm"

const { values } = parseArgs({
  options: {
    operation: { type: "string" },
    state: { type: "string" },
    kind: { type: "string" },
    every: { type: "string", default: "1" },
    "every-stop": { type: "boolean", default: false },
    folder: { type: "string", ...(fs.existsSync(inMemory) ? { default: inMemory } : {}) }
  }
})

const out = (line: string) => process.stdout.write(`${line}\n`)

const total = () => ({ pairs: 0, enumerated: 0, visited: 0, runs: 0, violations: 0, millis: 0 })

const describe = (sum: ReturnType<typeof total>) =>
  `${sum.pairs} pairs, ${sum.visited} of ${sum.enumerated} points visited, ${sum.runs} runs, ${sum.violations} violations, ` +
  `${Math.round(sum.millis / 1000)} s`

const program = Effect.gen(function*() {
  const all = total()
  const chosen = Certificate.pairs.filter(([operation, state]) =>
    operation === (values.operation ?? operation) && state === (values.state ?? state)
  )
  for (const kind of Certificate.incidentKinds) {
    if (values.kind !== undefined && kind !== values.kind) continue
    const ofKind = total()
    for (const [operation, state] of chosen) {
      const began = yield* Clock.currentTimeMillis
      const shown = yield* Certificate.certify(operation, state, {
        kind,
        every: Number(values.every),
        everyStop: values["every-stop"],
        folder: values.folder
      })
      const millis = (yield* Clock.currentTimeMillis) - began
      for (const sum of [ofKind, all]) {
        sum.pairs++
        sum.enumerated += shown.enumerated
        sum.visited += shown.visited
        sum.runs += shown.runs
        sum.violations += shown.violations.length
        sum.millis += millis
      }
      out(
        `${kind} | ${operation} | ${state} | ${shown.visited} of ${shown.enumerated} points | ` +
          `${shown.runs} runs | ` +
          `${shown.violations.length} violations | ${(millis / 1000).toFixed(1)} s`
      )
      for (const line of shown.violations.slice(0, 8)) out(`  ${line.slice(0, 900)}`)
    }
    out(`${kind}: ${describe(ofKind)}`)
  }
  out(`total: ${describe(all)}`)
  process.exitCode = all.violations === 0 ? 0 : 1
})

await Effect.runPromise(program)
