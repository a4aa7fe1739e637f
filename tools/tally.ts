/**
 * Prints what a whole run comes to in one line, `N passed, N failed`. Tests are counted from the test runner's report. Every
 * failed check, every step named on the command line, every test file that broke outside its tests and a run that left no
 * report count as one failure each.
 */
import { Schema } from "effect"
import * as fs from "node:fs"
import { checkReport, testReport } from "./paths.js"

const Tests = Schema.parseJson(Schema.Struct({
  numPassedTests: Schema.Number,
  numFailedTests: Schema.Number,
  testResults: Schema.Array(Schema.Struct({
    status: Schema.String,
    assertionResults: Schema.Array(Schema.Struct({ status: Schema.String }))
  }))
}))

const Checks = Schema.parseJson(Schema.Struct({
  checksFailed: Schema.Array(Schema.String),
  testsPassed: Schema.Boolean
}))

const read = <A>(file: string, schema: Schema.Schema<A, string>): A | undefined =>
  fs.existsSync(file) ? Schema.decodeSync(schema)(fs.readFileSync(file, "utf8")) : undefined

const tests = read(testReport, Tests)
const checks = read(checkReport, Checks)

const brokenFiles =
  tests?.testResults.filter(({ assertionResults, status }) =>
    status === "failed" && !assertionResults.some((result) => result.status === "failed")
  ).length ?? 0
const failedTests = (tests?.numFailedTests ?? 0) + brokenFiles
// An error outside every test fails the run without failing a test.
const outside = failedTests === 0 && checks?.testsPassed !== true ? 1 : 0
const passed = tests?.numPassedTests ?? 0
const nothingTested = passed === 0 && failedTests + outside === 0 ? 1 : 0
const failed = failedTests + outside + nothingTested + (checks?.checksFailed.length ?? 0) + process.argv.slice(2).length

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
