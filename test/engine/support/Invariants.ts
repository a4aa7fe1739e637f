/** The invariants of client-state.md §7 as an assertion. */
import type { SqlClient } from "@effect/sql"
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { findViolations } from "../../../src/testing/Invariants.js"
import type { InvariantOptions } from "../../../src/testing/Invariants.js"

export { findViolations, type InvariantOptions }

/**
 * Checks the invariants 1–29 of client-state.md §7 on the database of a device, as far as it can tell: all but 16 and
 * 23 (and the first half of 20 and 33). Also compares with the last check of the same `SqlClient` (10, 11, 12, 28).
 */
export const checkInvariants = (
  device: { readonly sql: SqlClient.SqlClient },
  options: InvariantOptions = {}
): Effect.Effect<void> => Effect.map(findViolations(device, options), (found) => assert.deepStrictEqual(found, []))
