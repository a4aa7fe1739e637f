import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import * as path from "node:path"
import { SourceIdGenerator } from "oversqlite"
import { dirtyRows, dump, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { makeNetwork } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { powerOn } from "./support/Power.js"
import { states } from "./support/States.js"
import { makeWorld, temporaryFolder } from "./support/World.js"

/** A generator that gives these candidates, the last one for ever. */
const giving = (...candidates: ReadonlyArray<string>) => {
  const left = [...candidates]
  let given = 0
  return {
    generator: Effect.sync(() => {
      given++
      return (left.length > 1 ? left.shift() : left[0]) ?? ""
    }),
    given: () => given
  }
}

const withIds = <A, E, R>(self: Effect.Effect<A, E, R>, generator: Effect.Effect<string>) =>
  Effect.provideService(self, SourceIdGenerator, generator)

const attachment = ({ run }: Device) => Effect.map(run("SELECT * FROM _sync_attachment_state"), ([row]) => ({ ...row }))

describe("the steps of open [lifecycle.md §3]", () => {
  it.scoped("0: raises the epoch, each time", () =>
    Effect.gen(function*() {
      const device = yield* (yield* makeWorld()).device()
      const epoch = value(device, "SELECT engine_epoch FROM _sync_engine_state")
      assert.strictEqual(yield* epoch, 0)
      yield* device.sync.open
      assert.strictEqual(yield* epoch, 1)
      yield* device.sync.open
      assert.strictEqual(yield* epoch, 2)
    }))

  it.scoped("1: blanks left-over fields of no operation, so that no reservation haunts a later recovery", () =>
    Effect.gen(function*() {
      const device = yield* (yield* makeWorld()).device()
      yield* device.run(
        `UPDATE _sync_operation_state SET target_user_id = 'ann', reason = 'source_retired', replacement_source_id = 'r',
           staged_snapshot_id = 's', snapshot_bundle_seq = 3, snapshot_row_count = 4`
      )
      yield* device.sync.open
      yield* checkInvariants(device)
    }))

  for (
    const [kind, statement] of [
      [
        "remote_replace",
        "UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ann', staged_snapshot_id = 's'"
      ],
      [
        "source_recovery",
        "UPDATE _sync_operation_state SET kind = 'source_recovery', reason = 'source_retired', replacement_source_id = 'r'"
      ]
    ] as const
  ) {
    it.scoped(`1: leaves a pending ${kind} as it is, and does not fail`, () =>
      Effect.gen(function*() {
        const device = yield* (yield* makeWorld()).device()
        yield* device.sync.open
        yield* device.run(statement)
        const pending = yield* device.run("SELECT * FROM _sync_operation_state")
        yield* device.sync.open
        assert.deepStrictEqual(yield* device.run("SELECT * FROM _sync_operation_state"), pending)
      }))
  }

  it.scoped("2: takes the first candidate that is neither blank nor known, trimmed", () =>
    Effect.gen(function*() {
      const { generator, given } = giving("", "  ", "known", "former", " fresh ")
      const device = yield* withIds((yield* makeWorld()).device(), generator)
      yield* device.run("INSERT INTO _sync_source_state (source_id) VALUES ('known'), ('former')")
      yield* device.sync.open
      assert.strictEqual((yield* device.sync.sourceInfo).currentSourceId, "fresh")
      assert.strictEqual(given(), 5)
      yield* device.sync.open
      assert.strictEqual((yield* device.sync.sourceInfo).currentSourceId, "fresh")
      assert.strictEqual(given(), 5)
      yield* checkInvariants(device)
    }))

  it.scoped("2: finds a fresh id among 100 candidates", () =>
    Effect.gen(function*() {
      const { generator } = giving(...Array.from({ length: 99 }, () => "known"), "the hundredth")
      const device = yield* withIds((yield* makeWorld()).device(), generator)
      yield* device.run("INSERT INTO _sync_source_state (source_id) VALUES ('known')")
      yield* device.sync.open
      assert.strictEqual((yield* device.sync.sourceInfo).currentSourceId, "the hundredth")
    }))

  it.scoped("2: a generator that gives nothing fresh in 100 candidates is a defect, and nothing is written", () =>
    Effect.gen(function*() {
      const { generator, given } = giving(...Array.from({ length: 100 }, () => "known"), "too late")
      const device = yield* withIds((yield* makeWorld()).device(), generator)
      yield* device.run("INSERT INTO _sync_source_state (source_id) VALUES ('known')")
      yield* device.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
      const before = yield* dump(device)
      const exit = yield* Effect.exit(device.sync.open)
      assert.isTrue(Exit.isFailure(exit) && exit.cause._tag === "Die")
      assert.strictEqual(given(), 100)
      assert.deepStrictEqual(yield* dump(device), before)
      yield* failsWith(device.sync.pendingSyncStatus, { _tag: "OpenRequired" })
    }))

  it.scoped("3: writes the schema where it is blank", () =>
    Effect.gen(function*() {
      const device = yield* (yield* makeWorld()).device()
      assert.strictEqual((yield* attachment(device))["schema_name"], "")
      yield* device.sync.open
      assert.strictEqual((yield* attachment(device))["schema_name"], "business")
      yield* device.run("UPDATE _sync_attachment_state SET schema_name = ''")
      yield* device.sync.open
      assert.strictEqual((yield* attachment(device))["schema_name"], "business")
    }))

  it.scoped("4: captures what was there before, tables as configured, rows by key, once [capture.md §8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const old = yield* world.device()
      yield* old.run("INSERT INTO users VALUES ('b', 'Bob', NULL, 2)")
      yield* old.run("DELETE FROM _sync_dirty_rows")
      yield* old.run("INSERT INTO users VALUES ('a', 'Ann', 'a@x', 1.5)")
      yield* old.run("INSERT INTO posts VALUES ('p', 'Hello', 'a')")
      yield* old.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', x'0102ff')")
      yield* old.run("UPDATE _sync_dirty_rows SET payload = '{}', base_row_version = 7 WHERE table_name = 'users'")
      const device = yield* world.replaced(old)
      yield* device.sync.open
      const captured = [
        { row: "users a", op: "INSERT", base: 0, payload: { id: "a", name: "Ann", email: "a@x", score: 1.5 } },
        { row: "posts p", op: "INSERT", base: 0, payload: { id: "p", title: "Hello", author_id: "a" } },
        {
          row: "files 00112233445566778899aabbccddeeff",
          op: "INSERT",
          base: 0,
          payload: { id: "00112233445566778899aabbccddeeff", name: "f", data: "0102ff" }
        },
        { row: "users b", op: "INSERT", base: 0, payload: { id: "b", name: "Bob", email: null, score: 2 } }
      ]
      assert.deepStrictEqual(yield* dirtyRows(device), captured)
      yield* checkInvariants(device)
      yield* device.run("DELETE FROM _sync_dirty_rows")
      yield* device.sync.open
      assert.deepStrictEqual(yield* dirtyRows(device), [])
    }))

  it.scoped("4: does not capture what is there when the database is attached", () =>
    Effect.gen(function*() {
      const device = yield* (yield* makeWorld()).device()
      yield* device.run("INSERT INTO users VALUES ('a', 'Ann', NULL, 1)")
      yield* device.run("DELETE FROM _sync_dirty_rows")
      yield* device.run("UPDATE _sync_attachment_state SET binding_state = 'attached', attached_user_id = 'ann'")
      yield* device.sync.open
      assert.deepStrictEqual(yield* dirtyRows(device), [])
      assert.notStrictEqual((yield* device.sync.sourceInfo).currentSourceId, "")
    }))

  for (
    const [code, table, column, insert, remedy] of [
      [
        "blob_in_plain_column",
        "users",
        "name",
        "INSERT INTO users VALUES ('a', 'ok', NULL, 1), ('bad', x'0c', NULL, 1), ('worse', x'0d', NULL, 1)",
        "UPDATE users SET name = 'text' WHERE typeof(name) = 'blob'"
      ],
      [
        "real_not_finite",
        "users",
        "score",
        "INSERT INTO users VALUES ('bad', 'x', NULL, 9e999)",
        "DELETE FROM users WHERE id = 'bad'"
      ]
    ] as const
  ) {
    it.scoped(`4: a row that cannot be serialised is named (${code}); correcting it is enough`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const old = yield* world.device()
        // The triggers would have refused it: it was there before them.
        yield* old.run("UPDATE _sync_apply_state SET apply_mode = 1")
        yield* old.run(insert)
        const device = yield* world.replaced(old)
        const before = yield* dump(device)
        yield* failsWith(device.sync.open, {
          _tag: "LocalDataError",
          code,
          operation: "open",
          column,
          row: { schema: "business", table, key: "{\"id\":\"bad\"}" }
        })
        assert.deepStrictEqual(yield* dump(device), before)
        yield* failsWith(device.sync.attach("ann"), { _tag: "OpenRequired" })
        yield* device.run(remedy)
        yield* device.sync.open
        yield* checkInvariants(device)
      }))
  }

  it.scoped("5: makes the source known if it is not, and sets apply_mode to 0", () =>
    Effect.gen(function*() {
      const device = yield* (yield* makeWorld()).device()
      yield* device.sync.open
      const { currentSourceId } = yield* device.sync.sourceInfo
      yield* device.run("DELETE FROM _sync_source_state")
      yield* device.run("UPDATE _sync_apply_state SET apply_mode = 1")
      yield* device.sync.open
      assert.strictEqual((yield* device.sync.sourceInfo).currentSourceId, currentSourceId)
      yield* checkInvariants(device)
    }))
})

describe("what open leaves in memory [lifecycle.md §3]", () => {
  it.scoped("disconnects a connected session; attach resumes it without network", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world)
      yield* world.network.asked
      yield* device.sync.open
      assert.strictEqual((yield* device.sync.inspect).instance, "opened")
      yield* failsWith(device.sync.sync, { _tag: "AttachRequired", reason: "not_connected" })
      const attached = yield* device.sync.attach("ann")
      assert.strictEqual(attached.status === "connected" && attached.outcome, "resumed_attached_state")
      assert.strictEqual((yield* device.sync.inspect).instance, "connected")
      assert.deepStrictEqual(yield* world.network.asked, [])
    }))

  it.scoped("is idempotent: the database is the same but for the epoch", () =>
    Effect.gen(function*() {
      for (
        const name of ["opened, anonymous", "dirty only", "outbox prepared", "source recovery", "lease lost"] as const
      ) {
        const device = yield* states[name].build(yield* makeWorld())
        yield* device.sync.open
        const once = yield* dump(device, ["_sync_engine_state"])
        yield* device.sync.open
        assert.deepStrictEqual(yield* dump(device, ["_sync_engine_state"]), once, name)
      }
    }))

  it.scoped("remembers a pending initialization: a seed goes on after a restart", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.restarted(yield* states["seed pending"].build(world))
      assert.strictEqual((yield* device.sync.syncStatus).authority, "pending_local_seed")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.strictEqual((yield* device.sync.syncStatus).authority, "authoritative_materialized")
      yield* checkInvariants(device)
    }))
})

describe("tables altered since the client was built [capture.md §10]", () => {
  it.scoped("the rows that were there before are captured with the columns of now, and writes after them too", () =>
    Effect.gen(function*() {
      const device = yield* (yield* makeWorld()).device()
      yield* device.run("ALTER TABLE users ADD COLUMN age INTEGER")
      // Past the triggers, as rows that were there before.
      yield* device.run("UPDATE _sync_apply_state SET apply_mode = 1")
      yield* device.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1.5, 40)")
      yield* device.run("UPDATE _sync_apply_state SET apply_mode = 0")
      yield* device.sync.open
      assert.deepStrictEqual((yield* dirtyRows(device)).map(({ payload }) => payload), [
        { id: "u1", name: "Ann", email: null, score: 1.5, age: 40 }
      ])
      yield* device.run("UPDATE users SET age = 41")
      yield* checkInvariants(device)
    }))

  it.scoped("one that cannot be synchronised any more: the error of construction, and nothing changes", () =>
    Effect.gen(function*() {
      const device = yield* (yield* makeWorld()).device()
      yield* device.run("ALTER TABLE posts RENAME TO notes")
      const before = yield* dump(device)
      yield* failsWith(device.sync.open, {
        _tag: "ConfigurationError",
        code: "key_column_missing",
        table: "posts",
        operation: "open"
      })
      assert.deepStrictEqual(yield* dump(device), before)
      yield* device.run("ALTER TABLE notes RENAME TO posts")
      yield* device.sync.open
      yield* checkInvariants(device)
    }))
})

describe("open is one transaction [lifecycle.md §3]", () => {
  it.scoped("cut off after any statement it has done all or nothing", () =>
    Effect.gen(function*() {
      const network = makeNetwork(() => {
        throw new Error("open needs no network")
      })
      const folder = yield* temporaryFolder
      const prepared = Effect.fnUntraced(function*(filename: string) {
        const first = yield* powerOn(network, filename)
        yield* first.run("UPDATE _sync_apply_state SET apply_mode = 1")
        yield* first.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
        yield* first.run("UPDATE _sync_operation_state SET reason = 'left over'")
        yield* first.off
        const { generator } = giving("source")
        return yield* withIds(powerOn(network, filename), generator)
      })
      const complete = yield* prepared(path.join(folder, "complete.db"))
      yield* complete.power.forget
      const untouched = yield* dump(complete)
      yield* complete.sync.open
      const statements = complete.power.statements.length
      assert.isAbove(statements, 5)
      for (let position = 1; position <= statements; position++) {
        const filename = path.join(folder, `${position}.db`)
        const device = yield* prepared(filename)
        yield* device.power.cutAt("after", (_text, at) => at === position)
        yield* Effect.exit(device.sync.open)
        assert.isTrue(yield* device.power.isCut)
        yield* device.off
        const restarted = yield* powerOn(network, filename)
        const left = yield* dump(restarted)
        if ((yield* value(restarted, "SELECT engine_epoch FROM _sync_engine_state")) === 0) {
          assert.deepStrictEqual(left, { ...untouched, _sync_apply_state: ["1, 0"] })
        } else {
          assert.strictEqual(position, statements)
          yield* checkInvariants(restarted)
        }
        yield* restarted.off
      }
      yield* complete.off
    }))
})
