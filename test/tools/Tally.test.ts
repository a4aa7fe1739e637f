import { assert, describe, it } from "@effect/vitest"
import { tally } from "../../tools/tally.js"

describe("tally", () => {
  const file = (status: string, ...tests: ReadonlyArray<string>) => ({
    status,
    assertionResults: tests.map((test) => ({ status: test }))
  })
  const checks = { checksFailed: [], testsPassed: true }
  const tests = { numPassedTests: 2, numFailedTests: 0, testResults: [file("passed", "passed", "passed")] }

  it("counts the tests of a good run", () => {
    assert.deepStrictEqual(tally(tests, checks, []), { passed: 2, failed: 0 })
  })

  it("counts failed tests, files that broke outside a test, failed checks and failed steps", () => {
    const report = {
      numPassedTests: 1,
      numFailedTests: 1,
      testResults: [file("failed", "passed", "failed"), file("failed")]
    }
    assert.deepStrictEqual(
      tally(report, { checksFailed: ["lint", "types"], testsPassed: false }, ["start"]),
      { passed: 1, failed: 5 }
    )
  })

  it("counts one failure where the run failed and names nothing", () => {
    assert.deepStrictEqual(tally(tests, { ...checks, testsPassed: false }, []), { passed: 2, failed: 1 })
    assert.deepStrictEqual(tally(tests, undefined, []), { passed: 2, failed: 1 })
    assert.deepStrictEqual(tally(undefined, undefined, []), { passed: 0, failed: 1 })
    assert.deepStrictEqual(
      tally({ numPassedTests: 0, numFailedTests: 0, testResults: [] }, checks, []),
      { passed: 0, failed: 1 }
    )
  })
})
