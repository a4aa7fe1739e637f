import { Buffer } from "node:buffer"
import { readFileSync } from "node:fs"
import { JsonText } from "oversqlite/protocol"

/** A published vector of the canonical form (hashing.md §7.3); `out` is absent where canonicalisation must fail. */
export interface Vector {
  readonly id: string
  readonly kind: "json" | "bundle_hash" | "request_hash"
  readonly in?: string
  readonly in_b64?: string
  readonly out?: string
  readonly sha256?: string
  readonly bytes?: number
  readonly error?: boolean
}

/** All published vectors. */
export const vectors: ReadonlyArray<Vector> = readFileSync(new URL("./vectors.jsonl", import.meta.url), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line))

/** The input text of a vector; the row arrays of the hash vectors stand for themselves. */
export const inputOf = (vector: Vector): string =>
  vector.in_b64 === undefined
    ? vector.in ?? vector.out ?? ""
    : JsonText.decodeUtf8(Buffer.from(vector.in_b64, "base64"))
