/**
 * Rules for the answers of pull and snapshots (pull.md §2, §3, §5.3).
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { bundleHash } from "./BundleHash.js"
import { rowViolation } from "./RowRules.js"
import type { Checked, Violation } from "./Violation.js"
import { accept, echo, filled, firstOf, notNegative, positive, violation } from "./Violation.js"
import type { Bundle, PullPage, SnapshotChunk, SnapshotSession } from "./Wire.js"

/**
 * What a valid pull page amounts to (pull.md §3).
 *
 * @category models
 * @since 0.1.0
 */
export interface PullVerdict {
  /** The ceiling of this pull run. */
  readonly stableBundleSeq: number
  /** The bundles to apply, without a gap from `after + 1`. */
  readonly bundles: ReadonlyArray<Bundle>
  readonly hasMore: boolean
  /** Blank where the server has none. */
  readonly historyId: string
  /** The ceiling lies below a bundle that is known: the server has gone back, or a replica lags. */
  readonly staleCeiling: boolean
  /** After `bundles` a sequence is missing: history is missing on the server, as with `history_pruned`. */
  readonly missingHistory: boolean
}

const sequenceViolation = (bundle: Bundle, previous: number, stable: number): Violation | undefined =>
  bundle.bundle_seq <= previous
    ? violation("sequence_invalid", `bundle_seq > ${previous}`, bundle.bundle_seq)
    : bundle.bundle_seq > stable
    ? violation("sequence_invalid", `bundle_seq <= ${stable}`, bundle.bundle_seq)
    : undefined

const rowsViolation = (bundle: Bundle): Violation | undefined => {
  const seen = new Set<string>()
  for (const row of bundle.rows) {
    const broken = rowViolation(row, row.op, seen)
    if (broken !== undefined) return broken
  }
  return undefined
}

/** Count and hash are checked where the server states them; the hash last, for it costs most. */
const integrityViolation = (bundle: Bundle): Violation | undefined => {
  if (bundle.row_count !== 0 && bundle.row_count !== bundle.rows.length) {
    return violation("count_mismatch", `${bundle.row_count} rows`, bundle.rows.length)
  }
  if (bundle.bundle_hash === "") return undefined
  const hash = bundleHash(bundle.rows)
  return hash === bundle.bundle_hash ? undefined : violation("hash_mismatch", `bundle_hash ${bundle.bundle_hash}`, hash)
}

const bundlesViolation = (bundles: ReadonlyArray<Bundle>, after: number, stable: number): Violation | undefined => {
  let previous = after
  for (const bundle of bundles) {
    const broken = firstOf(
      positive("bundle_seq", bundle.bundle_seq),
      filled("source_id", bundle.source_id),
      positive("source_bundle_id", bundle.source_bundle_id),
      sequenceViolation(bundle, previous, stable)
    ) ?? rowsViolation(bundle) ?? integrityViolation(bundle)
    if (broken !== undefined) return broken
    previous = bundle.bundle_seq
  }
  return undefined
}

/** How many bundles follow `after` without a gap. */
const contiguous = (bundles: ReadonlyArray<Bundle>, after: number): number => {
  const gap = bundles.findIndex((bundle, index) => bundle.bundle_seq !== after + 1 + index)
  return gap === -1 ? bundles.length : gap
}

/**
 * A pull page (pull.md §3): `field_invalid`, `ceiling_changed` (another ceiling than the target that was sent),
 * `sequence_invalid`, `row_invalid`, `hidden_column`, `count_mismatch`, `hash_mismatch`. A ceiling below the checkpoint
 * or another bundle that is known, and missing history, are no violations but part of the verdict.
 *
 * `after` is the requested `after_bundle_seq`; `target` the `target_bundle_seq` that was sent, `undefined` or 0 for none;
 * `newest` the newest bundle that is known if that is not the one at the checkpoint.
 *
 * @category pull
 * @since 0.1.0
 */
export const pullPage = (
  page: PullPage,
  request: { readonly after: number; readonly target?: number | undefined; readonly newest?: number }
): Checked<PullVerdict> => {
  const { bundles, stable_bundle_seq: stable } = page
  const target = request.target ?? 0
  const broken = firstOf(
    notNegative("stable_bundle_seq", stable),
    target > 0 && stable !== target && violation("ceiling_changed", `stable_bundle_seq ${target}`, stable),
    bundles.length > 0 && stable === 0 && violation("sequence_invalid", "stable_bundle_seq > 0 with bundles", stable)
  ) ?? bundlesViolation(bundles, request.after, stable)
  if (broken !== undefined) return Either.left(broken)
  const usable = contiguous(bundles, request.after)
  return Either.right({
    stableBundleSeq: stable,
    bundles: usable === bundles.length ? bundles : bundles.slice(0, usable),
    hasMore: page.has_more,
    historyId: page.history_id,
    staleCeiling: stable < Math.max(request.after, request.newest ?? 0),
    missingHistory: usable < bundles.length
  })
}

/**
 * Whether a pull goes on after the bundles of a page were applied (pull.md §2 steps 7 and 8): `ended_early` if the server
 * has no more although the ceiling is not reached, `no_progress` if it has more but sent nothing. `after` is the sequence
 * applied last, that of the request for an empty page.
 *
 * @category pull
 * @since 0.1.0
 */
export const pullContinues = (verdict: PullVerdict, after: number): Checked<boolean> => {
  if (after >= verdict.stableBundleSeq) return Either.right(false)
  if (!verdict.hasMore) {
    return Either.left(violation("ended_early", `bundles up to ${verdict.stableBundleSeq}`, after))
  }
  return verdict.bundles.length === 0
    ? Either.left(violation("no_progress", `bundles after ${after}`))
    : Either.right(true)
}

/**
 * A created snapshot session (pull.md §5.3): `field_invalid`, `sequence_invalid` (rows without a bundle).
 *
 * @category snapshots
 * @since 0.1.0
 */
export const snapshotSession = (answer: SnapshotSession): Checked<SnapshotSession> =>
  accept(
    answer,
    firstOf(
      filled("snapshot_id", answer.snapshot_id),
      notNegative("snapshot_bundle_seq", answer.snapshot_bundle_seq),
      notNegative("row_count", answer.row_count),
      notNegative("byte_count", answer.byte_count),
      answer.row_count > 0 && answer.snapshot_bundle_seq === 0 &&
        violation("sequence_invalid", "snapshot_bundle_seq > 0 with rows", answer.snapshot_bundle_seq),
      filled("expires_at", answer.expires_at)
    )
  )

/**
 * A chunk of a snapshot (pull.md §5.3): `echo_mismatch`, `sequence_invalid`, `ordinal_mismatch`, `no_progress`,
 * `count_mismatch` (more rows than announced, or fewer at the end), `row_invalid`, `hidden_column`. `afterRowOrdinal` is
 * the number of rows received before, as requested.
 *
 * @category snapshots
 * @since 0.1.0
 */
export const snapshotChunk = (
  chunk: SnapshotChunk,
  request: { readonly session: SnapshotSession; readonly afterRowOrdinal: number }
): Checked<SnapshotChunk> => {
  const { afterRowOrdinal, session } = request
  const count = afterRowOrdinal + chunk.rows.length
  const broken = firstOf(
    echo("snapshot_id", chunk.snapshot_id, session.snapshot_id),
    echo("snapshot_bundle_seq", chunk.snapshot_bundle_seq, session.snapshot_bundle_seq),
    chunk.rows.length > 0 && chunk.snapshot_bundle_seq === 0 &&
      violation("sequence_invalid", "snapshot_bundle_seq > 0 with rows", chunk.snapshot_bundle_seq),
    chunk.has_more && chunk.rows.length === 0 && violation("no_progress", "rows before more rows"),
    chunk.next_row_ordinal !== count &&
      violation("ordinal_mismatch", `next_row_ordinal ${count}`, chunk.next_row_ordinal),
    (chunk.has_more ? count >= session.row_count : count !== session.row_count) &&
      violation("count_mismatch", `${session.row_count} rows`, chunk.has_more ? `more than ${count}` : count)
  )
  if (broken !== undefined) return Either.left(broken)
  for (const row of chunk.rows) {
    const violated = rowViolation(row, "INSERT", undefined)
    if (violated !== undefined) return Either.left(violated)
  }
  return Either.right(chunk)
}
