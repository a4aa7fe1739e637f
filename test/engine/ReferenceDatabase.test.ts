import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty, frozen, header, rowState, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { refused } from "./support/Network.js"
import { asReference, escaped } from "./support/Reference.js"
import { durableState, states } from "./support/States.js"
import type { StateName } from "./support/States.js"
import { contents, makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const once = { retryPolicy: { enabled: false } } as const

const oddKeys = ["a&b", "<tag>", "line\u2028end", "par\u2029end", "quote\"back\\slash", "ümlaut", "tab\tnew\nline"]

/** A device in step with the server whose keys have the characters that the reference spells in its own way. */
const oddlyKeyed = (world: World) =>
  Effect.gen(function*() {
    const device = yield* world.device(once)
    for (const [index, key] of oddKeys.entries()) {
      yield* device.run("INSERT INTO users VALUES (?, ?, NULL, ?)", [key, `name ${index}`, index])
    }
    yield* device.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', x'01')")
    yield* device.sync.open
    yield* device.sync.attach("ann")
    yield* device.sync.sync
    return device
  }).pipe(Effect.orDie)

/** The new engine on what the reference has left: constructed, opened, attached. */
const adopted = (world: World, reference: Device) =>
  Effect.gen(function*() {
    const device = yield* world.replaced(reference, once)
    yield* device.sync.open
    yield* checkInvariants(device)
    yield* device.sync.attach("ann")
    return device
  }).pipe(Effect.orDie)

const sameAsServer = (world: World, device: Device) =>
  Effect.gen(function*() {
    const server = yield* world.serverRows
    const { users = [] } = yield* contents(device, ["users"])
    assert.deepStrictEqual(
      Object.fromEntries(
        users.map(({ email, id, name, score }) => [`users ${String(id)}`, { id, name, email, score }])
      ),
      Object.fromEntries([...server].filter(([key]) => key.startsWith("users ")))
    )
  })

describe("a database of the reference opens and continues [DESIGN D10, capture.md quirk 3]", () => {
  it("spells keys as the reference does", () => {
    assert.strictEqual(
      escaped("{\"id\":\"a&b<c>\u2028\u2029\"}"),
      "{\"id\":\"a\\u0026b\\u003cc\\u003e\\u2028\\u2029\"}"
    )
  })

  it.scoped("in step with the server: keys are rewritten once, nothing is pending, the session resumes", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const original = yield* oddlyKeyed(world)
      const before = yield* rowState(original)
      const source = (yield* original.sync.sourceInfo).currentSourceId
      const reference = yield* asReference(original)
      assert.strictEqual(
        yield* value(
          reference,
          `SELECT count(*) FROM _sync_row_state WHERE key_json LIKE '%\\u00%' OR key_json LIKE '%\\u20%'`
        ),
        4
      )
      yield* world.network.asked
      const device = yield* adopted(world, reference)
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.deepStrictEqual(yield* rowState(device), before)
      assert.strictEqual((yield* device.sync.syncStatus).pending.pendingRowCount, 0)
      assert.strictEqual((yield* device.sync.sourceInfo).currentSourceId, source)
      assert.strictEqual(yield* value(device, "SELECT owner_user_id FROM _sync_source_state"), "ann")
      assert.deepStrictEqual(yield* device.sync.sync.pipe(Effect.map(({ pushOutcome }) => pushOutcome)), "no_change")
    }))

  it.scoped("changes under every key go up on the version that the row had: no conflict, no second identity", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* adopted(world, yield* asReference(yield* oddlyKeyed(world)))
      yield* device.run("UPDATE users SET name = name || ' changed'")
      yield* device.run("DELETE FROM users WHERE id = '<tag>'")
      const pushed = yield* device.sync.pushPending
      assert.deepStrictEqual([pushed.outcome, pushed.conflictCount, pushed.status.pending.pendingRowCount], [
        "committed",
        0,
        0
      ])
      yield* checkInvariants(device)
      yield* sameAsServer(world, device)
      yield* world.write([{ table: "users", key: "a&b", payload: { name: "from afar", email: null, score: 1 } }])
      yield* device.sync.sync
      yield* sameAsServer(world, device)
      yield* checkInvariants(device)
    }))

  it.scoped("what was captured as new under the other spelling gets the version of its row state", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const original = yield* oddlyKeyed(world)
      const reference = yield* asReference(original, [
        "UPDATE _sync_apply_state SET apply_mode = 1",
        "UPDATE users SET name = 'edited' WHERE id = 'a&b'",
        "UPDATE _sync_apply_state SET apply_mode = 0",
        `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
         VALUES ('business', 'users', '{"id":"a&b"}', 'INSERT', 0, '{"id":"a&b","name":"edited","email":null,"score":0.0}', 1)`
      ])
      const device = yield* world.replaced(reference, once)
      yield* device.sync.open
      assert.deepStrictEqual(yield* dirty(device), ["INSERT users a&b base 1"])
      yield* device.sync.attach("ann")
      const pushed = yield* device.sync.pushPending
      assert.deepStrictEqual([pushed.outcome, pushed.conflictCount], ["committed", 0])
      yield* sameAsServer(world, device)
      yield* checkInvariants(device)
    }))

  it.scoped("two row states of one key: the higher version stays", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const reference = yield* asReference(yield* oddlyKeyed(world), [
        `INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version) VALUES ('business', 'users', '{"id":"a&b"}', 0)`,
        `UPDATE _sync_row_state SET row_version = 0 WHERE key_json = '{"id":"\\u003ctag\\u003e"}'`,
        `INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version) VALUES ('business', 'users', '{"id":"<tag>"}', 1)`
      ])
      const device = yield* adopted(world, reference)
      const versions = yield* rowState(device)
      assert.deepStrictEqual([versions["users a&b"], versions["users <tag>"]], ["1 live", "1 live"])
    }))

  it.scoped("rewrites once only: a later open leaves keys alone", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* adopted(world, yield* asReference(yield* oddlyKeyed(world)))
      yield* device.run(
        "UPDATE _sync_row_state SET key_json = '{\"id\":\"\\u0061\\u0026b\"}' WHERE key_json LIKE '%a&b%'"
      )
      yield* device.sync.open
      assert.strictEqual(
        yield* value(device, "SELECT count(*) FROM _sync_row_state WHERE key_json LIKE '%\\u0026%'"),
        1
      )
    }))

  /** States of this engine that the reference can be in as well, and how `sync` ends after the adoption. */
  const carriedOn: ReadonlyArray<readonly [StateName, "sync" | "rebuild"]> = [
    ["dirty only", "sync"],
    ["outbox prepared", "sync"],
    ["outbox committed_remote", "sync"],
    ["rebuild gate, nothing pending", "rebuild"],
    ["rebuild gate + dirty", "rebuild"],
    ["rebuild gate + outbox committed_remote", "rebuild"],
    ["rebuild gate + outbox prepared", "rebuild"],
    ["source recovery + outbox prepared", "rebuild"],
    ["source recovery + outbox committed_remote", "rebuild"],
    ["source recovery + outbox prepared + dirty", "rebuild"],
    ["seed pending", "sync"],
    ["seed frozen", "sync"]
  ]
  for (const [name, first] of carriedOn) {
    it.scoped(`${name}: is adopted, and ${first === "sync" ? "" : "rebuild, then "}sync brings everything to the server`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const original = yield* states[name].build(world)
        const { users: wanted = [] } = yield* contents(original, ["users"])
        const reference = yield* asReference(original)
        const device = yield* world.replaced(reference, once)
        yield* device.sync.open
        yield* checkInvariants(device)
        // Nobody knows whether the reference has seen the commit's answer (client-state.md §2.7).
        assert.strictEqual(yield* durableState(device), states[name].is.replace("committed_remote", "prepared"))
        yield* device.sync.attach("ann")
        if (first === "rebuild") yield* device.sync.rebuild
        yield* device.sync.sync
        yield* checkInvariants(device, { historyWentBack: true })
        yield* sameAsServer(world, device)
        const { users = [] } = yield* contents(device, ["users"])
        const ours = new Set(wanted.map(({ id }) => id))
        assert.deepStrictEqual(
          users.filter(({ id }) => ours.has(id) && id !== "w1"),
          wanted.filter(({ id }) => id !== "w1")
        )
      }))
  }

  it.scoped("a commit that was a twin's is no proof: what was frozen here stays [recovery.md §7, dead end 7]", () =>
    Effect.gen(function*() {
      for (const rebuildRequired of [0, 1]) {
        const world = yield* makeWorld()
        const one = yield* world.attached(once)
        yield* one.run("INSERT INTO users VALUES ('u', 'Both', NULL, 1)")
        yield* one.sync.sync
        const two = yield* world.copyOf(one, once)
        yield* two.sync.open
        yield* two.sync.attach("ann")
        yield* two.run("INSERT INTO users VALUES ('b', 'Twin', NULL, 1)")
        yield* two.sync.pushPending
        yield* one.run("INSERT INTO users VALUES ('a', 'Mine', NULL, 1)")
        yield* world.network.fault("push create", refused(500, "push_session_create_failed"))
        yield* Effect.flip(one.sync.pushPending)
        const twin = yield* value(two, "SELECT newest_bundle_hash FROM _sync_engine_state WHERE newest_bundle_seq = 2")
        // The reference takes "already committed" for its own commit.
        const reference = yield* asReference(one, [
          `UPDATE _sync_outbox_bundle SET state = 'committed_remote', remote_bundle_seq = 2,
                  remote_bundle_hash = '${String(twin)}', row_count = 1`,
          `UPDATE _sync_attachment_state SET rebuild_required = ${rebuildRequired}`
        ])
        const device = yield* adopted(world, reference)
        if (rebuildRequired === 1) yield* device.sync.rebuild
        yield* device.sync.sync
        yield* checkInvariants(device)
        const { users = [] } = yield* contents(device, ["users"])
        assert.deepStrictEqual(users.map(({ id }) => id), ["a", "b", "u"])
        yield* sameAsServer(world, device)
      }
    }))

  it.scoped("a frozen upload goes out as the reference froze it, under its number", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const original = yield* states["outbox prepared"].build(world)
      const before = yield* header(original)
      const device = yield* adopted(world, yield* asReference(original))
      assert.deepStrictEqual(yield* header(device), before)
      world.network.requests.length = 0
      yield* device.sync.pushPending
      const create = world.network.requests.find(({ route }) => route === "push create")
      assert.strictEqual(create?.source, before.sourceId)
      assert.deepStrictEqual(JSON.parse(create?.body ?? ""), {
        source_bundle_id: before.sourceBundleId,
        planned_row_count: before.rowCount
      })
    }))

  /** How the reference spells what it has frozen of row u1, which is 'A<b' with 0.1 + 0.2 here. */
  const spellings: ReadonlyArray<readonly [what: string, payload: string, requeued: number]> = [
    [
      "other order, escapes and digits: equal",
      "{\"email\":\"ann@x\",\"id\":\"u1\",\"name\":\"A\\u003cb\",\"score\":0.3}",
      0
    ],
    ["white space: equal", "{ \"id\":\"u1\",\"name\":\"A<b\",\"email\":\"ann@x\",\"score\":3.0e-1 }", 0],
    ["another text", "{\"email\":\"ann@x\",\"id\":\"u1\",\"name\":\"A\\u003cB\",\"score\":0.3}", 1],
    ["another number", "{\"email\":\"ann@x\",\"id\":\"u1\",\"name\":\"A\\u003cb\",\"score\":0.31}", 1],
    ["a number as text", "{\"email\":\"ann@x\",\"id\":\"u1\",\"name\":\"A\\u003cb\",\"score\":\"0.3\"}", 1],
    ["NULL for a text", "{\"email\":null,\"id\":\"u1\",\"name\":\"A\\u003cb\",\"score\":0.3}", 1],
    ["a member less", "{\"email\":\"ann@x\",\"id\":\"u1\",\"name\":\"A\\u003cb\"}", 1],
    ["a member more", "{\"age\":null,\"email\":\"ann@x\",\"id\":\"u1\",\"name\":\"A\\u003cb\",\"score\":0.3}", 1],
    ["no JSON", "{\"email\":", 1],
    ["our own spelling, with fewer digits", "{\"id\":\"u1\",\"name\":\"A<b\",\"email\":\"ann@x\",\"score\":0.3}", 1]
  ]
  for (const [what, payload, requeued] of spellings) {
    it.scoped(`a frozen payload against the live row: ${what} [payload-codec.md §6.1]`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const reference = yield* asReference(yield* states["outbox prepared"].build(world), [
          `UPDATE _sync_outbox_rows SET local_payload = '${payload}' WHERE key_json = '{"id":"u1"}'`,
          "UPDATE _sync_apply_state SET apply_mode = 1",
          "UPDATE users SET name = 'A<b', score = 0.1 + 0.2 WHERE id = 'u1'",
          "UPDATE _sync_apply_state SET apply_mode = 0"
        ])
        const device = yield* world.replaced(reference, once)
        yield* device.sync.open
        yield* device.sync.attach("ann")
        const report = yield* device.sync.pushPending
        assert.deepInclude(report, { outcome: "committed", requeuedRowCount: requeued })
        assert.strictEqual(report.status.pending.pendingRowCount, requeued)
        yield* device.sync.sync
        yield* sameAsServer(world, device)
      }))
  }

  it.scoped("dirty payloads say only that a row is pending: the live row goes up", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const original = yield* states["dirty only"].build(world)
      const reference = yield* asReference(original, [
        "UPDATE _sync_dirty_rows SET payload = '{\"score\":0.3,\"broken\":' WHERE key_json = '{\"id\":\"u1\"}'",
        "UPDATE _sync_dirty_rows SET payload = '{}' WHERE key_json = '{\"id\":\"u2\"}'",
        "UPDATE _sync_apply_state SET apply_mode = 1",
        "UPDATE users SET score = 0.1 + 0.2 WHERE id = 'u1'",
        "UPDATE _sync_apply_state SET apply_mode = 0"
      ])
      const device = yield* world.replaced(reference, once)
      yield* device.sync.open
      yield* device.sync.attach("ann")
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      yield* sameAsServer(world, device)
      const server = yield* world.serverRows
      assert.deepInclude(server.get("users u1"), { score: 0.1 + 0.2 })
      yield* checkInvariants(device)
    }))

  it.scoped("anonymous after a detach of the reference, which keeps checkpoint and gate [lifecycle.md quirk 1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const original = yield* states["opened, anonymous"].build(world)
      const reference = yield* asReference(original, [
        "UPDATE _sync_attachment_state SET last_bundle_seq_seen = 50, rebuild_required = 1"
      ])
      const device = yield* world.replaced(reference, once)
      yield* device.sync.open
      const attached = yield* device.sync.attach("ann")
      assert.strictEqual(attached.status === "connected" && attached.outcome, "seeded_from_local")
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      assert.strictEqual(yield* device.sync.lastBundleSeqSeen, 1)
      yield* checkInvariants(device)
      yield* sameAsServer(world, device)
    }))

  it.scoped("source recovery without a reservation gets one before any request [recovery.md §5.2 step 1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const original = yield* states["source recovery + outbox prepared"].build(world)
      const reference = yield* asReference(original, ["UPDATE _sync_operation_state SET replacement_source_id = ''"])
      const device = yield* world.replaced(reference, once)
      yield* device.sync.open
      yield* device.sync.attach("ann")
      yield* world.network.fault("snapshot create", refused(500, "snapshot_failed"))
      yield* Effect.flip(device.sync.rebuild)
      const reserved = yield* value(device, "SELECT replacement_source_id FROM _sync_operation_state")
      assert.notStrictEqual(reserved, "")
      assert.strictEqual((yield* device.sync.rebuild).outcome, "applied_snapshot")
      assert.strictEqual((yield* device.sync.sourceInfo).currentSourceId, reserved)
      yield* checkInvariants(device, { historyWentBack: true })
    }))

  it.scoped("an unknown recovery reason is reported and sent as history_pruned [recovery.md §9.1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const original = yield* states["source recovery"].build(world)
      const reference = yield* asReference(original, ["UPDATE _sync_operation_state SET reason = 'something else'"])
      const device = yield* world.replaced(reference, once)
      yield* device.sync.open
      yield* device.sync.attach("ann")
      assert.strictEqual((yield* device.sync.sourceInfo).sourceRecoveryReason, "history_pruned")
      world.network.requests.length = 0
      assert.strictEqual((yield* device.sync.rebuild).outcome, "applied_snapshot")
      const create = world.network.requests.find(({ route }) => route === "snapshot create")
      assert.strictEqual(JSON.parse(create?.body ?? "").source_replacement.reason, "history_pruned")
    }))

  it.scoped("left-over rows of both stages do no harm", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const reference = yield* asReference(yield* states["dirty only"].build(world), [
        `INSERT INTO _sync_push_stage VALUES (7, 0, 'business', 'users', '{"id":"ghost"}', 'INSERT', 7, '{}')`,
        `INSERT INTO _sync_snapshot_stage VALUES ('old', 1, 'business', 'users', '{"id":"ghost"}', 7, '{}')`
      ])
      const device = yield* adopted(world, reference)
      yield* device.sync.sync
      yield* device.sync.rebuild
      assert.deepStrictEqual(yield* device.run("SELECT * FROM users WHERE id = 'ghost'"), [])
      assert.strictEqual((yield* device.sync.inspect).stagedSnapshotRows, false)
      yield* sameAsServer(world, device)
    }))

  it.scoped("after detach the source of a reference database is kept for its user only [lifecycle.md §9]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* adopted(world, yield* asReference(yield* states["connected, clean"].build(world)))
      const source = (yield* device.sync.sourceInfo).currentSourceId
      yield* device.sync.detach
      yield* device.sync.attach("bob").pipe(Effect.ignore)
      assert.notStrictEqual((yield* device.sync.sourceInfo).currentSourceId, source)
    }))

  it.scoped("frozen rows of odd keys survive: the outbox is loaded, not thrown away", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const original = yield* oddlyKeyed(world)
      yield* original.run("UPDATE users SET name = 'frozen'")
      yield* world.network.fault("push create", refused(503, "unavailable"))
      yield* Effect.flip(original.sync.pushPending)
      const rows = yield* frozen(original)
      const device = yield* adopted(world, yield* asReference(original))
      assert.deepStrictEqual(yield* frozen(device), rows)
      const pushed = yield* device.sync.pushPending
      assert.deepStrictEqual([pushed.outcome, pushed.conflictCount], ["committed", 0])
      yield* sameAsServer(world, device)
      yield* checkInvariants(device)
    }))
})
