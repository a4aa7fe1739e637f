/** Clients with bad manners, many clients, a database that does not do what it should (issue 4). */
import { FileSystem, HttpServer } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import Database from "better-sqlite3"
import { Effect, Fiber, Layer, Logger, LogLevel } from "effect"
import type { Scope } from "effect"
import { connect } from "node:net"
import type { Socket } from "node:net"
import { SyncServer } from "oversqlite/server"
import { user } from "./support/Device.js"
import { outcomeOf, rawDevice } from "./support/RawClient.js"
import type { RawAnswer, RawDevice } from "./support/RawClient.js"
import { overHttp } from "./support/TestServer.js"
import type { Options } from "./support/TestServer.js"

const port = Effect.map(HttpServer.HttpServer, ({ address }) => address._tag === "TcpAddress" ? address.port : 0)

/** A device on a connection of its own; its token is its user. */
const rawOf = Effect.fnUntraced(function*(source: string, token = "user-1") {
  const url = `http://127.0.0.1:${yield* port}`
  return yield* Effect.acquireRelease(
    Effect.sync(() => rawDevice({ url, token, source })),
    (device) => Effect.sync(() => device.close())
  )
})

const asked = <A>(answer: () => Promise<A>) => Effect.promise(answer)

const head = (method: string, path: string, ...more: ReadonlyArray<string>) =>
  [
    `${method} ${path} HTTP/1.1`,
    "Host: server",
    "Authorization: Bearer user-1",
    "Oversync-Source-ID: raw",
    ...more,
    "\r\n"
  ].join("\r\n")

/** A bare connection; what comes in is collected. */
const socket = Effect.map(
  port,
  (port) =>
    asked(() =>
      new Promise<Socket & { readonly received: () => string }>((resolve, reject) => {
        let text = ""
        const opened = connect(port, "127.0.0.1", () => resolve(Object.assign(opened, { received: () => text })))
        opened.setEncoding("utf8").on("data", (piece: string) => text += piece)
        opened.on("error", reject)
      })
    )
).pipe(Effect.flatten)

const until = <R>(condition: Effect.Effect<boolean, never, R>) =>
  Effect.repeat(Effect.zipRight(Effect.sleep("2 millis"), condition), { until: (holds) => holds })

const many = (count: number, from = 0) =>
  Array.from({ length: count }, (_, index) => ({ ...user(from + index), schema: "business" }))

const nothingRuns = Effect.flatMap(
  SyncServer,
  (server) => until(Effect.map(Effect.orDie(server.health), (health) => health.inflight_operations === 0))
)

const file = Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  return `${yield* files.makeTempDirectoryScoped()}/server.db`
})

/** Runs against a server whose data are in a file; the second connection to it is the test's. */
const withFile = <A, E>(
  body: (second: Database.Database) => Effect.Effect<
    A,
    E,
    SyncServer | HttpServer.HttpServer | SqliteClient.SqliteClient | Scope.Scope
  >,
  options: Options = {}
) =>
  Effect.gen(function*() {
    const filename = yield* file
    return yield* Effect.provide(
      Effect.acquireUseRelease(
        Effect.sync(() => new Database(filename)),
        body,
        (database) => Effect.sync(() => database.close())
      ),
      // What goes wrong here is meant to.
      overHttp({ filename, ...options }).pipe(Layer.provide(Logger.minimumLogLevel(LogLevel.None)))
    )
  }).pipe(Effect.provide(NodeContext.layer))

describe("clients that go away", () => {
  it.scopedLive("in the middle of a body leave nothing behind [issue 4]", () =>
    Effect.gen(function*() {
      const a = yield* rawOf("a")
      yield* asked(() => a.connect())
      const created = yield* asked(() => a.create(1, 2))
      const path = `/sync/push-sessions/${String(created.body["push_id"])}/chunks`
      const body = JSON.stringify({ start_row_ordinal: 0, rows: many(2) })
      for (let cut = 0; cut < 20; cut++) {
        const client = yield* socket
        client.write(head("POST", path, `Content-Length: ${Buffer.byteLength(body)}`))
        client.write(body.slice(0, Math.floor((body.length * cut) / 20)))
        if (cut % 2 === 0) yield* Effect.sleep("2 millis")
        client.destroy()
      }
      yield* nothingRuns
      assert.strictEqual(outcomeOf(yield* asked(() => a.chunk(created.body["push_id"], 0, many(2)))), "200")
      assert.deepInclude(yield* asked(() => a.commit(created.body["push_id"])), { status: 200 })
    }).pipe(Effect.provide(overHttp())))

  it.scopedLive("in the middle of an answer hold no fiber, and nobody up [issue 4]", () =>
    Effect.gen(function*() {
      const a = yield* rawOf("a")
      yield* asked(() => a.connect())
      yield* asked(() => a.push(1, many(5000)))
      const fibers = Effect.map(Fiber.roots, (roots) => roots.length)
      const before = yield* fibers
      for (let count = 0; count < 10; count++) {
        const client = yield* socket
        client.write(head("GET", "/sync/pull"))
        yield* until(Effect.sync(() => client.received().length > 0))
        client.destroy()
      }
      assert.deepInclude(yield* asked(() => a.pull(0)), { status: 200 })
      yield* nothingRuns
      yield* until(Effect.map(fibers, (count) => count <= before))
    }).pipe(Effect.provide(overHttp())))

  it.scopedLive("from a stream are no longer watchers [server.md §13]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      const a = yield* rawOf("a")
      yield* asked(() => a.connect())
      const clients = yield* Effect.forEach(many(20), () => socket)
      for (const client of clients) client.write(head("GET", "/sync/watch"))
      yield* until(Effect.map(server.watcherCount("user-1"), (count) => count === 20))
      for (const client of clients) client.destroy()
      yield* until(Effect.map(server.watcherCount("user-1"), (count) => count === 0))
    }).pipe(Effect.provide(overHttp())))
})

describe("clients that are slow", () => {
  it.scopedLive("in sending are served in the end and keep nobody waiting [issue 4]", () =>
    Effect.gen(function*() {
      const a = yield* rawOf("a")
      yield* asked(() => a.connect())
      const created = yield* asked(() => a.create(1, 1))
      const path = `/sync/push-sessions/${String(created.body["push_id"])}/chunks`
      const body = JSON.stringify({ start_row_ordinal: 0, rows: many(1) })
      const client = yield* socket
      client.write(head("POST", path, `Content-Length: ${Buffer.byteLength(body)}`, "Connection: close"))
      const b = yield* rawOf("b")
      for (const letter of body) {
        client.write(letter)
        if (letter === "\"") assert.deepInclude(yield* asked(() => b.pull(0)), { status: 200 })
      }
      yield* until(Effect.sync(() => client.closed))
      assert.include(client.received(), "\"next_expected_row_ordinal\":1")
    }).pipe(Effect.provide(overHttp())))

  it.scopedLive("in receiving get the whole answer, and keep nobody waiting [issue 4]", () =>
    Effect.gen(function*() {
      const a = yield* rawOf("a")
      yield* asked(() => a.connect())
      yield* asked(() => a.push(1, many(5000)))
      const expected = yield* asked(() => a.pull(0))
      const client = yield* socket
      client.pause()
      client.write(head("GET", "/sync/pull", "Connection: close"))
      for (let count = 0; count < 10; count++) assert.deepInclude(yield* asked(() => a.pull(1)), { status: 200 })
      client.resume()
      yield* until(Effect.sync(() => client.closed))
      const text = client.received()
      assert.deepStrictEqual(JSON.parse(text.slice(text.indexOf("\r\n\r\n"))), expected.body)
    }).pipe(Effect.provide(overHttp())))
})

describe("many clients", () => {
  it.scopedLive("300 watchers all hear of one commit [server.md §13]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      const a = yield* rawOf("a")
      yield* asked(() => a.connect())
      const clients = yield* Effect.forEach(Array.from({ length: 300 }), () => socket, { concurrency: 50 })
      for (const client of clients) client.write(head("GET", "/sync/watch"))
      yield* until(Effect.map(server.watcherCount("user-1"), (count) => count === 300))
      assert.deepInclude(yield* asked(() => a.push(1, many(1))), { status: 200 })
      const event = "event: bundle\ndata: {\"bundle_seq\":1,\"source_id\":\"a\",\"source_bundle_id\":1}\n\n"
      yield* until(Effect.sync(() => clients.every((client) => client.received().includes("data:"))))
      for (const client of clients) {
        assert.include(client.received(), event)
        client.destroy()
      }
    }).pipe(Effect.provide(overHttp())))

  it.scopedLive("a large commit of one scope keeps no reader waiting, and writers for its database time at most [server.md §15]", () =>
    withFile(() =>
      Effect.gen(function*() {
        const large = yield* rawOf("large", "user-1")
        const small = yield* rawOf("small", "user-2")
        const light = yield* rawOf("light", "user-3")
        yield* asked(() => Promise.all([large.connect(), small.connect(), light.connect()]))
        const rows = many(30_000)
        const pushId = yield* asked(async () => {
          const created = (await large.create(1, rows.length)).body["push_id"]
          for (let start = 0; start < rows.length; start += 5000) {
            await large.chunk(created, start, rows.slice(start, start + 5000))
          }
          return created
        })
        const began = performance.now()
        let commitEnded = 0
        const commit = yield* Effect.fork(asked(() =>
          large.commit(pushId).then((answer) => {
            commitEnded = performance.now()
            return answer
          })
        ))
        // What only reads is answered while the commit runs.
        let answeredMeanwhile = 0
        const glances = Effect.gen(function*() {
          while (commitEnded === 0) {
            const answers = yield* asked(() =>
              Promise.all(["/syncx/health", "/sync/pull?after_bundle_seq=0"].map((path) => light.send("GET", path)))
            )
            assert.deepStrictEqual(answers.map(({ status }) => status), [200, 200])
            if (commitEnded === 0) answeredMeanwhile += 1
          }
        })
        const longest = { wait: 0 }
        const pushes = Effect.gen(function*() {
          for (let number = 1; commitEnded === 0 || number <= 3; number++) {
            const sent = performance.now()
            assert.deepInclude(yield* asked(() => small.push(number, many(2, number * 10))), { status: 200 })
            longest.wait = Math.max(longest.wait, performance.now() - sent)
          }
        })
        yield* Effect.all([glances, pushes], { concurrency: "unbounded" })
        assert.deepInclude((yield* Fiber.join(commit)).body, { bundle_seq: 1, row_count: rows.length })
        assert.isAtLeast(answeredMeanwhile, 1)
        assert.isBelow(longest.wait, (commitEnded - began) + 1000)
      })
    ))
})

describe("a database that another process has locked", () => {
  it.scopedLive("is waited for, for a while, without keeping up what needs no database [issue 4]", () =>
    withFile((second) =>
      Effect.gen(function*() {
        const a = yield* rawOf("a")
        const b = yield* rawOf("b")
        yield* asked(() => a.connect())
        yield* asked(() => b.send("GET", "/sync/capabilities"))
        second.exec("BEGIN IMMEDIATE")
        const waiting = yield* Effect.fork(asked(() => a.create(1, 1)))
        let longest = 0
        for (let count = 0; count < 20; count++) {
          const sent = performance.now()
          yield* asked(() => b.send("GET", "/sync/capabilities"))
          longest = Math.max(longest, performance.now() - sent)
        }
        assert.isBelow(longest, 1000)
        second.exec("COMMIT")
        assert.strictEqual(outcomeOf(yield* Fiber.join(waiting)), "200")
      })
    ))

  it.scopedLive(
    "for too long makes every endpoint answer its own 500; nothing is half done [wire.md §6]",
    () =>
      withFile((second) =>
        Effect.gen(function*() {
          const a = yield* rawOf("a")
          yield* asked(() => a.connect())
          yield* asked(() => a.push(1, many(1)))
          const pushId = (yield* asked(() => a.create(2, 1))).body["push_id"]
          yield* asked(() => a.chunk(pushId, 0, many(1, 1)))
          second.exec("BEGIN IMMEDIATE")
          const requests: ReadonlyArray<(device: RawDevice) => Promise<RawAnswer>> = [
            (device) => device.connect(),
            (device) => device.create(3, 1),
            (device) => device.chunk(pushId, 0, many(1)),
            (device) => device.commit(pushId),
            (device) => device.send("POST", "/sync/snapshot-sessions")
          ]
          const refusals = yield* Effect.forEach(
            requests,
            (request) => Effect.flatMap(rawOf("a"), (device) => asked(() => request(device).then(outcomeOf))),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(refusals, [
            "500 connect_failed",
            "500 push_session_create_failed",
            "500 push_chunk_failed",
            "500 push_session_commit_failed",
            "500 snapshot_session_create_failed"
          ])
          second.exec("COMMIT")
          assert.strictEqual((yield* asked(() => a.pull(0))).body["stable_bundle_seq"], 1)
          assert.deepInclude((yield* asked(() => a.commit(pushId))).body, { bundle_seq: 2, row_count: 1 })
        })
      ),
    60_000
  )
})

describe("a full disk", () => {
  it.scopedLive(
    "gives every writing endpoint its own 500, leaves no trace, and is healed by room [wire.md §6]",
    () =>
      withFile((second) =>
        Effect.gen(function*() {
          const sql = yield* SqliteClient.SqliteClient
          const a = yield* rawOf("a")
          yield* asked(() => a.connect())
          yield* asked(() => a.push(1, many(2000)))
          const staged = (yield* asked(() => a.create(2, 3000))).body["push_id"]
          yield* asked(() => a.chunk(staged, 0, many(3000, 5000)))
          const begun = yield* rawOf("begun")
          const unstaged = (yield* asked(() => begun.create(1, 3000))).body["push_id"]
          const contents = () =>
            ["scope", "source", "row", "bundle", "bundle_row", "push", "push_row", "snapshot", "snapshot_row"].map(
              (table) => second.prepare(`SELECT count(*) AS rows FROM server_${table}`).get()
            )
          const before = contents()
          // No page is free, and none can be added.
          second.exec("VACUUM")
          const [pages] = yield* sql<{ readonly page_count: number }>`PRAGMA page_count`
          yield* sql.unsafe(`PRAGMA max_page_count = ${pages?.page_count ?? 0}`)
          // Names that need a page of their own.
          const newcomer = yield* rawOf("n", `user-${"x".repeat(6000)}`)
          const longName = yield* rawOf("s".repeat(6000))
          const refusals = yield* asked(async () => [
            outcomeOf(await newcomer.connect()),
            outcomeOf(await longName.create(1, 1)),
            outcomeOf(await begun.chunk(unstaged, 0, many(3000, 9000))),
            outcomeOf(await a.commit(staged)),
            outcomeOf(await a.send("POST", "/sync/snapshot-sessions"))
          ])
          assert.deepStrictEqual(refusals, [
            "500 connect_failed",
            "500 push_session_create_failed",
            "500 push_chunk_failed",
            "500 push_session_commit_failed",
            "500 snapshot_session_create_failed"
          ])
          assert.deepStrictEqual(contents(), before)
          assert.strictEqual((yield* asked(() => a.pull(0))).body["stable_bundle_seq"], 1)
          yield* sql.unsafe("PRAGMA max_page_count = 1000000")
          assert.deepInclude(yield* asked(() => a.commit(staged)), { status: 200 })
          assert.strictEqual(outcomeOf(yield* asked(() => newcomer.connect())), "200")
          assert.strictEqual(second.pragma("integrity_check", { simple: true }), "ok")
        })
      ),
    60_000
  )
})
