/**
 * A stage that does not hold what was put there.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * The number of staged or applied rows is not the announced one.
 *
 * @since 0.1.0
 * @category errors
 */
export class StageIncomplete extends Data.TaggedError("StageIncomplete")<{
  readonly expected: number
  readonly actual: number
}> {}
