/**
 * Keys of rows: the local `key_json` that the client's own tables use, and the key object of the wire (capture.md §5.3,
 * wire.md §2.1, payload-codec.md §4.1, §5, §6.3).
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { hexToUuid, uuidToHex } from "./BlobText.js"
import { encode } from "./CanonicalJson.js"
import { replaceLoneSurrogates } from "./JsonText.js"

/**
 * The kind of a key column: a text, or a blob of 16 bytes that travels as a UUID.
 *
 * @category models
 * @since 0.1.0
 */
export type KeyKind = "text" | "uuid"

/**
 * Why a key cannot be converted, with a code of the catalogue (errors.md §1.7):
 *
 * - `key_not_text`: no object with a string under the name of the key column
 * - `invalid_blob_uuid_key`: a local blob key that is not 16 bytes
 * - `payload_bad_wire_encoding`: a blob key on the wire that is no dashed UUID
 *
 * @category models
 * @since 0.1.0
 */
export type KeyProblem = "key_not_text" | "invalid_blob_uuid_key" | "payload_bad_wire_encoding"

/**
 * The canonical `key_json` (capture.md §5.3): exactly what SQLite's `json_object` writes. `member` is the lowercase key
 * column, `value` the text of the key, for blob keys its lowercase hex.
 *
 * @example
 * ```ts
 * import { SyncKey } from "oversqlite/protocol"
 *
 * SyncKey.localKey("id", "a<b") // {"id":"a<b"}
 * ```
 *
 * @category conversions
 * @since 0.1.0
 */
export const localKey = (member: string, value: string): string =>
  JSON.stringify({ [member]: replaceLoneSurrogates(value) })

const isMembers = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const textOf = (member: string, key: unknown): Either.Either<string, KeyProblem> => {
  const value = isMembers(key) && Object.hasOwn(key, member) ? key[member] : undefined
  return typeof value === "string" ? Either.right(value) : Either.left("key_not_text")
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * The text of a key: the value under `member` of a `key_json`, for blob keys hex digits.
 *
 * @category conversions
 * @since 0.1.0
 */
export const localValue = (member: string, keyJson: string): Either.Either<string, KeyProblem> =>
  textOf(member, parse(keyJson))

/**
 * The wire key of a `key_json`, as JSON text (payload-codec.md §4.1): text keys verbatim, blob keys as dashed lowercase
 * UUID.
 *
 * @category conversions
 * @since 0.1.0
 */
export const wireKey = (member: string, kind: KeyKind, keyJson: string): Either.Either<string, KeyProblem> =>
  localValue(member, keyJson).pipe(
    Either.flatMap((value) =>
      kind === "text"
        ? Either.right(value)
        : Either.mapLeft(hexToUuid(value), (): KeyProblem => "invalid_blob_uuid_key")
    ),
    Either.map((value) => localKey(member, value))
  )

/**
 * The `key_json` of a key object of the wire (payload-codec.md §5): UUIDs of blob keys, upper case tolerated, become hex.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromWire = (
  member: string,
  kind: KeyKind,
  wireKeyObject: unknown
): Either.Either<string, KeyProblem> =>
  textOf(member, wireKeyObject).pipe(
    Either.flatMap((value) =>
      kind === "text"
        ? Either.right(value)
        : Either.mapLeft(uuidToHex(value), (): KeyProblem => "payload_bad_wire_encoding")
    ),
    Either.map((value) => localKey(member, value))
  )

/**
 * The canonical JSON text of a whole key object. Keys of the wire are equal if these texts are (payload-codec.md §6.3).
 *
 * @category comparing
 * @since 0.1.0
 */
export const canonicalKey = (wireKeyObject: unknown): string => encode(wireKeyObject)
