/** What an operation ended with, in a form that tables of tests can hold. */
import { assert } from "@effect/vitest"
import { Effect, Either } from "effect"

/** The error of an operation that must fail, with the fields that the test names. */
export const failsWith = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  expected: Readonly<Record<string, unknown>>
): Effect.Effect<E, never, R> =>
  Effect.map(Effect.either(self), (outcome) => {
    if (Either.isRight(outcome)) {
      return assert.fail(`succeeded with ${JSON.stringify(outcome.right)} instead of ${JSON.stringify(expected)}`)
    }
    const error = outcome.left
    const fields = typeof error === "object" && error !== null
      ? Object.fromEntries(Object.keys(expected).map((name) => [name, Reflect.get(error, name)]))
      : { error }
    assert.deepStrictEqual(fields, expected, String(error))
    return error
  })
