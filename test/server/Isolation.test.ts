/** Scopes do not meet (server.md §16.1, issue 4). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { device, effects, insert, outcome, remove, update, user } from "./support/Device.js"
import { inProcess } from "./support/TestServer.js"

const owner = device("source-a", "owner")
const stranger = device("source-a", "stranger")
const unknown = device("source-a", "unknown")

const arranged = Effect.gen(function*() {
  yield* owner.connect(false)
  yield* stranger.connect(false)
  yield* owner.push(1, [user(1), user(2)])
  const staged = (yield* owner.create(2, 1)).body["push_id"]
  yield* owner.chunk(staged, 0, [user(3)])
  const snapshot = (yield* owner.snapshot()).body["snapshot_id"]
  return { staged, snapshot }
})

describe("another user", () => {
  for (const other of [stranger, unknown]) {
    it.effect(`(${other.user}) meets 403 on every endpoint that takes an id, and changes nothing [server.md §16.1]`, () =>
      Effect.gen(function*() {
        const { snapshot, staged } = yield* arranged
        assert.strictEqual(outcome(yield* other.chunk(staged, 1, [user(4)])), "403 push_session_forbidden")
        assert.strictEqual(outcome(yield* other.commit(staged)), "403 push_session_forbidden")
        assert.strictEqual(outcome(yield* other.dropPush(staged)), "403 push_session_forbidden")
        assert.strictEqual(outcome(yield* other.snapshotChunk(snapshot)), "403 snapshot_session_forbidden")
        assert.strictEqual(outcome(yield* other.dropSnapshot(snapshot)), "403 snapshot_session_forbidden")
        assert.strictEqual(outcome(yield* owner.commit(staged)), "200")
        assert.strictEqual(outcome(yield* owner.snapshotChunk(snapshot)), "200")
      }).pipe(Effect.provide(inProcess())))
  }

  it.effect("sees nothing of the history, the rows and the source sequence [server.md §1]", () =>
    Effect.gen(function*() {
      yield* arranged
      assert.deepInclude((yield* stranger.pull(0)).body, { stable_bundle_seq: 0, bundles: [] })
      assert.strictEqual(outcome(yield* stranger.rows(1)), "404 committed_bundle_not_found")
      assert.strictEqual((yield* stranger.snapshot()).body["row_count"], 0)
      assert.strictEqual((yield* stranger.create(1, 1)).body["status"], "staging")
    }).pipe(Effect.provide(inProcess())))

  it.effect("may own the same keys and sources; foreign rows look like rows that do not exist [server.md §16.1]", () =>
    Effect.gen(function*() {
      yield* arranged
      const blind = yield* stranger.push(1, [update("users", 1, 1, { name: "mine?" })])
      assert.deepInclude(blind.body["conflict"], {
        server_row_version: 0,
        server_row_deleted: false,
        server_row: null
      })
      assert.strictEqual(outcome(yield* stranger.push(1, [user(1), user(2)])), "200")
      yield* stranger.push(2, [remove("users", 1, 1)])
      const page = yield* owner.snapshotChunk((yield* owner.snapshot()).body["snapshot_id"])
      assert.deepStrictEqual(effects(page), ["ROW users 1", "ROW users 2"])
    }).pipe(Effect.provide(inProcess())))

  it.effect("offers no parents to refer to [server.md §16.1]", () =>
    Effect.gen(function*() {
      yield* arranged
      const reply = yield* stranger.push(1, [
        insert("posts", 1, { author_id: "00000000-0000-4000-8000-000000000001" })
      ])
      assert.strictEqual(outcome(reply), "500 push_session_commit_failed")
    }).pipe(Effect.provide(inProcess())))

  it.effect("cannot rotate away a source of the same name [server.md §5]", () =>
    Effect.gen(function*() {
      yield* arranged
      assert.strictEqual(outcome(yield* stranger.rotate("source-a2")), "200")
      assert.strictEqual(outcome(yield* owner.push(2, [user(9)])), "200")
    }).pipe(Effect.provide(inProcess())))
})
