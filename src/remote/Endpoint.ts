/**
 * Where requests go: the server's base address and the paths below it (wire.md §4).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { ConfigurationError } from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"

const invalid = (detail: string): Effect.Effect<never, ConfigurationError> =>
  raise((operation) => new ConfigurationError({ operation, code: "base_url_invalid", detail }))

/**
 * Brings the address of a deployment into normal form: `http` or `https`, path prefix kept, no slash at its end, white
 * space around it removed (push.md quirk 12). A query, a fragment or credentials in it, another scheme, or what is no
 * address at all: `ConfigurationError(base_url_invalid)`, which does not repeat the address.
 *
 * @since 0.1.0
 * @category constructors
 */
export const normaliseBaseUrl = (text: string): Effect.Effect<string, ConfigurationError> =>
  Effect.suspend(() => {
    const trimmed = text.trim()
    if (!URL.canParse(trimmed)) return invalid("the base URL is not an absolute URL")
    const url = new URL(trimmed)
    if (url.protocol !== "http:" && url.protocol !== "https:") {
      return invalid("the base URL is neither http nor https")
    }
    if (trimmed.includes("?") || trimmed.includes("#")) return invalid("the base URL has a query or a fragment")
    if (url.username !== "" || url.password !== "") return invalid("the base URL contains credentials")
    return Effect.succeed(`${url.origin}${url.pathname.replace(/\/+$/u, "")}`)
  })

const escape = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`

/**
 * One path segment with everything but unreserved characters percent-encoded, or `undefined` if the text cannot be a
 * segment: blank, not well-formed Unicode, or a dot segment, which URL parsers resolve even when it is encoded.
 *
 * @since 0.1.0
 * @category encoding
 */
export const encodeSegment = (text: string): string | undefined => {
  if (text === "" || text === "." || text === ".." || /\p{Surrogate}/u.test(text)) return undefined
  return encodeURIComponent(text).replace(/[!'()*]/gu, escape)
}
