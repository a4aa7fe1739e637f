import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as path from "node:path"
import { dirty, dump, frozen } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, before, lost } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { powerOn } from "./support/Power.js"
import { clean, durableState, once, states, withLocalRows } from "./support/States.js"
import { turn } from "./support/Time.js"
import { contents, makeWorld, temporaryFolder } from "./support/World.js"
import type { World } from "./support/World.js"

const ids = (device: Device): Effect.Effect<ReadonlyArray<unknown>> =>
  Effect.map(device.run("SELECT id FROM users ORDER BY id"), (rows) => rows.map(({ id }) => id))

/** An account with the rows u1 and w1, and a device that is to attach to it. */
const account = (rows: ReadonlyArray<string> = []) =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    const other = yield* clean(world)
    const device = yield* world.device(once)
    for (const row of rows) yield* device.run(row)
    yield* device.sync.open
    yield* world.network.asked
    return { world, device, other }
  })

const none = { kept: 0, identical: 0, discarded: 0, recovered: 0 }

const local = "INSERT INTO users VALUES ('u9', 'Local', 'local@x', 9)"
const same = "INSERT INTO users VALUES ('u1', 'Ann', 'ann@x', 1.5)"
const different = "INSERT INTO users VALUES ('u1', 'Another Ann', 'other@x', 7)"
const removed = ["INSERT INTO users VALUES ('gone', 'Gone', NULL, 0)", "DELETE FROM users WHERE id = 'gone'"]

describe("what becomes of pending rows [lifecycle.md §5, DESIGN D5]", () => {
  interface Row {
    readonly name: string
    readonly rows: ReadonlyArray<string>
    readonly localRows?: "keep" | "replace" | "refuse"
    readonly summary: Readonly<Record<"kept" | "identical" | "discarded" | "recovered", number>>
    readonly users: ReadonlyArray<string>
    readonly pending: ReadonlyArray<string>
  }
  const rows: ReadonlyArray<Row> = [
    { name: "nothing local", rows: [], summary: none, users: ["u1", "w1"], pending: [] },
    { name: "nothing local, refuse", rows: [], localRows: "refuse", summary: none, users: ["u1", "w1"], pending: [] },
    {
      name: "a row of its own (the default keeps)",
      rows: [local],
      summary: { ...none, kept: 1 },
      users: ["u1", "u9", "w1"],
      pending: ["INSERT users u9 base 0"]
    },
    {
      name: "a row equal to the account's, keep",
      rows: [same],
      localRows: "keep",
      summary: { ...none, identical: 1 },
      users: ["u1", "w1"],
      pending: []
    },
    {
      name: "a row that differs from the account's, keep",
      rows: [different, local],
      localRows: "keep",
      summary: { ...none, kept: 2 },
      users: ["u1", "u9", "w1"],
      pending: ["UPDATE users u1 base 0", "INSERT users u9 base 0"]
    },
    {
      name: "a row created and deleted, keep",
      rows: removed,
      localRows: "keep",
      summary: { ...none, identical: 1 },
      users: ["u1", "w1"],
      pending: []
    },
    {
      name: "everything, replace",
      rows: [different, local, ...removed],
      localRows: "replace",
      summary: { ...none, discarded: 3 },
      users: ["u1", "w1"],
      pending: []
    }
  ]
  for (const row of rows) {
    it.scoped(row.name, () =>
      Effect.gen(function*() {
        const { device, world } = yield* account()
        for (const statement of row.rows) yield* device.run(statement)
        const attached = yield* device.sync.attach("ann", { localRows: row.localRows })
        assert.deepInclude(attached, {
          outcome: "used_remote_state",
          restore: { bundleSeq: 2, rowCount: 2 },
          localRows: row.summary
        })
        assert.deepStrictEqual(yield* ids(device), row.users)
        assert.deepStrictEqual(yield* dirty(device), row.pending)
        assert.strictEqual(
          attached.status === "connected" && attached.syncStatus.pending.pendingRowCount,
          row.pending.length
        )
        yield* checkInvariants(device)
        yield* device.sync.sync
        yield* checkInvariants(device)
        const server = yield* world.serverRows
        assert.deepStrictEqual(new Set(server.keys()), new Set(row.users.map((id) => `users ${id}`)))
        // Base 0: what the account had is shown to the resolver, which lets the server win by default.
        assert.deepInclude(server.get("users u1"), { name: "Ann" })
      }))
  }

  it.scoped("refuse: LocalRowsPending before anything is asked of the snapshot; the host chooses again", () =>
    Effect.gen(function*() {
      const { device, world } = yield* account([local])
      const before = yield* dump(device)
      yield* failsWith(device.sync.attach("ann", { localRows: "refuse" }), {
        _tag: "LocalRowsPending",
        operation: "attach",
        pendingRowCount: 1,
        action: "choose_local_rows"
      })
      assert.deepStrictEqual(yield* world.network.asked, ["capabilities", "connect"])
      assert.deepStrictEqual(yield* dump(device), before)
      assert.deepInclude(yield* device.sync.attach("ann", { localRows: "replace" }), { outcome: "used_remote_state" })
    }))

  it.scoped("refuse: a row written during the download is found in the transaction that decides", () =>
    Effect.gen(function*() {
      const { device, world } = yield* account()
      yield* world.network.fault("snapshot chunk", after(device.run(local)))
      yield* failsWith(device.sync.attach("ann", { localRows: "refuse" }), {
        _tag: "LocalRowsPending",
        pendingRowCount: 1
      })
      assert.strictEqual(yield* durableState(device), "anonymous dirty")
      assert.deepStrictEqual(yield* ids(device), ["u9"])
      yield* checkInvariants(device)
    }))

  for (const localRows of ["keep", "replace"] as const) {
    it.scoped(`a row written during the download is pending like the others: ${localRows}`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* account()
        yield* world.network.fault("snapshot create", before(device.run(local)))
        yield* world.network.fault(
          "snapshot chunk",
          after(device.run("INSERT INTO users VALUES ('u8', 'Late', NULL, 8)"))
        )
        const attached = yield* device.sync.attach("ann", { localRows })
        assert.deepInclude(attached, {
          localRows: localRows === "keep" ? { ...none, kept: 2 } : { ...none, discarded: 2 }
        })
        assert.deepStrictEqual(yield* ids(device), localRows === "keep" ? ["u1", "u8", "u9", "w1"] : ["u1", "w1"])
        yield* checkInvariants(device)
      }))
  }

  it.scoped("localRows has no effect on any other answer", () =>
    Effect.gen(function*() {
      for (const localRows of ["keep", "replace", "refuse"] as const) {
        const device = yield* withLocalRows(yield* makeWorld())
        assert.deepInclude(yield* device.sync.attach("ann", { localRows }), { outcome: "seeded_from_local" })
        assert.deepStrictEqual(yield* ids(device), ["u8", "u9"])
        assert.strictEqual((yield* device.sync.sync).pushOutcome, "committed")
      }
    }))
})

describe("a frozen seed left by a lost lease counts as pending [lifecycle.md §5.4 step 4, push.md §10.1]", () => {
  const seeded = Effect.gen(function*() {
    const world = yield* makeWorld()
    const device = yield* states["lease lost"].build(world)
    yield* world.reset
    yield* clean(world)
    yield* device.run("INSERT INTO users VALUES ('u8', 'Late', NULL, 8)")
    assert.deepStrictEqual(yield* frozen(device), ["INSERT users u1 base 0"])
    return { world, device }
  })

  it.scoped("keep: thawed, the identical row dropped, the other kept", () =>
    Effect.gen(function*() {
      const { device, world } = yield* seeded
      assert.deepInclude(yield* device.sync.attach("ann"), {
        outcome: "used_remote_state",
        localRows: { kept: 1, identical: 1, discarded: 0, recovered: 0 }
      })
      yield* checkInvariants(device)
      yield* device.sync.sync
      assert.deepStrictEqual([...(yield* world.serverRows).keys()].sort(), ["users u1", "users u8", "users w1"])
    }))

  it.scoped("replace: discarded, both of them", () =>
    Effect.gen(function*() {
      const { device } = yield* seeded
      assert.deepInclude(yield* device.sync.attach("ann", { localRows: "replace" }), {
        localRows: { kept: 0, identical: 0, discarded: 2, recovered: 0 }
      })
      assert.deepStrictEqual(yield* ids(device), ["u1", "w1"])
      yield* checkInvariants(device)
    }))

  it.scoped("refuse: counted", () =>
    Effect.gen(function*() {
      const { device } = yield* seeded
      const before = yield* dump(device)
      yield* failsWith(device.sync.attach("ann", { localRows: "refuse" }), {
        _tag: "LocalRowsPending",
        pendingRowCount: 2
      })
      assert.deepStrictEqual(yield* dump(device), before)
    }))
})

describe("a failure of the last step leaves the client anonymous, writable and unchanged [lifecycle.md §5, §5.4]", () => {
  const contradictions: ReadonlyArray<readonly [string, ReadonlyArray<string>, string, string, string]> = [
    [
      "UNIQUE",
      ["INSERT INTO users VALUES ('u9', 'Local', 'ann@x', 9)"],
      "users",
      "u9",
      "UPDATE users SET email = 'mine@x' WHERE id = 'u9'"
    ],
    [
      "FOREIGN KEY",
      [
        "INSERT INTO users VALUES ('u1', 'Ann', 'ann@x', 1.5)",
        "PRAGMA foreign_keys = OFF",
        "INSERT INTO posts VALUES ('p1', 'Orphan', 'nobody')",
        "PRAGMA foreign_keys = ON"
      ],
      "posts",
      "p1",
      "UPDATE posts SET author_id = 'w1' WHERE id = 'p1'"
    ]
  ]
  for (const [what, rows, table, key, remedy] of contradictions) {
    it.scoped(`${what}: a kept row contradicts the snapshot → local_constraint naming it; changing it leads on`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* account()
        for (const row of rows) yield* device.run(row)
        const unchanged = yield* dump(device, ["_sync_snapshot_stage"])
        yield* failsWith(device.sync.attach("ann"), {
          _tag: "LocalDataError",
          code: "local_constraint",
          operation: "attach",
          row: { schema: "business", table, key: `{"id":"${key}"}` },
          action: "fix_data"
        })
        assert.deepStrictEqual(yield* dump(device, ["_sync_snapshot_stage"]), unchanged)
        yield* checkInvariants(device)
        yield* device.run("PRAGMA foreign_keys = OFF")
        yield* device.run(remedy)
        yield* device.run("PRAGMA foreign_keys = ON")
        yield* world.network.asked
        assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "used_remote_state" })
        assert.include(yield* world.network.asked, "snapshot create")
        yield* checkInvariants(device)
      }))
  }

  it.scoped("SQLite fails in the middle: StorageError, and the next attach downloads a fresh snapshot", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* clean(world)
      const device = yield* powerOn(world.network, path.join(yield* temporaryFolder, "a.db"), once)
      yield* device.run(local)
      yield* device.sync.open
      const unchanged = yield* dump(device, ["_sync_snapshot_stage"])
      const full = new SqlError.SqlError({ cause: Object.assign(new Error("full"), { code: "SQLITE_FULL" }) })
      yield* device.power.failAt((text) => text.startsWith("DELETE FROM \"users\""), full)
      yield* failsWith(device.sync.attach("ann"), { _tag: "StorageError", code: "full", operation: "attach" })
      assert.deepStrictEqual(yield* dump(device, ["_sync_snapshot_stage"]), unchanged)
      assert.strictEqual(yield* durableState(device), "anonymous dirty")
      yield* device.run("INSERT INTO users VALUES ('u8', 'Late', NULL, 8)")
      yield* world.network.asked
      assert.deepInclude(yield* device.sync.attach("ann"), {
        localRows: { kept: 2, identical: 0, discarded: 0, recovered: 0 }
      })
      assert.include(yield* world.network.asked, "snapshot create")
      yield* checkInvariants(device)
      yield* device.off
    }))

  it.scoped("the snapshot session is deleted on the server, after a success and after a failure", () =>
    Effect.gen(function*() {
      const { device, world } = yield* account()
      yield* world.network.fault("snapshot chunk", lost)
      yield* failsWith(device.sync.attach("ann"), { _tag: "TransportError" })
      yield* turn
      yield* device.sync.attach("ann")
      yield* turn
      const deleted = world.network.requests.filter(({ route }) => route === "snapshot delete")
      assert.strictEqual(deleted.length, 2)
    }))
})

describe("cut off at any transaction of the attach [lifecycle.md §5.2]", () => {
  const attempt = (world: World, filename: string) =>
    Effect.gen(function*() {
      const device = yield* powerOn(world.network, filename, once)
      yield* device.run("INSERT OR IGNORE INTO users VALUES ('u9', 'Local', 'local@x', 9)")
      yield* device.sync.open
      return device
    })

  it.scoped(
    "the next attach ends where an undisturbed one does, without network if only the last step is missing",
    () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        yield* clean(world)
        const folder = yield* temporaryFolder
        const whole = yield* attempt(world, path.join(folder, "whole.db"))
        yield* whole.power.forget
        yield* whole.sync.attach("ann")
        const commits = whole.power.statements.filter((text) => text === "COMMIT").length
        const wanted = yield* contents(whole)
        const pending = yield* dirty(whole)
        yield* whole.off
        const seen = new Set<string>()
        for (let nth = 1; nth <= commits; nth++) {
          for (const when of ["before", "after"] as const) {
            yield* turn
            const filename = path.join(folder, `${when}${nth}.db`)
            const device = yield* attempt(world, filename)
            let count = 0
            yield* device.power.cutAt(when, (text) => text === "COMMIT" && ++count === nth)
            yield* Effect.exit(device.sync.attach("ann"))
            assert.isTrue(yield* device.power.isCut)
            yield* device.off
            const again = yield* powerOn(world.network, filename, once)
            yield* again.sync.open
            yield* checkInvariants(again)
            const state = yield* durableState(again)
            seen.add(state)
            yield* world.network.asked
            const attached = yield* again.sync.attach("ann")
            const asked = yield* world.network.asked
            assert.deepInclude(attached, {
              outcome: state.startsWith("attached") ? "resumed_attached_state" : "used_remote_state"
            })
            if (state !== "anonymous dirty") assert.deepStrictEqual(asked, [])
            assert.deepStrictEqual(yield* contents(again), wanted)
            assert.deepStrictEqual(yield* dirty(again), pending)
            yield* checkInvariants(again)
            yield* again.off
          }
        }
        assert.sameMembers([...seen], [
          "anonymous dirty",
          "anonymous remote_replace dirty",
          "attached dirty"
        ])
      }),
    60_000
  )

  it.scoped("an interrupted attach leaves no lock and no guard behind", () =>
    Effect.gen(function*() {
      const { device, world } = yield* account([local])
      yield* world.network.fault("snapshot chunk", () => Effect.never)
      const fiber = yield* Effect.fork(device.sync.attach("ann"))
      while (!world.network.requests.some(({ route }) => route === "snapshot chunk")) yield* turn
      yield* Effect.fork(Effect.zipRight(turn, Effect.void))
      yield* fiber.interruptAsFork(fiber.id())
      yield* fiber.await
      assert.strictEqual(yield* durableState(device), "anonymous dirty")
      yield* checkInvariants(device)
      assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "used_remote_state" })
    }))
})
