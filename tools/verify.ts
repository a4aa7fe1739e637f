/**
 * The project's test command: the static checks, two at a time, then the tests, so that the output ends on the summary of
 * the test runner. Everything runs even if something fails before it; the exit code is 1 if anything failed.
 */
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { checkReport, projectRoot, reportFolder } from "./paths.js"

const check = (...names: ReadonlyArray<string>) => ["tsx", "tools/check.ts", ...names]

/** The longest first: they decide how long the whole takes. */
const steps: ReadonlyArray<readonly [name: string, command: ReadonlyArray<string>]> = [
  ["package", check("package")],
  ["types", ["tsc", "-p", "tsconfig.json", "--noEmit"]],
  ["diagnostics", check("diagnostics")],
  ["lint", ["eslint", ".", "--max-warnings", "0"]],
  ["examples", check("examples")],
  ["imports, documentation, words", check("imports", "documentation", "words")]
]

const run = (command: ReadonlyArray<string>, stdio: "inherit" | "pipe") =>
  new Promise<{ readonly ok: boolean; readonly output: string }>((resolve, reject) => {
    const [program = "", ...args] = command
    const child = spawn(path.join(projectRoot, "node_modules", ".bin", program), args, {
      cwd: projectRoot,
      stdio: ["ignore", stdio, stdio]
    })
    let output = ""
    child.stdout?.setEncoding("utf8").on("data", (text: string) => output += text)
    child.stderr?.setEncoding("utf8").on("data", (text: string) => output += text)
    child.on("error", reject)
    child.on("close", (code) => resolve({ ok: code === 0, output: output.trim() }))
  })

// A run that breaks off must not be judged by the reports of the run before it.
fs.rmSync(reportFolder, { recursive: true, force: true })
fs.mkdirSync(reportFolder, { recursive: true })

const waiting = [...steps]
const failed: Array<string> = []

const worker = async () => {
  for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
    const [name, command] = step
    const started = performance.now()
    const { ok, output } = await run(command, "pipe")
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    console.log(`${ok ? "✓" : "✗"} ${name} (${seconds} s)`)
    if (!ok) {
      failed.push(name)
      console.log(`${output}\n`)
    }
  }
}

await Promise.all([worker(), worker()])

if (failed.length > 0) console.log(`checks failed: ${failed.join(", ")}`)

const tests = await run(["vitest", "run", ...process.argv.slice(2)], "inherit")
fs.writeFileSync(checkReport, JSON.stringify({ checksFailed: failed, testsPassed: tests.ok }))
process.exitCode = failed.length === 0 && tests.ok ? 0 : 1
