/** Whatever the host writes, its pending rows tell the whole difference to what the server knows. */
import type { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { localObject } from "../../src/storage/SqlText.js"
import { memory, script } from "./support/database.js"
import { dirtyRows, installing, rowState, silently, tableOf } from "./support/install.js"

const keys = ["a", "b", "c", "d"] as const
const key = FastCheck.constantFrom(...keys)
const value = FastCheck.constantFrom("NULL", "'x'", "'y'", "'z'", "1.5")
const clause = FastCheck.constantFrom("", " OR REPLACE", " OR IGNORE", " OR FAIL", " OR ROLLBACK")

const statement = FastCheck.oneof(
  FastCheck.tuple(clause, key, value, value).map(([or, id, name, email]) =>
    `INSERT${or} INTO users VALUES ('${id}', ${name}, ${email})`
  ),
  FastCheck.tuple(clause, key, value).map(([or, id, name]) =>
    `UPDATE${or} users SET name = ${name} WHERE id = '${id}'`
  ),
  FastCheck.tuple(clause, key, value).map(([or, id, email]) =>
    `UPDATE${or} users SET email = ${email} WHERE id >= '${id}'`
  ),
  FastCheck.tuple(clause, key, key).map(([or, from, to]) => `UPDATE${or} users SET id = '${to}' WHERE id = '${from}'`),
  key.map((id) => `DELETE FROM users WHERE id = '${id}'`),
  FastCheck.constant("DELETE FROM users"),
  FastCheck.tuple(key, value).map(([id, name]) =>
    `INSERT INTO users (id, name) VALUES ('${id}', ${name}) ON CONFLICT DO UPDATE SET name = excluded.name`
  ),
  FastCheck.tuple(key, key).map(([id, user]) => `INSERT OR REPLACE INTO notes VALUES ('${id}', '${user}')`),
  key.map((id) => `DELETE FROM notes WHERE user_id = '${id}'`)
)

interface Known {
  readonly key: typeof keys[number]
  readonly state: "live" | "tombstone" | "unknown"
  readonly version: number
}

const states: ReadonlyArray<Known["state"]> = ["live", "tombstone", "unknown"]

const known: FastCheck.Arbitrary<ReadonlyArray<Known>> = FastCheck.tuple(...keys.map((id) =>
  FastCheck.record({
    key: FastCheck.constant(id),
    state: FastCheck.constantFrom(...states),
    version: FastCheck.integer({ min: 1, max: 9 })
  })
))

const setUp = (sql: SqliteClient.SqliteClient, options: string, known: ReadonlyArray<Known>) =>
  Effect.gen(function*() {
    yield* script(sql, [
      `CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name, email TEXT UNIQUE) ${options}`,
      `CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL,
         user_id TEXT REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE) ${options}`
    ])
    const installed = yield* installing(sql, ["users", "notes"])
    for (const { key: id, state, version } of known) {
      if (state !== "unknown") yield* rowState(sql, "users", `{"id":"${id}"}`, version, state === "live" ? 0 : 1)
      if (state === "live") yield* silently(sql, sql`INSERT INTO users VALUES (${id}, 'server', NULL)`)
    }
    return installed
  })

describe("host writes of any kind [client-state.md invariants 24–27, 29, 32]", () => {
  for (const options of ["", "WITHOUT ROWID"]) {
    it.effect.prop(
      `are pending as they stand, ${options === "" ? "ordinary tables" : options}`,
      [known, FastCheck.array(statement, { maxLength: 14 })],
      ([before, statements]) =>
        Effect.gen(function*() {
          const sql = yield* memory
          const installed = yield* setUp(sql, options, before)
          const order: Array<string> = []
          for (const text of statements) {
            yield* Effect.ignore(sql.unsafe(text))
            for (const { key_json: id, table_name: table } of yield* dirtyRows(sql)) {
              if (!order.includes(`${table} ${id}`)) order.push(`${table} ${id}`)
            }
          }
          const dirty = yield* dirtyRows(sql)
          assert.deepStrictEqual(dirty.map((row) => `${row.table_name} ${row.key_json}`), order, "order of capture")
          assert.deepStrictEqual(dirty.map((row) => row.dirty_ordinal), dirty.map((_, index) => index + 1))
          for (const table of ["users", "notes"]) {
            const live = yield* sql.unsafe<{ readonly id: string; readonly row: string }>(
              `SELECT t.id, ${localObject(tableOf(installed, table), "t")} AS row FROM ${table} AS t`
            )
            const pending = dirty.filter((row) => row.table_name === table)
            for (const row of pending) {
              const id: unknown = JSON.parse(row.key_json).id
              const there = live.find((one) => one.id === id)
              const state = table === "users"
                ? before.find((one) => one.key === id && one.state !== "unknown")
                : undefined
              assert.strictEqual(row.payload, there?.row ?? null)
              assert.strictEqual(row.op, there === undefined ? "DELETE" : state?.state === "live" ? "UPDATE" : "INSERT")
              assert.strictEqual(row.base_row_version, state?.version ?? 0)
            }
            const server = table === "users" ? before.filter(({ state }) => state === "live") : []
            const clean = (id: string) => !pending.some((row) => row.key_json === `{"id":"${id}"}`)
            assert.sameDeepMembers(
              live.filter(({ id }) => clean(id)),
              server.filter((one) => clean(one.key)).map((one) => ({
                id: one.key,
                row: `{"id":"${one.key}","name":"server","email":null}`
              }))
            )
          }
        }).pipe(Effect.scoped, Effect.orDie),
      { fastCheck: { seed: 20_260_601, numRuns: 150 }, timeout: 60_000 }
    )
  }
})
