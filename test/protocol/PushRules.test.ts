import { assert, describe, it } from "@effect/vitest"
import { Either, Schema } from "effect"
import { AnswerRules, Wire } from "oversqlite/protocol"
import { scenarios } from "./fixtures.js"

const ruleOf = (result: Either.Either<unknown, AnswerRules.Violation>) =>
  Either.match(result, { onLeft: ({ rule }) => rule, onRight: () => "accepted" })

/** An answer as the wire would give it, so that absent members have their zero values. */
const answer = <A, I>(schema: Schema.Schema<A, I>, ...members: ReadonlyArray<object>): A =>
  Schema.decodeUnknownSync(schema)(Object.assign({}, ...members))

describe("rules for connect", () => {
  it.each<readonly [object, string]>([
    [{ resolution: "remote_authoritative" }, "accepted"],
    [{ resolution: "initialize_empty" }, "accepted"],
    [{ resolution: "initialize_local", initialization_id: "i-1" }, "accepted"],
    [{ resolution: "initialize_local" }, "field_invalid"],
    [{ resolution: "initialize_local", initialization_id: "  " }, "field_invalid"],
    [{ resolution: "retry_later", retry_after_seconds: 1 }, "accepted"],
    [{ resolution: "retry_later" }, "field_invalid"],
    [{ resolution: "initialize" }, "resolution_unknown"],
    [{}, "resolution_unknown"]
  ])("%j → %s [lifecycle.md §4.3]", (given, rule) => {
    assert.strictEqual(ruleOf(AnswerRules.connected(answer(Wire.ConnectResponse, given))), rule)
  })
})

describe("rules for push sessions", () => {
  const staging = { status: "staging", push_id: "p", planned_row_count: 3 }

  it.each<readonly [object, string]>([
    [{}, "accepted"],
    [{ next_expected_row_ordinal: 0 }, "accepted"],
    [{ push_id: "" }, "field_invalid"],
    [{ push_id: " " }, "field_invalid"],
    [{ planned_row_count: 2 }, "echo_mismatch"],
    [{ planned_row_count: null }, "echo_mismatch"],
    [{ next_expected_row_ordinal: 1 }, "ordinal_mismatch"],
    [{ status: "already_committed" }, "status_unknown"],
    [{ status: "later" }, "status_unknown"],
    [{ status: "" }, "status_unknown"]
  ])("staging with %j → %s [push.md §4]", (change, rule) => {
    const given = answer(Wire.PushSessionResponse, staging, change)
    assert.strictEqual(ruleOf(AnswerRules.staging(given, { plannedRowCount: 3 })), rule)
  })

  it("gives the id of the session [push.md §4]", () => {
    const given = answer(Wire.PushSessionResponse, staging)
    assert.deepStrictEqual(AnswerRules.staging(given, { plannedRowCount: 3 }), Either.right({ pushId: "p" }))
  })

  const commit = { bundle_seq: 7, source_id: "s", source_bundle_id: 2, row_count: 3, bundle_hash: "ab" }
  const upload = { sourceId: "s", sourceBundleId: 2 }

  const commitCases: ReadonlyArray<readonly [object, string]> = [
    [{}, "accepted"],
    [{ source_bundle_id: 3 }, "echo_mismatch"],
    [{ source_id: "S" }, "echo_mismatch"],
    [{ source_id: null }, "echo_mismatch"],
    [{ bundle_seq: 0 }, "field_invalid"],
    [{ bundle_seq: -1 }, "field_invalid"],
    [{ row_count: 0 }, "field_invalid"],
    [{ bundle_hash: "" }, "field_invalid"],
    [{ bundle_hash: " " }, "field_invalid"]
  ]

  it.each([...commitCases, [{ status: "staging" }, "status_unknown"], [{ status: "" }, "status_unknown"]] as const)(
    "already_committed with %j → %s [push.md §4]",
    (change, rule) => {
      const given = answer(Wire.PushSessionResponse, { status: "already_committed", ...commit }, change)
      assert.strictEqual(ruleOf(AnswerRules.alreadyCommitted(given, upload)), rule)
    }
  )

  it.each(commitCases)("a commit with %j → %s [push.md §5]", (change, rule) => {
    const given = answer(Wire.CommitResponse, commit, change)
    assert.strictEqual(ruleOf(AnswerRules.committed(given, upload)), rule)
  })

  it("gives the same commit from both answers [push.md §6]", () => {
    const again = answer(Wire.PushSessionResponse, { status: "already_committed", ...commit })
    assert.deepStrictEqual(AnswerRules.alreadyCommitted(again, upload), Either.right(commit))
    assert.deepStrictEqual(AnswerRules.committed(answer(Wire.CommitResponse, commit), upload), Either.right(commit))
  })

  it.each<readonly [object, string]>([
    [{}, "accepted"],
    [{ push_id: "q" }, "echo_mismatch"],
    [{ push_id: null }, "echo_mismatch"],
    [{ next_expected_row_ordinal: 14 }, "ordinal_mismatch"],
    [{ next_expected_row_ordinal: 16 }, "ordinal_mismatch"],
    [{ next_expected_row_ordinal: null }, "ordinal_mismatch"]
  ])("an accepted chunk with %j → %s [push.md §5]", (change, rule) => {
    const given = answer(Wire.PushChunkResponse, { push_id: "p", next_expected_row_ordinal: 15 }, change)
    const result = AnswerRules.chunkAccepted(given, { pushId: "p", startRowOrdinal: 10, rowCount: 5 })
    assert.strictEqual(ruleOf(result), rule)
    assert.strictEqual(Either.getOrElse(result, () => 15), 15)
  })
})

describe("rules for pages of committed rows", () => {
  const row = (id: string, change: object = {}) => ({
    schema: "business",
    table: "users",
    key: { id },
    op: "INSERT",
    row_version: 7,
    payload: { id },
    ...change
  })
  const commit = { bundle_seq: 7, source_id: "s", source_bundle_id: 2, row_count: 4, bundle_hash: "ab" }
  const first = { ...commit, rows: [row("1"), row("2")], next_row_ordinal: 1, has_more: true }
  const check = (change: object, afterRowOrdinal?: number, seen = new Set<string>()) =>
    AnswerRules.committedRowsPage(answer(Wire.CommittedRowsPage, first, change), { commit, afterRowOrdinal, seen })

  const cases: ReadonlyArray<readonly [string, object, string]> = [
    ["nothing", {}, "accepted"],
    ["another bundle", { bundle_seq: 8 }, "echo_mismatch"],
    ["another source", { source_id: "t" }, "echo_mismatch"],
    ["another number", { source_bundle_id: 1 }, "echo_mismatch"],
    ["another count", { row_count: 5 }, "echo_mismatch"],
    ["another hash", { bundle_hash: "AB" }, "echo_mismatch"],
    ["a cursor too low", { next_row_ordinal: 0 }, "ordinal_mismatch"],
    ["a cursor too high", { next_row_ordinal: 2 }, "ordinal_mismatch"],
    ["no rows but more", { rows: [], next_row_ordinal: 0 }, "no_progress"],
    ["the end too early", { has_more: false }, "count_mismatch"],
    ["rows without end", { rows: [row("1"), row("2"), row("3"), row("4")], next_row_ordinal: 3 }, "count_mismatch"],
    [
      "a row too many",
      { rows: [row("1"), row("2"), row("3"), row("4"), row("5")], next_row_ordinal: 4, has_more: false },
      "count_mismatch"
    ],
    ["a blank schema", { rows: [row("1"), row("2", { schema: " " })] }, "row_invalid"],
    ["no table", { rows: [row("1"), row("2", { table: null })] }, "row_invalid"],
    ["an empty key", { rows: [row("1"), row("2", { key: {} })] }, "row_invalid"],
    ["no key", { rows: [row("1"), row("2", { key: null })] }, "row_invalid"],
    ["a number as key", { rows: [row("1"), row("2", { key: { id: 2 } })] }, "row_invalid"],
    ["version 0", { rows: [row("1"), row("2", { row_version: 0 })] }, "row_invalid"],
    ["no version", { rows: [row("1"), row("2", { row_version: null })] }, "row_invalid"],
    ["an unknown op", { rows: [row("1"), row("2", { op: "UPSERT" })] }, "row_invalid"],
    ["an op in lower case", { rows: [row("1"), row("2", { op: "insert" })] }, "row_invalid"],
    ["an INSERT without payload", { rows: [row("1"), row("2", { payload: undefined })] }, "row_invalid"],
    ["an UPDATE with null payload", { rows: [row("1"), row("2", { op: "UPDATE", payload: null })] }, "row_invalid"],
    ["a DELETE without payload", { rows: [row("1"), row("2", { op: "DELETE", payload: undefined })] }, "accepted"],
    ["an empty text key", { rows: [row("1"), row("")] }, "accepted"],
    ["a null row", { rows: [row("1"), null] }, "row_invalid"],
    ["a key twice", { rows: [row("1"), row("1", { op: "UPDATE" })] }, "row_invalid"],
    ["the same key in another table", { rows: [row("1"), row("1", { table: "posts" })] }, "accepted"],
    ["a hidden column", { rows: [row("1"), row("2", { payload: { _sync_scope_id: "u" } })] }, "hidden_column"],
    [
      "a column that is called nearly so",
      { rows: [row("1"), row("2", { payload: { _SYNC_SCOPE_ID: "u" } })] },
      "accepted"
    ]
  ]

  for (const [name, change, rule] of cases) {
    it(`with ${name} → ${rule} [push.md §7]`, () => {
      assert.strictEqual(ruleOf(check(change)), rule)
    })
  }

  it("names the offending row and never its payload [errors.md §1.2]", () => {
    const result = check({ rows: [row("1"), row("2", { payload: { secret: 1, _sync_scope_id: "u" } })] })
    assert.deepStrictEqual(
      Either.flip(result).pipe(Either.map(({ row }) => row), Either.getOrNull),
      { schema: "business", table: "users", key: "{\"id\":\"2\"}" }
    )
    assert.notInclude(JSON.stringify(Either.getOrNull(Either.flip(result))), "secret")
  })

  it("counts ordinals on from the requested cursor and ends at the count [wire.md §3]", () => {
    const last = { rows: [row("3"), row("4")], next_row_ordinal: 3, has_more: false }
    assert.strictEqual(ruleOf(check(last, 1)), "accepted")
    assert.strictEqual(ruleOf(check(last, 0)), "ordinal_mismatch")
    assert.strictEqual(ruleOf(check(last)), "ordinal_mismatch")
  })

  it("finds a key that comes again on a later page [push.md §7]", () => {
    const seen = new Set<string>()
    assert.strictEqual(ruleOf(check({}, undefined, seen)), "accepted")
    assert.strictEqual(
      ruleOf(check({ rows: [row("3"), row("1")], next_row_ordinal: 3, has_more: false }, 1, seen)),
      "row_invalid"
    )
  })
})

describe("recorded pushes", () => {
  it("break no rule in any scenario [push.md §4, §5, §7]", () => {
    let pages = 0
    for (const { name, steps } of scenarios) {
      const commits = new Map<number, Wire.CommitResponse>()
      const seen = new Map<number, Set<string>>()
      for (const { request, response } of steps) {
        if (response.status !== 200) continue
        const body: unknown = JSON.parse(response.body)
        const sent = Schema.decodeUnknownSync(Schema.Struct({
          source_bundle_id: Schema.optional(Schema.Number),
          planned_row_count: Schema.optional(Schema.Number),
          start_row_ordinal: Schema.optional(Schema.Number),
          rows: Schema.optional(Schema.Array(Schema.Unknown))
        }))(JSON.parse(request.body ?? "{}"))
        const source = { sourceId: request.source ?? "", sourceBundleId: sent.source_bundle_id ?? 0 }
        let result: Either.Either<unknown, AnswerRules.Violation> = Either.right(undefined)
        if (request.path === "/sync/connect") {
          result = AnswerRules.connected(answer(Wire.ConnectResponse, Object(body)))
        } else if (request.path === "/sync/push-sessions") {
          const created = answer(Wire.PushSessionResponse, Object(body))
          result = created.status === "staging"
            ? AnswerRules.staging(created, { plannedRowCount: sent.planned_row_count ?? 0 })
            : AnswerRules.alreadyCommitted(created, source)
        } else if (request.path.endsWith("/chunks")) {
          result = AnswerRules.chunkAccepted(answer(Wire.PushChunkResponse, Object(body)), {
            pushId: request.path.split("/")[3] ?? "",
            startRowOrdinal: sent.start_row_ordinal ?? 0,
            rowCount: sent.rows?.length ?? 0
          })
        } else if (request.path.endsWith("/commit")) {
          const commit = answer(Wire.CommitResponse, Object(body))
          commits.set(commit.bundle_seq, commit)
          result = AnswerRules.committed(commit, { ...source, sourceBundleId: commit.source_bundle_id })
        } else if (request.path.includes("/committed-bundles/")) {
          const page = answer(Wire.CommittedRowsPage, Object(body))
          const commit = commits.get(page.bundle_seq)
          const after = /after_row_ordinal=(\d+)/.exec(request.path)?.[1]
          const keys = seen.get(page.bundle_seq) ?? new Set()
          seen.set(page.bundle_seq, keys)
          pages += 1
          result = commit === undefined ? Either.right(undefined) : AnswerRules.committedRowsPage(page, {
            commit,
            afterRowOrdinal: after === undefined ? undefined : Number(after),
            seen: keys
          })
        }
        assert.deepStrictEqual(ruleOf(result), "accepted", `${name} ${request.path}`)
      }
    }
    assert.strictEqual(pages, 19)
  })
})
