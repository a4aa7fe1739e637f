/**
 * The canonical JSON form that every hash of the protocol is computed over (hashing.md §1). It is not RFC 8785: `<`, `>`,
 * `&`, U+2028 and U+2029 are escaped, members are sorted by code point, and negative zero keeps its sign.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import { replaceLoneSurrogates, wellFormed } from "./JsonText.js"

/**
 * Why a JSON text has no canonical form (hashing.md §1.1).
 *
 * - `syntax`: not JSON, or something follows the value
 * - `number_out_of_range`: a number beyond binary64 (`1e309`)
 * - `nesting`: arrays and objects nested deeper than {@link maxNesting}
 *
 * @category errors
 * @since 0.1.0
 */
export class CanonicalJsonError extends Data.TaggedError("CanonicalJsonError")<{
  readonly reason: "syntax" | "number_out_of_range" | "nesting"
}> {
  override get message() {
    return `no canonical JSON form: ${this.reason}`
  }
}

/**
 * Deepest nesting of arrays and objects that has a canonical form (hashing.md §1.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const maxNesting = 10_000

const needsEscape = /[\u0000-\u001f"\\<>&\u2028\u2029\ud800-\udfff]/
const htmlCharacter = /[<>&\u2028\u2029]/g
const surrogate = /[\ud800-\udfff]/

const escapeHtml = (character: string) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0")

/**
 * The canonical form of a text, quotes included (hashing.md §1.3).
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeString = (text: string): string =>
  needsEscape.test(text)
    ? JSON.stringify(replaceLoneSurrogates(text)).replace(htmlCharacter, escapeHtml)
    : "\"" + text + "\""

/**
 * The canonical spelling of a number: the shortest decimal that reads back as the same binary64, `-0` included
 * (hashing.md §1.4). A number that is not finite has no canonical form and is spelled as ECMAScript does.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeNumber = (value: number): string => value === 0 && 1 / value < 0 ? "-0" : String(value)

/** How the numbers of a text are spelled. */
interface Spelling {
  readonly number: (value: number) => string
  readonly integer: (value: bigint) => string
}

/** A number of the hash goes through binary64 (hashing.md §1.1). */
const canonical: Spelling = { number: encodeNumber, integer: (value) => encodeNumber(Number(value)) }

/** The canonical text of anything but an array or object, `undefined` for those. */
const encodeScalar = (value: unknown, spelling: Spelling): string | undefined => {
  switch (typeof value) {
    case "string":
      return encodeString(value)
    case "number":
      return spelling.number(value)
    case "boolean":
      return value ? "true" : "false"
    case "bigint":
      return spelling.integer(value)
    case "object":
      return value === null ? "null" : undefined
    default:
      return "null"
  }
}

/** Surrogates stand for code points above U+FFFF, so they rank after U+E000–U+FFFF. */
const rank = (unit: number) => unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800

const codePointOrder = (left: string, right: string): number => {
  const length = Math.min(left.length, right.length)
  for (let index = 0; index < length; index++) {
    const difference = rank(left.charCodeAt(index)) - rank(right.charCodeAt(index))
    if (difference !== 0) return difference
  }
  return left.length - right.length
}

type JsonObject = Readonly<Record<string, unknown>>

/** An array or object on its way out; `names` is `undefined` for an array. */
interface Frame {
  readonly names: ReadonlyArray<string> | undefined
  readonly members: JsonObject
  readonly elements: ReadonlyArray<unknown>
  readonly length: number
  index: number
  separator: string
}

const noElements: ReadonlyArray<unknown> = []
const noMembers: JsonObject = {}

/** Member names whose order cannot be left to UTF-16 comparison; unpaired surrogates become U+FFFD, the last name wins. */
const openUnusual = (names: ReadonlyArray<string>, value: JsonObject): Frame => {
  const entries = new Map(names.map((name) => [replaceLoneSurrogates(name), value[name]]))
  const sorted = Array.from(entries.keys()).sort(codePointOrder)
  const members: Record<string, unknown> = Object.create(null)
  for (const [name, member] of entries) {
    members[name] = member
  }
  return { names: sorted, members, elements: noElements, length: sorted.length, index: 0, separator: "{" }
}

const openObject = (value: JsonObject): Frame => {
  const names = Object.keys(value)
  let ascending = true
  let previous = ""
  for (let index = 0; index < names.length; index++) {
    const name = names[index] ?? ""
    if (surrogate.test(name)) return openUnusual(names, value)
    // Without surrogates UTF-16 order is code point order, and a server's answer is sorted already.
    if (index > 0 && name < previous) ascending = false
    previous = name
  }
  if (!ascending) names.sort()
  return { names, members: value, elements: noElements, length: names.length, index: 0, separator: "{" }
}

const isArray = (value: unknown): value is ReadonlyArray<unknown> => Array.isArray(value)
const isObject = (value: unknown): value is JsonObject => typeof value === "object" && value !== null

const open = (value: unknown): Frame =>
  isArray(value)
    ? { names: undefined, members: noMembers, elements: value, length: value.length, index: 0, separator: "[" }
    : openObject(isObject(value) ? value : noMembers)

/** Explicit frames instead of recursion: the depth of what a server sends must not decide about our stack. */
const encodeFrames = (value: unknown, spelling: Spelling): string => {
  const parents: Array<Frame> = []
  let frame = open(value)
  let text = ""
  for (;;) {
    if (frame.index === frame.length) {
      const close = frame.names === undefined ? "]" : "}"
      text += frame.separator === "," ? close : frame.separator + close
      const parent = parents.pop()
      if (parent === undefined) return text
      frame = parent
      continue
    }
    const name = frame.names?.[frame.index]
    const child = name === undefined ? frame.elements[frame.index] : frame.members[name]
    frame.index += 1
    if (name !== undefined) {
      if (child === undefined) continue
      text += frame.separator + encodeString(name) + ":"
    } else {
      text += frame.separator
    }
    frame.separator = ","
    const scalar = encodeScalar(child, spelling)
    if (scalar === undefined) {
      parents.push(frame)
      frame = open(child)
    } else {
      text += scalar
    }
  }
}

/**
 * The canonical text of a parsed JSON value: of anything that `JSON.parse` or `ExactJson.parse` returns. A `bigint` goes
 * through binary64 like every number of the protocol's hashes (hashing.md §1.1). Total: a number that is not finite, which
 * only a number beyond binary64 in the text can bring about, has no canonical form and is written as `Infinity`, so that no
 * server's hash agrees with it.
 *
 * @example
 * ```ts
 * import { CanonicalJson } from "oversqlite/protocol"
 *
 * CanonicalJson.encode({ b: 1, a: "x & y" }) // {"a":"x \u0026 y","b":1}
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (value: unknown): string => encodeScalar(value, canonical) ?? encodeFrames(value, canonical)

/**
 * As {@link encode}, but a `bigint` keeps its digits (wire.md §12, `exact_integers`); other numbers may be spelled otherwise.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeExact = (value: unknown, number: (value: number) => string = encodeNumber): string => {
  const exact: Spelling = { number, integer: String }
  return encodeScalar(value, exact) ?? encodeFrames(value, exact)
}

/**
 * How deep the arrays and objects of a value nest, and whether all of its numbers are finite.
 *
 * @category models
 * @since 0.1.0
 */
export interface Extent {
  readonly depth: number
  readonly finite: boolean
}

/**
 * Measures a parsed JSON value, level by level: its depth does not matter to the stack.
 *
 * @category getters
 * @since 0.1.0
 */
export const extent = (value: unknown): Extent => {
  let depth = 0
  let finite = true
  let level: Array<unknown> = [value]
  while (level.length > 0) {
    const next: Array<unknown> = []
    let nested = false
    for (const item of level) {
      if (typeof item === "number") {
        finite &&= Number.isFinite(item)
      } else if (typeof item === "object" && item !== null) {
        nested = true
        for (const child of Object.values(item)) {
          next.push(child)
        }
      }
    }
    if (nested) depth += 1
    level = next
  }
  return { depth, finite }
}

// Only these texts can hold a number beyond binary64.
const mayOverflow = /[eE]\+?0*\d{2,}|\d{300}/

/**
 * The canonical form of a JSON text (hashing.md §1). Of several members with one name the last counts; unpaired
 * surrogates become U+FFFD. Bytes are turned into text by `JsonText.decodeUtf8` first.
 *
 * @example
 * ```ts
 * import { CanonicalJson } from "oversqlite/protocol"
 * import * as Either from "effect/Either"
 *
 * CanonicalJson.canonicalize(" { \"b\": 1.10, \"a\": -0 } ").pipe(Either.getOrThrow) // {"a":-0,"b":1.1}
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const canonicalize = (text: string): Either.Either<string, CanonicalJsonError> => {
  let value: unknown
  try {
    value = JSON.parse(wellFormed(text))
  } catch {
    return Either.left(new CanonicalJsonError({ reason: "syntax" }))
  }
  if (text.length > 2 * maxNesting || mayOverflow.test(text)) {
    const { depth, finite } = extent(value)
    if (depth > maxNesting) return Either.left(new CanonicalJsonError({ reason: "nesting" }))
    if (!finite) return Either.left(new CanonicalJsonError({ reason: "number_out_of_range" }))
  }
  return Either.right(encode(value))
}
