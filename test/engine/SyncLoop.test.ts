import { assert, describe, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Exit, Fiber, Logger, Option, Random, Stream } from "effect"
import type { BackgroundStatus, SyncOptions } from "oversqlite"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Route } from "./support/Network.js"
import { before, lost } from "./support/Network.js"
import { secondsPass } from "./support/Time.js"
import type { World } from "./support/World.js"
import { contents, makeWorld } from "./support/World.js"

/** Without jitter every time is known. */
const steady: Partial<SyncOptions> = { retryPolicy: { enabled: true, jitterFraction: 0 } }

const statusOf = ({ sync }: Device): Effect.Effect<BackgroundStatus> =>
  Effect.map(Stream.runHead(sync.status), (head) => Option.getOrThrow(head).background)

const summary = (device: Device) => Effect.map(statusOf(device), ({ error, state }) => ({ state, error: error?._tag }))

const insert = (device: Device, id: string) => device.run("INSERT INTO users VALUES (?, 'N', ?, 1)", [id, `${id}@x`])

const count = (routes: ReadonlyArray<Route>, route: Route) => routes.filter((one) => one === route).length

/** The network is gone. */
const offline = ({ network }: World) =>
  Effect.forEach(
    ["capabilities", "connect", "pull", "push create", "push delete", "watch"] as const,
    (route) => network.fault(route, lost, 1_000_000),
    { discard: true }
  )

describe("what wakes the coordinator [retry-and-loops.md §4.3]", () => {
  it.scoped("a local write is found and pushed within the shortest pause, and polled by another device", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      const b = yield* world.attached(steady)
      yield* Effect.forkScoped(a.sync.run)
      yield* Effect.forkScoped(b.sync.run)
      yield* secondsPass(1)
      yield* insert(a, "u1")
      yield* secondsPass(2)
      assert.deepStrictEqual(yield* contents(b), yield* contents(a))
      assert.deepStrictEqual(yield* statusOf(a), {
        state: "running",
        pushWanted: false,
        pullWanted: false,
        watching: false,
        error: undefined
      })
      yield* checkInvariants(a, { quiescent: false })
      yield* checkInvariants(b, { quiescent: false })
    }))

  it.scoped("the host's own signal pushes at once, and later writes are gathered into one bundle a pause", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...steady, backoffMin: "10 seconds" })
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(10)
      yield* insert(a, "u1")
      yield* a.sync.notifyLocalWrite
      yield* secondsPass(0)
      assert.strictEqual((yield* world.serverRows).size, 1)
      for (let writes = 0; writes < 9; writes++) {
        yield* insert(a, `w${writes}`)
        yield* a.sync.notifyLocalWrite
        yield* secondsPass(1)
      }
      yield* secondsPass(1)
      assert.strictEqual((yield* world.serverRows).size, 10)
      assert.strictEqual(count(yield* world.network.asked, "push commit"), 2)
    }))

  it.scoped("polls as often as the shortest pause says and does nothing else for an hour", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ backoffMin: "30 seconds" })
      yield* insert(a, "u1")
      yield* a.sync.sync
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(3600, 600)
      const asked = yield* world.network.asked
      assert.deepStrictEqual([...new Set(asked)], ["pull"])
      assert.isAtLeast(asked.length, 100)
      assert.isAtMost(asked.length, 150)
    }).pipe(Effect.withRandom(Random.make("an hour"))))

  it.scoped("a finished operation of the host, the timer and resuming make it look again", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...steady, backoffMin: "1 hour", backoffMax: "1 hour" })
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(1)
      yield* a.sync.pauseUploads
      yield* insert(a, "u1")
      yield* secondsPass(10)
      assert.strictEqual((yield* world.serverRows).size, 0)
      yield* a.sync.resumeUploads
      yield* secondsPass(0)
      assert.strictEqual((yield* world.serverRows).size, 1)
      yield* world.network.asked
      yield* a.sync.notifyOnline
      yield* secondsPass(0)
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
    }))
})

describe("pauses [retry-and-loops.md §6]", () => {
  it.scoped("nothing goes up and nothing is pulled past pending rows while uploads are paused, without an error", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      yield* a.sync.pauseUploads
      yield* insert(a, "u1")
      yield* Effect.forkScoped(a.sync.run)
      yield* world.network.asked
      yield* secondsPass(100, 10)
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.deepStrictEqual(yield* statusOf(a), {
        state: "running",
        pushWanted: true,
        pullWanted: true,
        watching: false,
        error: undefined
      })
      yield* a.sync.resumeUploads
      yield* secondsPass(1)
      assert.deepStrictEqual((yield* world.network.asked).slice(0, 5), [
        "push create",
        "push chunk",
        "push commit",
        "committed rows",
        "pull"
      ])
    }))

  it.scoped("nothing is pulled while downloads are paused, and pushes go on", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      yield* a.sync.pauseDownloads
      yield* Effect.forkScoped(a.sync.run)
      yield* world.network.asked
      yield* secondsPass(50)
      yield* insert(a, "u1")
      yield* secondsPass(50)
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "push chunk", "push commit", "committed rows"])
      yield* a.sync.resumeDownloads
      yield* secondsPass(0)
      assert.deepStrictEqual(yield* world.network.asked, ["pull"])
    }))
})

describe("results of an operation [retry-and-loops.md §4.3]", () => {
  it.scoped("SyncOperationInProgress is no error: the wish is kept and tried after the shortest pause", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...steady, onBusy: "fail" })
      const gate = yield* Deferred.make<void>()
      yield* world.network.fault("pull", before(Deferred.await(gate)))
      yield* Effect.forkScoped(Effect.orDie(a.sync.pullToStable))
      yield* secondsPass(0)
      yield* Effect.forkScoped(a.sync.run)
      yield* insert(a, "u1")
      yield* secondsPass(20)
      assert.deepStrictEqual(yield* summary(a), { state: "running", error: undefined })
      const { lastError } = Option.getOrThrow(yield* Stream.runHead(a.sync.status))
      assert.strictEqual(lastError, undefined)
      assert.strictEqual((yield* world.serverRows).size, 0)
      yield* Deferred.succeed(gate, undefined)
      yield* secondsPass(2)
      assert.strictEqual((yield* world.serverRows).size, 1)
    }))

  it.scoped("a lifecycle precondition stops the work, warns once a direction, and attach starts it", () => {
    const messages: Array<unknown> = []
    const logger = Logger.make(({ message }) => {
      messages.push(...(Array.isArray(message) ? message : [message]))
    })
    return Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device(steady)
      const expected = ["upload loop blocked by lifecycle state", "download loop blocked by lifecycle state"]
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(100, 10)
      assert.deepStrictEqual(yield* summary(a), { state: "detached", error: undefined })
      yield* a.sync.open
      yield* a.sync.notifyOnline
      yield* a.sync.notifyLocalWrite
      yield* secondsPass(100, 10)
      assert.deepStrictEqual(yield* summary(a), { state: "detached", error: undefined })
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.deepStrictEqual(messages, expected)
      yield* a.sync.attach("ann")
      yield* insert(a, "u1")
      yield* secondsPass(1)
      assert.strictEqual((yield* world.serverRows).size, 1)
      assert.strictEqual((yield* summary(a)).state, "running")
      // `open` disconnects the session.
      yield* a.sync.open
      yield* secondsPass(100, 10)
      assert.deepStrictEqual(messages, [...expected, ...expected])
      yield* a.sync.attach("ann")
      yield* secondsPass(0)
      assert.strictEqual((yield* summary(a)).state, "running")
      yield* a.sync.detach
      yield* secondsPass(0)
      assert.strictEqual((yield* summary(a)).state, "detached")
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })

  it.scoped("a precondition that only the database knows of is published and ends with attach", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      yield* a.run("UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ann'")
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(100, 10)
      assert.deepStrictEqual(yield* summary(a), { state: "detached", error: "DestructiveTransitionInProgress" })
      yield* world.network.asked
      yield* secondsPass(100, 10)
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* a.sync.attach("ann")
      yield* secondsPass(1)
      assert.deepStrictEqual(yield* summary(a), { state: "running", error: undefined })
    }))

  it.scoped("a retryable failure keeps the wish and grows the pauses; the network's return ends them", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...steady, retryPolicy: { enabled: false, jitterFraction: 0 } })
      yield* offline(world)
      yield* insert(a, "u1")
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      const attempts: Array<number> = []
      for (let second = 0; second < 190; second++) {
        yield* secondsPass(second === 0 ? 0 : 1)
        if (count(yield* world.network.asked, "push create") > 0) attempts.push(second)
      }
      assert.deepStrictEqual(attempts, [0, 1, 3, 7, 15, 31, 63, 123, 183])
      assert.deepStrictEqual(
        yield* statusOf(a).pipe(Effect.map(({ error, ...rest }) => ({ ...rest, tag: error?._tag }))),
        {
          state: "backing_off",
          pushWanted: true,
          pullWanted: true,
          watching: false,
          tag: "TransportError"
        }
      )
      // Writes and looks do not cut the pause, the network's return does.
      yield* insert(a, "u2")
      yield* a.sync.notifyLocalWrite
      yield* secondsPass(5)
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* world.network.heal
      yield* a.sync.notifyOnline
      yield* secondsPass(1)
      assert.strictEqual((yield* world.serverRows).size, 2)
      assert.deepStrictEqual(yield* summary(a), { state: "running", error: undefined })
      yield* checkInvariants(a, { quiescent: false })
    }))

  it.scoped("DirtyStateRejected: push, then pull", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      yield* insert(a, "seed")
      yield* a.sync.sync
      yield* world.write([{ table: "users", key: "u1", payload: { name: "Server", email: null, score: 2 } }])
      yield* world.network.fault("pull", before(insert(a, "u1")))
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(2)
      const asked = yield* world.network.asked
      assert.deepStrictEqual(asked.slice(0, 2), ["pull", "push create"])
      assert.strictEqual(asked.at(-1), "pull")
      assert.deepStrictEqual(yield* a.run("SELECT id, name FROM users ORDER BY id"), [
        { id: "seed", name: "N" },
        { id: "u1", name: "Server" }
      ])
      assert.deepStrictEqual(yield* summary(a), { state: "running", error: undefined })
    }))

  it.scoped("PendingPushReplay: an upload that the host's own push has left is finished first", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...steady, retryPolicy: { enabled: false, jitterFraction: 0 } })
      yield* insert(a, "u1")
      yield* world.network.fault("push commit", lost)
      yield* Effect.either(a.sync.pushPending)
      yield* world.network.asked
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(1)
      assert.deepStrictEqual((yield* world.network.asked).slice(0, 5), [
        "push create",
        "push chunk",
        "push commit",
        "committed rows",
        "pull"
      ])
      assert.deepStrictEqual(yield* summary(a), { state: "running", error: undefined })
    }))
})

describe("the life of the loop [retry-and-loops.md §4]", () => {
  it.scoped("ends when the client closes, at once if it is closed already, and takes its status back", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...steady, backoffMin: "1 hour" })
      const loop = yield* Effect.fork(a.sync.run)
      yield* secondsPass(1)
      yield* a.sync.close
      assert.deepStrictEqual(yield* Fiber.await(loop), Exit.void)
      assert.strictEqual((yield* statusOf(a)).state, "off")
      yield* a.sync.run
    }))

  it.scoped("a second run waits for the first", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      const first = yield* Effect.fork(a.sync.run)
      const second = yield* Effect.fork(a.sync.run)
      yield* secondsPass(1)
      yield* world.network.asked
      yield* secondsPass(30)
      assert.deepStrictEqual(yield* world.network.asked, Array.from({ length: 30 }, () => "pull"))
      yield* Fiber.interrupt(first)
      yield* secondsPass(30)
      assert.isAtLeast((yield* world.network.asked).length, 30)
      assert.isNull(second.unsafePoll())
      yield* Fiber.interrupt(second)
      yield* secondsPass(30)
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.strictEqual((yield* statusOf(a)).state, "off")
    }))

  it.scoped("its interruption interrupts what it is doing and leaves the client usable", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      yield* insert(a, "u1")
      yield* world.network.fault("push commit", before(Effect.never))
      const loop = yield* Effect.fork(a.sync.run)
      yield* secondsPass(1)
      const { running } = Option.getOrThrow(yield* Stream.runHead(a.sync.status))
      assert.strictEqual(running, "pushPending")
      yield* Fiber.interrupt(loop)
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.sync).pushOutcome, "committed")
      yield* checkInvariants(a)
    }))

  it.scoped("takes turns with the host's operations and never runs beside them", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(steady)
      const gate = yield* Deferred.make<void>()
      yield* Effect.forkScoped(a.sync.run)
      yield* secondsPass(0)
      yield* world.network.fault("pull", before(Deferred.await(gate)))
      const foreground = yield* Effect.fork(a.sync.sync)
      yield* secondsPass(0)
      yield* insert(a, "u1")
      yield* world.network.asked
      yield* secondsPass(30)
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* Deferred.succeed(gate, undefined)
      yield* secondsPass(2)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(foreground)))
      assert.strictEqual((yield* world.serverRows).size, 1)
    }))

  it.scoped("publishes what it does: a value per change", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached({ ...steady, retryPolicy: { enabled: false, jitterFraction: 0 } })
      const seen = yield* a.sync.status.pipe(
        Stream.map(({ background }) => `${background.state} ${background.error?._tag ?? ""}`.trim()),
        Stream.changes,
        Stream.take(5),
        Stream.runCollect,
        Effect.fork
      )
      yield* secondsPass(0)
      const loop = yield* Effect.fork(a.sync.run)
      yield* secondsPass(2)
      yield* world.network.fault("pull", lost)
      yield* secondsPass(4)
      yield* Fiber.interrupt(loop)
      assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Fiber.join(seen)), [
        "off",
        "running",
        "backing_off TransportError",
        "running",
        "off"
      ])
    }))
})
