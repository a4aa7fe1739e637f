import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
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
})
