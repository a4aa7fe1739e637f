/** The long kill test: `npm run kill -- --kills 50 --seed 1`. Exit code 1 if anything was lost. */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { parseArgs } from "node:util"
import { killRun } from "./KillRun.js"

const { values } = parseArgs({ options: { kills: { type: "string" }, seed: { type: "string" } } })
const kills = Number(values.kills ?? 50)
const seed = Number(values.seed ?? 1)
const print = (line: string) => process.stdout.write(`${line}\n`)

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "oversqlite-kill-"))
try {
  const began = performance.now()
  const { violations, ...figures } = await killRun({ directory, kills, seed, report: print })
  for (const [name, value] of Object.entries(figures)) print(`${name.padEnd(18)} ${value}`)
  print(`${"seconds".padEnd(18)} ${Math.round((performance.now() - began) / 1000)}`)
  for (const violation of violations) print(`violation: ${violation}`)
  print(violations.length === 0 ? "nothing lost, nothing twice" : `${violations.length} violations with seed ${seed}`)
  process.exitCode = violations.length === 0 ? 0 : 1
} finally {
  fs.rmSync(directory, { recursive: true, force: true })
}
