import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty, dump, nextNumber, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { lost } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { clean, once, states } from "./support/States.js"
import { contents, makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const ids = (device: Device): Effect.Effect<ReadonlyArray<unknown>> =>
  Effect.map(device.run("SELECT id FROM users ORDER BY id"), (rows) => rows.map(({ id }) => id))

const sourceOf = (device: Device) => Effect.map(Effect.orDie(device.sync.sourceInfo), (info) => info.currentSourceId)

const rowsOf = (device: Device) => value(device, "SELECT rows_of_user_id FROM _sync_engine_state")

const owners = ({ run }: Device) =>
  Effect.map(
    run("SELECT source_id AS id, owner_user_id AS owner FROM _sync_source_state ORDER BY rowid"),
    (rows) => new Map(rows.map(({ id, owner }) => [id, owner]))
  )

/** The same database under another user's token: a new client, opened. */
const handedTo = (world: World, device: Device, user: string) =>
  Effect.tap(world.replaced(device, { ...once, user }), (next) => Effect.orDie(next.sync.open))

const local = "INSERT INTO users VALUES ('b1', 'Written offline', NULL, 1)"

describe("another user on the device: first three rows of the reference's table [lifecycle.md §9]", () => {
  it.scoped("a fresh account, nothing local: started_empty at checkpoint 0, under a source of its own", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const anns = yield* clean(world)
      const source = yield* sourceOf(anns)
      yield* anns.sync.detach
      const device = yield* handedTo(world, anns, "bob")
      assert.deepInclude(yield* device.sync.attach("bob"), { outcome: "started_empty" })
      assert.notStrictEqual(yield* sourceOf(device), source)
      assert.strictEqual(yield* nextNumber(device), 1)
      assert.strictEqual(yield* device.sync.lastBundleSeqSeen, 0)
      yield* checkInvariants(device)
      yield* device.run(local)
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      assert.deepStrictEqual(yield* ids(device), ["b1"])
      assert.isFalse((yield* world.serverRows).has("users b1"))
      yield* checkInvariants(device)
    }))

  it.scoped("a fresh account, local rows: they seed it, and only they", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const anns = yield* clean(world)
      yield* anns.sync.detach
      yield* anns.run(local)
      const device = yield* handedTo(world, anns, "bob")
      assert.deepInclude(yield* device.sync.attach("bob"), { outcome: "seeded_from_local" })
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      assert.deepStrictEqual(yield* ids(device), ["b1"])
      assert.deepStrictEqual([...(yield* world.serverRows).keys()].sort(), ["users u1", "users w1"])
      yield* checkInvariants(device)
    }))

  it.scoped("an account with data: its snapshot, and the first push needs no recovery", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const bobs = yield* world.device({ ...once, user: "bob" })
      yield* bobs.run("INSERT INTO users VALUES ('b0', 'Bob', NULL, 0)")
      yield* bobs.sync.open
      yield* bobs.sync.attach("bob")
      yield* bobs.sync.sync
      const anns = yield* clean(world)
      yield* anns.sync.detach
      const device = yield* handedTo(world, anns, "bob")
      assert.deepInclude(yield* device.sync.attach("bob"), { outcome: "used_remote_state" })
      assert.deepStrictEqual(yield* ids(device), ["b0"])
      yield* device.run(local)
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      yield* bobs.sync.sync
      assert.deepStrictEqual(yield* ids(bobs), ["b0", "b1"])
      yield* checkInvariants(device)
    }))
})

describe("whose source it is [lifecycle.md §9.3, client-state.md invariant 12]", () => {
  it.scoped("going back and forth, each user gets his former source with its counter", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      let device = yield* clean(world)
      const sources: Record<string, string> = { ann: yield* sourceOf(device) }
      const numbers: Record<string, number> = { ann: yield* nextNumber(device) }
      for (const user of ["bob", "ann", "bob", "cy", "ann", "cy", "bob"]) {
        yield* device.sync.detach
        device = yield* handedTo(world, device, user)
        yield* device.sync.attach(user)
        const source = yield* sourceOf(device)
        assert.strictEqual(source, sources[user] ?? source)
        assert.strictEqual(yield* nextNumber(device), numbers[user] ?? 1)
        sources[user] = source
        yield* device.run("INSERT INTO users VALUES (?, 'x', NULL, 0)", [`${user}${numbers[user] ?? 1}`])
        assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
        numbers[user] = yield* nextNumber(device)
        assert.strictEqual((yield* owners(device)).get(source), user)
        yield* checkInvariants(device)
      }
      assert.strictEqual(new Set(Object.values(sources)).size, 3)
      assert.strictEqual((yield* owners(device)).size, 3)
    }))

  it.scoped("a former source that was replaced never comes back: the newest that is not replaced does", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const anns = yield* states["source recovery"].build(world)
      const retired = yield* sourceOf(anns)
      yield* anns.sync.rebuild
      const rotated = yield* sourceOf(anns)
      assert.notStrictEqual(rotated, retired)
      yield* anns.sync.detach
      const bobs = yield* handedTo(world, anns, "bob")
      yield* bobs.sync.attach("bob")
      yield* bobs.sync.detach
      const device = yield* handedTo(world, bobs, "ann")
      yield* device.sync.attach("ann")
      assert.strictEqual(yield* sourceOf(device), rotated)
      assert.strictEqual((yield* owners(device)).get(rotated), "ann")
      yield* checkInvariants(device)
    }))

  it.scoped("the switch is durable before any request; a network that fails changes nothing more", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const anns = yield* clean(world)
      const source = yield* sourceOf(anns)
      yield* anns.sync.detach
      yield* anns.run(local)
      const device = yield* handedTo(world, anns, "bob")
      yield* world.network.fault("capabilities", lost)
      yield* failsWith(device.sync.attach("bob"), { _tag: "TransportError" })
      const fresh = yield* sourceOf(device)
      assert.notStrictEqual(fresh, source)
      assert.strictEqual((yield* owners(device)).get(fresh), "")
      assert.deepStrictEqual(yield* dirty(device), ["INSERT users b1 base 0"])
      yield* checkInvariants(device)
      world.network.requests.length = 0
      yield* device.sync.attach("bob")
      const asked = new Set(world.network.requests.map((request) => request.source))
      assert.deepStrictEqual([...asked], [fresh])
      assert.strictEqual((yield* owners(device)).get(fresh), "bob")
    }))

  it.scoped("resuming and re-attaching the same user leave the owner alone", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* clean(world)
      const before = yield* owners(device)
      yield* device.sync.attach("ann")
      yield* device.sync.detach
      yield* device.sync.attach("ann")
      assert.deepStrictEqual(yield* owners(device), before)
    }))
})

describe("rows that a lost scope or lease has left behind [lifecycle.md §9.2]", () => {
  for (const name of ["lease lost", "scope lost"] as const) {
    it.scoped(`${name}: the rows are the former user's; another one is refused, and nothing is sent or changed`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* handedTo(world, yield* states[name].build(world), "bob")
        assert.strictEqual(yield* rowsOf(device), "ann")
        yield* world.network.asked
        const before = yield* dump(device)
        for (const localRows of ["keep", "refuse", undefined] as const) {
          yield* failsWith(device.sync.attach("bob", { localRows }), {
            _tag: "AttachLocalStateConflict",
            reason: "rows_of_other_user",
            pendingUserId: "ann",
            action: "choose_local_rows"
          })
        }
        assert.deepStrictEqual(yield* world.network.asked, [])
        assert.deepStrictEqual(yield* dump(device), before)
      }))

    it.scoped(`${name}: replace clears them, counts them, and they never reach the other user`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const built = yield* states[name].build(world)
        const { pendingRowCount } = yield* built.sync.pendingSyncStatus
        const device = yield* handedTo(world, built, "bob")
        const attached = yield* device.sync.attach("bob", { localRows: "replace" })
        assert.deepInclude(attached, {
          outcome: "started_empty",
          localRows: { kept: 0, identical: 0, discarded: pendingRowCount, recovered: 0 }
        })
        assert.deepStrictEqual(yield* contents(device), { users: [], posts: [], files: [] })
        assert.strictEqual(yield* rowsOf(device), "")
        assert.strictEqual((yield* owners(device)).get(yield* sourceOf(device)), "bob")
        yield* checkInvariants(device)
        assert.strictEqual((yield* device.sync.sync).pushOutcome, "no_change")
      }))

    it.scoped(`${name}: replace under a token of a third user, or under none, changes nothing [errors.md §1.3]`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const built = yield* states[name].build(world)
        const stranger = yield* world.replaced(built, { ...once, user: "carol", tokenOf: "carol" })
        yield* stranger.sync.open
        const before = yield* dump(stranger)
        yield* world.network.asked
        yield* failsWith(stranger.sync.attach("bob", { localRows: "replace" }), {
          _tag: "CredentialsMismatch",
          operation: "attach",
          attachedUserId: "bob",
          credentialsUserId: "carol"
        })
        assert.deepStrictEqual(yield* dump(stranger), before)
        const nobody = yield* handedTo(world, stranger, "a token that no header can carry")
        const untouched = yield* dump(nobody)
        yield* failsWith(nobody.sync.attach("bob", { localRows: "replace" }), {
          _tag: "TransportError",
          code: "credentials"
        })
        assert.deepStrictEqual(yield* dump(nobody), untouched)
        assert.deepStrictEqual(yield* world.network.asked, [])
      }))

    it.scoped(`${name}: the former user himself attaches again and keeps everything`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* states[name].build(world)
        const before = yield* ids(device)
        assert.strictEqual((yield* device.sync.attach("ann")).status, "connected")
        assert.strictEqual(yield* rowsOf(device), "")
        yield* device.sync.sync
        assert.deepStrictEqual(yield* ids(device), before)
        assert.deepStrictEqual(
          new Set((yield* world.serverRows).keys()),
          new Set(before.map((id) => `users ${String(id)}`))
        )
        yield* checkInvariants(device)
      }))
  }

  it.scoped("replace over an account with data: both counts in one summary", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const bobs = yield* world.device({ ...once, user: "bob" })
      yield* bobs.run(local)
      yield* bobs.sync.open
      yield* bobs.sync.attach("bob")
      yield* bobs.sync.sync
      const built = yield* states["lease lost"].build(world)
      const device = yield* handedTo(world, built, "bob")
      assert.deepInclude(yield* device.sync.attach("bob", { localRows: "replace" }), {
        outcome: "used_remote_state",
        localRows: { kept: 0, identical: 0, discarded: 1, recovered: 0 }
      })
      assert.deepStrictEqual(yield* ids(device), ["b1"])
      yield* checkInvariants(device)
    }))

  it.scoped("after a detach the rows are gone, so nothing is anybody's", () =>
    Effect.gen(function*() {
      const device = yield* clean(yield* makeWorld())
      yield* device.sync.detach
      assert.strictEqual(yield* rowsOf(device), "")
    }))
})
