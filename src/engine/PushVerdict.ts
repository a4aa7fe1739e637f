/**
 * What a refused request of a push means: the tables of push.md §4, §5.1 and §7 as one pure function.
 *
 * @since 0.1.0
 */
import type { InitializationLeaseLost } from "../contract/SyncError.js"
import type { SourceRecoveryReason, SyncRequest } from "../contract/SyncOperation.js"
import * as RetryPolicy from "../remote/RetryPolicy.js"
import { Refusal } from "../remote/SyncApi.js"
import type { OutboxHeader } from "../storage/ClientState.js"

/**
 * What is known when a request is refused.
 *
 * @since 0.1.0
 * @category models
 */
export interface PushContext {
  readonly outboxState: OutboxHeader["state"]
  /** An initialization was pending when the push began. */
  readonly initializationPending: boolean
  /** The refused create carried an initialization id. */
  readonly initializationSent: boolean
  /** An upload with this request hash was refused before without a definite reason (push.md §5.2). */
  readonly refusedBefore: boolean
}

/**
 * The meaning of a refusal. `Again`: repeat within the budget of the push; `Final`: no rule consumes it.
 *
 * @since 0.1.0
 * @category models
 */
export type PushVerdict =
  | { readonly _tag: "Again" }
  | { readonly _tag: "Conflict" }
  | { readonly _tag: "Recover"; readonly reason: SourceRecoveryReason; readonly preferred: string }
  | { readonly _tag: "ReplayPruned" }
  | { readonly _tag: "LeaseLost"; readonly reason: InitializationLeaseLost["reason"] }
  | { readonly _tag: "SeedAnswerLost" }
  | { readonly _tag: "ScopeLost"; readonly reason: "scope_uninitialized" | "scope_initializing" }
  /** The server may be waiting for another device's seed: only a read tells. */
  | { readonly _tag: "MaybeScopeLost" }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "MaybeRefused" }
  | { readonly _tag: "Final" }

type Step = "create" | "chunk" | "commit" | "fetch"

const stepOf = (request: SyncRequest): Step | undefined => {
  switch (request) {
    case "push_session_create":
      return "create"
    case "push_chunk_upload":
      return "chunk"
    case "push_session_commit":
      return "commit"
    case "committed_bundle_chunk_fetch":
      return "fetch"
    default:
      return undefined
  }
}

const isUpload = (step: Step): boolean => step === "chunk" || step === "commit"

/** A 409 `push_conflict` with details names the row; one without says only that the upload was refused. */
const hasDetails = (refusal: Refusal): boolean => refusal.body?.conflict !== undefined && refusal.body.conflict !== null

/**
 * Whether the refusal means that the session is gone, or that the server's replica lags: the attempt goes on by
 * itself (push.md §5.1, §7).
 *
 * @since 0.1.0
 * @category deciding
 */
export const isLost = (refusal: Refusal): boolean => {
  const step = stepOf(refusal.request)
  if (step === undefined) return false
  if (step === "fetch") return refusal.status === 404 && refusal.serverCode === "committed_bundle_not_found"
  return isUpload(step) && (
    (refusal.status === 404 && refusal.serverCode === "push_session_not_found") ||
    (refusal.status === 410 && refusal.serverCode === "push_session_expired") ||
    (refusal.status === 409 && refusal.serverCode === "push_chunk_out_of_order")
  )
}

/**
 * Whether the attempt is repeated within the budget of the push: a transient failure, or a session that is gone.
 *
 * @since 0.1.0
 * @category deciding
 */
export const isTransient = (failure: { readonly _tag: string }): boolean =>
  RetryPolicy.isTransient(failure) || (failure instanceof Refusal && isLost(failure))

/**
 * The meaning of a refusal.
 *
 * @since 0.1.0
 * @category deciding
 */
export const verdictOf = (refusal: Refusal, context: PushContext): PushVerdict => {
  const step = stepOf(refusal.request)
  if (step === undefined) return { _tag: "Final" }
  if (isLost(refusal)) return { _tag: "Again" }
  const { serverCode, status } = refusal
  if (step === "fetch") {
    return status === 409 && serverCode === "history_pruned" ? { _tag: "ReplayPruned" } : { _tag: "Final" }
  }
  if (serverCode === "initialization_expired" || serverCode === "initialization_stale") {
    return { _tag: "LeaseLost", reason: serverCode }
  }
  if (status === 409) {
    const conflict = onConflictStatus(step, refusal, context)
    if (conflict !== undefined) return conflict
  }
  if (status === 400) {
    if (step === "create" && serverCode === "push_session_invalid") {
      if (context.initializationSent) return { _tag: "SeedAnswerLost" }
      // What servers answer instead of 409 `scope_initializing` (wire.md §10).
      if (!context.initializationPending) return { _tag: "MaybeScopeLost" }
    }
    if (step === "chunk" && serverCode === "push_chunk_invalid") return { _tag: "Refused" }
    if (step === "commit" && serverCode === "push_commit_invalid") return { _tag: "Refused" }
  }
  // A single row: larger chunks have been halved before.
  if (step === "chunk" && status === 413) return { _tag: "Refused" }
  if (step === "commit" && status === 500 && serverCode === "push_session_commit_failed") return mayBeRefused(context)
  return { _tag: "Final" }
}

const mayBeRefused = (context: PushContext): PushVerdict =>
  context.refusedBefore ? { _tag: "Refused" } : { _tag: "MaybeRefused" }

const onConflictStatus = (step: Step, refusal: Refusal, context: PushContext): PushVerdict | undefined => {
  switch (refusal.serverCode) {
    case "push_conflict":
      if (hasDetails(refusal)) return { _tag: "Conflict" }
      return step === "commit" ? mayBeRefused(context) : undefined
    case "source_retired":
      return step === "chunk"
        ? undefined
        : { _tag: "Recover", reason: "source_retired", preferred: refusal.body?.replaced_by_source_id ?? "" }
    case "history_pruned":
      if (step !== "create") return undefined
      return context.outboxState === "committed_remote"
        ? { _tag: "ReplayPruned" }
        : { _tag: "Recover", reason: "history_pruned", preferred: "" }
    case "source_sequence_out_of_order":
      return step === "create" ? { _tag: "Recover", reason: "source_sequence_out_of_order", preferred: "" } : undefined
    case "source_sequence_changed":
      return step === "commit" ? { _tag: "Recover", reason: "source_sequence_changed", preferred: "" } : undefined
    case "scope_uninitialized":
      if (step !== "create") return undefined
      return context.initializationPending
        ? { _tag: "LeaseLost", reason: "initialization_expired" }
        : { _tag: "ScopeLost", reason: "scope_uninitialized" }
    case "scope_initializing":
      return step === "create" && !context.initializationPending
        ? { _tag: "ScopeLost", reason: "scope_initializing" }
        : undefined
    default:
      return undefined
  }
}
