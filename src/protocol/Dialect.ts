/**
 * What may differ between generations of servers that all call their protocol `v1` (wire.md §11, §12, DESIGN D11).
 *
 * @since 0.1.0
 */
import type { Capabilities } from "./Wire.js"
import { protocolVersion } from "./Wire.js"

/**
 * The dialect of a server:
 *
 * - `v1`: the one this package speaks
 * - `v1-strings`: a later one of the same version name, incompatible: numbers as strings, RFC 8785 hashes (wire.md §11)
 * - `other`: another protocol version
 *
 * @category models
 * @since 0.1.0
 */
export type Dialect = "v1" | "v1-strings" | "other"

/**
 * The dialect a server announces. A blank version is taken for this one, as the reference client takes it
 * (lifecycle.md §4.2).
 *
 * @category detection
 * @since 0.1.0
 */
export const detect = (capabilities: Capabilities): Dialect => {
  if (capabilities.protocol_version !== "" && capabilities.protocol_version !== protocolVersion) return "other"
  return capabilities.bundle_limits.default_bytes_per_snapshot_chunk !== 0 ? "v1-strings" : "v1"
}

/**
 * Extensions a server may have; a client works without each of them (wire.md §12).
 *
 * @category models
 * @since 0.1.0
 */
export interface Features {
  /** Integers in payloads keep every digit of the signed 64-bit range. */
  readonly exactIntegers: boolean
  /** A refused commit lists all conflicting rows. */
  readonly batchConflicts: boolean
  /** Capability, pull and snapshot-session answers carry `history_id`. */
  readonly historyId: boolean
  /** A refused chunk or commit names the rows. */
  readonly namedRefusals: boolean
  /** `GET /sync/watch` is available to this caller (wire.md §4.8). */
  readonly changeWatch: boolean
}

/**
 * The extensions of this server; absent means no (wire.md §4.12, §12).
 *
 * @category detection
 * @since 0.1.0
 */
export const features = ({ features: names }: Capabilities): Features => ({
  exactIntegers: names["exact_integers"] === true,
  batchConflicts: names["batch_conflicts"] === true,
  historyId: names["history_id"] === true,
  namedRefusals: names["named_refusals"] === true,
  changeWatch: names["bundle_change_watch"] === true
})
