import { FastCheck } from "effect"

/** One seed for every property, so that a run is the same everywhere. */
export const seeded = { seed: 20_260_608, numRuns: 500 } as const

/** Characters that codecs trip over, among ordinary ones. */
const character = FastCheck.oneof(
  { weight: 6, arbitrary: FastCheck.fullUnicode() },
  {
    weight: 4,
    arbitrary: FastCheck.constantFrom(
      ..."<>&\"\\/\b\f\n\r\t\u0000\u001f\u007f\u2028\u2029\ue000\uff5e\ufeff\ufffd",
      "\u{1f600}",
      "\u{10ffff}"
    )
  }
)

/** Well-formed text of any characters, long or short. */
export const text = FastCheck.stringOf(character, { maxLength: 20 })

/** As {@link text}, without U+0000, which SQLite's C strings end at. */
export const storableText = text.map((value) => value.replaceAll("\u0000", ""))

const double = FastCheck.oneof(
  FastCheck.double({ noNaN: true, noDefaultInfinity: true }),
  FastCheck.constantFrom(
    0,
    -0,
    0.1,
    1.5,
    5e-324,
    1e-7,
    0.000001,
    1e20,
    1e21,
    1e23,
    2 ** 53,
    -(2 ** 53),
    2 ** 63,
    1.7976931348623157e308,
    123456789.12345679
  )
)

/** Finite doubles, with the edges of every layout rule. */
export const finiteDouble = double

/** Any JSON value of objects, arrays, texts, finite numbers, booleans and null. */
export const json: FastCheck.Arbitrary<unknown> = FastCheck.letrec((tie) => ({
  value: FastCheck.oneof(
    { depthSize: "small", withCrossShrink: true },
    text,
    double,
    FastCheck.boolean(),
    FastCheck.constant(null),
    FastCheck.array(tie("value"), { maxLength: 4 }),
    FastCheck.uniqueArray(FastCheck.tuple(text, tie("value")), { maxLength: 6, selector: ([name]) => name })
      .map((entries) => Object.fromEntries(entries))
  )
})).value

/** An integer of the signed 64-bit range as SQLite holds it: a number where a number is exact. */
export const int64 = FastCheck.oneof(
  FastCheck.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  FastCheck.constantFrom(2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n), 2n ** 63n - 1n, -(2n ** 63n), 0n)
).map((value) => Number.isSafeInteger(Number(value)) ? Number(value) : value)

/** Sixteen bytes. */
export const uuidBytes = FastCheck.uint8Array({ minLength: 16, maxLength: 16 })

/** Any bytes, also none. */
export const bytes = FastCheck.uint8Array({ maxLength: 40 })
