/** Which rows a freeze uploads, as what, in which order; and that nothing is left behind (push.md §3, capture.md §7.2). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty, dirtyRows, frozen, frozenRows, header, outboxState, rowState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { serverTables } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { lost } from "./support/Network.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

/** One attempt a request: a lost one ends the push. */
const offline = { retryPolicy: { enabled: false } }

/** Freezes what is pending; nothing of it reaches the server. */
const freeze = (world: World, device: Device) =>
  Effect.gen(function*() {
    yield* world.network.fault("push create", lost)
    const failure = yield* Effect.flip(device.sync.pushPending)
    assert.strictEqual(failure._tag, "TransportError")
    yield* checkInvariants(device)
  })

/** What the host does to a row; `k` is its key. */
const write = "INSERT INTO users VALUES (:k, 'written', NULL, 1) ON CONFLICT (id) DO UPDATE SET name = 'written'"
const touch = "UPDATE users SET name = name WHERE id = :k"
const remove = "DELETE FROM users WHERE id = :k"
const rekey = "UPDATE users SET id = :k || '-moved' WHERE id = :k"

interface Derivation {
  readonly key: string
  /** `live`: version 1; `tombstone`: version 2; `none`: the server never had the row. */
  readonly state: "live" | "tombstone" | "none"
  readonly host: ReadonlyArray<string>
  readonly frozen: ReadonlyArray<string>
}

/** push.md §3 (live row × row state), with the coalescing of capture.md §6 in front of it. */
const derivations: ReadonlyArray<Derivation> = [
  { key: "a1", state: "live", host: [write], frozen: ["UPDATE users a1 base 1"] },
  { key: "a2", state: "live", host: [touch], frozen: ["UPDATE users a2 base 1"] },
  { key: "a3", state: "live", host: [remove, write], frozen: ["UPDATE users a3 base 1"] },
  { key: "b1", state: "none", host: [write], frozen: ["INSERT users b1 base 0"] },
  { key: "b2", state: "none", host: [write, remove, write], frozen: ["INSERT users b2 base 0"] },
  { key: "b3", state: "tombstone", host: [write], frozen: ["INSERT users b3 base 2"] },
  { key: "b4", state: "tombstone", host: [write, touch], frozen: ["INSERT users b4 base 2"] },
  { key: "c1", state: "live", host: [remove], frozen: ["DELETE users c1 base 1"] },
  { key: "c2", state: "live", host: [write, remove], frozen: ["DELETE users c2 base 1"] },
  { key: "d1", state: "none", host: [write, remove], frozen: [] },
  { key: "d2", state: "tombstone", host: [write, remove], frozen: [] },
  { key: "e1", state: "live", host: [rekey], frozen: ["INSERT users e1-moved base 0", "DELETE users e1 base 1"] },
  { key: "e2", state: "none", host: [write, rekey], frozen: ["INSERT users e2-moved base 0"] }
]

const synced = Effect.gen(function*() {
  const world = yield* makeWorld()
  const device = yield* world.attached(offline)
  for (const { key, state } of derivations) {
    if (state !== "none") yield* device.run("INSERT INTO users VALUES (?, 'first', NULL, 1)", [key])
  }
  yield* device.sync.pushPending
  for (const { key, state } of derivations) {
    if (state === "tombstone") yield* device.run("DELETE FROM users WHERE id = ?", [key])
  }
  yield* device.sync.pushPending
  return { world, device }
})

const hostWrites = (device: Device, { host, key }: Derivation) =>
  Effect.forEach(host, (statement) => device.run(statement.replaceAll(":k", `'${key}'`)), { discard: true })

describe("freezing", () => {
  it.scoped("derives the operation from the live row and the row state, and takes the base as captured [push.md §3]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* synced
      for (const derivation of derivations) yield* hostWrites(device, derivation)
      yield* freeze(world, device)
      const upload = yield* frozen(device)
      for (const { frozen: expected, host, key, state } of derivations) {
        assert.deepStrictEqual(
          upload.filter((row) => row.includes(` ${key} `) || row.includes(` ${key}-moved `)),
          expected,
          `${state}, ${host.join("; ")}`
        )
      }
      assert.lengthOf(upload, derivations.flatMap((derivation) => derivation.frozen).length)
      assert.deepStrictEqual(yield* dirty(device), [])
    }))

  it.scoped("uploads the live row, whatever the trigger of another connection has written [push.md §3 D]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* synced
      yield* device.run("UPDATE users SET name = 'live', score = 2.5 WHERE id = 'a1'")
      yield* device.run("UPDATE _sync_dirty_rows SET payload = '{\"id\":\"a1\",\"name\":\"older\"}', op = 'INSERT'")
      yield* device.run("DELETE FROM users WHERE id = 'a2'")
      yield* device.run("UPDATE _sync_dirty_rows SET payload = '{}', op = 'UPDATE' WHERE key_json = '{\"id\":\"a2\"}'")
      yield* freeze(world, device)
      assert.deepStrictEqual(yield* frozenRows(device), [
        { row: "users a1", op: "UPDATE", base: 1, payload: { id: "a1", name: "live", email: null, score: 2.5 } },
        { row: "users a2", op: "DELETE", base: 1, payload: null }
      ])
    }))

  it.scoped("of nothing but rows that came and went commits their disappearance and asks nobody [push.md §3 step 7]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* synced
      for (const derivation of derivations.filter((one) => one.frozen.length === 0)) {
        yield* hostWrites(device, derivation)
      }
      assert.lengthOf(yield* dirtyRows(device), 2)
      yield* world.network.asked
      const report = yield* device.sync.pushPending
      assert.strictEqual(report.outcome, "no_change")
      assert.strictEqual(report.status.pending.pendingRowCount, 0)
      assert.deepStrictEqual(yield* dirty(device), [])
      assert.strictEqual(yield* outboxState(device), "none")
      assert.deepStrictEqual(yield* world.network.asked, [])
      yield* checkInvariants(device)
      assert.strictEqual((yield* device.sync.pullToStable).outcome, "already_at_target")
      assert.strictEqual((yield* device.sync.detach).outcome, "detached")
    }))

  it.scoped("writes a header with source, number, count and hash, and keeps it until it is finished [push.md §3]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* synced
      yield* device.run("UPDATE users SET name = 'x' WHERE id IN ('a1', 'a2')")
      yield* freeze(world, device)
      const before = yield* header(device)
      const { currentSourceId } = yield* device.sync.sourceInfo
      assert.deepStrictEqual(before, {
        state: "prepared",
        sourceId: currentSourceId,
        sourceBundleId: 3,
        rowCount: 2,
        bundleSeq: 0
      })
      yield* device.run("UPDATE users SET name = 'y' WHERE id = 'a1'")
      yield* freeze(world, device)
      assert.deepStrictEqual(yield* header(device), before)
      assert.deepStrictEqual(yield* frozen(device), ["UPDATE users a1 base 1", "UPDATE users a2 base 1"])
      assert.deepStrictEqual(yield* dirty(device), ["UPDATE users a1 base 1"])
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual(yield* dirty(device), ["UPDATE users a1 base 3"])
      yield* checkInvariants(device)
    }))
})

/** A tree of categories, and teams with members whose tables refer to each other. */
const family = {
  ddl: [
    "CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, shelf TEXT REFERENCES shelves (id))",
    "CREATE TABLE shelves (id TEXT PRIMARY KEY NOT NULL, name TEXT)",
    `CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL,
       parent TEXT REFERENCES nodes (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)`,
    `CREATE TABLE members (id TEXT PRIMARY KEY NOT NULL,
       team TEXT REFERENCES teams (id) DEFERRABLE INITIALLY DEFERRED)`,
    `CREATE TABLE teams (id TEXT PRIMARY KEY NOT NULL,
       captain TEXT REFERENCES members (id) DEFERRABLE INITIALLY DEFERRED)`
  ],
  tables: ["items", "shelves", "nodes", "members", "teams"].map((name) => ({ name, key: "id" }))
}

const familyOnServer = family.tables.map(({ name }) => ({
  schema: "business",
  table: name,
  key: { column: "id", kind: "text" as const }
}))

describe("the order of an upload", () => {
  it.scoped("is writes parents first, then deletes children first, each by first capture [capture.md §7.2]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared: [...serverTables, ...familyOnServer] })
      const device = yield* world.attached({ ...offline, ...family })
      const two = (table: string, ...ids: ReadonlyArray<string>) =>
        Effect.forEach(ids, (id) => device.run(`INSERT INTO ${table} VALUES (?, NULL)`, [id]), { discard: true })
      yield* two("shelves", "s1", "s2")
      yield* two("items", "i1", "i2")
      yield* device.run("INSERT INTO nodes VALUES ('root', NULL), ('leaf', 'root')")
      yield* device.sync.pushPending

      yield* device.run("INSERT INTO items VALUES ('i3', 's1')")
      yield* device.run("BEGIN")
      // A child before its parent, and a circle: only the end of the transaction counts.
      yield* device.run("INSERT INTO nodes VALUES ('below', 'above')")
      yield* device.run("INSERT INTO nodes VALUES ('above', NULL)")
      yield* device.run("INSERT INTO members VALUES ('m1', 't1')")
      yield* device.run("INSERT INTO teams VALUES ('t1', 'm1')")
      yield* device.run("COMMIT")
      yield* device.run("DELETE FROM nodes WHERE id = 'root'")
      yield* device.run("DELETE FROM shelves WHERE id = 's2'")
      yield* device.run("DELETE FROM items WHERE id = 'i2'")
      yield* device.run("UPDATE shelves SET name = 'x' WHERE id = 's1'")
      yield* device.run("DELETE FROM items WHERE id = 'i1'")
      yield* freeze(world, device)
      assert.deepStrictEqual(yield* frozen(device), [
        "UPDATE shelves s1 base 1",
        "INSERT items i3 base 0",
        "INSERT nodes below base 0",
        "INSERT nodes above base 0",
        "INSERT members m1 base 0",
        "INSERT teams t1 base 0",
        // A cascade captures the children before the parent's own delete.
        "DELETE nodes leaf base 1",
        "DELETE nodes root base 1",
        "DELETE items i2 base 1",
        "DELETE items i1 base 1",
        "DELETE shelves s2 base 1"
      ])
      const report = yield* device.sync.pushPending
      assert.strictEqual(report.outcome, "committed")
      yield* checkInvariants(device)
      assert.deepInclude(yield* rowState(device), { "nodes root": "2 deleted", "teams t1": "2 live" })
      const other = yield* world.attached(family)
      assert.deepStrictEqual(yield* other.run("SELECT * FROM nodes ORDER BY id"), [
        { id: "above", parent: null },
        { id: "below", parent: "above" }
      ])
      assert.deepStrictEqual(yield* other.run("SELECT * FROM teams"), [{ id: "t1", captain: "m1" }])
    }))
})
