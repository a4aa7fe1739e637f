/**
 * The building blocks of the envelopes: what is absent or null, and what is left out (wire.md §1.4, §1.5).
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Row from "./WireRow.js"

/**
 * Always present on encoding; absent or null decodes to the zero value.
 *
 * @internal
 */
export const always = <A, I>(schema: Schema.Schema<A, I>, zero: () => NoInfer<A>) =>
  Schema.optionalWith(schema, { default: zero, nullable: true })

/**
 * As {@link always}, but absent on encoding while it has its zero value.
 *
 * @internal
 */
export const unlessZero = <A, I>(schema: Schema.Schema<A, I>, zero: () => NoInfer<A>, isZero: (value: A) => boolean) =>
  Schema.optionalToRequired(Schema.NullOr(schema), Schema.typeSchema(schema), {
    decode: (given) => Option.getOrElse(Option.flatMapNullable(given, (value) => value), zero),
    encode: (value) => isZero(value) ? Option.none() : Option.some(value)
  })

/** @internal */
export const text = always(Schema.String, () => "")
/** @internal */
export const textUnlessBlank = unlessZero(Schema.String, () => "", (value) => value === "")
/** @internal */
export const integer = always(Row.Integer, () => 0)
/** @internal */
export const integerUnlessZero = unlessZero(Row.Integer, () => 0, (value) => value === 0)
/** @internal */
export const integer64 = always(Row.Integer64, () => 0)
/** @internal */
export const flag = always(Schema.Boolean, () => false)

/** @internal */
export const listUnlessEmpty = <A, I>(item: Schema.Schema<A, I>) =>
  unlessZero(Schema.Array(item), () => [], (value) => value.length === 0)

/**
 * `null` is an empty object, and member names match without regard to case (wire.md §1.4).
 *
 * @internal
 */
export const request = <A, I>(schema: Schema.Schema<A, I>, known: ReadonlyArray<string>) => {
  const names = new Set(known)
  const isMembers = (value: unknown): value is Readonly<Record<string, unknown>> =>
    typeof value === "object" && value !== null && !Array.isArray(value)
  return Schema.declare<A, I, [typeof schema]>([schema], {
    decode: (inner) => (input, options) =>
      ParseResult.decodeUnknown(inner)(
        input === null ? {} : isMembers(input) ? Row.foldNames(input, names) : input,
        options
      ),
    encode: (inner) => (input, options) => ParseResult.encodeUnknown(inner)(input, options)
  })
}
