/**
 * Reading history: pull and committed rows (wire.md §4.6, §4.7, server.md §8).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Actor } from "./Actor.js"
import * as ScopeState from "./ScopeState.js"
import type { Fault, ServerParts } from "./ServerParts.js"
import { now } from "./ServerParts.js"
import type { BundleHeader, StoredBundleRow } from "./ServerStorage.js"
import type { SyncRefused } from "./SyncRefused.js"
import { refused } from "./SyncRefused.js"

/**
 * A page of history: whole bundles up to the ceiling. Rows are those of all bundles, in order.
 *
 * @since 0.1.0
 * @category models
 */
export interface HistoryPage {
  readonly stableBundleSeq: bigint
  readonly bundles: ReadonlyArray<BundleHeader>
  readonly rows: ReadonlyArray<StoredBundleRow>
  readonly hasMore: boolean
  /** Of the bundle at the requested checkpoint, if it is stored. */
  readonly baseBundleHash: string | undefined
}

/**
 * A page of the rows of one bundle.
 *
 * @since 0.1.0
 * @category models
 */
export interface BundlePage {
  readonly bundle: BundleHeader
  readonly rows: ReadonlyArray<StoredBundleRow>
  readonly nextRowOrdinal: bigint
  readonly hasMore: boolean
  /** Of the bundle before this one, if it is stored; with the first page only. */
  readonly baseBundleHash: string | undefined
}

const pruned = (userId: string, checkpoint: bigint, floor: number) =>
  refused(
    "history_pruned",
    `requested checkpoint ${checkpoint} is older than retained history floor ${floor} for user ${userId}`
  )

/**
 * The ceiling of a pull (wire.md §4.7 #4–7). Unlike the reference, a pull from 0 is refused too where history is missing:
 * it would skip it silently.
 *
 * @since 0.1.0
 * @category guards
 */
export const ceiling = (
  userId: string,
  history: { readonly latestBundleSeq: number; readonly retainedFloor: number },
  request: { readonly after: bigint; readonly target: bigint }
): Either.Either<bigint, SyncRefused> => {
  const { latestBundleSeq, retainedFloor: floor } = history
  const { after, target } = request
  const stable = target > 0n ? target : BigInt(latestBundleSeq)
  if (floor > 0 && after <= floor) return Either.left(pruned(userId, after, floor))
  if (stable > 0n && stable <= floor) return Either.left(pruned(userId, stable, floor))
  return Either.right(stable)
}

/**
 * Bundles after a checkpoint (wire.md §4.7). `after` is exclusive, `target` inclusive and 0 for none.
 *
 * @since 0.1.0
 * @category flows
 */
export const pull = ({ store }: ServerParts) =>
  Effect.fnUntraced(function*(
    actor: Actor,
    request: { readonly after: bigint; readonly target: bigint; readonly maxBundles: number }
  ): Effect.fn.Return<HistoryPage, SyncRefused | Fault> {
    const at = yield* now
    return yield* store.read(Effect.gen(function*() {
      const scope = yield* store.scope(actor.userId)
      yield* ScopeState.admitRead(actor.userId, scope?.state ?? ScopeState.uninitialized, at)
      if (scope === undefined) {
        return { stableBundleSeq: 0n, bundles: [], rows: [], hasMore: false, baseBundleHash: undefined }
      }
      const through = yield* ceiling(actor.userId, scope, request)
      const found = yield* store.bundles(scope.id, {
        after: request.after,
        through,
        limit: request.maxBundles + 1
      })
      const bundles = found.slice(0, request.maxBundles)
      const [first] = bundles
      const last = bundles[bundles.length - 1]
      const rows = first === undefined || last === undefined
        ? []
        : yield* store.rowsOfBundles(scope.id, first.bundleSeq, last.bundleSeq)
      const base = yield* store.bundle(scope.id, request.after)
      return {
        stableBundleSeq: through,
        bundles,
        rows,
        hasMore: found.length > bundles.length,
        baseBundleHash: base?.bundleHash
      }
    })).pipe(
      Effect.tapErrorTag("SyncRefused", (refusal) =>
        refusal.code === "history_pruned" ? store.draft(store.countHistoryPruned) : Effect.void)
    )
  })

/**
 * Rows of a committed bundle (wire.md §4.6). `after` is 0-based and exclusive, `undefined` for the first page.
 *
 * @since 0.1.0
 * @category flows
 */
export const committedRows = ({ store }: ServerParts) =>
  Effect.fnUntraced(function*(
    actor: Actor,
    request: { readonly bundleSeq: bigint; readonly after: bigint | undefined; readonly maxRows: number }
  ): Effect.fn.Return<BundlePage, SyncRefused | Fault> {
    const { after, bundleSeq, maxRows } = request
    return yield* store.read(Effect.gen(function*() {
      const scope = yield* store.scope(actor.userId)
      if (scope === undefined) {
        return yield* refused("committed_bundle_rows_failed", "Failed to read committed bundle rows")
      }
      if (bundleSeq <= scope.retainedFloor) return yield* pruned(actor.userId, bundleSeq, scope.retainedFloor)
      const bundle = yield* store.bundle(scope.id, bundleSeq)
      if (bundle === undefined) {
        return yield* refused("committed_bundle_not_found", `committed bundle ${bundleSeq} was not found`)
      }
      const found = yield* store.bundleRows(scope.id, bundle.bundleSeq, { after: after ?? -1n, limit: maxRows + 1 })
      const rows = found.slice(0, maxRows)
      const last = rows[rows.length - 1]
      const base = after === undefined ? yield* store.bundle(scope.id, bundleSeq - 1n) : undefined
      return {
        bundle,
        rows,
        nextRowOrdinal: last === undefined ? after ?? 0n : BigInt(last.rowOrdinal),
        hasMore: found.length > rows.length,
        baseBundleHash: base?.bundleHash
      }
    }))
  })
