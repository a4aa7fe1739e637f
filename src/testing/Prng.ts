/**
 * The pseudo-random decisions of a simulation: the same seed, the same decisions, on every machine.
 *
 * @since 0.1.0
 */

/**
 * A stream of decisions.
 *
 * @since 0.1.0
 * @category models
 */
export interface Prng {
  /** A number of [0, 1). */
  readonly next: () => number
  /** A whole number of [0, `below`). */
  readonly integer: (below: number) => number
  /** Whether something of this probability (0 to 1) happens. */
  readonly chance: (probability: number) => boolean
  /** An element; `undefined` of an empty list. */
  readonly pick: <A>(from: ReadonlyArray<A>) => A | undefined
  /** The name of an entry, as often as its weight says; `undefined` if all weights are 0. */
  readonly weighted: <Name extends string>(weights: Readonly<Record<Name, number>>) => Name | undefined
  /** A version-4 UUID in lowercase dashed text. */
  readonly uuid: () => string
}

const hashText = (text: string): number => {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return hash >>> 0
}

/**
 * A stream of decisions from a seed. Parts are mixed in, so that one seed gives many independent streams.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (...seed: ReadonlyArray<string | number>): Prng => {
  let state = hashText(seed.join("/"))
  // mulberry32: 32 bits of state suffice for decisions.
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  const integer = (below: number) => Math.floor(next() * below)
  return {
    next,
    integer,
    chance: (probability) => next() < probability,
    pick: (from) => from[integer(from.length)],
    weighted: <Name extends string>(weights: Readonly<Record<Name, number>>) => {
      const names = Object.keys(weights) as Array<Name>
      let left = next() * names.reduce((sum, name) => sum + weights[name], 0)
      return names.find((name) => {
        left -= weights[name]
        return left < 0
      })
    },
    uuid: () => {
      const digits = Array.from({ length: 32 }, () => integer(16).toString(16))
      digits[12] = "4"
      digits[16] = (8 + integer(4)).toString(16)
      const text = digits.join("")
      return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-")
    }
  }
}
