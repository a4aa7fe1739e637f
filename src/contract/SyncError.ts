/**
 * The closed catalogue of errors (errors.md §1.2): no other tag reaches a caller.
 *
 * @since 0.1.0
 */
import type * as Fault from "./FaultError.js"
import type * as Precondition from "./PreconditionError.js"
import type * as Recovery from "./RecoveryError.js"

export * from "./FaultError.js"
export * from "./PreconditionError.js"
export * from "./RecoveryError.js"

/**
 * Every error of the catalogue.
 *
 * @since 0.1.0
 * @category models
 */
export type SyncError =
  | Precondition.ConfigurationError
  | Precondition.DatabaseAlreadyOwned
  | Precondition.DatabaseTakenOver
  | Precondition.ClientClosed
  | Precondition.InvalidArgumentError
  | Precondition.OpenRequired
  | Precondition.AttachRequired
  | Precondition.DestructiveTransitionInProgress
  | Precondition.SyncOperationInProgress
  | Precondition.AttachLifecycleUnsupported
  | Precondition.TableContractMismatch
  | Precondition.AttachBindingConflict
  | Precondition.AttachLocalStateConflict
  | Precondition.LocalRowsPending
  | Precondition.CredentialsMismatch
  | Recovery.RebuildRequired
  | Recovery.SourceRecoveryRequired
  | Recovery.SourceReplacementDiverged
  | Recovery.PendingPushReplay
  | Recovery.DirtyStateRejected
  | Recovery.InitializationLeaseLost
  | Recovery.ScopeLost
  | Recovery.UploadRefused
  | Recovery.PushConflictError
  | Recovery.InvalidConflictResolution
  | Recovery.PushConflictRetryExhausted
  | Fault.TransportError
  | Fault.RetryExhausted
  | Fault.ProtocolError
  | Fault.StorageError
  | Fault.LocalDataError

const causes = function*(error: unknown): Generator<unknown> {
  const seen = new Set<unknown>()
  for (let current = error; current !== undefined && current !== null && !seen.has(current);) {
    seen.add(current)
    yield current
    current = typeof current === "object" && "cause" in current ? current.cause : undefined
  }
}

const hasTag = (error: unknown, tags: ReadonlyArray<string>): boolean => {
  for (const cause of causes(error)) {
    if (typeof cause === "object" && cause !== null && "_tag" in cause && tags.includes(String(cause._tag))) return true
  }
  return false
}

/**
 * Whether an error, however wrapped, says that the lifecycle is not where the operation needs it: exactly
 * `OpenRequired`, `AttachRequired`, `DestructiveTransitionInProgress` (errors.md §1.2).
 *
 * @since 0.1.0
 * @category guards
 */
export const isLifecyclePrecondition = (error: unknown): boolean =>
  hasTag(error, ["OpenRequired", "AttachRequired", "DestructiveTransitionInProgress"])

/**
 * Whether an error, however wrapped, is contention that is expected: exactly `SyncOperationInProgress`.
 *
 * @since 0.1.0
 * @category guards
 */
export const isExpectedContention = (error: unknown): boolean => hasTag(error, ["SyncOperationInProgress"])
