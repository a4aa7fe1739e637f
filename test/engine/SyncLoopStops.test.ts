import { HttpClient } from "@effect/platform"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import Database from "better-sqlite3"
import { Effect, Layer, Option, Redacted, Stream } from "effect"
import * as path from "node:path"
import type { BackgroundStatus, SyncError, SyncOptions } from "oversqlite"
import { Credentials, make as makeClient } from "oversqlite"
import type { Device } from "./support/Devices.js"
import { tables } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Route } from "./support/Network.js"
import { answered, changed, refused } from "./support/Network.js"
import { secondsPass } from "./support/Time.js"
import type { World } from "./support/World.js"
import { makeWorld, temporaryFolder } from "./support/World.js"

/** Without jitter every time is known; without retries every attempt is one request. */
const steady: Partial<SyncOptions> = { retryPolicy: { enabled: false, jitterFraction: 0 } }

const statusOf = ({ sync }: Pick<Device, "sync">): Effect.Effect<BackgroundStatus> =>
  Effect.map(Stream.runHead(sync.status), (head) => Option.getOrThrow(head).background)

const summary = (device: Pick<Device, "sync">) =>
  Effect.map(statusOf(device), ({ error, state }) => ({ state, error: error?._tag }))

const running = { state: "running", error: undefined } as const

const insert = (device: Device, id: string) => device.run("INSERT INTO users VALUES (?, 'N', ?, 1)", [id, `${id}@x`])

const count = (routes: ReadonlyArray<Route>, route: Route) => routes.filter((one) => one === route).length

const refusal = refused(400, "push_chunk_invalid")

describe("uploads that wait for a correction [retry-and-loops.md §4.3]", () => {
  const blocked = { state: "blocked", error: "UploadRefused" } as const

  it.scoped("UploadRefused: no push and no pull until the host writes, by whatever way it is seen", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const folder = yield* temporaryFolder
      const filename = path.join(folder, "device.db")
      const a = yield* world.attached({ ...steady, filename })
      const other = yield* Effect.acquireRelease(
        Effect.sync(() => new Database(filename)),
        (connection) => Effect.sync(() => connection.close())
      )
      yield* insert(a, "u1")
      yield* world.network.fault("push chunk", refusal, 1_000)
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      const refusedAgain = Effect.gen(function*() {
        yield* secondsPass(100, 2)
        assert.deepStrictEqual(yield* summary(a), blocked)
        const asked = yield* world.network.asked
        assert.deepStrictEqual([count(asked, "push chunk"), count(asked, "pull")], [1, 0])
      })
      yield* refusedAgain
      // A new row, another edit of a row that is pending already, a write of another connection, the host's word.
      yield* insert(a, "u2")
      yield* refusedAgain
      yield* a.run("UPDATE users SET name = 'Other' WHERE id = 'u1'")
      yield* refusedAgain
      other.prepare("UPDATE users SET name = 'Another' WHERE id = 'u1'").run()
      yield* refusedAgain
      yield* a.sync.notifyLocalWrite
      yield* refusedAgain
      // Other writes are none.
      yield* a.run("CREATE TABLE notes (note TEXT)")
      yield* a.run("INSERT INTO notes VALUES ('x')")
      other.prepare("INSERT INTO notes VALUES ('y')").run()
      yield* secondsPass(100, 2)
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* world.network.heal
      yield* a.run("UPDATE users SET name = 'Right' WHERE id = 'u1'")
      yield* secondsPass(3)
      assert.deepStrictEqual(yield* summary(a), running)
      assert.strictEqual((yield* world.serverRows).size, 2)
      yield* checkInvariants(a, { quiescent: false })
    }))

  it.scoped("a write that comes while the refused upload is under way counts", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      yield* insert(a, "u1")
      yield* world.network.fault("push chunk", (exchange, ask) =>
        Effect.zipRight(a.run("UPDATE users SET name = 'Right' WHERE id = 'u1'"), refusal(exchange, ask)))
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(2)
      assert.deepStrictEqual(yield* summary(a), running)
      assert.deepStrictEqual([...(yield* world.serverRows).values()], [{
        id: "u1",
        name: "Right",
        email: "u1@x",
        score: 1
      }])
    }))

  it.scoped("a write during an earlier refused upload does not count for the LocalDataError of a later push [retry-and-loops.md §4.3]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      yield* insert(a, "u1")
      yield* world.network.fault(
        "push chunk",
        (exchange, ask) =>
          Effect.zipRight(a.run("UPDATE users SET name = 'Right' WHERE id = 'u1'"), refusal(exchange, ask))
      )
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(10)
      assert.deepStrictEqual(yield* summary(a), running)
      yield* a.run("UPDATE users SET score = 5 WHERE id = 'u1'")
      yield* a.run("UPDATE _sync_apply_state SET apply_mode = 1")
      yield* a.run("UPDATE users SET name = x'00' WHERE id = 'u1'")
      yield* a.run("UPDATE _sync_apply_state SET apply_mode = 0")
      let pushes = 0
      let pushing = false
      yield* Effect.forkScoped(Stream.runForEach(a.sync.status, ({ running }) =>
        Effect.sync(() => {
          if (!pushing && running === "pushPending") pushes++
          pushing = running === "pushPending"
        })))
      yield* secondsPass(60)
      assert.isAtMost(pushes, 1)
      assert.deepStrictEqual(yield* summary(a), { state: "blocked", error: "LocalDataError" })
    }))

  it.scoped("LocalDataError of a push: no push until the row is corrected", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      yield* insert(a, "u1")
      // Written past the triggers, as an older SQLite would let it pass.
      yield* a.run("UPDATE _sync_apply_state SET apply_mode = 1")
      yield* a.run("UPDATE users SET name = x'00' WHERE id = 'u1'")
      yield* a.run("UPDATE _sync_apply_state SET apply_mode = 0")
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(100, 2)
      assert.deepStrictEqual(yield* summary(a), { state: "blocked", error: "LocalDataError" })
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* a.run("UPDATE users SET name = 'Ann' WHERE id = 'u1'")
      yield* secondsPass(2)
      assert.deepStrictEqual(yield* summary(a), running)
      assert.strictEqual((yield* world.serverRows).size, 1)
    }))
})

describe("pulls that wait for news [retry-and-loops.md §4.3]", () => {
  it.scoped("LocalDataError of a pull: no pull until the long timer or a host write", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...steady, backoffMin: "5 seconds" })
      yield* insert(a, "u1")
      yield* a.sync.sync
      yield* world.write([{ table: "posts", key: "p1", payload: { title: "No author column" } }])
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(0)
      assert.deepStrictEqual(yield* summary(a), { state: "blocked", error: "LocalDataError" })
      yield* secondsPass(58)
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
      yield* secondsPass(4)
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
      yield* insert(a, "u2")
      yield* secondsPass(10)
      const asked = yield* world.network.asked
      assert.strictEqual(asked[0], "push create")
      assert.strictEqual(count(asked, "pull"), 1)
      assert.deepStrictEqual(yield* summary(a), { state: "blocked", error: "LocalDataError" })
      yield* checkInvariants(a, { quiescent: false })
    }))

  it.scoped("a row that contradicts a local one and cannot be rebuilt around either is reported the same way", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({
        ...steady,
        ddl: [
          "CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT CHECK (name <> 'No'), email TEXT, score REAL)",
          "CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, title TEXT, author_id TEXT)",
          "CREATE TABLE files (id BLOB PRIMARY KEY NOT NULL, name TEXT, data BLOB)"
        ]
      })
      yield* insert(a, "u1")
      yield* a.sync.sync
      yield* world.write([{ table: "users", key: "u2", payload: { name: "No", email: null, score: 1 } }])
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(30)
      assert.deepStrictEqual(yield* summary(a), { state: "blocked", error: "LocalDataError" })
    }))
})

interface Stop {
  readonly name: string
  readonly tag: SyncError["_tag"]
  /** Brings the trouble about, on a client that has pushed one row. */
  readonly trouble: (world: World, device: Device) => Effect.Effect<unknown, unknown>
  /** The operation of the host that gets past it. */
  readonly remedy: (world: World, device: Device) => Effect.Effect<unknown, unknown>
}

const pushSomething = (device: Device) => insert(device, "trouble")

const stops: ReadonlyArray<Stop> = [
  {
    name: "RebuildRequired",
    tag: "RebuildRequired",
    trouble: (_world, { run }) => run("UPDATE _sync_attachment_state SET rebuild_required = 1"),
    remedy: (_world, { sync }) => sync.rebuild
  },
  {
    name: "SourceRecoveryRequired",
    tag: "SourceRecoveryRequired",
    trouble: ({ network }, device) =>
      Effect.zipRight(
        pushSomething(device),
        network.fault("push create", refused(409, "source_sequence_out_of_order"))
      ),
    remedy: (_world, { sync }) => sync.rebuild
  },
  {
    name: "ScopeLost",
    tag: "ScopeLost",
    trouble: ({ reset }) => reset,
    remedy: (_world, { sync }) => sync.attach("ann")
  },
  {
    name: "DatabaseTakenOver",
    tag: "DatabaseTakenOver",
    trouble: (_world, device) =>
      Effect.zipRight(
        pushSomething(device),
        device.run("UPDATE _sync_engine_state SET engine_epoch = engine_epoch + 1")
      ),
    remedy: (_world, { sync }) => Effect.zipRight(sync.open, sync.attach("ann"))
  },
  {
    name: "ProtocolError",
    tag: "ProtocolError",
    trouble: ({ network }) => network.fault("pull", changed((body) => ({ ...body, stable_bundle_seq: -1 }))),
    remedy: (_world, { sync }) => sync.sync
  },
  {
    name: "a status that nothing consumes",
    tag: "TransportError",
    trouble: ({ network }) => network.fault("pull", answered(418, "a teapot")),
    remedy: (_world, { sync }) => sync.pushPending
  },
  {
    name: "401 for the fresh token, too",
    tag: "TransportError",
    trouble: ({ network }) => network.fault("pull", refused(401, "authentication_failed"), 2),
    remedy: (_world, { sync }) => sync.sync
  },
  {
    name: "InvalidConflictResolution",
    tag: "InvalidConflictResolution",
    trouble: ({ write }, device) =>
      write([{ table: "users", key: "u1", payload: { name: "Server", email: null, score: 1 } }]).pipe(
        Effect.zipRight(device.sync.setResolver(() => Effect.fail("undecided"))),
        Effect.zipRight(device.run("UPDATE users SET name = 'Device' WHERE id = 'u1'"))
      ),
    remedy: (_world, { sync }) =>
      Effect.zipRight(sync.setResolver(() => Effect.succeed({ _tag: "AcceptServer" })), sync.sync)
  }
]

describe("what stops automatic work [retry-and-loops.md §4.3]", () => {
  it.scoped.each(stops)(
    "$name: published, nothing is asked until an operation of the host succeeds",
    (stop) =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const a = yield* world.attached(steady)
        yield* insert(a, "u1")
        yield* a.sync.sync
        yield* stop.trouble(world, a)
        yield* world.network.asked
        yield* Effect.forkScoped(a.sync.run)
        yield* secondsPass(1)
        const stopped = { state: "stopped", error: stop.tag } as const
        assert.deepStrictEqual(yield* summary(a), stopped)
        const asked = yield* world.network.asked
        assert.deepStrictEqual(asked.filter((route) => /^(connect|snapshot)/.test(route)), [])
        // Neither time, nor writes, nor the network, nor status reads, nor an operation that fails.
        yield* secondsPass(200, 10)
        yield* insert(a, "u3")
        yield* a.sync.notifyLocalWrite
        yield* a.sync.notifyOnline
        yield* a.sync.inspect
        yield* Effect.either(a.sync.attach("somebody else"))
        yield* secondsPass(200, 10)
        const untouched = (yield* world.network.asked).filter((route) => !/^(capabilities|connect)$/.test(route))
        assert.deepStrictEqual(untouched, [])
        assert.deepStrictEqual(yield* summary(a), stopped)
        yield* stop.remedy(world, a)
        yield* secondsPass(5)
        assert.deepStrictEqual(yield* summary(a), running)
        assert.isTrue((yield* world.serverRows).has("users u3"))
        yield* checkInvariants(a, { quiescent: false, historyWentBack: stop.tag === "ScopeLost" })
      })
  )

  it.scoped("InitializationLeaseLost: published, and attach goes on", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device(steady)
      yield* insert(a, "u1")
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* world.network.fault("push create", refused(410, "initialization_expired"))
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(100, 10)
      assert.deepStrictEqual(yield* summary(a), { state: "stopped", error: "InitializationLeaseLost" })
      yield* secondsPass(100, 10)
      assert.strictEqual((yield* world.serverRows).size, 0)
      yield* a.sync.attach("ann")
      yield* secondsPass(1)
      assert.deepStrictEqual(yield* summary(a), running)
      assert.strictEqual((yield* world.serverRows).size, 1)
    }))

  it.scoped("CredentialsMismatch: nothing is sent, and an operation with the right token goes on", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      let user = "ann"
      const credentials = Credentials.layer(
        Effect.sync(() => ({ token: Redacted.make(user), userId: Option.some(user) }))
      )
      const context = yield* Layer.build(Layer.merge(SqliteClient.layer({ filename: ":memory:" }), credentials))
      const sql = yield* Effect.provide(SqlClient.SqlClient, context)
      yield* sql.unsafe("CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT, email TEXT UNIQUE, score REAL)")
      const sync = yield* makeClient({
        baseUrl: "http://localhost",
        schema: "business",
        tables: tables.slice(0, 1),
        ...steady
      }).pipe(Effect.provide(context), Effect.provideService(HttpClient.HttpClient, world.network.client))
      yield* sync.open
      yield* sync.attach("ann")
      user = "bob"
      yield* world.network.asked
      yield* Effect.forkScoped(sync.run)
      yield* secondsPass(100, 10)
      assert.deepStrictEqual(yield* summary({ sync }), { state: "stopped", error: "CredentialsMismatch" })
      assert.deepStrictEqual(yield* world.network.asked, [])
      user = "ann"
      yield* sync.sync
      yield* secondsPass(2)
      assert.deepStrictEqual(yield* summary({ sync }), running)
    }))
})
