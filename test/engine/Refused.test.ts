/** Uploads that the server refuses for their content (push.md §5.2; fixtures/wire/chunk-errors.json). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { scenarios } from "../protocol/fixtures.js"
import { dirty, dirtyRows, frozen, nextNumber, outboxState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Fault, Route } from "./support/Network.js"
import { after, answered, refused } from "./support/Network.js"
import { makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

/** Three pending rows, of which the server shall refuse one. */
const pending = Effect.gen(function*() {
  const world = yield* makeWorld()
  const device = yield* world.attached(offline)
  yield* device.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
  yield* device.sync.pushPending
  yield* device.run("UPDATE users SET name = 'Anna' WHERE id = 'u1'")
  yield* device.run("INSERT INTO users VALUES ('u2', 'Bob', NULL, 2)")
  yield* device.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', x'01')")
  return { world, device }
})

const allPending = [
  "UPDATE users u1 base 1",
  "INSERT users u2 base 0",
  "INSERT files 00112233445566778899aabbccddeeff base 0"
]

const refusedPush = (device: Device) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(device.sync.pushPending)
    assert.strictEqual(error._tag, "UploadRefused")
    if (error._tag !== "UploadRefused") return yield* Effect.dieMessage("unreachable")
    assert.deepInclude(error, {
      code: "upload_refused",
      operation: "pushPending",
      retryable: false,
      action: "fix_data"
    })
    return error
  })

const thawed = (device: Device, rows: ReadonlyArray<string> = allPending) =>
  Effect.gen(function*() {
    assert.strictEqual(yield* outboxState(device), "none")
    assert.deepStrictEqual(yield* frozen(device), [])
    assert.deepStrictEqual(yield* dirty(device), rows)
    assert.strictEqual(yield* nextNumber(device), 2)
    yield* checkInvariants(device)
  })

describe("free text in place of a code", () => {
  const text = "The token eyJhbGciOi.SECRET of ann may not write row u1"

  it.scoped("is a field of errors and stays out of their messages [errors.md §1, rule 4]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* pending
      yield* world.network.fault("push create", answered(403, { error: text }))
      const failed = yield* Effect.flip(device.sync.pushPending)
      assert.notInclude(failed.message, "SECRET")
      assert.include(failed.message, "status 403;")
      assert.strictEqual(failed._tag === "TransportError" ? failed.serverCode : "", text)
      yield* world.network.fault("push chunk", answered(413, { error: text }), 3)
      const refusedUpload = yield* refusedPush(device)
      assert.notInclude(refusedUpload.message, "SECRET")
      assert.strictEqual(refusedUpload.serverCode, text)
    }))
})

describe("a definite refusal", () => {
  const definite: ReadonlyArray<readonly [Route, status: number, code: string, request: string]> = [
    ["push chunk", 400, "push_chunk_invalid", "push_chunk_upload"],
    ["push commit", 400, "push_commit_invalid", "push_session_commit"]
  ]
  for (const [route, status, code, request] of definite) {
    it.scoped(`${status} ${code} thaws the upload and does not use its number up [push.md §5.2]`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* pending
        yield* world.network.fault(route, refused(status, code))
        const error = yield* refusedPush(device)
        assert.deepStrictEqual([error.request, error.status, error.serverCode], [request, status, code])
        assert.deepStrictEqual(error.rows, [])
        assert.notInclude(error.message, "free text")
        yield* thawed(device)
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
        assert.strictEqual(yield* nextNumber(device), 3)
        assert.strictEqual((yield* world.serverRows).size, 3)
        yield* checkInvariants(device)
      }))
  }

  it.scoped("names the rows that the server names, by their local keys, and not in its message [push.md §5.2, wire.md §12]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* pending
      const rows = [
        { schema: "business", table: "users", key: { id: "u2" }, reason: "too short" },
        { schema: "business", table: "files", key: { id: "00112233-4455-6677-8899-aabbccddeeff" }, reason: "no" },
        { schema: "business", table: "elsewhere", key: { id: "x" } },
        "no row"
      ]
      yield* world.network.fault("push chunk", refused(400, "push_chunk_invalid", { rows }))
      const error = yield* refusedPush(device)
      assert.deepStrictEqual(error.rows, [
        { schema: "business", table: "users", key: "{\"id\":\"u2\"}" },
        { schema: "business", table: "files", key: "{\"id\":\"00112233445566778899aabbccddeeff\"}" },
        { schema: "business", table: "elsewhere", key: "{\"id\":\"x\"}" }
      ])
      assert.notMatch(error.message, /u2|0011|too short/)
      yield* thawed(device)
    }))

  it.scoped("keeps what was written during the upload in front of what was frozen [push.md §5.2, conflicts.md §5]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* pending
      const edit = Effect.zipRight(
        device.run("UPDATE users SET name = 'Annette' WHERE id = 'u1'"),
        device.run("DELETE FROM users WHERE id = 'u2'")
      )
      yield* world.network.fault("push chunk", after(edit))
      yield* world.network.fault("push commit", refused(400, "push_commit_invalid"))
      yield* refusedPush(device)
      yield* thawed(device, [
        "UPDATE users u1 base 1",
        "DELETE users u2 base 0",
        "INSERT files 00112233445566778899aabbccddeeff base 0"
      ])
      const [first] = yield* dirtyRows(device)
      assert.deepStrictEqual(first?.payload, { id: "u1", name: "Annette", email: null, score: 1 })
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.strictEqual((yield* world.serverRows).size, 2)
    }))

  it.scoped("comes back without looping until the row is corrected, and never holds back what comes after [push.md §5.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* pending
      const picky: Fault = (exchange, ask) =>
        exchange.body.includes("Bob") ? refused(400, "push_chunk_invalid")(exchange, ask) : ask
      yield* world.network.fault("push chunk", picky, 100)
      for (let round = 0; round < 3; round++) {
        yield* world.network.asked
        yield* refusedPush(device)
        assert.deepStrictEqual(yield* world.network.asked, ["push create", "push chunk", "push delete"])
        yield* thawed(device)
      }
      yield* device.run("UPDATE users SET name = 'Robert' WHERE id = 'u2'")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual(yield* dirty(device), [])
      yield* checkInvariants(device)
    }))
})

describe("a refusal that may be an accident", () => {
  const doubtful: ReadonlyArray<readonly [status: number, code: string]> = [
    [500, "push_session_commit_failed"],
    [409, "push_conflict"]
  ]
  for (const [status, code] of doubtful) {
    it.scoped(`${status} ${code} is definite the second time, with the same rows [push.md §5.1, §5.2]`, () =>
      Effect.gen(function*() {
        const { device, world } = yield* pending
        const rows = [{ schema: "business", table: "users", key: { id: "u2" }, reason: "?" }]
        yield* world.network.fault("push commit", refused(status, code, { rows }), 2)
        const first = yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual(first._tag, "TransportError")
        if (first._tag === "TransportError") {
          assert.deepStrictEqual([first.status, first.serverCode, first.request], [status, code, "push_session_commit"])
        }
        assert.strictEqual(yield* outboxState(device), "prepared")
        yield* checkInvariants(device)
        const second = yield* refusedPush(device)
        assert.deepStrictEqual([second.request, second.status, second.serverCode], [
          "push_session_commit",
          status,
          code
        ])
        assert.deepStrictEqual(second.rows, [{ schema: "business", table: "users", key: "{\"id\":\"u2\"}" }])
        yield* thawed(device)
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      }))
  }

  it.scoped("is refused at the first answer from then on, until a correction [push.md §5.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* pending
      yield* world.network.fault("push commit", refused(500, "push_session_commit_failed"), 100)
      assert.strictEqual((yield* Effect.flip(device.sync.pushPending))._tag, "TransportError")
      for (let round = 0; round < 4; round++) {
        yield* refusedPush(device)
        yield* thawed(device)
      }
      yield* device.run("UPDATE users SET name = 'Robert' WHERE id = 'u2'")
      assert.strictEqual((yield* Effect.flip(device.sync.pushPending))._tag, "TransportError")
    }))

  it.scoped("is forgotten by a success and by other rows [push.md §5.2]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* pending
      const failed = refused(500, "push_session_commit_failed")
      yield* world.network.fault("push commit", failed)
      assert.strictEqual((yield* Effect.flip(device.sync.pushPending))._tag, "TransportError")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      yield* device.run("UPDATE users SET score = 9 WHERE id = 'u1'")
      yield* world.network.fault("push commit", failed)
      assert.strictEqual((yield* Effect.flip(device.sync.pushPending))._tag, "TransportError")
      // Another refusal thaws this one; the next upload has one row more.
      yield* world.network.fault("push commit", refused(400, "push_commit_invalid"))
      yield* refusedPush(device)
      yield* device.run("INSERT INTO users VALUES ('u3', 'Cy', NULL, 3)")
      yield* world.network.fault("push commit", failed)
      assert.strictEqual((yield* Effect.flip(device.sync.pushPending))._tag, "TransportError")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      yield* checkInvariants(device)
    }))

  it.scoped("is not remembered by the next instance [push.md §5.2, client-state.md §6]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* pending
      yield* world.network.fault("push commit", refused(500, "push_session_commit_failed"), 2)
      yield* Effect.flip(device.sync.pushPending)
      const next = yield* world.restarted(device, offline)
      assert.strictEqual((yield* Effect.flip(next.sync.pushPending))._tag, "TransportError")
      assert.strictEqual(yield* outboxState(next), "prepared")
      assert.strictEqual((yield* next.sync.pushPending).outcome, "committed")
    }))
})

describe("the server itself", () => {
  it.scoped("names the child of a parent that is gone; deleting the child leads on [push.md §5.2, recovery.md §7 #11]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* device.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1), ('u2', 'Bob', NULL, 2)")
      yield* device.sync.pushPending
      yield* world.write([{ table: "users", key: "u1", payload: null }])
      yield* device.run("INSERT INTO posts VALUES ('p1', 'Hello', 'u1')")
      yield* device.run("UPDATE users SET score = 3 WHERE id = 'u2'")
      const first = yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(first._tag, "TransportError")
      const second = yield* refusedPush(device)
      assert.deepStrictEqual(second.rows, [{ schema: "business", table: "posts", key: "{\"id\":\"p1\"}" }])
      assert.deepStrictEqual(yield* dirty(device), ["UPDATE users u2 base 1", "INSERT posts p1 base 0"])
      yield* checkInvariants(device)
      yield* device.run("DELETE FROM posts WHERE id = 'p1'")
      const report = yield* device.sync.sync
      assert.strictEqual(report.pushOutcome, "committed")
      assert.deepStrictEqual(yield* device.run("SELECT id, score FROM users"), [{ id: "u2", score: 3 }])
      yield* checkInvariants(device)
    }))

  it.scoped("every recorded refusal of a chunk or a commit thaws; a lost session and a gap in the numbers do not [chunk-errors.json]", () =>
    Effect.gen(function*() {
      const recorded = scenarios.find(({ name }) => name === "chunk-errors")?.steps ?? []
      const outcomes: Array<string> = []
      for (const { request, response } of recorded) {
        const route: Route | undefined = request.method !== "POST" || response.status === 200
          ? undefined
          : request.path.endsWith("/chunks")
          ? "push chunk"
          : request.path.endsWith("/commit")
          ? "push commit"
          : request.path.endsWith("/push-sessions")
          ? "push create"
          : undefined
        if (route === undefined) continue
        const { device, world } = yield* pending
        yield* world.network.fault(route, answered(response.status, response.body))
        const error = yield* Effect.flip(device.sync.pushPending)
        const code: string = JSON.parse(response.body).error
        outcomes.push(`${route} ${code}: ${error._tag}`)
        yield* checkInvariants(device)
      }
      assert.deepStrictEqual([...new Set(outcomes)].sort(), [
        "push chunk push_chunk_invalid: UploadRefused",
        "push chunk push_chunk_out_of_order: TransportError",
        "push commit push_commit_invalid: UploadRefused",
        "push commit push_session_not_found: TransportError",
        "push create push_session_invalid: TransportError",
        "push create source_sequence_out_of_order: SourceRecoveryRequired"
      ])
      assert.lengthOf(outcomes, 17)
    }))
})
