import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { Dialect, Wire } from "oversqlite/protocol"
import { scenarios } from "./fixtures.js"

const capabilities = Schema.decodeUnknownSync(Wire.Capabilities)

describe("Dialect", () => {
  it.each<readonly [object, Dialect.Dialect]>([
    [{}, "v1"],
    [{ protocol_version: "v1" }, "v1"],
    [{ protocol_version: "v1", bundle_limits: { default_bytes_per_snapshot_chunk: 1048576 } }, "v1-strings"],
    [{ bundle_limits: { default_bytes_per_snapshot_chunk: 1 } }, "v1-strings"],
    [{ protocol_version: "v2" }, "other"],
    [{ protocol_version: "V1" }, "other"]
  ])("takes a server with %j for %s [wire.md §11]", (given, expected) => {
    assert.strictEqual(Dialect.detect(capabilities(given)), expected)
  })

  it("has no extension that is not announced as true [wire.md §12]", () => {
    const none = {
      exactIntegers: false,
      batchConflicts: false,
      historyId: false,
      namedRefusals: false,
      changeWatch: false
    }
    assert.deepStrictEqual(Dialect.features(capabilities({})), none)
    assert.deepStrictEqual(
      Dialect.features(capabilities({ features: { exact_integers: "true", batch_conflicts: 1, history_id: false } })),
      none
    )
  })

  it.each(
    [
      ["exact_integers", "exactIntegers"],
      ["batch_conflicts", "batchConflicts"],
      ["history_id", "historyId"],
      ["named_refusals", "namedRefusals"],
      ["bundle_change_watch", "changeWatch"]
    ] as const
  )("reads %s [wire.md §12]", (name, member) => {
    const features = Dialect.features(capabilities({ features: { [name]: true } }))
    assert.deepStrictEqual(
      Object.entries(features).filter(([, value]) => value),
      [[member, true]]
    )
  })

  it("finds in the reference server this dialect with the watch alone [wire.md §4.12]", () => {
    const body = scenarios.find(({ name }) => name === "capabilities")?.steps[0]?.response.body ?? ""
    const given = capabilities(JSON.parse(body))
    assert.strictEqual(Dialect.detect(given), "v1")
    assert.deepStrictEqual(Dialect.features(given), {
      exactIntegers: false,
      batchConflicts: false,
      historyId: false,
      namedRefusals: false,
      changeWatch: true
    })
  })
})
