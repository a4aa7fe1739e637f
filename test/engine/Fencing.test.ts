import * as Reactivity from "@effect/experimental/Reactivity"
import { SqlClient, Statement } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { dump, frozen, header, nextNumber } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { before } from "./support/Network.js"
import type { Route } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { durableState, once, states } from "./support/States.js"
import type { StateName } from "./support/States.js"
import { turn } from "./support/Time.js"
import { makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

/** A handle of its own on the database of a device, as another process would have it: the registry does not know it. */
const anotherProcess = (world: World, { run, sql, sync }: Device) =>
  Effect.gen(function*() {
    const view = yield* SqlClient.make({
      acquirer: Effect.scoped(sql.reserve),
      transactionAcquirer: sql.reserve,
      compiler: Statement.makeCompilerSqlite(),
      spanAttributes: []
    }).pipe(Effect.provide(Reactivity.layer))
    return yield* world.replaced({ run, sql: view, sync: { ...sync, close: Effect.void } }, once)
  })

const opened = (world: World, device: Device) =>
  Effect.tap(
    anotherProcess(world, device),
    (younger) => Effect.orDie(Effect.zipRight(younger.sync.open, younger.sync.attach("ann")))
  )

const takenOver = { _tag: "DatabaseTakenOver", retryable: false, action: "open" }

describe("the youngest client that opens owns the database [client-state.md §5, DESIGN D17]", () => {
  it.scoped("constructing a second one takes nothing over, opening it does; open takes it back", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const older = yield* states["dirty only"].build(world)
      const younger = yield* anotherProcess(world, older)
      assert.strictEqual((yield* older.sync.pushPending).outcome, "committed")
      yield* younger.sync.open
      yield* failsWith(older.sync.sync, { ...takenOver, operation: "sync" })
      yield* failsWith(older.sync.attach("ann"), { ...takenOver, operation: "attach" })
      yield* younger.sync.attach("ann")
      assert.strictEqual((yield* younger.sync.sync).pushOutcome, "no_change")
      yield* older.sync.open
      yield* failsWith(younger.sync.pullToStable, { ...takenOver, operation: "pullToStable" })
      assert.deepInclude(yield* older.sync.attach("ann"), { outcome: "resumed_attached_state" })
      assert.strictEqual((yield* older.sync.sync).pushOutcome, "no_change")
      yield* checkInvariants(older)
    }))

  it.scoped("status reads and inspect of the older one answer with the last committed state", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const older = yield* states["dirty only"].build(world)
      const younger = yield* opened(world, older)
      yield* younger.sync.sync
      assert.strictEqual((yield* older.sync.pendingSyncStatus).pendingRowCount, 0)
      assert.deepStrictEqual(yield* older.sync.syncStatus, yield* younger.sync.syncStatus)
      assert.strictEqual(yield* older.sync.lastBundleSeqSeen, 3)
      assert.deepStrictEqual(yield* older.sync.sourceInfo, yield* younger.sync.sourceInfo)
      const { refusals } = yield* older.sync.inspect
      assert.deepInclude(refusals, { operation: "sync", tag: "DatabaseTakenOver", action: "open" })
      assert.deepStrictEqual((yield* younger.sync.inspect).refusals, [])
      yield* younger.sync.detach
      yield* failsWith(older.sync.syncStatus, { _tag: "AttachRequired", reason: "anonymous" })
      assert.strictEqual((yield* older.sync.pendingSyncStatus).pendingRowCount, 0)
    }))

  it.scoped("closing the older one harms nobody", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const older = yield* states["dirty only"].build(world)
      const younger = yield* opened(world, older)
      const unchanged = yield* dump(older)
      yield* older.sync.close
      assert.deepStrictEqual(yield* dump(older), unchanged)
      assert.strictEqual((yield* younger.sync.pendingSyncStatus).pendingRowCount, 2)
    }))

  /** Where the older one is when the younger one opens, and whose upload it is in the end. */
  const meetings: ReadonlyArray<readonly [Route, StateName, "pushPending" | "pullToStable" | "rebuild"]> = [
    ["push create", "dirty only", "pushPending"],
    ["push chunk", "dirty only", "pushPending"],
    ["push commit", "dirty only", "pushPending"],
    ["committed rows", "dirty only", "pushPending"],
    ["pull", "connected, clean", "pullToStable"],
    ["snapshot create", "rebuild gate + dirty", "rebuild"],
    ["snapshot chunk", "source recovery + outbox prepared", "rebuild"]
  ]
  for (const [route, state, operation] of meetings) {
    it.scoped(`${operation} of the older one waits at ${route}: it ends at its next durable step, the younger one goes on, nothing doubles`, () =>
      Effect.gen(function*() {
        yield* turn
        const world = yield* makeWorld()
        const older = yield* states[state].build(world)
        if (operation === "pullToStable") {
          yield* world.write([{ table: "users", key: "w2", payload: { name: "New", email: null, score: 0 } }])
        }
        const reached = yield* Deferred.make<void>()
        const latch = yield* Deferred.make<void>()
        yield* world.network.fault(
          route,
          before(Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(latch)))
        )
        const running = yield* Effect.fork(
          failsWith<unknown, unknown, never>(older.sync[operation], { ...takenOver, operation })
        )
        yield* Deferred.await(reached)
        const younger = yield* opened(world, older)
        const between = yield* dump(older)
        yield* Deferred.succeed(latch, undefined)
        yield* Fiber.join(running)
        assert.deepStrictEqual(yield* dump(older), between, "the older one has changed nothing any more")
        if (operation === "rebuild") yield* younger.sync.rebuild
        yield* younger.sync.sync
        yield* checkInvariants(younger, { historyWentBack: true })
        assert.strictEqual(yield* durableState(younger), "attached")
        const rows = yield* world.serverRows
        const users = yield* younger.run("SELECT id FROM users ORDER BY id")
        assert.deepStrictEqual(new Set(users.map(({ id }) => `users ${String(id)}`)), new Set(rows.keys()))
        yield* failsWith(older.sync.sync, takenOver)
      }))
  }

  it.scoped("both upload the same frozen rows under the same number: the server commits them once", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const older = yield* states["outbox prepared"].build(world)
      const reached = yield* Deferred.make<void>()
      const latch = yield* Deferred.make<void>()
      yield* world.network.fault(
        "push commit",
        before(Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(latch)))
      )
      const running = yield* Effect.fork(Effect.exit(older.sync.pushPending))
      yield* Deferred.await(reached)
      const younger = yield* opened(world, older)
      assert.deepStrictEqual((yield* frozen(younger)).length, 2)
      const number = (yield* header(younger)).sourceBundleId
      assert.strictEqual((yield* younger.sync.pushPending).outcome, "committed")
      yield* Deferred.succeed(latch, undefined)
      yield* Fiber.join(running)
      // One bundle more than the two that were there: the next number is the one after it.
      const server = yield* world.server
      const next = yield* server.write("ann", "newsroom", [
        { schema: "business", table: "users", key: "w9", payload: { name: "Next", email: null, score: 0 } }
      ])
      assert.strictEqual(Number(next.bundleSeq), 4)
      assert.strictEqual(yield* nextNumber(younger), number + 1)
      assert.strictEqual(yield* younger.sync.lastBundleSeqSeen, 3)
      yield* younger.sync.sync
      assert.strictEqual(yield* younger.sync.lastBundleSeqSeen, 4)
      yield* checkInvariants(younger)
    }))
})
