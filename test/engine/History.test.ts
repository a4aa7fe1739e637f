/** Whether an answer comes from the history that the database has seen (recovery.md §2.2). */
import { assert, describe, it } from "@effect/vitest"
import { compare } from "../../src/engine/History.js"

const seen = (given: { readonly checkpoint: number; readonly historyId: string; readonly hash: string }) => ({
  historyId: given.historyId,
  newestBundle: { seq: 7, hash: given.hash },
  attachment: {
    sourceId: "source",
    bindingState: "attached" as const,
    userId: "ann",
    schema: "business",
    checkpoint: given.checkpoint,
    rebuildRequired: false,
    initializationId: ""
  }
})

const table = [
  ["another history id, whatever the hash", "h1", 7, "aa", "h2", 7, "aa", "other"],
  ["the same bundle", "h1", 7, "aa", "h1", 7, "aa", "same"],
  ["the same bundle, of a server without history id", "", 7, "aa", "", 7, "aa", "same"],
  ["another bundle under the same history id", "h1", 7, "aa", "h1", 7, "bb", "other"],
  ["another bundle, an id seen for the first time", "", 7, "aa", "h1", 7, "bb", "other"],
  ["an answer that builds on another bundle", "h1", 7, "aa", "h1", 9, "bb", "trusted"],
  ["an answer that names no bundle", "h1", 7, "aa", "h1", 7, "", "trusted"],
  ["a fingerprint that is not the checkpoint's", "h1", 8, "aa", "h1", 7, "bb", "trusted"],
  ["no fingerprint", "h1", 7, "", "h1", 7, "bb", "trusted"],
  ["no history id here", "", 7, "", "h1", 7, "bb", "unknown"],
  ["no history id there", "h1", 7, "aa", "", 9, "bb", "unknown"]
] as const

describe("the history of an answer [recovery.md §2.2, pull.md §2 step 5]", () => {
  for (const [name, historyId, checkpoint, hash, theirs, baseBundleSeq, baseBundleHash, standing] of table) {
    it(`${name}: ${standing}`, () => {
      assert.strictEqual(
        compare(seen({ checkpoint, historyId, hash }), { historyId: theirs, baseBundleSeq, baseBundleHash }),
        standing
      )
    })
  }
})
