import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { JsonReporter } from "vitest/reporters"
import { testReport } from "./tools/paths.js"

const source = (file: string) => fileURLToPath(new URL(`./src/${file}`, import.meta.url))

/** Writes the report without announcing it: the summary stays the last thing printed. */
class ReportFile extends JsonReporter {
  override async writeReport(report: string): Promise<void> {
    await fs.mkdir(path.dirname(testReport), { recursive: true })
    await fs.writeFile(testReport, report)
  }
}

export default defineConfig({
  resolve: {
    alias: [
      { find: /^oversqlite$/, replacement: source("index.ts") },
      { find: /^oversqlite\/(protocol|promise|server|testing)$/, replacement: source("$1/index.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    // A forgotten `.only` fails instead of switching the other tests off.
    allowOnly: false,
    // Processes, not threads: the SQLite driver is a native add-on with state of its own.
    pool: "forks",
    poolOptions: { forks: { minForks: 1, maxForks: 2 } },
    hookTimeout: 30_000,
    testTimeout: 30_000,
    teardownTimeout: 10_000,
    reporters: ["default", new ReportFile({})]
  }
})
