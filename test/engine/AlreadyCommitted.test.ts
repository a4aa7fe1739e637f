/** `already_committed`: whose bundle is it, and a source of its own if it is another writer's (push.md §8). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty, dump, frozen, header, nextNumber, outboxState, rowState, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { answerLost, before, changed, lost } from "./support/Network.js"
import type { World } from "./support/World.js"
import { contents, makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

const sourceOf = (device: Device) => Effect.map(device.sync.sourceInfo, ({ currentSourceId }) => currentSourceId)

const opened = (device: Device) =>
  Effect.zipRight(device.sync.open, device.sync.attach("ann")).pipe(Effect.orDie, Effect.as(device))

/** Two devices on copies of one database: the same source, the same next number. Rows k1 … k9 live at version 1. */
const twins = Effect.gen(function*() {
  const world = yield* makeWorld()
  const one = yield* world.attached(offline)
  for (let key = 1; key <= 9; key++) yield* one.run("INSERT INTO users VALUES (?, 'Seed', NULL, 1)", [`k${key}`])
  yield* one.sync.pushPending
  const two = yield* Effect.flatMap(world.copyOf(one, offline), opened)
  assert.strictEqual(yield* sourceOf(one), yield* sourceOf(two))
  return { world, one, two }
})

const set = (name: string) => `UPDATE users SET name = '${name}' WHERE id = :k`
const insert = (name: string) => `INSERT INTO users VALUES (:k, '${name}', NULL, 1)`
const remove = "DELETE FROM users WHERE id = :k"

const on = (device: Device, key: string, statement: string | undefined) =>
  statement === undefined ? Effect.void : device.run(statement.replaceAll(":k", `'${key}'`))

interface Line {
  readonly what: string
  readonly key: string
  /** What the twin has committed under the number. */
  readonly bundle: string | undefined
  /** What this device has frozen for it. */
  readonly frozen: string | undefined
  /** What the host writes before the push is resumed. */
  readonly edit?: string
  readonly visible: string | undefined
  readonly state: string | undefined
  readonly dirty: string | undefined
}

/** push.md §8.1, each line on a row of its own; the twin's bundle has version 2. */
const classification: ReadonlyArray<Line> = [
  {
    what: "equal",
    key: "k1",
    bundle: set("Same"),
    frozen: set("Same"),
    visible: "Same",
    state: "2 live",
    dirty: undefined
  },
  {
    what: "both deleted",
    key: "k2",
    bundle: remove,
    frozen: remove,
    visible: undefined,
    state: "2 deleted",
    dirty: undefined
  },
  {
    what: "other payload",
    key: "k3",
    bundle: set("Two"),
    frozen: set("One"),
    visible: "One",
    state: "2 live",
    dirty: "UPDATE users k3 base 2"
  },
  {
    what: "other payload of a new row",
    key: "n1",
    bundle: insert("Two"),
    frozen: insert("One"),
    visible: "One",
    state: "2 live",
    dirty: "UPDATE users n1 base 2"
  },
  {
    what: "delete against update",
    key: "k4",
    bundle: set("Two"),
    frozen: remove,
    visible: undefined,
    state: "2 live",
    dirty: "DELETE users k4 base 2"
  },
  {
    what: "update against delete",
    key: "k5",
    bundle: remove,
    frozen: set("One"),
    visible: "One",
    state: "2 deleted",
    dirty: "INSERT users k5 base 2"
  },
  {
    what: "absent update",
    key: "k6",
    bundle: undefined,
    frozen: set("One"),
    visible: "One",
    state: "1 live",
    dirty: "UPDATE users k6 base 1"
  },
  {
    what: "absent delete",
    key: "k7",
    bundle: undefined,
    frozen: remove,
    visible: undefined,
    state: "1 live",
    dirty: "DELETE users k7 base 1"
  },
  {
    what: "absent insert",
    key: "n2",
    bundle: undefined,
    frozen: insert("One"),
    visible: "One",
    state: undefined,
    dirty: "INSERT users n2 base 0"
  },
  {
    what: "extra row",
    key: "k8",
    bundle: set("Two"),
    frozen: undefined,
    visible: "Two",
    state: "2 live",
    dirty: undefined
  },
  {
    what: "extra new row",
    key: "n3",
    bundle: insert("Two"),
    frozen: undefined,
    visible: "Two",
    state: "2 live",
    dirty: undefined
  },
  {
    what: "extra row that is dirty",
    key: "k9",
    bundle: set("Two"),
    frozen: undefined,
    edit: set("Late"),
    visible: "Late",
    state: "2 live",
    dirty: "UPDATE users k9 base 2"
  },
  {
    what: "equal, then edited",
    key: "n4",
    bundle: insert("Same"),
    frozen: insert("Same"),
    edit: set("Late"),
    visible: "Late",
    state: "2 live",
    dirty: "UPDATE users n4 base 2"
  },
  {
    what: "other payload, then edited",
    key: "n5",
    bundle: insert("Two"),
    frozen: insert("One"),
    edit: set("Late"),
    visible: "Late",
    state: "2 live",
    dirty: "UPDATE users n5 base 2"
  },
  {
    what: "other payload, then deleted",
    key: "n6",
    bundle: insert("Two"),
    frozen: insert("One"),
    edit: remove,
    visible: undefined,
    state: "2 live",
    dirty: "DELETE users n6 base 2"
  },
  {
    what: "absent, then edited",
    key: "n7",
    bundle: undefined,
    frozen: insert("One"),
    edit: set("Late"),
    visible: "Late",
    state: undefined,
    dirty: "INSERT users n7 base 0"
  }
]

describe("a bundle of another writer under the own number", () => {
  it.scoped("is taken over, and every intent of this database stays pending [push.md §8.1]", () =>
    Effect.gen(function*() {
      const { one, two, world } = yield* twins
      for (const { bundle, key } of classification) yield* on(two, key, bundle)
      yield* two.sync.pushPending
      for (const { frozen, key } of classification) yield* on(one, key, frozen)
      yield* world.network.fault("push create", lost)
      yield* Effect.flip(one.sync.pushPending)
      assert.strictEqual(yield* outboxState(one), "prepared")
      for (const { edit, key } of classification) yield* on(one, key, edit)
      const old = yield* sourceOf(one)
      const report = yield* one.sync.pushPending
      assert.deepInclude(report, { outcome: "committed", conflictCount: 0, discardedByServerCount: 0 })
      const pending = yield* dirty(one)
      const states = yield* rowState(one)
      for (const { dirty: expected, key, state, visible, what } of classification) {
        assert.strictEqual(yield* value(one, `SELECT name FROM users WHERE id = '${key}'`), visible, what)
        assert.strictEqual(states[`users ${key}`], state, what)
        assert.deepStrictEqual(
          pending.filter((row) => row.includes(` ${key} `)),
          expected === undefined ? [] : [expected],
          what
        )
      }
      const requeued = classification.filter((line) => line.frozen !== undefined && line.dirty !== undefined)
      assert.strictEqual(report.requeuedRowCount, requeued.length)
      assert.deepStrictEqual(yield* frozen(one), [])
      assert.notStrictEqual(yield* sourceOf(one), old)
      yield* checkInvariants(one)
    }))

  it.scoped("gives this database a source of its own, without a word to the server [push.md §8.2]", () =>
    Effect.gen(function*() {
      const { one, two, world } = yield* twins
      const old = yield* sourceOf(one)
      yield* two.run("UPDATE users SET name = 'Two' WHERE id = 'k1'")
      yield* two.sync.pushPending
      yield* one.run("UPDATE users SET name = 'One' WHERE id = 'k1'")
      yield* world.network.asked
      yield* one.sync.pushPending
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "committed rows"])
      const fresh = yield* sourceOf(one)
      assert.deepStrictEqual(
        yield* one.run(
          "SELECT source_id, next_source_bundle_id AS next, replaced_by_source_id AS successor, owner_user_id AS owner FROM _sync_source_state ORDER BY rowid"
        ),
        [
          { source_id: old, next: 3, successor: fresh, owner: "ann" },
          { source_id: fresh, next: 1, successor: "", owner: "ann" }
        ]
      )
      yield* checkInvariants(one)
      // The memory knows it as well: the next upload goes under the new source, as its first.
      yield* one.sync.pushPending
      const create = world.network.requests.findLast(({ route }) => route === "push create")
      assert.strictEqual(create?.source, fresh)
      assert.strictEqual(JSON.parse(create?.body ?? "").source_bundle_id, 1)
      // To the server the twin's source is as valid as before.
      yield* two.run("UPDATE users SET name = 'Two again' WHERE id = 'k2'")
      assert.strictEqual((yield* two.sync.pushPending).outcome, "committed")
      assert.strictEqual(yield* sourceOf(two), old)
      const restarted = yield* world.restarted(one)
      assert.strictEqual(yield* sourceOf(restarted), fresh)
    }))

  it.scoped("with the very same rows is no reason for a new source [push.md §8.2]", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twins
      for (const device of [two, one]) {
        yield* device.run("UPDATE users SET name = 'Same' WHERE id = 'k1'")
        yield* device.sync.pushPending
      }
      assert.strictEqual(yield* sourceOf(one), yield* sourceOf(two))
      assert.deepStrictEqual(yield* dirty(one), [])
      assert.strictEqual(yield* nextNumber(one), 3)
      yield* checkInvariants(one)
    }))

  it.scoped("older than a frozen intent leaves that intent as it was, and the row alone [push.md §8.1, §9.3]", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twins
      yield* two.run("UPDATE users SET name = 'Two', score = 2 WHERE id IN ('k1', 'k2', 'k3')")
      yield* two.sync.pushPending
      // This database pulls the twin's bundle, whose number it then uses itself.
      yield* one.sync.pullToStable
      yield* one.run("UPDATE users SET name = 'One' WHERE id IN ('k1', 'k4')")
      yield* one.run("DELETE FROM users WHERE id = 'k2'")
      const before = yield* rowState(one)
      const report = yield* one.sync.pushPending
      assert.strictEqual(report.requeuedRowCount, 3)
      assert.deepStrictEqual(yield* dirty(one), [
        "UPDATE users k1 base 2",
        "UPDATE users k4 base 1",
        "DELETE users k2 base 2"
      ])
      assert.deepStrictEqual(yield* rowState(one), before)
      assert.deepStrictEqual(yield* one.run("SELECT name, score FROM users WHERE id IN ('k1', 'k3') ORDER BY id"), [
        { name: "One", score: 2 },
        { name: "Two", score: 2 }
      ])
      yield* checkInvariants(one)
      assert.deepInclude(yield* one.sync.pushPending, { outcome: "committed", conflictCount: 0 })
    }))

  it.scoped("overtaken on the server since then gives way to what is there now, edits on top of it stay [push.md §8.1, §9.3]", () =>
    Effect.gen(function*() {
      const { one, two, world } = yield* twins
      const three = yield* world.attached()
      for (const device of [two, one]) {
        yield* device.run("UPDATE users SET name = 'Same' WHERE id IN ('k1', 'k2')")
        yield* device.run("DELETE FROM users WHERE id = 'k3'")
        yield* device.run("INSERT INTO users VALUES ('n1', 'New', NULL, 1), ('n2', 'New', NULL, 1)")
        if (device === two) yield* two.sync.pushPending
      }
      yield* three.sync.pullToStable
      yield* three.run("UPDATE users SET name = 'Newer' WHERE id IN ('k1', 'k2')")
      yield* three.run("INSERT INTO users VALUES ('k3', 'Back', NULL, 3)")
      yield* three.run("DELETE FROM users WHERE id IN ('n1', 'n2')")
      yield* three.sync.sync
      // The snapshot knows the newer versions; the pending rows stay as they are over it.
      yield* one.sync.rebuild
      yield* world.network.fault("push create", lost)
      yield* Effect.flip(one.sync.pushPending)
      yield* one.run("UPDATE users SET name = 'Late' WHERE id IN ('k2', 'n2')")
      assert.deepInclude(yield* one.sync.pushPending, { outcome: "committed", requeuedRowCount: 2, conflictCount: 0 })
      yield* checkInvariants(one)
      assert.deepStrictEqual([...(yield* dirty(one))].sort(), ["INSERT users n2 base 2", "UPDATE users k2 base 2"])
      assert.deepStrictEqual(
        yield* one.run("SELECT id, name FROM users WHERE id NOT IN ('k4', 'k5', 'k6', 'k7', 'k8', 'k9') ORDER BY id"),
        [
          { id: "k1", name: "Newer" },
          { id: "k2", name: "Late" },
          { id: "k3", name: "Back" },
          { id: "n2", name: "Late" }
        ]
      )
      assert.strictEqual((yield* one.sync.pushPending).conflictCount, 2)
      yield* one.sync.sync
      assert.deepStrictEqual(yield* contents(one), yield* contents(three))
    }))

  it.scoped("deleted on the server since then is not brought back [push.md §8.1, §9.3]", () =>
    Effect.gen(function*() {
      const { one, two, world } = yield* twins
      const three = yield* world.attached()
      for (const device of [two, one]) {
        yield* device.run("INSERT INTO users VALUES ('n1', 'New', NULL, 1)")
        if (device === two) yield* two.sync.pushPending
      }
      yield* three.sync.pullToStable
      yield* three.run("DELETE FROM users WHERE id = 'n1'")
      yield* three.sync.sync
      yield* one.sync.rebuild
      yield* one.sync.sync
      yield* checkInvariants(one)
      assert.deepStrictEqual(yield* contents(one), yield* contents(three))
    }))

  it.scoped("separates twins in the end: both converge and nothing is lost [push.md §8.2, recovery.md §2.3]", () =>
    Effect.gen(function*() {
      const { one, two, world } = yield* twins
      for (const [device, name] of [[one, "One"], [two, "Two"]] as const) {
        for (let round = 1; round <= 3; round++) {
          yield* device.run("INSERT INTO users VALUES (?, ?, NULL, ?)", [`${name} ${round}`, name, round])
        }
      }
      for (let round = 0; round < 3; round++) {
        for (const device of [one, two]) {
          yield* device.sync.sync
          yield* checkInvariants(device)
        }
      }
      assert.notStrictEqual(yield* sourceOf(one), yield* sourceOf(two))
      for (const device of [one, two]) assert.deepStrictEqual(yield* dirty(device), [])
      assert.deepStrictEqual(yield* contents(one), yield* contents(two))
      assert.strictEqual(yield* value(one, "SELECT count(*) FROM users"), 15)
      assert.strictEqual((yield* world.serverRows).size, 15)
    }))
})

describe("an own bundle whose commit was not answered", () => {
  const events = {
    ddl: ["CREATE TABLE events (id TEXT PRIMARY KEY NOT NULL, at TEXT, flag INTEGER, size REAL, note TEXT, data BLOB)"],
    tables: [{ name: "events", key: "id" }]
  }

  it.scoped("is recognised whatever the server has done to the spelling of its values [push.md §8.1, payload-codec.md §6.2]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({
        declared: [{
          schema: "business",
          table: "events",
          key: { column: "id", kind: "text" },
          columns: { at: "timestamptz", flag: "boolean", size: "double precision", note: "text", data: "bytea" }
        }]
      })
      const device = yield* world.attached({ ...offline, ...events })
      yield* device.run(
        "INSERT INTO events VALUES ('e', '2026-03-22T13:00:00.500+01:00', 1, 2, '5', x'00ff'), ('f', NULL, 0, 1e21, 'é', x'')"
      )
      yield* world.network.fault("push commit", answerLost)
      yield* Effect.flip(device.sync.pushPending)
      const source = yield* sourceOf(device)
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, { outcome: "committed", requeuedRowCount: 0, conflictCount: 0 })
      assert.strictEqual(yield* sourceOf(device), source)
      assert.strictEqual(yield* value(device, "SELECT at FROM events WHERE id = 'e'"), "2026-03-22T12:00:00.5+00:00")
      assert.deepStrictEqual(yield* dirty(device), [])
      yield* checkInvariants(device)
    }))

  it.scoped("is replayed without a session or a chunk, and the header stays prepared until then [push.md §4, §11]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* device.run("INSERT INTO users VALUES ('u', 'A', NULL, 1)")
      yield* world.network.fault("push commit", answerLost)
      yield* Effect.flip(device.sync.pushPending)
      yield* device.sync.resetTransfer("push")
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(yield* outboxState(device), "prepared")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual(yield* device.sync.pushTransfer, {
        sessionsCreated: 0,
        chunksUploaded: 0,
        committedBundleChunksRead: 1
      })
      yield* checkInvariants(device)
    }))
})

/** The commit is answered and recorded, but its rows are not fetched. */
const recorded = (world: World) =>
  Effect.gen(function*() {
    const device = yield* world.attached(offline)
    yield* device.run("INSERT INTO users VALUES ('u1', 'A', NULL, 1), ('u2', 'B', NULL, 2)")
    yield* world.network.fault("committed rows", lost)
    yield* Effect.flip(device.sync.pushPending)
    assert.strictEqual(yield* outboxState(device), "committed_remote")
    return device
  })

describe("a commit that was recorded", () => {
  it.scoped("needs no proof when create answers the same bundle [push.md §8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* recorded(world)
      // What was edited since is decided by the live row alone; nothing is compared with the bundle.
      yield* device.run("UPDATE _sync_outbox_rows SET wire_payload = replace(wire_payload, '\"A\"', '\"Z\"')")
      const source = yield* sourceOf(device)
      assert.deepInclude(yield* device.sync.pushPending, { outcome: "committed", requeuedRowCount: 0 })
      assert.strictEqual(yield* sourceOf(device), source)
      yield* checkInvariants(device)
    }))

  it.scoped("is an unproven one when create answers another bundle [push.md §4 D, client-state.md §2.7]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* recorded(world)
      yield* device.run("UPDATE _sync_outbox_bundle SET remote_bundle_hash = 'another', row_count = 7")
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude(yield* header(device), { state: "prepared", rowCount: 2, bundleSeq: 0 })
      yield* checkInvariants(device)
      assert.deepInclude(yield* device.sync.pushPending, { outcome: "committed", requeuedRowCount: 0 })
      assert.deepStrictEqual(yield* dirty(device), [])
      yield* checkInvariants(device)
    }))

  it.scoped("goes up again when create answers staging: the server has forgotten it [push.md §4 D]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const first = yield* world.attached(offline)
      yield* first.run("INSERT INTO users VALUES ('u0', '0', NULL, 0)")
      yield* first.sync.pushPending
      const backup = yield* world.backup
      yield* first.run("INSERT INTO users VALUES ('u1', 'A', NULL, 1), ('u2', 'B', NULL, 2)")
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(first.sync.pushPending)
      assert.strictEqual(yield* outboxState(first), "committed_remote")
      // As if the server had committed more rows than were uploaded: the count of the header is the server's.
      yield* first.run("UPDATE _sync_outbox_bundle SET row_count = 5")
      yield* world.restore(backup, { renewHistory: false })
      yield* world.network.fault("push chunk", lost)
      yield* Effect.flip(first.sync.pushPending)
      assert.deepInclude(yield* header(first), { state: "prepared", rowCount: 2, bundleSeq: 0, sourceBundleId: 2 })
      assert.deepStrictEqual(yield* frozen(first), ["INSERT users u1 base 0", "INSERT users u2 base 0"])
      yield* checkInvariants(first)
      assert.strictEqual((yield* first.sync.pushPending).outcome, "committed")
      assert.strictEqual((yield* world.serverRows).size, 3)
      yield* checkInvariants(first)
    }))

  it.scoped("and whose create is answered with nonsense stays as it is [push.md §4]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* recorded(world)
      const before = yield* dump(device)
      yield* world.network.fault("push create", changed((body) => ({ ...body, source_id: "somebody" })))
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "ProtocolError", rule: "echo_mismatch" })
      assert.deepStrictEqual(yield* dump(device), before)
    }))
})

describe("twins that push at the same time", () => {
  it.scoped("lose no row when one replaces the other's session between two requests [recovery.md §2.3]", () =>
    Effect.gen(function*() {
      const { one, two, world } = yield* twins
      yield* one.run("INSERT INTO users VALUES ('one', 'One', NULL, 1)")
      yield* two.run("INSERT INTO users VALUES ('two', 'Two', NULL, 2)")
      // While the first uploads, the second does its whole push.
      yield* world.network.fault("push commit", before(two.sync.pushPending))
      const lostSession = yield* Effect.either(one.sync.pushPending)
      assert.strictEqual(lostSession._tag, "Left")
      for (let round = 0; round < 3; round++) {
        for (const device of [one, two]) yield* device.sync.sync
      }
      for (const device of [one, two]) {
        assert.deepStrictEqual(yield* dirty(device), [])
        yield* checkInvariants(device)
        assert.strictEqual(yield* value(device, "SELECT count(*) FROM users"), 11)
      }
      assert.strictEqual((yield* world.serverRows).size, 11)
    }))

  it.scoped("take over the source that the twin has rotated to [recovery.md §2.3, push.md §5.1]", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twins
      yield* two.run("INSERT INTO users VALUES ('two', 'Two', NULL, 2)")
      yield* one.run("INSERT INTO users VALUES ('one', 'One', NULL, 1)")
      // The first upload of the twin is answered with an evidence that makes it rotate.
      yield* two.run("UPDATE _sync_source_state SET next_source_bundle_id = 9")
      assert.strictEqual((yield* Effect.flip(two.sync.pushPending))._tag, "SourceRecoveryRequired")
      yield* two.sync.rebuild
      const next = yield* sourceOf(two)
      const error = yield* Effect.flip(one.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "SourceRecoveryRequired", reason: "source_retired" })
      assert.strictEqual(yield* value(one, "SELECT replacement_source_id FROM _sync_operation_state"), next)
      yield* checkInvariants(one)
      yield* one.sync.rebuild
      for (let round = 0; round < 3; round++) {
        for (const device of [two, one]) yield* device.sync.sync
      }
      for (const device of [one, two]) {
        assert.deepStrictEqual(yield* dirty(device), [])
        assert.strictEqual(yield* value(device, "SELECT count(*) FROM users"), 11)
        yield* checkInvariants(device)
      }
      assert.notStrictEqual(yield* sourceOf(one), yield* sourceOf(two))
    }))
})
