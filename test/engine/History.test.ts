/** Whether an answer comes from the history that the database has seen (recovery.md §2.2). */
import { assert, describe, it } from "@effect/vitest"
import type { Evidence, Standing } from "../../src/engine/History.js"
import { compare, newest, newestSeq } from "../../src/engine/History.js"
import type { BundleMark } from "../../src/storage/ClientState.js"

const none: BundleMark = { seq: 0, hash: "" }

const mark = (seq: number, hash: string): BundleMark => ({ seq, hash })

interface Given {
  readonly checkpoint?: number
  readonly historyId?: string
  /** What moved the checkpoint last. */
  readonly last?: BundleMark
  readonly own?: BundleMark
  readonly committed?: BundleMark
}

const seen = ({ checkpoint = 7, committed, historyId = "h1", last = mark(7, "aa"), own = none }: Given) => ({
  historyId,
  newestBundle: last,
  ownBundle: own,
  attachment: {
    sourceId: "source",
    bindingState: "attached" as const,
    userId: "ann",
    schema: "business",
    checkpoint,
    rebuildRequired: false,
    initializationId: ""
  },
  outbox: {
    state: committed === undefined ? "none" as const : "committed_remote" as const,
    sourceId: "source",
    sourceBundleId: 1,
    requestHash: "",
    rowCount: 1,
    initializationId: "",
    remoteBundleHash: committed?.hash ?? "",
    remoteBundleSeq: committed?.seq ?? 0
  }
})

const says = (historyId: string, ...bundles: ReadonlyArray<BundleMark>): Evidence => ({ historyId, bundles })

const table: ReadonlyArray<readonly [string, Given, Evidence, Standing]> = [
  ["another history id, whatever the hash", {}, says("h2", mark(7, "aa")), "other"],
  ["the same bundle", {}, says("h1", mark(7, "aa")), "same"],
  ["the same bundle, of a server without history id", { historyId: "" }, says("", mark(7, "aa")), "same"],
  ["another bundle under the same history id", {}, says("h1", mark(7, "bb")), "other"],
  ["another bundle, an id seen for the first time", { historyId: "" }, says("h1", mark(7, "bb")), "other"],
  ["an answer that builds on another bundle", {}, says("h1", mark(9, "bb")), "trusted"],
  ["an answer that names no bundle", {}, says("h1", mark(7, "")), "trusted"],
  ["a fingerprint that is not the checkpoint's", { checkpoint: 8 }, says("h1", mark(7, "bb")), "trusted"],
  ["no fingerprint", { last: mark(7, "") }, says("h1", mark(7, "bb")), "trusted"],
  ["no history id here", { historyId: "", last: none }, says("h1", mark(7, "bb")), "unknown"],
  ["no history id there", {}, says("", mark(9, "bb")), "unknown"],
  ["an own bundle beyond that the answer does not reach", { own: mark(9, "cc") }, says("h1", mark(7, "aa")), "trusted"],
  ["an own bundle beyond", { own: mark(9, "cc") }, says("h1", mark(7, "aa"), mark(8, "xx"), mark(9, "cc")), "same"],
  ["another bundle in its place", { own: mark(9, "cc") }, says("h1", mark(7, "aa"), mark(9, "bb")), "other"],
  ["another bundle at the checkpoint before it", { own: mark(9, "cc") }, says("h1", mark(7, "bb")), "other"],
  ["an own bundle that the checkpoint has passed", { own: mark(5, "cc") }, says("h1", mark(5, "bb")), "trusted"],
  ["a committed upload", { committed: mark(9, "cc") }, says("h1", mark(9, "cc")), "same"],
  [
    "another bundle in the place of a committed upload",
    { committed: mark(9, "cc") },
    says("h1", mark(9, "bb")),
    "other"
  ]
]

describe("the history of an answer [recovery.md §2.2, pull.md §2 step 5]", () => {
  for (const [name, given, evidence, standing] of table) {
    it(`${name}: ${standing}`, () => assert.strictEqual(compare(seen(given), evidence), standing))
  }
})

describe("the newest bundle that is known [recovery.md §2.2]", () => {
  const known: ReadonlyArray<readonly [string, Given, BundleMark | undefined, number]> = [
    ["the one at the checkpoint", {}, mark(7, "aa"), 7],
    ["an own one beyond it", { own: mark(9, "cc") }, mark(9, "cc"), 9],
    ["that of a committed upload", { own: mark(9, "cc"), committed: mark(10, "dd") }, mark(10, "dd"), 10],
    ["not an own one that the checkpoint has passed", { own: mark(5, "cc") }, mark(7, "aa"), 7],
    ["not that of a replayed upload", { own: mark(9, "cc"), committed: mark(8, "dd") }, mark(9, "cc"), 9],
    ["none without a hash", { last: mark(7, "") }, undefined, 7],
    ["none in an empty scope", { checkpoint: 0, last: none }, undefined, 0]
  ]
  for (const [name, given, bundle, seq] of known) {
    it(`${name}`, () => {
      assert.deepStrictEqual(newest(seen(given)), bundle)
      assert.strictEqual(newestSeq(seen(given)), seq)
    })
  }
})
