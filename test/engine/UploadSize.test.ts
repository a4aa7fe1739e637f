/** Uploads, and answers to them, that are too large for somebody on the way (push.md §5, §5.2). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { clientWins } from "oversqlite"
import { dirty, frozen, outboxState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

const writeUsers = (device: Device, count: number, bytes: number) =>
  device.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
     INSERT INTO users SELECT 'u' || i, substr(hex(zeroblob(${bytes})), 1, ${bytes}), NULL, 1 FROM n`
  )

describe("a chunk that is too large for the server", () => {
  it.scoped("is sent again in smaller pieces, which later uploads begin with [push.md §5, client-state.md invariant 34]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ server: { maxRequestBytes: 20_000 } })
      const device = yield* world.attached(offline)
      yield* writeUsers(device, 50, 1000)
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.strictEqual((yield* world.serverRows).size, 50)
      yield* checkInvariants(device)
      yield* device.run("UPDATE users SET score = 2")
      yield* world.network.asked
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.lengthOf((yield* world.network.asked).filter((route) => route === "push chunk"), 5)
    }))

  it.scoped("is refused and named if it is a single row, and its correction goes through [push.md §5.2]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ server: { maxRequestBytes: 20_000 } })
      const device = yield* world.attached(offline)
      yield* writeUsers(device, 5, 1000)
      yield* device.run("INSERT INTO users VALUES ('big', ?, NULL, 1)", ["x".repeat(30_000)])
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(error._tag, "UploadRefused")
      if (error._tag !== "UploadRefused") return
      assert.deepStrictEqual([error.request, error.status], ["push_chunk_upload", 413])
      assert.deepStrictEqual(error.rows, [{ schema: "business", table: "users", key: "{\"id\":\"big\"}" }])
      assert.strictEqual(yield* outboxState(device), "none")
      assert.lengthOf(yield* dirty(device), 6)
      yield* checkInvariants(device)
      yield* device.run("UPDATE users SET name = 'short' WHERE id = 'big'")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.strictEqual((yield* world.serverRows).size, 6)
      assert.deepStrictEqual(yield* frozen(device), [])
    }))

  it.scoped("does not arise from the number of rows alone: chunks have a limit in bytes [push.md §5]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* writeUsers(device, 5, 3 * 1024 * 1024)
      yield* world.network.asked
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.lengthOf((yield* world.network.asked).filter((route) => route === "push chunk"), 3)
    }))
})

describe("a list of conflicts that is too large for the client", () => {
  const rewritten = (count: number, bytes: number) =>
    Array.from({ length: count }, (_, i) => ({
      table: "users",
      key: `u${i + 1}`,
      payload: { name: "y".repeat(bytes), email: null, score: 2 }
    }))

  it.scoped("is met with smaller uploads, until all conflicts are decided [conflicts.md §1, client-state.md invariant 34]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ ...offline, maxResponseBytes: 20_000, resolver: clientWins })
      yield* writeUsers(device, 50, 1)
      yield* device.sync.pushPending
      yield* world.write(rewritten(50, 1000))
      yield* device.run("UPDATE users SET name = 'mine'")
      for (let left = 50; left > 0;) {
        yield* device.sync.pushPending
        yield* checkInvariants(device)
        const now = (yield* dirty(device)).length
        assert.isBelow(now, left)
        left = now
      }
      assert.strictEqual(yield* outboxState(device), "none")
      const names = [...(yield* world.serverRows).values()].map((row) => JSON.stringify(row))
      assert.lengthOf(names.filter((row) => row.includes("mine")), 50)
      yield* device.sync.sync
    }))

  it.scoped("thaws a single row whose conflict cannot be read [conflicts.md §1, client-state.md invariant 34]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ ...offline, maxResponseBytes: 5000 })
      yield* writeUsers(device, 2, 1)
      yield* device.sync.pushPending
      yield* world.write(rewritten(1, 10_000))
      yield* device.run("UPDATE users SET name = 'mine'")
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.strictEqual(error._tag, "TransportError")
      assert.strictEqual(error.code, "response_too_large")
      assert.strictEqual(yield* outboxState(device), "none")
      assert.lengthOf(yield* dirty(device), 2)
      yield* checkInvariants(device)
      const roomier = yield* world.restarted(device, offline)
      while ((yield* dirty(roomier)).length > 0) yield* roomier.sync.pushPending
      yield* checkInvariants(roomier)
    }))

  it.scoped("is not sent by our server: it names what fits [conflicts.md §1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ ...offline, maxResponseBytes: 6 * 1024 * 1024 })
      yield* writeUsers(device, 5, 1)
      yield* device.sync.pushPending
      for (const row of rewritten(5, 1_500_000)) yield* world.write([row])
      yield* device.run("UPDATE users SET name = 'mine'")
      yield* world.network.asked
      yield* device.sync.pushPending
      assert.deepStrictEqual(
        (yield* world.network.asked).filter((route) => route === "push commit").length,
        3
      )
      assert.deepStrictEqual(yield* dirty(device), [])
    }))
})
