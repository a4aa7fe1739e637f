/** The reserved replacement does not fit: each obstacle, and how the second rebuild gets past it (recovery.md §5.4). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dump, frozen, header } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { lost, refused } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { contents, makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const options = { retryPolicy: { enabled: false } }

const insert = (id: string) => `INSERT INTO users VALUES ('${id}', 'Ann', NULL, 1)`

const inRecovery = Effect.gen(function*() {
  const world = yield* makeWorld()
  const a = yield* world.attached(options)
  yield* a.run(insert("u1"))
  yield* a.sync.sync
  yield* a.run(insert("mine"))
  yield* world.network.fault("push create", refused(409, "history_pruned"))
  yield* Effect.flip(a.sync.pushPending)
  yield* a.run(insert("later"))
  return { world, a }
})

const replacement = (device: Device) =>
  Effect.map(Effect.orDie(device.sync.inspect), ({ operation }) => operation.replacementSourceId ?? "")

/** An obstacle that a real server puts up, or the device itself. */
interface Obstacle {
  readonly says: string
  readonly reason: "retired_elsewhere" | "refused" | "used_up"
  readonly remote?: string
  readonly put: (world: World, device: Device) => Effect.Effect<unknown>
}

/** Retires the device's source on the server in favour of another one. */
const rotateElsewhere = (to: string) => (world: World, device: Device) =>
  Effect.gen(function*() {
    const { currentSourceId } = yield* device.sync.sourceInfo
    const server = yield* world.server
    yield* server.createSnapshot(
      { userId: "ann", sourceId: currentSourceId },
      { previousSourceId: currentSourceId, newSourceId: to, reason: "history_pruned" }
    )
  }).pipe(Effect.orDie)

const obstacles: ReadonlyArray<Obstacle> = [
  {
    says: "409 source_retired naming another replacement",
    reason: "retired_elsewhere",
    remote: "another",
    put: rotateElsewhere("another")
  },
  {
    says: "409 source_replacement_invalid: the reserved id is known to the server",
    reason: "refused",
    put: (world, device) =>
      Effect.flatMap(
        replacement(device),
        (id) => world.write([{ table: "users", key: "x", payload: { name: "X", email: null, score: 1 } }], id)
      )
  },
  {
    says: "the replacement has sent uploads from here",
    reason: "used_up",
    put: (_world, device) =>
      Effect.flatMap(
        replacement(device),
        (id) => device.run("UPDATE _sync_source_state SET next_source_bundle_id = 4 WHERE source_id = ?", [id])
      )
  },
  {
    says: "the replacement is replaced itself",
    reason: "used_up",
    put: (_world, device) =>
      Effect.flatMap(
        replacement(device),
        (id) => device.run("UPDATE _sync_source_state SET replaced_by_source_id = 'z' WHERE source_id = ?", [id])
      )
  }
]

describe("a divergence [recovery.md §5.4]", () => {
  for (const { put, reason, remote, says } of obstacles) {
    it.scoped(`${says}: ${reason}; the second rebuild takes a source of its own`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* inRecovery
        const reserved = yield* replacement(a)
        const old = (yield* a.sync.sourceInfo).currentSourceId
        yield* put(world, a)
        const was = yield* dump(a, ["_sync_snapshot_stage"])
        yield* failsWith(a.sync.rebuild, {
          _tag: "SourceReplacementDiverged",
          reason,
          localReplacement: reserved,
          remoteReplacement: remote,
          action: "rebuild"
        })
        assert.deepStrictEqual(yield* dump(a, ["_sync_snapshot_stage"]), was)
        yield* failsWith(a.sync.sync, { _tag: "SourceRecoveryRequired" })
        const report = yield* a.sync.rebuild
        assert.strictEqual(report.outcome, "applied_snapshot")
        assert.strictEqual(report.localRows?.kept, 2)
        assert.strictEqual(world.network.requests.findLast(({ route }) => route === "snapshot create")?.body, "")
        const { currentSourceId } = yield* a.sync.sourceInfo
        assert.notInclude([old, reserved, remote], currentSourceId)
        assert.deepStrictEqual(
          yield* a.run("SELECT replaced_by_source_id AS by FROM _sync_source_state WHERE source_id = ?", [old]),
          [{ by: currentSourceId }]
        )
        const { sourceBundleId, sourceId } = yield* header(a)
        assert.deepStrictEqual([sourceId, sourceBundleId], [currentSourceId, 1])
        assert.strictEqual((yield* frozen(a)).length, 1)
        yield* checkInvariants(a)
        yield* a.sync.sync
        yield* checkInvariants(a)
        const fresh = yield* world.attached()
        assert.deepStrictEqual(yield* contents(a), yield* contents(fresh))
      }))
  }

  it.scoped("another client instance insists on the reservation once more", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery
      yield* rotateElsewhere("another")(world, a)
      yield* failsWith(a.sync.rebuild, { _tag: "SourceReplacementDiverged" })
      const again = yield* world.restarted(a, { ddl: [], ...options })
      yield* failsWith(again.sync.rebuild, { _tag: "SourceReplacementDiverged" })
      assert.strictEqual((yield* again.sync.rebuild).outcome, "applied_snapshot")
      yield* checkInvariants(again)
    }))

  it.scoped("a failure on the way past the obstacle changes nothing; the third rebuild does it", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery
      yield* rotateElsewhere("another")(world, a)
      yield* Effect.flip(a.sync.rebuild)
      yield* world.network.fault("snapshot chunk", lost)
      yield* failsWith(a.sync.rebuild, { _tag: "TransportError" })
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.rebuild).outcome, "applied_snapshot")
      yield* checkInvariants(a)
    }))

  it.scoped("what one recovery has met says nothing about the next one", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery
      yield* rotateElsewhere("another")(world, a)
      yield* Effect.flip(a.sync.rebuild)
      yield* a.sync.rebuild
      yield* a.sync.sync
      yield* a.run(insert("third"))
      yield* world.network.fault("push create", refused(409, "history_pruned"))
      yield* Effect.flip(a.sync.pushPending)
      const reserved = yield* replacement(a)
      yield* a.sync.rebuild
      assert.strictEqual((yield* a.sync.sourceInfo).currentSourceId, reserved)
    }))

  it.scoped("source_retired without a replacement is a protocol error [errors.md quirk 5]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* inRecovery
      yield* world.network.fault("snapshot create", refused(409, "source_retired"))
      yield* failsWith(a.sync.rebuild, { _tag: "ProtocolError", rule: "field_invalid" })
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.rebuild).outcome, "applied_snapshot")
    }))
})
