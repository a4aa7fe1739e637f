import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { TableDeclaration } from "oversqlite/server"
import { counting } from "../storage/support/database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { lost } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { pullAnswer, snapshotAnswer } from "./support/Scripted.js"
import type { ScriptedRow } from "./support/Scripted.js"
import { whileTimePasses } from "./support/Time.js"
import { makeWorld } from "./support/World.js"

const ddl = [
  `CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, email TEXT UNIQUE,
     score INTEGER CHECK (score >= 0))`,
  "CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, author TEXT REFERENCES users (id) ON DELETE CASCADE)"
]

const tables = [{ name: "users", key: "id" }, { name: "posts", key: "id" }]

const declared: ReadonlyArray<TableDeclaration> = [
  { schema: "business", table: "users", key: { column: "id", kind: "text" } },
  { schema: "business", table: "posts", key: { column: "id", kind: "text" } },
  { schema: "business", table: "extra", key: { column: "id", kind: "text" } },
  { schema: "other", table: "users", key: { column: "id", kind: "text" } }
]

const user = (id: string, change: Record<string, unknown> = {}): ScriptedRow => ({
  table: "users",
  key: JSON.stringify({ id }),
  payload: JSON.stringify({ id, name: "Ann", email: null, score: 1, ...change })
})

const post = (id: string, author: string | null): ScriptedRow => ({
  table: "posts",
  key: JSON.stringify({ id }),
  payload: JSON.stringify({ id, author })
})

const extra: ScriptedRow = { table: "extra", key: `{"id":"e"}`, payload: `{"id":"e"}` }

const ids = (device: Device, table = "users") =>
  Effect.map(device.run(`SELECT id FROM ${table} ORDER BY id`), (rows) => rows.map((row) => row["id"]))

const budgets = [1, 3, 4096]

const ready = (options: Parameters<Effect.Effect.Success<ReturnType<typeof makeWorld>>["attached"]>[0] = {}) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared })
    const a = yield* world.attached({ ddl, tables, ...options })
    return { world, a }
  })

describe("a row that cannot be used: the group is cut before its bundle [pull.md §4.2 line 1]", () => {
  const table: ReadonlyArray<
    readonly [says: string, row: ScriptedRow, error: { readonly code: string; readonly row: Record<string, unknown> }]
  > = [
    ["a table that is not configured", extra, {
      code: "unknown_table",
      row: { schema: "business", table: "extra", key: `{"id":"e"}` }
    }],
    ["another schema", { ...user("u9"), schema: "other" }, {
      code: "schema_mismatch",
      row: { schema: "other", table: "users", key: `{"id":"u9"}` }
    }],
    ["a key of another column", { ...user("u9"), key: `{"key":"u9"}` }, {
      code: "payload_bad_wire_encoding",
      row: { schema: "business", table: "users", key: `{"key":"u9"}` }
    }],
    ["other columns", { ...user("u9"), payload: `{"id":"u9"}` }, {
      code: "payload_column_mismatch",
      row: { schema: "business", table: "users", key: `{"id":"u9"}` }
    }],
    ["another key in the payload", { ...user("u9"), payload: user("u8").payload ?? "" }, {
      code: "payload_key_mismatch",
      row: { schema: "business", table: "users", key: `{"id":"u9"}` }
    }],
    ["a value without a form", user("u9", { name: { first: "Ann" } }), {
      code: "payload_bad_wire_encoding",
      row: { schema: "business", table: "users", key: `{"id":"u9"}` }
    }],
    ["NOT NULL", user("u9", { name: null }), {
      code: "local_constraint",
      row: { schema: "business", table: "users", key: `{"id":"u9"}` }
    }],
    ["CHECK", user("u9", { score: -1 }), {
      code: "local_constraint",
      row: { schema: "business", table: "users", key: `{"id":"u9"}` }
    }]
  ]
  for (const [says, row, error] of table) {
    it.scoped(says, () =>
      Effect.gen(function*() {
        for (const applyRows of budgets) {
          const { a, world } = yield* ready({ applyRows })
          yield* pullAnswer(world.network, [[user("u1")], [user("u2")], [user("u3"), row], [user("u4")]])
          yield* failsWith(a.sync.pullToStable, { _tag: "LocalDataError", operation: "pullToStable", ...error })
          assert.deepStrictEqual(yield* ids(a), ["u1", "u2"])
          assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 2)
          yield* checkInvariants(a)
        }
      }))
  }

  it.scoped("an older version of the offending row does not keep the bundles before it back", () =>
    Effect.gen(function*() {
      for (const applyRows of budgets) {
        const { a, world } = yield* ready({ applyRows })
        const bad = user("u9", { name: { first: "Ann" } })
        yield* pullAnswer(world.network, [[user("u1")], [bad], [user("u2")], [bad]])
        yield* failsWith(a.sync.pullToStable, { _tag: "LocalDataError", code: "payload_bad_wire_encoding" })
        assert.deepStrictEqual(yield* ids(a), ["u1"], `budget ${applyRows}`)
        assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 1)
        yield* checkInvariants(a)
      }
    }))

  it.scoped("nor does an older version that a constraint refuses", () =>
    Effect.gen(function*() {
      for (const applyRows of budgets) {
        const { a, world } = yield* ready({ applyRows })
        const bad = user("u9", { name: null })
        yield* pullAnswer(world.network, [[user("u1")], [bad], [user("u2")], [bad]])
        yield* failsWith(a.sync.pullToStable, { _tag: "LocalDataError", code: "local_constraint" })
        assert.deepStrictEqual(yield* ids(a), ["u1"], `budget ${applyRows}`)
        assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 1)
        yield* checkInvariants(a)
      }
    }))

  it.scoped("a version that a later one of the same group replaces is never looked at [§4.1 step 2]", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* pullAnswer(world.network, [[user("u9", { name: null })], [user("u9", { name: "Ann" })]])
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
      assert.deepStrictEqual(yield* ids(a), ["u9"])
    }))

  it.scoped("the row is found by halving: about a dozen statements for 4096 rows", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      const rows = Array.from({ length: 4096 }, (_, index) => user(`u${index}`, index === 2987 ? { score: -1 } : {}))
      yield* pullAnswer(world.network, [rows])
      const [, { statements }] = yield* counting(failsWith(a.sync.pullToStable, {
        _tag: "LocalDataError",
        code: "local_constraint",
        row: { schema: "business", table: "users", key: `{"id":"u2987"}` }
      }))
      assert.strictEqual(statements.filter((text) => /^INSERT INTO "users"/.test(text)).length, 13)
      yield* checkInvariants(a)
    }))
})

describe("unknownTables: ignore [pull.md §4.1 step 1, quirk 3]", () => {
  it.scoped("rows of other tables are skipped and counted, and the checkpoint moves over them", () =>
    Effect.gen(function*() {
      for (const applyRows of budgets) {
        const { a, world } = yield* ready({ applyRows, unknownTables: "ignore", downloadLimit: 2 })
        yield* world.write([{ table: "extra", key: "e1", payload: {} }])
        yield* world.write([
          { table: "users", key: "u1", payload: { name: "Ann", email: null, score: 1 } },
          { table: "extra", key: "e2", payload: {} },
          { table: "extra", key: "e3", payload: {} }
        ])
        yield* world.write([{ table: "extra", key: "e1", payload: null }])
        const report = yield* a.sync.pullToStable
        assert.strictEqual(report.outcome, "applied_incremental")
        assert.strictEqual(report.ignoredRowCount, 4)
        assert.strictEqual(report.status.lastBundleSeqSeen, 3)
        assert.deepStrictEqual(yield* ids(a), ["u1"])
        yield* checkInvariants(a)
        const rebuilt = yield* a.sync.rebuild
        assert.strictEqual(rebuilt.ignoredRowCount, 2)
        assert.deepStrictEqual(rebuilt.restore, { bundleSeq: 3, rowCount: 3 })
        assert.deepStrictEqual(yield* ids(a), ["u1"])
        yield* checkInvariants(a)
        const fresh = yield* world.attached({ ddl, tables, unknownTables: "ignore" })
        assert.deepStrictEqual(yield* ids(fresh), ["u1"])
      }
    }))

  it.scoped("a snapshot with such a row fails by default, and changes nothing", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* pullAnswer(world.network, [[user("u1")]])
      yield* a.sync.pullToStable
      yield* snapshotAnswer(world.network, [user("u2"), extra], 2)
      yield* failsWith(a.sync.rebuild, { _tag: "LocalDataError", code: "unknown_table" })
      assert.deepStrictEqual(yield* ids(a), ["u1"])
      yield* checkInvariants(a)
      yield* snapshotAnswer(world.network, [{ ...user("u2"), schema: "other" }], 2)
      yield* failsWith(a.sync.rebuild, { _tag: "LocalDataError", code: "schema_mismatch" })
      assert.deepStrictEqual(yield* ids(a), ["u1"])
      yield* checkInvariants(a)
    }))
})

describe("UNIQUE or FOREIGN KEY refused a row: order or mixture [pull.md §4.2 line 3]", () => {
  it.scoped("is retried once as one group up to the end of the page", () =>
    Effect.gen(function*() {
      for (const applyRows of [1, 2]) {
        const { a, world } = yield* ready({ applyRows })
        yield* pullAnswer(world.network, [[user("p0")], [post("p1", "u1")], [post("p2", null)], [user("u1")]])
        yield* world.network.asked
        assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_incremental")
        assert.deepStrictEqual(yield* world.network.asked, ["pull"])
        assert.deepStrictEqual(yield* ids(a, "posts"), ["p1", "p2"])
        assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 4)
        yield* checkInvariants(a)
      }
    }))

  it.scoped("still refused: a keep-source rebuild in the same call", () =>
    Effect.gen(function*() {
      for (const applyRows of budgets) {
        const { a, world } = yield* ready({ applyRows })
        yield* pullAnswer(world.network, [[user("u0")], [post("p1", "u1")], [post("p2", null)]])
        yield* snapshotAnswer(world.network, [post("p1", "u1"), user("u0"), user("u1")], 4)
        const report = yield* a.sync.pullToStable
        assert.strictEqual(report.outcome, "applied_snapshot")
        assert.deepStrictEqual(report.restore, { bundleSeq: 4, rowCount: 3 })
        assert.strictEqual(yield* a.sync.lastBundleSeqSeen, 4)
        yield* checkInvariants(a)
      }
    }))

  it.scoped("the same for a UNIQUE value of a row that is not in the page", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* pullAnswer(world.network, [[user("u1", { email: "a@x" })]])
      yield* a.sync.pullToStable
      yield* pullAnswer(world.network, [[user("u2", { email: "a@x" })]], 2)
      yield* snapshotAnswer(world.network, [user("u2", { email: "a@x" }), user("u1")], 3)
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "applied_snapshot")
      assert.deepStrictEqual(yield* ids(a), ["u1", "u2"])
      yield* checkInvariants(a)
    }))

  it.scoped("a rebuild that fails on the network opens the gate again: incremental sync still works", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* pullAnswer(world.network, [[user("u0")], [post("p1", "u1")]])
      yield* world.network.fault("snapshot create", lost, 3)
      yield* whileTimePasses(failsWith(a.sync.pullToStable, { _tag: "RetryExhausted" }))
      assert.deepStrictEqual(yield* ids(a), [])
      assert.isFalse((yield* a.sync.inspect).attachment.rebuildRequired)
      yield* checkInvariants(a)
      assert.strictEqual((yield* a.sync.pullToStable).outcome, "already_at_target")
    }))

  it.scoped("a rebuild that fails on a constraint names the row; the gate opens again", () =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      yield* pullAnswer(world.network, [[post("p1", "u1")]])
      yield* snapshotAnswer(world.network, [user("u0"), post("p1", "u1")], 1)
      yield* failsWith(a.sync.pullToStable, {
        _tag: "LocalDataError",
        code: "local_constraint",
        row: { schema: "business", table: "posts", key: `{"id":"p1"}` }
      })
      assert.deepStrictEqual(yield* ids(a), [])
      assert.isFalse((yield* a.sync.inspect).attachment.rebuildRequired)
      yield* checkInvariants(a)
    }))
})

describe("the statements of a pull and of a snapshot do not depend on the number of rows [DESIGN §5]", () => {
  const measure = (rows: number) =>
    Effect.gen(function*() {
      const { a, world } = yield* ready()
      const users = Array.from({ length: rows }, (_, index) => user(`u${index}`, { email: `${index}@x` }))
      const posts = users.map((_, index) => post(`p${index}`, `u${index}`))
      yield* pullAnswer(world.network, [users, posts])
      const [, pulled] = yield* counting(a.sync.pullToStable)
      yield* pullAnswer(world.network, [posts.map(({ key, table }) => ({ key, table })), users.slice(1)], 3)
      const [, changed] = yield* counting(a.sync.pullToStable)
      yield* a.run("UPDATE users SET name = 'Mine'")
      yield* snapshotAnswer(world.network, [...users, ...posts], 5)
      const [, rebuilt] = yield* counting(a.sync.rebuild)
      assert.strictEqual((yield* a.sync.pendingSyncStatus).pendingRowCount, rows)
      yield* checkInvariants(a)
      return [pulled.statements.length, changed.statements.length, rebuilt.statements.length]
    })

  it.scoped("3 rows a table and 1000 rows a table", () =>
    Effect.gen(function*() {
      const few = yield* measure(3)
      assert.deepStrictEqual(yield* measure(1000), few)
      for (const count of few) assert.isBelow(count, 80)
    }))
})
