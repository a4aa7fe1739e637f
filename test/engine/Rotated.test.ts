/** The rotated rebuild: what becomes of the frozen upload, and of a crash at every step (recovery.md §5). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty, frozen, header, outboxState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { answerLost, before, lost, refused } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { contents, makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const options = { retryPolicy: { enabled: false } }

const user = (id: string, name = "Ann") => ({ table: "users", key: id, payload: { name, email: null, score: 1 } })

/** An upload of an update, an insert with a blob key and a delete, frozen in source recovery. */
const inRecovery = (code = "history_pruned") =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    yield* world.write([user("u1"), user("u2"), user("u3")])
    const a = yield* world.attached(options)
    yield* a.run("UPDATE users SET name = 'Mine' WHERE id = 'u1'")
    yield* a.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', x'001122ff')")
    yield* a.run("DELETE FROM users WHERE id = 'u2'")
    yield* world.network.fault("push create", refused(409, code))
    yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired", reason: code })
    yield* world.network.asked
    return { world, a }
  })

const asServer = (world: World, device: Device) =>
  Effect.gen(function*() {
    yield* device.sync.sync
    yield* checkInvariants(device)
    const fresh = yield* world.attached()
    assert.deepStrictEqual(yield* contents(device), yield* contents(fresh))
  })

const replacement = (device: Device) =>
  Effect.map(device.sync.inspect, ({ operation }) => operation.replacementSourceId ?? "")

const sources = (device: Device) =>
  device.run(
    "SELECT source_id, next_source_bundle_id AS next, replaced_by_source_id AS replaced_by FROM _sync_source_state ORDER BY rowid"
  )

describe("the gates [recovery.md §5.1]", () => {
  it.scoped("dirty rows and an outbox are none; a pause is a result", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      yield* a.run("INSERT INTO users VALUES ('later', NULL, NULL, NULL)")
      yield* a.sync.pauseDownloads
      assert.strictEqual((yield* a.sync.rebuild).outcome, "skipped_paused")
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* a.sync.resumeDownloads
      assert.strictEqual((yield* a.sync.rebuild).localRows?.kept, 4)
      yield* checkInvariants(a)
      yield* asServer(world, a)
    }))

  it.scoped("not connected", () =>
    Effect.gen(function*() {
      const { a } = yield* inRecovery()
      yield* a.sync.open
      yield* failsWith(a.sync.rebuild, { _tag: "AttachRequired", reason: "not_connected" })
    }))
})

describe("the frozen upload [recovery.md §5.3]", () => {
  it.scoped("is kept as it was frozen, under the new source with number 1, and uploaded by the next push", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      const rows = yield* frozen(a)
      const old = (yield* a.sync.sourceInfo).currentSourceId
      const next = yield* replacement(a)
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(report.localRows, { kept: 3, identical: 0, discarded: 0, recovered: 0 })
      assert.deepStrictEqual(yield* frozen(a), rows)
      const { rowCount, sourceBundleId, sourceId, state } = yield* header(a)
      assert.deepStrictEqual({ rowCount, sourceBundleId, sourceId, state }, {
        rowCount: 3,
        sourceBundleId: 1,
        sourceId: next,
        state: "prepared"
      })
      assert.deepStrictEqual(yield* sources(a), [
        { source_id: old, next: 1, replaced_by: next },
        { source_id: next, next: 1, replaced_by: "" }
      ])
      assert.strictEqual((yield* a.sync.sourceInfo).currentSourceId, next)
      assert.isFalse((yield* a.sync.sourceInfo).sourceRecoveryRequired)
      assert.deepStrictEqual(yield* a.run("SELECT id, name FROM users ORDER BY id"), [
        { id: "u1", name: "Mine" },
        { id: "u3", name: "Ann" }
      ])
      // A blob key and a blob whose hex looks like base64 come through byte for byte (dead end 5).
      assert.deepStrictEqual(yield* a.run("SELECT hex(id) AS id, hex(data) AS data FROM files"), [
        { id: "00112233445566778899AABBCCDDEEFF", data: "001122FF" }
      ])
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.pushPending).outcome, "committed")
      assert.strictEqual(world.network.requests.findLast(({ route }) => route === "push commit")?.source, next)
      yield* asServer(world, a)
    }))

  it.scoped("rows that the server already has leave it; the others are renumbered", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      // Somebody has made the first and the last of the three changes, too.
      yield* world.write([user("u1", "Mine"), { table: "users", key: "u2", payload: null }])
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(report.localRows, { kept: 1, identical: 2, discarded: 0, recovered: 0 })
      assert.strictEqual((yield* frozen(a)).length, 1)
      assert.strictEqual((yield* header(a)).rowCount, 1)
      yield* checkInvariants(a)
      yield* asServer(world, a)
    }))

  it.scoped("nothing left: the outbox is empty", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      yield* world.write([
        user("u1", "Mine"),
        { table: "users", key: "u2", payload: null },
        { table: "files", key: "00112233-4455-6677-8899-aabbccddeeff", payload: { name: "f", data: "ABEi/w==" } }
      ])
      const report = yield* a.sync.rebuild
      assert.deepStrictEqual(report.localRows, { kept: 0, identical: 3, discarded: 0, recovered: 0 })
      assert.strictEqual(yield* outboxState(a), "none")
      yield* checkInvariants(a)
      yield* asServer(world, a)
    }))

  it.scoped("a row that was edited again shows its newer state, and both intents stay", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      yield* a.run("UPDATE users SET name = 'Newer' WHERE id = 'u1'")
      yield* world.write([user("u3", "Theirs")])
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* a.run("SELECT id, name FROM users ORDER BY id"), [
        { id: "u1", name: "Newer" },
        { id: "u3", name: "Theirs" }
      ])
      assert.deepStrictEqual(yield* dirty(a), ["UPDATE users u1 base 1"])
      assert.strictEqual((yield* frozen(a)).length, 3)
      yield* checkInvariants(a)
      yield* a.sync.sync
      assert.deepStrictEqual(yield* a.run("SELECT name FROM users WHERE id = 'u1'"), [{ name: "Newer" }])
      yield* asServer(world, a)
    }))

  it.scoped("a remote change meanwhile still meets the resolver: the frozen base is kept", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      yield* world.write([user("u1", "Theirs")])
      yield* a.sync.rebuild
      assert.include(yield* frozen(a), "UPDATE users u1 base 1")
      const pushed = yield* a.sync.pushPending
      assert.strictEqual(pushed.conflictCount, 1)
      assert.deepStrictEqual(yield* a.run("SELECT name FROM users WHERE id = 'u1'"), [{ name: "Theirs" }])
      yield* asServer(world, a)
    }))
})

describe("the request [recovery.md §5.2]", () => {
  for (const reason of ["history_pruned", "source_sequence_out_of_order", "source_retired"]) {
    it.scoped(`names both sources and the reason ${reason}, under the old source`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* inRecovery(reason)
        const old = (yield* a.sync.sourceInfo).currentSourceId
        const next = yield* replacement(a)
        yield* a.sync.rebuild
        const create = world.network.requests.findLast(({ route }) => route === "snapshot create")
        assert.deepStrictEqual(JSON.parse(create?.body ?? ""), {
          source_replacement: { previous_source_id: old, new_source_id: next, reason }
        })
        assert.strictEqual(create?.source, old)
        yield* checkInvariants(a)
      }))
  }

  it.scoped("a blank reservation of an old database is made before any request (§5.2 step 1)", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      yield* a.run("UPDATE _sync_operation_state SET replacement_source_id = ''")
      let reserved: unknown = ""
      yield* world.network.fault(
        "snapshot create",
        before(Effect.map(a.run("SELECT replacement_source_id AS id FROM _sync_operation_state"), ([row]) => {
          reserved = row?.["id"]
        }))
      )
      yield* a.sync.rebuild
      assert.notStrictEqual(reserved, "")
      assert.strictEqual((yield* a.sync.sourceInfo).currentSourceId, reserved)
    }))

  it.scoped("an unknown stored reason is sent as history_pruned (quirk 1)", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      yield* a.run("UPDATE _sync_operation_state SET reason = 'something'")
      yield* failsWith(a.sync.sync, { _tag: "SourceRecoveryRequired", reason: "history_pruned" })
      yield* a.sync.rebuild
      const create = world.network.requests.findLast(({ route }) => route === "snapshot create")
      assert.strictEqual(JSON.parse(create?.body ?? "").source_replacement.reason, "history_pruned")
    }))
})

describe("crashes [recovery.md §5.5]", () => {
  const points: ReadonlyArray<readonly [says: string, cut: (world: World) => Effect.Effect<void>]> = [
    ["after the entering transaction", () => Effect.void],
    ["before the session", (world) => world.network.fault("snapshot create", lost)],
    ["after the session, its answer lost", (world) => world.network.fault("snapshot create", answerLost)],
    ["before staging", (world) => world.network.fault("snapshot chunk", lost)],
    ["after the chunk was read", (world) => world.network.fault("snapshot chunk", answerLost)]
  ]
  for (const [says, cut] of points) {
    it.scoped(`${says}: the next rebuild does it all, with the same pair`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* inRecovery()
        const next = yield* replacement(a)
        yield* cut(world)
        if (says !== "after the entering transaction") yield* Effect.flip(a.sync.rebuild)
        const again = yield* world.restarted(a, { ddl: [], ...options })
        yield* checkInvariants(again)
        assert.strictEqual(yield* replacement(again), next)
        yield* again.sync.rebuild
        assert.strictEqual((yield* again.sync.sourceInfo).currentSourceId, next)
        assert.strictEqual((yield* frozen(again)).length, 3)
        yield* checkInvariants(again)
        yield* asServer(world, again)
      }))
  }

  it.scoped("after the apply: nothing is left to do but to push", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      yield* a.sync.rebuild
      const again = yield* world.restarted(a, { ddl: [], ...options })
      assert.strictEqual((yield* again.sync.pushPending).outcome, "committed")
      yield* asServer(world, again)
    }))

  it.scoped("the apply lost to a power cut: the source is retired on the server, the same pair is accepted", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery()
      const earlier = yield* world.copyOf(a, options)
      yield* a.sync.rebuild
      const next = (yield* a.sync.sourceInfo).currentSourceId
      yield* a.sync.close
      yield* earlier.sync.open
      yield* earlier.sync.attach("ann")
      yield* earlier.sync.rebuild
      assert.strictEqual((yield* earlier.sync.sourceInfo).currentSourceId, next)
      yield* checkInvariants(earlier)
      yield* asServer(world, earlier)
    }))
})
