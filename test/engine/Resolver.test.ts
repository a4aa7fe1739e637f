/** Resolvers: what they are given, what they may answer, and host writes while they think (conflicts.md §2, §4, §5.1, §6, §8). */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { acceptServer, clientWins, keepLocal, keepMerged, recreate, serverWins } from "oversqlite"
import type { ConflictDecision, ConflictInput, ConflictResolver, InvalidConflictResolution, Row } from "oversqlite"
import { dirty, dirtyRows, frozen, outboxState, rowState, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, refused } from "./support/Network.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

/** Row u1: version 1 here, version 2 on the server, updated on both sides; row u2 is a pending bystander. */
const conflicting = (resolver: ConflictResolver = serverWins) =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    const device = yield* world.attached({ ...offline, resolver })
    yield* device.run("INSERT INTO users VALUES ('u1', 'Seed', 'a@x', 1), ('u2', 'Seed', NULL, 2)")
    yield* device.sync.pushPending
    yield* world.write([{ table: "users", key: "u1", payload: { name: "Server", email: "a@x", score: 9 } }])
    yield* device.run("UPDATE users SET name = 'Local' WHERE id = 'u1'")
    yield* device.run("UPDATE users SET name = 'Bystander' WHERE id = 'u2'")
    return { world, device }
  })

const merged = (change: object = {}): Row => ({ id: "u1", name: "Merged", email: "a@x", score: 5, ...change })

/** Answers that a resolver written in JavaScript can give. */
const giving = (answer: unknown): ConflictResolver => () => Effect.succeed(answer as ConflictDecision)

interface Invalid {
  readonly what: string
  readonly resolver: ConflictResolver
  readonly reason: InvalidConflictResolution["reason"]
}

/** conflicts.md §4, the invalid cases. */
const invalid: ReadonlyArray<Invalid> = [
  { what: "a resolver that fails", resolver: () => Effect.fail("no idea"), reason: "resolver_failed" },
  { what: "a resolver that dies", resolver: () => Effect.die(new Error("bug")), reason: "resolver_failed" },
  {
    what: "a resolver that throws",
    resolver: () => {
      throw new Error("bug")
    },
    reason: "resolver_failed"
  },
  { what: "nothing", resolver: giving(undefined), reason: "no_decision" },
  { what: "null", resolver: giving(null), reason: "no_decision" },
  { what: "an unknown decision", resolver: giving({ _tag: "Toss" }), reason: "no_decision" },
  { what: "a text", resolver: giving("AcceptServer"), reason: "no_decision" },
  { what: "a decision that is not allowed", resolver: () => Effect.succeed(recreate), reason: "not_allowed" },
  { what: "a merged row that is missing", resolver: giving({ _tag: "KeepMerged" }), reason: "payload_not_object" },
  { what: "a merged array", resolver: giving({ _tag: "KeepMerged", row: [] }), reason: "payload_not_object" },
  { what: "a merged null", resolver: giving({ _tag: "KeepMerged", row: null }), reason: "payload_not_object" },
  { what: "a merged text", resolver: giving({ _tag: "KeepMerged", row: "{}" }), reason: "payload_not_object" },
  {
    what: "a number that is none",
    resolver: giving(keepMerged(merged({ score: Number.NaN }))),
    reason: "payload_not_object"
  },
  {
    what: "a blob in a plain column",
    resolver: giving(keepMerged(merged({ name: Uint8Array.of(1) }))),
    reason: "payload_not_object"
  },
  {
    what: "an object as a value",
    resolver: giving({ _tag: "KeepMerged", row: { ...merged(), name: {} } }),
    reason: "payload_not_object"
  },
  {
    what: "an undefined value",
    resolver: giving({ _tag: "KeepMerged", row: { ...merged(), name: undefined } }),
    reason: "payload_not_object"
  },
  {
    what: "a boolean",
    resolver: giving({ _tag: "KeepMerged", row: { ...merged(), score: true } }),
    reason: "payload_not_object"
  },
  {
    what: "an integer of more than 64 bits",
    resolver: giving(keepMerged(merged({ score: 2n ** 63n }))),
    reason: "payload_not_object"
  },
  {
    what: "a column too few",
    resolver: giving(keepMerged({ id: "u1", name: "Merged", email: null })),
    reason: "payload_columns"
  },
  { what: "a column too many", resolver: giving(keepMerged(merged({ more: 1 }))), reason: "payload_columns" },
  {
    what: "another column",
    resolver: giving(keepMerged({ id: "u1", name: "x", email: null, scores: 1 })),
    reason: "payload_columns"
  },
  {
    what: "a column in two spellings",
    resolver: giving(keepMerged({ id: "u1", name: "x", Name: "y", email: null })),
    reason: "payload_columns"
  },
  { what: "another key", resolver: giving(keepMerged(merged({ id: "u9" }))), reason: "payload_key" },
  { what: "a key of another type", resolver: giving(keepMerged(merged({ id: null }))), reason: "payload_key" }
]

describe("an invalid resolution", () => {
  it.scoped("names its reason, keeps every local intent and uses no number up [conflicts.md §4, §8]", () =>
    Effect.gen(function*() {
      const { device } = yield* conflicting()
      for (const { reason, resolver, what } of invalid) {
        yield* device.sync.setResolver(resolver)
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual(error._tag, "InvalidConflictResolution", what)
        if (error._tag !== "InvalidConflictResolution") return
        assert.strictEqual(error.reason, reason, what)
        assert.deepInclude(error, { code: "invalid_conflict_resolution", retryable: false, action: "fix_resolver" })
        assert.include(error.message, "users", what)
        assert.notMatch(error.message, /u1|Merged|Local|Server/, what)
        assert.strictEqual(error.conflict.key, "u1")
        assert.strictEqual(yield* outboxState(device), "none")
        assert.sameMembers([...(yield* dirty(device))], ["UPDATE users u1 base 1", "UPDATE users u2 base 1"])
        assert.deepStrictEqual(yield* device.run("SELECT name FROM users ORDER BY id"), [{ name: "Local" }, {
          name: "Bystander"
        }])
        yield* checkInvariants(device)
      }
      yield* device.sync.setResolver(clientWins)
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))

  it.scoped("keeps an edit made during the upload in front of the frozen row [conflicts.md §6]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* conflicting(giving(undefined))
      yield* world.network.fault("push chunk", after(device.run("UPDATE users SET name = 'Newest' WHERE id = 'u1'")))
      yield* Effect.flip(device.sync.pushPending)
      const [first] = yield* dirtyRows(device)
      assert.deepInclude(first, { row: "users u1", payload: { id: "u1", name: "Newest", email: "a@x", score: 1 } })
      yield* checkInvariants(device)
    }))
})

describe("the input of a resolver", () => {
  const wide = {
    ddl: [
      "CREATE TABLE things (Id BLOB PRIMARY KEY NOT NULL, big INTEGER, r REAL, t TEXT, data BLOB, other BLOB REFERENCES things (Id))"
    ],
    tables: [{ name: "things", key: "Id" }]
  }
  const declared = [{ schema: "business", table: "things", key: { column: "id", kind: "uuid" as const } }]
  const bytes = (digit: string) => Uint8Array.from(Buffer.from(digit.repeat(32), "hex"))
  const uuid = (digit: string) => [8, 4, 4, 4, 12].map((length) => digit.repeat(length)).join("-")

  it.scoped("is two decoded rows: bytes for blobs, bigint beyond 2^53, lowercase members [conflicts.md §2.1 D]", () =>
    Effect.gen(function*() {
      const asked: Array<ConflictInput> = []
      const world = yield* makeWorld({ declared })
      const device = yield* world.attached({
        ...offline,
        ...wide,
        resolver: (conflict) =>
          Effect.sync(() => {
            asked.push(conflict)
            return keepMerged({
              ID: bytes("a"),
              BIG: 9223372036854775807n,
              r: 0.1,
              t: "merged",
              data: Uint8Array.of(255),
              other: bytes("a")
            })
          })
      })
      const key = Buffer.from(bytes("a"))
      yield* device.run("INSERT INTO things VALUES (?, 1, 1, 't', x'', NULL)", [key])
      yield* device.sync.pushPending
      yield* world.write([{
        table: "things",
        key: uuid("a"),
        payload: { big: 9007199254740993n, r: 2, t: "5", data: "AP8=", other: uuid("a") }
      }])
      yield* device.run("UPDATE things SET big = -9007199254740993, r = 1.5, t = NULL, data = x'001122'")
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, { outcome: "committed", conflictCount: 1 })
      assert.deepStrictEqual(asked, [{
        schema: "business",
        table: "things",
        key: bytes("a"),
        localOp: "UPDATE",
        localRow: {
          id: bytes("a"),
          big: -9007199254740993n,
          r: 1.5,
          t: null,
          data: Uint8Array.of(0, 17, 34),
          other: null
        },
        baseRowVersion: 1,
        server: {
          shape: "live",
          rowVersion: 2,
          row: { id: bytes("a"), big: 9007199254740993n, r: 2, t: "5", data: Uint8Array.of(0, 255), other: bytes("a") }
        }
      }])
      const stored = "SELECT CAST(big AS TEXT) AS big, r, t, hex(data) AS data, other IS Id AS own FROM things"
      const merged = [{ big: "9223372036854775807", r: 0.1, t: "merged", data: "FF", own: 1 }]
      assert.deepStrictEqual(yield* device.run(stored), merged)
      const other = yield* world.attached(wide)
      assert.deepStrictEqual(yield* other.run(stored), merged)
      yield* checkInvariants(device)
    }))

  it.scoped("keeps blobs as they were through keep local [payload-codec.md quirk 1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ ...offline, resolver: clientWins })
      yield* device.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', x'00')")
      yield* device.sync.pushPending
      const id = "00112233-4455-6677-8899-aabbccddeeff"
      yield* world.write([{ table: "files", key: id, payload: { name: "Server", data: "AAAA" } }])
      yield* device.run("UPDATE files SET data = x'001122ff'")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.strictEqual(yield* value(device, "SELECT hex(data) FROM files"), "001122FF")
      assert.deepStrictEqual((yield* world.serverRows).get(`files ${id}`), { id, name: "f", data: "ABEi/w==" })
      yield* checkInvariants(device)
    }))
})

/** A resolver that waits until it is told to go on. */
const slow = (answer: (conflict: ConflictInput, times: number) => ConflictDecision) =>
  Effect.gen(function*() {
    const asked = yield* Deferred.make<void>()
    const goOn = yield* Deferred.make<void>()
    const inputs: Array<ConflictInput> = []
    const resolver: ConflictResolver = (conflict) =>
      Effect.gen(function*() {
        inputs.push(conflict)
        yield* Deferred.succeed(asked, undefined)
        yield* Deferred.await(goOn)
        return answer(conflict, inputs.length)
      })
    return { asked: Deferred.await(asked), goOn: Deferred.succeed(goOn, undefined), inputs, resolver }
  })

describe("while a resolver thinks", () => {
  it.scoped("the host writes; an edit of the row is put before it again [conflicts.md §5.1]", () =>
    Effect.gen(function*() {
      const thinker = yield* slow(() => acceptServer)
      const { device } = yield* conflicting(thinker.resolver)
      const push = yield* Effect.fork(device.sync.pushPending)
      yield* thinker.asked
      yield* device.run("UPDATE users SET name = 'Newest' WHERE id = 'u1'")
      yield* device.run("INSERT INTO users VALUES ('u3', 'Free', NULL, 3)")
      yield* thinker.goOn
      const report = yield* Fiber.join(push)
      assert.deepInclude(report, { outcome: "committed", conflictCount: 1 })
      assert.deepStrictEqual(thinker.inputs.map(({ localRow }) => localRow?.["name"]), ["Local", "Newest"])
      assert.strictEqual(yield* value(device, "SELECT name FROM users WHERE id = 'u1'"), "Server")
      assert.deepStrictEqual(yield* dirty(device), [])
      yield* checkInvariants(device)
    }))

  it.scoped("status reads answer, other operations wait [lifecycle.md §1.3]", () =>
    Effect.gen(function*() {
      const thinker = yield* slow(() => acceptServer)
      const { device } = yield* conflicting(thinker.resolver)
      const push = yield* Effect.fork(device.sync.pushPending)
      yield* thinker.asked
      assert.strictEqual((yield* device.sync.pendingSyncStatus).pendingRowCount, 2)
      const pull = yield* Effect.fork(device.sync.pullToStable)
      yield* Effect.yieldNow()
      assert.isNull(pull.unsafePoll())
      yield* thinker.goOn
      yield* Fiber.join(push)
      assert.strictEqual((yield* Fiber.join(pull)).outcome, "applied_incremental")
    }))

  it.scoped("an interruption leaves the upload frozen, and the next push asks again [conflicts.md §2]", () =>
    Effect.gen(function*() {
      const thinker = yield* slow(() => acceptServer)
      const { device } = yield* conflicting(thinker.resolver)
      const push = yield* Effect.fork(device.sync.pushPending)
      yield* thinker.asked
      const exit = yield* Fiber.interrupt(push)
      assert.strictEqual(exit._tag, "Failure")
      assert.strictEqual(yield* outboxState(device), "prepared")
      yield* checkInvariants(device)
      yield* device.sync.setResolver(clientWins)
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.strictEqual(yield* value(device, "SELECT name FROM users WHERE id = 'u1'"), "Local")
    }))

  it.scoped("a row that is edited each time is put before it three times, then all is thawed [conflicts.md §5.1]", () =>
    Effect.gen(function*() {
      let times = 0
      const restless = (device: () => Device): ConflictResolver => () =>
        Effect.as(device().run("UPDATE users SET score = ? WHERE id = 'u1'", [100 + times++]), keepLocal)
      const { device } = yield* conflicting()
      yield* device.sync.setResolver(restless(() => device))
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "PushConflictRetryExhausted", retryCount: 2, remainingDirtyCount: 2 })
      assert.strictEqual(times, 3)
      assert.strictEqual(yield* outboxState(device), "none")
      assert.sameMembers([...(yield* dirty(device))], ["UPDATE users u1 base 1", "UPDATE users u2 base 1"])
      assert.strictEqual(yield* value(device, "SELECT score FROM users WHERE id = 'u1'"), 102)
      yield* checkInvariants(device)
      yield* device.sync.setResolver(serverWins)
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))
})

interface Newer {
  readonly what: string
  readonly edit: string
  readonly decision: ConflictDecision
  /** The newest intent, as the resolver sees it. */
  readonly seen: readonly [ConflictInput["localOp"], name: string | undefined]
  readonly visible: string | undefined
  readonly again: string | undefined
}

const newest = "UPDATE users SET name = 'Newest' WHERE id = 'u1'"
const removed = "DELETE FROM users WHERE id = 'u1'"

/** conflicts.md §6: the row was edited again after the freeze. */
const newer: ReadonlyArray<Newer> = [
  {
    what: "accept server",
    edit: newest,
    decision: acceptServer,
    seen: ["UPDATE", "Newest"],
    visible: "Server",
    again: undefined
  },
  {
    what: "keep local",
    edit: newest,
    decision: keepLocal,
    seen: ["UPDATE", "Newest"],
    visible: "Newest",
    again: "UPDATE users u1 base 2"
  },
  {
    what: "keep merged",
    edit: newest,
    decision: keepMerged(merged()),
    seen: ["UPDATE", "Newest"],
    visible: "Merged",
    again: "UPDATE users u1 base 2"
  },
  {
    what: "accept server over a delete",
    edit: removed,
    decision: acceptServer,
    seen: ["DELETE", undefined],
    visible: "Server",
    again: undefined
  },
  {
    what: "keep the delete",
    edit: removed,
    decision: keepLocal,
    seen: ["DELETE", undefined],
    visible: undefined,
    again: "DELETE users u1 base 2"
  }
]

const stopped = (world: World, device: Device) =>
  Effect.gen(function*() {
    yield* world.network.fault("push create", (_exchange, ask) => ask)
    yield* world.network.fault("push create", refused(403, "stop"))
    yield* Effect.flip(device.sync.pushPending)
  })

describe("a newer edit of the conflicting row", () => {
  for (const { again, decision, edit, seen, visible, what } of newer) {
    it.scoped(`is what is decided about: ${what} [conflicts.md §6]`, () =>
      Effect.gen(function*() {
        const inputs: Array<ConflictInput> = []
        const { device, world } = yield* conflicting((conflict) =>
          Effect.sync(() => {
            inputs.push(conflict)
            return decision
          })
        )
        yield* world.network.fault("push chunk", after(device.run(edit)))
        yield* stopped(world, device)
        assert.deepStrictEqual(inputs.map(({ localOp, localRow }) => [localOp, localRow?.["name"]]), [[...seen]])
        assert.strictEqual(yield* value(device, "SELECT name FROM users WHERE id = 'u1'"), visible)
        assert.strictEqual((yield* rowState(device))["users u1"], "2 live")
        assert.deepStrictEqual(
          (yield* frozen(device)).filter((row) => row.includes("u1")),
          again === undefined ? [] : [again]
        )
        assert.deepStrictEqual(yield* dirty(device), [])
        yield* checkInvariants(device)
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
        yield* checkInvariants(device)
      }))
  }
})
