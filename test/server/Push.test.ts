/** Push sessions and the sequence of sources (wire.md §4.2–4.5, server.md §5, §6). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { SyncServer } from "oversqlite/server"
import { device, id, insert, outcome, remove, update, user } from "./support/Device.js"
import { ask, inProcess } from "./support/TestServer.js"

const a = device("source-a")
const b = device("source-b")

const initialized = a.connect(false)

describe("push create", () => {
  it.effect("checks the numbers before anything else [wire.md §4.2 #2]", () =>
    Effect.gen(function*() {
      assert.strictEqual(outcome(yield* a.create(0, 1)), "400 push_session_invalid")
      assert.strictEqual(outcome(yield* a.create(-1, 1)), "400 push_session_invalid")
      assert.strictEqual(outcome(yield* a.create(1, 0)), "400 push_session_invalid")
    }).pipe(Effect.provide(inProcess())))

  it.effect("replaces the staged session of the same tuple, rows and all [wire.md §4.2 #12]", () =>
    Effect.gen(function*() {
      yield* initialized
      const first = yield* a.create(1, 1)
      yield* a.chunk(first.body["push_id"], 0, [user(1)])
      const second = yield* a.create(1, 2)
      assert.strictEqual(outcome(yield* a.commit(first.body["push_id"])), "404 push_session_not_found")
      assert.strictEqual(outcome(yield* a.commit(second.body["push_id"])), "400 push_commit_invalid")
      assert.strictEqual(outcome(yield* a.chunk(second.body["push_id"], 0, [user(1), user(2)])), "200")
      assert.strictEqual(outcome(yield* a.commit(second.body["push_id"])), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("leaves sessions of other sources alone [server.md §6]", () =>
    Effect.gen(function*() {
      yield* initialized
      const mine = yield* a.create(1, 1)
      yield* b.create(1, 1)
      assert.strictEqual(outcome(yield* a.chunk(mine.body["push_id"], 0, [user(1)])), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("drops expired sessions of everybody, but only when it succeeds [wire.md §7]", () =>
    Effect.gen(function*() {
      yield* initialized
      const old = yield* a.create(1, 1)
      yield* TestClock.adjust("15 minutes")
      assert.strictEqual(outcome(yield* b.create(2, 1)), "409 source_sequence_out_of_order")
      assert.strictEqual(outcome(yield* a.commit(old.body["push_id"])), "410 push_session_expired")
      yield* b.create(1, 1)
      assert.strictEqual(outcome(yield* a.commit(old.body["push_id"])), "404 push_session_not_found")
    }).pipe(Effect.provide(inProcess())))

  it.effect("drops expired sessions when it answers already_committed, too [wire.md §7]", () =>
    Effect.gen(function*() {
      yield* initialized
      yield* a.push(1, [user(1)])
      const old = yield* b.create(1, 1)
      yield* TestClock.adjust("15 minutes")
      assert.strictEqual((yield* a.create(1, 1)).body["status"], "already_committed")
      assert.strictEqual(outcome(yield* b.commit(old.body["push_id"])), "404 push_session_not_found")
    }).pipe(Effect.provide(inProcess())))
})

describe("chunks", () => {
  it.effect("are taken in order, each once [wire.md §4.3 #8]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 3)).body
      assert.strictEqual(outcome(yield* a.chunk(push_id, 1, [user(1)])), "409 push_chunk_out_of_order")
      assert.deepStrictEqual((yield* a.chunk(push_id, 0, [user(1)])).body, { push_id, next_expected_row_ordinal: 1 })
      assert.strictEqual(outcome(yield* a.chunk(push_id, 0, [user(1)])), "409 push_chunk_out_of_order")
      assert.strictEqual(outcome(yield* a.chunk(push_id, 1, [user(2), user(3)])), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("must not go beyond the planned count [wire.md §4.3 #9]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 1)).body
      assert.strictEqual(outcome(yield* a.chunk(push_id, 0, [user(1), user(2)])), "400 push_chunk_invalid")
      assert.strictEqual(outcome(yield* a.chunk(push_id, 0, [user(1)])), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("must not be larger than the limit [wire.md §4.3 #2]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 3)).body
      assert.strictEqual(outcome(yield* a.chunk(push_id, 0, [user(1), user(2), user(3)])), "400 push_chunk_invalid")
      assert.strictEqual(outcome(yield* a.chunk(push_id, 0, [user(1), user(2)])), "200")
    }).pipe(Effect.provide(inProcess({ maxRowsPerPushChunk: 2 }))))

  it.effect("with an invalid row are refused before the session is looked up [wire.md §9 #3]", () =>
    Effect.gen(function*() {
      yield* initialized
      const bad = insert("nowhere", 1, {})
      assert.strictEqual(outcome(yield* a.chunk(id(77), 0, [bad])), "400 push_chunk_invalid")
      assert.strictEqual(outcome(yield* a.chunk(id(77), 0, [user(1)])), "404 push_session_not_found")
    }).pipe(Effect.provide(inProcess())))

  it.effect("extend the life of their session, refused ones do not [wire.md §4.3]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 3)).body
      yield* TestClock.adjust("10 minutes")
      yield* a.chunk(push_id, 0, [user(1)])
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(outcome(yield* a.chunk(push_id, 2, [user(2)])), "409 push_chunk_out_of_order")
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(outcome(yield* a.chunk(push_id, 1, [user(2)])), "410 push_session_expired")
    }).pipe(Effect.provide(inProcess())))

  it.effect("may come from another source of the user; the session keeps its own [wire.md §9 #2]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 1)).body
      assert.strictEqual(outcome(yield* b.chunk(push_id, 0, [user(1)])), "200")
      assert.strictEqual((yield* b.commit(push_id)).body["source_id"], "source-a")
    }).pipe(Effect.provide(inProcess())))

  it.effect("are accepted for a retired source, whose commit is refused [wire.md §4.3]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 1)).body
      yield* a.rotate("source-a2")
      assert.strictEqual(outcome(yield* a.chunk(push_id, 0, [user(1)])), "200")
      const refused = yield* a.commit(push_id)
      assert.strictEqual(outcome(refused), "409 source_retired")
      assert.strictEqual(refused.body["source_id"], "source-a")
      assert.strictEqual(refused.body["replaced_by_source_id"], "source-a2")
      assert.strictEqual(outcome(yield* a.dropPush(push_id)), "204")
    }).pipe(Effect.provide(inProcess())))

  it.effect("name every row they are refused for [wire.md §12]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 4)).body
      const refused = yield* a.chunk(push_id, 0, [
        user(1),
        { ...user(2), op: "UPSERT" },
        { ...remove("users", 3, 1), payload: null },
        user(1)
      ])
      assert.strictEqual(outcome(refused), "400 push_chunk_invalid")
      assert.deepStrictEqual(refused.body["rows"], [
        { schema: "business", table: "users", key: { id: id(2) }, reason: "invalid op \"UPSERT\"" },
        {
          schema: "business",
          table: "users",
          key: { id: id(3) },
          reason: "DELETE for business.users must not include payload"
        },
        {
          schema: "business",
          table: "users",
          key: { id: id(1) },
          reason: `duplicate target row in push request: business.users ${id(1)}`
        }
      ])
    }).pipe(Effect.provide(inProcess())))
})

describe("refusals", () => {
  for (const value of ["9007199254740993", "[".repeat(9000) + "9007199254740993" + "]".repeat(9000), "\"<&>\""]) {
    it.effect(`show a key as it was sent: ${value.slice(0, 20)} [wire.md §2.1, §12]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        const rows = `[{"schema":"business","table":"users","op":"DELETE","key":{"id":${value}}}]`
        const answer = yield* ask(`/sync/push-sessions/${id(1)}/chunks`, { body: `{"rows":${rows}}` })
        assert.strictEqual(answer.status, 400, answer.text)
        const text = value.replace(/[<>&]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`)
        assert.include(answer.text, `"key":{"id":${text}}`)
      }).pipe(Effect.provide(inProcess())))
  }
})

describe("session ids in the path", () => {
  it.effect("may be undashed, uppercase or in braces, and are echoed as sent [wire.md §9 #13]", () =>
    Effect.gen(function*() {
      yield* initialized
      const pushId = String((yield* a.create(1, 3)).body["push_id"])
      const spelled = pushId.replaceAll("-", "").toUpperCase()
      assert.deepStrictEqual((yield* a.chunk(spelled, 0, [user(1)])).body, {
        push_id: spelled,
        next_expected_row_ordinal: 1
      })
      assert.strictEqual(outcome(yield* a.dropPush(encodeURIComponent(`{${pushId}}`))), "204")
      const snapshotId = String((yield* a.snapshot()).body["snapshot_id"]).toUpperCase()
      assert.strictEqual((yield* a.snapshotChunk(snapshotId)).body["snapshot_id"], snapshotId)
    }).pipe(Effect.provide(inProcess())))

  it.effect("that are no UUID are unknown push sessions and failing snapshots [wire.md §9 #13]", () =>
    Effect.gen(function*() {
      yield* initialized
      for (const malformed of ["x", "1234", encodeURIComponent(`urn:uuid:${id(1)}`)]) {
        assert.strictEqual(outcome(yield* a.chunk(malformed, 0, [user(1)])), "404 push_session_not_found")
        assert.strictEqual(outcome(yield* a.commit(malformed)), "404 push_session_not_found")
        assert.strictEqual(outcome(yield* a.dropPush(malformed)), "404 push_session_not_found")
        assert.strictEqual(outcome(yield* a.snapshotChunk(malformed)), "500 snapshot_chunk_failed")
        assert.strictEqual(outcome(yield* a.dropSnapshot(malformed)), "500 snapshot_session_delete_failed")
      }
    }).pipe(Effect.provide(inProcess())))
})

describe("push delete", () => {
  it.effect("drops a session once; an expired one is refused and stays [wire.md §4.5]", () =>
    Effect.gen(function*() {
      yield* initialized
      const first = (yield* a.create(1, 1)).body["push_id"]
      assert.strictEqual(outcome(yield* a.dropPush(first)), "204")
      assert.strictEqual(outcome(yield* a.dropPush(first)), "404 push_session_not_found")
      const second = (yield* a.create(1, 1)).body["push_id"]
      yield* TestClock.adjust("15 minutes")
      assert.strictEqual(outcome(yield* a.dropPush(second)), "410 push_session_expired")
      assert.strictEqual(outcome(yield* a.dropPush(second)), "410 push_session_expired")
    }).pipe(Effect.provide(inProcess())))
})

describe("commit", () => {
  it.effect("needs every planned row, and each key once across chunks [wire.md §4.4 #4]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 2)).body
      yield* a.chunk(push_id, 0, [user(1)])
      assert.strictEqual(outcome(yield* a.commit(push_id)), "400 push_commit_invalid")
      yield* a.chunk(push_id, 1, [user(1)])
      assert.strictEqual(outcome(yield* a.commit(push_id)), "400 push_commit_invalid")
    }).pipe(Effect.provide(inProcess())))

  it.effect("happens once: the session is gone afterwards [server.md §7.6]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* a.create(1, 1)).body
      yield* a.chunk(push_id, 0, [user(1)])
      assert.strictEqual(outcome(yield* a.commit(push_id)), "200")
      assert.strictEqual(outcome(yield* a.commit(push_id)), "404 push_session_not_found")
      assert.strictEqual((yield* a.pull(0)).body["stable_bundle_seq"], 1)
    }).pipe(Effect.provide(inProcess())))

  it.effect("leaves session and data as they were after a refusal [wire.md §4.4]", () =>
    Effect.gen(function*() {
      yield* initialized
      yield* a.push(1, [user(1)])
      const { push_id } = (yield* b.create(1, 2)).body
      yield* b.chunk(push_id, 0, [user(2), update("users", 1, 7, { name: "x" })])
      assert.strictEqual(outcome(yield* b.commit(push_id)), "409 push_conflict")
      assert.strictEqual(outcome(yield* b.commit(push_id)), "409 push_conflict")
      assert.strictEqual((yield* a.pull(0)).body["stable_bundle_seq"], 1)
      assert.strictEqual((yield* a.snapshot()).body["row_count"], 1)
    }).pipe(Effect.provide(inProcess())))
})

describe("the sequence of a source", () => {
  it.effect("has no gaps and no way back [server.md §5]", () =>
    Effect.gen(function*() {
      yield* initialized
      yield* a.push(1, [user(1)])
      yield* a.push(2, [user(2)])
      assert.strictEqual(outcome(yield* a.create(4, 1)), "409 source_sequence_out_of_order")
      const repeated = yield* a.create(1, 9)
      assert.strictEqual(repeated.body["status"], "already_committed")
      assert.strictEqual(repeated.body["bundle_seq"], 1)
      assert.strictEqual(repeated.body["row_count"], 1)
      assert.strictEqual((yield* b.create(1, 1)).body["status"], "staging")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a failed commit does not use up the number [server.md §7.6]", () =>
    Effect.gen(function*() {
      yield* initialized
      yield* a.push(1, [user(1)])
      assert.strictEqual(outcome(yield* b.push(1, [user(1)])), "409 push_conflict")
      assert.strictEqual(outcome(yield* b.push(1, [user(2)])), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a write of the host under a device's id changes it after staging [wire.md §4.4 #7]", () =>
    Effect.gen(function*() {
      yield* initialized
      const server = yield* SyncServer
      yield* a.push(1, [user(1)])
      const staged = (yield* a.create(2, 1)).body["push_id"]
      yield* a.chunk(staged, 0, [user(2)])
      yield* server.write("user-1", "source-a", [{
        schema: "business",
        table: "users",
        key: id(3),
        payload: { name: "by the host" }
      }])
      assert.strictEqual(outcome(yield* a.commit(staged)), "409 source_sequence_changed")
      assert.strictEqual((yield* a.create(2, 1)).body["status"], "already_committed")
    }).pipe(Effect.provide(inProcess())))
})

describe("retirement and reservation", () => {
  it.effect("a retired source may read, but not write [server.md §5]", () =>
    Effect.gen(function*() {
      yield* initialized
      yield* a.push(1, [user(1)])
      assert.strictEqual(outcome(yield* a.rotate("source-a2")), "200")
      assert.strictEqual((yield* a.create(1, 1)).body["status"], "already_committed")
      for (const number of [2, 9]) {
        assert.strictEqual(outcome(yield* a.create(number, 1)), "409 source_retired")
      }
      assert.strictEqual(outcome(yield* a.connect(true)), "200")
      assert.strictEqual(outcome(yield* a.pull(0)), "200")
      assert.strictEqual(outcome(yield* a.rows(1)), "200")
      assert.strictEqual(outcome(yield* a.snapshot()), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a reserved source starts at 1 [server.md §5]", () =>
    Effect.gen(function*() {
      yield* initialized
      yield* a.push(1, [user(1)])
      yield* a.rotate("source-a2")
      const successor = device("source-a2")
      assert.strictEqual(outcome(yield* successor.create(2, 1)), "409 source_sequence_out_of_order")
      assert.strictEqual(outcome(yield* successor.push(1, [user(2)])), "200")
    }).pipe(Effect.provide(inProcess())))

  const known = Effect.gen(function*() {
    yield* initialized
    yield* a.push(1, [user(1)])
    yield* b.push(1, [user(2)])
  })

  it.effect("a known source cannot become a replacement [server.md §11]", () =>
    Effect.gen(function*() {
      yield* known
      assert.strictEqual(outcome(yield* a.rotate("source-b")), "409 source_replacement_invalid")
      assert.strictEqual(outcome(yield* a.push(2, [user(3)])), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("an identical rotation may be repeated, also when the successor is active [server.md §11]", () =>
    Effect.gen(function*() {
      yield* known
      const first = yield* a.rotate("source-a2")
      const second = yield* a.rotate("source-a2", "source_retired")
      assert.notStrictEqual(second.body["snapshot_id"], first.body["snapshot_id"])
      yield* device("source-a2").push(1, [user(3)])
      assert.strictEqual(outcome(yield* a.rotate("source-a2")), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a retired successor makes the repetition invalid [wire.md §4.9 #5]", () =>
    Effect.gen(function*() {
      yield* known
      yield* a.rotate("source-a2")
      yield* device("source-a2").rotate("source-a3")
      assert.strictEqual(outcome(yield* a.rotate("source-a2")), "409 source_replacement_invalid")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a rotation to another successor names the recorded one [wire.md §4.9 #4]", () =>
    Effect.gen(function*() {
      yield* known
      yield* a.rotate("source-a2")
      const refused = yield* a.rotate("source-a9")
      assert.strictEqual(outcome(refused), "409 source_retired")
      assert.strictEqual(refused.body["replaced_by_source_id"], "source-a2")
    }).pipe(Effect.provide(inProcess())))

  it.effect("an unknown or reserved source may be rotated [server.md §11]", () =>
    Effect.gen(function*() {
      yield* initialized
      assert.strictEqual(outcome(yield* a.rotate("source-a2")), "200")
      assert.strictEqual(outcome(yield* device("source-a2").rotate("source-a3")), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a source that has only staged is unknown: it may be named, and commits afterwards [wire.md §4.9]", () =>
    Effect.gen(function*() {
      yield* initialized
      const { push_id } = (yield* b.create(1, 1)).body
      yield* b.chunk(push_id, 0, [user(1)])
      assert.strictEqual(outcome(yield* a.rotate("source-b")), "200")
      assert.strictEqual(outcome(yield* b.commit(push_id)), "200")
    }).pipe(Effect.provide(inProcess())))

  for (
    const [what, previous, next, reason] of [
      ["of another source", "source-x", "source-y", "history_pruned"],
      ["without a successor", "source-a", "  ", "history_pruned"],
      ["by itself", "source-a", " source-a ", "history_pruned"],
      ["for an unknown reason", "source-a", "source-y", "because"]
    ] as const
  ) {
    it.effect(`a replacement ${what} is invalid [wire.md §4.9 #3]`, () =>
      Effect.gen(function*() {
        yield* initialized
        assert.strictEqual(outcome(yield* a.rotate(next, reason, previous)), "400 snapshot_session_invalid")
      }).pipe(Effect.provide(inProcess())))
  }

  it.effect("members of a replacement are trimmed [wire.md §4.9]", () =>
    Effect.gen(function*() {
      yield* initialized
      assert.strictEqual(outcome(yield* a.rotate(" source-a2 ", " history_pruned ", " source-a ")), "200")
      assert.strictEqual(outcome(yield* device("source-a2").push(1, [user(1)])), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a snapshot beyond the limits retires nothing [wire.md §4.9 #7]", () =>
    Effect.gen(function*() {
      yield* initialized
      yield* a.push(1, [user(1), user(2)])
      assert.strictEqual(outcome(yield* a.rotate("source-a2")), "500 snapshot_session_create_failed")
      assert.strictEqual(outcome(yield* a.push(2, [user(3)])), "200")
    }).pipe(Effect.provide(inProcess({ maxRowsPerSnapshotSession: 1 }))))
})
