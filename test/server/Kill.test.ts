/** kill -9 at random moments under load; the long run is `npm run kill` (issue 4). */
import { FileSystem, HttpServer } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { verifyScope } from "./support/KillModel.js"
import { killRun, tables } from "./support/KillRun.js"
import { KillSource, noCounts } from "./support/KillSource.js"
import { rawDevice } from "./support/RawClient.js"
import { overHttp } from "./support/TestServer.js"

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
        assert.strictEqual(report.bundles, report.acknowledged)
      }).pipe(Effect.provide(NodeContext.layer)),
    240_000
  )
})

describe("the check itself", () => {
  for (
    const [what, statement, problem] of [
      [
        "a lost bundle",
        "DELETE FROM server_bundle WHERE bundle_seq = 5",
        "user-0: source-0 5: acknowledged as 5, and different"
      ],
      [
        "a lost newest bundle",
        "UPDATE server_scope SET latest_bundle_seq = latest_bundle_seq - 1",
        "acknowledged as 12, and lost"
      ],
      [
        "a changed row of the history",
        "UPDATE server_bundle_row SET payload = replace(payload, 'source-0', 'source-9') WHERE bundle_seq = 5",
        "user-0: bundle 5 (source-0 5): the hash is not that of its rows"
      ],
      [
        "a row that lags behind",
        "UPDATE server_row SET version = version - 1 WHERE version = 12",
        "user-0: the rows are not what the history makes of them"
      ]
    ] as const
  ) {
    it.scopedLive(`notices ${what} [server.md §1]`, () =>
      Effect.gen(function*() {
        const { address } = yield* HttpServer.HttpServer
        const port = address._tag === "TcpAddress" ? address.port : 0
        const connection = { url: `http://127.0.0.1:${port}`, token: "user-0" }
        const violations: Array<string> = []
        const source = new KillSource("user-0", "source-0", 1, noCounts(), violations)
        const verified = Effect.promise(() => verifyScope("user-0", [source], connection))
        yield* Effect.promise(async () => {
          await rawDevice({ ...connection, source: "reader" }).connect()
          await source.run(connection, { hears: () => true, stop: () => source.acknowledged.size === 12 })
        })
        assert.deepStrictEqual((yield* verified).problems, [])
        assert.deepStrictEqual(violations, [])
        const sql = yield* SqliteClient.SqliteClient
        yield* sql.unsafe(statement)
        assert.include((yield* verified).problems.join("\n"), problem)
      }).pipe(Effect.provide(overHttp({ tables }))))
  }
})
