/** The dead ends of the reference, one regression test each: what the errors ask for leads out (recovery.md §7). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { clientWins, keepLocal } from "oversqlite"
import type { TableDeclaration } from "oversqlite/server"
import { dirty } from "./support/Database.js"
import { serverTables } from "./support/Devices.js"
import type { Device } from "./support/Devices.js"
import { followGuidance } from "./support/Guidance.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, answerLost, before, changed, lost, refused } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { contents, makeWorld } from "./support/World.js"
import type { DeviceOptions, World } from "./support/World.js"

const quiet = { retryPolicy: { enabled: false } }

const user = (id: string, name = "Ann", email: string | null = null) => ({
  table: "users",
  key: id,
  payload: { name, email, score: 1 }
})

const insert = (id: string, name = "Ann") => `INSERT INTO users VALUES ('${id}', '${name}', NULL, 1)`

const ready = (options: DeviceOptions = {}, declared: ReadonlyArray<TableDeclaration> = serverTables) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared })
    yield* world.write([user("u1"), user("u2")])
    const a = yield* world.attached({ ...quiet, ...options })
    return { world, a }
  })

/** The way out leads to a clean state that the server shares, with these rows. */
const leadsOut = (world: World, device: Device, ids: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    yield* followGuidance(device, { limit: 20 })
    const fresh = yield* world.attached()
    assert.deepStrictEqual(yield* contents(device), yield* contents(fresh))
    assert.deepStrictEqual(
      yield* device.run("SELECT id FROM users ORDER BY id"),
      ids.map((id) => ({ id }))
    )
  })

describe("dead ends of the reference [recovery.md §7]", () => {
  it.scoped("1: rebuild gate + dirty rows", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run("UPDATE _sync_attachment_state SET rebuild_required = 1")
      yield* world.network.fault("snapshot create", lost)
      yield* Effect.flip(a.sync.rebuild)
      yield* a.run(insert("mine"))
      yield* failsWith(a.sync.sync, { _tag: "RebuildRequired" })
      yield* leadsOut(world, a, ["mine", "u1", "u2"])
    }))

  it.scoped("2: source recovery + dirty rows, and host writes during it", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("frozen"))
      yield* world.network.fault("push create", (_, ask) =>
        Effect.zipRight(a.run(insert("dirty")), refused(409, "history_pruned")(_, ask)))
      yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired" })
      yield* a.run(insert("written"))
      yield* leadsOut(world, a, ["dirty", "frozen", "u1", "u2", "written"])
    }))

  it.scoped("3: rebuild gate + committed_remote", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("mine"))
      yield* world.network.fault("committed rows", refused(409, "history_pruned"))
      yield* world.network.fault("snapshot create", lost)
      yield* Effect.flip(a.sync.pushPending)
      yield* checkInvariants(a)
      yield* leadsOut(world, a, ["mine", "u1", "u2"])
    }))

  it.scoped("4: source recovery + committed_remote", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("mine"))
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(a.sync.pushPending)
      yield* world.network.fault("push create", refused(409, "source_sequence_out_of_order"))
      yield* failsWith(a.sync.pushPending, { _tag: "SourceRecoveryRequired" })
      yield* leadsOut(world, a, ["mine", "u1", "u2"])
    }))

  it.scoped("5: source recovery with blob-keyed frozen rows", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', x'001122ff')")
      yield* world.network.fault("push create", refused(409, "history_pruned"))
      yield* Effect.flip(a.sync.pushPending)
      yield* leadsOut(world, a, ["u1", "u2"])
      assert.deepStrictEqual(yield* a.run("SELECT hex(data) AS data FROM files"), [{ data: "001122FF" }])
    }))

  it.scoped("6: the seed is committed, the answer lost", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device(quiet)
      yield* a.run(insert("seed"))
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* world.network.fault("push commit", answerLost)
      yield* Effect.flip(a.sync.pushPending)
      yield* leadsOut(world, a, ["seed"])
    }))

  it.scoped("7: already_committed with effects that were not uploaded", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* world.write([{ table: "posts", key: "p1", payload: { title: "Theirs", author_id: "u1" } }])
      yield* a.run("DELETE FROM users WHERE id = 'u1'")
      yield* world.network.fault("push commit", answerLost)
      yield* Effect.flip(a.sync.pushPending)
      yield* leadsOut(world, a, ["u2"])
    }))

  it.scoped("8: another user is attached with rows written meanwhile", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("anns"))
      yield* a.sync.sync
      assert.strictEqual((yield* a.sync.detach).outcome, "detached")
      yield* a.run(insert("bobs"))
      yield* a.sync.close
      const b = yield* world.replaced(a, { ddl: [], user: "bob", ...quiet })
      yield* b.sync.open
      const result = yield* b.sync.attach("bob")
      assert.strictEqual(result.status === "connected" && result.outcome, "seeded_from_local")
      yield* followGuidance(b, { user: "bob" })
      assert.deepStrictEqual(yield* b.run("SELECT id FROM users"), [{ id: "bobs" }])
      const fresh = yield* world.attached({ user: "bob" })
      assert.deepStrictEqual(yield* contents(fresh), yield* contents(b))
    }))

  it.scoped("9: a remote replace that cannot be applied", () =>
    Effect.gen(function*() {
      const { world } = yield* ready()
      const b = yield* world.device(quiet)
      yield* b.run(insert("mine"))
      yield* b.sync.open
      yield* world.network.fault(
        "snapshot chunk",
        changed((chunk) => JSON.parse(JSON.stringify(chunk).replaceAll("\"score\"", "\"points\"")))
      )
      yield* failsWith(b.sync.attach("ann"), { _tag: "LocalDataError", code: "payload_column_mismatch" })
      yield* checkInvariants(b)
      // The host goes on writing.
      yield* b.run(insert("written"))
      yield* b.sync.attach("ann")
      yield* leadsOut(world, b, ["mine", "u1", "u2", "written"])
    }))

  it.scoped("9b: one that the reference left half applied, with a frozen upload: nothing frozen is lost", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("mine"))
      yield* world.network.fault("push create", lost)
      yield* Effect.flip(a.sync.pushPending)
      yield* a.run("UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ann'")
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* leadsOut(world, a, ["mine", "u1", "u2"])
    }))

  it.scoped("10: nothing but rows that were created and deleted again", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("brief"))
      yield* a.run("DELETE FROM users WHERE id = 'brief'")
      assert.strictEqual((yield* a.sync.sync).pushOutcome, "no_change")
      assert.deepStrictEqual(yield* dirty(a), [])
      yield* leadsOut(world, a, ["u1", "u2"])
    }))

  it.scoped("11: an upload that the server refuses; rebuild names the row, a host write leads on", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run("INSERT INTO posts VALUES ('p1', 'Mine', 'u1')")
      yield* world.write([{ table: "users", key: "u1", payload: null }])
      yield* Effect.flip(a.sync.pushPending)
      const error = yield* Effect.flip(a.sync.pushPending)
      assert.strictEqual(error._tag, "UploadRefused")
      yield* failsWith(a.sync.rebuild, {
        _tag: "LocalDataError",
        code: "local_constraint",
        row: { schema: "business", table: "posts", key: `{"id":"p1"}` }
      })
      yield* checkInvariants(a)
      yield* a.run("DELETE FROM posts WHERE id = 'p1'")
      yield* leadsOut(world, a, ["u2"])
    }))

  describe("12: conflicts", () => {
    const conflict = (key: string, change: Readonly<Record<string, unknown>> = {}) =>
      refused(409, "push_conflict", {
        conflict: {
          schema: "business",
          table: "users",
          key: { id: key },
          op: "INSERT",
          base_row_version: 0,
          server_row_version: 0,
          server_row_deleted: false,
          server_row: null,
          ...change
        }
      })

    it.scoped("that name no frozen row", () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready()
        yield* a.run(insert("mine"))
        yield* world.network.fault("push commit", conflict("stranger"))
        yield* failsWith(a.sync.pushPending, { _tag: "PushConflictError" })
        yield* checkInvariants(a)
        yield* leadsOut(world, a, ["mine", "u1", "u2"])
      }))

    it.scoped("keep-local of an INSERT that the server does not know", () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready({ resolver: clientWins })
        yield* a.run(insert("mine"))
        yield* world.network.fault("push commit", conflict("mine"))
        yield* leadsOut(world, a, ["mine", "u1", "u2"])
      }))

    it.scoped("a resolution that breaks a local constraint", () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready()
        yield* a.run("INSERT INTO users VALUES ('mine', 'Mine', 'taken@x', 1)")
        yield* a.run("UPDATE users SET name = 'Mine' WHERE id = 'u1'")
        yield* world.write([user("u1", "Theirs", "taken@x")])
        yield* failsWith(a.sync.pushPending, { _tag: "LocalDataError", code: "local_constraint" })
        yield* checkInvariants(a)
        yield* a.run("UPDATE users SET email = 'free@x' WHERE id = 'mine'")
        yield* leadsOut(world, a, ["mine", "u1", "u2"])
      }))

    it.scoped("a resolver that answers wrongly is the host's to replace", () =>
      Effect.gen(function*() {
        const { a, world } = yield* ready({ resolver: () => Effect.succeed(keepLocal) })
        yield* a.run("UPDATE users SET name = 'Mine' WHERE id = 'u1'")
        yield* world.write([{ table: "users", key: "u1", payload: null }])
        yield* failsWith(a.sync.pushPending, { _tag: "InvalidConflictResolution", reason: "not_allowed" })
        yield* checkInvariants(a)
        yield* a.sync.setResolver(clientWins)
        yield* leadsOut(world, a, ["u1", "u2"])
      }))
  })

  it.scoped("13: the server's scope was reset", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("mine"))
      yield* world.reset
      yield* leadsOut(world, a, ["mine", "u1", "u2"])
    }))

  it.scoped("14: divergence", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("mine"))
      yield* world.network.fault("push create", refused(409, "history_pruned"))
      yield* Effect.flip(a.sync.pushPending)
      yield* world.network.fault("snapshot create", refused(409, "source_retired", { replaced_by_source_id: "other" }))
      yield* failsWith(a.sync.rebuild, { _tag: "SourceReplacementDiverged" })
      yield* leadsOut(world, a, ["mine", "u1", "u2"])
    }))

  it.scoped("15: a bundle with a swap of unique values", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* world.write([user("u1", "Ann", "1@x"), user("u2", "Ann", "2@x")])
      yield* a.sync.sync
      yield* world.write([user("u1", "Ann", "2@x"), user("u2", "Ann", "1@x")])
      assert.strictEqual((yield* a.sync.sync).remoteOutcome, "applied_incremental")
      yield* leadsOut(world, a, ["u1", "u2"])
    }))

  it.scoped("15b: a bundle with an unknown table or a new column: the host changes both sides, and the pull goes on", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready({ tables: [{ name: "users", key: "id" }] })
      yield* world.write([{ table: "posts", key: "p1", payload: { title: "T", author_id: null } }, user("u3")])
      yield* failsWith(a.sync.sync, { _tag: "LocalDataError", code: "unknown_table", action: "fix_configuration" })
      const more = yield* world.restarted(a, { ddl: [], ...quiet })
      yield* failsWith(more.sync.sync, { _tag: "RebuildRequired" })
      yield* leadsOut(world, more, ["u1", "u2", "u3"])
      yield* world.write([{ ...user("u4"), payload: { name: "New", email: null, score: 1, phone: "1" } }])
      yield* failsWith(more.sync.sync, { _tag: "LocalDataError", code: "payload_column_mismatch" })
      yield* checkInvariants(more)
    }))

  it.scoped("16: an empty seed", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.device(quiet)
      yield* a.run(insert("seed"))
      yield* a.sync.open
      yield* a.sync.attach("ann")
      yield* a.run("DELETE FROM users")
      yield* leadsOut(world, a, [])
    }))

  it.scoped("17: a checkpoint ahead of the server", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      const backup = yield* world.backup
      yield* a.run(insert("mine"))
      yield* a.sync.sync
      yield* world.restore(backup, { renewHistory: false })
      yield* leadsOut(world, a, ["mine", "u1", "u2"])
    }))

  it.scoped("18: the own bundle ahead of the checkpoint, and a foreign key between it and bundles below", () =>
    Effect.gen(function*() {
      // A server that knows nothing of the reference between the tables.
      const loose = serverTables.map(({ references: _, ...table }): TableDeclaration => table)
      const { a, world } = yield* ready({ applyRows: 1 }, loose)
      yield* world.write([{ table: "posts", key: "p1", payload: { title: "T", author_id: "u1" } }])
      yield* a.run("DELETE FROM users WHERE id = 'u1'")
      yield* a.sync.pushPending
      yield* world.write([{ table: "posts", key: "p1", payload: { title: "T", author_id: "u2" } }])
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
      assert.deepStrictEqual(yield* a.run("SELECT author_id FROM posts"), [{ author_id: "u2" }])
      yield* leadsOut(world, a, ["u2"])
    }))

  it.scoped("and an edit during every request of a recovery is kept", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* a.run(insert("mine"))
      yield* world.network.fault("push create", refused(409, "history_pruned"))
      yield* Effect.flip(a.sync.pushPending)
      yield* world.network.fault("snapshot create", before(a.run(insert("e1"))))
      yield* world.network.fault("snapshot chunk", after(a.run(insert("e2"))))
      yield* leadsOut(world, a, ["e1", "e2", "mine", "u1", "u2"])
    }))
})
