/** Rows travel in sets: the number of statements does not depend on the number of rows (DESIGN §5, push.md §14). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { counting } from "../storage/support/database.js"
import { dirty } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { after, lost } from "./support/Network.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

/** One chunk and one page, whatever the size. */
const options = { retryPolicy: { enabled: false }, uploadLimit: 5000, committedRowsLimit: 5000, applyRows: 4096 }

const few = 3
const many = 1000

/** `n` users, posts and files each. */
const insert = ({ run }: Device, n: number) =>
  Effect.gen(function*() {
    const numbers = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${n})`
    yield* run(`${numbers} INSERT INTO users SELECT 'u' || i, 'User ' || i, i || '@x', i + 0.5 FROM n`)
    yield* run(`${numbers} INSERT INTO posts SELECT 'p' || i, 'Post', 'u' || i FROM n`)
    yield* run(`${numbers} INSERT INTO files SELECT unhex(printf('%032x', i)), 'f', randomblob(5) FROM n`)
  })

const update = ({ run }: Device) =>
  Effect.gen(function*() {
    yield* run("UPDATE users SET name = name || '!'")
    yield* run("UPDATE posts SET title = 'New'")
    yield* run("UPDATE files SET data = x'00'")
  })

/** Statements of the device, with the same texts counted together, so that a difference names its statement. */
const tally = (statements: ReadonlyArray<string>): ReadonlyArray<string> => {
  const counts = new Map<string, number>()
  for (const statement of statements.filter((one) => !one.includes("server_"))) {
    const text = statement.replaceAll(/\s+/g, " ")
    counts.set(text, (counts.get(text) ?? 0) + 1)
  }
  return [...counts].map(([text, count]) => `${count} × ${text}`).sort()
}

interface Steps {
  readonly freeze: ReadonlyArray<string>
  readonly upload: ReadonlyArray<string>
  readonly fetch: ReadonlyArray<string>
  readonly replay: ReadonlyArray<string>
}

/** Measures one push step by step: each loses the network at the next step. */
const steps = (world: World, device: Device) =>
  Effect.gen(function*() {
    const until = (stop: Effect.Effect<void>) =>
      Effect.map(counting(Effect.zipRight(stop, Effect.exit(device.sync.pushPending))), ([, { statements }]) =>
        tally(statements))
    const upTo: Steps = {
      freeze: yield* until(world.network.fault("push create", lost)),
      upload: yield* until(world.network.fault("push commit", lost)),
      fetch: yield* until(world.network.fault("committed rows", lost)),
      replay: yield* until(Effect.void)
    }
    assert.deepStrictEqual(yield* dirty(device), [])
    return upTo
  })

const measured = (n: number, prepare: (device: Device) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    const device = yield* world.attached(options)
    yield* insert(device, n)
    yield* prepare(device)
    return yield* steps(world, device)
  })

const compare = (prepare: (device: Device) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    const small = yield* measured(few, prepare)
    const large = yield* measured(many, prepare)
    for (const step of ["freeze", "upload", "fetch", "replay"] as const) {
      assert.deepStrictEqual(large[step], small[step], step)
      assert.isNotEmpty(small[step])
    }
  })

describe(`a push of ${3 * many} rows sends the statements of one of ${3 * few}`, () => {
  it.scoped("for inserts [DESIGN §5 rule 1]", () => compare(() => Effect.void))

  it.scoped("for updates [DESIGN §5 rule 1]", () =>
    compare((device) => Effect.zipRight(Effect.orDie(device.sync.pushPending), update(device))))

  it.scoped("for deletes [DESIGN §5 rule 1]", () =>
    compare((device) =>
      Effect.zipRight(
        Effect.orDie(device.sync.pushPending),
        Effect.forEach(["posts", "users", "files"], (table) => device.run(`DELETE FROM ${table}`), { discard: true })
      )
    ))

  it.scoped("when every row has been edited during the upload [push.md §14.3]", () =>
    Effect.gen(function*() {
      const count = (n: number) =>
        Effect.gen(function*() {
          const world = yield* makeWorld()
          const device = yield* world.attached(options)
          yield* insert(device, n)
          yield* world.network.fault("push commit", after(update(device)))
          const [report, { statements }] = yield* counting(device.sync.pushPending)
          assert.strictEqual(report.requeuedRowCount, 3 * n)
          return tally(statements)
        })
      assert.deepStrictEqual(yield* count(many), yield* count(few))
    }))

  it.scoped("when the bundle under the number turns out to be another writer's [push.md §8.1]", () =>
    Effect.gen(function*() {
      const count = (n: number) =>
        Effect.gen(function*() {
          const world = yield* makeWorld()
          const device = yield* world.attached(options)
          const twin = yield* world.copyOf(device, options)
          yield* twin.sync.open
          yield* twin.sync.attach("ann")
          yield* insert(twin, n)
          yield* update(twin)
          yield* twin.sync.pushPending
          yield* insert(device, n)
          const [report, { statements }] = yield* counting(device.sync.pushPending)
          assert.strictEqual(report.requeuedRowCount, 3 * n)
          return tally(statements)
        })
      assert.deepStrictEqual(yield* count(many), yield* count(few))
    }))

  it.scoped("when all rows conflict and are resolved in one round [conflicts.md §5]", () =>
    Effect.gen(function*() {
      // The server answers at most a thousand conflicts at once.
      const count = (n: number) =>
        Effect.gen(function*() {
          const world = yield* makeWorld()
          const device = yield* world.attached(options)
          yield* insert(device, n)
          yield* device.sync.pushPending
          const other = yield* world.attached(options)
          yield* other.run("UPDATE users SET score = 0")
          yield* other.sync.pushPending
          yield* device.run("UPDATE users SET name = 'mine'")
          const [report, { statements }] = yield* counting(device.sync.pushPending)
          assert.strictEqual(report.conflictCount, n)
          assert.strictEqual(report.outcome, "no_change")
          return tally(statements)
        })
      assert.deepStrictEqual(yield* count(many), yield* count(few))
    }))
})
