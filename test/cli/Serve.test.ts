/** The server as a command: from the start to the end of its process (issue 4, server.md §14). */
import { FetchHttpClient, FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import { request } from "node:http"
import { Credentials, SyncClient } from "oversqlite"
import { user as userRow } from "../server/support/Device.js"
import { outcomeOf, rawDevice } from "../server/support/RawClient.js"
import { running } from "./support/Console.js"
import type { Directory } from "./support/Files.js"
import { directory, secret } from "./support/Files.js"
import { processOf } from "./support/Process.js"

/** Processes take their time to start, the more the busier the machine is. */
const slow = 90_000

const serving = Effect.fnUntraced(function*(files: Directory, ...more: ReadonlyArray<string>) {
  const started = yield* processOf(
    ...["serve", "--data", files.data, "--port", "0", "--tables", files.tables],
    ...["--jwt-secret-file", files.secret, ...more]
  )
  const url = yield* Effect.promise(() => started.listening())
  return { ...started, url }
})

const tokenFor = Effect.fnUntraced(function*(files: Directory, user: string, ...more: ReadonlyArray<string>) {
  const { error, failed, out } = yield* running("token", "--jwt-secret-file", files.secret, "--user", user, ...more)
  assert.deepStrictEqual({ error, failed }, { error: "", failed: false })
  return out.trim()
})

const stopped = (started: { readonly kill: (signal: NodeJS.Signals) => boolean; readonly ended: Promise<unknown> }) =>
  Effect.promise(() => {
    started.kill("SIGTERM")
    return started.ended
  })

/** A user's row without its columns of time, which the tables of these tests do not have. */
const row = (number: number) => ({ ...userRow(number), schema: "business", payload: { name: `User ${number}` } })

/** An application with a database of its own and the real client on it. */
const application = Effect.fnUntraced(function*(baseUrl: string, token: string) {
  const context = yield* Layer.build(
    SyncClient.layer({
      baseUrl,
      schema: "business",
      tables: [{ name: "users", key: "id" }, { name: "posts", key: "id" }]
    })
      .pipe(
        Layer.provide([FetchHttpClient.layer, Credentials.layerBearer(Redacted.make(token))]),
        Layer.provideMerge(Layer.effectDiscard(Effect.gen(function*() {
          const sql = yield* SqliteClient.SqliteClient
          yield* sql`CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT, age INTEGER)`
          yield* sql`CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, title TEXT,
            author_id TEXT REFERENCES users(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)`
        }))),
        Layer.provideMerge(SqliteClient.layer({ filename: ":memory:" }))
      )
  )
  return { sync: Context.get(context, SyncClient), sql: Context.get(context, SqliteClient.SqliteClient) }
})

const id = (number: number) => `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`

describe("serve", () => {
  it.scopedLive("lets two devices exchange rows, before and after a restart [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const token = yield* tokenFor(files, "ada")
      const first = yield* serving(files)
      const a = yield* application(first.url, token)
      yield* a.sql`INSERT INTO users VALUES (${id(1)}, 'Ada', 36)`
      yield* a.sql`INSERT INTO posts VALUES (${id(2)}, 'Notes', ${id(1)})`
      yield* a.sync.open
      assert.deepInclude(yield* a.sync.attach("ada"), { status: "connected", outcome: "seeded_from_local" })
      yield* a.sync.sync
      yield* stopped(first)

      const second = yield* serving(files)
      const b = yield* application(second.url, token)
      yield* b.sync.open
      assert.deepInclude(yield* b.sync.attach("ada"), { status: "connected", outcome: "used_remote_state" })
      assert.deepStrictEqual(yield* b.sql`SELECT * FROM posts`, [{ id: id(2), title: "Notes", author_id: id(1) }])
      yield* b.sql`UPDATE users SET age = 37`
      yield* b.sql`DELETE FROM posts`
      yield* b.sync.sync
      const c = yield* application(second.url, token)
      yield* c.sync.open
      yield* c.sync.attach("ada")
      assert.deepStrictEqual(yield* c.sql`SELECT * FROM users`, [{ id: id(1), name: "Ada", age: 37 }])
      assert.deepStrictEqual(yield* c.sql`SELECT * FROM posts`, [])

      const printed = [first, second].map((server) => server.printed.stdout + server.printed.stderr).join("")
      assert.notInclude(printed, secret)
      assert.notInclude(printed, token)
    }).pipe(Effect.provide(NodeContext.layer)), slow)

  it.scopedLive("says at the start where it listens and what it serves [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const server = yield* serving(files)
      const { history, text } = { text: server.printed.stdout, history: /^history {3}(\S{36})$/m }
      assert.match(text, /^oversqlite \d+\.\d+\.\d+\n/)
      assert.include(text, `\ndata      ${files.data}/oversqlite.db (new)\n`)
      assert.match(text, history)
      assert.include(text, "\ntables    business.posts, business.users\n")
      assert.include(
        text,
        "\nfeatures  bundle_change_watch, exact_integers, batch_conflicts, history_id, named_refusals\n"
      )
      assert.match(text, /\nlistening on http:\/\/127\.0\.0\.1:[1-9]\d*\n$/)
      assert.strictEqual(server.printed.stderr, "")
      const health = yield* Effect.promise(() =>
        rawDevice({ ...server, token: "", source: "" }).send("GET", "/syncx/health")
      )
      assert.deepInclude(health, { status: 200 })
      const system = yield* FileSystem.FileSystem
      assert.strictEqual((yield* system.stat(files.data)).mode & 0o777, 0o700)
    }).pipe(Effect.provide(NodeContext.layer)), slow)

  it.scopedLive("keeps its routes under a prefix and nothing beside them [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const [token, server] = yield* Effect.all([tokenFor(files, "ada"), serving(files, "--prefix", "/api/v2/")], {
        concurrency: "unbounded"
      })
      assert.match(server.url, /:\d+\/api\/v2$/)
      const { origin } = new URL(server.url)
      const device = (url: string) => rawDevice({ url, token, source: "a" })
      const ask = (url: string, path: string) => Effect.promise(() => device(url).send("GET", path))
      assert.strictEqual(outcomeOf(yield* ask(server.url, "/sync/pull")), "409 scope_uninitialized")
      assert.deepStrictEqual(yield* ask(origin, "/sync/pull"), { status: 404, body: { text: "404 page not found\n" } })
      assert.strictEqual((yield* ask(origin, "/api/v2")).status, 404)
      assert.strictEqual((yield* ask(origin, "/api/v2x/sync/pull")).status, 404)
      const moved = yield* Effect.promise(() => fetch(`${server.url}//sync/pull?max_bundles=1`, { redirect: "manual" }))
      assert.deepInclude([moved.status, moved.headers.get("location")], 307)
      assert.strictEqual(moved.headers.get("location"), "/api/v2/sync/pull?max_bundles=1")
    }).pipe(Effect.provide(NodeContext.layer)), slow)

  it.scopedLive(
    "works alone in its directory; a new history is given while it is away [wire.md §12]",
    () =>
      Effect.gen(function*() {
        const files = yield* directory
        const server = yield* serving(files)
        const renew = ["renew-history", "--data", files.data, "--tables", files.tables]
        const second = yield* running(
          ...["serve", "--data", files.data, "--port", "0", "--tables", files.tables],
          ...["--jwt-secret-file", files.secret]
        )
        for (const { error, failed } of [second, yield* running(...renew)]) {
          assert.isTrue(failed)
          assert.strictEqual(error, `oversqlite: --data: another server works in ${files.data}\n`)
        }
        const before = (yield* Effect.promise(() => server.waitFor(/^history {3}(\S+)$/m)))[1]
        yield* stopped(server)
        const renewed = yield* running(...renew)
        assert.isFalse(renewed.failed)
        const after = /^history (\S+) is now (\S+)\n$/.exec(renewed.out)
        assert.strictEqual(after?.[1], before)
        const again = yield* serving(files)
        assert.strictEqual((yield* Effect.promise(() => again.waitFor(/^history {3}(\S+)$/m)))[1], after?.[2])
        assert.notStrictEqual(after?.[2], before)
      }).pipe(Effect.provide(NodeContext.layer)),
    slow
  )
})

describe("shutdown", () => {
  /** Rows of a commit that takes long enough to be still running when the signal comes. */
  const many = Array.from({ length: 60_000 }, (_, index) => row(index))

  it.scopedLive(
    "finishes what runs, refuses what comes, ends streams, and exits with 0 [server.md §14]",
    () =>
      Effect.gen(function*() {
        const files = yield* directory
        const token = yield* tokenFor(files, "ada")
        const server = yield* serving(files)
        const device = (source: string) => rawDevice({ ...server, token, source })
        const writer = device("writer")
        yield* Effect.promise(() => writer.connect())
        const pushId = yield* Effect.promise(async () => {
          const created = (await writer.create(1, many.length)).body["push_id"]
          for (let start = 0; start < many.length; start += 5000) {
            await writer.chunk(created, start, many.slice(start, start + 5000))
          }
          return created
        })
        // A stream, and a connection that is known to be open.
        const watch = device("watcher").send("GET", "/sync/watch?after_bundle_seq=0")
        const idle = device("idle")
        yield* Effect.promise(() => idle.send("GET", "/sync/capabilities"))

        const commit = writer.commit(pushId)
        yield* Effect.promise(() => idle.send("GET", "/sync/capabilities"))
        server.kill("SIGTERM")
        yield* Effect.promise(() => server.waitFor(/^shutting down/m))
        const [late, anew] = yield* Effect.promise(() =>
          Promise.all([idle.send("GET", "/sync/pull"), device("new").connect()])
        )
        assert.strictEqual(outcomeOf(late), "503 service_unavailable")
        assert.strictEqual(outcomeOf(anew), "503 service_unavailable")
        assert.deepInclude(yield* Effect.promise(() => commit), { status: 200 })
        assert.deepInclude(yield* Effect.promise(() => watch), { status: 200 })
        assert.deepStrictEqual(yield* Effect.promise(() => server.ended), { code: 0, signal: null })
        assert.strictEqual(server.printed.stderr, "")
        // Closed properly: the write-ahead log has gone into the database.
        const left = yield* (yield* FileSystem.FileSystem).readDirectory(files.data)
        assert.deepStrictEqual(left.slice().sort(), ["oversqlite.db", "oversqlite.lock"])

        const again = yield* serving(files)
        const reader = rawDevice({ ...again, token, source: "reader" })
        const snapshot = yield* Effect.promise(() => reader.send("POST", "/sync/snapshot-sessions"))
        assert.deepInclude(snapshot.body, { snapshot_bundle_seq: 1, row_count: many.length })
      }).pipe(Effect.provide(NodeContext.layer)),
    slow
  )

  it.scopedLive(
    "on SIGINT does not wait for a client that sends its request slowly [server.md §14]",
    () =>
      Effect.gen(function*() {
        const files = yield* directory
        const token = yield* tokenFor(files, "ada")
        const server = yield* serving(files)
        const { hostname, port } = new URL(server.url)
        const unfinished = request({
          hostname,
          port,
          method: "POST",
          path: "/sync/connect",
          headers: { authorization: `Bearer ${token}`, "oversync-source-id": "slow", "content-length": 1000 }
        })
        const broken = new Promise<unknown>((resolve) => unfinished.on("error", resolve))
        unfinished.write("{")
        yield* Effect.promise(() => rawDevice({ ...server, token, source: "a" }).connect())
        server.kill("SIGINT")
        assert.deepStrictEqual(yield* Effect.promise(() => server.ended), { code: 0, signal: null })
        yield* Effect.promise(() => broken)
      }).pipe(Effect.provide(NodeContext.layer)),
    slow
  )

  it.scopedLive("ends at once at the second signal [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const token = yield* tokenFor(files, "ada")
      const server = yield* serving(files)
      const { hostname, port } = new URL(server.url)
      // Keeps the server from ending: a request that never gets complete.
      const unfinished = request({
        hostname,
        port,
        method: "POST",
        path: "/sync/connect",
        headers: { authorization: `Bearer ${token}`, "oversync-source-id": "slow", "content-length": 1000 }
      })
      unfinished.on("error", () => {})
      unfinished.write("{")
      yield* Effect.promise(() => rawDevice({ ...server, token, source: "a" }).connect())
      server.kill("SIGTERM")
      yield* Effect.promise(() => server.waitFor(/^shutting down/m))
      // A repetition of the first signal, as npx may send it, is not the second one.
      server.kill("SIGTERM")
      yield* Effect.sleep("300 millis")
      server.kill("SIGINT")
      assert.deepStrictEqual(yield* Effect.promise(() => server.ended), { code: 130, signal: null })
    }).pipe(Effect.provide(NodeContext.layer)), slow)
})

describe("token", () => {
  const claims = (token: string): { readonly sub?: string; readonly iat: number; readonly exp?: number } =>
    JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"))

  it.scopedLive(
    "names the user and ends after the given time, an hour unless told otherwise [wire.md §1.2]",
    () =>
      Effect.gen(function*() {
        const files = yield* directory
        const [plain, week, forever] = yield* Effect.all([
          tokenFor(files, " ada "),
          tokenFor(files, "ada", "--expires-in", "7d"),
          tokenFor(files, "ada", "--expires-in", "never")
        ], { concurrency: "unbounded" })
        const life = (token: string) => (claims(token).exp ?? Infinity) - claims(token).iat
        assert.strictEqual(claims(plain).sub, "ada")
        assert.deepStrictEqual([plain, week, forever].map(life), [3600, 7 * 24 * 3600, Infinity])
      }).pipe(Effect.provide(NodeContext.layer)),
    slow
  )
})
