/** A server that has lost the scope: what the device holds may be all there is (recovery.md §2.4). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty, outboxState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { lost, refused } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { contents, makeWorld } from "./support/World.js"

const options = { retryPolicy: { enabled: false } }

const insert = (id: string) => `INSERT INTO users VALUES ('${id}', 'Ann', NULL, 1)`

const attached = Effect.gen(function*() {
  const world = yield* makeWorld()
  const a = yield* world.attached(options)
  yield* a.run(insert("u1"))
  yield* a.run(insert("u2"))
  yield* a.run("INSERT INTO posts VALUES ('p1', 'Post', 'u1')")
  yield* a.sync.sync
  return { world, a }
})

const other = "22222222-2222-4222-8222-222222222222"

const ids = (device: Device) =>
  Effect.map(device.run("SELECT id FROM users ORDER BY id"), (rows) => rows.map((row) => row["id"]))

describe("a server that another device is setting up anew [recovery.md §2.4, wire.md §4.2 #5]", () => {
  it.scoped("refuses the create with 400 push_session_invalid; a read tells that the scope is lost", () =>
    Effect.gen(function*() {
      const { a, world } = yield* attached
      yield* world.reset
      yield* Effect.flatMap(
        world.server,
        (server) => server.connect({ userId: "ann", sourceId: other }, { hasLocalPendingRows: true })
      )
      yield* a.run(insert("u3"))
      yield* world.network.asked
      yield* failsWith(a.sync.pushPending, {
        _tag: "ScopeLost",
        reason: "scope_initializing",
        requeuedRowCount: 4,
        action: "attach"
      })
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "pull"])
      yield* checkInvariants(a)
    }))

  for (const [name, fault] of [["cannot be reached", lost], ["answers it", undefined]] as const) {
    it.scoped(`is not believed to be one if it ${name}: the refusal comes back as it is`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* attached
        yield* a.run(insert("u3"))
        yield* world.network.fault("push create", refused(400, "push_session_invalid"))
        if (fault !== undefined) yield* world.network.fault("pull", fault)
        yield* failsWith(a.sync.pushPending, {
          _tag: "TransportError",
          status: 400,
          serverCode: "push_session_invalid"
        })
        yield* checkInvariants(a)
        assert.strictEqual((yield* a.sync.pushPending).outcome, "committed")
      }))
  }
})

describe("the transition [recovery.md §2.4]", () => {
  const operations = ["pushPending", "pullToStable", "sync", "rebuild"] as const
  for (const operation of operations) {
    it.scoped(`${operation}: every live row is pending again under a fresh source, the binding is dissolved`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* attached
        const old = (yield* a.sync.sourceInfo).currentSourceId
        if (operation === "pushPending" || operation === "sync") yield* a.run(insert("u3"))
        const rows = operation === "pushPending" || operation === "sync" ? 4 : 3
        yield* world.reset
        const call: Effect.Effect<unknown, unknown> = a.sync[operation]
        yield* failsWith(call, {
          _tag: "ScopeLost",
          reason: "scope_uninitialized",
          requeuedRowCount: rows,
          action: "attach",
          operation
        })
        const { attachment, instance, operation: pending } = yield* a.sync.inspect
        assert.strictEqual(instance, "opened")
        assert.deepStrictEqual(
          { ...attachment, sourceId: "" },
          {
            sourceId: "",
            bindingState: "anonymous",
            userId: "",
            schema: "business",
            lastBundleSeqSeen: 0,
            rebuildRequired: false,
            initializationPending: false
          }
        )
        assert.strictEqual(pending.kind, "none")
        assert.notStrictEqual(attachment.sourceId, old)
        assert.deepStrictEqual(
          yield* a.run("SELECT replaced_by_source_id AS by FROM _sync_source_state WHERE source_id = ?", [old]),
          [{ by: attachment.sourceId }]
        )
        assert.deepStrictEqual(yield* a.run("SELECT rows_of_user_id AS owner FROM _sync_engine_state"), [{
          owner: "ann"
        }])
        assert.strictEqual((yield* dirty(a)).length, rows)
        for (const line of yield* dirty(a)) assert.match(line, /^INSERT .* base 0$/)
        yield* checkInvariants(a)
        yield* failsWith(a.sync.sync, { _tag: "AttachRequired", reason: "anonymous" })
        // This device is the seed.
        const result = yield* a.sync.attach("ann")
        assert.strictEqual(result.status === "connected" && result.outcome, "seeded_from_local")
        yield* a.sync.sync
        yield* checkInvariants(a)
        const fresh = yield* world.attached()
        assert.deepStrictEqual(yield* contents(fresh), yield* contents(a))
        assert.strictEqual((yield* ids(fresh)).length, rows - 1)
      }))
  }

  it.scoped("frozen rows and pending deletes come along, whatever the state of the outbox", () =>
    Effect.gen(function*() {
      for (const route of ["push create", "committed rows"] as const) {
        const { a, world } = yield* attached
        yield* a.run(insert("u3"))
        yield* a.run("DELETE FROM users WHERE id = 'u2'")
        yield* world.network.fault(route, lost)
        yield* Effect.flip(a.sync.pushPending)
        yield* a.run("UPDATE users SET name = 'Later' WHERE id = 'u3'")
        yield* world.reset
        yield* failsWith(a.sync.pushPending, { _tag: "ScopeLost", requeuedRowCount: 4 })
        assert.strictEqual(yield* outboxState(a), "none")
        assert.sameMembers([...yield* dirty(a)], [
          "INSERT users u1 base 0",
          "DELETE users u2 base 1",
          "INSERT users u3 base 0",
          "INSERT posts p1 base 0"
        ])
        yield* checkInvariants(a)
        yield* a.sync.attach("ann")
        yield* a.sync.sync
        yield* checkInvariants(a)
        assert.deepStrictEqual(yield* ids(a), ["u1", "u3"])
      }
    }))

  it.scoped("a source recovery that was pending ends with it", () =>
    Effect.gen(function*() {
      const { a, world } = yield* attached
      yield* a.run(insert("u3"))
      yield* world.network.fault("push create", refused(409, "history_pruned"))
      yield* Effect.flip(a.sync.pushPending)
      yield* world.reset
      yield* failsWith(a.sync.rebuild, { _tag: "ScopeLost" })
      yield* checkInvariants(a)
      yield* a.sync.attach("ann")
      yield* a.sync.sync
      assert.strictEqual((yield* ids(a)).length, 3)
      yield* checkInvariants(a)
    }))
})

describe("attaching again [recovery.md §2.4]", () => {
  it.scoped("another device was faster: identical rows are dropped, the rest is kept", () =>
    Effect.gen(function*() {
      const { a, world } = yield* attached
      const b = yield* world.attached(options)
      yield* a.run(insert("of a"))
      yield* b.run(insert("of b"))
      yield* world.reset
      yield* failsWith(b.sync.sync, { _tag: "ScopeLost" })
      yield* failsWith(a.sync.sync, { _tag: "ScopeLost" })
      yield* b.sync.attach("ann")
      // The other one holds the lease: later.
      assert.strictEqual((yield* a.sync.attach("ann")).status, "retry_later")
      yield* b.sync.sync
      const joined = yield* a.sync.attach("ann")
      assert.deepStrictEqual(
        joined.status === "connected" && joined.outcome === "used_remote_state" ? joined.localRows : undefined,
        { kept: 1, identical: 3, discarded: 0, recovered: 0 }
      )
      yield* a.sync.sync
      yield* b.sync.sync
      yield* checkInvariants(a)
      yield* checkInvariants(b)
      assert.deepStrictEqual(yield* contents(a), yield* contents(b))
      assert.deepStrictEqual(yield* ids(a), ["of a", "of b", "u1", "u2"])
    }))

  it.scoped("the answer was a mistake: attaching to the right server finds everything identical", () =>
    Effect.gen(function*() {
      const { a, world } = yield* attached
      const was = yield* contents(a)
      yield* world.network.fault("pull", refused(409, "scope_uninitialized"))
      yield* failsWith(a.sync.pullToStable, { _tag: "ScopeLost" })
      const joined = yield* a.sync.attach("ann")
      assert.deepStrictEqual(
        joined.status === "connected" && joined.outcome === "used_remote_state" ? joined.localRows : undefined,
        { kept: 0, identical: 3, discarded: 0, recovered: 0 }
      )
      assert.deepStrictEqual(yield* contents(a), was)
      assert.deepStrictEqual(yield* dirty(a), [])
      yield* checkInvariants(a)
    }))

  it.scoped("another user does not get these rows [lifecycle.md §9]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* attached
      yield* world.reset
      yield* failsWith(a.sync.pullToStable, { _tag: "ScopeLost" })
      yield* failsWith(a.sync.attach("bob"), {
        _tag: "AttachLocalStateConflict",
        reason: "rows_of_other_user",
        pendingUserId: "ann"
      })
      yield* checkInvariants(a)
    }))

  it.scoped("the transition is durable: a new client finds it", () =>
    Effect.gen(function*() {
      const { a, world } = yield* attached
      yield* world.reset
      yield* Effect.flip(a.sync.pullToStable)
      const again = yield* world.restarted(a, { ddl: [], ...options })
      yield* again.sync.sync
      assert.deepStrictEqual(yield* ids(again), ["u1", "u2"])
      yield* checkInvariants(again)
    }))
})
