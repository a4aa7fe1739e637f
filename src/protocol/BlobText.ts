/**
 * How the bytes of a blob column are written in JSON: as lowercase hex locally, as base64 or as a UUID on the wire
 * (payload-codec.md §2, §4, §5).
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { Buffer } from "node:buffer"

/**
 * The text is not in the form that was asked for.
 *
 * @category models
 * @since 0.1.0
 */
export type BlobTextProblem = "not_hex" | "not_base64" | "not_uuid"

const hex = /^(?:[\da-f]{2})*$/i
const hexOfUuid = /^[\da-f]{32}$/i
const dashedUuid = /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/i

/**
 * 32 hex digits as a dashed lowercase UUID. `not_uuid`: another number of digits, or something else than digits.
 *
 * @category conversions
 * @since 0.1.0
 */
export const hexToUuid = (text: string): Either.Either<string, BlobTextProblem> => {
  if (!hexOfUuid.test(text)) return Either.left("not_uuid")
  const digits = text.toLowerCase()
  return Either.right(
    `${digits.slice(0, 8)}-${digits.slice(8, 12)}-${digits.slice(12, 16)}-${digits.slice(16, 20)}-${digits.slice(20)}`
  )
}

/**
 * A dashed UUID of 36 characters, upper case tolerated, as 32 lowercase hex digits (payload-codec.md §5).
 *
 * @category conversions
 * @since 0.1.0
 */
export const uuidToHex = (text: string): Either.Either<string, BlobTextProblem> =>
  dashedUuid.test(text) ? Either.right(text.replaceAll("-", "").toLowerCase()) : Either.left("not_uuid")

/**
 * Hex digits as bytes; no digits are no bytes.
 *
 * @category conversions
 * @since 0.1.0
 */
export const hexToBytes = (text: string): Either.Either<Uint8Array, BlobTextProblem> =>
  text.length % 2 === 0 && hex.test(text)
    ? Either.right(new Uint8Array(Buffer.from(text, "hex")))
    : Either.left("not_hex")

/**
 * Bytes as lowercase hex digits.
 *
 * @category conversions
 * @since 0.1.0
 */
export const bytesToHex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")

/**
 * Standard base64 as bytes. Only the canonical spelling is taken, the one that encoding the bytes gives back: padded,
 * without white space, unused bits zero (payload-codec.md §5).
 *
 * @category conversions
 * @since 0.1.0
 */
export const base64ToBytes = (text: string): Either.Either<Uint8Array, BlobTextProblem> => {
  const buffer = Buffer.from(text, "base64")
  return buffer.toString("base64") === text ? Either.right(new Uint8Array(buffer)) : Either.left("not_base64")
}

/**
 * Bytes as standard base64 with padding.
 *
 * @category conversions
 * @since 0.1.0
 */
export const bytesToBase64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")

/**
 * Canonical base64 as lowercase hex digits, see {@link base64ToBytes}.
 *
 * @category conversions
 * @since 0.1.0
 */
export const base64ToHex = (text: string): Either.Either<string, BlobTextProblem> => {
  const buffer = Buffer.from(text, "base64")
  return buffer.toString("base64") === text ? Either.right(buffer.toString("hex")) : Either.left("not_base64")
}

/**
 * Hex digits as standard base64.
 *
 * @category conversions
 * @since 0.1.0
 */
export const hexToBase64 = (text: string): Either.Either<string, BlobTextProblem> =>
  Either.map(hexToBytes(text), bytesToBase64)
