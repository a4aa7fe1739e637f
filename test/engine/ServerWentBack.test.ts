/** A server restored from a backup: every evidence, and what comes back (recovery.md §2.2, pull.md §6.4, invariant 36). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { followGuidance } from "./support/Guidance.js"
import { checkInvariants } from "./support/Invariants.js"
import { lost } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { contents, makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const options = { retryPolicy: { enabled: false } }

const gone = { _tag: "SourceRecoveryRequired", reason: "source_sequence_out_of_order", action: "rebuild" }

const user = (id: string, name: string) => ({ table: "users", key: id, payload: { name, email: null, score: 1 } })

const insert = (id: string, name = "Ann") => `INSERT INTO users VALUES ('${id}', '${name}', NULL, 1)`

/** Two devices; what they do after the backup is known to both, and will be lost by the server. */
const lostWork = (withoutHistoryId: boolean) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ withoutHistoryId })
    const a = yield* world.attached(options)
    const b = yield* world.attached(options)
    yield* a.run(insert("kept"))
    yield* a.run(insert("edited"))
    yield* a.run(insert("removed"))
    yield* a.sync.sync
    yield* b.sync.sync
    const backup = yield* world.backup
    yield* a.run(insert("of a"))
    yield* a.run("UPDATE users SET name = 'Edited' WHERE id = 'edited'")
    yield* a.sync.sync
    yield* b.sync.sync
    yield* b.run(insert("of b"))
    yield* b.run("DELETE FROM users WHERE id = 'removed'")
    yield* b.sync.sync
    yield* a.sync.sync
    return { world, a, b, backup }
  })

const everything = [
  { id: "edited", name: "Edited" },
  { id: "kept", name: "Ann" },
  { id: "of a", name: "Ann" },
  { id: "of b", name: "Ann" }
]

const names = (device: Device) => device.run("SELECT id, name FROM users ORDER BY id")

/** A server that is being restored is away for a while, and every device has tried it in vain. */
const restore = (
  world: World,
  devices: ReadonlyArray<Device>,
  backup: string,
  how: { readonly renewHistory: boolean }
) =>
  Effect.gen(function*() {
    for (const device of devices) {
      yield* world.network.fault("pull", lost)
      yield* failsWith(device.sync.pullToStable, { _tag: "TransportError" })
    }
    yield* world.restore(backup, how)
  })

/** A device whose upload is committed, and lost by the server before the device has read it back. */
const lostUpload = (world: World) =>
  Effect.gen(function*() {
    const device = yield* world.attached(options)
    const backup = yield* world.backup
    yield* device.run(insert("mine"))
    yield* world.network.fault("committed rows", lost)
    yield* Effect.flip(device.sync.pushPending)
    yield* world.restore(backup, { renewHistory: false })
    return device
  })

const nudge = { id: "nudge", name: "Later" }

/**
 * Every device does what its errors ask for, until all agree. Without a history id a device whose checkpoint is the very
 * end of the new history has nothing to compare until there is something to pull (pull.md §2 step 5).
 */
const converge = (world: World, devices: ReadonlyArray<Device>) =>
  Effect.gen(function*() {
    yield* Effect.forEach(devices, (device) => followGuidance(device, { limit: 20 }))
    yield* world.write([user(nudge.id, nudge.name)])
    for (let rounds = 0; rounds < 3; rounds++) {
      for (const device of devices) yield* followGuidance(device, { limit: 20 })
    }
    for (const device of devices) yield* device.run("DELETE FROM users WHERE id = 'nudge'")
    for (const device of devices) yield* followGuidance(device)
    for (const device of devices) yield* followGuidance(device)
    const fresh = yield* world.attached()
    for (const device of devices) assert.deepStrictEqual(yield* contents(device), yield* contents(fresh))
  })

describe("all that was acknowledged and lost is pending again on every device, and all converge", () => {
  for (const renewHistory of [true, false]) {
    for (const overtaken of [false, true]) {
      it.scoped(
        `restored ${renewHistory ? "with" : "without"} a new history id${
          overtaken ? ", and overtaken by another writer" : ""
        }`,
        () =>
          Effect.gen(function*() {
            const { a, b, backup, world } = yield* lostWork(!renewHistory)
            yield* restore(world, [a, b], backup, { renewHistory })
            // The new history reaches beyond every checkpoint: numbers alone show nothing.
            if (overtaken) { for (const id of ["x", "y", "z"]) yield* world.write([user(id, "New")]) }
            yield* converge(world, [a, b])
            const found = yield* names(a)
            for (const row of everything) assert.deepInclude(found, row)
            assert.strictEqual(found.length, everything.length + (overtaken ? 3 : 0))
          })
      )
    }
  }
})

describe("each evidence by itself [recovery.md §2.2]", () => {
  it.scoped("create answers source_sequence_out_of_order", () =>
    Effect.gen(function*() {
      const { a, b, backup, world } = yield* lostWork(true)
      yield* restore(world, [a, b], backup, { renewHistory: false })
      yield* a.run(insert("next"))
      yield* failsWith(a.sync.pushPending, gone)
      yield* checkInvariants(a)
      const report = yield* a.sync.rebuild
      // The next one was pending anyway; the others are the server's loss.
      assert.deepStrictEqual(report.localRows, { kept: 1, identical: 0, discarded: 0, recovered: 4 })
      yield* checkInvariants(a, { historyWentBack: true })
      yield* converge(world, [a, b])
      assert.strictEqual((yield* names(b)).length, 5)
    }))

  it.scoped("a conflict whose server version is below the frozen base", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ withoutHistoryId: true })
      yield* world.write([user("u1", "First")])
      const backup = yield* world.backup
      yield* world.write([user("u1", "Second")])
      const a = yield* world.attached(options)
      yield* restore(world, [a], backup, { renewHistory: false })
      yield* a.run("UPDATE users SET name = 'Mine'")
      // This device has never uploaded: its numbers fit.
      yield* failsWith(a.sync.pushPending, gone)
      yield* checkInvariants(a)
      yield* a.sync.rebuild
      yield* checkInvariants(a, { historyWentBack: true })
      yield* converge(world, [a])
      assert.deepStrictEqual(yield* names(a), [{ id: "u1", name: "Mine" }])
    }))

  it.scoped("a ceiling below the checkpoint", () =>
    Effect.gen(function*() {
      const { a, b, backup, world } = yield* lostWork(true)
      yield* restore(world, [a, b], backup, { renewHistory: false })
      yield* failsWith(a.sync.pullToStable, gone)
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 4)
      yield* converge(world, [a, b])
      assert.deepStrictEqual(yield* names(b), everything)
    }))

  it.scoped("another bundle, or none, at the checkpoint", () =>
    Effect.gen(function*() {
      const { a, b, backup, world } = yield* lostWork(true)
      yield* restore(world, [a, b], backup, { renewHistory: false })
      for (const id of ["x", "y", "z"]) yield* world.write([user(id, "New")])
      yield* failsWith(a.sync.pullToStable, gone)
      assert.deepStrictEqual(yield* names(a), everything)
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 4)
      yield* converge(world, [a, b])
      assert.strictEqual((yield* names(a)).length, 7)
    }))

  it.scoped("another history id", () =>
    Effect.gen(function*() {
      const { a, b, backup, world } = yield* lostWork(false)
      yield* restore(world, [a, b], backup, { renewHistory: true })
      for (const id of ["x", "y", "z"]) yield* world.write([user(id, "New")])
      yield* failsWith(a.sync.pullToStable, gone)
      yield* checkInvariants(a)
      yield* converge(world, [a, b])
      assert.strictEqual((yield* names(b)).length, 7)
    }))

  /** The operator has forgotten to renew the history id, and the new history has reached every checkpoint. */
  const silently = (bundles: number) =>
    Effect.gen(function*() {
      const lostBySilence = yield* lostWork(false)
      const { backup, world } = lostBySilence
      yield* world.restore(backup, { renewHistory: false })
      for (let number = 1; number <= bundles; number++) yield* world.write([user(`new ${number}`, "New")])
      return lostBySilence
    })

  for (const [bundles, where] of [[2, "at"], [5, "beyond"]] as const) {
    it.scoped(`another bundle at the checkpoint under the same history id, the ceiling ${where} it`, () =>
      Effect.gen(function*() {
        const { a, b, world } = yield* silently(bundles)
        yield* failsWith(a.sync.pullToStable, gone)
        assert.deepStrictEqual(yield* names(a), everything)
        yield* checkInvariants(a)
        assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 4)
        yield* converge(world, [a, b])
        assert.strictEqual((yield* names(b)).length, 4 + bundles)
      }))

    it.scoped(`the same, noticed by the snapshot of a rebuild, ${where} the checkpoint`, () =>
      Effect.gen(function*() {
        const { a, b, world } = yield* silently(bundles)
        assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 4)
        yield* checkInvariants(a, { historyWentBack: true })
        yield* converge(world, [a, b])
        assert.strictEqual((yield* names(b)).length, 4 + bundles)
      }))
  }

  it.scoped("the same, noticed before the own bundle moves the checkpoint", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* world.write([user("u1", "First")])
      const backup = yield* world.backup
      yield* world.write([user("u2", "Lost")])
      const a = yield* world.attached(options)
      yield* world.restore(backup, { renewHistory: false })
      yield* world.write([user("u3", "New")])
      // This device has never uploaded: its numbers fit, and its bundle follows the checkpoint.
      yield* a.run(insert("mine"))
      yield* failsWith(a.sync.pushPending, gone)
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 1)
      yield* checkInvariants(a, { historyWentBack: true })
      yield* converge(world, [a])
      assert.deepStrictEqual(yield* names(a), [
        { id: "mine", name: "Ann" },
        { id: "u1", name: "First" },
        { id: "u2", name: "Lost" },
        { id: "u3", name: "New" }
      ])
    }))

  it.scoped("a snapshot below the checkpoint is treated at once, without a gate [pull.md §6.4]", () =>
    Effect.gen(function*() {
      const { a, b, backup, world } = yield* lostWork(true)
      yield* restore(world, [a, b], backup, { renewHistory: false })
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 0, discarded: 0, recovered: 4 })
      assert.isFalse((yield* a.sync.sourceInfo).sourceRecoveryRequired)
      assert.sameMembers([...yield* dirty(a)], [
        "INSERT users of a base 0",
        "INSERT users of b base 0",
        "UPDATE users edited base 1",
        "DELETE users removed base 1"
      ])
      assert.deepStrictEqual(yield* names(a), everything)
      yield* checkInvariants(a, { historyWentBack: true })
      yield* converge(world, [a, b])
      assert.deepStrictEqual(yield* names(b), everything)
    }))

  it.scoped("a snapshot below the bundle of a committed upload", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ withoutHistoryId: true })
      const a = yield* lostUpload(world)
      yield* a.run("UPDATE _sync_attachment_state SET rebuild_required = 1")
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 0, discarded: 0, recovered: 1 })
      assert.deepStrictEqual(yield* dirty(a), ["INSERT users mine base 0"])
      yield* checkInvariants(a, { historyWentBack: true })
      yield* converge(world, [a])
      assert.deepStrictEqual(yield* names(a), [{ id: "mine", name: "Ann" }])
    }))
})

describe("an own bundle beyond the checkpoint is lost, and the numbering goes on under the same history id", () => {
  /** A device has pushed bundle 3 and not pulled since; its checkpoint is 1. */
  const ahead = (overtakenBy: number, options: { readonly withoutHistoryId?: boolean } = {}) =>
    Effect.gen(function*() {
      const world = yield* makeWorld(options)
      yield* world.write([user("u1", "First")])
      const a = yield* world.attached({ retryPolicy: { enabled: false }, downloadLimit: 1 })
      const backup = yield* world.backup
      yield* world.write([user("u2", "Never seen")])
      yield* a.run(insert("mine"))
      yield* a.sync.pushPending
      yield* world.restore(backup, { renewHistory: false })
      for (let number = 1; number <= overtakenBy; number++) yield* world.write([user(`new ${number}`, "New")])
      return { world, a }
    })

  const settles = (world: World, a: Device, bundles: number) =>
    Effect.gen(function*() {
      yield* converge(world, [a])
      const found = yield* names(a)
      assert.deepInclude(found, { id: "mine", name: "Ann" })
      assert.strictEqual(found.length, 2 + bundles)
    })

  for (
    const [bundles, where] of [[0, "at the checkpoint"], [1, "below it"], [2, "at it"], [5, "beyond it"]] as const
  ) {
    for (const withoutHistoryId of [false, true]) {
      it.scoped(`a pull notices, the ceiling ${where}${withoutHistoryId ? ", without a history id" : ""}`, () =>
        Effect.gen(function*() {
          const { a, world } = yield* ahead(bundles, { withoutHistoryId })
          yield* failsWith(a.sync.pullToStable, gone)
          assert.deepInclude(yield* names(a), { id: "mine", name: "Ann" })
          yield* checkInvariants(a)
          assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 1)
          yield* checkInvariants(a, { historyWentBack: true })
          yield* settles(world, a, bundles)
        }))
    }

    it.scoped(`a rebuild notices, the snapshot ${where}`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ahead(bundles)
        assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 1)
        yield* checkInvariants(a, { historyWentBack: true })
        yield* settles(world, a, bundles)
      }))
  }

  it.scoped("a rebuild notices that the bundle of a committed upload is another one", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* world.write([user("u1", "First")])
      const a = yield* lostUpload(world)
      for (const id of ["x", "y"]) yield* world.write([user(id, "New")])
      yield* a.run("UPDATE _sync_attachment_state SET rebuild_required = 1")
      assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 1)
      yield* checkInvariants(a, { historyWentBack: true })
      yield* settles(world, a, 2)
    }))

  it.scoped("nothing is remembered once the checkpoint has passed it, and nothing is asked for", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* world.write([user("u1", "First")])
      const a = yield* world.attached(options)
      yield* world.write([user("u2", "Second")])
      yield* a.run(insert("mine"))
      yield* a.sync.pushPending
      const own = "SELECT own_bundle_seq AS seq, own_bundle_hash <> '' AS hashed FROM _sync_engine_state"
      assert.deepStrictEqual(yield* a.run(own), [{ seq: 3, hashed: 1 }])
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
      yield* world.write([user("u3", "Third")])
      assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 0)
      assert.deepStrictEqual(yield* a.run(own), [{ seq: 0, hashed: 0 }])
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "already_at_target")
    }))
})

describe("what is no loss [pull.md §6.4]", () => {
  it.scoped("a false alarm costs a snapshot and a fresh source, and loses nothing", () =>
    Effect.gen(function*() {
      const { a, b, world } = yield* lostWork(false)
      yield* Effect.flatMap(world.server, (server) => server.renewHistory).pipe(Effect.orDie)
      yield* failsWith(a.sync.pullToStable, gone)
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 0, discarded: 0, recovered: 0 })
      assert.deepStrictEqual(yield* dirty(a), [])
      yield* converge(world, [a, b])
      assert.deepStrictEqual(yield* names(b), everything)
    }))

  it.scoped("a row that was written later on the server stays the server's", () =>
    Effect.gen(function*() {
      const { a, b, backup, world } = yield* lostWork(false)
      yield* restore(world, [a, b], backup, { renewHistory: true })
      for (const name of ["1", "2", "3", "4"]) yield* world.write([user("edited", name)])
      yield* Effect.flip(a.sync.pullToStable)
      assert.strictEqual((yield* a.sync.rebuild).localRows?.recovered, 3)
      yield* converge(world, [a, b])
      assert.deepStrictEqual(yield* a.run("SELECT name FROM users WHERE id = 'edited'"), [{ name: "4" }])
    }))
})
