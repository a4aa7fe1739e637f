/** Bodies that no client of ours sends: what is read of them, and what is refused (wire.md §1.4). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { device, id, outcome, parsed } from "./support/Device.js"
import { ask, inProcess } from "./support/TestServer.js"

const a = device("source-a")

const answered = (path: string, body: string) =>
  Effect.map(ask(path, { body }), (answer) => outcome({ status: answer.status, body: parsed(answer) }))

const row = (members: string) => `{"schema":"business","table":"users","op":"INSERT",${members}}`

/** The answer to a chunk of a session that expects another one: rows that are in order are out of order. */
const chunk = Effect.fnUntraced(function*(rows: string, more = "") {
  yield* a.connect(false)
  const pushId = String((yield* a.create(1, 9)).body["push_id"])
  return yield* answered(`/sync/push-sessions/${pushId}/chunks`, `{"start_row_ordinal":7,"rows":[${rows}]${more}}`)
})

const key = `"key":{"id":"${id(1)}"}`

const late = "409 push_chunk_out_of_order"

const nested = (depth: number, inner = "") => "[".repeat(depth) + inner + "]".repeat(depth)

describe("text after the first value", () => {
  for (const body of ["null{}", "null }", "{} }", "{}{", " {}x", "{}[".padEnd(20_000, "[")]) {
    it.effect(`is ignored in ${body.slice(0, 20)} [wire.md §1.4]`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* answered("/sync/connect", body), "200")
      }).pipe(Effect.provide(inProcess())))
  }

  it.effect("does not cost the server its stack, however long its strings [wire.md §1.4]", () =>
    Effect.gen(function*() {
      const long = "a".repeat(10_000_000)
      assert.strictEqual(yield* answered("/sync/connect", `{"x":"${long}"} trailing`), "200")
      assert.strictEqual(yield* answered("/sync/connect", `"${long}" trailing`), "400 invalid_request")
    }).pipe(Effect.provide(inProcess())))
})

describe("a snapshot request", () => {
  for (
    const [body, expected] of [
      ["", "200"],
      [" \r\n", "200"],
      ["null", "200"],
      ["{} {}", "200"],
      ["{} \"x\" garbage", "200"],
      ["{}1x", "200"],
      ["{}null}", "200"],
      ["{} garbage", "400 snapshot_session_invalid"],
      ["{}{", "400 snapshot_session_invalid"],
      ["null }", "400 snapshot_session_invalid"],
      ["{}1e", "400 snapshot_session_invalid"],
      ["{}-", "400 snapshot_session_invalid"],
      [`{}${nested(10_001)}`, "400 snapshot_session_invalid"],
      ["\ufeff", "400 snapshot_session_invalid"],
      ["\u00a0", "400 snapshot_session_invalid"]
    ] as const
  ) {
    it.effect(`answers ${expected} to ${JSON.stringify(body.slice(0, 20))} [wire.md §1.4]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        assert.strictEqual(yield* answered("/sync/snapshot-sessions", body), expected)
      }).pipe(Effect.provide(inProcess())))
  }
})

describe("nesting", () => {
  for (const number of ["1", "9007199254740993"]) {
    for (
      const [depth, expected] of [
        [9_990, late],
        [9_996, late],
        [9_997, "400 invalid_request"],
        [200_000, "400 invalid_request"]
      ] as const
    ) {
      it.effect(`of ${depth} around ${number} in a payload is answered ${expected} [wire.md §1.4]`, () =>
        Effect.gen(function*() {
          const inner = nested(depth, number)
          assert.strictEqual(yield* chunk(row(`${key},"payload":{"name":${inner}}`)), expected)
        }).pipe(Effect.provide(inProcess())))
    }
  }

  it.effect("counts in unknown members, too [wire.md §1.4]", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* chunk(row(`${key},"payload":{}`), `,"x":${nested(20_000)}`), "400 invalid_request")
    }).pipe(Effect.provide(inProcess())))

  it.effect("does not hide a number that is out of range [wire.md §1.4]", () =>
    Effect.gen(function*() {
      const payload = `"payload":{"name":${nested(9000, "1e400")}}`
      assert.strictEqual(yield* chunk(row(`${key},${payload}`)), "400 push_chunk_invalid")
    }).pipe(Effect.provide(inProcess())))
})

describe("numbers", () => {
  for (
    const [members, expected] of [
      [`${key},"base_row_version":-9223372036854775808,"payload":{}`, late],
      [`${key},"base_row_version":-9223372036854775809,"payload":{}`, "400 invalid_request"],
      [`${key},"base_row_version":9223372036854775808,"payload":{}`, "400 invalid_request"],
      [`${key},"base_row_versi\\u006fn":1.0,"payload":{}`, "400 invalid_request"],
      [`${key},"base_row_versi\\u006Fn":1,"payload":{"name":1.5}`, late],
      [`${key},"payload":{"base_row_version":1.5,"name":1,"name":2}`, late],
      [`"key":{"id":"${id(1)}","x":1e400},"payload":{}`, "400 invalid_request"],
      [`"key":{"id":"${id(1)}","x":[{"y":-1e400}]},"payload":{}`, "400 invalid_request"],
      [`"key":{"id":"${id(1)}","x":[1e300]},"payload":{}`, late],
      [`${key},"x":1e400,"payload":{}`, late]
    ] as const
  ) {
    it.effect(`${members} is answered ${expected} [wire.md §1.4]`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* chunk(row(members)), expected)
      }).pipe(Effect.provide(inProcess())))
  }

  it.effect("of a session are 64-bit integers under any spelling of their names [wire.md §1.4]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      for (
        const member of ["\"source_bundle_id\":-9223372036854775809", "\"source_bundle\\u005fid\":1.0"]
      ) {
        const body = `{${member},"planned_row_count":1}`
        assert.strictEqual(yield* answered("/sync/push-sessions", body), "400 invalid_request", body)
      }
    }).pipe(Effect.provide(inProcess())))
})

describe("a member called __proto__", () => {
  const documents = inProcess({ tables: [{ schema: "business", table: "users", key: { column: "id", kind: "uuid" } }] })

  it.effect("is a member like any other, whatever its neighbours are called [wire.md §1.4]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const pushId = String((yield* a.create(1, 1)).body["push_id"])
      const payload = "{\"__proto__\":{\"q\":1},\"Y\":9007199254740993}"
      const body = `{"rows":[${row(`${key},"payload":${payload}`)}]}`
      assert.strictEqual(yield* answered(`/sync/push-sessions/${pushId}/chunks`, body), "200")
      yield* a.commit(pushId)
      const rows = yield* ask("/sync/committed-bundles/1/rows")
      assert.include(rows.text, `"payload":{"__proto__":{"q":1},"id":"${id(1)}","y":9007199254740993}`)
    }).pipe(Effect.provide(documents)))

  it.effect("lends nothing to a row [wire.md §1.4]", () =>
    Effect.gen(function*() {
      const lent = row(`${key},"payload":{}`)
      assert.strictEqual(yield* chunk(`{"__proto__":${lent},"X":1}`), "400 push_chunk_invalid")
    }).pipe(Effect.provide(documents)))
})
