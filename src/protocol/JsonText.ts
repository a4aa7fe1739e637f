/**
 * The text below JSON: bytes into text, and text into well-formed Unicode, by the rules of the reference server
 * (wire.md §1.4, hashing.md §1.1).
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"

/** How many bytes a sequence starting with `lead` has, and the range its second byte must lie in; 0 for a bad lead. */
const sequence = (lead: number): readonly [length: number, lowest: number, highest: number] => {
  if (lead >= 0xc2 && lead <= 0xdf) return [2, 0x80, 0xbf]
  if (lead === 0xe0) return [3, 0xa0, 0xbf]
  if (lead === 0xed) return [3, 0x80, 0x9f]
  if (lead >= 0xe1 && lead <= 0xef) return [3, 0x80, 0xbf]
  if (lead === 0xf0) return [4, 0x90, 0xbf]
  if (lead === 0xf4) return [4, 0x80, 0x8f]
  if (lead >= 0xf1 && lead <= 0xf3) return [4, 0x80, 0xbf]
  return [0, 0, 0]
}

/** Length of the valid sequence that starts at `at`, 0 if none does. */
const validSequence = (bytes: Uint8Array, at: number): number => {
  const lead = bytes[at] ?? 0
  if (lead < 0x80) return 1
  const [length, lowest, highest] = sequence(lead)
  const second = bytes[at + 1] ?? 0
  if (length === 0 || second < lowest || second > highest) return 0
  for (let index = 2; index < length; index++) {
    const next = bytes[at + index] ?? 0
    if (next < 0x80 || next > 0xbf) return 0
  }
  return length
}

/**
 * UTF-8 bytes as text. Each byte that is not part of a valid sequence becomes one U+FFFD, where `TextDecoder` would
 * merge truncated sequences (hashing.md §1.1). A byte order mark is kept, so that JSON parsing refuses it (wire.md §1.4).
 *
 * @example
 * ```ts
 * import { JsonText } from "oversqlite/protocol"
 *
 * JsonText.decodeUtf8(Uint8Array.of(0xe2, 0x82, 0x41)) // "\ufffd\ufffdA"
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeUtf8 = (bytes: Uint8Array): string => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (isUtf8(buffer)) return buffer.toString("utf8")
  let text = ""
  let valid = 0
  let at = 0
  while (at < buffer.length) {
    const length = validSequence(buffer, at)
    if (length === 0) {
      text += buffer.toString("utf8", valid, at) + "\ufffd"
      at += 1
      valid = at
    } else {
      at += length
    }
  }
  return text + buffer.toString("utf8", valid, at)
}

const loneSurrogate = /\p{Surrogate}/gu
const anySurrogate = /[\ud800-\udfff]|\\u[dD][89a-fA-F]/
// An escaped backslash is consumed first, so that every other `\u` in the text is an escape; then pairs, then the rest.
const escapes = /\\\\|\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|\\u[dD][89a-fA-F][\da-fA-F]{2}/g

/**
 * JSON text in which every unpaired surrogate, raw or as a `\u` escape, is replaced by U+FFFD (wire.md §1.4). Text
 * without one comes back as it is.
 *
 * @category decoding
 * @since 0.1.0
 */
export const wellFormed = (text: string): string =>
  anySurrogate.test(text)
    ? text.replace(loneSurrogate, "\ufffd")
      .replace(escapes, (escape) => escape.length === 6 ? "\ufffd" : escape)
    : text

/**
 * Where the value of a top-level member stands in a JSON text: characters `start` (0-based) up to but not including `end`.
 *
 * @category models
 * @since 0.1.0
 */
export interface MemberSpan {
  readonly name: string
  readonly start: number
  readonly end: number
}

const whitespace = /[ \t\n\r]*/y
const bare = /[^,\]}\s]*/y

const after = (pattern: RegExp, text: string, at: number): number => {
  pattern.lastIndex = at
  pattern.test(text)
  return pattern.lastIndex
}

const skipSpace = (text: string, at: number): number => text.charCodeAt(at) > 0x20 ? at : after(whitespace, text, at)

/**
 * What a JSON string says, quotes included in `literal`.
 *
 * @category decoding
 * @since 0.1.0
 */
export const unquote = (literal: string): string =>
  literal.includes("\\") ? String(JSON.parse(literal)) : literal.slice(1, -1)

/** End of the string that starts at `at`: the next quote with an even number of backslashes before it. */
const stringEnd = (text: string, at: number): number => {
  for (let quote = text.indexOf("\"", at + 1); quote !== -1; quote = text.indexOf("\"", quote + 1)) {
    let backslash = quote - 1
    while (text[backslash] === "\\") backslash -= 1
    if ((quote - backslash) % 2 === 1) return quote + 1
  }
  return text.length
}

/**
 * How far a JSON value reaches: up to but not including the character `end`, in arrays and objects nested `depth` deep.
 *
 * @category models
 * @since 0.1.0
 */
export interface ValueExtent {
  readonly end: number
  readonly depth: number
}

const bracket = /["[\]{}]/g

const compositeExtent = (text: string, start: number): ValueExtent => {
  let open = 0
  let depth = 0
  bracket.lastIndex = start
  for (let match = bracket.exec(text); match !== null; match = bracket.exec(text)) {
    if (match[0] === "\"") {
      bracket.lastIndex = stringEnd(text, match.index)
    } else if (match[0] === "{" || match[0] === "[") {
      open += 1
      if (open > depth) depth = open
    } else {
      open -= 1
      if (open === 0) return { end: match.index + 1, depth }
    }
  }
  return { end: text.length, depth }
}

const valueEnd = (text: string, at: number): number => {
  switch (text[at]) {
    case "\"":
      return stringEnd(text, at)
    case "{":
    case "[":
      return compositeExtent(text, at).end
    default:
      return after(bare, text, at)
  }
}

// A number goes on as long as it can; whether it is one, parsing tells.
const scalar = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][+-]?\d*)?/y

/**
 * The extent of the first value of a text that more may follow. Where no value begins or none ends, it is all of the text,
 * which then is no JSON.
 *
 * @category decoding
 * @since 0.1.0
 */
export const firstValue = (text: string): ValueExtent => {
  const start = skipSpace(text, 0)
  switch (text[start]) {
    case "{":
    case "[":
      return compositeExtent(text, start)
    case "\"":
      return { end: stringEnd(text, start), depth: 0 }
    default:
      return { end: after(scalar, text, start) || text.length, depth: 0 }
  }
}

/**
 * Gives an object a member of its own, also where its name is that of the prototype.
 *
 * @internal
 */
export const setMember = (members: Record<string, unknown>, name: string, value: unknown): void => {
  if (name === "__proto__") {
    Object.defineProperty(members, name, { value, configurable: true, enumerable: true, writable: true })
  } else {
    members[name] = value
  }
}

const words: Readonly<Record<string, unknown>> = { true: true, false: false, null: null }

/**
 * The value of a text that is known to be JSON, with numbers as `number` reads them. Containers are kept in a list: the
 * depth of what somebody sends must not decide about our stack.
 *
 * @category decoding
 * @since 0.1.0
 */
export const valueOf = (json: string, number: (literal: string) => unknown): unknown => {
  const outer: Array<Array<unknown> | Record<string, unknown>> = []
  let inner: Array<unknown> | Record<string, unknown> = []
  let name: string | undefined
  const put = (value: unknown): void => {
    if (Array.isArray(inner)) inner.push(value)
    else setMember(inner, name ?? "", value)
    name = undefined
  }
  const open = (value: Array<unknown> | Record<string, unknown>): void => {
    put(value)
    outer.push(inner)
    inner = value
  }
  for (let at = skipSpace(json, 0); at < json.length; at = skipSpace(json, at)) {
    const start = at
    at += 1
    switch (json[start]) {
      case ",":
      case ":":
        break
      case "{":
        open({})
        break
      case "[":
        open([])
        break
      case "}":
      case "]":
        inner = outer.pop() ?? []
        break
      case "\"": {
        at = stringEnd(json, start)
        const text = unquote(json.slice(start, at))
        if (name === undefined && !Array.isArray(inner)) name = text
        else put(text)
        break
      }
      default: {
        at = after(bare, json, start)
        const literal = json.slice(start, at)
        put(literal in words ? words[literal] : number(literal))
      }
    }
  }
  return Array.isArray(inner) ? inner[0] : undefined
}

/**
 * The top-level members of a JSON object in their order in the text, so that single values can be replaced without
 * respelling the others. `undefined` if the text is no JSON object.
 *
 * @category decoding
 * @since 0.1.0
 */
export const members = (text: string): ReadonlyArray<MemberSpan> | undefined => {
  try {
    JSON.parse(text)
  } catch {
    return undefined
  }
  const spans: Array<MemberSpan> = []
  let at = skipSpace(text, 0)
  if (text[at] !== "{") return undefined
  at = skipSpace(text, at + 1)
  while (text[at] === "\"") {
    const nameEnd = stringEnd(text, at)
    const name = unquote(text.slice(at, nameEnd))
    const start = skipSpace(text, skipSpace(text, nameEnd) + 1)
    const end = valueEnd(text, start)
    spans.push({ name, start, end })
    at = skipSpace(text, skipSpace(text, end) + 1)
  }
  return spans
}

/**
 * Text with every unpaired surrogate replaced by U+FFFD.
 *
 * @category decoding
 * @since 0.1.0
 */
export const replaceLoneSurrogates = (text: string): string => text.replace(loneSurrogate, "\ufffd")
