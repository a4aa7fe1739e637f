/**
 * Which operation is refused in which state, and by what: one table for the operations and for `inspect`
 * (lifecycle.md §2, push.md §1, pull.md §1 and §5.1, recovery.md §6). Pure.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import {
  AttachRequired,
  DatabaseTakenOver,
  DestructiveTransitionInProgress,
  DirtyStateRejected,
  OpenRequired,
  PendingPushReplay,
  RebuildRequired,
  SourceRecoveryRequired
} from "../contract/SyncError.js"
import type { SourceRecoveryReason, SyncAction, SyncOperation } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"
import type { DurableState } from "../storage/ClientState.js"
import { recoveryReason } from "../storage/ClientState.js"
import type { Memory } from "./Session.js"

/**
 * What an operation is judged by.
 *
 * @since 0.1.0
 * @category models
 */
export interface Situation {
  readonly memory: Pick<Memory, "sourceId" | "userId" | "connected">
  readonly durable: Pick<DurableState, "attachment" | "operation" | "outbox">
  /** A younger client has opened the database since this one did (client-state.md §5). */
  readonly takenOver: boolean
  readonly dirtyRowCount: number
  readonly outboxRowCount: number
}

/**
 * Why an operation is refused.
 *
 * @since 0.1.0
 * @category models
 */
export type GateRefusal =
  | { readonly _tag: "OpenRequired" }
  | { readonly _tag: "DatabaseTakenOver" }
  | { readonly _tag: "AttachRequired"; readonly reason: "anonymous" | "not_connected" | "binding_changed" }
  | { readonly _tag: "SourceRecoveryRequired"; readonly reason: SourceRecoveryReason }
  | { readonly _tag: "DestructiveTransitionInProgress" }
  | { readonly _tag: "RebuildRequired" }
  | { readonly _tag: "PendingPushReplay"; readonly outboundCount: number }
  | { readonly _tag: "DirtyStateRejected"; readonly dirtyCount: number }

type Gate = (situation: Situation) => GateRefusal | undefined

const opened: Gate = ({ memory }) => memory.sourceId === "" ? { _tag: "OpenRequired" } : undefined

const owned: Gate = ({ takenOver }) => takenOver ? { _tag: "DatabaseTakenOver" } : undefined

const attached: Gate = ({ durable: { attachment, operation } }) =>
  attachment.bindingState === "anonymous" && operation.kind === "none"
    ? { _tag: "AttachRequired", reason: "anonymous" }
    : undefined

const connected: Gate = ({ durable: { attachment }, memory }) => {
  if (attachment.bindingState !== "attached" || attachment.userId === "") {
    return { _tag: "AttachRequired", reason: "anonymous" }
  }
  if (!memory.connected || memory.userId === "") return { _tag: "AttachRequired", reason: "not_connected" }
  return attachment.userId === memory.userId && attachment.sourceId === memory.sourceId
    ? undefined
    : { _tag: "AttachRequired", reason: "binding_changed" }
}

const noRecovery: Gate = ({ durable: { operation } }) =>
  operation.kind === "source_recovery"
    ? { _tag: "SourceRecoveryRequired", reason: recoveryReason(operation.reason) }
    : undefined

const noTransition: Gate = ({ durable: { operation } }) =>
  operation.kind === "remote_replace" ? { _tag: "DestructiveTransitionInProgress" } : undefined

const noRebuild: Gate = ({ durable: { attachment } }) =>
  attachment.rebuildRequired ? { _tag: "RebuildRequired" } : undefined

const noOutbox: Gate = ({ outboxRowCount }) =>
  outboxRowCount > 0 ? { _tag: "PendingPushReplay", outboundCount: outboxRowCount } : undefined

const noDirtyRows: Gate = ({ dirtyRowCount }) =>
  dirtyRowCount > 0 ? { _tag: "DirtyStateRejected", dirtyCount: dirtyRowCount } : undefined

/** A frozen upload is settled first if the rebuild gate is closed, and kept by a rotated rebuild (pull.md §5.1). */
const noOutboxUnlessGated: Gate = (situation) =>
  situation.durable.operation.kind === "source_recovery" || situation.durable.attachment.rebuildRequired
    ? undefined
    : noOutbox(situation)

const incremental: ReadonlyArray<Gate> = [opened, owned, connected, noRecovery, noTransition, noRebuild]

const gates: Readonly<Record<SyncOperation, ReadonlyArray<Gate>>> = {
  construct: [],
  open: [],
  inspect: [],
  attach: [opened, owned],
  detach: [opened, owned, attached],
  pendingSyncStatus: [opened],
  sourceInfo: [opened],
  uninstallSync: [opened, owned],
  syncStatus: [opened, connected],
  lastBundleSeqSeen: [opened, connected],
  pushPending: incremental,
  sync: incremental,
  syncThenDetach: incremental,
  pullToStable: [...incremental, noOutbox, noDirtyRows],
  rebuild: [opened, owned, connected, noTransition, noOutboxUnlessGated]
}

/**
 * Why the operation is refused in this situation, or `undefined` if it may run. Pauses are not gates.
 *
 * @since 0.1.0
 * @category deciding
 */
export const refusalOf = (operation: SyncOperation, situation: Situation): GateRefusal | undefined => {
  for (const gate of gates[operation]) {
    const refusal = gate(situation)
    if (refusal !== undefined) return refusal
  }
  return undefined
}

/**
 * What the caller of a refused operation should do.
 *
 * @since 0.1.0
 * @category deciding
 */
export const actionOf: Readonly<Record<GateRefusal["_tag"], SyncAction>> = {
  OpenRequired: "open",
  DatabaseTakenOver: "open",
  AttachRequired: "attach",
  SourceRecoveryRequired: "rebuild",
  DestructiveTransitionInProgress: "attach",
  RebuildRequired: "rebuild",
  PendingPushReplay: "push",
  DirtyStateRejected: "push"
}

/**
 * Errors of the gates.
 *
 * @since 0.1.0
 * @category errors
 */
export type GateError =
  | OpenRequired
  | DatabaseTakenOver
  | AttachRequired
  | SourceRecoveryRequired
  | DestructiveTransitionInProgress
  | RebuildRequired
  | PendingPushReplay
  | DirtyStateRejected

const errorOf = (refusal: GateRefusal, operation: SyncOperation): GateError => {
  switch (refusal._tag) {
    case "OpenRequired":
      return new OpenRequired({ operation })
    case "DatabaseTakenOver":
      return new DatabaseTakenOver({ operation })
    case "AttachRequired":
      return new AttachRequired({ operation, reason: refusal.reason })
    case "SourceRecoveryRequired":
      return new SourceRecoveryRequired({ operation, reason: refusal.reason })
    case "DestructiveTransitionInProgress":
      return new DestructiveTransitionInProgress({ operation, transitionKind: "remote_replace" })
    case "RebuildRequired":
      return new RebuildRequired({ operation })
    case "PendingPushReplay":
      return new PendingPushReplay({ operation, outboundCount: refusal.outboundCount })
    case "DirtyStateRejected":
      return new DirtyStateRejected({ operation, dirtyCount: refusal.dirtyCount })
  }
}

/**
 * Lets an operation pass or fails with what refuses it. `as` is the operation whose gates are meant, if it is not the
 * one that the host called.
 *
 * @since 0.1.0
 * @category deciding
 */
export const pass = (as: SyncOperation, situation: Situation): Effect.Effect<void, GateError> => {
  const refusal = refusalOf(as, situation)
  return refusal === undefined ? Effect.void : raise((operation) => errorOf(refusal, operation))
}
