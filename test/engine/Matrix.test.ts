import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dump } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { inspectedAs, outcomeOf, shortOf } from "./support/Operations.js"
import type { OperationName } from "./support/Operations.js"
import type { StateName } from "./support/States.js"
import { durableState, states } from "./support/States.js"
import { turn } from "./support/Time.js"
import { makeWorld } from "./support/World.js"

/** One row per operation, one cell per state; `-` where the document has no cell. */
type Matrix = ReadonlyArray<readonly [OperationName, ...cells: ReadonlyArray<string>]>

const lifecycleStates: ReadonlyArray<StateName> = [
  "not opened",
  "opened, anonymous",
  "opened, anonymous + remote replace",
  "opened, attached, not connected",
  "connected, clean"
]

const seeded = "seeded_from_local"
const resumed = "resumed_attached_state"
const remote = "used_remote_state"
const wrongState = "AttachLocalStateConflict"
const wrongUser = "AttachBindingConflict"
const nothing = "no_change, already_at_target"

// recovery.md §6.1
const lifecycle: Matrix = [
  ["open", /*             */ "ok", "ok", "ok", "ok", "ok"],
  ["attach same user", /* */ "OR", seeded, remote, resumed, resumed],
  ["attach other user", /**/ "OR", seeded, wrongState, wrongUser, wrongUser],
  ["detach", /*           */ "OR", "AR", "detached", "detached", "detached"],
  ["pendingSyncStatus", /**/ "OR", "ok", "ok", "ok", "ok"],
  ["sourceInfo", /*       */ "OR", "ok", "ok", "ok", "ok"],
  ["inspect", /*          */ "ok", "ok", "ok", "ok", "ok"],
  ["syncStatus", /*       */ "OR", "AR", "AR", "AR", "ok"],
  ["lastBundleSeqSeen", /**/ "OR", "AR", "AR", "AR", "ok"],
  ["pushPending", /*      */ "OR", "AR", "AR", "AR", "no_change"],
  ["pullToStable", /*     */ "OR", "AR", "AR", "AR", "already_at_target"],
  ["sync", /*             */ "OR", "AR", "AR", "AR", nothing],
  ["syncThenDetach", /*   */ "OR", "AR", "AR", "AR", "success, detached"],
  ["rebuild", /*          */ "OR", "AR", "AR", "AR", "applied_snapshot"],
  ["uninstallSync", /*    */ "OR", "ok", "ok", "ok", "ok"],
  ["close", /*            */ "ok", "ok", "ok", "ok", "ok"],
  ["host write", /*       */ "captured", "captured", "STP", "captured", "captured"]
]

const pendingStates: ReadonlyArray<StateName> = [
  "dirty only",
  "outbox prepared",
  "outbox committed_remote",
  "rebuild gate, nothing pending",
  "rebuild gate + dirty",
  "rebuild gate + outbox committed_remote",
  "rebuild gate + outbox prepared",
  "source recovery",
  "source recovery + dirty"
]

const ran = "committed, already_at_target"
const left = "success, detached"
const snapshot = "applied_snapshot"
const kept = "blocked_unsynced_data"

// recovery.md §6.2, with "rebuild gate + outbox prepared" as its seventh column
const pendingWork: Matrix = [
  ["open", /*             */ "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  ["attach same user", /* */ resumed, resumed, resumed, resumed, resumed, resumed, resumed, resumed, resumed],
  ["attach other user", ...Array.from({ length: 9 }, () => wrongUser)],
  ["detach", /*           */ kept, kept, kept, "detached", kept, kept, kept, "detached", kept],
  ["pendingSyncStatus", /**/ "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  ["sourceInfo", /*       */ "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  ["inspect", /*          */ "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  ["syncStatus", /*       */ "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  ["lastBundleSeqSeen", /**/ "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  ["pushPending", /*      */ "committed", "committed", "committed", "RBR", "RBR", "RBR", "RBR", "SRR", "SRR"],
  ["pullToStable", /*     */ "DSR", "PPR", "PPR", "RBR", "RBR", "RBR", "RBR", "SRR", "SRR"],
  ["sync", /*             */ ran, ran, ran, "RBR", "RBR", "RBR", "RBR", "SRR", "SRR"],
  ["syncThenDetach", /*   */ left, left, left, "RBR", "RBR", "RBR", "RBR", "SRR", "SRR"],
  ["rebuild", /*          */ snapshot, "PPR", "PPR", snapshot, snapshot, snapshot, snapshot, snapshot, snapshot],
  ["uninstallSync", /*    */ "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  ["close", /*            */ "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  ["host write", ...Array.from({ length: 9 }, () => "captured")]
]

/** "Source recovery" stands for all three states of the outbox, and for each with newer edits. */
const recoveryStates: ReadonlyArray<StateName> = [
  "source recovery + outbox prepared",
  "source recovery, history pruned",
  "source recovery + outbox committed_remote",
  "source recovery + outbox prepared + dirty",
  "source recovery + outbox committed_remote + dirty"
]

const recovery: Matrix = pendingWork.map(([operation, ...cells]) => [
  operation,
  ...recoveryStates.map(() => cells.at(-1) ?? "")
])

const gateTags: ReadonlySet<string> = new Set(["OR", "AR", "DTI", "SRR", "RBR", "PPR", "DSR"])

/** Cells after which the database is as it was before, so that the next one finds the same state. */
const leavesAlone = (operation: OperationName, expected: string): boolean =>
  gateTags.has(expected) || [wrongState, wrongUser, resumed, kept].includes(expected) ||
  ["pendingSyncStatus", "sourceInfo", "inspect", "syncStatus", "lastBundleSeqSeen"].includes(operation)

/** What `inspect` says an operation would be refused with. */
const announced = (device: Device, operation: OperationName) =>
  Effect.map(Effect.orDie(device.sync.inspect), ({ refusals }) => {
    const refusal = refusals.find((one) => one.operation === inspectedAs(operation))
    return refusal === undefined ? undefined : shortOf(refusal.tag)
  })

const built = (name: StateName) =>
  Effect.gen(function*() {
    yield* turn
    const state = states[name]
    const device = yield* state.build(yield* makeWorld())
    assert.strictEqual(yield* durableState(device), state.is)
    yield* checkInvariants(device, { reference: "reference" in state })
    return device
  })

/** Runs one cell; `inspect` has announced exactly the refusals. */
const execute = (device: Device, operation: OperationName) =>
  Effect.gen(function*() {
    const announcement = yield* announced(device, operation)
    const outcome = yield* outcomeOf(operation, device)
    const refusal = gateTags.has(outcome) ? outcome : undefined
    assert.strictEqual(announcement, refusal, `what inspect had announced for ${operation}`)
    return outcome
  })

const describeMatrix = (title: string, names: ReadonlyArray<StateName>, matrix: Matrix) =>
  describe(title, () => {
    for (const [column, name] of names.entries()) {
      const cells = matrix.map(([operation, ...row]) => [operation, row[column] ?? ""] as const)
      // A resumed session is another one for those that follow.
      const still = [
        ...cells.filter(([operation, expected]) => leavesAlone(operation, expected) && expected !== resumed),
        ...cells.filter(([, expected]) => expected === resumed)
      ]
      it.scoped(`${name}: ${still.map(([operation, expected]) => `${operation} → ${expected}`).join(", ")}`, () =>
        Effect.gen(function*() {
          const device = yield* built(name)
          const before = yield* dump(device)
          const outcomes: Array<readonly [OperationName, string]> = []
          for (const [operation] of still) {
            outcomes.push([operation, yield* execute(device, operation)])
            assert.deepStrictEqual(yield* dump(device), before, `${operation} changes nothing`)
          }
          assert.deepStrictEqual(Object.fromEntries(outcomes), Object.fromEntries(still))
        }))
      for (const [operation, expected] of cells) {
        if (leavesAlone(operation, expected)) continue
        it.scoped(`${name}: ${operation} → ${expected}`, () =>
          Effect.gen(function*() {
            const device = yield* built(name)
            assert.strictEqual(yield* execute(device, operation), expected)
            const same = ["open", "close", "host write"].includes(operation)
            yield* checkInvariants(device, { reference: same && "reference" in states[name], historyWentBack: true })
          }))
      }
    }
  })

describeMatrix("lifecycle states [recovery.md §6.1]", lifecycleStates, lifecycle)

describeMatrix("pending work and gates [recovery.md §6.2]", pendingStates, pendingWork)

describeMatrix("source recovery whatever the outbox holds [recovery.md §6.2]", recoveryStates, recovery)
