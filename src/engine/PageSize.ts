/**
 * Answers that are too large are asked for again in smaller pieces (retry-and-loops.md §2.1).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"

const isTooLarge = (error: { readonly _tag: string }): boolean =>
  error._tag === "TransportError" && "code" in error && error.code === "response_too_large"

/**
 * Asks for a page of at most `maxRows` rows (or bundles), with half of it as long as the answer is too large. The size
 * that worked comes back with the page, for the requests that follow; a page of one that is too large fails.
 *
 * @since 0.1.0
 * @category requests
 */
export const shrinking = <A, E extends { readonly _tag: string }, R>(
  maxRows: number,
  ask: (maxRows: number) => Effect.Effect<A, E, R>
): Effect.Effect<{ readonly page: A; readonly maxRows: number }, E, R> =>
  Effect.catchIf(
    Effect.map(ask(maxRows), (page) => ({ page, maxRows })),
    (error) => isTooLarge(error) && maxRows > 1,
    () => shrinking(Math.floor(maxRows / 2), ask)
  )
