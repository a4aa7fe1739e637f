import { SqlError } from "@effect/sql/SqlError"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { CurrentOperation } from "../../src/contract/SyncOperation.js"
import {
  captureAbort,
  catchSql,
  isBusy,
  isConstraint,
  sqliteCode,
  storageCode
} from "../../src/storage/StorageFailure.js"
import { memory, script } from "./support/database.js"

const failure = (fields: Record<string, unknown>, message = "") =>
  new SqlError({ cause: Object.assign(new Error(message), fields), message: "Failed to execute statement" })

describe("storageCode", () => {
  const table: ReadonlyArray<readonly [code: string, expected: string]> = [
    ["SQLITE_BUSY", "busy"],
    ["SQLITE_BUSY_SNAPSHOT", "busy"],
    ["SQLITE_BUSY_RECOVERY", "busy"],
    ["SQLITE_LOCKED", "busy"],
    ["SQLITE_FULL", "full"],
    ["SQLITE_READONLY", "read_only"],
    ["SQLITE_READONLY_DBMOVED", "read_only"],
    ["SQLITE_PERM", "read_only"],
    ["SQLITE_IOERR_WRITE", "io"],
    ["SQLITE_CANTOPEN", "io"],
    ["SQLITE_CORRUPT_VTAB", "corrupt"],
    ["SQLITE_NOTADB", "corrupt"],
    ["SQLITE_ERROR", "other"],
    ["SQLITE_CONSTRAINT_UNIQUE", "other"]
  ]
  for (const [code, expected] of table) {
    it(`${code} is ${expected} [errors.md §1.6]`, () => {
      assert.strictEqual(storageCode(failure({ code })), expected)
      assert.strictEqual(sqliteCode(failure({ code })), code)
    })
  }

  it("reads the number of drivers that give no name", () => {
    assert.strictEqual(storageCode(failure({ errcode: 5 })), "busy")
    assert.strictEqual(storageCode(failure({ errno: 517 })), "busy")
    assert.strictEqual(storageCode(failure({ resultCode: 13 })), "full")
    assert.deepStrictEqual(isConstraint(failure({ errcode: 2067 })), { kind: "unique" })
    assert.strictEqual(storageCode(failure({ code: "ERR_SQLITE_ERROR", errcode: 8 })), "read_only")
  })

  it("reads the text where nothing else tells", () => {
    assert.isTrue(isBusy(failure({}, "database is locked")))
    assert.strictEqual(storageCode(failure({}, "database or disk is full")), "full")
    assert.deepStrictEqual(
      isConstraint(failure({ code: "SQLITE_CONSTRAINT" }, "UNIQUE constraint failed: users.email")),
      { kind: "unique" }
    )
    assert.strictEqual(storageCode(failure({}, "something else")), "other")
    assert.isUndefined(sqliteCode(new SqlError({ cause: "text" })))
  })
})

describe("isConstraint", () => {
  const tables = [
    "CREATE TABLE parent (id TEXT PRIMARY KEY)",
    "CREATE TABLE t (id TEXT PRIMARY KEY, u TEXT UNIQUE, n TEXT NOT NULL DEFAULT '', c INTEGER CHECK (c > 0), p TEXT REFERENCES parent (id), i INTEGER) STRICT",
    "INSERT INTO t (id, u) VALUES ('a', 'x')"
  ]
  const cases: ReadonlyArray<readonly [statement: string, kind: string]> = [
    ["INSERT INTO t (id) VALUES ('a')", "primary_key"],
    ["INSERT INTO t (id, u) VALUES ('b', 'x')", "unique"],
    ["INSERT INTO t (id, n) VALUES ('b', NULL)", "not_null"],
    ["INSERT INTO t (id, c) VALUES ('b', 0)", "check"],
    ["INSERT INTO t (id, p) VALUES ('b', 'nobody')", "foreign_key"],
    ["INSERT INTO t (id, i) VALUES ('b', 'text')", "datatype"]
  ]
  for (const [statement, kind] of cases) {
    it.scoped(`tells ${kind} [errors.md §1.7 local_constraint]`, () =>
      Effect.gen(function*() {
        const sql = yield* memory
        yield* script(sql, tables)
        const error = yield* Effect.flip(sql.unsafe(statement))
        assert.deepStrictEqual(isConstraint(error), { kind })
        assert.isUndefined(captureAbort(error))
      }))
  }

  it.scoped("tells an abort by a trigger, the engine's or the host's, and no bad statement", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, [
        "CREATE TABLE t (id TEXT)",
        "CREATE TRIGGER a BEFORE INSERT ON t WHEN NEW.id = 'k' BEGIN SELECT RAISE(ABORT, 'SYNC_INVALID_KEY'); END",
        "CREATE TRIGGER b BEFORE INSERT ON t WHEN NEW.id = 'h' BEGIN SELECT RAISE(ABORT, 'host'); END"
      ])
      const engine = yield* Effect.flip(sql`INSERT INTO t VALUES ('k')`)
      assert.deepStrictEqual(isConstraint(engine), { kind: "trigger" })
      assert.strictEqual(captureAbort(engine), "SYNC_INVALID_KEY")
      const host = yield* Effect.flip(sql`INSERT INTO t VALUES ('h')`)
      assert.deepStrictEqual(isConstraint(host), { kind: "trigger" })
      assert.isUndefined(captureAbort(host))
      assert.isUndefined(isConstraint(yield* Effect.flip(sql`SELECT * FROM nowhere`)))
    }))
})

describe("catchSql", () => {
  it.scoped("names the running operation, the SQLite code and the driver's error [errors.md §1.1]", () =>
    Effect.gen(function*() {
      const sql = yield* memory
      const error = yield* Effect.flip(catchSql(sql`SELECT * FROM nowhere`)).pipe(
        Effect.provideService(CurrentOperation, "open")
      )
      assert.strictEqual(error._tag, "StorageError")
      assert.strictEqual(error.operation, "open")
      assert.strictEqual(error.code, "other")
      assert.strictEqual(error.sqliteCode, "SQLITE_ERROR")
      assert.include(String(error.cause), "no such table")
      assert.notInclude(error.message, "nowhere")
    }))

  it.effect("lets other errors pass", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Effect.flip(catchSql(Effect.fail("mine" as const))), "mine")
    }))
})
