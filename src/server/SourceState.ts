/**
 * The state machine of a source: its sequence, its retirement, its replacement (server.md §5, §11).
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { refused, SyncRefused } from "./SyncRefused.js"

/**
 * Reasons for giving a source up (wire.md §4.9).
 *
 * @since 0.1.0
 * @category models
 */
export const retirementReasons = [
  "history_pruned",
  "source_sequence_out_of_order",
  "source_sequence_changed",
  "source_retired"
] as const

/**
 * What is known of a source. A source without a record has not committed and was not named in a replacement; `reserved`
 * was named as a replacement and has not committed; `retired` never commits again. `maxCommitted` is the last
 * `source_bundle_id`, 0 for none, and survives pruning.
 *
 * @since 0.1.0
 * @category models
 */
export interface SourceState {
  readonly state: "active" | "reserved" | "retired"
  readonly maxCommitted: number
  readonly replacedBy: string
  readonly reason: string
}

/**
 * The next `source_bundle_id` of a source that is not retired.
 *
 * @since 0.1.0
 * @category getters
 */
export const nextBundleId = (source: SourceState | undefined): number => (source?.maxCommitted ?? 0) + 1

/**
 * The state after a commit of bundle `sourceBundleId`.
 *
 * @since 0.1.0
 * @category transitions
 */
export const committed = (sourceBundleId: number): SourceState => ({
  state: "active",
  maxCommitted: sourceBundleId,
  replacedBy: "",
  reason: ""
})

/**
 * The refusal a retired source meets.
 *
 * @since 0.1.0
 * @category guards
 */
export const admitLive = (
  userId: string,
  sourceId: string,
  source: SourceState | undefined
): Either.Either<void, SyncRefused> =>
  source?.state === "retired"
    ? Either.left(
      new SyncRefused({
        code: "source_retired",
        message: `source ${sourceId} for user ${userId} was retired and replaced by ${source.replacedBy}`,
        sourceId,
        replacedBySourceId: source.replacedBy
      })
    )
    : Either.void

/**
 * Whether a push session for `sourceBundleId` may be created, the tuple being neither committed nor retained
 * (wire.md §4.2 #9–11).
 *
 * @since 0.1.0
 * @category guards
 */
export const admitCreate = (
  userId: string,
  sourceId: string,
  source: SourceState | undefined,
  sourceBundleId: number
): Either.Either<void, SyncRefused> => {
  const expected = nextBundleId(source)
  return Either.flatMap(admitLive(userId, sourceId, source), () =>
    sourceBundleId === expected
      ? Either.void
      : Either.left(
        sourceBundleId < expected
          ? refused(
            "history_pruned",
            `source tuple (${sourceId}, ${sourceBundleId}) for user ${userId} is older than retained duplicate history; ` +
              `max committed source_bundle_id is ${expected - 1}`
          )
          : refused(
            "source_sequence_out_of_order",
            `source ${sourceId} for user ${userId} expected next source_bundle_id ${expected}, got ${sourceBundleId}`
          )
      ))
}

/**
 * Whether a staged bundle may be committed (wire.md §4.4 #6–7).
 *
 * @since 0.1.0
 * @category guards
 */
export const admitCommit = (
  userId: string,
  sourceId: string,
  source: SourceState | undefined,
  sourceBundleId: number
): Either.Either<void, SyncRefused> =>
  Either.flatMap(admitLive(userId, sourceId, source), () =>
    sourceBundleId === nextBundleId(source)
      ? Either.void
      : Either.left(refused(
        "source_sequence_changed",
        `source ${sourceId} for user ${userId} expected next source_bundle_id ${nextBundleId(source)}, ` +
          `staged ${sourceBundleId}`
      )))

/**
 * A request to replace the calling source by a new one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Replacement {
  readonly previousSourceId: string
  readonly newSourceId: string
  readonly reason: string
}

/**
 * The shape of a replacement (wire.md §4.9 #3). Members are trimmed already.
 *
 * @since 0.1.0
 * @category guards
 */
export const checkReplacement = (callerSourceId: string, request: Replacement): Either.Either<void, SyncRefused> => {
  const problem = request.previousSourceId !== callerSourceId
    ? "previous_source_id must match authenticated source_id"
    : request.newSourceId === ""
    ? "new_source_id is required"
    : request.newSourceId === request.previousSourceId
    ? "new_source_id must differ from previous_source_id"
    : retirementReasons.some((reason) => reason === request.reason)
    ? undefined
    : "source replacement reason is unsupported"
  return problem === undefined ? Either.void : Either.left(refused("snapshot_session_invalid", problem))
}

/**
 * The records a replacement writes, `undefined` where one stays as it is (server.md §11).
 *
 * @since 0.1.0
 * @category transitions
 */
export const replace = (
  userId: string,
  request: Replacement,
  previous: SourceState | undefined,
  replacement: SourceState | undefined
): Either.Either<
  { readonly previous: SourceState | undefined; readonly replacement: SourceState | undefined },
  SyncRefused
> => {
  const unusable = Either.left(refused(
    "source_replacement_invalid",
    `source ${request.newSourceId} for user ${userId} cannot be used as a replacement`
  ))
  const reserved: SourceState = { state: "reserved", maxCommitted: 0, replacedBy: "", reason: "" }
  if (previous?.state === "retired") {
    return previous.replacedBy !== request.newSourceId
      ? Either.flatMap(admitLive(userId, request.previousSourceId, previous), () => unusable)
      : replacement?.state === "retired"
      ? unusable
      : Either.right({ previous: undefined, replacement: replacement === undefined ? reserved : undefined })
  }
  if (replacement !== undefined) return unusable
  return Either.right({
    previous: {
      state: "retired",
      maxCommitted: previous?.maxCommitted ?? 0,
      replacedBy: request.newSourceId,
      reason: request.reason
    },
    replacement: reserved
  })
}
