import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { createServer } from "node:http"
import { createSyncClient } from "oversqlite/promise"
import { Authentication, ServerStorageSqlite, SyncRoutes, SyncServer } from "oversqlite/server"
import { serverTables, tables } from "../engine/support/Devices.js"
import { applicationFile, insert } from "./support/PlainClient.js"

/** The real server on a free port, counting the connections that clients open. */
const listening = Effect.gen(function*() {
  let connections = 0
  const http = createServer()
  http.on("connection", () => connections++)
  const context = yield* Layer.build(
    SyncRoutes.serve.pipe(
      Layer.provideMerge(Layer.mergeAll(
        SyncServer.layer({ tables: serverTables }).pipe(
          Layer.provide(ServerStorageSqlite.layer),
          Layer.provide(SqliteClient.layer({ filename: ":memory:" }))
        ),
        Authentication.layerTokenIsUser,
        NodeHttpServer.layer(() => http, { port: 0, host: "127.0.0.1" })
      ))
    )
  )
  const { address } = Context.get(context, HttpServer.HttpServer)
  if (address._tag !== "TcpAddress") return yield* Effect.dieMessage("not a port")
  return { url: `http://127.0.0.1:${address.port}`, connections: () => connections }
})

describe("the built-in transport", () => {
  it.scopedLive("keeps connections alive over real HTTP, and dispose lets go of them [wire.md §1.1]", () =>
    Effect.gen(function*() {
      const server = yield* listening
      const { database, filename } = yield* applicationFile
      const client = yield* Effect.promise(() =>
        createSyncClient({ database: filename, server: server.url, token: "ann", schema: "business", tables })
      )
      yield* Effect.promise(async () => {
        await client.open()
        await client.attach("ann")
        for (let round = 0; round < 20; round++) {
          insert(database, `u${round}`)
          assert.strictEqual((await client.sync()).pushOutcome, "committed")
        }
        assert.isAtMost(server.connections(), 2)
        await client.dispose()
      })
    }))
})
