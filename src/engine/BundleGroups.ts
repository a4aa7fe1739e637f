/**
 * How the bundles of a page are cut into groups that are applied together (pull.md §4.1). Pure.
 *
 * @since 0.1.0
 */
import type { Bundle } from "../protocol/Wire.js"
import type { BundleGroup } from "../storage/PulledPage.js"

/**
 * The group of the bundles from `first` to `last`, 0-based positions in the page, both included.
 *
 * @since 0.1.0
 * @category constructors
 */
export const groupOf = (bundles: ReadonlyArray<Bundle>, first: number, last: number): BundleGroup => {
  const bundle = bundles[last]
  return { first, last, lastBundleSeq: bundle?.bundle_seq ?? 0, lastBundleHash: bundle?.bundle_hash ?? "" }
}

/**
 * The next group from `first` on: whole bundles while their rows fit the budget; a larger bundle stands alone. `end` is
 * the position after the last bundle that may be applied.
 *
 * @since 0.1.0
 * @category constructors
 */
export const nextGroup = (
  bundles: ReadonlyArray<Bundle>,
  first: number,
  end: number,
  budget: number
): BundleGroup => {
  let rows = bundles[first]?.rows.length ?? 0
  let last = first
  while (last + 1 < end) {
    rows += bundles[last + 1]?.rows.length ?? 0
    if (rows > budget) break
    last++
  }
  return groupOf(bundles, first, last)
}
