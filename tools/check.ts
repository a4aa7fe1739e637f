/**
 * Runs the project's own checks: all of them, or those named on the command line. Exit code 1 if one finds anything,
 * and also if one has examined nothing: a check that looks at no file proves nothing.
 */
import type { Check } from "./checks/Check.js"
import { documentation } from "./checks/documentation.js"
import { effectDiagnostics } from "./checks/effectDiagnostics.js"
import { examples } from "./checks/examples.js"
import { imports } from "./checks/imports.js"
import { packaging } from "./checks/packaging.js"
import { words } from "./checks/words.js"
import { projectRoot } from "./paths.js"

const checks: Readonly<Record<string, Check>> = {
  diagnostics: effectDiagnostics,
  documentation,
  examples,
  imports,
  package: packaging,
  words
}

const named = process.argv.slice(2)
let failed = false

for (const name of named.length === 0 ? Object.keys(checks) : named) {
  const check = checks[name]
  if (check === undefined) {
    throw new Error(`no check named ${name}; there are: ${Object.keys(checks).join(", ")}`)
  }
  const { examined, findings, unit } = await check(projectRoot)
  for (const { file, line, message } of findings) {
    console.error(`${file}${line === undefined ? "" : `:${line}`}: ${message}`)
  }
  if (examined === 0) {
    console.error(`${name}: examined no ${unit}`)
  }
  console.log(`${name}: ${examined} ${unit} examined, ${findings.length} findings`)
  failed ||= findings.length > 0 || examined === 0
}

process.exitCode = failed ? 1 : 0
