/**
 * Query parameters by the rules of the wire (wire.md §1.7).
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as JsonText from "../protocol/JsonText.js"

const badEscape = /%(?![\da-f]{2})/i

/**
 * Text without its percent escapes, `undefined` where one is none. The escapes are bytes; those that are no UTF-8 are
 * decoded all the same.
 *
 * @since 0.1.0
 * @category decoding
 */
export const percentDecode = (text: string): string | undefined =>
  badEscape.test(text) ? undefined : JsonText.decodeUtf8(Buffer.from(
    text.replace(/%([\da-f]{2})/gi, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16))),
    "latin1"
  ))

const decodePart = (text: string): string | undefined => percentDecode(text.replaceAll("+", " "))

/**
 * The parameters of a request target: of a repeated one the first counts; pairs that cannot be decoded or contain `;` are
 * left out.
 *
 * @since 0.1.0
 * @category decoding
 */
export const parse = (url: string): ReadonlyMap<string, string> => {
  const parameters = new Map<string, string>()
  const start = url.indexOf("?")
  if (start === -1) return parameters
  for (const pair of url.slice(start + 1).split("#")[0]?.split("&") ?? []) {
    if (pair === "" || pair.includes(";")) continue
    const equals = pair.indexOf("=")
    const name = decodePart(equals === -1 ? pair : pair.slice(0, equals))
    const value = decodePart(equals === -1 ? "" : pair.slice(equals + 1))
    if (name !== undefined && value !== undefined && !parameters.has(name)) parameters.set(name, value)
  }
  return parameters
}

const largest = 2n ** 63n - 1n
const smallest = -(2n ** 63n)

/**
 * A number of the wire: decimal, signed, 64 bits; `undefined` where the text is none.
 *
 * @since 0.1.0
 * @category decoding
 */
export const integer = (text: string): bigint | undefined => {
  if (!/^[+-]?\d+$/.test(text)) return undefined
  const value = BigInt(text.startsWith("+") ? text.slice(1) : text)
  return value < smallest || value > largest ? undefined : value
}

/**
 * A numeric parameter: `absent` where it is missing or empty, `undefined` where it is no number.
 *
 * @since 0.1.0
 * @category decoding
 */
export const number = <A>(
  parameters: ReadonlyMap<string, string>,
  name: string,
  absent: A
): bigint | A | undefined => {
  const text = parameters.get(name) ?? ""
  return text === "" ? absent : integer(text)
}
