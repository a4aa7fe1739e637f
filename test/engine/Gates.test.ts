import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { CurrentOperation } from "../../src/contract/SyncOperation.js"
import type { SyncOperation } from "../../src/contract/SyncOperation.js"
import type { GateRefusal, Situation } from "../../src/engine/Gates.js"
import { actionOf, pass, refusalOf } from "../../src/engine/Gates.js"

type Attachment = Situation["durable"]["attachment"]
type Kind = "none" | "remote_replace" | "source_recovery"

interface Given {
  readonly opened: boolean
  readonly takenOver: boolean
  readonly binding: Attachment["bindingState"]
  readonly kind: Kind
  readonly session: "not connected" | "connected" | "other user" | "other source"
  readonly gate: boolean
  readonly frozen: number
  readonly dirty: number
}

const situation = (given: Given): Situation => ({
  memory: {
    sourceId: given.opened ? "source" : "",
    userId: given.session === "not connected" ? "" : given.session === "other user" ? "bob" : "ann",
    connected: given.session !== "not connected"
  },
  durable: {
    attachment: {
      sourceId: given.session === "other source" ? "another" : "source",
      bindingState: given.binding,
      userId: given.binding === "attached" ? "ann" : "",
      schema: "business",
      checkpoint: 7,
      rebuildRequired: given.gate,
      initializationId: ""
    },
    operation: given.kind === "remote_replace"
      ? { kind: "remote_replace", targetUserId: "ann", snapshotId: "s", bundleSeq: 1, rowCount: 1 }
      : given.kind === "source_recovery"
      ? { kind: "source_recovery", reason: "source_retired", replacementSourceId: "next" }
      : { kind: "none" },
    outbox: {
      state: given.frozen > 0 ? "prepared" : "none",
      sourceId: "source",
      sourceBundleId: 1,
      requestHash: "",
      rowCount: given.frozen,
      initializationId: "",
      remoteBundleHash: "",
      remoteBundleSeq: 0
    }
  },
  takenOver: given.takenOver,
  dirtyRowCount: given.dirty,
  outboxRowCount: given.frozen
})

const connected: Given = {
  opened: true,
  takenOver: false,
  binding: "attached",
  kind: "none",
  session: "connected",
  gate: false,
  frozen: 0,
  dirty: 0
}

/** The words of the table below, each a gate of its own. */
const gates = {
  "opened": ({ opened }: Given) => opened ? undefined : "OpenRequired",
  "owned": ({ takenOver }: Given) => takenOver ? "DatabaseTakenOver" : undefined,
  "attached": ({ binding, kind }: Given) =>
    // An unfinished replace can be cancelled.
    binding === "anonymous" && kind === "none" ? "AttachRequired anonymous" : undefined,
  "connected": ({ binding, session }: Given) => {
    if (binding === "anonymous") return "AttachRequired anonymous"
    if (session === "not connected") return "AttachRequired not_connected"
    return session === "connected" ? undefined : "AttachRequired binding_changed"
  },
  "no recovery": ({ kind }: Given) => kind === "source_recovery" ? "SourceRecoveryRequired source_retired" : undefined,
  "no replace": ({ kind }: Given) => kind === "remote_replace" ? "DestructiveTransitionInProgress" : undefined,
  "no gate": ({ gate }: Given) => gate ? "RebuildRequired" : undefined,
  "no outbox": ({ frozen }: Given) => frozen > 0 ? `PendingPushReplay ${frozen}` : undefined,
  "no outbox unless gated": ({ frozen, gate, kind }: Given) =>
    frozen > 0 && !gate && kind !== "source_recovery" ? `PendingPushReplay ${frozen}` : undefined,
  "no dirty rows": ({ dirty }: Given) => dirty > 0 ? `DirtyStateRejected ${dirty}` : undefined
} as const

type GateName = keyof typeof gates

const incremental = ["opened", "owned", "connected", "no recovery", "no replace", "no gate"] as const

// lifecycle.md §2, then push.md §1, pull.md §1 and §5.1, each in its order.
const preconditions: ReadonlyArray<readonly [SyncOperation, ReadonlyArray<GateName>]> = [
  ["construct", []],
  ["open", []],
  ["attach", ["opened", "owned"]],
  ["pendingSyncStatus", ["opened"]],
  ["sourceInfo", ["opened"]],
  ["uninstallSync", ["opened", "owned"]],
  ["inspect", []],
  ["detach", ["opened", "owned", "attached"]],
  ["syncStatus", ["opened", "connected"]],
  ["lastBundleSeqSeen", ["opened", "connected"]],
  ["pushPending", incremental],
  ["sync", incremental],
  ["syncThenDetach", incremental],
  ["pullToStable", [...incremental, "no outbox", "no dirty rows"]],
  ["rebuild", ["opened", "owned", "connected", "no replace", "no outbox unless gated"]]
]

const spell = (refusal: GateRefusal | undefined): string | undefined => {
  switch (refusal?._tag) {
    case undefined:
      return undefined
    case "AttachRequired":
    case "SourceRecoveryRequired":
      return `${refusal._tag} ${refusal.reason}`
    case "PendingPushReplay":
      return `${refusal._tag} ${refusal.outboundCount}`
    case "DirtyStateRejected":
      return `${refusal._tag} ${refusal.dirtyCount}`
    default:
      return refusal?._tag
  }
}

const everySituation = (): ReadonlyArray<Given> => {
  const booleans = [false, true]
  let all: ReadonlyArray<Partial<Given>> = [{}]
  const vary = <K extends keyof Given>(name: K, values: ReadonlyArray<Given[K]>) => {
    all = all.flatMap((given) => values.map((value) => ({ ...given, [name]: value })))
  }
  vary("opened", booleans)
  vary("takenOver", booleans)
  vary("binding", ["anonymous", "attached"])
  vary("kind", ["none", "remote_replace", "source_recovery"])
  vary("session", ["not connected", "connected", "other user", "other source"])
  vary("gate", booleans)
  vary("frozen", [0, 3])
  vary("dirty", [0, 2])
  return all.map((given) => ({ ...connected, ...given }))
}

describe("refusalOf [lifecycle.md §2, push.md §1, pull.md §1, §5.1]", () => {
  for (const [operation, names] of preconditions) {
    it(`${operation}: ${names.length === 0 ? "never refused" : names.join(", ")}; the first that is not met`, () => {
      for (const given of everySituation()) {
        const expected = names.map((name) => gates[name](given)).find((refusal) => refusal !== undefined)
        assert.strictEqual(spell(refusalOf(operation, situation(given))), expected, JSON.stringify(given))
      }
    })
  }
})

describe("AttachRequired names what is missing [errors.md §1.3]", () => {
  const rows: ReadonlyArray<readonly [string, Partial<Given>, string | undefined]> = [
    ["no attached user", { binding: "anonymous" }, "AttachRequired anonymous"],
    [
      "no attached user, remembered as connected",
      { binding: "anonymous", session: "connected" },
      "AttachRequired anonymous"
    ],
    ["attached, but not in this session", { session: "not connected" }, "AttachRequired not_connected"],
    ["attached to another user than remembered", { session: "other user" }, "AttachRequired binding_changed"],
    ["another source than remembered", { session: "other source" }, "AttachRequired binding_changed"],
    ["all three there", {}, undefined]
  ]
  for (const [name, given, expected] of rows) {
    it(`${name} → ${expected ?? "passes"}`, () =>
      assert.strictEqual(spell(refusalOf("sync", situation({ ...connected, ...given }))), expected))
  }
})

describe("pass", () => {
  const rows: ReadonlyArray<readonly [SyncOperation, Partial<Given>, Readonly<Record<string, unknown>>]> = [
    ["sync", { opened: false }, { _tag: "OpenRequired", code: "open_required" }],
    ["sync", { takenOver: true }, { _tag: "DatabaseTakenOver", code: "database_taken_over" }],
    ["detach", { binding: "anonymous" }, { _tag: "AttachRequired", reason: "anonymous" }],
    ["rebuild", { kind: "remote_replace" }, {
      _tag: "DestructiveTransitionInProgress",
      transitionKind: "remote_replace"
    }],
    ["pushPending", { kind: "source_recovery" }, { _tag: "SourceRecoveryRequired", reason: "source_retired" }],
    ["pullToStable", { gate: true }, { _tag: "RebuildRequired", code: "rebuild_required" }],
    ["pullToStable", { frozen: 3, dirty: 2 }, { _tag: "PendingPushReplay", outboundCount: 3 }],
    ["pullToStable", { dirty: 2 }, { _tag: "DirtyStateRejected", dirtyCount: 2 }]
  ]
  for (const [operation, given, expected] of rows) {
    it.effect(`${operation} fails with ${String(expected["_tag"])}, naming the public operation and what to do`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(
          Effect.provideService(
            pass(operation, situation({ ...connected, ...given })),
            CurrentOperation,
            "syncThenDetach"
          )
        )
        assert.deepInclude(error, { ...expected, operation: "syncThenDetach", action: actionOf[error._tag] })
        assert.isFalse(error.retryable)
      }))
  }

  it.effect("lets an operation pass", () => pass("pullToStable", situation(connected)))
})
