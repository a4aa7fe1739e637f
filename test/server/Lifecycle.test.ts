/** Restart, shutdown, concurrency, trouble with the database (server.md §14, §15, issue 4). */
import { Reactivity } from "@effect/experimental"
import { FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, LogLevel, Scope } from "effect"
import {
  Authentication,
  Identifiers,
  InProcess,
  ServerStorage,
  ServerStorageSqlite,
  SyncServer
} from "oversqlite/server"
import type { TableDeclaration } from "oversqlite/server"
import { device, effects, id, outcome, user } from "./support/Device.js"
import type { Reply } from "./support/Device.js"
import { statementsOf } from "./support/Spans.js"
import { inProcess, overHttp } from "./support/TestServer.js"

const a = device("source-a")
const b = device("source-b")

/** A database file of the test. */
const file = Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  return `${yield* files.makeTempDirectoryScoped()}/server.db`
})

describe("restart", () => {
  it.scoped("keeps scopes, leases, sequences, staged rows, history and snapshots [issue 2]", () =>
    Effect.gen(function*() {
      const filename = yield* file
      const before = yield* Effect.gen(function*() {
        yield* a.connect(false)
        yield* a.push(1, [user(1), user(2)])
        yield* a.rotate("source-c")
        const staged = (yield* b.create(1, 2)).body["push_id"]
        yield* b.chunk(staged, 0, [user(3)])
        const snapshot = (yield* b.snapshot()).body["snapshot_id"]
        const lease = (yield* device("s", "user-2").connect(true)).body["initialization_id"]
        return { staged, snapshot, lease, pulled: yield* b.pull(0) }
      }).pipe(Effect.provide(inProcess({ filename })))
      yield* Effect.gen(function*() {
        assert.deepStrictEqual(yield* b.pull(0), before.pulled)
        assert.strictEqual((yield* device("s", "user-2").connect(true)).body["initialization_id"], before.lease)
        assert.strictEqual(outcome(yield* a.create(2, 1)), "409 source_retired")
        assert.deepStrictEqual(effects(yield* b.snapshotChunk(before.snapshot)), ["ROW users 1", "ROW users 2"])
        assert.strictEqual(outcome(yield* b.chunk(before.staged, 1, [user(4)])), "200")
        assert.strictEqual((yield* b.commit(before.staged)).body["bundle_seq"], 2)
      }).pipe(Effect.provide(inProcess({ filename })))
    }).pipe(Effect.provide(NodeContext.layer)))

  const note: TableDeclaration = { table: "notes", key: { column: "id", kind: "text" } }
  const tag: TableDeclaration = { table: "tags", key: { column: "id", kind: "text" } }

  const open = (filename: string, tables: ReadonlyArray<TableDeclaration>) =>
    Effect.flatMap(SyncServer, (server) =>
      server.write("user-1", "host", [
        ...tables.map(({ table }) => ({ table, key: "k", payload: { size: 1 } }))
      ])).pipe(Effect.provide(inProcess({ filename, tables })))

  it.scoped("lets tables be added, with references over the rows there are [server.md §3]", () =>
    Effect.gen(function*() {
      const filename = yield* file
      yield* open(filename, [tag])
      const referring: TableDeclaration = {
        ...tag,
        references: [{ column: "note", table: "notes", onDelete: "cascade" }]
      }
      yield* open(filename, [note, referring])
      yield* Effect.gen(function*() {
        const server = yield* SyncServer
        yield* server.write("user-1", "host", [{ table: "tags", key: "k", payload: { note: "k" } }])
        const bundle = yield* server.write("user-1", "host", [{ table: "notes", key: "k", payload: null }])
        assert.strictEqual(bundle.rowCount, 2)
      }).pipe(Effect.provide(inProcess({ filename, tables: [note, referring] })))
    }).pipe(Effect.provide(NodeContext.layer)))

  for (
    const [what, tables] of [
      ["a table of the store is no longer declared", [tag]],
      ["its key column has changed", [{ ...note, key: { column: "k", kind: "text" } }]],
      ["its key kind has changed", [{ ...note, key: { column: "id", kind: "uuid" } }]]
    ] as const
  ) {
    it.scoped(`refuses to start when ${what} [server.md §3]`, () =>
      Effect.gen(function*() {
        const filename = yield* file
        yield* open(filename, [note])
        const failure = yield* Effect.flip(open(filename, tables))
        assert.strictEqual(failure._tag, "InvalidTableDeclaration")
      }).pipe(Effect.provide(NodeContext.layer)))
  }

  it.scoped("refuses a store of another layout, and leaves it as it is [server.md §2]", () =>
    Effect.gen(function*() {
      const filename = yield* file
      yield* open(filename, [note])
      const layout = (statement: string) =>
        Effect.flatMap(SqliteClient.make({ filename }), (sql) => sql.unsafe(statement)).pipe(Effect.scoped)
      yield* layout("UPDATE server_meta SET layout = 'oversqlite_server_2'")
      const failure = yield* Effect.flip(open(filename, [note, tag]))
      assert.deepInclude(failure, { _tag: "ServerStorageError", reason: "layout" })
      assert.deepStrictEqual(yield* layout("SELECT name FROM server_table"), [{ name: "public.notes" }])
    }).pipe(Effect.provide(Layer.merge(NodeContext.layer, Reactivity.layer))))

  const invalid: ReadonlyArray<readonly [what: string, tables: ReadonlyArray<TableDeclaration>]> = [
    ["a table is declared twice", [note, note]],
    ["a name is not lowercase", [{ ...note, table: "Notes" }]],
    ["a column is called __proto__", [{ ...note, columns: Object.fromEntries([["__proto__", "text"]]) }]],
    ["the key is the hidden column", [{ ...note, key: { column: "_sync_scope_id", kind: "text" } }]],
    ["a reference leads nowhere", [{ ...note, references: [{ column: "x", table: "nowhere" }] }]],
    ["a referring column has another kind than the key", [
      tag,
      { ...note, columns: { tag: "uuid" }, references: [{ column: "tag", table: "tags" }] }
    ]],
    ["a column set to null is NOT NULL", [
      tag,
      {
        ...note,
        columns: { tag: { kind: "text", notNull: true } },
        references: [{ column: "tag", table: "tags", onDelete: "set null" }]
      }
    ]]
  ]
  for (const [what, tables] of invalid) {
    it.effect(`refuses to start when ${what} [server.md §3]`, () =>
      Effect.gen(function*() {
        const failure = yield* Effect.flip(Effect.provide(Effect.void, inProcess({ tables })))
        assert.strictEqual(failure._tag, "InvalidTableDeclaration")
      }))
  }
})

describe("the history id", () => {
  it.scoped("stays over restarts and is renewed on request, in every answer [wire.md §12]", () =>
    Effect.gen(function*() {
      const filename = yield* file
      const seen = Effect.gen(function*() {
        const replies: ReadonlyArray<Reply> = [
          yield* a.request("/sync/capabilities"),
          yield* a.pull(0),
          yield* a.snapshot()
        ]
        const ids = new Set(replies.map((reply) => String(reply.body["history_id"])))
        assert.strictEqual(ids.size, 1)
        return Array.from(ids).join()
      })
      const first = yield* Effect.zipRight(a.connect(false), seen).pipe(Effect.provide(inProcess({ filename })))
      yield* Effect.gen(function*() {
        const server = yield* SyncServer
        assert.strictEqual(yield* seen, first)
        const fresh = yield* server.renewHistory
        assert.notStrictEqual(fresh, first)
        assert.strictEqual(yield* seen, fresh)
      }).pipe(Effect.provide(inProcess({ filename })))
    }).pipe(Effect.provide(NodeContext.layer)))
})

describe("ids", () => {
  it.effect("come from a service, so that a test can know them", () => {
    let count = 0
    const counted = Effect.sync(() => id(++count))
    return Effect.gen(function*() {
      yield* a.connect(false)
      assert.strictEqual((yield* a.create(1, 1)).body["push_id"], id(3))
    }).pipe(Effect.provide(inProcess()), Effect.provideService(Identifiers, { uuid: counted }))
  })
})

describe("shutdown", () => {
  /** A store whose writes wait for a gate. */
  const gated = (started: Deferred.Deferred<void>, gate: Deferred.Deferred<void>) =>
    Layer.effect(
      ServerStorage,
      Effect.map(ServerStorage, (storage) => ({
        open: (tables) =>
          Effect.map(storage.open(tables), (store) => ({
            ...store,
            write: (steps) =>
              Effect.zipRight(
                Deferred.succeed(started, undefined),
                Effect.zipRight(Deferred.await(gate), store.write(steps))
              )
          }))
      }))
    ).pipe(Layer.provide(ServerStorageSqlite.layer), Layer.provide(SqliteClient.layer({ filename: ":memory:" })))

  it.scoped("finishes what runs, refuses what comes, and is closed then [server.md §14]", () =>
    Effect.gen(function*() {
      const [started, gate] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      const live = InProcess.layer.pipe(
        Layer.provideMerge(SyncServer.layer({ tables: [] })),
        Layer.provide(gated(started, gate)),
        Layer.provide(Authentication.layerTokenIsUser)
      )
      yield* Effect.gen(function*() {
        const server = yield* SyncServer
        const actor = { userId: "user-1", sourceId: "source-a" }
        const running = yield* Effect.fork(server.connect(actor, { hasLocalPendingRows: false }))
        yield* Deferred.await(started)
        assert.strictEqual((yield* server.health).inflight_operations, 1)
        const closing = yield* Effect.fork(server.shutdown)
        yield* Effect.yieldNow()
        const health = yield* server.health
        assert.deepInclude(health, { status: "unhealthy", lifecycle: "shutting_down", accepting_operations: false })
        const refused = yield* Effect.flip(server.pull(actor, { after: 0n, target: 0n, maxBundles: 1 }))
        assert.deepInclude(refused, { code: "service_unavailable" })
        assert.isTrue((yield* server.capabilities(actor)).features["graceful_shutdown"])
        assert.isNull(closing.unsafePoll())
        yield* Deferred.succeed(gate, undefined)
        assert.deepStrictEqual(yield* Fiber.join(running), { resolution: "initialize_empty" })
        yield* Fiber.join(closing)
        assert.strictEqual((yield* server.health).lifecycle, "closed")
        assert.strictEqual(
          (yield* Effect.flip(server.connect(actor, { hasLocalPendingRows: false })))._tag,
          "ServerClosed"
        )
      }).pipe(Effect.provide(live))
    }))

  it.effect("once closed answers the endpoint's own 500, and still says how it is [server.md §14]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* Effect.flatMap(SyncServer, (server) => server.shutdown)
      assert.strictEqual(outcome(yield* a.pull(0)), "500 pull_failed")
      assert.strictEqual(outcome(yield* a.connect(true)), "500 connect_failed")
      assert.strictEqual(outcome(yield* a.create(1, 1)), "500 push_session_create_failed")
      assert.strictEqual(outcome(yield* a.create(0, 1)), "500 push_session_create_failed")
      assert.strictEqual(outcome(yield* a.request("/sync/watch")), "500 bundle_change_watch_failed")
      assert.strictEqual(outcome(yield* a.request("/sync/capabilities")), "200")
      assert.strictEqual((yield* a.request("/syncx/health")).status, 503)
      assert.strictEqual((yield* a.request("/syncx/status")).status, 200)
    }).pipe(Effect.provide(inProcess()), Logger.withMinimumLogLevel(LogLevel.None)))
})

describe("at the same time", () => {
  const together = <A, E, R>(count: number, one: (index: number) => Effect.Effect<A, E, R>) =>
    Effect.forEach(Array.from({ length: count }, (_, index) => index), one, { concurrency: "unbounded" })

  const tally = (replies: ReadonlyArray<Reply>) => {
    const counts: Record<string, number> = {}
    for (const reply of replies) {
      const key = String(reply.body["resolution"] ?? reply.body["status"] ?? outcome(reply))
      counts[key] = (counts[key] ?? 0) + 1
    }
    return counts
  }

  for (const [where, layer] of [["in process", inProcess], ["over HTTP", overHttp]] as const) {
    it.live(`${where}: of first connects with pending rows one initializes [server.md §15]`, () =>
      Effect.gen(function*() {
        const replies = yield* together(8, (index) => device(`source-${index}`).connect(true))
        assert.deepStrictEqual(tally(replies), { initialize_local: 1, retry_later: 7 })
      }).pipe(Effect.provide(layer())))

    it.live(`${where}: of creates for one tuple the last session lives [server.md §15]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        const replies = yield* together(6, () => a.create(1, 1))
        assert.deepStrictEqual(tally(replies), { staging: 6 })
        const chunks = yield* together(6, (index) => a.chunk(replies[index]?.body["push_id"], 0, [user(1)]))
        assert.deepStrictEqual(tally(chunks), { "200": 1, "404 push_session_not_found": 5 })
      }).pipe(Effect.provide(layer())))

    it.live(`${where}: of repeated commits one commits, of rivals for a key one wins [server.md §15]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        const pushId = (yield* a.create(1, 1)).body["push_id"]
        yield* a.chunk(pushId, 0, [user(1)])
        const commits = yield* together(6, () => a.commit(pushId))
        assert.deepStrictEqual(tally(commits), { "200": 1, "404 push_session_not_found": 5 })
        const rivals = yield* together(6, (index) => device(`rival-${index}`).push(1, [user(2)]))
        assert.deepStrictEqual(tally(rivals), { "200": 1, "409 push_conflict": 5 })
      }).pipe(Effect.provide(layer())))

    it.live(`${where}: many sources of many scopes leave no gap and lose nothing [server.md §1]`, () =>
      Effect.gen(function*() {
        yield* together(4, (scope) => device("first", `user-${scope}`).connect(false))
        const replies = yield* together(
          40,
          (index) => device(`source-${index}`, `user-${index % 4}`).push(1, [user(index), user(1000 + index)])
        )
        assert.deepStrictEqual(tally(replies), { "200": 40 })
        for (let scope = 0; scope < 4; scope++) {
          const pulled = yield* device("reader", `user-${scope}`).pull(0)
          const bundles = pulled.body["bundles"]
          assert.deepStrictEqual(
            Array.isArray(bundles) ? bundles.map((bundle) => bundle.bundle_seq) : [],
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
          )
        }
      }).pipe(Effect.provide(layer())))

    it.live(`${where}: identical rotations all succeed, others are told of the first [server.md §11]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        yield* a.push(1, [user(1)])
        const same = yield* together(4, () => a.rotate("source-a2"))
        assert.deepStrictEqual(tally(same), { "200": 4 })
        const different = yield* together(3, (index) => b.rotate(`source-b${index}`))
        assert.deepStrictEqual(tally(different), { "200": 1, "409 source_retired": 2 })
      }).pipe(Effect.provide(layer())))
  }

  it.live("a client that goes away mid-request leaves the server in order [issue 4]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const rows = Array.from({ length: 4500 }, (_, index) => user(index))
      const pushId = (yield* a.create(1, rows.length)).body["push_id"]
      yield* a.chunk(pushId, 0, rows)
      const commit = yield* Effect.fork(a.commit(pushId))
      yield* Effect.sleep("1 millis")
      yield* Fiber.interrupt(commit)
      const again = yield* a.create(1, rows.length)
      if (again.body["status"] === "staging") {
        assert.strictEqual((yield* a.pull(0)).body["stable_bundle_seq"], 0)
        assert.strictEqual(outcome(yield* a.push(1, rows)), "200")
      }
      assert.strictEqual((yield* a.snapshot()).body["row_count"], rows.length)
    }).pipe(Effect.provide(overHttp())))
})

describe("a database in use", () => {
  it.scopedLive("by another process makes a request fail and heals by itself [issue 4]", () =>
    Effect.gen(function*() {
      const filename = yield* file
      yield* Effect.gen(function*() {
        yield* a.connect(false)
        const other = yield* Scope.make()
        const sql = yield* SqliteClient.make({ filename }).pipe(
          Scope.extend(other),
          Effect.provide(Reactivity.layer)
        )
        const own = yield* SqliteClient.SqliteClient
        yield* own`PRAGMA busy_timeout = 5`
        yield* sql`BEGIN IMMEDIATE`
        assert.strictEqual(outcome(yield* a.create(1, 1)), "500 push_session_create_failed")
        yield* sql`COMMIT`
        yield* Scope.close(other, Exit.void)
        assert.strictEqual(outcome(yield* a.push(1, [user(1)])), "200")
      }).pipe(Effect.provide(inProcess({ filename })), Logger.withMinimumLogLevel(LogLevel.None))
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive("is flushed to disk for commits, not for staged rows; never if so asked [issue 4]", () =>
    Effect.gen(function*() {
      const filename = yield* file
      const levels = (synchronous: "full" | "normal") =>
        Effect.gen(function*() {
          const writer = device("s", synchronous)
          yield* writer.connect(false)
          const texts = yield* statementsOf(writer.push(1, [user(1)]))
          return texts.flatMap((text) =>
            text.startsWith("PRAGMA synchronous = ") ?
              [text.slice(21)]
              : text.startsWith("INSERT INTO server_push_row") ?
              ["stage"]
              : text.startsWith("INSERT INTO server_bundle ") ?
              ["commit"]
              : []
          )
        }).pipe(Effect.provide(inProcess({ filename, synchronous })))
      assert.deepStrictEqual(yield* levels("full"), ["stage", "FULL", "commit", "NORMAL"])
      assert.deepStrictEqual(yield* levels("normal"), ["stage", "commit"])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive("that is full refuses the commit, keeps its state and heals with room [issue 4]", () =>
    Effect.gen(function*() {
      const filename = yield* file
      yield* Effect.gen(function*() {
        yield* a.connect(false)
        const own = yield* SqliteClient.SqliteClient
        const rows = Array.from({ length: 500 }, (_, index) => user(index))
        const pushId = (yield* a.create(1, rows.length)).body["push_id"]
        yield* a.chunk(pushId, 0, rows)
        const [pages] = yield* own<{ readonly page_count: number }>`PRAGMA page_count`
        yield* own.unsafe(`PRAGMA max_page_count = ${(pages?.page_count ?? 0) + 2}`)
        const refused = yield* a.commit(pushId)
        assert.strictEqual(outcome(refused), "500 push_session_commit_failed")
        assert.notProperty(refused.body, "rows")
        assert.strictEqual((yield* a.pull(0)).body["stable_bundle_seq"], 0)
        yield* own.unsafe("PRAGMA max_page_count = 1000000")
        assert.strictEqual(outcome(yield* a.commit(pushId)), "200")
      }).pipe(Effect.provide(inProcess({ filename })), Logger.withMinimumLogLevel(LogLevel.None))
    }).pipe(Effect.provide(NodeContext.layer)))
})
