/** The replay of the own bundle: decisions, results, checkpoint and counter (push.md §9). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirtyRows, dump, frozenRows, nextNumber, outboxState, rowState, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, answerLost, lost } from "./support/Network.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

/** When the host edits the row again. */
type Moment = "during the upload" | "between commit and resume" | "between a lost commit answer and resume"

const moments: ReadonlyArray<Moment> = [
  "during the upload",
  "between commit and resume",
  "between a lost commit answer and resume"
]

/** Pushes once; the edit happens at its moment. The device that goes on comes out. */
const pushWith = (world: World, device: Device, moment: Moment, edit: Effect.Effect<unknown>) =>
  Effect.gen(function*() {
    if (moment === "during the upload") {
      yield* world.network.fault("push commit", after(edit))
      return { device, report: yield* device.sync.pushPending }
    }
    yield* world.network.fault(
      moment === "between commit and resume" ? "committed rows" : "push commit",
      moment === "between commit and resume" ? lost : answerLost
    )
    yield* Effect.flip(device.sync.pushPending)
    yield* edit
    yield* checkInvariants(device)
    const next = yield* world.restarted(device, offline)
    return { device: next, report: yield* next.sync.pushPending }
  })

const insert = (name: string) => `INSERT INTO users VALUES (:k, '${name}', NULL, 1)`
const update = (name: string) => `UPDATE users SET name = '${name}' WHERE id = :k`
const remove = "DELETE FROM users WHERE id = :k"

const payload = (id: string, name: string) => ({ id, name, email: null, score: 1 })

interface Result {
  readonly key: string
  /** A row of version 7 before. */
  readonly seeded: boolean
  readonly frozen: string
  readonly then: ReadonlyArray<string>
  readonly visible: string | undefined
  readonly state: "11 live" | "11 deleted"
  readonly dirty: "INSERT" | "UPDATE" | "DELETE" | undefined
}

/** push.md §9.4, and the rows of §9.2 in which nothing is left to upload: committed version 11, seed version 7. */
const results: ReadonlyArray<Result> = [
  {
    key: "a",
    seeded: true,
    frozen: update("First"),
    then: [update("Second")],
    visible: "Second",
    state: "11 live",
    dirty: "UPDATE"
  },
  {
    key: "b",
    seeded: true,
    frozen: update("First"),
    then: [remove],
    visible: undefined,
    state: "11 live",
    dirty: "DELETE"
  },
  {
    key: "c",
    seeded: true,
    frozen: remove,
    then: [insert("Recreated")],
    visible: "Recreated",
    state: "11 deleted",
    dirty: "INSERT"
  },
  {
    key: "d",
    seeded: false,
    frozen: insert("First"),
    then: [update("Second")],
    visible: "Second",
    state: "11 live",
    dirty: "UPDATE"
  },
  {
    key: "e",
    seeded: false,
    frozen: insert("First"),
    then: [remove],
    visible: undefined,
    state: "11 live",
    dirty: "DELETE"
  },
  { key: "f", seeded: true, frozen: update("First"), then: [], visible: "First", state: "11 live", dirty: undefined },
  { key: "g", seeded: true, frozen: remove, then: [], visible: undefined, state: "11 deleted", dirty: undefined },
  { key: "h", seeded: false, frozen: insert("First"), then: [], visible: "First", state: "11 live", dirty: undefined },
  // Edited and changed back: the live row equals the upload.
  {
    key: "i",
    seeded: true,
    frozen: update("First"),
    then: [update("Second"), update("First")],
    visible: "First",
    state: "11 live",
    dirty: undefined
  },
  {
    key: "j",
    seeded: true,
    frozen: remove,
    then: [insert("Shortly"), remove],
    visible: undefined,
    state: "11 deleted",
    dirty: undefined
  },
  {
    key: "k",
    seeded: false,
    frozen: insert("First"),
    then: [remove, insert("First")],
    visible: "First",
    state: "11 live",
    dirty: undefined
  }
]

const on = (device: Device, key: string, ...statements: ReadonlyArray<string>) =>
  Effect.forEach(statements, (statement) => device.run(statement.replaceAll(":k", `'${key}'`)), { discard: true })

/** Bundles of somebody else, so that the next one gets the number that is wanted. */
const fillUpTo = (world: World, bundleSeq: number) =>
  Effect.gen(function*() {
    for (;;) {
      const seq = yield* world.write([{ table: "users", key: "filler", payload: { name: "f", email: null, score: 0 } }])
      if (seq === bundleSeq) return
    }
  })

describe("what the replay of an edited row leaves behind", () => {
  for (const moment of moments) {
    it.scoped(`is the same whenever it was edited: ${moment} [push.md §9.2, §9.4]`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const fresh = yield* world.attached(offline)
        yield* fillUpTo(world, 6)
        yield* fresh.sync.pullToStable
        for (const { key, seeded } of results) if (seeded) yield* on(fresh, key, insert("Seed"))
        yield* fresh.sync.pushPending
        assert.strictEqual(yield* fresh.sync.lastBundleSeqSeen, 7)
        yield* fillUpTo(world, 10)
        for (const { frozen, key } of results) yield* on(fresh, key, frozen)
        const edits = Effect.forEach(results, ({ key, then }) => on(fresh, key, ...then), { discard: true })
        const { device, report } = yield* pushWith(world, fresh, moment, edits)
        const requeued = results.filter(({ dirty }) => dirty !== undefined)
        assert.deepInclude(report, {
          outcome: "committed",
          requeuedRowCount: requeued.length,
          discardedByServerCount: 0,
          conflictCount: 0
        })
        const states = yield* rowState(device)
        const pending = new Map((yield* dirtyRows(device)).map((row) => [row.row, row]))
        for (const { dirty, key, state, visible } of results) {
          assert.strictEqual(yield* value(device, `SELECT name FROM users WHERE id = '${key}'`), visible, key)
          assert.strictEqual(states[`users ${key}`], state, key)
          assert.deepStrictEqual(
            pending.get(`users ${key}`),
            dirty === undefined ? undefined : {
              row: `users ${key}`,
              op: dirty,
              base: 11,
              payload: visible === undefined ? null : payload(key, visible)
            },
            key
          )
        }
        assert.strictEqual(pending.size, requeued.length)
        assert.deepStrictEqual(yield* frozenRows(device), [])
        yield* checkInvariants(device)
        assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
        assert.deepStrictEqual(yield* dirtyRows(device), [])
        const rows = yield* world.serverRows
        for (const { key, visible } of results) {
          assert.deepStrictEqual(
            rows.get(`users ${key}`),
            visible === undefined ? undefined : payload(key, visible),
            key
          )
        }
        yield* checkInvariants(device)
      }))
  }

  it.scoped("keeps the ordinal of a row that was dirty again, and gives new ones behind it [push.md §9.3]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* device.run("INSERT INTO users VALUES ('u1', 'a', NULL, 1), ('u2', 'b', NULL, 1), ('u3', 'c', NULL, 1)")
      yield* world.network.fault(
        "push commit",
        after(Effect.gen(function*() {
          yield* device.run("UPDATE users SET name = 'x' WHERE id = 'u3'")
          yield* device.run("INSERT INTO users VALUES ('u4', 'd', NULL, 1)")
          yield* device.run("UPDATE users SET name = 'y' WHERE id = 'u1'")
        }))
      )
      yield* device.sync.pushPending
      assert.deepStrictEqual(
        (yield* dirtyRows(device)).map(({ base, op, row }) => `${op} ${row} ${base}`),
        ["UPDATE users u3 1", "INSERT users u4 0", "UPDATE users u1 1"]
      )
      yield* checkInvariants(device)
    }))
})

describe("a replay", () => {
  it.scoped("moves the checkpoint only if its bundle is exactly the next one [push.md §9 step 5]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* on(device, "u1", insert("A"))
      yield* device.sync.pushPending
      assert.strictEqual(yield* device.sync.lastBundleSeqSeen, 1)
      const fingerprint = "SELECT newest_bundle_seq || ' ' || newest_bundle_hash FROM _sync_engine_state"
      const first = yield* value(device, fingerprint)
      assert.match(String(first), /^1 [0-9a-f]{64}$/)
      yield* world.write([{ table: "users", key: "u2", payload: { name: "B", email: null, score: 1 } }])
      yield* on(device, "u1", update("A2"))
      yield* device.sync.pushPending
      assert.strictEqual(yield* device.sync.lastBundleSeqSeen, 1)
      assert.strictEqual(yield* value(device, fingerprint), first)
      assert.strictEqual((yield* rowState(device))["users u1"], "3 live")
      yield* device.sync.pullToStable
      assert.strictEqual(yield* device.sync.lastBundleSeqSeen, 3)
      yield* on(device, "u1", update("A3"))
      yield* device.sync.pushPending
      assert.strictEqual(yield* device.sync.lastBundleSeqSeen, 4)
      assert.match(String(yield* value(device, fingerprint)), /^4 [0-9a-f]{64}$/)
      yield* checkInvariants(device)
    }))

  it.scoped("raises the counter, empties outbox and stage, and never lowers the counter [push.md §9 steps 6 to 8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* on(device, "u1", insert("A"))
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(yield* nextNumber(device), 1)
      yield* device.run(
        "INSERT INTO _sync_push_stage VALUES (77, 0, 'business', 'users', '{\"id\":\"x\"}', 'DELETE', 5, NULL)"
      )
      yield* device.sync.pushPending
      assert.strictEqual(yield* nextNumber(device), 2)
      assert.strictEqual(yield* outboxState(device), "none")
      assert.strictEqual(yield* value(device, "SELECT count(*) FROM _sync_push_stage"), 0)
      yield* checkInvariants(device)
    }))

  it.scoped("takes over what the server has made of the values [push.md §9.3, values.md §8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({
        declared: [{
          schema: "business",
          table: "events",
          key: { column: "id", kind: "text" },
          columns: { at: "timestamptz", flag: "boolean", size: "double precision" }
        }]
      })
      const device = yield* world.attached({
        ...offline,
        ddl: ["CREATE TABLE events (id TEXT PRIMARY KEY NOT NULL, at TEXT, flag INTEGER, size REAL)"],
        tables: [{ name: "events", key: "id" }]
      })
      yield* device.run("INSERT INTO events VALUES ('e', '2026-03-22T12:00:00.500Z', 1, 2)")
      yield* device.sync.pushPending
      assert.deepStrictEqual(yield* device.run("SELECT at, flag, typeof(flag) AS type, size FROM events"), [
        { at: "2026-03-22T12:00:00.5+00:00", flag: 1, type: "integer", size: 2 }
      ])
      assert.deepStrictEqual(yield* dirtyRows(device), [])
      yield* checkInvariants(device)
    }))

  it.scoped("of a row that this database cannot hold is rolled back whole and names it; a wider table leads on [push.md §12]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({
        declared: [{
          schema: "business",
          table: "events",
          key: { column: "id", kind: "text" },
          columns: { size: "double precision", more: { kind: "text", default: "m" } }
        }]
      })
      const device = yield* world.attached({
        ...offline,
        ddl: ["CREATE TABLE events (id TEXT PRIMARY KEY NOT NULL, size REAL)"],
        tables: [{ name: "events", key: "id" }]
      })
      yield* device.run("INSERT INTO events VALUES ('e', 1), ('f', 2)")
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(device.sync.pushPending)
      const before = yield* dump(device, ["_sync_push_stage"])
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(error._tag, "LocalDataError")
      if (error._tag !== "LocalDataError") return
      assert.strictEqual(error.code, "payload_column_mismatch")
      assert.deepStrictEqual(error.row, { schema: "business", table: "events", key: "{\"id\":\"e\"}" })
      assert.strictEqual(error.action, "fix_configuration")
      assert.include(error.message, "payload for events")
      assert.deepStrictEqual(yield* dump(device, ["_sync_push_stage"]), before)
      yield* device.run("ALTER TABLE events ADD COLUMN more TEXT")
      yield* device.run("UPDATE events SET more = 'mine' WHERE id = 'f'")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      yield* device.sync.sync
      assert.deepStrictEqual(yield* dirtyRows(device), [])
      assert.strictEqual((yield* world.serverRows).size, 2)
      yield* checkInvariants(device)
    }))
})
