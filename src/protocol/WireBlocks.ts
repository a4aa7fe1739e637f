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
 * A member that is always present on encoding; absent it decodes to the zero value. What `null` means is up to the schema:
 * those of `WireRow` take it for absent.
 *
 * @internal
 */
export const always = <A, I>(schema: Schema.Schema<A, I>, zero: () => NoInfer<A>) =>
  Schema.optionalWith(schema, { default: zero, exact: true })

/**
 * As {@link always}, but absent on encoding while it has its zero value.
 *
 * @internal
 */
export const unlessZero = <A, I>(schema: Schema.Schema<A, I>, zero: () => NoInfer<A>, isZero: (value: A) => boolean) =>
  Schema.optionalToRequired(schema, Schema.typeSchema(schema), {
    decode: Option.getOrElse(zero),
    encode: (value) => isZero(value) ? Option.none() : Option.some(value)
  })

/**
 * A schema that takes `null` for the zero value.
 *
 * @internal
 */
export const orNull = <A, I>(schema: Schema.Schema<A, I>, zero: () => NoInfer<A>) =>
  Schema.transform(Schema.NullOr(schema), Schema.typeSchema(schema), {
    strict: true,
    decode: (value) => value ?? zero(),
    encode: (value) => value
  })

/**
 * A text, blank where absent.
 *
 * @internal
 */
export const text = always(Row.Text, () => "")
/**
 * A text that is left out while blank.
 *
 * @internal
 */
export const textUnlessBlank = unlessZero(Row.Text, () => "", (value) => value === "")
/**
 * An integer within ±(2^53−1), 0 where absent.
 *
 * @internal
 */
export const integer = always(Row.Integer, () => 0)
/**
 * An integer within ±(2^53−1) that is left out while 0.
 *
 * @internal
 */
export const integerUnlessZero = unlessZero(Row.Integer, () => 0, (value) => value === 0)
/**
 * An integer of the signed 64-bit range, 0 where absent.
 *
 * @internal
 */
export const integer64 = always(Row.Integer64, () => 0)
/**
 * A boolean, false where absent.
 *
 * @internal
 */
export const flag = always(Row.Flag, () => false)

/**
 * A list that is left out while empty.
 *
 * @internal
 */
export const listUnlessEmpty = <A, I>(item: Schema.Schema<A, I>) =>
  unlessZero(orNull(Schema.Array(item), () => []), () => [], (value) => value.length === 0)

/**
 * An object of a request: member names match without regard to case (wire.md §1.4).
 *
 * @internal
 */
export const folded = <A, I>(schema: Schema.Schema<A, I>, known: ReadonlyArray<string>) => {
  const names = new Set(known)
  const isMembers = (value: unknown): value is Readonly<Record<string, unknown>> =>
    typeof value === "object" && value !== null && !Array.isArray(value)
  return Schema.declare<A, I, [typeof schema]>([schema], {
    decode: (inner) => (input, options) =>
      ParseResult.decodeUnknown(inner)(
        isMembers(input) ? Row.foldNames(input, names) : input,
        options
      ),
    encode: (inner) => (input, options) => ParseResult.encodeUnknown(inner)(input, options)
  })
}

/**
 * The body of a request: as {@link folded}, and `null` is an empty object (wire.md §1.4).
 *
 * @internal
 */
export const request = <A, I>(schema: Schema.Schema<A, I>, known: ReadonlyArray<string>) => {
  const inner = folded(schema, known)
  return Schema.declare<A, I, [typeof inner]>([inner], {
    decode: (body) => (input, options) => ParseResult.decodeUnknown(body)(input === null ? {} : input, options),
    encode: (body) => (input, options) => ParseResult.encodeUnknown(body)(input, options)
  })
}
