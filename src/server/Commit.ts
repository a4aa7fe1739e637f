/**
 * The commit: a staged bundle becomes a committed one, or nothing happens (wire.md §4.4, server.md §7).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { Limits } from "../protocol/Wire.js"
import type { RefusedRow } from "../protocol/WireError.js"
import type { Actor } from "./Actor.js"
import { ownSession } from "./Push.js"
import * as ScopeState from "./ScopeState.js"
import type { Fault, ServerParts } from "./ServerParts.js"
import { now } from "./ServerParts.js"
import type { BundleHeader, PushSession, Scope } from "./ServerStorage.js"
import * as SourceState from "./SourceState.js"
import type { RowConflict } from "./SyncRefused.js"
import { refused, SyncRefused } from "./SyncRefused.js"

/** Rows a refusal names at most (wire.md §12). */
const maxNamed = Limits.maxConflicts

/** Text of server rows in one refusal, unless the first alone has more: clients must be able to read it. */
const maxNamedText = 4 * 1024 * 1024

/** The conflicts from the first one on that a client can be told at once; the others are found by its next push. */
const tellable = (conflicts: ReadonlyArray<RowConflict>): ReadonlyArray<RowConflict> => {
  let text = 0
  const end = conflicts.findIndex(({ serverRow }, index) =>
    (text += serverRow?.length ?? 0) > maxNamedText && index > 0
  )
  return end < 0 ? conflicts : conflicts.slice(0, end)
}

/** Why a row conflicts, in words (server.md §7.1). */
const conflictMessage = (conflict: RowConflict): string => {
  const target = `${conflict.schema}.${conflict.table} ${Object.values(conflict.key).join("")}`
  const head = `${conflict.op.toLowerCase()} conflict on ${target}`
  if (conflict.op === "INSERT") {
    return conflict.baseRowVersion === conflict.serverRowVersion
      ? `${head}: row already exists`
      : `${head}: expected base_row_version ${conflict.serverRowVersion}, got ${conflict.baseRowVersion}`
  }
  return conflict.serverRow === null
    ? `${head}: row does not exist`
    : `${head}: expected version ${conflict.serverRowVersion}, got ${conflict.baseRowVersion}`
}

/** What the data themselves forbid; the reference says the same without naming rows. */
const dataRefused = (rows: ReadonlyArray<RefusedRow>) =>
  new SyncRefused({ code: "push_session_commit_failed", message: "Failed to commit push session", rows })

/**
 * The retained floor after a commit: `window` bundles are kept, and the floor moves by at most `batch` (server.md §9).
 *
 * @since 0.1.0
 * @category retention
 */
export const nextFloor = (latest: number, floor: number, window: number, batch: number): number =>
  Math.max(floor, Math.min(latest - window, floor + batch))

/**
 * Applies a complete, admitted session and records the bundle under a tuple: steps 8 to 14 of the commit, inside its transaction.
 *
 * @since 0.1.0
 * @category steps
 */
export const conclude = ({ settings, store }: ServerParts) =>
  Effect.fnUntraced(function*(
    scope: Scope,
    session: PushSession,
    tuple: { readonly sourceId: string; readonly sourceBundleId: number },
    at: number
  ): Effect.fn.Return<BundleHeader, SyncRefused | Fault> {
    const problems = yield* store.stagedProblems(session, maxNamed)
    if (problems.length > 0) return yield* dataRefused(problems)
    const bundleSeq = scope.latestBundleSeq + 1
    const kept = yield* store.apply(session, bundleSeq, at)
    if (kept.length > 0) return yield* dataRefused(kept)
    const violations = yield* store.violations(session, maxNamed)
    if (violations.length > 0) return yield* dataRefused(violations)
    const bundle = yield* store.seal(scope.id, { bundleSeq, ...tuple }, at)
    if (bundle === undefined) return yield* refused("push_commit_invalid", "the bundle has no effect")
    yield* store.putSource(scope.id, tuple.sourceId, SourceState.committed(tuple.sourceBundleId))
    const floor = nextFloor(bundleSeq, scope.retainedFloor, settings.retainedBundles, settings.prunedBundlesPerCommit)
    if (floor > scope.retainedFloor) yield* store.prune(scope.id, floor)
    yield* store.dropPushSession(session)
    return bundle
  })

/**
 * Runs a committing transaction and then tells the watchers; an interruption cannot come between the two.
 *
 * @since 0.1.0
 * @category steps
 */
export const announced = <A extends BundleHeader, E, R>(
  { watchers }: ServerParts,
  userId: string,
  transaction: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.tap(restore(transaction), (bundle) => watchers.publish(userId, bundle))
  )

/**
 * Commits a session (wire.md §4.4). After a refusal the session is still there and nothing was written.
 *
 * @since 0.1.0
 * @category flows
 */
export const commit = (parts: ServerParts) => {
  const { store } = parts
  return (actor: Actor, pushId: string): Effect.Effect<BundleHeader, SyncRefused | Fault> =>
    announced(
      parts,
      actor.userId,
      store.write(Effect.gen(function*() {
        const at = yield* now
        const { scope, session } = yield* ownSession(parts)(actor, pushId, at)
        const shape = yield* store.stagedShape(session)
        if (shape.rowCount !== session.plannedRows) {
          return yield* refused(
            "push_commit_invalid",
            `staged row count ${shape.rowCount} does not match planned_row_count ${session.plannedRows}`
          )
        }
        if (!shape.contiguous) return yield* refused("push_commit_invalid", "staged row ordinals are not contiguous")
        if (shape.duplicate) return yield* refused("push_commit_invalid", "duplicate target row in staged bundle")
        const lease = yield* ScopeState.admitLeased(scope.state, session, at)
        const source = yield* store.source(scope.id, session.sourceId)
        yield* SourceState.admitCommit(actor.userId, session.sourceId, source, session.sourceBundleId)
        const conflicts = tellable(yield* store.conflicts(session, maxNamed))
        const [conflict] = conflicts
        if (conflict !== undefined) {
          return yield* new SyncRefused({ code: "push_conflict", message: conflictMessage(conflict), conflicts })
        }
        const bundle = yield* conclude(parts)(
          scope,
          session,
          { sourceId: session.sourceId, sourceBundleId: session.sourceBundleId },
          at
        )
        if (lease !== undefined) {
          yield* store.putScopeState(actor.userId, { _tag: "Initialized", sourceId: session.sourceId, at })
        }
        return bundle
      }))
    )
}
