/** How source recovery is entered, and which replacement is reserved (recovery.md §2, §3). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dirty, dump, frozen, outboxState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { answered, answerLost, lost, refused } from "./support/Network.js"
import type { Fault, Route } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { whileTimePasses } from "./support/Time.js"
import { contents, makeWorld } from "./support/World.js"

const insert = (id: string) => `INSERT INTO users VALUES ('${id}', 'Ann', NULL, 1)`

const ready = Effect.gen(function*() {
  const world = yield* makeWorld()
  yield* world.write([{ table: "users", key: "u1", payload: { name: "Ann", email: null, score: 1 } }])
  const a = yield* world.attached({ retryPolicy: { enabled: false } })
  return { world, a }
})

const operation = (device: Device) =>
  Effect.map(
    device.run("SELECT kind, reason, replacement_source_id AS replacement FROM _sync_operation_state"),
    ([row]) => ({
      kind: row?.["kind"],
      reason: row?.["reason"],
      replacement: String(row?.["replacement"])
    })
  )

const sourceId = (device: Device) => Effect.map(device.sync.sourceInfo, ({ currentSourceId }) => currentSourceId)

const conflict = (version: number): Fault =>
  refused(409, "push_conflict", {
    conflict: {
      schema: "business",
      table: "users",
      key: { id: "u1" },
      op: "UPDATE",
      base_row_version: 1,
      server_row_version: version,
      server_row_deleted: false,
      server_row: null
    }
  })

describe("what enters source recovery [recovery.md §2]", () => {
  const retired = refused(409, "source_retired", { source_id: "x", replaced_by_source_id: "theirs" })
  const table: ReadonlyArray<
    readonly [says: string, faults: ReadonlyArray<readonly [Route, Fault]>, reason: string, replacement?: string]
  > = [
    ["create: history_pruned, header prepared", [["push create", refused(409, "history_pruned")]], "history_pruned"],
    [
      "create: source_sequence_out_of_order",
      [["push create", refused(409, "source_sequence_out_of_order")]],
      "source_sequence_out_of_order"
    ],
    ["create: source_retired, adopting its replacement", [["push create", retired]], "source_retired", "theirs"],
    [
      "create: source_retired without a replacement",
      [["push create", refused(409, "source_retired")]],
      "source_retired"
    ],
    ["commit: source_retired", [["push commit", retired]], "source_retired", "theirs"],
    [
      "commit: source_sequence_changed",
      [["push commit", refused(409, "source_sequence_changed")]],
      "source_sequence_changed"
    ],
    ["commit: a conflict below the frozen base", [["push commit", conflict(0)]], "source_sequence_out_of_order"]
  ]
  for (const [says, faults, reason, replacement] of table) {
    it.scoped(says, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready
        yield* a.run("UPDATE users SET name = 'Mine'")
        const source = yield* sourceId(a)
        for (const [route, fault] of faults) yield* world.network.fault(route, fault)
        if (faults[0]?.[0] === "push create") yield* a.run(insert("mine"))
        yield* failsWith(a.sync.pushPending, {
          _tag: "SourceRecoveryRequired",
          reason,
          action: "rebuild",
          operation: "pushPending"
        })
        const entered = yield* operation(a)
        assert.strictEqual(entered.kind, "source_recovery")
        assert.strictEqual(entered.reason, reason)
        if (replacement !== undefined) assert.strictEqual(entered.replacement, replacement)
        assert.strictEqual(yield* sourceId(a), source)
        assert.strictEqual(yield* outboxState(a), "prepared")
        yield* checkInvariants(a)
        // Every later call says so without the network, and without the server's message.
        yield* world.network.asked
        const refusal = { _tag: "SourceRecoveryRequired", reason, serverMessage: undefined }
        yield* failsWith(a.sync.pushPending, refusal)
        yield* failsWith(a.sync.pullToStable, refusal)
        yield* failsWith(a.sync.sync, refusal)
        assert.deepStrictEqual(yield* world.network.asked, [])
        const again = yield* world.restarted(a, { ddl: [] })
        yield* failsWith(again.sync.sync, { _tag: "SourceRecoveryRequired", reason })
        assert.deepStrictEqual(yield* operation(again), entered)
        // Host writes go on.
        yield* again.run(insert("later"))
        yield* checkInvariants(again)
        assert.strictEqual((yield* again.sync.rebuild).outcome, "applied_snapshot")
        yield* checkInvariants(again)
      }))
  }

  it.scoped("create history_pruned with a committed upload is replay-pruned instead [§4]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(a.sync.pushPending)
      yield* world.network.fault("push create", refused(409, "history_pruned"))
      assert.strictEqual((yield* a.sync.pushPending).outcome, "committed")
      assert.strictEqual((yield* operation(a)).kind, "none")
    }))

  it.scoped("the other three enter it with a committed upload as well; it is settled by the snapshot [§6.2]", () =>
    Effect.gen(function*() {
      for (const code of ["source_sequence_out_of_order", "source_retired"]) {
        const { a, world } = yield* ready
        yield* a.run(insert("mine"))
        yield* world.network.fault("committed rows", lost)
        yield* Effect.flip(a.sync.pushPending)
        yield* world.network.fault("push create", refused(409, code))
        yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired", reason: code })
        assert.strictEqual(yield* outboxState(a), "committed_remote")
        yield* checkInvariants(a)
        yield* a.sync.rebuild
        assert.strictEqual(yield* outboxState(a), "none")
        assert.deepStrictEqual(yield* dirty(a), [])
        yield* checkInvariants(a)
        yield* a.sync.sync
        assert.deepStrictEqual(yield* a.run("SELECT id FROM users ORDER BY id"), [{ id: "mine" }, { id: "u1" }])
      }
    }))

  it.scoped("the server's message is told once", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      yield* world.network.fault("push create", refused(409, "source_sequence_out_of_order"))
      yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired", serverMessage: "free text" })
      yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired", serverMessage: undefined })
    }))
})

describe("reserving the replacement [recovery.md §3]", () => {
  const entering = (stored: string, preferred: string, prepare: (device: Device) => Effect.Effect<unknown>) =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      yield* prepare(a)
      if (stored !== "") yield* a.run("UPDATE _sync_operation_state SET replacement_source_id = ?", [stored])
      yield* world.network.fault(
        "push create",
        refused(409, "source_retired", preferred === "" ? {} : { source_id: "x", replaced_by_source_id: preferred })
      )
      return { world, a }
    })
  const nothing = () => Effect.void
  const source = (id: string, next: number, replacedBy: string) => (device: Device) =>
    device.run(
      "INSERT INTO _sync_source_state (source_id, next_source_bundle_id, replaced_by_source_id) VALUES (?, ?, ?)",
      [id, next, replacedBy]
    )

  // What is reserved: the stored one, the preferred one, or a fresh one.
  const table: ReadonlyArray<
    readonly [
      says: string,
      stored: string,
      preferred: string,
      prepare: (device: Device) => Effect.Effect<unknown>,
      reserved: string | undefined
    ]
  > = [
    ["stored, preferred equal", "r", "r", nothing, "r"],
    ["stored, preferred blank", "r", "", nothing, "r"],
    ["stored blank, preferred", "", "p", nothing, "p"],
    ["stored blank, preferred with blanks around it", "", " p ", nothing, "p"],
    ["stored blank, preferred known and fresh", "", "p", source("p", 1, ""), "p"],
    ["stored blank, preferred used already", "", "p", source("p", 2, ""), undefined],
    ["stored blank, preferred replaced already", "", "p", source("p", 1, "q"), undefined],
    ["both blank", "", "", nothing, undefined]
  ]
  for (const [says, stored, preferred, prepare, reserved] of table) {
    it.scoped(says, () =>
      Effect.gen(function*() {
        const { a } = yield* entering(stored, preferred, prepare)
        const current = yield* sourceId(a)
        yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired" })
        const { replacement } = yield* operation(a)
        if (reserved !== undefined) assert.strictEqual(replacement, reserved)
        else assert.notInclude([current, stored, preferred, ""], replacement)
        yield* checkInvariants(a)
      }))
  }

  it.scoped("the current source itself is no replacement", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready
      yield* a.run(insert("mine"))
      const current = yield* sourceId(a)
      yield* world.network.fault("push create", refused(409, "source_retired", { replaced_by_source_id: current }))
      yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired" })
      assert.notStrictEqual((yield* operation(a)).replacement, current)
      yield* checkInvariants(a)
    }))

  it.scoped("stored, another one preferred: diverged, nothing changes; the next open forgets the left-over", () =>
    Effect.gen(function*() {
      const { a, world } = yield* entering("r", "p", nothing)
      // The upload is frozen by the push; only what happens after it is the transition's.
      yield* world.network.fault("push create", lost)
      yield* failsWith(a.sync.pushPending, {
        _tag: "SourceReplacementDiverged",
        reason: "retired_elsewhere",
        localReplacement: "r",
        remoteReplacement: "p",
        action: "rebuild"
      })
      assert.deepStrictEqual(yield* operation(a), { kind: "none", reason: "", replacement: "r" })
      assert.isFalse((yield* a.sync.inspect).attachment.rebuildRequired)
      yield* world.network.heal
      const again = yield* world.restarted(a, { ddl: [] })
      assert.strictEqual((yield* operation(again)).replacement, "")
      assert.strictEqual((yield* again.sync.sync).pushOutcome, "committed")
      yield* checkInvariants(again)
    }))

  it.scoped("is durable before the first rotated request: retries and restarts name the same one", () =>
    Effect.gen(function*() {
      const { a, world } = yield* entering("", "", nothing)
      yield* Effect.flip(a.sync.pushPending)
      const { replacement } = yield* operation(a)
      yield* world.network.fault("snapshot create", lost)
      yield* Effect.flip(a.sync.rebuild)
      const again = yield* world.restarted(a, { ddl: [], retryPolicy: { enabled: false } })
      yield* world.network.fault("snapshot create", answerLost)
      yield* Effect.flip(again.sync.rebuild)
      yield* again.sync.rebuild
      const named = world.network.requests.filter(({ body, route }) => route === "snapshot create" && body !== "")
        .map(({ body }) => JSON.parse(body).source_replacement.new_source_id)
      assert.deepStrictEqual(named, [replacement, replacement, replacement])
      assert.strictEqual(yield* sourceId(again), replacement)
      yield* checkInvariants(again)
    }))
})

describe("a device that has gone back, or a twin [recovery.md §2.3]", () => {
  const joined = Effect.gen(function*() {
    const world = yield* makeWorld()
    const a = yield* world.attached()
    yield* a.run(insert("u1"))
    yield* a.sync.sync
    return { world, a }
  })

  const agree = (world: Effect.Effect.Success<typeof joined>["world"], devices: ReadonlyArray<Device>) =>
    Effect.gen(function*() {
      for (let rounds = 0; rounds < 3; rounds++) {
        for (const device of devices) {
          yield* device.sync.sync
          yield* checkInvariants(device)
        }
      }
      const fresh = yield* world.attached()
      for (const device of devices) assert.deepStrictEqual(yield* contents(device), yield* contents(fresh))
    })

  it.scoped("twins that both write under the same number: nothing is lost, and they part", () =>
    Effect.gen(function*() {
      const { a, world } = yield* joined
      const twin = yield* world.copyOf(a)
      yield* twin.sync.open
      yield* twin.sync.attach("ann")
      assert.strictEqual(yield* sourceId(twin), yield* sourceId(a))
      yield* a.run(insert("of a"))
      yield* twin.run(insert("of the twin"))
      yield* twin.run("UPDATE users SET name = 'Twin' WHERE id = 'u1'")
      yield* a.sync.pushPending
      yield* twin.sync.pushPending
      yield* checkInvariants(twin)
      assert.notStrictEqual(yield* sourceId(twin), yield* sourceId(a))
      yield* agree(world, [twin, a])
      assert.deepStrictEqual(yield* a.run("SELECT id, name FROM users ORDER BY id"), [
        { id: "of a", name: "Ann" },
        { id: "of the twin", name: "Ann" },
        { id: "u1", name: "Twin" }
      ])
    }))

  it.scoped("an older copy of the database: what it had pushed before is recognised", () =>
    Effect.gen(function*() {
      const { a, world } = yield* joined
      yield* a.run(insert("lost"))
      const older = yield* world.copyOf(a)
      yield* a.sync.sync
      yield* a.run(insert("later"))
      yield* a.sync.sync
      yield* a.sync.close
      // The copy still has the first row pending, under a number that is committed with this very content.
      yield* older.sync.open
      yield* older.sync.attach("ann")
      assert.strictEqual((yield* older.sync.pushPending).requeuedRowCount, 0)
      yield* agree(world, [older])
      assert.strictEqual((yield* older.run("SELECT id FROM users")).length, 3)
    }))

  it.scoped("a twin that has rotated: its source is adopted, and given up again when it turns out to be used", () =>
    Effect.gen(function*() {
      const { a, world } = yield* joined
      const twin = yield* world.copyOf(a)
      yield* twin.sync.open
      yield* twin.sync.attach("ann")
      yield* twin.run(insert("of the twin"))
      yield* world.network.fault("push create", refused(409, "history_pruned"))
      yield* Effect.flip(twin.sync.pushPending)
      yield* twin.sync.rebuild
      yield* twin.sync.sync
      yield* a.run(insert("of a"))
      yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired", reason: "source_retired" })
      assert.strictEqual((yield* operation(a)).replacement, yield* sourceId(twin))
      yield* a.sync.rebuild
      yield* agree(world, [a, twin])
      assert.notStrictEqual(yield* sourceId(a), yield* sourceId(twin))
      assert.strictEqual((yield* a.run("SELECT id FROM users")).length, 3)
    }))

  it.scoped("the session is replaced by the twin's create: 404, and created again", () =>
    Effect.gen(function*() {
      const { a, world } = yield* joined
      yield* a.run(insert("mine"))
      yield* world.network.fault("push chunk", refused(404, "push_session_not_found"))
      assert.strictEqual((yield* whileTimePasses(a.sync.pushPending)).outcome, "committed")
      yield* agree(world, [a])
    }))
})

describe("nothing else enters it [recovery.md §2]", () => {
  const table: ReadonlyArray<readonly [Route, Fault]> = [
    ["push create", refused(409, "something_else")],
    ["push create", refused(500, "push_session_create_failed")],
    ["push chunk", refused(409, "source_retired")],
    ["push create", answered(200, { status: "unheard of" })],
    ["pull", refused(409, "source_retired")]
  ]
  for (const [index, [route, fault]] of table.entries()) {
    it.scoped(`${index + 1}: ${route}`, () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready
        yield* a.run(insert("mine"))
        yield* world.network.fault(route, fault)
        const was = yield* dump(a, ["_sync_outbox_bundle", "_sync_outbox_rows", "_sync_dirty_rows"])
        const error = yield* Effect.flip(a.sync.sync)
        assert.notStrictEqual(error._tag, "SourceRecoveryRequired")
        assert.strictEqual((yield* operation(a)).kind, "none")
        if (route !== "pull") {
          assert.strictEqual((yield* frozen(a)).length, 1)
          assert.deepStrictEqual(yield* dump(a, ["_sync_outbox_bundle", "_sync_outbox_rows", "_sync_dirty_rows"]), was)
        }
        yield* a.sync.sync
        yield* checkInvariants(a)
      }))
  }
})
