/** The event stream of commits (wire.md §4.8, server.md §13). */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Stream, TestClock } from "effect"
import { SyncServer } from "oversqlite/server"
import { device, id, outcome, user } from "./support/Device.js"
import { inProcess, overHttp } from "./support/TestServer.js"

const a = device("source-a")
const b = device("source-b")

/** Opens a stream and collects its text pieces into a queue until the scope closes. */
const watching = Effect.fnUntraced(function*(after = 0, source = "source-b", userId = "user-1") {
  const client = yield* HttpClient.HttpClient
  const response = yield* client.execute(
    HttpClientRequest.get(`/sync/watch?after_bundle_seq=${after}`).pipe(
      HttpClientRequest.bearerToken(userId),
      HttpClientRequest.setHeader("Oversync-Source-ID", source)
    )
  )
  const pieces = yield* Queue.unbounded<string>()
  const reader = yield* response.stream.pipe(
    Stream.decodeText(),
    Stream.filter((text) => text !== ""),
    Stream.runForEach((text) => Queue.offer(pieces, text)),
    Effect.forkScoped
  )
  return { response, pieces, reader }
})

const event = (bundleSeq: number, source?: string, sourceBundleId = bundleSeq) =>
  `event: bundle\ndata: ${
    JSON.stringify({
      bundle_seq: bundleSeq,
      ...(source === undefined ? {} : { source_id: source, source_bundle_id: sourceBundleId })
    })
  }\n\n`

/** What has arrived once everything that can run has run. */
const arrived = (pieces: Queue.Queue<string>) =>
  Effect.zipRight(TestClock.adjust(0), Effect.map(Queue.takeAll(pieces), (texts) => Array.from(texts).join("")))

describe("watch", () => {
  it.scoped("announces each commit, also to the writer's own stream [wire.md §4.8]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const other = yield* watching()
      const own = yield* watching(0, "source-a")
      assert.strictEqual(other.response.status, 200)
      assert.deepInclude(other.response.headers, {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no"
      })
      assert.strictEqual(yield* arrived(other.pieces), "")
      yield* a.push(1, [user(1)])
      assert.strictEqual(yield* arrived(other.pieces), event(1, "source-a"))
      assert.strictEqual(yield* arrived(own.pieces), event(1, "source-a"))
    }).pipe(Effect.provide(inProcess())))

  it.scoped("catches up at once, without a source, and says nothing old [wire.md §4.8]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [user(1)])
      yield* a.push(2, [user(2)])
      const late = yield* watching(0)
      assert.strictEqual(yield* arrived(late.pieces), event(2))
      const current = yield* watching(2)
      assert.strictEqual(yield* arrived(current.pieces), "")
      const ahead = yield* watching(9)
      yield* a.push(3, [user(3)])
      assert.strictEqual(yield* arrived(ahead.pieces), "")
      assert.strictEqual(yield* arrived(current.pieces), event(3, "source-a"))
    }).pipe(Effect.provide(inProcess())))

  it.scoped("sends nothing for refused commits and for other users [wire.md §4.8]", () =>
    Effect.gen(function*() {
      const stranger = device("source-z", "user-2")
      yield* a.connect(false)
      yield* stranger.connect(false)
      const { pieces } = yield* watching()
      assert.strictEqual(outcome(yield* a.push(1, [{ ...user(1), op: "UPDATE" }])), "409 push_conflict")
      yield* stranger.push(1, [user(1)])
      assert.strictEqual(yield* arrived(pieces), "")
    }).pipe(Effect.provide(inProcess())))

  it.scoped("a slow reader gets the newest event only [server.md §13]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const client = yield* HttpClient.HttpClient
      const response = yield* client.execute(
        HttpClientRequest.get("/sync/watch").pipe(
          HttpClientRequest.bearerToken("user-1"),
          HttpClientRequest.setHeader("Oversync-Source-ID", "source-b")
        )
      )
      const gate = yield* Queue.unbounded<void>()
      const pieces = yield* Queue.unbounded<string>()
      yield* response.stream.pipe(
        Stream.decodeText(),
        Stream.filter((text) => text !== ""),
        Stream.runForEach((text) => Effect.zipRight(Queue.offer(pieces, text), Queue.take(gate))),
        Effect.forkScoped
      )
      yield* TestClock.adjust(0)
      for (let number = 1; number <= 20; number++) yield* a.push(number, [user(number)])
      assert.strictEqual(yield* arrived(pieces), event(1, "source-a"))
      yield* Queue.offerAll(gate, Array.from({ length: 20 }, () => undefined))
      const texts = yield* arrived(pieces)
      assert.isTrue(texts.endsWith(event(20, "source-a")))
      assert.isBelow(texts.split("\n\n").length, 20)
    }).pipe(Effect.provide(inProcess())))

  it.scoped("beats every interval from the opening on, whatever else came [wire.md §4.8]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const { pieces } = yield* watching()
      yield* TestClock.adjust("24 seconds")
      yield* a.push(1, [user(1)])
      assert.strictEqual(yield* arrived(pieces), event(1, "source-a"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* arrived(pieces), ": heartbeat\n\n")
      yield* TestClock.adjust("50 seconds")
      assert.strictEqual(yield* arrived(pieces), ": heartbeat\n\n: heartbeat\n\n")
    }).pipe(Effect.provide(inProcess())))

  it.scoped("a reader that goes leaves no watcher behind [server.md §13]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const server = yield* SyncServer
      const { reader } = yield* watching()
      yield* TestClock.adjust(0)
      assert.strictEqual(yield* server.watcherCount("user-1"), 1)
      yield* Fiber.interrupt(reader)
      assert.strictEqual(yield* server.watcherCount("user-1"), 0)
    }).pipe(Effect.provide(inProcess())))

  it.scoped("ends when the server closes, which does not wait for it [server.md §13, §14]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const server = yield* SyncServer
      const { reader } = yield* watching()
      yield* TestClock.adjust(0)
      yield* server.shutdown
      yield* Fiber.join(reader)
    }).pipe(Effect.provide(inProcess())))

  it.effect("refuses in the documented order [wire.md §4.8]", () =>
    Effect.gen(function*() {
      const status = (query: string) => Effect.map(b.request(`/sync/watch${query}`), outcome)
      assert.strictEqual(yield* status("?after_bundle_seq=x"), "400 invalid_request")
      assert.strictEqual(yield* status("?after_bundle_seq=-1"), "400 invalid_request")
      assert.strictEqual(yield* status(""), "409 scope_uninitialized")
      yield* a.connect(true)
      assert.strictEqual(yield* status(""), "409 scope_initializing")
    }).pipe(Effect.provide(inProcess())))

  it.effect("switched off it says so, after the cursor was checked [wire.md §4.8]", () =>
    Effect.gen(function*() {
      assert.strictEqual(outcome(yield* b.request("/sync/watch?after_bundle_seq=x")), "400 invalid_request")
      assert.strictEqual(outcome(yield* b.request("/sync/watch")), "503 bundle_change_watch_disabled")
      const features = (yield* b.request("/sync/capabilities")).body["features"]
      assert.deepInclude(features, { bundle_change_watch: false })
    }).pipe(Effect.provide(inProcess({ watch: { enabled: false } }))))

  it.effect("forbidden by the host it says so before anything else, and in the actor's capabilities [wire.md §4.8]", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        outcome(yield* b.request("/sync/watch?after_bundle_seq=x")),
        "403 bundle_change_watch_forbidden"
      )
      assert.deepInclude((yield* b.request("/sync/capabilities")).body["features"], { bundle_change_watch: false })
      assert.deepInclude((yield* a.request("/sync/capabilities")).body["features"], { bundle_change_watch: true })
      assert.deepInclude((yield* b.request("/syncx/status")).body["features"], { bundle_change_watch: true })
    }).pipe(
      Effect.provide(inProcess({ watch: { allow: (actor) => Effect.succeed(actor.sourceId === "source-a") } }))
    ))

  it.scopedLive("over HTTP headers arrive at once and events as they happen, for many watchers [wire.md §4.8]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const watchers = yield* Effect.forEach(Array.from({ length: 50 }, (_, index) => index), () => watching(), {
        concurrency: "unbounded"
      })
      assert.isTrue(watchers.every((watcher) => watcher.response.status === 200))
      const server = yield* SyncServer
      yield* Effect.repeat(Effect.sleep("1 millis"), {
        until: () => Effect.map(server.watcherCount("user-1"), (count) => count === 50)
      })
      yield* server.write("user-1", "host", [
        { schema: "business", table: "users", key: id(1), payload: { name: "One" } }
      ])
      for (const { pieces } of watchers) assert.strictEqual(yield* Queue.take(pieces), event(1, "host"))
    }).pipe(Effect.provide(overHttp())))
})
