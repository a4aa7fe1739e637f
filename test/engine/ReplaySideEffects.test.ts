/** Rows of the own bundle that were not uploaded, and uploaded rows that are not in it (push.md §9.3). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { SyncOptions } from "oversqlite"
import type { TableDeclaration } from "oversqlite/server"
import { dirty, dirtyRows, outboxState, rowState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, answerLost } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

type Action = "cascade" | "set null"

/** Rooms in houses, boxes in rooms. What the server does to rooms when a house goes, the database leaves to it. */
const declared = (action: Action): ReadonlyArray<TableDeclaration> => [
  { schema: "business", table: "houses", key: { column: "id", kind: "text" } },
  {
    schema: "business",
    table: "rooms",
    key: { column: "id", kind: "text" },
    references: [{ column: "house", table: "houses", onDelete: action }]
  },
  { schema: "business", table: "boxes", key: { column: "id", kind: "text" } }
]

const local: Pick<Required<SyncOptions>, "tables" | "retryPolicy"> & { readonly ddl: ReadonlyArray<string> } = {
  ddl: [
    "CREATE TABLE houses (id TEXT PRIMARY KEY NOT NULL, name TEXT)",
    "CREATE TABLE rooms (id TEXT PRIMARY KEY NOT NULL, house TEXT, name TEXT)",
    "CREATE TABLE boxes (id TEXT PRIMARY KEY NOT NULL, room TEXT REFERENCES rooms (id) ON DELETE CASCADE, name TEXT)"
  ],
  tables: [{ name: "houses", key: "id" }, { name: "rooms", key: "id" }, { name: "boxes", key: "id" }],
  retryPolicy: { enabled: false }
}

/** House h with room r and box b on both sides, at version 1; the house is then deleted here. */
const houseDeleted = (action: Action, options: typeof local = local) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared: declared(action) })
    const device = yield* world.attached(options)
    yield* device.run("INSERT INTO houses VALUES ('h', 'House')")
    yield* device.run("INSERT INTO rooms VALUES ('r', 'h', 'Room'), ('s', NULL, 'Shed')")
    yield* device.run("INSERT INTO boxes VALUES ('b', 'r', 'Box')")
    yield* device.sync.pushPending
    yield* device.run("DELETE FROM houses WHERE id = 'h'")
    return { world, device }
  })

interface SideEffect {
  readonly what: string
  readonly action: Action
  /** What the host does to room r during the upload. */
  readonly edit: string | undefined
  readonly row: Readonly<Record<string, unknown>> | undefined
  readonly state: string
  readonly dirty: ReadonlyArray<string>
}

const bystander = "SELECT 1"

/** push.md §9.3: no decision, without and with a dirty row. */
const sideEffects: ReadonlyArray<SideEffect> = [
  { what: "a delete is applied", action: "cascade", edit: undefined, row: undefined, state: "2 deleted", dirty: [] },
  {
    what: "an update is applied",
    action: "set null",
    edit: undefined,
    row: { id: "r", house: null, name: "Room" },
    state: "2 live",
    dirty: []
  },
  {
    what: "a delete leaves an edited row, which becomes an insert over the tombstone",
    action: "cascade",
    edit: "UPDATE rooms SET name = 'Mine', house = NULL WHERE id = 'r'",
    row: { id: "r", house: null, name: "Mine" },
    state: "2 deleted",
    dirty: ["INSERT rooms r base 2"]
  },
  {
    what: "an update leaves an edited row, which stays an update",
    action: "set null",
    edit: "UPDATE rooms SET name = 'Mine', house = NULL WHERE id = 'r'",
    row: { id: "r", house: null, name: "Mine" },
    state: "2 live",
    dirty: ["UPDATE rooms r base 2"]
  },
  {
    what: "a delete of a row that was deleted here leaves nothing to do",
    action: "cascade",
    edit: "DELETE FROM rooms WHERE id = 'r'",
    row: undefined,
    state: "2 deleted",
    dirty: []
  },
  {
    what: "an update of a row that was deleted here leaves the delete",
    action: "set null",
    edit: "DELETE FROM rooms WHERE id = 'r'",
    row: undefined,
    state: "2 live",
    dirty: ["DELETE rooms r base 2"]
  }
]

const converged = (world: World, device: Device) =>
  Effect.gen(function*() {
    yield* device.sync.sync
    yield* device.sync.sync
    assert.deepStrictEqual(yield* dirty(device), [])
    yield* checkInvariants(device)
    const other = yield* world.attached(local)
    for (const table of ["houses", "rooms", "boxes"]) {
      const all = `SELECT * FROM ${table} ORDER BY id`
      assert.deepStrictEqual(yield* device.run(all), yield* other.run(all), table)
    }
  })

describe("a row that the server has changed in the same bundle", () => {
  for (const { action, dirty: expected, edit, row, state, what } of sideEffects) {
    it.scoped(`${what} [push.md §9.3]`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* houseDeleted(action)
        // Box b would be swept away with its room.
        yield* device.run("UPDATE boxes SET room = 's'")
        yield* world.network.fault("push commit", after(device.run(edit ?? bystander)))
        const report = yield* device.sync.pushPending
        assert.deepInclude(report, { outcome: "committed", requeuedRowCount: 0, discardedByServerCount: 0 })
        assert.deepStrictEqual(yield* device.run("SELECT * FROM rooms WHERE id = 'r'"), row === undefined ? [] : [row])
        assert.strictEqual((yield* rowState(device))["rooms r"], state)
        assert.deepStrictEqual(yield* dirty(device), expected)
        yield* checkInvariants(device)
        yield* converged(world, device)
      }))
  }

  it.scoped("and that this database has never seen is recorded [push.md §9.3]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* houseDeleted("cascade")
      yield* device.run("UPDATE boxes SET room = 's'")
      yield* world.write([{ table: "rooms", key: "new", payload: { house: "h", name: "New" } }])
      yield* device.sync.pushPending
      assert.strictEqual((yield* rowState(device))["rooms new"], "3 deleted")
      yield* checkInvariants(device)
      yield* converged(world, device)
    }))
})

describe("a pending row that a local foreign-key action of the replay removes", () => {
  it.scoped("becomes a delete, and nothing at all if the server never had it [push.md §9.3, swept rows]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* houseDeleted("cascade")
      yield* world.network.fault(
        "push commit",
        after(Effect.gen(function*() {
          yield* device.run("UPDATE boxes SET name = 'Edited' WHERE id = 'b'")
          yield* device.run("INSERT INTO boxes VALUES ('c', 'r', 'New')")
        }))
      )
      yield* device.sync.pushPending
      assert.deepStrictEqual(yield* device.run("SELECT * FROM boxes"), [])
      assert.deepStrictEqual(yield* dirtyRows(device), [
        { row: "boxes b", op: "DELETE", base: 1, payload: null },
        { row: "boxes c", op: "DELETE", base: 0, payload: null }
      ])
      yield* checkInvariants(device)
      yield* converged(world, device)
      assert.deepStrictEqual([...(yield* world.serverRows).keys()], ["rooms s"])
    }))

  it.scoped("or changes is described as it is now [push.md §9.3, client-state.md invariant 26]", () =>
    Effect.gen(function*() {
      const options = {
        ...local,
        ddl: local.ddl.map((text) => text.replace("ON DELETE CASCADE", "ON DELETE SET NULL"))
      }
      const { device, world } = yield* houseDeleted("cascade", options)
      yield* world.network.fault("push commit", after(device.run("UPDATE boxes SET name = 'Edited' WHERE id = 'b'")))
      yield* device.sync.pushPending
      assert.deepStrictEqual(yield* dirtyRows(device), [
        { row: "boxes b", op: "UPDATE", base: 1, payload: { id: "b", room: null, name: "Edited" } }
      ])
      yield* checkInvariants(device)
      yield* converged(world, device)
    }))
})

/** A room is put into the house that is deleted in the same upload: the server inserts and removes it. */
const vanishing = (prepare: (device: Device) => Effect.Effect<unknown, unknown>) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared: declared("cascade") })
    const device = yield* world.attached(local)
    yield* device.run("INSERT INTO houses VALUES ('h', 'House')")
    yield* device.sync.pushPending
    yield* prepare(device)
    yield* device.run("INSERT INTO rooms VALUES ('v', 'h', 'Void')")
    yield* device.run("DELETE FROM houses")
    return { world, device }
  })

interface Vanished {
  readonly what: string
  readonly edit: string
  readonly row: Readonly<Record<string, unknown>> | undefined
  readonly dirty: ReadonlyArray<string>
  readonly requeued: number
  readonly discarded: number
}

const vanished: ReadonlyArray<Vanished> = [
  { what: "is deleted here too", edit: bystander, row: undefined, dirty: [], requeued: 0, discarded: 1 },
  {
    what: "is deleted here too, though edited and changed back",
    edit: "UPDATE rooms SET name = name || '' WHERE id = 'v'",
    row: undefined,
    dirty: [],
    requeued: 0,
    discarded: 1
  },
  {
    what: "is inserted again if it was edited",
    edit: "UPDATE rooms SET name = 'Mine', house = NULL WHERE id = 'v'",
    row: { id: "v", house: null, name: "Mine" },
    dirty: ["INSERT rooms v base 0"],
    requeued: 1,
    discarded: 0
  },
  {
    what: "needs no word if it was deleted here meanwhile",
    edit: "DELETE FROM rooms WHERE id = 'v'",
    row: undefined,
    dirty: [],
    requeued: 0,
    discarded: 1
  }
]

describe("an uploaded row that the server has removed again in the same bundle", () => {
  for (const { dirty: expected, discarded, edit, requeued, row, what } of vanished) {
    it.scoped(`${what} [push.md §9.3, server.md §7.4]`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* vanishing(() => Effect.void)
        yield* world.network.fault("push commit", after(device.run(edit)))
        const report = yield* device.sync.pushPending
        assert.deepInclude(report, {
          outcome: "committed",
          requeuedRowCount: requeued,
          discardedByServerCount: discarded
        })
        assert.deepStrictEqual(yield* device.run("SELECT * FROM rooms"), row === undefined ? [] : [row])
        assert.deepStrictEqual(yield* rowState(device), { "houses h": "2 deleted" })
        assert.deepStrictEqual(yield* dirty(device), expected)
        yield* checkInvariants(device)
        yield* converged(world, device)
      }))
  }

  it.scoped("over a tombstone leaves the tombstone, on which an edit goes on [server.md §7.4]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* vanishing((fresh) =>
        Effect.gen(function*() {
          yield* fresh.run("INSERT INTO rooms VALUES ('v', NULL, 'Once')")
          yield* fresh.sync.pushPending
          yield* fresh.run("DELETE FROM rooms")
          yield* fresh.sync.pushPending
        })
      )
      yield* world.network.fault("push commit", after(device.run("UPDATE rooms SET house = NULL")))
      assert.deepInclude(yield* device.sync.pushPending, { requeuedRowCount: 1, discardedByServerCount: 0 })
      assert.strictEqual((yield* rowState(device))["rooms v"], "3 deleted")
      assert.deepStrictEqual(yield* dirty(device), ["INSERT rooms v base 3"])
      assert.deepInclude(yield* device.sync.pushPending, { outcome: "committed", conflictCount: 0 })
      yield* converged(world, device)
    }))

  it.scoped("stays pending if the commit's answer was lost: nobody can say whose bundle it is [push.md §8.1]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* vanishing(() => Effect.void)
      yield* world.network.fault("push commit", answerLost)
      yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(yield* outboxState(device), "prepared")
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, { outcome: "committed", requeuedRowCount: 1, discardedByServerCount: 0 })
      assert.deepStrictEqual(yield* dirty(device), ["INSERT rooms v base 0"])
      yield* checkInvariants(device)
      yield* device.run("UPDATE rooms SET house = NULL")
      yield* converged(world, device)
    }))
})

describe("rows of the own bundle whose table is not configured [push.md §7, client-state.md §3.1]", () => {
  /** A device that does not know of rooms and boxes; the server sweeps the room of its house. */
  const without = (options: Partial<SyncOptions>) =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared: declared("cascade") })
      const other = yield* world.attached(local)
      yield* other.run("INSERT INTO houses VALUES ('h', 'House')")
      yield* other.run("INSERT INTO rooms VALUES ('r', 'h', 'Room'), ('s', 'h', 'Shed')")
      yield* other.sync.pushPending
      const device = yield* world.attached({
        ...local,
        tables: local.tables.slice(0, 1),
        unknownTables: "ignore",
        committedRowsLimit: 2,
        ...options
      })
      yield* device.run("INSERT INTO houses VALUES ('i', 'New')")
      yield* device.run("DELETE FROM houses WHERE id = 'h'")
      return { world, other, device }
    })

  it.scoped("are left out where unknown tables are ignored, and the bundle is replayed", () =>
    Effect.gen(function*() {
      const { device, other, world } = yield* without({})
      const report = yield* device.sync.pushPending
      assert.strictEqual(report.outcome, "committed")
      assert.strictEqual(report.status.pending.pendingRowCount, 0)
      assert.deepStrictEqual(yield* device.run("SELECT id FROM houses"), [{ id: "i" }])
      assert.deepStrictEqual(yield* rowState(device), { "houses h": "2 deleted", "houses i": "2 live" })
      assert.strictEqual(yield* outboxState(device), "none")
      assert.isFalse((yield* world.serverRows).has("rooms r"))
      yield* checkInvariants(device)
      yield* other.sync.sync
      assert.deepStrictEqual(yield* other.run("SELECT id FROM rooms"), [])
    }))
})

describe("a stage that is not what was put there [push.md §9 step 1]", () => {
  it.scoped("is not replayed: a protocol error, nothing changed, and the next push fetches it again", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared: declared("cascade") })
      const device = yield* world.attached({ ...local, committedRowsLimit: 1 })
      yield* device.run("INSERT INTO houses VALUES ('a', 'A'), ('b', 'B')")
      yield* world.network.fault("committed rows", (_exchange, ask) => ask)
      yield* world.network.fault("committed rows", after(device.run("DELETE FROM _sync_push_stage")))
      yield* failsWith(device.sync.pushPending, {
        _tag: "ProtocolError",
        request: "committed_bundle_chunk_fetch",
        rule: "count_mismatch",
        expected: "2",
        actual: "1"
      })
      assert.deepStrictEqual(yield* rowState(device), {})
      assert.strictEqual(yield* outboxState(device), "committed_remote")
      yield* checkInvariants(device)
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual(yield* dirty(device), [])
      yield* checkInvariants(device)
    }))
})
