import { assert, describe, it } from "@effect/vitest"
import { Either, Schema } from "effect"
import { AnswerRules, BundleHash, Wire } from "oversqlite/protocol"
import { scenarios } from "./fixtures.js"

const ruleOf = (result: Either.Either<unknown, AnswerRules.Violation>) =>
  Either.match(result, { onLeft: ({ rule }) => rule, onRight: () => "accepted" })

const decodePage = Schema.decodeUnknownSync(Wire.PullPage)
const decodeSession = Schema.decodeUnknownSync(Wire.SnapshotSession)
const decodeChunk = Schema.decodeUnknownSync(Wire.SnapshotChunk)

const row = (id: string, sequence: number, change: object = {}) => ({
  schema: "business",
  table: "users",
  key: { id },
  op: "INSERT",
  row_version: sequence,
  payload: { id },
  ...change
})

const bundle = (sequence: number, change: object = {}) => {
  const rows = [row(`${sequence}a`, sequence), row(`${sequence}b`, sequence)]
  return {
    bundle_seq: sequence,
    source_id: "s",
    source_bundle_id: sequence,
    row_count: 2,
    bundle_hash: BundleHash.bundleHash(rows),
    rows,
    ...change
  }
}

const page = (bundles: ReadonlyArray<object>, change: object = {}) =>
  decodePage({ stable_bundle_seq: 9, bundles, has_more: true, ...change })

describe("rules for pull pages", () => {
  const cases: ReadonlyArray<readonly [string, Wire.PullPage, number, number | undefined, string]> = [
    ["consecutive bundles", page([bundle(4), bundle(5)]), 3, undefined, "accepted"],
    ["the ceiling that was asked for", page([bundle(4)]), 3, 9, "accepted"],
    ["another ceiling", page([bundle(4)]), 3, 8, "ceiling_changed"],
    ["no target yet", page([bundle(4)]), 3, 0, "accepted"],
    ["a negative ceiling", page([], { stable_bundle_seq: -1 }), 0, undefined, "field_invalid"],
    ["no ceiling", page([bundle(1)], { stable_bundle_seq: null }), 0, undefined, "sequence_invalid"],
    ["an empty scope", page([], { stable_bundle_seq: 0 }), 0, undefined, "accepted"],
    ["sequence 0", page([bundle(0)]), -1, undefined, "field_invalid"],
    ["no source", page([bundle(4, { source_id: " " })]), 3, undefined, "field_invalid"],
    ["no bundle id", page([bundle(4, { source_bundle_id: 0 })]), 3, undefined, "field_invalid"],
    ["a bundle already applied", page([bundle(3)]), 3, undefined, "sequence_invalid"],
    ["a bundle twice", page([bundle(4), bundle(4)]), 3, undefined, "sequence_invalid"],
    ["bundles out of order", page([bundle(5), bundle(4)]), 3, undefined, "sequence_invalid"],
    ["a bundle above the ceiling", page([bundle(4), bundle(10)]), 3, undefined, "sequence_invalid"],
    ["an invalid row", page([bundle(4, { rows: [row("a", 4), row("b", 0)] })]), 3, undefined, "row_invalid"],
    ["a key twice", page([bundle(4, { rows: [row("a", 4), row("a", 4)] })]), 3, undefined, "row_invalid"],
    [
      "a hidden column",
      page([bundle(4, { rows: [row("a", 4, { payload: { _sync_scope_id: "u" } })] })]),
      3,
      undefined,
      "hidden_column"
    ],
    [
      "the same key in two bundles",
      page([
        bundle(4, { bundle_hash: "", rows: [row("a", 4), row("b", 4)] }),
        bundle(5, { bundle_hash: "", rows: [row("a", 5), row("b", 5)] })
      ]),
      3,
      undefined,
      "accepted"
    ],
    ["a wrong count", page([bundle(4, { row_count: 3 })]), 3, undefined, "count_mismatch"],
    ["a wrong hash", page([bundle(4, { bundle_hash: "0".repeat(64) })]), 3, undefined, "hash_mismatch"],
    [
      "changed rows",
      page([bundle(4, { rows: [row("4a", 4), row("4b", 4, { payload: { id: "4c" } })] })]),
      3,
      undefined,
      "hash_mismatch"
    ],
    ["rows in another order", page([bundle(4, { rows: [row("4b", 4), row("4a", 4)] })]), 3, undefined, "hash_mismatch"],
    ["neither count nor hash", page([bundle(4, { row_count: null, bundle_hash: null })]), 3, undefined, "accepted"],
    ["a bundle without rows", page([bundle(4, { row_count: 0, bundle_hash: "", rows: [] })]), 3, undefined, "accepted"],
    ["a bad bundle behind a gap", page([bundle(4), bundle(6, { row_count: 1 })]), 3, undefined, "count_mismatch"]
  ]

  for (const [name, given, after, target, rule] of cases) {
    it(`${name} → ${rule} [pull.md §3]`, () => {
      assert.strictEqual(ruleOf(AnswerRules.pullPage(given, { after, target })), rule)
    })
  }

  const verdict = (given: Wire.PullPage, after: number) => {
    const { bundles, ...rest } = Either.getOrThrow(AnswerRules.pullPage(given, { after }))
    return { ...rest, sequences: bundles.map(({ bundle_seq }) => bundle_seq) }
  }

  it("reports a ceiling below the checkpoint as a value: the server has gone back or lags [pull.md §3]", () => {
    assert.deepStrictEqual(verdict(page([], { stable_bundle_seq: 9, has_more: false }), 12), {
      stableBundleSeq: 9,
      hasMore: false,
      historyId: "",
      staleCeiling: true,
      missingHistory: false,
      sequences: []
    })
    assert.isTrue(verdict(page([], { stable_bundle_seq: 0 }), 1).staleCeiling)
    assert.isFalse(verdict(page([], { stable_bundle_seq: 9 }), 9).staleCeiling)
  })

  it("reports missing history as a value and keeps what precedes the gap [pull.md §3]", () => {
    assert.deepStrictEqual(verdict(page([bundle(4), bundle(5), bundle(7)], { history_id: "h" }), 3), {
      stableBundleSeq: 9,
      hasMore: true,
      historyId: "h",
      staleCeiling: false,
      missingHistory: true,
      sequences: [4, 5]
    })
    assert.deepStrictEqual(verdict(page([bundle(4)]), 0), {
      stableBundleSeq: 9,
      hasMore: true,
      historyId: "",
      staleCeiling: false,
      missingHistory: true,
      sequences: []
    })
    assert.isFalse(verdict(page([bundle(4), bundle(5)]), 3).missingHistory)
  })

  it("a ceiling below a known bundle is stale, whatever the checkpoint [pull.md §3]", () => {
    const stale = (newest: number) =>
      Either.getOrThrow(AnswerRules.pullPage(page([bundle(4)]), { after: 3, newest })).staleCeiling
    assert.deepStrictEqual([3, 9, 10].map(stale), [false, false, true])
  })

  const continuations: ReadonlyArray<readonly [string, Wire.PullPage, number, number, string]> = [
    ["goes on below the ceiling", page([bundle(4)]), 3, 4, "true"],
    ["ends at the ceiling", page([bundle(9)], { has_more: false }), 8, 9, "false"],
    ["ends at the ceiling whatever is promised", page([bundle(9)]), 8, 9, "false"],
    ["ends on an empty scope", page([], { stable_bundle_seq: 0, has_more: false }), 0, 0, "false"],
    ["ended early", page([bundle(4)], { has_more: false }), 3, 4, "ended_early"],
    ["ended early without bundles", page([], { has_more: false }), 3, 3, "ended_early"],
    ["no progress", page([]), 3, 3, "no_progress"]
  ]

  for (const [name, given, after, applied, expected] of continuations) {
    it(`${name} → ${expected} [pull.md §2]`, () => {
      const accepted = Either.getOrThrow(AnswerRules.pullPage(given, { after }))
      const goesOn = AnswerRules.pullContinues(accepted, applied)
      assert.strictEqual(Either.isRight(goesOn) ? String(goesOn.right) : goesOn.left.rule, expected)
    })
  }
})

describe("rules for snapshots", () => {
  const session = {
    snapshot_id: "n",
    snapshot_bundle_seq: 9,
    row_count: 3,
    byte_count: 10,
    expires_at: "2026-11-23T01:04:31Z"
  }

  it.each<readonly [object, string]>([
    [{}, "accepted"],
    [{ snapshot_id: "" }, "field_invalid"],
    [{ snapshot_bundle_seq: -1 }, "field_invalid"],
    [{ row_count: -1 }, "field_invalid"],
    [{ byte_count: -1 }, "field_invalid"],
    [{ byte_count: null }, "accepted"],
    [{ expires_at: " " }, "field_invalid"],
    [{ expires_at: "long ago" }, "accepted"],
    [{ snapshot_bundle_seq: 0 }, "sequence_invalid"],
    [{ snapshot_bundle_seq: 0, row_count: 0 }, "accepted"]
  ])("a session with %j → %s [pull.md §5.3]", (change, rule) => {
    assert.strictEqual(ruleOf(AnswerRules.snapshotSession(decodeSession({ ...session, ...change }))), rule)
  })

  const { op: _op, ...snapshotRow } = row("a", 4)
  const chunk = {
    snapshot_id: "n",
    snapshot_bundle_seq: 9,
    rows: [snapshotRow, snapshotRow],
    next_row_ordinal: 2,
    has_more: true
  }

  const cases: ReadonlyArray<readonly [string, object, number, string]> = [
    ["nothing", {}, 0, "accepted"],
    ["another session", { snapshot_id: "m" }, 0, "echo_mismatch"],
    ["another sequence", { snapshot_bundle_seq: 8 }, 0, "echo_mismatch"],
    ["a wrong cursor", { next_row_ordinal: 1 }, 0, "ordinal_mismatch"],
    ["the cursor of another request", {}, 1, "ordinal_mismatch"],
    ["no rows but more", { rows: [], next_row_ordinal: 0 }, 0, "no_progress"],
    ["the end too early", { has_more: false }, 0, "count_mismatch"],
    ["the end", { rows: [snapshotRow], next_row_ordinal: 3, has_more: false }, 2, "accepted"],
    ["rows without end", { rows: [snapshotRow], next_row_ordinal: 3 }, 2, "count_mismatch"],
    ["no table", { rows: [snapshotRow, { ...snapshotRow, table: "" }] }, 0, "row_invalid"],
    ["no key", { rows: [snapshotRow, { ...snapshotRow, key: {} }] }, 0, "row_invalid"],
    ["no version", { rows: [snapshotRow, { ...snapshotRow, row_version: 0 }] }, 0, "row_invalid"],
    ["no payload", { rows: [snapshotRow, { ...snapshotRow, payload: null }] }, 0, "row_invalid"],
    ["a hidden column", { rows: [snapshotRow, { ...snapshotRow, payload: { _sync_scope_id: 1 } }] }, 0, "hidden_column"]
  ]

  for (const [name, change, afterRowOrdinal, rule] of cases) {
    it(`a chunk with ${name} → ${rule} [pull.md §5.3]`, () => {
      const request = { session: decodeSession(session), afterRowOrdinal }
      assert.strictEqual(ruleOf(AnswerRules.snapshotChunk(decodeChunk({ ...chunk, ...change }), request)), rule)
    })
  }

  it("refuses rows of a snapshot without a bundle [pull.md §5.3]", () => {
    const empty = decodeSession({ ...session, snapshot_bundle_seq: 0, row_count: 2 })
    const given = decodeChunk({ ...chunk, snapshot_bundle_seq: 0, has_more: false })
    assert.strictEqual(
      ruleOf(AnswerRules.snapshotChunk(given, { session: empty, afterRowOrdinal: 0 })),
      "sequence_invalid"
    )
  })
})

describe("recorded pulls and snapshots", () => {
  const parameter = (path: string, name: string) => Number(new URL(path, "http://server").searchParams.get(name) ?? "0")

  it("break no rule; the checkpoint ahead and the pruned history are recognised [pull.md §3, §5.3]", () => {
    const observations: Array<string> = []
    for (const { name, steps } of scenarios) {
      const sessions = new Map<string, Wire.SnapshotSession>()
      for (const { request, response } of steps) {
        if (response.status !== 200) continue
        const body: unknown = JSON.parse(response.body)
        if (request.path.startsWith("/sync/pull")) {
          const after = parameter(request.path, "after_bundle_seq")
          const target = parameter(request.path, "target_bundle_seq")
          const accepted = Either.getOrThrow(AnswerRules.pullPage(decodePage(body), { after, target }))
          if (accepted.staleCeiling) observations.push(`${name}: stale`)
          if (accepted.missingHistory) observations.push(`${name}: missing`)
        } else if (request.path === "/sync/snapshot-sessions") {
          const created = Either.getOrThrow(AnswerRules.snapshotSession(decodeSession(body)))
          sessions.set(created.snapshot_id, created)
        } else if (request.path.startsWith("/sync/snapshot-sessions/")) {
          const chunk = decodeChunk(body)
          const session = sessions.get(chunk.snapshot_id)
          assert.isDefined(session)
          if (session !== undefined) {
            const afterRowOrdinal = parameter(request.path, "after_row_ordinal")
            assert.strictEqual(ruleOf(AnswerRules.snapshotChunk(chunk, { session, afterRowOrdinal })), "accepted")
          }
        }
      }
    }
    assert.deepStrictEqual(observations, ["pruned-and-rotated: missing", "push-pull: stale"])
  })
})
