import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { AttachPlan, LocalRows } from "../../src/engine/Attach.js"
import { planOf } from "../../src/engine/Attach.js"
import type { DurableState } from "../../src/storage/ClientState.js"
import { dump } from "./support/Database.js"
import { failsWith } from "./support/Outcome.js"
import { states } from "./support/States.js"
import { makeWorld } from "./support/World.js"

interface Given {
  readonly binding?: "anonymous" | "attached"
  readonly boundTo?: string
  readonly kind?: "none" | "remote_replace" | "source_recovery"
  readonly target?: string
  readonly rowsOf?: string
  readonly ownerOfSource?: string
  readonly localRows?: LocalRows
}

const replace = { kind: "remote_replace", snapshotId: "s", bundleSeq: 3, rowCount: 2 } as const

const stateOf = (given: Given): DurableState => ({
  attachment: {
    sourceId: "source",
    bindingState: given.binding ?? "anonymous",
    userId: given.boundTo ?? "",
    schema: "business",
    checkpoint: 0,
    rebuildRequired: given.kind === "source_recovery",
    initializationId: ""
  },
  operation: given.kind === "remote_replace"
    ? { ...replace, targetUserId: given.target ?? "" }
    : given.kind === "source_recovery"
    ? { kind: "source_recovery", reason: "source_retired", replacementSourceId: "next" }
    : { kind: "none" },
  outbox: {
    state: "none",
    sourceId: "",
    sourceBundleId: 0,
    requestHash: "",
    rowCount: 0,
    initializationId: "",
    remoteBundleHash: "",
    remoteBundleSeq: 0
  },
  storedReplacement: "",
  operationLeftOver: false,
  source: { known: true, nextSourceBundleId: 1, ownerUserId: given.ownerOfSource ?? "" },
  newestBundle: { seq: 0, hash: "" },
  ownBundle: { seq: 0, hash: "" },
  historyId: "",
  rowsOfUserId: given.rowsOf ?? "",
  engineEpoch: 1
})

const attachedTo = (user: string): Given => ({ binding: "attached", boundTo: user })
const connect = (options: { readonly discardRows?: boolean; readonly switchSource?: boolean } = {}): AttachPlan => ({
  _tag: "Connect",
  discardRows: options.discardRows ?? false,
  switchSource: options.switchSource ?? false
})

// lifecycle.md §4.1 rows 4–8, §5.2 and §9; every plan is that of an attach of ann.
const rows: ReadonlyArray<readonly [string, Given, AttachPlan]> = [
  ["4: a replace for another user", { kind: "remote_replace", target: "bob" }, {
    _tag: "ReplaceForOther",
    pendingUserId: "bob"
  }],
  ["4: also if the rows or the source are ann's", {
    kind: "remote_replace",
    target: "bob",
    rowsOf: "ann",
    ownerOfSource: "ann"
  }, { _tag: "ReplaceForOther", pendingUserId: "bob" }],
  ["4: also if the reference has attached him already", {
    ...attachedTo("bob"),
    kind: "remote_replace",
    target: "bob"
  }, { _tag: "ReplaceForOther", pendingUserId: "bob" }],
  ["5: a replace for ann", { kind: "remote_replace", target: "ann" }, {
    _tag: "FinishReplace",
    operation: { ...replace, targetUserId: "ann" }
  }],
  ["5: before 6: a replace for ann whom the reference has attached", {
    ...attachedTo("ann"),
    kind: "remote_replace",
    target: "ann"
  }, { _tag: "FinishAttached" }],
  ["6: attached to ann", attachedTo("ann"), { _tag: "Resume" }],
  ["6: in source recovery", { ...attachedTo("ann"), kind: "source_recovery" }, { _tag: "Resume" }],
  ["6: whatever becomes of local rows", { ...attachedTo("ann"), localRows: "replace" }, { _tag: "Resume" }],
  ["7: attached to bob", attachedTo("bob"), { _tag: "BindingConflict", attachedUserId: "bob" }],
  ["7: in source recovery", { ...attachedTo("bob"), kind: "source_recovery" }, {
    _tag: "BindingConflict",
    attachedUserId: "bob"
  }],
  ["7: localRows does not help", { ...attachedTo("bob"), localRows: "replace" }, {
    _tag: "BindingConflict",
    attachedUserId: "bob"
  }],
  ["8: the rows are bob's", { rowsOf: "bob" }, { _tag: "RowsOfOther", pendingUserId: "bob" }],
  ["8: the rows are bob's, refuse", { rowsOf: "bob", localRows: "refuse" }, {
    _tag: "RowsOfOther",
    pendingUserId: "bob"
  }],
  ["8: the rows are bob's, replace", { rowsOf: "bob", localRows: "replace" }, connect({ discardRows: true })],
  ["8: the rows are ann's own", { rowsOf: "ann" }, connect()],
  ["8: the rows are ann's own, replace", { rowsOf: "ann", localRows: "replace" }, connect()],
  ["8: the source is bob's", { ownerOfSource: "bob" }, connect({ switchSource: true })],
  ["8: the source is ann's", { ownerOfSource: "ann" }, connect()],
  [
    "8: rows and source are bob's, replace",
    { rowsOf: "bob", ownerOfSource: "bob", localRows: "replace" },
    connect({
      discardRows: true,
      switchSource: true
    })
  ],
  ["8: rows and source are bob's", { rowsOf: "bob", ownerOfSource: "bob" }, {
    _tag: "RowsOfOther",
    pendingUserId: "bob"
  }],
  ["9: anonymous", {}, connect()],
  ["9: anonymous, refuse", { localRows: "refuse" }, connect()]
]

describe("the decision before any request [lifecycle.md §4.1, §9]", () => {
  for (const [name, given, plan] of rows) {
    it(`${name} → ${plan._tag}`, () =>
      assert.deepStrictEqual(planOf(stateOf(given), "ann", given.localRows ?? "keep"), plan))
  }
})

describe("the decision in real runs: no request, nothing changed [lifecycle.md §4.1]", () => {
  it.scoped("1, 2: a blank user id comes before everything, then OpenRequired", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["not opened"].build(world)
      const before = yield* dump(device)
      for (const blank of ["", "  ", "\t\n"]) {
        yield* failsWith(device.sync.attach(blank), {
          _tag: "InvalidArgumentError",
          argument: "userId",
          operation: "attach"
        })
      }
      yield* failsWith(device.sync.attach("ann"), { _tag: "OpenRequired", operation: "attach" })
      yield* device.sync.close
      yield* failsWith(device.sync.attach(" "), { _tag: "InvalidArgumentError" })
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.deepStrictEqual(yield* dump(device), before)
    }))

  it.scoped("the user id is trimmed", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["opened, attached, not connected"].build(world)
      const attached = yield* device.sync.attach("  ann\n")
      assert.strictEqual(attached.status === "connected" && attached.outcome, "resumed_attached_state")
    }))

  it.scoped("4: AttachLocalStateConflict(remote_replace_for_other_user)", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["opened, anonymous + remote replace"].build(world)
      yield* world.network.asked
      const before = yield* dump(device)
      yield* failsWith(device.sync.attach("bob", { localRows: "replace" }), {
        _tag: "AttachLocalStateConflict",
        reason: "remote_replace_for_other_user",
        pendingUserId: "ann",
        action: "detach"
      })
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.deepStrictEqual(yield* dump(device), before)
    }))

  it.scoped("6: resumes without network, also with a server that is out of reach", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      for (
        const name of ["opened, attached, not connected", "source recovery + outbox prepared", "seed pending"] as const
      ) {
        const device = yield* states[name].build(world)
        yield* device.sync.open
        yield* world.network.asked
        const before = yield* dump(device)
        const attached = yield* device.sync.attach("ann")
        assert.strictEqual(attached.status === "connected" && attached.outcome, "resumed_attached_state")
        assert.deepStrictEqual(yield* world.network.asked, [], name)
        assert.deepStrictEqual(yield* dump(device), before, name)
        yield* device.sync.close
        yield* world.reset
      }
    }))

  it.scoped("7: AttachBindingConflict, and the session stays connected", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* states["connected, clean"].build(world)
      yield* world.network.asked
      const before = yield* dump(device)
      yield* failsWith(device.sync.attach("bob"), {
        _tag: "AttachBindingConflict",
        attachedUserId: "ann",
        requestedUserId: "bob",
        action: "detach"
      })
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.deepStrictEqual(yield* dump(device), before)
      assert.strictEqual((yield* device.sync.sync).pushOutcome, "no_change")
    }))
})
