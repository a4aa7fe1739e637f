import { Schema } from "effect"

/** The part of the test runner's JSON report that counts. */
export const TestReport = Schema.parseJson(Schema.Struct({
  numPassedTests: Schema.Number,
  numFailedTests: Schema.Number,
  testResults: Schema.Array(Schema.Struct({
    status: Schema.String,
    assertionResults: Schema.Array(Schema.Struct({ status: Schema.String }))
  }))
}))

/** What `tools/verify.ts` leaves behind. */
export const CheckReport = Schema.parseJson(Schema.Struct({
  checksFailed: Schema.Array(Schema.String),
  testsPassed: Schema.Boolean
}))

/**
 * What a whole run comes to. Tests are counted from the report of the test runner. Every failed check, every failed step
 * and every test file that broke outside its tests count as one failure each; so does a run that failed without naming a
 * test, left no report or passed no test.
 */
export const tally = (
  tests: typeof TestReport.Type | undefined,
  checks: typeof CheckReport.Type | undefined,
  failedSteps: ReadonlyArray<string>
): { readonly passed: number; readonly failed: number } => {
  const brokenFiles =
    tests?.testResults.filter(({ assertionResults, status }) =>
      status === "failed" && !assertionResults.some((result) => result.status === "failed")
    ).length ?? 0
  const passed = tests?.numPassedTests ?? 0
  const failedTests = (tests?.numFailedTests ?? 0) + brokenFiles
  const sound = checks?.testsPassed === true && passed > 0
  const unnamed = failedTests === 0 && !sound ? 1 : 0
  return { passed, failed: failedTests + unnamed + (checks?.checksFailed.length ?? 0) + failedSteps.length }
}
