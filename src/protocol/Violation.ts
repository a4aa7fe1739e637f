/**
 * Broken rules of answers, and the small checks that all rules are made of.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"

/**
 * The rules an answer can break (errors.md §1.5).
 *
 * @category models
 * @since 0.1.0
 */
export type ProtocolRule =
  | "invalid_json"
  | "field_invalid"
  | "echo_mismatch"
  | "status_unknown"
  | "resolution_unknown"
  | "count_mismatch"
  | "hash_mismatch"
  | "ordinal_mismatch"
  | "sequence_invalid"
  | "ceiling_changed"
  | "ended_early"
  | "no_progress"
  | "row_invalid"
  | "hidden_column"

/**
 * A broken rule. `expected` and `actual` name members, ids and counts, never payloads; `row` is the offending row with its
 * wire key as JSON text.
 *
 * @category models
 * @since 0.1.0
 */
export interface Violation {
  readonly rule: ProtocolRule
  readonly expected?: string
  readonly actual?: string
  readonly row?: { readonly schema: string; readonly table: string; readonly key?: string }
}

/**
 * An accepted value, or the rule it breaks.
 *
 * @category models
 * @since 0.1.0
 */
export type Checked<A> = Either.Either<A, Violation>

/**
 * A violation without a row.
 *
 * @internal
 */
export const violation = (rule: ProtocolRule, expected: string, actual?: string | number): Violation =>
  actual === undefined ? { rule, expected } : { rule, expected, actual: String(actual) }

const isBlank = (text: string) => text.trim() === ""

/**
 * The first violation of a list of checks, each of them `undefined` or `false` if it holds.
 *
 * @internal
 */
export const firstOf = (...checks: ReadonlyArray<Violation | undefined | false>): Violation | undefined => {
  for (const check of checks) {
    if (check !== undefined && check !== false) return check
  }
  return undefined
}

/**
 * The value if no rule is broken.
 *
 * @internal
 */
export const accept = <A>(value: A, broken: Violation | undefined): Checked<A> =>
  broken === undefined ? Either.right(value) : Either.left(broken)

/**
 * A member must repeat what is known.
 *
 * @internal
 */
export const echo = (member: string, actual: string | number, expected: string | number): Violation | undefined =>
  actual === expected ? undefined : violation("echo_mismatch", `${member} ${expected}`, actual)

/**
 * A number must be above 0.
 *
 * @internal
 */
export const positive = (member: string, actual: number): Violation | undefined =>
  actual > 0 ? undefined : violation("field_invalid", `${member} > 0`, actual)

/**
 * A number must not be below 0.
 *
 * @internal
 */
export const notNegative = (member: string, actual: number): Violation | undefined =>
  actual >= 0 ? undefined : violation("field_invalid", `${member} >= 0`, actual)

/**
 * A text must not be blank.
 *
 * @internal
 */
export const filled = (member: string, actual: string): Violation | undefined =>
  isBlank(actual) ? violation("field_invalid", `a ${member}`) : undefined
