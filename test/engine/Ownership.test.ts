import { HttpClient } from "@effect/platform"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Credentials, make as makeClient } from "oversqlite"
import type { SyncOptions } from "oversqlite"
import { ddl, tables } from "./support/Devices.js"
import { makeNetwork } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { temporaryFolder } from "./support/World.js"

const network = makeNetwork(() => {
  throw new Error("no request is expected")
})

/** A connection of its own to a file, in the scope of the test. */
const connection = (filename: string) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(SqliteClient.layer({ filename }))
    const sql = Context.get(context, SqliteClient.SqliteClient)
    for (const statement of ddl) yield* sql.unsafe(statement.replace("TABLE", "TABLE IF NOT EXISTS"))
    return sql
  }).pipe(Effect.orDie)

const client = (sql: SqlClient.SqlClient, options: Partial<SyncOptions> = {}) =>
  makeClient({ baseUrl: "http://localhost", schema: "business", tables, ...options }).pipe(
    Effect.provideService(SqlClient.SqlClient, sql),
    Effect.provideService(HttpClient.HttpClient, network.client),
    Effect.provide(Credentials.layerBearer("ann"))
  )

const owned = { _tag: "DatabaseAlreadyOwned", operation: "construct", retryable: true, action: "new_client" }

describe("one live client per database in a process [client-state.md §5]", () => {
  it.scoped("a second client on the same file is refused, and named the file; nothing is changed", () =>
    Effect.gen(function*() {
      const file = path.join(yield* temporaryFolder, "a.db")
      const first = yield* client(yield* connection(file))
      const second = yield* connection(file)
      yield* failsWith(client(second), { ...owned, database: fs.realpathSync(file) })
      yield* first.open
    }))

  it.scoped("closing a client again does nothing to its successor on the same connection", () =>
    Effect.gen(function*() {
      const sql = yield* connection(path.join(yield* temporaryFolder, "a.db"))
      const first = yield* client(sql)
      yield* first.open
      yield* first.close
      const second = yield* client(sql)
      yield* second.open
      const tables = sql.unsafe(
        "SELECT name FROM sqlite_temp_schema WHERE name LIKE '\\_sync%' ESCAPE '\\' ORDER BY name"
      )
      const before = yield* tables
      assert.isAbove(before.length, 0)
      yield* first.close
      assert.deepStrictEqual(yield* tables, before)
    }))

  it.scoped("a host that has closed its database first: close is quiet, operations say so", () =>
    Effect.gen(function*() {
      const file = path.join(yield* temporaryFolder, "a.db")
      const scope = yield* Scope.make()
      const sync = yield* client(yield* Scope.extend(connection(file), scope))
      yield* sync.open
      yield* Scope.close(scope, Exit.void)
      yield* failsWith(sync.inspect, { _tag: "StorageError", operation: "inspect" })
      yield* failsWith(sync.open, { _tag: "StorageError", operation: "open" })
      yield* sync.close
      yield* client(yield* connection(file))
    }))

  const ends: ReadonlyArray<
    readonly [string, (sync: Effect.Effect.Success<ReturnType<typeof client>>) => Effect.Effect<unknown, unknown>]
  > = [
    ["closed", (sync) => sync.close],
    ["uninstalled", (sync) => Effect.zipRight(sync.open, sync.uninstallSync)]
  ]
  for (const [how, end] of ends) {
    it.scoped(`until the first one is ${how}`, () =>
      Effect.gen(function*() {
        const file = path.join(yield* temporaryFolder, "a.db")
        const first = yield* client(yield* connection(file))
        const sql = yield* connection(file)
        yield* Effect.orDie(end(first))
        const second = yield* client(sql)
        yield* second.open
        // The end of the first one's scope must not take away what is the second one's now.
        yield* first.close
        yield* failsWith(client(yield* connection(file)), owned)
        yield* failsWith(first.open, { _tag: "ClientClosed" })
      }))
  }

  it.scoped("until the scope that built the first one ends", () =>
    Effect.gen(function*() {
      const file = path.join(yield* temporaryFolder, "a.db")
      const sql = yield* connection(file)
      const scope = yield* Scope.make()
      const first = yield* Scope.extend(client(sql), scope)
      yield* first.open
      yield* Scope.close(scope, Exit.void)
      yield* failsWith(first.open, { _tag: "ClientClosed" })
      yield* failsWith(first.inspect, { _tag: "ClientClosed" })
      // The database is the host's: it stays open, without anything temporary of ours.
      assert.deepStrictEqual(yield* sql.unsafe("SELECT name FROM sqlite_temp_schema"), [])
      const second = yield* client(sql)
      yield* second.open
    }))

  const refusals: ReadonlyArray<readonly [string, Partial<SyncOptions>, Readonly<Record<string, unknown>>]> = [
    ["table", { tables: [{ name: "missing", key: "id" }] }, { _tag: "ConfigurationError", code: "key_column_missing" }],
    ["schema", { schema: "Not Good" }, { _tag: "ConfigurationError", code: "schema_invalid" }],
    ["schema", { schema: " " }, { _tag: "ConfigurationError", code: "schema_missing" }],
    ["base address", { baseUrl: "nowhere" }, { _tag: "ConfigurationError", code: "base_url_invalid" }]
  ]
  for (const [what, options, expected] of refusals) {
    it.scoped(`a construction that fails for its ${what} (${String(expected["code"])}) does not hold the database`, () =>
      Effect.gen(function*() {
        const sql = yield* connection(path.join(yield* temporaryFolder, "a.db"))
        yield* failsWith(client(sql, options), expected)
        const repaired = yield* client(sql)
        yield* repaired.open
      }))
  }

  it.scoped("arguments are checked before the claim [client-state.md §3]", () =>
    Effect.gen(function*() {
      const sql = yield* connection(path.join(yield* temporaryFolder, "a.db"))
      yield* client(sql)
      yield* failsWith(client(sql, { schema: "" }), { _tag: "ConfigurationError", code: "schema_missing" })
      yield* failsWith(client(sql, { baseUrl: "" }), { _tag: "ConfigurationError", code: "base_url_invalid" })
      yield* failsWith(client(sql), owned)
    }))

  it.scoped("an interrupted construction does not hold the database", () =>
    Effect.gen(function*() {
      const file = path.join(yield* temporaryFolder, "a.db")
      const sql = yield* connection(file)
      const holder = yield* connection(file)
      yield* holder.unsafe("BEGIN IMMEDIATE")
      yield* sql.unsafe("PRAGMA busy_timeout = 5000")
      const fiber = yield* Effect.fork(client(sql))
      yield* fiber.interruptAsFork(fiber.id())
      yield* fiber.await
      yield* holder.unsafe("ROLLBACK")
      const next = yield* client(sql)
      yield* next.open
    }))

  it.scoped("through a symbolic link and through another spelling of the path it is the same file", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      fs.mkdirSync(path.join(folder, "inner"))
      const file = path.join(folder, "inner", "a.db")
      yield* client(yield* connection(file))
      fs.symlinkSync(file, path.join(folder, "link.db"))
      fs.symlinkSync(path.join(folder, "inner"), path.join(folder, "linked"))
      for (
        const other of [
          path.join(folder, "link.db"),
          path.join(folder, "linked", "a.db"),
          `${folder}/inner/../inner/./a.db`,
          path.relative(process.cwd(), file)
        ]
      ) {
        yield* failsWith(client(yield* connection(other)), { ...owned, database: fs.realpathSync(file) })
      }
    }))

  it.scoped("other files and databases in memory are others; one in memory is known by its client", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      yield* client(yield* connection(path.join(folder, "a.db")))
      yield* client(yield* connection(path.join(folder, "b.db")))
      const memory = yield* connection(":memory:")
      yield* client(memory)
      yield* client(yield* connection(":memory:"))
      yield* failsWith(client(memory), { ...owned, database: ":memory:" })
    }))
})
