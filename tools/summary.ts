/** Prints the last line of a whole run, `N passed, N failed`. The arguments name further steps that failed. */
import { Schema } from "effect"
import * as fs from "node:fs"
import { checkReport, testReport } from "./paths.js"
import { CheckReport, tally, TestReport } from "./tally.js"

const read = <A>(file: string, schema: Schema.Schema<A, string>): A | undefined =>
  fs.existsSync(file) ? Schema.decodeSync(schema)(fs.readFileSync(file, "utf8")) : undefined

const { failed, passed } = tally(read(testReport, TestReport), read(checkReport, CheckReport), process.argv.slice(2))

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
