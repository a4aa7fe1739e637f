/** kill -9 at random moments under load; the long run is `npm run kill` (issue 4). */
import { FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { killRun } from "./support/KillRun.js"

describe("a server that is killed under load", () => {
  it.scopedLive(
    "has every acknowledged commit afterwards, none twice, and no half ones [issue 4, server.md §1]",
    () =>
      Effect.gen(function*() {
        const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
        const report = yield* Effect.promise(() => killRun({ directory, kills: 6, seed: 20_261 }))
        assert.deepStrictEqual(report.violations, [])
        assert.strictEqual(report.kills, 6)
        assert.isAbove(report.acknowledged, 15)
        assert.isAtLeast(report.bundles, report.acknowledged)
      }).pipe(Effect.provide(NodeContext.layer)),
    240_000
  )
})
