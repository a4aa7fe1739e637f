/** What a push repeats by itself, from where, how often and when (push.md §5.1, §6, §7, quirk 8; retry-and-loops.md §1, §2). */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, TestClock } from "effect"
import type { SyncOptions } from "oversqlite"
import { dirty, dump, outboxState, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Fault, Route } from "./support/Network.js"
import { answered, answerLost, before, lost, refused, retryAfter, truncated, twice } from "./support/Network.js"
import { turn, whileTimePasses } from "./support/Time.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

const insertUsers = (device: Device, count: number, from = 1) =>
  device.run(
    `WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${from + count - 1})
     INSERT INTO users SELECT printf('u%03d', i), 'User', NULL, i FROM n`
  )

/** Two chunks and two pages for four rows. */
const halves: Partial<SyncOptions> = { uploadLimit: 2, committedRowsLimit: 2 }

interface Repetition {
  readonly what: string
  readonly route: Route
  readonly fault: Fault
  /** Requests of the push, in short: c(reate), k (chunk), m (commit), d(elete), r(ows). */
  readonly requests: string
}

const letters: Partial<Record<Route, string>> = {
  "push create": "c",
  "push chunk": "k",
  "push commit": "m",
  "push delete": "d",
  "committed rows": "r"
}

const asked = (world: World) =>
  Effect.map(world.network.asked, (routes) => routes.map((one) => letters[one] ?? "?").join(""))

const gone = refused(404, "push_session_not_found")

/** Without a fault: ckkmrr. */
const repetitions: ReadonlyArray<Repetition> = [
  { what: "a lost create", route: "push create", fault: lost, requests: "cckkmrr" },
  { what: "a lost answer to create", route: "push create", fault: answerLost, requests: "cckkmrr" },
  { what: "a create delivered twice", route: "push create", fault: twice, requests: "ckkmrr" },
  { what: "a create answered 503", route: "push create", fault: refused(503, "x"), requests: "cckkmrr" },
  { what: "a create answered by a proxy", route: "push create", fault: answered(502, "<html>"), requests: "cckkmrr" },
  { what: "a lost chunk", route: "push chunk", fault: lost, requests: "ckdckkmrr" },
  { what: "a lost answer to a chunk", route: "push chunk", fault: answerLost, requests: "ckdckkmrr" },
  {
    what: "a chunk delivered twice (409 push_chunk_out_of_order)",
    route: "push chunk",
    fault: twice,
    requests: "ckdckkmrr"
  },
  { what: "a truncated answer to a chunk", route: "push chunk", fault: truncated, requests: "ckdckkmrr" },
  { what: "a chunk answered 429", route: "push chunk", fault: refused(429, "x"), requests: "ckdckkmrr" },
  { what: "a session lost at a chunk", route: "push chunk", fault: gone, requests: "ckdckkmrr" },
  {
    what: "a session expired at a chunk",
    route: "push chunk",
    fault: refused(410, "push_session_expired"),
    requests: "ckdckkmrr"
  },
  { what: "a lost commit", route: "push commit", fault: lost, requests: "ckkmdckkmrr" },
  { what: "a lost answer to the commit", route: "push commit", fault: answerLost, requests: "ckkmdcrr" },
  { what: "a truncated answer to the commit", route: "push commit", fault: truncated, requests: "ckkmdcrr" },
  { what: "a commit delivered twice (404)", route: "push commit", fault: twice, requests: "ckkmdcrr" },
  { what: "a commit answered 504", route: "push commit", fault: refused(504, "x"), requests: "ckkmdckkmrr" },
  { what: "a session lost at the commit", route: "push commit", fault: gone, requests: "ckkmdckkmrr" },
  {
    what: "a session expired at the commit",
    route: "push commit",
    fault: refused(410, "push_session_expired"),
    requests: "ckkmdckkmrr"
  },
  { what: "a lost page", route: "committed rows", fault: lost, requests: "ckkmrrr" },
  { what: "a lost answer to a page", route: "committed rows", fault: answerLost, requests: "ckkmrrr" },
  { what: "a page delivered twice", route: "committed rows", fault: twice, requests: "ckkmrr" },
  { what: "a truncated page", route: "committed rows", fault: truncated, requests: "ckkmrrr" },
  {
    what: "a page that a replica does not have yet",
    route: "committed rows",
    fault: refused(404, "committed_bundle_not_found"),
    requests: "ckkmrrr"
  },
  { what: "a page answered 502", route: "committed rows", fault: refused(502, "x"), requests: "ckkmrrr" }
]

describe("a push repeats", () => {
  it.scoped("from the earliest request whose outcome is open, and the bundle is committed once [push.md quirk 8]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(halves)
      for (const [line, { fault, requests, route, what }] of repetitions.entries()) {
        yield* insertUsers(device, 4, 10 * line + 1)
        yield* asked(world)
        yield* world.network.fault(route, fault)
        const report = yield* whileTimePasses(device.sync.pushPending)
        assert.deepInclude(report, { outcome: "committed", requeuedRowCount: 0, conflictCount: 0 }, what)
        assert.strictEqual(yield* asked(world), requests, what)
        assert.strictEqual((yield* world.serverRows).size, 4 * (line + 1))
        assert.strictEqual(yield* device.sync.lastBundleSeqSeen, line + 1)
        assert.deepStrictEqual(yield* dirty(device), [])
        yield* checkInvariants(device)
      }
      const other = yield* world.attached()
      assert.strictEqual(yield* value(other, "SELECT count(*) FROM users"), 4 * repetitions.length)
    }))

  it.scoped("nothing else: other refusals end the push at once and leave the outbox [retry-and-loops.md §1.1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(halves)
      yield* insertUsers(device, 4)
      yield* world.network.fault("push create", lost, 3)
      yield* Effect.flip(whileTimePasses(device.sync.pushPending))
      const frozen = yield* dump(device)
      const finals: ReadonlyArray<readonly [Route, number, string, retryable: boolean, action: string]> = [
        ["push create", 500, "push_session_create_failed", true, "retry_later"],
        ["push create", 401, "authentication_failed", false, "reauthenticate"],
        ["push create", 403, "push_session_forbidden", false, "reauthenticate"],
        ["push create", 404, "", false, "report"],
        ["push create", 410, "gone", false, "report"],
        ["push chunk", 500, "push_chunk_failed", true, "retry_later"],
        ["push chunk", 409, "push_conflict", false, "report"],
        ["push commit", 403, "push_session_forbidden", false, "reauthenticate"],
        ["push commit", 418, "teapot", false, "report"]
      ]
      for (const [route, status, code, retryable, action] of finals) {
        yield* world.network.heal
        // A refused token is asked for once more.
        yield* world.network.fault(route, refused(status, code), status === 401 ? 2 : 1)
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual(error._tag, "TransportError", code)
        if (error._tag !== "TransportError") return
        assert.deepStrictEqual(
          [error.code, error.status, error.serverCode, error.retryable, error.action],
          ["status", status, code, retryable, action]
        )
        assert.deepStrictEqual(yield* dump(device), frozen, code)
      }
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))
})

describe("the budget of a push", () => {
  const policies: ReadonlyArray<readonly [attempts: number | undefined, expected: number]> = [[undefined, 3], [1, 1], [
    5,
    5
  ]]
  for (const [maxAttempts, expected] of policies) {
    it.scoped(`is ${expected} failures in a row with maxAttempts ${maxAttempts ?? "not set"} [retry-and-loops.md §2]`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* world.attached({ ...halves, retryPolicy: { enabled: true, maxAttempts } })
        yield* insertUsers(device, 4)
        yield* asked(world)
        yield* world.network.fault("push create", lost, 100)
        const error = yield* Effect.flip(whileTimePasses(device.sync.pushPending))
        assert.strictEqual(error._tag, "RetryExhausted")
        if (error._tag !== "RetryExhausted") return
        assert.deepInclude(error, {
          request: "push_pending",
          attempts: expected,
          retryable: true,
          action: "retry_later"
        })
        assert.deepInclude(error.cause, { _tag: "TransportError", code: "connection", request: "push_session_create" })
        assert.strictEqual(yield* asked(world), "c".repeat(expected))
        assert.strictEqual(yield* outboxState(device), "prepared")
      }))
  }

  it.scoped("is not there at all when retries are switched off: the first failure comes back raw [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ ...halves, retryPolicy: { enabled: false } })
      yield* insertUsers(device, 4)
      yield* asked(world)
      yield* world.network.fault("push commit", refused(503, "service_unavailable"))
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude(error, { _tag: "TransportError", code: "status" })
      assert.strictEqual(yield* asked(world), "ckkmd")
    }))

  it.scoped("begins anew with each chunk and page that was not there before [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(halves)
      yield* insertUsers(device, 6)
      let furthest = -1
      let failures = 0
      // Every chunk is accepted at the third attempt.
      const stubborn: Fault = (exchange, ask) =>
        Effect.suspend(() => {
          const start: number = JSON.parse(exchange.body).start_row_ordinal
          if (start <= furthest) return ask
          failures++
          if (failures % 3 !== 0) return lost(exchange, ask)
          furthest = start
          return ask
        })
      yield* world.network.fault("push chunk", stubborn, 100)
      yield* world.network.fault("committed rows", lost, 2)
      const report = yield* whileTimePasses(device.sync.pushPending)
      assert.strictEqual(report.outcome, "committed")
      assert.strictEqual(failures, 9)
      yield* checkInvariants(device)
    }))

  it.scoped("ends although a chunk is accepted in between: what was reached before is no progress [retry-and-loops.md §2]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(halves)
      yield* insertUsers(device, 6)
      yield* asked(world)
      const second: Fault = (exchange, ask) =>
        JSON.parse(exchange.body).start_row_ordinal === 2 ? gone(exchange, ask) : ask
      yield* world.network.fault("push chunk", second, 100)
      const error = yield* Effect.flip(whileTimePasses(device.sync.pushPending))
      assert.strictEqual(error._tag, "RetryExhausted")
      if (error._tag !== "RetryExhausted") return
      assert.deepInclude(error.cause, { code: "status", status: 404, serverCode: "push_session_not_found" })
      assert.strictEqual(yield* asked(world), "ckkdckkdckkd")
      yield* world.network.heal
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))

  it.scoped("of a page that never comes leaves a committed upload, which the next push finishes [push.md §7]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(halves)
      yield* insertUsers(device, 4)
      yield* asked(world)
      let pages = 0
      const second: Fault = (exchange, ask) =>
        ++pages === 1 ? ask : refused(404, "committed_bundle_not_found")(exchange, ask)
      yield* world.network.fault("committed rows", second, 100)
      const error = yield* Effect.flip(whileTimePasses(device.sync.pushPending))
      assert.strictEqual(error._tag, "RetryExhausted")
      assert.strictEqual(yield* asked(world), "ckkmrrrr")
      assert.strictEqual(yield* outboxState(device), "committed_remote")
      yield* checkInvariants(device)
      yield* world.network.heal
      yield* whileTimePasses(device.sync.pushPending)
      assert.strictEqual(yield* asked(world), "crr")
      yield* checkInvariants(device)
    }))
})

/** Runs an effect in steps of 10 ms of the test's clock. */
const finely = <A, E>(self: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(self)
    while (fiber.unsafePoll() === null) {
      for (let turns = 0; turns < 3; turns++) yield* turn
      if (fiber.unsafePoll() === null) yield* TestClock.adjust("10 millis")
    }
    return yield* Fiber.join(fiber)
  })

describe("the wait before a repetition", () => {
  const plain = { enabled: true, jitterFraction: 0, maxAttempts: 5 }
  const waits: ReadonlyArray<
    readonly [
      what: string,
      policy: SyncOptions["retryPolicy"],
      faults: ReadonlyArray<Fault>,
      expected: ReadonlyArray<number>
    ]
  > = [
    ["doubles up to the longest", { ...plain, maxBackoff: "300 millis" }, [lost, lost, lost, lost], [
      100,
      200,
      300,
      300
    ]],
    ["is at least what the server asks for", plain, [retryAfter(503, 2), retryAfter(429, 3), lost], [2000, 3000, 400]],
    ["is not shortened by the server", { ...plain, initialBackoff: "5 seconds" }, [retryAfter(503, 2)], [5000]],
    ["grants the server no more than the limit", { ...plain, maxRetryAfter: "1 second" }, [retryAfter(503, 60)], [
      1000
    ]],
    ["heeds the header with 429 and 503 only", plain, [retryAfter(502, 60)], [100]]
  ]
  for (const [what, retryPolicy, faults, expected] of waits) {
    it.scoped(`${what} [retry-and-loops.md §1]`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const device = yield* world.attached({ retryPolicy })
        yield* insertUsers(device, 1)
        const times: Array<number> = []
        const note = Effect.map(Clock.currentTimeMillis, (now) => void times.push(now))
        for (const fault of faults) {
          yield* world.network.fault("push create", (exchange, ask) => Effect.zipRight(note, fault(exchange, ask)))
        }
        yield* world.network.fault("push create", before(note))
        yield* finely(device.sync.pushPending)
        const between = times.slice(1).map((time, position) => time - (times[position] ?? 0))
        assert.lengthOf(between, expected.length)
        for (const [position, wait] of expected.entries()) assert.closeTo(between[position] ?? 0, wait, 30)
      }))
  }

  it.scoped("can be interrupted, and nothing is lost [retry-and-loops.md §1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached()
      yield* insertUsers(device, 1)
      yield* world.network.fault("push create", lost, 100)
      const fiber = yield* Effect.fork(device.sync.pushPending)
      while (!world.network.requests.some(({ route }) => route === "push create")) yield* turn
      const exit = yield* Fiber.interrupt(fiber)
      assert.isTrue(exit._tag === "Failure" && exit.cause._tag !== "Fail")
      yield* world.network.heal
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      yield* checkInvariants(device)
    }))

  it.scoped("does not wait for a deletion that nobody answers [push.md §5]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ retryPolicy: { ...plain, initialBackoff: "10 millis" } })
      yield* insertUsers(device, 1)
      yield* world.network.fault("push chunk", lost)
      yield* world.network.fault("push delete", () => Effect.never)
      const start = yield* Clock.currentTimeMillis
      yield* finely(device.sync.pushPending)
      assert.isBelow((yield* Clock.currentTimeMillis) - start, 100)
      yield* checkInvariants(device)
    }))
})

describe("a page that is too large", () => {
  const long = "x".repeat(400)

  it.scoped("is asked for again with half the rows, and so are those after it [retry-and-loops.md §2.1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ maxResponseBytes: 4000 })
      yield* insertUsers(device, 20)
      yield* device.run("UPDATE users SET name = ?", [long])
      yield* device.sync.pushPending
      const limits = world.network.requests.filter(({ route }) => route === "committed rows").map(({ url }) =>
        Number(url.searchParams.get("max_rows"))
      )
      // Three rows of this size fit, seven do not.
      assert.deepStrictEqual(limits, [1000, 500, 250, 125, 62, 31, 15, 7, 3, 3, 3, 3, 3, 3, 3])
      assert.strictEqual((yield* world.serverRows).size, 20)
      yield* checkInvariants(device)
    }))

  it.scoped("though it has one row only ends the push; a client that takes more goes on [retry-and-loops.md §2.1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ maxResponseBytes: 2000 })
      yield* insertUsers(device, 2)
      yield* device.run("UPDATE users SET name = ?", [long.repeat(10)])
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude(error, {
        _tag: "TransportError",
        code: "response_too_large",
        retryable: false,
        action: "report"
      })
      assert.strictEqual(yield* outboxState(device), "committed_remote")
      const roomy = yield* world.restarted(device)
      assert.strictEqual((yield* roomy.sync.pushPending).outcome, "committed")
      yield* checkInvariants(roomy)
    }))
})
