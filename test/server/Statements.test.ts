/** What the server costs in SQL statements must not depend on rows (DESIGN §5). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { device, id, insert, outcome, remove, update, user } from "./support/Device.js"
import type { Row } from "./support/Device.js"
import { statementsOf } from "./support/Spans.js"
import { inProcess } from "./support/TestServer.js"

const a = device("source-a")

/** How many statements an effect runs. */
const statements = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(statementsOf(effect), (texts) => texts.length)

const numbers = (count: number, first = 1) => Array.from({ length: count }, (_, index) => first + index)

/** Every step of a push of inserts, then of updates and cascading deletes, then a snapshot, for a number of rows. */
const costs = (rows: number) =>
  Effect.gen(function*() {
    yield* a.connect(false)
    const step = Effect.fnUntraced(function*(number: number, staged: ReadonlyArray<Row>) {
      const pushId = (yield* a.create(number, staged.length)).body["push_id"]
      const chunk = yield* statements(
        Effect.tap(a.chunk(pushId, 0, staged), (reply) => assert.strictEqual(outcome(reply), "200"))
      )
      const commit = yield* statements(
        Effect.tap(a.commit(pushId), (reply) => assert.strictEqual(outcome(reply), "200"))
      )
      return { chunk, commit }
    })
    const inserts = yield* step(1, [
      ...numbers(rows).map((number) => user(number)),
      ...numbers(rows).map((number) => insert("posts", number, { author_id: id(number) })),
      ...numbers(rows).map((number) => insert("categories", number, { parent_id: number === 1 ? null : id(1) }))
    ])
    const changes = yield* step(2, [
      ...numbers(rows).map((number) => update("users", number, 1, { name: `changed ${number}` })),
      ...numbers(rows).map((number) => remove("posts", number, 1)),
      remove("categories", 1, 1)
    ])
    const snapshot = yield* statements(a.snapshot())
    const pull = yield* statements(a.pull(0))
    const committed = yield* statements(a.rows(1, "?max_rows=5000"))
    return { inserts, changes, snapshot, pull, committed }
  }).pipe(Effect.provide(inProcess()))

describe("statement counts", () => {
  it.effect("are the same for 2 and for 600 rows a table [DESIGN §5]", () =>
    Effect.gen(function*() {
      const few = yield* costs(2)
      const many = yield* costs(600)
      assert.deepStrictEqual(many, few)
      assert.isAtMost(few.inserts.chunk, 6)
      assert.isAtMost(few.inserts.commit, 40)
    }))

  it.effect("of a cascade grow with its levels only [server.md §7.3]", () =>
    Effect.gen(function*() {
      const chain = (levels: number, width: number) =>
        Effect.gen(function*() {
          yield* a.connect(false)
          const rows = numbers(levels).flatMap((level) =>
            numbers(width).map((column) =>
              insert("categories", level * 1000 + column, {
                parent_id: level === 1 ? null : id((level - 1) * 1000 + column)
              })
            )
          )
          yield* a.push(1, rows)
          const pushId = (yield* a.create(2, width)).body["push_id"]
          yield* a.chunk(pushId, 0, numbers(width).map((column) => remove("categories", 1000 + column, 1)))
          return yield* statements(
            Effect.tap(a.commit(pushId), (reply) => assert.strictEqual(reply.body["row_count"], levels * width))
          )
        }).pipe(Effect.provide(inProcess()))
      const [narrow, wide, deep] = yield* Effect.all([chain(3, 1), chain(3, 100), chain(6, 1)])
      assert.strictEqual(wide, narrow)
      assert.strictEqual(deep - narrow, 2 * 3)
    }))
})
