/**
 * Recognition of structured conflicts (conflicts.md §1).
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { hasHiddenColumn, rowViolation } from "./RowRules.js"
import type { Checked, Violation } from "./Violation.js"
import { violation } from "./Violation.js"
import { ConflictDetails } from "./Wire.js"
import type { ErrorBody } from "./WireError.js"

const decode = Schema.decodeUnknownEither(ConflictDetails)

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value)

const detailsViolation = (details: ConflictDetails): Violation | undefined => {
  // The identity of the row obeys the rules of received rows; its version may be 0 here, and the payload is apart.
  const broken = rowViolation({ ...details, row_version: 1, payload: {} }, details.op, undefined)
  if (broken !== undefined) return broken
  const row = { schema: details.schema, table: details.table, key: JSON.stringify(details.key) }
  if (hasHiddenColumn(details.server_row)) return { rule: "hidden_column", row }
  if (details.server_row !== null && !isObject(details.server_row)) {
    return { rule: "field_invalid", expected: "server_row an object or null", row }
  }
  if (details.server_row_version < 0) {
    return {
      rule: "field_invalid",
      expected: "server_row_version >= 0",
      actual: String(details.server_row_version),
      row
    }
  }
  return details.server_row_deleted && details.server_row !== null
    ? { rule: "field_invalid", expected: "no server_row with server_row_deleted", row }
    : undefined
}

const checked = (given: unknown): Checked<ConflictDetails> =>
  decode(given).pipe(
    Either.mapLeft(() => violation("field_invalid", "the shape of a conflict")),
    Either.flatMap((details) => {
      const broken = detailsViolation(details)
      return broken === undefined ? Either.right(details) : Either.left(broken)
    })
  )

/**
 * The conflicts of a refused upload (conflicts.md §1): none if the answer is no structured conflict (status 409, code
 * `push_conflict`, a `conflict` that is not null); else the list `conflicts` where the server sends it, in upload order, or
 * the single `conflict`. `field_invalid`, `row_invalid`, `hidden_column` for an entry that breaks the shape of wire.md §2.5.
 *
 * @category conflicts
 * @since 0.1.0
 */
export const conflict = (
  status: number,
  body: ErrorBody
): Checked<Option.Option<ReadonlyArray<ConflictDetails>>> => {
  const first = body.conflict
  if (status !== 409 || body.error !== "push_conflict" || first === undefined || first === null) {
    return Either.right(Option.none())
  }
  const given: unknown = body.conflicts ?? [first]
  if (!Array.isArray(given) || given.length === 0) {
    return Either.left(violation("field_invalid", "conflicts a list with an entry"))
  }
  const conflicts: Array<ConflictDetails> = []
  for (const entry of given) {
    const details = checked(entry)
    if (Either.isLeft(details)) return Either.left(details.left)
    conflicts.push(details.right)
  }
  return Either.right(Option.some(conflicts))
}
