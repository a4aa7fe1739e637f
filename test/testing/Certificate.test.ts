import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Certificate } from "oversqlite/testing"

/** An excerpt: the whole certificate is `npm run certificate`. */
const excerpt: ReadonlyArray<Parameters<typeof Certificate.certify>> = [
  ["open", "new", { every: 7 }],
  ["pushPending", "commit not heard of", { every: 41 }],
  ["pushPending", "committed, not replayed", { every: 7, machine: "server" }],
  ["pullToStable", "behind", { every: 23 }],
  ["detach", "clean", { every: 13 }]
]

describe("the crash certificate [push.md §11, lifecycle.md §5.2, recovery.md §5.5]", () => {
  for (const [operation, state, options] of excerpt) {
    it.effect(
      `${operation} from "${state}" survives a stop of the ${options?.machine ?? "device"}`,
      () =>
        Effect.gen(function*() {
          const shown = yield* Certificate.certify(operation, state, options)
          assert.deepStrictEqual(shown.violations, [])
          assert.isAbove(shown.points, 1)
        }),
      60_000
    )
  }
})
