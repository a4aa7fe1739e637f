/** The lease of a seeding upload: lost, committed without an answer, and empty (push.md §10). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import type { InitializationLeaseLost, SyncError } from "oversqlite"
import { dirty, frozen, header, outboxState, rowState, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Fault, Route } from "./support/Network.js"
import { answered, answerLost, before, lost, refused } from "./support/Network.js"
import { whileTimePasses } from "./support/Time.js"
import type { World } from "./support/World.js"
import { contents, makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

/** A device that has been told to fill the scope, with two rows. */
const seeding = (options: object = offline) =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    const device = yield* world.device(options)
    yield* device.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1), ('u2', 'Bob', NULL, 2)")
    yield* device.sync.open
    const attached = yield* device.sync.attach("ann")
    assert.strictEqual(attached.status === "connected" && attached.outcome, "seeded_from_local")
    return { world, device }
  })

const frozenSeed = ["INSERT users u1 base 0", "INSERT users u2 base 0"]

const initializationId = (device: Device) =>
  value(device, "SELECT pending_initialization_id FROM _sync_attachment_state")

/** What a lost lease leaves behind (push.md §10.1). */
const leaseLost = (
  device: Device,
  reason: InitializationLeaseLost["reason"],
  failing: Effect.Effect<unknown, SyncError>
) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(failing)
    assert.strictEqual(error._tag, "InitializationLeaseLost")
    if (error._tag !== "InitializationLeaseLost") return
    assert.deepStrictEqual([error.reason, error.operation, error.action], [reason, "pushPending", "attach"])
    assert.include(error.message, `${reason}: reconnect required`)
    const { attachment } = yield* device.sync.inspect
    assert.deepInclude(attachment, {
      bindingState: "anonymous",
      userId: "",
      initializationPending: false,
      lastBundleSeqSeen: 0,
      rebuildRequired: false
    })
    assert.strictEqual(yield* value(device, "SELECT rows_of_user_id FROM _sync_engine_state"), "ann")
    yield* checkInvariants(device)
    const next = yield* Effect.flip(device.sync.pushPending)
    assert.deepInclude({ ...next }, { _tag: "AttachRequired", reason: "anonymous" })
  })

describe("a lost lease", () => {
  const losses: ReadonlyArray<
    readonly [Route, status: number, code: string, reason: InitializationLeaseLost["reason"]]
  > = [
    ["push create", 410, "initialization_expired", "initialization_expired"],
    ["push create", 409, "initialization_stale", "initialization_stale"],
    ["push create", 409, "scope_uninitialized", "initialization_expired"],
    ["push chunk", 409, "initialization_stale", "initialization_stale"],
    ["push chunk", 410, "initialization_expired", "initialization_expired"],
    ["push commit", 409, "initialization_stale", "initialization_stale"],
    ["push commit", 410, "initialization_expired", "initialization_expired"]
  ]
  for (const [route, status, code, reason] of losses) {
    it.scoped(`(${route} ${status} ${code}) dissolves the binding and keeps rows and outbox [push.md §10.1]`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* seeding()
        yield* world.network.fault(route, refused(status, code))
        yield* leaseLost(device, reason, device.sync.pushPending)
        assert.deepStrictEqual(yield* frozen(device), frozenSeed)
        assert.strictEqual(yield* outboxState(device), "prepared")
      }))
  }

  it.scoped("with everything frozen starts empty at the next attach, and the seed goes up as an ordinary push [push.md §10.1]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* world.network.fault("push chunk", lost)
      yield* Effect.flip(device.sync.pushPending)
      yield* TestClock.adjust("16 minutes")
      // The server itself says so now.
      yield* leaseLost(device, "initialization_expired", device.sync.pushPending)
      const again = yield* device.sync.attach("ann")
      assert.deepInclude(again, { status: "connected", outcome: "started_empty" })
      assert.strictEqual(again.status === "connected" && again.syncStatus.pending.pendingRowCount, 2)
      assert.isTrue(world.network.requests.some(({ body }) => body === "{\"has_local_pending_rows\":false}"))
      yield* checkInvariants(device)
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.notInclude(world.network.requests.findLast(({ route }) => route === "push create")?.body, "initialization")
      assert.strictEqual((yield* world.serverRows).size, 2)
      yield* checkInvariants(device)
    }))

  it.scoped("with something dirty as well is granted anew, and the frozen rows go up under it [push.md §10.1]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* world.network.fault("push chunk", lost)
      yield* Effect.flip(device.sync.pushPending)
      yield* TestClock.adjust("16 minutes")
      yield* leaseLost(device, "initialization_expired", device.sync.pushPending)
      yield* device.run("INSERT INTO users VALUES ('u3', 'Cy', NULL, 3)")
      assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "seeded_from_local" })
      yield* device.sync.pushPending
      assert.strictEqual(yield* initializationId(device), "")
      assert.deepStrictEqual(yield* dirty(device), ["INSERT users u3 base 0"])
      yield* device.sync.pushPending
      assert.strictEqual((yield* world.serverRows).size, 3)
      yield* checkInvariants(device)
    }))

  it.scoped("to another device leaves the frozen seed pending over that device's data [push.md §10.1 D]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* world.network.fault("push chunk", lost)
      yield* Effect.flip(device.sync.pushPending)
      yield* TestClock.adjust("16 minutes")
      const other = yield* world.attached()
      yield* other.run("INSERT INTO users VALUES ('u2', 'Bert', NULL, 9), ('u4', 'Di', NULL, 4)")
      yield* other.sync.pushPending
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(error._tag, "InitializationLeaseLost")
      const again = yield* device.sync.attach("ann")
      assert.deepInclude(again, { outcome: "used_remote_state" })
      assert.deepStrictEqual(yield* dirty(device), ["INSERT users u1 base 0", "UPDATE users u2 base 0"])
      assert.strictEqual(yield* outboxState(device), "none")
      yield* checkInvariants(device)
      const report = yield* device.sync.sync
      assert.strictEqual(report.pushOutcome, "committed")
      yield* other.sync.sync
      assert.deepStrictEqual(yield* contents(device), yield* contents(other))
      assert.deepStrictEqual(yield* device.run("SELECT name FROM users ORDER BY id"), [
        { name: "Ann" },
        { name: "Bert" },
        { name: "Di" }
      ])
    }))
})

/** The repeated create carries an id although the scope has its data. */
const invalid = refused(400, "push_session_invalid")

const creates = (world: World) =>
  world.network.requests.filter(({ route }) => route === "push create").map(({ body }) =>
    body.includes("initialization_id") ? "with id" : "without id"
  )

describe("a seed whose commit was not answered", () => {
  it.scoped("is found on the server and replayed, in the same push [push.md §10.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding({})
      yield* world.network.fault("push commit", answerLost)
      const report = yield* whileTimePasses(device.sync.pushPending)
      assert.deepInclude(report, { outcome: "committed", requeuedRowCount: 0 })
      assert.deepStrictEqual(creates(world), ["with id", "with id", "without id"])
      assert.strictEqual(yield* initializationId(device), "")
      assert.isFalse(report.status.pending.blocksDetach)
      assert.deepInclude(yield* rowState(device), { "users u1": "1 live" })
      yield* checkInvariants(device)
    }))

  it.scoped("is found after a restart as well [push.md §10.2, recovery.md §7 #6]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* world.network.fault("push commit", answerLost)
      yield* Effect.flip(device.sync.pushPending)
      yield* device.run("UPDATE users SET name = 'Anna' WHERE id = 'u1'")
      const next = yield* world.restarted(device, offline)
      assert.deepInclude(yield* next.sync.pushPending, { outcome: "committed", requeuedRowCount: 1 })
      assert.deepStrictEqual(yield* dirty(next), ["UPDATE users u1 base 1"])
      yield* checkInvariants(next)
      assert.strictEqual((yield* next.sync.sync).pushOutcome, "committed")
      assert.strictEqual((yield* next.sync.detach).outcome, "detached")
    }))

  it.scoped("and that another device has overtaken loses its lease; its session is given up [push.md §10.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* world.network.fault("push create", lost)
      yield* Effect.flip(device.sync.pushPending)
      yield* TestClock.adjust("16 minutes")
      const other = yield* world.attached()
      yield* other.run("INSERT INTO users VALUES ('u4', 'Di', NULL, 4)")
      yield* other.sync.pushPending
      // The scope is initialized now: the server refuses the id before it looks at the lease.
      yield* world.network.asked
      yield* leaseLost(device, "superseded", device.sync.pushPending)
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "connect", "push create", "push delete"])
      assert.deepStrictEqual(yield* frozen(device), frozenSeed)
      yield* device.sync.attach("ann")
      yield* device.sync.sync
      assert.strictEqual((yield* world.serverRows).size, 3)
      yield* checkInvariants(device)
    }))

  it.scoped("goes on with the id that connect names, durably [push.md §10.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* device.run("UPDATE _sync_attachment_state SET pending_initialization_id = 'older'")
      yield* world.network.fault("push create", invalid)
      yield* world.network.fault("push chunk", lost)
      yield* Effect.flip(device.sync.pushPending)
      assert.notInclude([yield* initializationId(device)], "older")
      assert.notStrictEqual(yield* initializationId(device), "")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.strictEqual(yield* initializationId(device), "")
      yield* checkInvariants(device)
    }))

  it.scoped("ends when the server contradicts itself: connect is asked once [push.md §10.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* world.network.fault("push create", invalid, 100)
      yield* world.network.asked
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "TransportError", status: 400, serverCode: "push_session_invalid" })
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "connect", "push create"])
      assert.deepStrictEqual(yield* frozen(device), frozenSeed)
      yield* checkInvariants(device)
    }))

  it.scoped("goes on without an id when connect declares the scope empty [push.md §10.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* TestClock.adjust("16 minutes")
      yield* world.write([{ table: "users", key: "u9", payload: { name: "Server", email: null, score: 1 } }])
      yield* world.network.fault("connect", answered(200, { resolution: "initialize_empty" }))
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual(creates(world), ["with id", "without id"])
      assert.strictEqual(yield* initializationId(device), "")
      assert.strictEqual((yield* world.serverRows).size, 3)
      yield* checkInvariants(device)
    }))

  it.scoped("loses its lease when connect says that another device is at it [push.md §10.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* world.network.fault("push create", invalid)
      yield* world.network.fault("connect", answered(200, { resolution: "retry_later", retry_after_seconds: 5 }))
      yield* leaseLost(device, "superseded", device.sync.pushPending)
      assert.deepStrictEqual(yield* frozen(device), frozenSeed)
    }))

  it.scoped("of long ago enters source recovery, without the id [push.md §10.2, §4]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* TestClock.adjust("16 minutes")
      yield* world.write([{ table: "users", key: "u9", payload: { name: "Server", email: null, score: 1 } }])
      yield* world.network.fault("push create", (_exchange, ask) => ask)
      yield* world.network.fault("push create", refused(409, "history_pruned"))
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "SourceRecoveryRequired", reason: "history_pruned" })
      assert.strictEqual(yield* initializationId(device), "")
      assert.deepStrictEqual(yield* frozen(device), frozenSeed)
      yield* checkInvariants(device)
      yield* device.sync.rebuild
      yield* device.sync.sync
      assert.strictEqual((yield* world.serverRows).size, 3)
      yield* checkInvariants(device)
    }))

  it.scoped("keeps id and outbox while connect cannot be reached [push.md §10.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeding()
      yield* world.network.fault("push commit", answerLost)
      yield* Effect.flip(device.sync.pushPending)
      const id = yield* initializationId(device)
      yield* world.network.fault("connect", lost)
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "TransportError", code: "connection", request: "connect_request" })
      assert.strictEqual(yield* initializationId(device), id)
      assert.deepInclude(yield* header(device), { state: "prepared" })
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      yield* checkInvariants(device)
    }))
})

describe("an empty seed", () => {
  /** The rows are gone before they were ever pushed. */
  const emptied = Effect.gen(function*() {
    const { device, world } = yield* seeding()
    yield* device.run("DELETE FROM users")
    return { device, world }
  })

  it.scoped("declares the scope empty, and everything is possible again [push.md §10.3, recovery.md §7 #16]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* emptied
      yield* world.network.asked
      const report = yield* device.sync.pushPending
      assert.strictEqual(report.outcome, "no_change")
      assert.deepStrictEqual(yield* world.network.asked, ["connect"])
      assert.strictEqual(world.network.requests.at(-1)?.body, "{\"has_local_pending_rows\":false}")
      assert.strictEqual(report.status.authority, "authoritative_empty")
      assert.strictEqual(report.status.pending.pendingRowCount, 0)
      assert.strictEqual((yield* device.sync.pullToStable).outcome, "already_at_target")
      yield* checkInvariants(device)
      assert.strictEqual((yield* device.sync.detach).outcome, "detached")
    }))

  it.scoped("without any row from the start is settled the same way [push.md §10.3]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* emptied
      yield* world.network.fault("connect", lost)
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "TransportError", request: "connect_request" })
      assert.deepStrictEqual(yield* dirty(device), [])
      assert.notStrictEqual(yield* initializationId(device), "")
      yield* checkInvariants(device)
      assert.strictEqual((yield* device.sync.pushPending).outcome, "no_change")
      assert.strictEqual(yield* initializationId(device), "")
    }))

  const superseded: ReadonlyArray<readonly [what: string, Fault]> = [
    ["the scope has data", answered(200, { resolution: "remote_authoritative" })],
    ["another device fills it", answered(200, { resolution: "retry_later", retry_after_seconds: 5 })]
  ]
  for (const [what, fault] of superseded) {
    it.scoped(`is a lost lease when ${what} [push.md §10.3]`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* emptied
        yield* world.network.fault("connect", fault)
        yield* leaseLost(device, "superseded", device.sync.pushPending)
        assert.strictEqual(yield* outboxState(device), "none")
      }))
  }

  it.scoped("is no seed any more once something was written before the push [push.md §10.3]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* emptied
      yield* world.network.fault("connect", before(device.run("INSERT INTO users VALUES ('late', 'Late', NULL, 1)")))
      assert.strictEqual((yield* device.sync.pushPending).outcome, "no_change")
      assert.deepStrictEqual(yield* dirty(device), ["INSERT users late base 0"])
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.strictEqual((yield* world.serverRows).size, 1)
      yield* checkInvariants(device)
    }))
})
