import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import type { ClientStatus } from "oversqlite/promise"
import { before, lost } from "../engine/support/Network.js"
import { secondsPass, turn } from "../engine/support/Time.js"
import { makeWorld } from "../engine/support/World.js"
import { attachedClient, insert, rejection } from "./support/PlainClient.js"

/** Everything an iterable brings until it ends. */
const collect = async <A>(values: AsyncIterable<A>): Promise<ReadonlyArray<A>> => {
  const collected: Array<A> = []
  for await (const value of values) collected.push(value)
  return collected
}

describe("streams as async iterables [retry-and-loops.md §4.3, §7]", () => {
  it.scoped("status: the present state first, then every change, until the client is disposed", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client, database } = yield* attachedClient(world)
      const seen = collect(client.status())
      insert(database, "u1")
      yield* Effect.promise(() => client.sync())
      yield* Effect.promise(() => client.pauseUploads())
      yield* turn
      yield* Effect.promise(() => client.dispose())
      const all = yield* Effect.promise(() => seen)
      const [first] = all
      assert.strictEqual(first?.connected, true)
      assert.strictEqual(first?.running, undefined)
      assert.isTrue(all.some(({ running }) => running === "sync"))
      assert.isTrue(all.some(({ uploadsPaused }) => uploadsPaused))
    }))

  it.scoped("changes and progress: from the call on, nothing in between is lost", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client, database } = yield* attachedClient(world)
      const changes = client.changes()
      const progress = client.progress()
      insert(database, "u1")
      yield* Effect.promise(() => client.sync())
      yield* world.write([{ table: "users", key: "s1", payload: { name: "S", email: null, score: 1 } }])
      yield* Effect.promise(() => client.sync())
      yield* Effect.promise(async () => {
        const replayed = await changes.next()
        const pulled = await changes.next()
        assert.deepStrictEqual([replayed.value?.reason, pulled.value?.reason], ["replay", "pull"])
        assert.deepStrictEqual(pulled.value?.tables, ["users"])
        const { done, value } = await progress.next()
        assert.isFalse(done)
        assert.strictEqual(value?.operation, "sync")
      })
    }))

  it.scoped("an iterable that waits ends when the client is disposed, and so does every later one", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world)
      const waiting = [collect(client.changes()), collect(client.progress())]
      yield* turn
      yield* Effect.promise(() => client.dispose())
      assert.deepStrictEqual(yield* Effect.promise(() => Promise.all(waiting)), [[], []])
      assert.deepStrictEqual(yield* Effect.promise(() => collect(client.status())), [])
      assert.deepStrictEqual(yield* Effect.promise(() => collect(client.changes())), [])
    }))

  it.scoped("`break` ends one iterable and leaves the others alone", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world)
      const other = client.status()
      yield* Effect.promise(async () => {
        const left = client.status()
        let first: ClientStatus | undefined
        for await (const status of left) {
          first = status
          break
        }
        assert.isDefined(first)
        assert.deepStrictEqual(await left.next(), { done: true, value: undefined })
        assert.isFalse((await other.next()).done)
        await client.pauseUploads()
        assert.isTrue((await other.next()).value?.uploadsPaused)
      })
    }))

  it.scoped("`return` ends a `next` that waits", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world)
      const changes = client.changes()
      const waiting = changes.next()
      yield* turn
      yield* Effect.promise(async () => {
        await changes.return?.()
        assert.deepStrictEqual(await waiting, { done: true, value: undefined })
      })
    }))

  it.scoped("calls of `next` are answered in their order", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world)
      const status = client.status()
      const three = [status.next(), status.next(), status.next()]
      yield* turn
      yield* Effect.promise(() => client.pauseUploads())
      yield* Effect.promise(() => client.pauseDownloads())
      const values = (yield* Effect.promise(() => Promise.all(three))).map(({ value }) => [
        value?.uploadsPaused,
        value?.downloadsPaused
      ])
      assert.deepStrictEqual(values, [[false, false], [true, false], [true, true]])
    }))

  it.scoped("a signal ends an iterable with an AbortError", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world)
      const controller = new AbortController()
      const changes = client.changes({ signal: controller.signal })
      const waiting = yield* Effect.fork(rejection(() => changes.next()))
      yield* turn
      controller.abort()
      const error = yield* waiting
      assert.isTrue(error instanceof DOMException && error.name === "AbortError")
      assert.deepStrictEqual(yield* Effect.promise(() => changes.next()), { done: true, value: undefined })
    }))
})

describe("run: the background loop as a promise [retry-and-loops.md §4.3]", () => {
  it.scoped("pushes what the application writes, and resolves when its signal ends it", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client, database } = yield* attachedClient(world)
      const controller = new AbortController()
      const background = client.run({ signal: controller.signal })
      insert(database, "u1")
      yield* secondsPass(2)
      assert.strictEqual((yield* world.serverRows).size, 1)
      insert(database, "u2")
      yield* Effect.promise(() => client.notifyLocalWrite())
      yield* secondsPass(2)
      assert.strictEqual((yield* world.serverRows).size, 2)
      controller.abort()
      assert.isUndefined(yield* Effect.promise(() => background))
      insert(database, "u3")
      yield* secondsPass(10)
      assert.strictEqual((yield* world.serverRows).size, 2)
      yield* Effect.promise(() => client.sync())
    }))

  it.scoped("publishes what is in the way as a real error, and goes on when the network is back", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world, { retryPolicy: { enabled: false } })
      const background = client.run()
      yield* secondsPass(1)
      yield* world.network.fault("pull", lost, 1000)
      yield* secondsPass(30)
      const { background: status } = (yield* Effect.promise(() => client.status().next())).value
      assert.strictEqual(status.state, "backing_off")
      assert.isTrue(status.error instanceof Error && status.error._tag === "TransportError")
      yield* world.network.heal
      yield* Effect.promise(() => client.notifyOnline())
      yield* secondsPass(1)
      assert.strictEqual((yield* Effect.promise(() => client.status().next())).value.background.state, "running")
      yield* Effect.promise(() => client.close())
      assert.isUndefined(yield* Effect.promise(() => background))
    }))

  it.scoped("is interrupted by dispose in the middle of an operation", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client, database } = yield* attachedClient(world)
      insert(database, "u1")
      const reached = yield* Deferred.make<void>()
      const stuck = before(Effect.zipRight(Deferred.succeed(reached, undefined), Effect.never))
      yield* world.network.fault("push commit", stuck)
      const background = client.run()
      yield* Deferred.await(reached)
      yield* Effect.promise(() => client.dispose())
      assert.isUndefined(yield* Effect.promise(() => background))
    }))
})
