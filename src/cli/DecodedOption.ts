/**
 * Options whose text must have a certain form.
 *
 * @since 0.1.0
 */
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * An option that is decoded by a schema; a text that cannot be decoded is refused with the option's name and `expected`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const decoded = <A>(name: string, schema: Schema.Schema<A, string>, expected: string): Options.Options<A> =>
  Options.mapEffect(Options.text(name), (text) =>
    Effect.mapError(
      Schema.decode(schema)(text),
      () => ValidationError.invalidValue(HelpDoc.p(`--${name}: must be ${expected}, not ${JSON.stringify(text)}`))
    ))
