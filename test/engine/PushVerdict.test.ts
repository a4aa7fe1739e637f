/** What a refused request of a push means: push.md §4, §5.1, §7 and §10 as one table, pure. */
import { assert, describe, it } from "@effect/vitest"
import type { PushContext, PushVerdict } from "../../src/engine/PushVerdict.js"
import { isLost, verdictOf } from "../../src/engine/PushVerdict.js"
import type { ErrorBody } from "../../src/protocol/WireError.js"
import { statusOf } from "../../src/protocol/WireError.js"
import { Refusal } from "../../src/remote/SyncApi.js"

const steps = {
  create: "push_session_create",
  chunk: "push_chunk_upload",
  commit: "push_session_commit",
  fetch: "committed_bundle_chunk_fetch"
} as const

type Step = keyof typeof steps

const refusal = (step: Step, status: number, code: string, body: Partial<ErrorBody> = {}) =>
  new Refusal({ request: steps[step], status, serverCode: code, body: { error: code, message: "free text", ...body } })

const ordinary: PushContext = {
  outboxState: "prepared",
  initializationPending: false,
  initializationSent: false,
  refusedBefore: false
}

const committed = { ...ordinary, outboxState: "committed_remote" } as const
const leased = { ...ordinary, initializationPending: true, initializationSent: true }
/** An initialization is pending, but the server has said that the scope has its data: the id is not sent any more. */
const superseded = { ...ordinary, initializationPending: true }
const refusedOnce = { ...ordinary, refusedBefore: true }

const structured = { conflict: { schema: "business" } }

interface Line {
  readonly on: ReadonlyArray<Step>
  readonly status: number
  readonly code: string
  readonly body?: Partial<ErrorBody>
  readonly context?: PushContext
  readonly means: PushVerdict
}

const recover = (
  reason: Extract<PushVerdict, { _tag: "Recover" }>["reason"],
  preferred = ""
): PushVerdict => ({ _tag: "Recover", reason, preferred })

const every: ReadonlyArray<Step> = ["create", "chunk", "commit", "fetch"]

/** Complete: what no line names is `Final`. */
const table: ReadonlyArray<readonly [section: string, lines: ReadonlyArray<Line>]> = [
  ["§4: create", [
    { on: ["create"], status: 409, code: "history_pruned", context: committed, means: { _tag: "ReplayPruned" } },
    { on: ["create"], status: 409, code: "history_pruned", means: recover("history_pruned") },
    {
      on: ["create"],
      status: 409,
      code: "source_sequence_out_of_order",
      means: recover("source_sequence_out_of_order")
    },
    {
      on: ["create"],
      status: 409,
      code: "source_sequence_out_of_order",
      context: committed,
      means: recover("source_sequence_out_of_order")
    },
    {
      on: ["create"],
      status: 409,
      code: "source_retired",
      body: { replaced_by_source_id: "next" },
      means: recover("source_retired", "next")
    },
    { on: ["create"], status: 409, code: "source_retired", means: recover("source_retired") },
    {
      on: ["create"],
      status: 409,
      code: "scope_uninitialized",
      context: leased,
      means: { _tag: "LeaseLost", reason: "initialization_expired" }
    },
    {
      on: ["create"],
      status: 409,
      code: "scope_uninitialized",
      means: { _tag: "ScopeLost", reason: "scope_uninitialized" }
    },
    {
      on: ["create"],
      status: 409,
      code: "scope_initializing",
      means: { _tag: "ScopeLost", reason: "scope_initializing" }
    },
    { on: ["create"], status: 409, code: "scope_initializing", context: leased, means: { _tag: "Final" } },
    { on: ["create"], status: 400, code: "push_session_invalid", context: leased, means: { _tag: "SeedAnswerLost" } },
    { on: ["create"], status: 400, code: "push_session_invalid", context: superseded, means: { _tag: "Final" } },
    { on: ["create"], status: 400, code: "push_session_invalid", means: { _tag: "MaybeScopeLost" } }
  ]],
  ["§4, §5.1: leases, with any status", [
    ...(["create", "chunk", "commit"] as const).flatMap((step) =>
      (["initialization_expired", "initialization_stale"] as const).flatMap((code) =>
        [409, 410, 400].map((status): Line => ({
          on: [step],
          status,
          code,
          context: leased,
          means: { _tag: "LeaseLost", reason: code }
        }))
      )
    )
  ]],
  ["§5.1: chunk and commit", [
    { on: ["commit"], status: 409, code: "source_sequence_changed", means: recover("source_sequence_changed") },
    {
      on: ["commit"],
      status: 409,
      code: "source_retired",
      body: { replaced_by_source_id: "next" },
      means: recover("source_retired", "next")
    },
    { on: ["chunk", "commit"], status: 404, code: "push_session_not_found", means: { _tag: "Again" } },
    { on: ["chunk", "commit"], status: 410, code: "push_session_expired", means: { _tag: "Again" } },
    { on: ["chunk", "commit"], status: 409, code: "push_chunk_out_of_order", means: { _tag: "Again" } },
    { on: ["chunk"], status: 400, code: "push_chunk_invalid", means: { _tag: "Refused" } },
    { on: ["commit"], status: 400, code: "push_commit_invalid", means: { _tag: "Refused" } },
    { on: ["commit"], status: 500, code: "push_session_commit_failed", means: { _tag: "MaybeRefused" } },
    {
      on: ["commit"],
      status: 500,
      code: "push_session_commit_failed",
      context: refusedOnce,
      means: { _tag: "Refused" }
    },
    { on: ["commit"], status: 409, code: "push_conflict", means: { _tag: "MaybeRefused" } },
    { on: ["commit"], status: 409, code: "push_conflict", context: refusedOnce, means: { _tag: "Refused" } }
  ]],
  ["conflicts.md §1: a structured conflict, wherever it comes", [
    {
      on: ["create", "chunk", "commit"],
      status: 409,
      code: "push_conflict",
      body: structured,
      means: { _tag: "Conflict" }
    },
    {
      on: ["commit"],
      status: 409,
      code: "push_conflict",
      body: { conflict: null },
      means: { _tag: "MaybeRefused" }
    },
    // It breaks the shape, which is for the conflict to say.
    { on: ["commit"], status: 409, code: "push_conflict", body: { conflict: "text" }, means: { _tag: "Conflict" } },
    { on: ["commit"], status: 400, code: "push_conflict", body: structured, means: { _tag: "Final" } }
  ]],
  ["§7: committed rows", [
    { on: ["fetch"], status: 409, code: "history_pruned", means: { _tag: "ReplayPruned" } },
    { on: ["fetch"], status: 409, code: "history_pruned", context: committed, means: { _tag: "ReplayPruned" } },
    { on: ["fetch"], status: 404, code: "committed_bundle_not_found", means: { _tag: "Again" } },
    { on: ["fetch"], status: 409, code: "push_conflict", body: structured, means: { _tag: "Final" } }
  ]],
  ["everything else", [
    { on: every, status: 500, code: "", means: { _tag: "Final" } },
    { on: every, status: 401, code: "authentication_failed", means: { _tag: "Final" } },
    { on: every, status: 403, code: "push_session_forbidden", means: { _tag: "Final" } },
    { on: every, status: 404, code: "", means: { _tag: "Final" } },
    { on: ["create", "commit", "fetch"], status: 413, code: "invalid_request", means: { _tag: "Final" } },
    { on: ["chunk"], status: 413, code: "", means: { _tag: "Refused" } },
    { on: ["create", "fetch"], status: 404, code: "push_session_not_found", means: { _tag: "Final" } },
    { on: ["chunk"], status: 409, code: "push_conflict", means: { _tag: "Final" } },
    { on: ["chunk"], status: 409, code: "source_retired", means: { _tag: "Final" } },
    { on: ["create", "chunk"], status: 409, code: "source_sequence_changed", means: { _tag: "Final" } }
  ]]
]

describe("the meaning of a refusal [push.md §4, §5.1, §7]", () => {
  for (const [section, lines] of table) {
    for (const { body, code, context = ordinary, means, on, status } of lines) {
      for (const step of on) {
        const circumstances = Object.entries(context).filter(([, given]) => given !== false).map(([, given]) => given)
        it(`${section}: ${step} ${status} ${code} (${circumstances.join(", ")}) is ${JSON.stringify(means)}`, () => {
          assert.deepStrictEqual(verdictOf(refusal(step, status, code, body), context), means)
        })
      }
    }
  }

  it("is final for every other code of the catalogue, at every step and in every circumstance", () => {
    const named = new Set(
      table.flatMap(([, lines]) => lines.flatMap(({ code, on }) => on.map((step) => `${step} ${code}`)))
    )
    for (const [code, status] of Object.entries(statusOf)) {
      for (const step of every) {
        if (named.has(`${step} ${code}`)) continue
        for (const context of [ordinary, committed, leased, superseded, refusedOnce]) {
          assert.deepStrictEqual(verdictOf(refusal(step, status, code), context), { _tag: "Final" }, `${step} ${code}`)
        }
      }
    }
  })

  it("takes a code only together with its status, but for leases", () => {
    for (const [, lines] of table) {
      for (const { body, code, context = ordinary, means, on } of lines) {
        if (means._tag === "Final" || means._tag === "LeaseLost") continue
        for (const step of on) {
          assert.deepStrictEqual(
            verdictOf(refusal(step, 418, code, body), context),
            { _tag: "Final" },
            `${step} ${code}`
          )
        }
      }
    }
  })

  it("of another request than those of a push is final", () => {
    const other = new Refusal({ request: "pull_request", status: 409, serverCode: "history_pruned", body: undefined })
    assert.deepStrictEqual(verdictOf(other, ordinary), { _tag: "Final" })
    assert.isFalse(isLost(other))
  })

  it("without a readable envelope is final", () => {
    for (const step of every) {
      const plain = new Refusal({ request: steps[step], status: 409, serverCode: "", body: undefined })
      assert.deepStrictEqual(verdictOf(plain, leased), { _tag: "Final" })
    }
  })

  it("a lost session is exactly what is repeated", () => {
    for (const [, lines] of table) {
      for (const { body, code, means, on, status } of lines) {
        for (const step of on) {
          assert.strictEqual(isLost(refusal(step, status, code, body)), means._tag === "Again", `${step} ${code}`)
        }
      }
    }
  })
})
