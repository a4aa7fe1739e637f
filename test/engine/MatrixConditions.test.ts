import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { dump } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { before } from "./support/Network.js"
import { operationNames, outcomeOf } from "./support/Operations.js"
import type { OperationName } from "./support/Operations.js"
import { durableState, states } from "./support/States.js"
import type { StateName } from "./support/States.js"
import { turn } from "./support/Time.js"
import { makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const reads: ReadonlyArray<OperationName> = [
  "pendingSyncStatus",
  "sourceInfo",
  "inspect",
  "syncStatus",
  "lastBundleSeqSeen"
]
const fenced = operationNames.filter((name) => ![...reads, "open", "close", "host write"].includes(name))
const locking = operationNames.filter((name) => ![...reads, "close", "host write"].includes(name))

const outcomes = (device: Device, names: ReadonlyArray<OperationName>) =>
  Effect.map(
    Effect.forEach(names, (name) => Effect.map(outcomeOf(name, device), (outcome) => [name, outcome] as const)),
    Object.fromEntries
  )

const all = (names: ReadonlyArray<OperationName>, outcome: string) =>
  Object.fromEntries(names.map((name) => [name, outcome]))

describe("pauses [recovery.md §6.3]", () => {
  /** State, paused directions, operation, outcome. */
  const cells: ReadonlyArray<readonly [StateName, "uploads" | "downloads" | "both", OperationName, string]> = [
    ["dirty only", "uploads", "pushPending", "skipped_paused"],
    ["dirty only", "downloads", "pushPending", "committed"],
    ["connected, clean", "uploads", "pullToStable", "already_at_target"],
    ["connected, clean", "downloads", "pullToStable", "skipped_paused"],
    ["connected, clean", "uploads", "rebuild", "applied_snapshot"],
    ["connected, clean", "downloads", "rebuild", "skipped_paused"],
    ["source recovery", "downloads", "rebuild", "skipped_paused"],
    ["source recovery", "uploads", "rebuild", "applied_snapshot"],
    ["connected, clean", "uploads", "sync", "skipped_paused, already_at_target"],
    ["dirty only", "uploads", "sync", "DSR"],
    ["dirty only", "downloads", "sync", "committed, skipped_paused"],
    ["dirty only", "both", "sync", "skipped_paused, skipped_paused"],
    ["dirty only", "both", "syncThenDetach", "failure, blocked_unsynced_data"],
    ["connected, clean", "both", "syncThenDetach", "success, detached"],
    // Gates come before pauses (D).
    ["rebuild gate, nothing pending", "both", "sync", "RBR"],
    ["source recovery", "both", "sync", "SRR"],
    ["rebuild gate, nothing pending", "uploads", "pushPending", "RBR"],
    ["source recovery", "downloads", "pullToStable", "SRR"],
    ["dirty only", "downloads", "pullToStable", "DSR"],
    ["outbox prepared", "downloads", "rebuild", "PPR"],
    ["opened, attached, not connected", "both", "sync", "AR"],
    // Neither direction is meant.
    ["opened, anonymous + remote replace", "both", "attach same user", "used_remote_state"],
    ["connected + remote replace", "both", "sync", "DTI"]
  ]
  for (const [state, direction, operation, expected] of cells) {
    it.scoped(`${state}, ${direction} paused: ${operation} → ${expected}`, () =>
      Effect.gen(function*() {
        yield* turn
        const device = yield* states[state].build(yield* makeWorld())
        if (direction !== "downloads") yield* device.sync.pauseUploads
        if (direction !== "uploads") yield* device.sync.pauseDownloads
        const unpaused = yield* dump(device)
        assert.strictEqual(yield* outcomeOf(operation, device), expected)
        if (expected.startsWith("skipped_paused") && !expected.includes("already")) {
          assert.deepStrictEqual(yield* dump(device), unpaused)
        }
      }))
  }

  it.scoped("resuming lifts the pause, and a snapshot inside a push is not paused", () =>
    Effect.gen(function*() {
      const device = yield* states["rebuild gate + outbox committed_remote"].build(yield* makeWorld())
      yield* device.sync.pauseDownloads
      assert.strictEqual(yield* outcomeOf("rebuild", device), "skipped_paused")
      yield* device.sync.resumeDownloads
      assert.strictEqual(yield* outcomeOf("rebuild", device), "applied_snapshot")
    }))
})

describe("connected with kind remote_replace [recovery.md §6.4]", () => {
  const cells: ReadonlyArray<readonly [OperationName, string]> = [
    ["pushPending", "DTI"],
    ["pullToStable", "DTI"],
    ["sync", "DTI"],
    ["syncThenDetach", "DTI"],
    ["rebuild", "DTI"],
    ["attach other user", "AttachLocalStateConflict"],
    ["host write", "STP"],
    ["syncStatus", "ok"],
    ["lastBundleSeqSeen", "ok"]
  ]
  it.scoped(cells.map((cell) => cell.join(" → ")).join(", "), () =>
    Effect.gen(function*() {
      const device = yield* states["connected + remote replace"].build(yield* makeWorld())
      const unchanged = yield* dump(device)
      assert.deepStrictEqual(yield* outcomes(device, cells.map(([name]) => name)), Object.fromEntries(cells))
      assert.deepStrictEqual(yield* dump(device), unchanged)
    }))

  for (const [operation, expected] of [["attach same user", "used_remote_state"], ["detach", "detached"]] as const) {
    it.scoped(`${operation} → ${expected}`, () =>
      Effect.gen(function*() {
        const device = yield* states["connected + remote replace"].build(yield* makeWorld())
        assert.strictEqual(yield* outcomeOf(operation, device), expected)
        yield* checkInvariants(device)
      }))
  }
})

describe("closed client [recovery.md §6]", () => {
  for (const state of ["not opened", "opened, anonymous", "dirty only", "source recovery"] as const) {
    it.scoped(`${state}: every operation → closed, close → ok`, () =>
      Effect.gen(function*() {
        const device = yield* states[state].build(yield* makeWorld())
        yield* device.sync.close
        const unchanged = yield* dump(device)
        assert.deepStrictEqual(yield* outcomes(device, [...locking, ...reads]), all([...locking, ...reads], "closed"))
        yield* device.sync.close
        assert.deepStrictEqual(yield* dump(device), unchanged)
        assert.strictEqual(yield* outcomeOf("host write", device), "captured")
      }))
  }
})

/** What `open` of a younger client in another process does to the database. */
const takeOver = ({ run }: Device) => run("UPDATE _sync_engine_state SET engine_epoch = engine_epoch + 1")

describe("a younger client has opened the database [recovery.md §6, client-state.md §5]", () => {
  const opened: ReadonlyArray<StateName> = [
    "opened, anonymous",
    "opened, anonymous + remote replace",
    "opened, attached, not connected",
    "connected, clean",
    "dirty only",
    "outbox prepared",
    "outbox committed_remote",
    "rebuild gate + dirty",
    "source recovery",
    "connected + remote replace"
  ]
  for (const state of opened) {
    it.scoped(`${state}: every operation → taken over, status reads answer, open takes it back`, () =>
      Effect.gen(function*() {
        yield* turn
        const device = yield* states[state].build(yield* makeWorld())
        const answers = yield* outcomes(device, reads)
        yield* takeOver(device)
        const unchanged = yield* dump(device)
        assert.deepStrictEqual(yield* outcomes(device, fenced), all(fenced, "taken over"))
        assert.deepStrictEqual(yield* outcomes(device, reads), answers)
        const { refusals } = yield* device.sync.inspect
        const announced = refusals.filter(({ action, tag }) => tag === "DatabaseTakenOver" && action === "open")
        assert.deepStrictEqual(
          announced.map(({ operation }) => operation).sort(),
          ["attach", "detach", "pullToStable", "pushPending", "rebuild", "sync", "syncThenDetach", "uninstallSync"]
        )
        assert.deepStrictEqual(yield* dump(device), unchanged)
        assert.strictEqual(yield* outcomeOf("open", device), "ok")
        assert.notStrictEqual(yield* outcomeOf("detach", device), "taken over")
      }))
  }

  it.scoped("also while uploads and downloads are paused", () =>
    Effect.gen(function*() {
      const device = yield* states["connected, clean"].build(yield* makeWorld())
      yield* device.sync.pauseUploads
      yield* device.sync.pauseDownloads
      yield* takeOver(device)
      assert.deepStrictEqual(yield* outcomes(device, fenced), all(fenced, "taken over"))
    }))

  it.scoped("a client that has not opened is asked to open", () =>
    Effect.gen(function*() {
      const device = yield* states["not opened"].build(yield* makeWorld())
      yield* takeOver(device)
      const named = fenced.filter((name) => name !== "detach")
      assert.deepStrictEqual(yield* outcomes(device, named), all(named, "OR"))
    }))

  it.scoped("stops an operation that is under way at its next durable step", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["dirty only"].build(world)
      yield* world.network.fault("push commit", before(takeOver(device)))
      assert.strictEqual(yield* outcomeOf("pushPending", device), "taken over")
      assert.strictEqual(yield* durableState(device), "attached prepared")
      yield* checkInvariants(device)
      assert.strictEqual(yield* outcomeOf("open", device), "ok")
      assert.strictEqual(yield* outcomeOf("attach same user", device), "resumed_attached_state")
      assert.strictEqual(yield* outcomeOf("sync", device), "committed, already_at_target")
    }))
})

/** A client in whose pull the network hangs until the latch is opened; the lock is held meanwhile. */
const hanging = (world: World, device: Device) =>
  Effect.gen(function*() {
    const reached = yield* Deferred.make<void>()
    const latch = yield* Deferred.make<void>()
    yield* world.network.fault(
      "pull",
      before(Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(latch)))
    )
    const running = yield* Effect.fork(outcomeOf("pullToStable", device))
    yield* Deferred.await(reached)
    return { running, goOn: Deferred.succeed(latch, undefined) }
  })

describe("the lock is held [lifecycle.md §1.3]", () => {
  it.scoped("every operation that takes the lock waits; status reads, pauses and inspect answer", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world)
      const { goOn, running } = yield* hanging(world, device)
      const names: ReadonlyArray<OperationName> = ["pushPending", "sync", "rebuild", "attach same user", "open"]
      const waiting = yield* Effect.forEach(names, (name) => Effect.fork(outcomeOf(name, device)))
      yield* turn
      for (const fiber of waiting) assert.isNull(fiber.unsafePoll())
      assert.deepStrictEqual(yield* outcomes(device, reads), all(reads, "ok"))
      yield* device.sync.pauseUploads
      yield* device.sync.resumeUploads
      assert.deepStrictEqual(yield* device.sync.pushTransfer, {
        sessionsCreated: 1,
        chunksUploaded: 1,
        committedBundleChunksRead: 1
      })
      yield* goOn
      assert.strictEqual(yield* Fiber.join(running), "already_at_target")
      assert.deepStrictEqual(yield* Effect.forEach(waiting, Fiber.join), [
        "no_change",
        "no_change, already_at_target",
        "applied_snapshot",
        "resumed_attached_state",
        "ok"
      ])
    }))

  it.scoped("fails at once with onBusy: fail, naming what runs; status reads answer", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world, { onBusy: "fail" })
      const { goOn, running } = yield* hanging(world, device)
      assert.deepStrictEqual(yield* outcomes(device, locking), all(locking, "busy"))
      assert.deepStrictEqual(yield* outcomes(device, reads), all(reads, "ok"))
      const error = yield* Effect.flip(device.sync.detach)
      assert.deepInclude(error, {
        _tag: "SyncOperationInProgress",
        operation: "detach",
        runningOperation: "pullToStable",
        retryable: true
      })
      yield* goOn
      assert.strictEqual(yield* Fiber.join(running), "already_at_target")
      assert.strictEqual(yield* outcomeOf("sync", device), "no_change, already_at_target")
    }))

  it.scoped("turns come in order of arrival", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world)
      const { goOn } = yield* hanging(world, device)
      const order: Array<number> = []
      const waiting = yield* Effect.forEach(
        [1, 2, 3, 4, 5, 6, 7, 8],
        (n) => Effect.fork(Effect.zipRight(device.sync.pushPending, Effect.sync(() => void order.push(n))))
      )
      yield* turn
      yield* goOn
      yield* Effect.forEach(waiting, Fiber.join)
      assert.deepStrictEqual(order, [1, 2, 3, 4, 5, 6, 7, 8])
    }))

  it.scoped("a waiting operation that is interrupted leaves no trace", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["dirty only"].build(world)
      yield* device.run("DELETE FROM _sync_dirty_rows")
      const { goOn, running } = yield* hanging(world, device)
      const unchanged = yield* dump(device)
      const first = yield* Effect.fork(device.sync.rebuild)
      const second = yield* Effect.fork(outcomeOf("sync", device))
      yield* turn
      yield* Fiber.interrupt(first)
      assert.deepStrictEqual(yield* dump(device), unchanged)
      yield* goOn
      yield* Fiber.join(running)
      assert.strictEqual(yield* Fiber.join(second), "no_change, already_at_target")
    }))

  it.scoped("an interrupted operation gives the lock back", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world)
      const { running } = yield* hanging(world, device)
      const second = yield* Effect.fork(outcomeOf("sync", device))
      yield* Fiber.interrupt(running)
      assert.strictEqual(yield* Fiber.join(second), "no_change, already_at_target")
      assert.strictEqual((yield* device.sync.inspect).instance, "connected")
    }))

  for (const waitingFirst of [true, false]) {
    it.scoped(
      `close waits for what runs, and what waits for its turn ${
        waitingFirst ? "already" : "behind it"
      } ends as closed [client-state.md §5]`,
      () =>
        Effect.gen(function*() {
          const world = yield* makeWorld()
          const device = yield* states["connected, clean"].build(world)
          const { goOn, running } = yield* hanging(world, device)
          const early = waitingFirst ? [yield* Effect.fork(outcomeOf("sync", device))] : []
          yield* turn
          const closing = yield* Effect.fork(device.sync.close)
          yield* turn
          const late = waitingFirst ? [] : [yield* Effect.fork(outcomeOf("sync", device))]
          yield* turn
          assert.isNull(closing.unsafePoll())
          yield* goOn
          assert.strictEqual(yield* Fiber.join(running), "already_at_target")
          yield* Fiber.join(closing)
          assert.deepStrictEqual(yield* Effect.forEach([...early, ...late], Fiber.join), ["closed"])
          yield* device.sync.close
        })
    )
  }

  it.scoped("sync and syncThenDetach hold the lock for their whole sequence", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["dirty only"].build(world)
      const started = yield* Deferred.make<void>()
      yield* world.network.fault("push create", before(Deferred.succeed(started, undefined)))
      const leaving = yield* Effect.fork(outcomeOf("syncThenDetach", device))
      yield* Deferred.await(started)
      const intruder = yield* Effect.fork(outcomeOf("pushPending", device))
      assert.strictEqual(yield* Fiber.join(leaving), "success, detached")
      assert.strictEqual(yield* Fiber.join(intruder), "AR")
    }))
})
