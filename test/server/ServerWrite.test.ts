/** Writes and reads of the host application (server.md §12). */
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Stream } from "effect"
import { SyncServer } from "oversqlite/server"
import type { ServerRow, TableDeclaration } from "oversqlite/server"
import { device, effects, id, insert, outcome, payloads, user } from "./support/Device.js"
import { inProcess } from "./support/TestServer.js"

const a = device("source-a")

const named = (number: number, payload: ServerRow["payload"]): ServerRow => ({
  schema: "business",
  table: "users",
  key: id(number),
  payload
})

const codeOf = <A, E extends { readonly _tag: string }, R>(operation: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(operation), (error) => "code" in error ? error.code : error._tag)

describe("a write of the host", () => {
  it.effect("is one bundle under the writer's id: inserts, updates and deletes by key [server.md §12]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      yield* a.connect(false)
      yield* a.push(1, [user(1), user(2)])
      const bundle = yield* server.write("user-1", "host", [
        named(1, { name: "by the host" }),
        named(2, null),
        named(3, { name: "new" }),
        named(4, null)
      ])
      assert.deepInclude(bundle, {
        initialized: false,
        bundleSeq: 2,
        sourceId: "host",
        sourceBundleId: 1,
        rowCount: 3
      })
      const rows = yield* a.rows(2)
      assert.deepStrictEqual(effects(rows), ["UPDATE users 1", "DELETE users 2", "INSERT users 3"])
      assert.deepInclude(payloads(rows)[0], { name: "by the host", email: "u1@example.com" })
      assert.strictEqual((yield* server.write("user-1", "host", [named(1, {})])).sourceBundleId, 2)
    }).pipe(Effect.provide(inProcess())))

  it.effect("initializes an uninitialized scope, and only if it has an effect [server.md §12]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      assert.strictEqual(yield* codeOf(server.write("user-1", "host", [named(1, null)])), "push_commit_invalid")
      assert.strictEqual(outcome(yield* a.pull(0)), "409 scope_uninitialized")
      const bundle = yield* server.write("user-1", "host", [named(1, {})])
      assert.isTrue(bundle.initialized)
      assert.strictEqual((yield* a.connect(true)).body["resolution"], "remote_authoritative")
    }).pipe(Effect.provide(inProcess())))

  it.effect("waits for nobody: a scope that is being initialized refuses [server.md §12]", () =>
    Effect.gen(function*() {
      yield* a.connect(true)
      const server = yield* SyncServer
      assert.strictEqual(yield* codeOf(server.write("user-1", "host", [named(1, {})])), "scope_initializing")
    }).pipe(Effect.provide(inProcess())))

  it.effect("is refused for blank names, unknown tables, bad data and retired writers [server.md §12]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      yield* a.connect(false)
      const row = named(1, {})
      assert.strictEqual(yield* codeOf(server.write(" ", "host", [row])), "invalid_request")
      assert.strictEqual(yield* codeOf(server.write("user-1", "\t", [row])), "invalid_request")
      assert.strictEqual(
        yield* codeOf(server.write("user-1", "host", [{ table: "users", key: "x", payload: {} }])),
        "push_chunk_invalid"
      )
      assert.strictEqual(
        yield* codeOf(server.write("user-1", "host", [{ ...row, key: "x" }])),
        "push_chunk_invalid"
      )
      assert.strictEqual(
        yield* codeOf(server.write("user-1", "host", [named(1, { shoe: 1 })])),
        "push_session_commit_failed"
      )
      yield* device("host").rotate("host-2")
      assert.strictEqual(yield* codeOf(server.write("user-1", "host", [row])), "source_retired")
      assert.strictEqual((yield* a.pull(0)).body["stable_bundle_seq"], 0)
    }).pipe(Effect.provide(inProcess())))

  it.effect("one writer may serve many scopes [server.md §12]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      for (const userId of ["user-1", "user-2"]) {
        assert.strictEqual((yield* server.write(userId, "host", [named(1, {})])).bundleSeq, 1)
      }
    }).pipe(Effect.provide(inProcess())))

  it.effect("takes part in delete actions [server.md §7.3]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      yield* a.connect(false)
      yield* a.push(1, [
        insert("categories", 1, { parent_id: null }),
        insert("categories", 2, { parent_id: id(1) })
      ])
      yield* server.write("user-1", "host", [
        { schema: "business", table: "categories", key: id(1), payload: null }
      ])
      assert.deepStrictEqual(effects(yield* a.rows(2)), ["DELETE categories 1", "DELETE categories 2"])
    }).pipe(Effect.provide(inProcess())))
})

describe("reading a scope", () => {
  const tables: ReadonlyArray<TableDeclaration> = [
    { table: "b", key: { column: "k", kind: "text" } },
    { table: "a", key: { column: "k", kind: "text" } }
  ]

  it.effect("streams all live rows, over pages and tables [server.md §10]", () =>
    Effect.gen(function*() {
      const server = yield* SyncServer
      const keys = Array.from({ length: 2500 }, (_, index) => String(index).padStart(5, "0"))
      yield* server.write("user-1", "host", [
        { table: "b", key: "x", payload: { k: "x", n: 9007199254740993n } },
        { table: "b", key: "gone", payload: {} },
        ...keys.map((key): ServerRow => ({ table: "a", key, payload: {} }))
      ])
      yield* server.write("user-1", "host", [{ table: "b", key: "gone", payload: null }])
      const rows = Chunk.toReadonlyArray(yield* Stream.runCollect(server.rows("user-1")))
      assert.deepStrictEqual(rows.map((row) => row.key), [...keys, "x"])
      assert.deepInclude(rows[2500], { rowVersion: 1, payload: "{\"k\":\"x\",\"n\":9007199254740993}" })
      assert.strictEqual(yield* Stream.runCount(server.rows("nobody")), 0)
    }).pipe(Effect.provide(inProcess({ tables }))))
})
