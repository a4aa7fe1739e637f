import { SqlClient } from "@effect/sql"
import { SqlError } from "@effect/sql/SqlError"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { execute, executeOn, typed } from "../../src/storage/Statement.js"
import { immediate } from "../../src/storage/Transaction.js"
import { counting, memory, script, shouting } from "./support/database.js"

describe("execute", () => {
  it.scoped("asks again for a statement that could not be prepared before, which the driver itself does not", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      const run = executeOn(sql)
      const text = "SELECT b FROM late"
      assert.strictEqual((yield* Effect.flip(run(text)))._tag, "SqlError")
      yield* script(sql, ["CREATE TABLE late (a)"])
      assert.include(String((yield* Effect.flip(run(text))).cause), "no such column: b")
      yield* script(sql, ["ALTER TABLE late ADD COLUMN b DEFAULT 7", "INSERT INTO late (a) VALUES (1)"])
      assert.deepStrictEqual(yield* run(text), [{ b: 7 }])
      assert.strictEqual((yield* Effect.flip(sql.unsafe(text)))._tag, "SqlError", "the driver still refuses")
    }))

  it.scoped("does so inside the transaction", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      const run = executeOn(sql)
      const text = "INSERT INTO late VALUES (?)"
      yield* Effect.flip(run(text, [1]))
      yield* script(sql, ["CREATE TABLE late (a)"])
      yield* Effect.ignore(immediate(sql)(Effect.zipRight(run(text, [1]), Effect.fail("roll back"))))
      assert.deepStrictEqual(yield* run("SELECT * FROM late"), [])
      yield* immediate(sql)(run(text, [2]))
      assert.deepStrictEqual(yield* run("SELECT a FROM late"), [{ a: 2 }])
    }))

  it.scoped("does not repeat a statement that failed while it ran", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      const run = executeOn(sql)
      yield* script(sql, ["CREATE TABLE t (id TEXT PRIMARY KEY)", "INSERT INTO t VALUES ('a')"])
      const [, counted] = yield* counting(Effect.flip(run("INSERT INTO t VALUES (?)", ["a"])))
      assert.strictEqual(counted.statements.length, 1)
    }))

  it.scoped("gives columns their own names on a client that renames them", () =>
    Effect.gen(function*() {
      const sql = yield* shouting
      assert.deepStrictEqual(yield* sql`SELECT 1 AS one`, [{ ONE: 1 }])
      const run = yield* Effect.provideService(execute, SqlClient.SqlClient, sql)
      assert.deepStrictEqual(yield* run("SELECT 1 AS one"), [{ one: 1 }])
    }))
})

describe("typed", () => {
  it.effect("makes a failure of what SQLite throws, and leaves other defects alone", () =>
    Effect.gen(function*() {
      const thrown = Object.assign(new Error("near x"), { code: "SQLITE_ERROR" })
      const error = yield* Effect.flip(typed(Effect.die(thrown)))
      assert.instanceOf(error, SqlError)
      assert.strictEqual(error.cause, thrown)
      const defect = yield* Effect.exit(typed(Effect.dieMessage("a bug")))
      assert.isTrue(Exit.isFailure(defect) && defect.cause._tag === "Die")
    }))
})
