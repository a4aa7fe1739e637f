import { assert, describe, it } from "@effect/vitest"
import { Either, ParseResult, Schema } from "effect"
import { ExactJson, Wire, WireError } from "oversqlite/protocol"
import { scenarios, type Step } from "./fixtures.js"

/** The schema of the 200 answer to a recorded request. */
const answerSchema = ({ request }: Step): Schema.Schema<unknown, unknown> | undefined => {
  const path = request.path.split("?")[0] ?? ""
  const table: ReadonlyArray<readonly [string, RegExp, Schema.Schema.AnyNoContext]> = [
    ["GET", /^\/sync\/capabilities$/, Wire.Capabilities],
    ["POST", /^\/sync\/connect$/, Wire.ConnectResponse],
    ["POST", /^\/sync\/push-sessions$/, Wire.PushSessionResponse],
    ["POST", /^\/sync\/push-sessions\/[^/]+\/chunks$/, Wire.PushChunkResponse],
    ["POST", /^\/sync\/push-sessions\/[^/]+\/commit$/, Wire.CommitResponse],
    ["GET", /^\/sync\/committed-bundles\/\d+\/rows$/, Wire.CommittedRowsPage],
    ["GET", /^\/sync\/pull$/, Wire.PullPage],
    ["POST", /^\/sync\/snapshot-sessions$/, Wire.SnapshotSession],
    ["GET", /^\/sync\/snapshot-sessions\/[^/]+$/, Wire.SnapshotChunk]
  ]
  return table.find(([method, pattern]) => method === request.method && pattern.test(path))?.[2]
}

/** The schema of a recorded request's body. */
const requestSchema = ({ method, path }: Step["request"]): Schema.Schema.AnyNoContext | undefined =>
  method !== "POST"
    ? undefined
    : path === "/sync/connect"
    ? Wire.ConnectRequest
    : path === "/sync/push-sessions"
    ? Wire.PushSessionRequest
    : path.endsWith("/chunks")
    ? Wire.PushChunkRequest
    : path === "/sync/snapshot-sessions"
    ? Wire.SnapshotSessionRequest
    : undefined

const errorBody = (text: string) => Schema.decodeUnknownSync(WireError.ErrorBody)(JSON.parse(text))

describe("Wire", () => {
  for (const { name, steps } of scenarios) {
    it(`decodes every recorded answer of ${name} and encodes it back to the same members [wire.md §1.5]`, () => {
      for (const step of steps) {
        const { body, status } = step.response
        if (status === 200) {
          const schema = answerSchema(step)
          if (schema === undefined) {
            assert.fail(`no schema for ${step.request.method} ${step.request.path}`)
          } else {
            const given: unknown = ExactJson.parse(body)
            const decoded = Schema.decodeUnknownSync(schema)(given)
            assert.deepStrictEqual(Schema.encodeSync(schema)(decoded), given, `${step.request.path}`)
          }
        } else if (status === 204) {
          assert.strictEqual(body, "")
        } else {
          const error = Schema.decodeUnknownSync(WireError.ErrorBody)(JSON.parse(body))
          assert.isTrue(WireError.isWireErrorCode(error.error), error.error)
          if (WireError.isWireErrorCode(error.error)) {
            assert.strictEqual(WireError.statusOf[error.error], status)
          }
        }
      }
    })
  }

  it("covers every code of the catalogue that was recorded with its status [wire.md §6]", () => {
    const codes = new Set(
      scenarios.flatMap(({ steps }) =>
        steps.flatMap(({ response }) => response.status >= 400 ? [errorBody(response.body).error] : [])
      )
    )
    assert.isAtLeast(codes.size, 15)
    assert.strictEqual(Object.keys(WireError.statusOf).length, 44)
    assert.isFalse(WireError.isWireErrorCode("toString"))
  })

  it("decodes every recorded request and encodes it back [wire.md §4]", () => {
    let requests = 0
    for (const { request, response } of scenarios.flatMap(({ steps }) => steps)) {
      const schema = requestSchema(request)
      if (request.body === null || schema === undefined || response.status >= 400) continue
      const given: unknown = ExactJson.parse(request.body)
      assert.deepStrictEqual(Schema.encodeSync(schema)(Schema.decodeUnknownSync(schema)(given)), given)
      requests += 1
    }
    assert.strictEqual(requests, 77)
  })

  const answers: ReadonlyArray<readonly [string, Schema.Schema.AnyNoContext]> = [
    ["Capabilities", Wire.Capabilities],
    ["ConnectResponse", Wire.ConnectResponse],
    ["PushSessionResponse", Wire.PushSessionResponse],
    ["PushChunkResponse", Wire.PushChunkResponse],
    ["CommitResponse", Wire.CommitResponse],
    ["CommittedRowsPage", Wire.CommittedRowsPage],
    ["BundleRow", Wire.BundleRow],
    ["Bundle", Wire.Bundle],
    ["PullPage", Wire.PullPage],
    ["SnapshotSession", Wire.SnapshotSession],
    ["SnapshotRow", Wire.SnapshotRow],
    ["SnapshotChunk", Wire.SnapshotChunk],
    ["ConflictDetails", Wire.ConflictDetails],
    ["ChangeEvent", Wire.ChangeEvent],
    ["HealthDocument", Wire.HealthDocument],
    ["ConnectRequest", Wire.ConnectRequest],
    ["PushSessionRequest", Wire.PushSessionRequest],
    ["PushChunkRequest", Wire.PushChunkRequest],
    ["PushRequestRow", Wire.PushRequestRow]
  ]

  for (const [name, schema] of answers) {
    it(`takes absent and null members of ${name} for zero and ignores unknown ones [wire.md §1.4, §1.5]`, () => {
      const decode = Schema.decodeUnknownSync(schema)
      const zero: object = decode({})
      const members = Object.keys(zero)
      assert.isNotEmpty(members)
      assert.deepStrictEqual(decode(Object.fromEntries(members.map((member) => [member, null]))), zero)
      assert.deepStrictEqual(decode({ surprise: { a: 1 }, "": [] }), zero)
      for (const [member, value] of Object.entries(zero)) {
        if (member === "server_row") continue
        const wrong = typeof value === "string" ? 1 : "1"
        assert.throws(() => decode({ [member]: wrong }), undefined, undefined, `${name}.${member}`)
        if (typeof value === "number") {
          for (const bad of [1.5, 2 ** 63, true, [], 1e300]) {
            assert.throws(() => decode({ [member]: bad }), undefined, undefined, `${name}.${member}: ${bad}`)
          }
          assert.strictEqual(Reflect.get(decode({ [member]: -0 }), member) + 0, 0)
        }
      }
    })

    it(`refuses an array, a text and a number for ${name} [wire.md §1.4]`, () => {
      for (const given of [[], "x", 1, true]) {
        assert.throws(() => Schema.decodeUnknownSync(schema)(given))
      }
    })
  }

  it("names the place of a wrong member in a page, never its content [errors.md §1]", () => {
    const rows = [{ schema: "s", table: "t", key: { id: "secret" }, op: "INSERT", row_version: "secret" }]
    const cases: ReadonlyArray<readonly [Schema.Schema.AnyNoContext, object, string]> = [
      [Wire.CommittedRowsPage, { rows }, "rows.0.row_version"],
      [Wire.PullPage, { bundles: [{ rows }] }, "bundles.0.rows.0.row_version"],
      [Wire.SnapshotChunk, { rows: [{}, { schema: ["secret"] }] }, "rows.1.schema"],
      [Wire.CommitResponse, { source_id: { secret: 1 } }, "source_id"]
    ]
    for (const [schema, given, path] of cases) {
      const result = Schema.decodeUnknownEither(schema)(given)
      if (Either.isRight(result)) {
        assert.fail("accepted")
      } else {
        assert.notInclude(result.left.message, "secret")
        const issues = ParseResult.ArrayFormatter.formatErrorSync(result.left)
        assert.deepStrictEqual(issues.map((issue) => issue.path.join(".")), [path])
      }
    }
  })

  it("takes a null row for a row of zero values [wire.md §1.4]", () => {
    const row = { schema: "", table: "", key: {}, op: "", row_version: 0 }
    assert.deepStrictEqual(Schema.decodeUnknownSync(Wire.CommittedRowsPage)({ rows: [null] }).rows, [row])
    const { row_version: _, ...uploaded } = { ...row, base_row_version: 0 }
    assert.deepStrictEqual(Schema.decodeUnknownSync(Wire.PushChunkRequest)({ rows: [null] }).rows, [uploaded])
  })

  it("keeps a null payload of an upload apart from an absent one, and not of a bundle [wire.md §1.4]", () => {
    const row = { schema: "s", table: "t", key: { id: "1" }, op: "DELETE", base_row_version: 1 }
    const uploaded = Schema.decodeUnknownSync(Wire.PushChunkRequest)({ rows: [row, { ...row, payload: null }] }).rows
    assert.deepStrictEqual(uploaded, [row, { ...row, payload: null }])
    const committed = Schema.decodeUnknownSync(Wire.BundleRow)({ ...row, payload: null })
    assert.isFalse(Object.hasOwn(committed, "payload"))
  })

  it("matches member names of requests without regard to case, the last one counts [wire.md §1.4]", () => {
    assert.deepStrictEqual(
      Schema.decodeUnknownSync(Wire.PushSessionRequest)({
        Source_Bundle_ID: 1,
        PLANNED_ROW_COUNT: 2,
        source_bundle_id: 3
      }),
      { source_bundle_id: 3, planned_row_count: 2, initialization_id: "" }
    )
    assert.deepStrictEqual(
      Schema.decodeUnknownSync(Wire.PushSessionRequest)({ source_bundle_id: 3, Source_Bundle_ID: 1 }).source_bundle_id,
      1
    )
    const row = { Schema: "s", TABLE: "t", Key: { id: "1" }, OP: "insert", Base_Row_Version: 4, PAYLOAD: { Name: "x" } }
    assert.deepStrictEqual(Schema.decodeUnknownSync(Wire.PushChunkRequest)({ Start_Row_Ordinal: 5, ROWS: [row] }), {
      start_row_ordinal: 5,
      rows: [{ schema: "s", table: "t", key: { id: "1" }, op: "insert", base_row_version: 4, payload: { Name: "x" } }]
    })
    assert.isTrue(
      Schema.decodeUnknownSync(Wire.ConnectRequest)({ Has_Local_Pending_Rows: true }).has_local_pending_rows
    )
  })

  it("takes a null body for an empty object [wire.md §1.4]", () => {
    assert.deepStrictEqual(Schema.decodeUnknownSync(Wire.ConnectRequest)(null), { has_local_pending_rows: false })
    assert.deepStrictEqual(Schema.decodeUnknownSync(Wire.SnapshotSessionRequest)(null), {})
  })

  it("takes integers of all 64 bits in requests, as the exact parser delivers them [wire.md §1.4]", () => {
    const decode = (text: string) =>
      Schema.decodeUnknownSync(Wire.PushSessionRequest)(ExactJson.parse(text)).source_bundle_id
    assert.strictEqual(decode("{\"source_bundle_id\":9223372036854775807}"), 2 ** 63 - 1024)
    assert.strictEqual(decode("{\"source_bundle_id\":-9223372036854775808}"), 1024 - 2 ** 63)
    assert.throws(() => decode("{\"source_bundle_id\":-9223372036854775809}"))
    assert.throws(() => decode("{\"source_bundle_id\":9223372036854775808}"))
    assert.throws(() => decode("{\"source_bundle_id\":\"1\"}"))
  })

  it("refuses unknown members of a snapshot request at both levels, and only there [wire.md §1.4, §4.9]", () => {
    const decode = Schema.decodeUnknownEither(Wire.SnapshotSessionRequest)
    const replacement = { previous_source_id: "a", new_source_id: "b", reason: "history_pruned" }
    assert.deepStrictEqual(
      decode({ source_replacement: replacement }),
      Either.right({ source_replacement: replacement })
    )
    assert.deepStrictEqual(decode({ Source_Replacement: null }), Either.right({}))
    assert.deepStrictEqual(
      decode({ source_replacement: {} }),
      Either.right({ source_replacement: { previous_source_id: "", new_source_id: "", reason: "" } })
    )
    assert.isTrue(Either.isLeft(decode({ surprise: true })))
    assert.isTrue(Either.isLeft(decode({ source_replacement: { ...replacement, surprise: true } })))
    assert.isTrue(Either.isLeft(decode({ source_replacement: [] })))
  })

  it("leaves out what the server omits while it is zero [wire.md §4.2, §4.12]", () => {
    const encode = Schema.encodeSync(Wire.PushSessionResponse)
    const zero = Schema.decodeUnknownSync(Wire.PushSessionResponse)({})
    assert.deepStrictEqual(encode({ ...zero, status: "staging", push_id: "p", planned_row_count: 1 }), {
      status: "staging",
      push_id: "p",
      planned_row_count: 1
    })
    const capabilities = Schema.decodeUnknownSync(Wire.Capabilities)({})
    assert.deepStrictEqual<unknown>(Schema.encodeSync(Wire.Capabilities)(capabilities), {
      protocol_version: "",
      schema_version: 0,
      features: {},
      bundle_limits: {}
    })
  })

  it("takes for features what is a boolean [wire.md §4.12]", () => {
    assert.deepStrictEqual(
      Schema.decodeUnknownSync(Wire.Capabilities)({ features: { a: true, b: false, c: "x", d: null, e: { f: true } } })
        .features,
      { a: true, b: false }
    )
  })
})

describe("WireError", () => {
  it("reads the members of single codes without trusting them [wire.md §1.3, §12]", () => {
    const row = { schema: "s", table: "t", key: { id: "1" }, reason: "no" }
    const body = Schema.decodeUnknownSync(WireError.ErrorBody)({
      error: "push_commit_invalid",
      rows: [row, { ...row, key: "1" }, null, { schema: "s" }],
      conflict: "odd",
      source_id: null
    })
    assert.deepStrictEqual(body.message, "")
    assert.isUndefined(body.source_id)
    assert.deepStrictEqual(WireError.refusedRows(body), [row])
    assert.deepStrictEqual(WireError.refusedRows({ error: "x", message: "" }), [])
  })

  it.each([{}, { error: null }, { error: 5 }, { error: { code: "x" } }, "error", null])(
    "takes %j for no error body",
    (given) => {
      assert.isTrue(Either.isLeft(Schema.decodeUnknownEither(WireError.ErrorBody)(given)))
    }
  )
})
