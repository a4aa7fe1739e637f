/** Bodies that no client of ours sends: what is read of them, and what is refused (wire.md §1.4). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { outcome, parsed } from "./support/Device.js"
import { ask, inProcess } from "./support/TestServer.js"

const answered = (path: string, body: string) =>
  Effect.map(ask(path, { body }), (answer) => outcome({ status: answer.status, body: parsed(answer) }))

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
