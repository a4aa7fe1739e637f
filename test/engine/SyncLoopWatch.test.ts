import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Option, Stream } from "effect"
import type { BackgroundStatus, SyncOptions } from "oversqlite"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Route } from "./support/Network.js"
import { before, changed, lost, refused } from "./support/Network.js"
import { secondsPass } from "./support/Time.js"
import type { DeviceOptions, World } from "./support/World.js"
import { contents, makeWorld } from "./support/World.js"

/** Listens, looks every ten seconds, pulls without an event every ten minutes. */
const listening: Partial<SyncOptions> = {
  bundleChangeWatchMode: "auto",
  backoffMin: "10 seconds",
  backoffMax: "2 minutes",
  watchFallbackInterval: "10 minutes",
  retryPolicy: { enabled: false, jitterFraction: 0 }
}

const statusOf = ({ sync }: Device): Effect.Effect<BackgroundStatus> =>
  Effect.map(Stream.runHead(sync.status), (head) => Option.getOrThrow(head).background)

const watching = (device: Device) => Effect.map(statusOf(device), (status) => status.watching)

const insert = (device: Device, id: string) => device.run("INSERT INTO users VALUES (?, 'N', ?, 1)", [id, `${id}@x`])

const count = (routes: ReadonlyArray<Route>, route: Route) => routes.filter((one) => one === route).length

const streams = ({ server }: World) => Effect.flatMap(server, (running) => running.watcherCount("ann"))

/** A device that listens: the loop runs, and its first requests are forgotten. */
const listener = (world: World, options: DeviceOptions = {}) =>
  Effect.gen(function*() {
    const device = yield* world.attached({ ...listening, ...options })
    yield* Effect.forkScoped(device.sync.run)
    yield* secondsPass(1)
    assert.isTrue(yield* watching(device))
    yield* world.network.asked
    return device
  })

describe("listening [retry-and-loops.md §5]", () => {
  it.scoped("an event wakes another device at once", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      const b = yield* listener(world)
      yield* insert(a, "u1")
      yield* a.sync.sync
      yield* secondsPass(0)
      assert.deepStrictEqual(yield* contents(b), yield* contents(a))
      yield* checkInvariants(b, { quiescent: false })
    }))

  it.scoped("the event of the own bundle asks for nothing", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* insert(a, "u1")
      yield* secondsPass(60)
      const asked = yield* world.network.asked
      assert.deepStrictEqual(asked, ["push create", "push chunk", "push commit", "committed rows"])
      yield* insert(a, "u2")
      yield* a.sync.pushPending
      yield* secondsPass(60)
      assert.strictEqual(count(yield* world.network.asked, "pull"), 0)
    }))

  it.scoped("listens for an hour with one stream, and pulls only as the fallback timer says", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* listener(world, { backoffMin: "1 minute" })
      yield* secondsPass(3600, 300)
      assert.deepStrictEqual(yield* world.network.asked, Array.from({ length: 6 }, () => "pull"))
      assert.strictEqual(yield* streams(world), 1)
    }))

  it.scoped("an event while an operation runs is remembered, and the stream stays open", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      const gate = yield* Deferred.make<void>()
      yield* world.network.fault("push commit", before(Deferred.await(gate)))
      yield* insert(a, "u1")
      yield* Effect.forkScoped(Effect.orDie(a.sync.pushPending))
      yield* secondsPass(1)
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* secondsPass(30)
      assert.strictEqual(count(yield* world.network.asked, "pull"), 0)
      yield* Deferred.succeed(gate, undefined)
      yield* secondsPass(1)
      assert.deepStrictEqual(yield* a.run("SELECT id FROM users ORDER BY id"), [{ id: "s1" }, { id: "u1" }])
      assert.strictEqual(count(yield* world.network.asked, "watch"), 0)
      assert.strictEqual(yield* streams(world), 1)
    }))

  it.scoped("an event while rows are pending: push, then pull, and the stream stays open", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* insert(a, "u1")
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* secondsPass(1)
      const asked = yield* world.network.asked
      assert.deepStrictEqual(asked, ["push create", "push chunk", "push commit", "committed rows", "pull"])
      assert.strictEqual(yield* streams(world), 1)
    }))

  it.scoped("a pull that fails does not close the stream", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* world.network.fault("pull", lost)
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* secondsPass(1)
      assert.strictEqual((yield* statusOf(a)).state, "backing_off")
      assert.isTrue(yield* watching(a))
      yield* secondsPass(10)
      assert.strictEqual((yield* statusOf(a)).state, "running")
      assert.deepStrictEqual(yield* world.network.asked, ["pull", "pull"])
    }))

  it.scoped("an event ends the wait for a correction of the server's data", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* world.write([{ table: "posts", key: "p1", payload: { title: "No author column" } }])
      yield* secondsPass(5)
      assert.strictEqual((yield* statusOf(a)).error?._tag, "LocalDataError")
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* secondsPass(5)
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
    }))
})

describe("the life of a stream [retry-and-loops.md §2.1, §5]", () => {
  it.scoped("one that breaks is followed by a pull, another stream, and the pull that its opening asks for", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* world.network.cutStreams
      yield* secondsPass(1)
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
      assert.isFalse(yield* watching(a))
      // Polled like any client that does not listen, until the next stream is there.
      yield* secondsPass(12)
      const asked = yield* world.network.asked
      assert.strictEqual(count(asked, "watch"), 1)
      assert.strictEqual(asked.at(-1), "pull")
      assert.isTrue(yield* watching(a))
    }))

  it.scoped("what was committed while there was no stream arrives", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* world.network.cutStreams
      yield* secondsPass(1)
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* secondsPass(12)
      assert.deepStrictEqual(yield* a.run("SELECT id FROM users"), [{ id: "s1" }])
    }))

  it.scoped("streams that do not live are opened with growing pauses", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* world.network.fault("watch", refused(503, "service_unavailable"), 1_000)
      const a = yield* world.attached(listening)
      yield* Effect.forkScoped(a.sync.run)
      yield* world.network.asked
      yield* secondsPass(900, 100)
      const asked = yield* world.network.asked
      // At once, after 10, 20, 40 and 80 seconds, then every two minutes; looked at every ten seconds.
      assert.isAtLeast(count(asked, "watch"), 9)
      assert.isAtMost(count(asked, "watch"), 11)
      assert.strictEqual(count(asked, "connect"), 0)
    }))

  it.scoped("a silent stream is given up after the idle limit and opened again, with the shortest pause", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ server: { watch: { heartbeat: "10 hours" } } })
      const a = yield* listener(world)
      yield* secondsPass(750, 10)
      const asked = yield* world.network.asked
      // 65 seconds of silence and a pause of ten, rounded up to the next look.
      assert.isAtLeast(count(asked, "watch"), 8)
      assert.isAtMost(count(asked, "watch"), 10)
      assert.strictEqual((yield* statusOf(a)).error, undefined)
    }))

  it.scoped("heartbeats keep it alive", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* listener(world)
      yield* secondsPass(580, 20)
      assert.deepStrictEqual(yield* world.network.asked, [])
    }))

  it.scoped("is closed while downloads are paused, and opened again", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* a.sync.pauseDownloads
      yield* secondsPass(0)
      assert.strictEqual(yield* streams(world), 0)
      assert.isFalse(yield* watching(a))
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* secondsPass(100)
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* a.sync.resumeDownloads
      yield* secondsPass(11)
      assert.strictEqual(yield* streams(world), 1)
      assert.strictEqual(yield* watching(a), true)
      assert.deepStrictEqual(yield* a.run("SELECT id FROM users"), [{ id: "s1" }])
    }))

  it.scoped("is closed by detach, by the stop of the work and by the end of the loop", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* a.sync.detach
      yield* secondsPass(0)
      assert.strictEqual(yield* streams(world), 0)
      yield* a.sync.attach("ann")
      yield* secondsPass(1)
      assert.strictEqual(yield* streams(world), 1)
      yield* a.run("UPDATE _sync_attachment_state SET rebuild_required = 1")
      yield* a.sync.notifyOnline
      yield* secondsPass(1)
      assert.strictEqual((yield* statusOf(a)).state, "stopped")
      assert.strictEqual(yield* streams(world), 0)
      yield* a.sync.rebuild
      yield* secondsPass(1)
      assert.strictEqual(yield* streams(world), 1)
      yield* a.sync.close
      yield* secondsPass(0)
      assert.strictEqual(yield* streams(world), 0)
    }))

  it.scoped("is opened again under the new source after a rotation", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* insert(a, "u1")
      yield* world.network.fault("push create", refused(409, "source_sequence_out_of_order"))
      yield* secondsPass(11)
      assert.strictEqual((yield* statusOf(a)).error?._tag, "SourceRecoveryRequired")
      yield* a.sync.rebuild
      yield* secondsPass(11)
      const { currentSourceId } = yield* a.sync.sourceInfo
      const opened = world.network.requests.filter(({ route }) => route === "watch").map(({ source }) => source)
      assert.strictEqual(opened.length, 2)
      assert.notStrictEqual(opened[0], currentSourceId)
      assert.strictEqual(opened[1], currentSourceId)
      assert.strictEqual(yield* streams(world), 1)
    }))

  it.scoped("is opened again under the new source when a source id was shared, without an operation of the host", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(listening)
      yield* insert(a, "u1")
      yield* a.sync.sync
      const twin = yield* world.copyOf(a, listening)
      yield* twin.sync.open
      yield* twin.sync.attach("ann")
      yield* insert(twin, "t1")
      yield* twin.sync.pushPending
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(1)
      const shared = (yield* a.sync.sourceInfo).currentSourceId
      yield* a.run("UPDATE users SET name = 'Forked' WHERE id = 'u1'")
      yield* secondsPass(25)
      const { currentSourceId } = yield* a.sync.sourceInfo
      const opened = world.network.requests.filter(({ route }) => route === "watch").map(({ source }) => source)
      assert.notStrictEqual(currentSourceId, shared)
      assert.deepStrictEqual(opened, [shared, currentSourceId])
      assert.strictEqual(yield* streams(world), 1)
    }))
})

describe("whether to listen [retry-and-loops.md §5.1]", () => {
  it.scoped("is opened again when the server has refused the token that it bears, after the shortest pause", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world, { tokens: 2 })
      yield* world.network.fault("pull", refused(401, "unauthorized"))
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* secondsPass(5)
      assert.deepStrictEqual(yield* world.network.asked, ["pull", "pull"])
      assert.isFalse(yield* watching(a))
      yield* secondsPass(10)
      // The first one because nobody listens, the last one for what may have come before the stream.
      assert.deepStrictEqual(yield* world.network.asked, ["pull", "watch", "pull"])
      assert.isTrue(yield* watching(a))
      assert.strictEqual(yield* streams(world), 1)
    }))

  it.scoped("stays open when the server takes the same token the second time", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* world.network.fault("pull", refused(401, "unauthorized"))
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* secondsPass(5)
      assert.strictEqual(count(yield* world.network.asked, "watch"), 0)
      assert.isTrue(yield* watching(a))
    }))

  it.scoped("never, when the mode is off", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...listening, bundleChangeWatchMode: "off" })
      yield* Effect.forkScoped(a.sync.run)
      yield* world.network.asked
      yield* secondsPass(300, 30)
      assert.deepStrictEqual([...new Set(yield* world.network.asked)], ["pull"])
    }))

  it.scoped("a loop that starts before attach listens afterwards", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device(listening)
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(30)
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* secondsPass(1)
      assert.isTrue(yield* watching(a))
    }))

  it.scoped("a session that resumes without network asks, and not before a pull has found the server", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(listening)
      const again = yield* world.restarted(a, listening)
      yield* world.network.fault("pull", lost, 3)
      yield* world.network.asked
      yield* Effect.forkScoped(again.sync.run)
      yield* secondsPass(40)
      assert.deepStrictEqual(yield* world.network.asked, ["pull", "pull", "pull"])
      yield* secondsPass(60)
      assert.deepStrictEqual(yield* world.network.asked, ["pull", "capabilities", "watch", "pull"])
      assert.isTrue(yield* watching(again))
    }))

  it.scoped("a server without events is polled and asked again with every fallback interval", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const without = changed((body) => ({ ...body, features: { connect_lifecycle: true } }))
      yield* world.network.fault("capabilities", without, 3)
      const a = yield* world.attached({ ...listening, watchFallbackInterval: "1 minute" })
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(125, 5)
      const asked = yield* world.network.asked
      assert.strictEqual(count(asked, "capabilities"), 2)
      assert.isAtLeast(count(asked, "pull"), 12)
      assert.strictEqual(count(asked, "watch"), 0)
      yield* secondsPass(65, 5)
      assert.isTrue(yield* watching(a))
    }))

  it.scoped("a server that has switched events off is polled, and asked again later", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* world.network.fault("watch", refused(503, "bundle_change_watch_disabled"))
      yield* world.network.cutStreams
      yield* secondsPass(300, 10)
      const asked = yield* world.network.asked
      assert.deepStrictEqual([count(asked, "watch"), count(asked, "capabilities")], [1, 0])
      yield* secondsPass(330, 10)
      assert.isTrue(yield* watching(a))
    }))

  it.scoped("a user who may not listen is polled until the next attach", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* world.network.fault("watch", refused(403, "bundle_change_watch_forbidden"))
      const a = yield* world.attached(listening)
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(900, 100)
      const asked = yield* world.network.asked
      assert.strictEqual(count(asked, "watch"), 1)
      assert.isAtLeast(count(asked, "pull"), 80)
      yield* a.sync.attach("ann")
      yield* secondsPass(1)
      assert.isTrue(yield* watching(a))
    }))

  it.scoped("the network's return opens a stream without waiting", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* listener(world)
      yield* world.network.fault("watch", lost, 5)
      yield* world.network.fault("pull", lost, 1_000)
      yield* world.network.cutStreams
      yield* secondsPass(600, 50)
      assert.isFalse(yield* watching(a))
      yield* world.network.heal
      yield* a.sync.notifyOnline
      yield* secondsPass(0)
      assert.isTrue(yield* watching(a))
    }))
})
