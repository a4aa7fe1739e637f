import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, TestClock } from "effect"
import { isBusy, isConstraint, storageCode } from "../../src/storage/StorageFailure.js"
import { immediate, insideTransaction, retryBusy } from "../../src/storage/Transaction.js"
import { counting, memory, onFile, script, temporaryFile } from "./support/database.js"

const family = [
  "CREATE TABLE parent (id TEXT PRIMARY KEY)",
  "CREATE TABLE child (id TEXT PRIMARY KEY, parent_id TEXT REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"
]

describe("immediate", () => {
  it.scoped("commits what succeeded and returns its value [effect.md §4.3]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const value = yield* immediate(sql)(Effect.as(sql`INSERT INTO parent VALUES ('a')`, 7))
      assert.strictEqual(value, 7)
      assert.deepStrictEqual(yield* sql`SELECT id FROM parent`, [{ id: "a" }])
    }))

  it.scoped("rolls back a failure, keeps its type and goes on [effect.md §4.3]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const error = yield* Effect.flip(
        immediate(sql)(Effect.zipRight(sql`INSERT INTO parent VALUES ('a')`, Effect.fail("no" as const)))
      )
      assert.strictEqual(error, "no")
      assert.deepStrictEqual(yield* sql`SELECT id FROM parent`, [])
      yield* immediate(sql)(sql`INSERT INTO parent VALUES ('b')`)
      assert.deepStrictEqual(yield* sql`SELECT id FROM parent`, [{ id: "b" }])
    }))

  it.scoped("rolls back a defect [effect.md §4.3]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const exit = yield* Effect.exit(
        immediate(sql)(Effect.zipRight(sql`INSERT INTO parent VALUES ('a')`, Effect.dieMessage("broken")))
      )
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* sql`SELECT id FROM parent`, [])
      yield* immediate(sql)(sql`INSERT INTO parent VALUES ('b')`)
    }))

  it.scoped("types a failed commit, leaves nothing of it and lets the next transaction work [effect.md §4.2 row 2]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const error = yield* Effect.flip(immediate(sql)(sql`INSERT INTO child VALUES ('c', 'nobody')`))
      assert.deepStrictEqual(isConstraint(error), { kind: "foreign_key" })
      assert.deepStrictEqual(yield* sql`SELECT id FROM child`, [])
      yield* sql`INSERT INTO parent VALUES ('plain')`
      yield* immediate(sql)(sql`INSERT INTO child VALUES ('d', 'plain')`)
      assert.deepStrictEqual(yield* sql`SELECT id FROM child`, [{ id: "d" }])
    }))

  it.scoped("lets a look be taken at a refused commit while it is still open [pull.md §10.3]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const look = () =>
        Effect.flatMap(
          sql<{ table: string; parent: string }>`PRAGMA foreign_key_check`,
          ([offender]) => Effect.fail({ _tag: "Offender" as const, table: offender?.table })
        )
      const error = yield* Effect.flip(immediate(sql, look)(sql`INSERT INTO child VALUES ('c', 'nobody')`))
      assert.deepStrictEqual(error, { _tag: "Offender", table: "child" })
      assert.deepStrictEqual(yield* sql`SELECT id FROM child`, [])
      yield* immediate(sql)(sql`INSERT INTO parent VALUES ('b')`)
    }))

  it.scoped("keeps the commit's failure when the look finds nothing [pull.md §10.3]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const error = yield* Effect.flip(
        immediate(sql, () => Effect.void)(sql`INSERT INTO child VALUES ('c', 'nobody')`)
      )
      assert.deepStrictEqual(isConstraint(error), { kind: "foreign_key" })
    }))

  it.scoped("does not take a look at a body that failed", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      let looked = false
      yield* Effect.ignore(immediate(sql, () => Effect.sync(() => void (looked = true)))(Effect.fail("no")))
      assert.isFalse(looked)
    }))

  it.scoped("rolls back when interrupted while running and frees the connection [effect.md §4.3]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const inside = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        immediate(sql)(
          sql`INSERT INTO parent VALUES ('a')`.pipe(
            Effect.zipRight(Deferred.succeed(inside, undefined)),
            Effect.zipRight(Effect.never)
          )
        )
      )
      yield* Deferred.await(inside)
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(fiber)))
      assert.deepStrictEqual(yield* sql`SELECT id FROM parent`, [])
      yield* immediate(sql)(sql`INSERT INTO parent VALUES ('b')`)
      assert.deepStrictEqual(yield* sql`SELECT id FROM parent`, [{ id: "b" }])
    }))

  it.scoped("can be interrupted while it waits, and leaves no trace [effect.md §4.2 row 4]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const release = yield* Deferred.make<void>()
      const holding = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(
        immediate(sql)(
          Effect.zipRight(Deferred.succeed(holding, undefined), Deferred.await(release))
        )
      )
      yield* Deferred.await(holding)
      let ran = false
      const waiting = yield* Effect.fork(immediate(sql)(Effect.sync(() => void (ran = true))))
      yield* Effect.yieldNow()
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(waiting)))
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      assert.isFalse(ran)
      yield* immediate(sql)(sql`INSERT INTO parent VALUES ('b')`)
    }))

  it.scoped("serves waiters in order of arrival [lifecycle.md §1.3]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      const release = yield* Deferred.make<void>()
      const holding = yield* Deferred.make<void>()
      const order: Array<number> = []
      const holder = yield* Effect.fork(
        immediate(sql)(
          Effect.zipRight(Deferred.succeed(holding, undefined), Deferred.await(release))
        )
      )
      yield* Deferred.await(holding)
      const waiters = yield* Effect.forEach([1, 2, 3, 4, 5], (n) =>
        Effect.zipLeft(Effect.fork(immediate(sql)(Effect.sync(() => void order.push(n)))), Effect.yieldNow()))
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      yield* Effect.forEach(waiters, Fiber.join)
      assert.deepStrictEqual(order, [1, 2, 3, 4, 5])
    }))

  it.scoped("keeps a plain statement of another fiber out of the transaction", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const release = yield* Deferred.make<void>()
      const holding = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(Effect.ignore(
        immediate(sql)(
          Effect.zipRight(Deferred.succeed(holding, undefined), Deferred.await(release)).pipe(
            Effect.zipRight(Effect.fail("roll back"))
          )
        )
      ))
      yield* Deferred.await(holding)
      const plain = yield* Effect.fork(sql`INSERT INTO parent VALUES ('plain')`)
      yield* Effect.yieldNow()
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      yield* Fiber.join(plain)
      assert.deepStrictEqual(yield* sql`SELECT id FROM parent`, [{ id: "plain" }])
    }))

  it.scoped("refuses to start inside a transaction, also of another client [effect.md §4.2 row 5]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      const other = yield* memory
      assert.isFalse(yield* insideTransaction)
      assert.isTrue(yield* immediate(sql)(insideTransaction))
      const nested = yield* Effect.exit(immediate(sql)(immediate(sql)(Effect.void)))
      assert.isTrue(Exit.isFailure(nested) && nested.cause._tag === "Die")
      const foreign = yield* Effect.exit(other.withTransaction(immediate(sql)(Effect.void)))
      assert.isTrue(Exit.isFailure(foreign) && foreign.cause._tag === "Die")
      yield* immediate(sql)(Effect.void)
    }))

  it.scoped("tries a busy database three times, 50 and 100 ms apart, then fails as busy [retry-and-loops.md §8]", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const one = yield* onFile(file)
      const two = yield* onFile(file)
      yield* two`PRAGMA busy_timeout = 0`
      yield* script(one, family)
      const release = yield* Deferred.make<void>()
      const holding = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(
        immediate(one)(
          Effect.zipRight(Deferred.succeed(holding, undefined), Deferred.await(release))
        )
      )
      yield* Deferred.await(holding)

      let ran = 0
      const body = Effect.zipRight(Effect.sync(() => void ran++), two`INSERT INTO parent VALUES ('two')`)
      const losing = yield* Effect.fork(Effect.flip(immediate(two)(body)))
      yield* TestClock.adjust("50 millis")
      assert.deepStrictEqual(yield* two`SELECT id FROM parent`, [], "the connection is free between attempts")
      yield* TestClock.adjust("99 millis")
      assert.isNull(losing.unsafePoll())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(losing)
      assert.isTrue(isBusy(error))
      assert.strictEqual(storageCode(error), "busy")
      assert.strictEqual(ran, 0)

      const winning = yield* Effect.fork(immediate(two)(body))
      yield* TestClock.adjust("50 millis")
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(winning)
      assert.strictEqual(ran, 1)
      assert.deepStrictEqual(yield* one`SELECT id FROM parent`, [{ id: "two" }])
    }))

  it.scoped("can be interrupted between two attempts at a busy database", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const one = yield* onFile(file)
      const two = yield* onFile(file)
      yield* two`PRAGMA busy_timeout = 0`
      const holding = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(
        immediate(one)(Effect.zipRight(Deferred.succeed(holding, undefined), Effect.never))
      )
      yield* Deferred.await(holding)
      const waiting = yield* Effect.fork(immediate(two)(Effect.void))
      yield* TestClock.adjust("10 millis")
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(waiting)))
      yield* Fiber.interrupt(holder)
      yield* immediate(two)(Effect.void)
    }))

  it.scoped("reads before it writes without a snapshot conflict [effect.md §4.2 row 1]", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const one = yield* onFile(file)
      const two = yield* onFile(file)
      yield* script(one, ["CREATE TABLE counter (n INTEGER)", "INSERT INTO counter VALUES (0)"])
      const increment = (sql: typeof one) =>
        immediate(sql)(Effect.flatMap(
          sql<{ n: number }>`SELECT n FROM counter`,
          ([row]) => sql`UPDATE counter SET n = ${(row?.n ?? 0) + 1}`
        ))
      yield* Effect.forEach([one, two, one, two], increment)
      assert.deepStrictEqual(yield* one`SELECT n FROM counter`, [{ n: 4 }])
    }))

  it.scoped("lets no other fiber run between its statements, however many [DESIGN D14]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      let turns = 0
      const other = yield* Effect.fork(
        Effect.forever(Effect.zipRight(Effect.sync(() => void turns++), Effect.yieldNow()))
      )
      yield* Effect.yieldNow()
      const [before, after] = yield* immediate(sql)(Effect.gen(function*() {
        const start = turns
        for (let n = 0; n < 1500; n++) yield* sql`INSERT INTO parent VALUES (${`p${n}`})`
        return [start, turns] as const
      }))
      assert.strictEqual(after, before)
      yield* Fiber.interrupt(other)
    }))

  it.scoped("shows its statements and itself to the tracer [effect.md §3.11]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, family)
      const [, counted] = yield* counting(
        immediate(sql)(Effect.zipRight(
          sql`INSERT INTO parent VALUES ('a')`,
          sql.unsafe("SELECT count(*) AS n FROM parent")
        ))
      )
      assert.deepStrictEqual(counted.statements, [
        "INSERT INTO parent VALUES ('a')",
        "SELECT count(*) AS n FROM parent"
      ])
      assert.strictEqual(counted.transactions, 1)
    }))

  it.scoped("survives a statement that has already rolled the transaction back", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, [
        ...family,
        "CREATE TRIGGER host BEFORE INSERT ON child BEGIN SELECT RAISE(ROLLBACK, 'host'); END"
      ])
      const error = yield* Effect.flip(
        immediate(sql)(Effect.zipRight(
          sql`INSERT INTO parent VALUES ('a')`,
          sql`INSERT INTO child VALUES ('c', NULL)`
        ))
      )
      assert.strictEqual(error._tag, "SqlError")
      assert.deepStrictEqual(yield* sql`SELECT id FROM parent`, [])
      yield* immediate(sql)(sql`INSERT INTO parent VALUES ('b')`)
    }))
})

describe("retryBusy", () => {
  it.scoped("does not repeat other failures", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      let tries = 0
      const error = yield* Effect.flip(
        retryBusy(Effect.zipRight(Effect.sync(() => void tries++), sql`SELECT * FROM nowhere`))
      )
      assert.isFalse(isBusy(error))
      assert.strictEqual(tries, 1)
    }))
})
