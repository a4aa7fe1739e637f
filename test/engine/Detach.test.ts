import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Fiber, Stream } from "effect"
import { dirty, dump, nextNumber, value } from "./support/Database.js"
import { ddl, serverTables, tables } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, refused } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { durableState, once, states } from "./support/States.js"
import type { StateName } from "./support/States.js"
import { turn } from "./support/Time.js"
import { contents, makeWorld } from "./support/World.js"

const blocked = (pendingRowCount: number) => ({ outcome: "blocked_unsynced_data", pendingRowCount } as const)
const detached = { outcome: "detached", pendingRowCount: 0 } as const

describe("detach by durable state [lifecycle.md §6.2]", () => {
  for (const name of ["not opened", "opened, anonymous", "lease lost", "scope lost"] as const) {
    it.scoped(`${name}: refused, and nothing is touched`, () =>
      Effect.gen(function*() {
        const device = yield* states[name].build(yield* makeWorld())
        const before = yield* dump(device)
        yield* failsWith(
          device.sync.detach,
          name === "not opened" ? { _tag: "OpenRequired" } : { _tag: "AttachRequired", reason: "anonymous" }
        )
        assert.deepStrictEqual(yield* dump(device), before)
      }))
  }

  const cancelled: ReadonlyArray<StateName> = [
    "opened, anonymous + remote replace",
    "reference: replace begun",
    "reference: replace half staged",
    "reference: replace staged",
    "reference: replace prepared"
  ]
  for (const name of cancelled) {
    it.scoped(`${name}: cancelled, rows and dirty rows are kept, host writes pass again`, () =>
      Effect.gen(function*() {
        const device = yield* states[name].build(yield* makeWorld())
        const rows = yield* contents(device)
        const pending = yield* dirty(device)
        assert.isAbove(pending.length, 0)
        assert.deepStrictEqual(yield* device.sync.detach, detached)
        assert.strictEqual(yield* durableState(device), "anonymous dirty")
        assert.deepStrictEqual(yield* contents(device), rows)
        assert.deepStrictEqual(yield* dirty(device), pending)
        assert.strictEqual((yield* device.sync.inspect).stagedSnapshotRows, false)
        yield* checkInvariants(device)
        yield* device.run("INSERT INTO users VALUES ('free', 'Free', NULL, 0)")
        assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "used_remote_state" })
      }))
  }

  const pending: ReadonlyArray<readonly [StateName, number]> = [
    ["dirty only", 2],
    ["outbox prepared", 2],
    ["outbox committed_remote", 2],
    ["rebuild gate + dirty", 1],
    ["rebuild gate + outbox committed_remote", 2],
    ["source recovery + dirty", 1],
    ["source recovery + outbox prepared", 2],
    // A key that is frozen and dirty again counts twice.
    ["source recovery + outbox prepared + dirty", 3],
    // The seed itself counts.
    ["seed pending", 2],
    ["seed frozen", 2],
    ["seed empty", 2]
  ]
  for (const [name, count] of pending) {
    it.scoped(`${name}: blocked_unsynced_data with ${count} pending, nothing changed, the session stays`, () =>
      Effect.gen(function*() {
        const device = yield* states[name].build(yield* makeWorld())
        const before = yield* dump(device)
        assert.deepStrictEqual(yield* device.sync.detach, blocked(count))
        assert.deepStrictEqual(yield* device.sync.pendingSyncStatus, {
          pendingRowCount: count,
          hasPendingSyncData: true,
          blocksDetach: true
        })
        assert.deepStrictEqual(yield* dump(device), before)
        assert.strictEqual((yield* device.sync.inspect).instance, "connected")
      }))
  }

  const left: ReadonlyArray<StateName> = [
    "connected, clean",
    "opened, attached, not connected",
    "rebuild gate, nothing pending",
    "source recovery",
    "reference: replace applied"
  ]
  for (const name of left) {
    it.scoped(`${name}: detached, everything of the user is gone, the source stays`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* states[name].build(world)
        const { currentSourceId } = yield* device.sync.sourceInfo
        const number = yield* nextNumber(device)
        yield* world.network.asked
        assert.deepStrictEqual(yield* device.sync.detach, detached)
        assert.deepStrictEqual(yield* world.network.asked, [])
        assert.deepStrictEqual(yield* contents(device), { users: [], posts: [], files: [] })
        assert.strictEqual(yield* durableState(device), "anonymous")
        assert.strictEqual((yield* device.sync.sourceInfo).currentSourceId, currentSourceId)
        assert.strictEqual(yield* nextNumber(device), number)
        const { attachment, instance, stagedPushRows, stagedSnapshotRows } = yield* device.sync.inspect
        assert.deepInclude(attachment, { userId: "", lastBundleSeqSeen: 0, rebuildRequired: false })
        assert.deepStrictEqual([instance, stagedPushRows, stagedSnapshotRows], ["opened", false, false])
        assert.deepStrictEqual(
          yield* device.run(
            "SELECT newest_bundle_seq, newest_bundle_hash, history_id, rows_of_user_id FROM _sync_engine_state"
          ),
          [{ newest_bundle_seq: 0, newest_bundle_hash: "", history_id: "", rows_of_user_id: "" }]
        )
        yield* checkInvariants(device)
        yield* failsWith(device.sync.sync, { _tag: "AttachRequired", reason: "anonymous" })
        // What is written from now on is nobody's.
        yield* device.run("INSERT INTO users VALUES ('u1', 'Anonymous', NULL, 0)")
        assert.deepStrictEqual(yield* dirty(device), ["INSERT users u1 base 0"])
        yield* checkInvariants(device)
      }))
  }

  it.scoped("the reserved source of a recovery stays unused", () =>
    Effect.gen(function*() {
      const device = yield* states["source recovery"].build(yield* makeWorld())
      const reserved = (yield* device.sync.inspect).operation.replacementSourceId
      yield* device.sync.detach
      assert.deepInclude(
        yield* device.run(
          "SELECT source_id, next_source_bundle_id AS n FROM _sync_source_state ORDER BY rowid DESC LIMIT 1"
        ),
        {
          source_id: reserved,
          n: 1
        }
      )
      yield* checkInvariants(device)
    }))

  it.scoped("a divergence met in the recovery that was left says nothing about a later one [recovery.md §5.4]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["source recovery"].build(world)
      const obstacle = refused(409, "source_retired", { replaced_by_source_id: "elsewhere" })
      const renew = Effect.flatMap(world.server, (server) => server.renewHistory)
      yield* world.network.fault("snapshot create", obstacle)
      yield* failsWith(device.sync.rebuild, { _tag: "SourceReplacementDiverged", reason: "retired_elsewhere" })
      assert.deepStrictEqual(yield* device.sync.detach, detached)
      yield* device.sync.attach("ann")
      yield* device.sync.sync
      yield* renew
      yield* failsWith(device.sync.pullToStable, { _tag: "SourceRecoveryRequired" })
      yield* world.network.fault("snapshot create", obstacle)
      yield* failsWith(device.sync.rebuild, { _tag: "SourceReplacementDiverged", reason: "retired_elsewhere" })
      assert.strictEqual((yield* device.sync.rebuild).outcome, "applied_snapshot")
      yield* checkInvariants(device, { historyWentBack: true })
    }))

  it.scoped("the same user attaches again under the same source and counter, and gets everything back", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world)
      const rows = yield* contents(device)
      const source = (yield* device.sync.sourceInfo).currentSourceId
      yield* device.sync.detach
      assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "used_remote_state" })
      assert.deepStrictEqual(yield* contents(device), rows)
      assert.strictEqual((yield* device.sync.sourceInfo).currentSourceId, source)
      assert.strictEqual(yield* nextNumber(device), 2)
      yield* device.run("INSERT INTO users VALUES ('u5', 'Next', NULL, 5)")
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      assert.strictEqual(yield* nextNumber(device), 3)
      yield* checkInvariants(device)
    }))

  it.scoped("is announced to those who watch the tables", () =>
    Effect.gen(function*() {
      const device = yield* states["connected, clean"].build(yield* makeWorld())
      const watching = yield* Effect.fork(Stream.runCollect(Stream.take(device.sync.changes, 1)))
      yield* turn
      yield* device.sync.detach
      const [change] = Chunk.toReadonlyArray(yield* Fiber.join(watching))
      assert.deepStrictEqual(change?.reason, "detach")
      assert.sameMembers([...(change?.tables ?? [])], ["users", "posts", "files"])
    }))

  it.scoped("the check and the clearing are one transaction: a write that comes first blocks, one that comes later is kept", () =>
    Effect.gen(function*() {
      const device = yield* states["connected, clean"].build(yield* makeWorld())
      const write = (id: string) => device.run("INSERT INTO users VALUES (?, 'x', NULL, 0)", [id])
      const [, result] = yield* Effect.all([write("first"), device.sync.detach], { concurrency: "unbounded" })
      assert.deepStrictEqual(result, blocked(1))
      yield* device.sync.sync
      const [outcome] = yield* Effect.all([device.sync.detach, write("later")], { concurrency: "unbounded" })
      const [row] = yield* device.run("SELECT count(*) AS n FROM users WHERE id = 'later'")
      assert.strictEqual(row?.["n"], 1)
      assert.include(["detached", "blocked_unsynced_data"], outcome.outcome)
      assert.deepStrictEqual(
        yield* dirty(device),
        ["INSERT users later base 0"]
      )
      yield* checkInvariants(device)
    }))
})

describe("clearing [lifecycle.md §6.2, quirk 3; pull.md §6.1; client-state.md quirk 5]", () => {
  /** Tables, configured in this order, with rows that depend on each other. */
  const shapes: ReadonlyArray<{
    readonly name: string
    readonly ddl: ReadonlyArray<string>
    readonly tables: ReadonlyArray<{ readonly name: string; readonly key: string }>
    readonly rows: ReadonlyArray<string>
  }> = [
    {
      name: "parents that sort before their children",
      ddl: [
        "CREATE TABLE authors (id TEXT PRIMARY KEY NOT NULL, name TEXT)",
        "CREATE TABLE books (id TEXT PRIMARY KEY NOT NULL, author TEXT NOT NULL REFERENCES authors (id))"
      ],
      tables: [{ name: "authors", key: "id" }, { name: "books", key: "id" }],
      rows: ["INSERT INTO authors VALUES ('a', 'A')", "INSERT INTO books VALUES ('b', 'a')"]
    },
    {
      name: "children that forbid the deletion of their parents",
      ddl: [
        "CREATE TABLE authors (id TEXT PRIMARY KEY NOT NULL, name TEXT)",
        "CREATE TABLE books (id TEXT PRIMARY KEY NOT NULL, author TEXT NOT NULL REFERENCES authors (id) ON DELETE RESTRICT)"
      ],
      tables: [{ name: "books", key: "id" }, { name: "authors", key: "id" }],
      rows: ["INSERT INTO authors VALUES ('a', 'A')", "INSERT INTO books VALUES ('b', 'a')"]
    },
    {
      name: "a table that refers to itself",
      ddl: ["CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, parent TEXT REFERENCES nodes (id))"],
      tables: [{ name: "nodes", key: "id" }],
      rows: ["INSERT INTO nodes VALUES ('a', NULL), ('b', 'a'), ('c', 'b')"]
    },
    {
      name: "a table that refers to itself and forbids the deletion of parents",
      ddl: ["CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, parent TEXT REFERENCES nodes (id) ON DELETE RESTRICT)"],
      tables: [{ name: "nodes", key: "id" }],
      rows: ["INSERT INTO nodes VALUES ('a', NULL), ('b', 'a'), ('c', 'b')"]
    },
    {
      name: "two tables that refer to each other",
      ddl: [
        "CREATE TABLE hens (id TEXT PRIMARY KEY NOT NULL, egg TEXT REFERENCES eggs (id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE eggs (id TEXT PRIMARY KEY NOT NULL, hen TEXT REFERENCES hens (id))"
      ],
      tables: [{ name: "hens", key: "id" }, { name: "eggs", key: "id" }],
      rows: [
        "INSERT INTO hens VALUES ('h', NULL)",
        "INSERT INTO eggs VALUES ('e', 'h')",
        "UPDATE hens SET egg = 'e'"
      ]
    },
    {
      name: "a table whose name is not in lower case",
      ddl: ["CREATE TABLE \"Order\" (id TEXT PRIMARY KEY NOT NULL, \"Group\" TEXT)"],
      tables: [{ name: "ORDER", key: "ID" }],
      rows: ["INSERT INTO \"Order\" VALUES ('o', 'g')"]
    }
  ]
  for (const shape of shapes) {
    it.scoped(shape.name, () =>
      Effect.gen(function*() {
        const declared = shape.tables.map(({ name }) => ({
          schema: "business",
          table: name.toLowerCase(),
          key: { column: "id", kind: "text" as const }
        }))
        const world = yield* makeWorld({ declared })
        const device = yield* world.device({ ...once, ddl: shape.ddl, tables: shape.tables })
        for (const row of shape.rows) yield* device.run(row)
        yield* device.sync.open
        yield* device.sync.attach("ann")
        yield* device.sync.sync
        yield* checkInvariants(device)
        assert.deepStrictEqual(yield* device.sync.detach, detached)
        for (const { name } of shape.tables) {
          assert.deepStrictEqual(yield* device.run(`SELECT * FROM "${name}"`), [])
        }
        yield* checkInvariants(device)
      }))
  }

  it.scoped("tables that left the configuration are cleared as well; those that were dropped do not matter", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world)
      yield* device.run("INSERT INTO posts VALUES ('p', 'Post', 'u1')")
      yield* device.sync.sync
      yield* device.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', NULL)")
      yield* device.sync.sync
      const without = yield* world.replaced(device, { ...once, tables: tables.slice(0, 2) })
      yield* without.sync.open
      assert.deepStrictEqual(yield* without.sync.detach, detached)
      assert.deepStrictEqual(yield* contents(without), { users: [], posts: [], files: [] })
      assert.deepStrictEqual(yield* without.run("SELECT * FROM _sync_row_state"), [])
      yield* checkInvariants(without)

      yield* without.run("DROP TABLE files")
      assert.deepInclude(yield* without.sync.attach("ann").pipe(Effect.flip), { code: "unknown_table" })
      const ignoring = yield* world.replaced(without, { ...once, tables: tables.slice(0, 2), unknownTables: "ignore" })
      yield* ignoring.sync.open
      yield* ignoring.sync.attach("ann")
      assert.deepStrictEqual(yield* ignoring.sync.detach, detached)
      assert.deepStrictEqual(yield* contents(ignoring, ["users", "posts"]), { users: [], posts: [] })
    }))

  it.scoped("a row of the host's own that depends on a managed one makes it fail and stay as it was", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.device({
        ...once,
        ddl: [...ddl, "CREATE TABLE drafts (id INTEGER PRIMARY KEY, author TEXT REFERENCES users (id))"]
      })
      yield* device.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      yield* device.run("INSERT INTO drafts VALUES (1, 'u1')")
      yield* device.sync.open
      yield* device.sync.attach("ann")
      yield* device.sync.sync
      const before = yield* dump(device)
      yield* failsWith(device.sync.detach, { _tag: "LocalDataError", code: "local_constraint", operation: "detach" })
      assert.deepStrictEqual(yield* dump(device), before)
      yield* device.run("DELETE FROM drafts")
      assert.deepStrictEqual(yield* device.sync.detach, detached)
      assert.strictEqual(serverTables.length, 3)
    }))
})

describe("syncThenDetach [lifecycle.md §7]", () => {
  const write = (id: string) => `INSERT INTO users VALUES ('${id}', 'late', NULL, 0)`

  it.scoped("nothing in the way: success in the first round", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["dirty only"].build(world)
      const result = yield* device.sync.syncThenDetach
      assert.deepInclude(result, { isSuccess: true, syncRounds: 1, remainingPendingRowCount: 0, detach: detached })
      assert.deepInclude(result.lastSync, { pushOutcome: "committed", remoteOutcome: "already_at_target" })
      assert.isTrue((yield* world.serverRows).has("users u2"))
      assert.deepStrictEqual(yield* contents(device), { users: [], posts: [], files: [] })
      yield* checkInvariants(device)
    }))

  // Rows that the host writes at the end of each round, and how it goes.
  const rounds: ReadonlyArray<readonly [string, ReadonlyArray<number>, Readonly<Record<string, unknown>>]> = [
    ["one write after the first round", [1, 0], { isSuccess: true, syncRounds: 2, remainingPendingRowCount: 0 }],
    ["fewer writes each round", [3, 1, 0], { isSuccess: true, syncRounds: 3, remainingPendingRowCount: 0 }],
    ["fewer writes, but not none in three rounds", [3, 2, 1], {
      isSuccess: false,
      syncRounds: 3,
      remainingPendingRowCount: 1,
      detach: blocked(1)
    }],
    ["no progress", [1, 1, 0], { isSuccess: false, syncRounds: 2, remainingPendingRowCount: 1, detach: blocked(1) }],
    ["more and more", [1, 2, 0], { isSuccess: false, syncRounds: 2, remainingPendingRowCount: 2, detach: blocked(2) }]
  ]
  for (const [name, writes, expected] of rounds) {
    it.scoped(`${name}: ${writes.join(", ")} → round ${String(expected["syncRounds"])}`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* states["dirty only"].build(world)
        for (const [round, count] of writes.entries()) {
          const rows = Array.from({ length: count }, (_, index) => device.run(write(`r${round}-${index}`)))
          yield* world.network.fault("pull", after(Effect.all(rows)))
        }
        assert.deepInclude(yield* device.sync.syncThenDetach, expected)
        yield* checkInvariants(device)
      }))
  }

  it.scoped("an error of the sync is its error, and names syncThenDetach", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["rebuild gate + dirty"].build(world)
      yield* failsWith(device.sync.syncThenDetach, { _tag: "RebuildRequired", operation: "syncThenDetach" })
      const recovering = yield* states["source recovery"].build(yield* makeWorld())
      yield* failsWith(recovering.sync.syncThenDetach, { _tag: "SourceRecoveryRequired", operation: "syncThenDetach" })
    }))

  it.scoped("paused directions count as successful syncs", () =>
    Effect.gen(function*() {
      const device = yield* states["connected, clean"].build(yield* makeWorld())
      yield* device.sync.pauseUploads
      yield* device.sync.pauseDownloads
      const result = yield* device.sync.syncThenDetach
      assert.deepInclude(result, { isSuccess: true, syncRounds: 1 })
      assert.deepInclude(result.lastSync, { pushOutcome: "skipped_paused", remoteOutcome: "skipped_paused" })
      assert.strictEqual(yield* value(device, "SELECT count(*) FROM users"), 0)
    }))

  it.scoped("with uploads paused pending rows remain: the second round makes no progress", () =>
    Effect.gen(function*() {
      const device = yield* states["dirty only"].build(yield* makeWorld())
      yield* device.sync.pauseUploads
      yield* device.sync.pauseDownloads
      assert.deepInclude(yield* device.sync.syncThenDetach, {
        isSuccess: false,
        syncRounds: 2,
        remainingPendingRowCount: 2,
        detach: blocked(2)
      })
    }))
})
