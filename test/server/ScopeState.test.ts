/** The operation × state matrix of a scope, over requests (server.md §4). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { device, outcome, user } from "./support/Device.js"
import { inProcess } from "./support/TestServer.js"

type State = "unknown" | "initializing" | "lapsed" | "initialized"

const states: ReadonlyArray<State> = ["unknown", "initializing", "lapsed", "initialized"]

const a = device("source-a")
const b = device("source-b")

/** Brings the scope into a state; the value is the initialization id of source a, where there was one. */
const arrange = Effect.fnUntraced(function*(state: State) {
  if (state === "unknown") return ""
  const connected = yield* a.connect(state !== "initialized")
  if (state === "lapsed") yield* TestClock.adjust("15 minutes")
  return String(connected.body["initialization_id"] ?? "")
})

type Operation = (initializationId: string) => ReturnType<typeof a.request>

const matrix: ReadonlyArray<readonly [name: string, operation: Operation, expected: Readonly<Record<State, string>>]> =
  [
    ["connect of the holder with pending rows", () => a.connect(true), {
      unknown: "initialize_local",
      initializing: "initialize_local",
      lapsed: "initialize_local",
      initialized: "remote_authoritative"
    }],
    ["connect of the holder without pending rows", () => a.connect(false), {
      unknown: "initialize_empty",
      initializing: "initialize_empty",
      lapsed: "initialize_empty",
      initialized: "remote_authoritative"
    }],
    ["connect of another source with pending rows", () => b.connect(true), {
      unknown: "initialize_local",
      initializing: "retry_later",
      lapsed: "initialize_local",
      initialized: "remote_authoritative"
    }],
    ["connect of another source without pending rows", () => b.connect(false), {
      unknown: "initialize_empty",
      initializing: "retry_later",
      lapsed: "initialize_empty",
      initialized: "remote_authoritative"
    }],
    ["push create without id", () => a.create(1, 1), {
      unknown: "409 scope_uninitialized",
      initializing: "400 push_session_invalid",
      lapsed: "409 scope_uninitialized",
      initialized: "200"
    }],
    ["push create of the holder with the id", (id) => a.create(1, 1, id === "" ? "some-id" : id), {
      unknown: "410 initialization_expired",
      initializing: "200",
      lapsed: "410 initialization_expired",
      initialized: "400 push_session_invalid"
    }],
    ["push create of another source with the id", (id) => b.create(1, 1, id === "" ? "some-id" : id), {
      unknown: "410 initialization_expired",
      initializing: "409 initialization_stale",
      lapsed: "410 initialization_expired",
      initialized: "400 push_session_invalid"
    }],
    ["push create with another id", () => a.create(1, 1, "another-id"), {
      unknown: "410 initialization_expired",
      initializing: "409 initialization_stale",
      lapsed: "410 initialization_expired",
      initialized: "400 push_session_invalid"
    }],
    ["pull", () => a.pull(0), {
      unknown: "409 scope_uninitialized",
      initializing: "409 scope_initializing",
      lapsed: "409 scope_uninitialized",
      initialized: "200"
    }],
    ["snapshot create", () => a.snapshot(), {
      unknown: "409 scope_uninitialized",
      initializing: "409 scope_initializing",
      lapsed: "409 scope_uninitialized",
      initialized: "200"
    }],
    ["snapshot create with an invalid replacement", () => a.rotate("source-c", "because"), {
      unknown: "409 scope_uninitialized",
      initializing: "409 scope_initializing",
      lapsed: "409 scope_uninitialized",
      initialized: "400 snapshot_session_invalid"
    }],
    ["committed rows", () => a.rows(1), {
      unknown: "500 committed_bundle_rows_failed",
      initializing: "404 committed_bundle_not_found",
      lapsed: "404 committed_bundle_not_found",
      initialized: "404 committed_bundle_not_found"
    }]
  ]

describe("what an operation meets in each state of the scope", () => {
  for (const [name, operation, expected] of matrix) {
    for (const state of states) {
      it.effect(`${name} meets ${state}: ${expected[state]} [server.md §4]`, () =>
        Effect.gen(function*() {
          const initializationId = yield* arrange(state)
          const reply = yield* operation(initializationId)
          const resolution = reply.body["resolution"]
          assert.strictEqual(resolution === undefined ? outcome(reply) : resolution, expected[state])
        }).pipe(Effect.provide(inProcess())))
    }
  }
})

describe("leases", () => {
  it.effect("a holder that connects again keeps its id and gets the whole term again [server.md §4]", () =>
    Effect.gen(function*() {
      const first = yield* a.connect(true)
      yield* TestClock.adjust("10 minutes")
      const second = yield* a.connect(true)
      assert.strictEqual(second.body["initialization_id"], first.body["initialization_id"])
      yield* TestClock.adjust("14 minutes")
      assert.deepStrictEqual((yield* b.connect(true)).body, {
        resolution: "retry_later",
        lease_expires_at: "1970-01-01T00:25:00Z",
        retry_after_seconds: 60
      })
    }).pipe(Effect.provide(inProcess())))

  it.effect("a lease that lapsed is taken by whoever comes first, with another id [server.md §4]", () =>
    Effect.gen(function*() {
      const first = yield* a.connect(true)
      yield* TestClock.adjust("15 minutes")
      const second = yield* b.connect(true)
      assert.strictEqual(second.body["resolution"], "initialize_local")
      assert.notStrictEqual(second.body["initialization_id"], first.body["initialization_id"])
      assert.strictEqual((yield* a.connect(true)).body["resolution"], "retry_later")
    }).pipe(Effect.provide(inProcess())))

  it.effect("retry_after_seconds is cut off and at least 1 [wire.md §4.1]", () =>
    Effect.gen(function*() {
      yield* a.connect(true)
      yield* TestClock.adjust("899900 millis")
      assert.strictEqual((yield* b.connect(true)).body["retry_after_seconds"], 1)
    }).pipe(Effect.provide(inProcess())))

  it.effect("a successful create and each accepted chunk extend the lease, refused calls do not [wire.md §4.2]", () =>
    Effect.gen(function*() {
      const initializationId = String((yield* a.connect(true)).body["initialization_id"])
      yield* TestClock.adjust("10 minutes")
      const session = yield* a.create(1, 2, initializationId)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(outcome(yield* a.chunk(session.body["push_id"], 0, [user(1)])), "200")
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(outcome(yield* a.chunk(session.body["push_id"], 5, [user(2)])), "409 push_chunk_out_of_order")
      assert.strictEqual((yield* b.connect(true)).body["lease_expires_at"], "1970-01-01T00:35:00Z")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a failed commit does not extend the lease [wire.md §7]", () =>
    Effect.gen(function*() {
      const initializationId = String((yield* a.connect(true)).body["initialization_id"])
      const session = yield* a.create(1, 2, initializationId)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(outcome(yield* a.commit(session.body["push_id"])), "400 push_commit_invalid")
      assert.strictEqual((yield* b.connect(true)).body["lease_expires_at"], "1970-01-01T00:15:00Z")
    }).pipe(Effect.provide(inProcess())))

  it.effect("the commit of a leased session initializes the scope [server.md §7]", () =>
    Effect.gen(function*() {
      const initializationId = String((yield* a.connect(true)).body["initialization_id"])
      assert.strictEqual(outcome(yield* a.push(1, [user(1)], initializationId)), "200")
      assert.strictEqual((yield* b.connect(true)).body["resolution"], "remote_authoritative")
      assert.strictEqual(outcome(yield* b.pull(0)), "200")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a lease given up makes its staged sessions stale [server.md §4]", () =>
    Effect.gen(function*() {
      const initializationId = String((yield* a.connect(true)).body["initialization_id"])
      const session = yield* a.create(1, 1, initializationId)
      assert.strictEqual((yield* a.connect(false)).body["resolution"], "initialize_empty")
      assert.strictEqual(outcome(yield* a.chunk(session.body["push_id"], 0, [user(1)])), "409 initialization_stale")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a leased session that lapsed with its lease has expired, also for the next holder [server.md §4]", () =>
    Effect.gen(function*() {
      const initializationId = String((yield* a.connect(true)).body["initialization_id"])
      const session = yield* a.create(1, 1, initializationId)
      yield* TestClock.adjust("15 minutes")
      assert.strictEqual(outcome(yield* a.chunk(session.body["push_id"], 0, [user(1)])), "410 push_session_expired")
      yield* b.connect(true)
      assert.strictEqual(outcome(yield* a.commit(session.body["push_id"])), "410 push_session_expired")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a lease shorter than the session makes chunk and commit stale [server.md §4]", () =>
    Effect.gen(function*() {
      const initializationId = String((yield* a.connect(true)).body["initialization_id"])
      const session = yield* a.create(1, 1, initializationId)
      yield* a.chunk(session.body["push_id"], 0, [user(1)])
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(outcome(yield* a.chunk(session.body["push_id"], 1, [user(2)])), "409 initialization_stale")
      assert.strictEqual(outcome(yield* a.commit(session.body["push_id"])), "409 initialization_stale")
    }).pipe(Effect.provide(inProcess({ initializationLeaseTtl: "1 minute" }))))

  it.effect("a refused create leaves no record of an unknown user [wire.md §4.2]", () =>
    Effect.gen(function*() {
      yield* a.create(1, 1)
      assert.strictEqual(outcome(yield* a.rows(1)), "500 committed_bundle_rows_failed")
    }).pipe(Effect.provide(inProcess())))
})
