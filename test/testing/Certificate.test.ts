import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Plant } from "oversqlite/testing"
import { Certificate } from "oversqlite/testing"

/** An excerpt: the whole certificate is `npm run certificate`. */
const excerpt: ReadonlyArray<Parameters<typeof Certificate.certify>> = [
  ["build the client", "rows, no client yet", { every: 11 }],
  ["open", "new", { every: 7 }],
  ["attach", "rows, server in use", { every: 31 }],
  ["attach, replace", "rows, server in use", { every: 37, kind: "fail" }],
  ["detach", "clean", { every: 9, kind: "interrupt" }],
  ["uninstallSync", "dirty, nothing deleted", { every: 13 }],
  ["pushPending", "dirty", { every: 23, kind: "interrupt" }],
  ["pushPending", "commit not heard of", { every: 19 }],
  ["pushPending", "committed, not replayed", { every: 29, kind: "fail" }],
  ["pushPending", "dirty and behind, in conflict", { every: 41, kind: "server crash" }],
  ["pullToStable", "behind", { every: 3, kind: "server restart" }],
  ["rebuild", "source recovery, upload frozen, edited since", { every: 37 }]
]

/** Statements are committed one by one. */
const noTransactions: Plant = {
  statement: (text) => /^(BEGIN IMMEDIATE|COMMIT|ROLLBACK)$/u.test(text) ? "SELECT 1 WHERE 0" : text
}

const commitsFailures: Plant = { statement: (text) => text === "ROLLBACK" ? "COMMIT" : text }

describe("the crash certificate [push.md §11, lifecycle.md §5.2, recovery.md §5.5]", () => {
  for (const [operation, state, options] of excerpt) {
    it.effect(
      `${operation} from "${state}" survives ${options?.kind ?? "crash"}`,
      () =>
        Effect.gen(function*() {
          const shown = yield* Certificate.certify(operation, state, options)
          assert.deepStrictEqual(shown.violations, [])
          assert.strictEqual(shown.visited, Math.ceil(shown.enumerated / (options?.every ?? 1)))
          assert.isAbove(shown.visited, 1)
        }),
      60_000
    )
  }

  it.effect("covers every operation and every state it knows", () =>
    Effect.sync(() => {
      const operations = new Set(Certificate.pairs.map(([operation]) => operation))
      assert.deepStrictEqual(
        Array.from(operations).sort(),
        [
          "attach",
          "attach, refuse",
          "attach, replace",
          "build the client",
          "close",
          "detach",
          "end of scope",
          "open",
          "pullToStable",
          "pushPending",
          "rebuild",
          "run",
          "status reads",
          "sync",
          "syncThenDetach",
          "uninstallSync"
        ]
      )
      assert.isAtLeast(Certificate.pairs.length, 40)
    }))

  // Both defects are harmless as long as nothing goes wrong.
  for (
    const [name, plant, kind] of [
      ["transactions that are none", noTransactions, "crash"],
      ["failed transactions that are committed", commitsFailures, "fail"]
    ] as const
  ) {
    it.effect(`finds ${name}, which an untouched run does not`, () =>
      Effect.gen(function*() {
        const shown = yield* Certificate.certify("pushPending", "dirty", {
          kind,
          every: 3,
          plant,
          firstViolation: true
        })
        assert.isAbove(shown.violations.length, 0)
        assert.deepStrictEqual(shown.violations.filter((line) => line.startsWith("an untouched run")), [])
      }), 60_000)
  }
})
