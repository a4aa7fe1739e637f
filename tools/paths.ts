import * as path from "node:path"
import { fileURLToPath } from "node:url"

/** The folder of `package.json`. */
export const projectRoot = path.resolve(fileURLToPath(new URL("..", import.meta.url)))

/** Where checks and tests leave their reports. */
export const reportFolder = path.join(projectRoot, "node_modules", ".cache", "oversqlite")

/** The test runner's report of its last run. */
export const testReport = path.join(reportFolder, "tests.json")

/** Which checks of the last run failed, and whether its tests did. */
export const checkReport = path.join(reportFolder, "checks.json")
