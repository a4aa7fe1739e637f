/**
 * What the server answers instead of a success (wire.md §6).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Op, WireKey } from "../protocol/Wire.js"
import { isWireErrorCode, RefusedRow, statusOf } from "../protocol/WireError.js"
import type { WireErrorCode } from "../protocol/WireError.js"

const Code = Schema.String.pipe(Schema.filter((code): code is WireErrorCode => isWireErrorCode(code)))

/**
 * A row of a push that another bundle has overtaken (wire.md §2.5). `serverRow` is the stored JSON text of the current
 * row, `null` for a tombstone and for a row that never existed; the latter has `serverRowVersion` 0.
 *
 * @since 0.1.0
 * @category models
 */
export const RowConflict = Schema.Struct({
  schema: Schema.String,
  table: Schema.String,
  key: WireKey,
  op: Op,
  baseRowVersion: Schema.Number,
  serverRowVersion: Schema.Number,
  serverRowDeleted: Schema.Boolean,
  serverRow: Schema.NullOr(Schema.String)
})

/**
 * A row of a push that another bundle has overtaken (wire.md §2.5).
 *
 * @since 0.1.0
 * @category models
 */
export type RowConflict = typeof RowConflict.Type

/**
 * The server refuses a request. `code` is the code of the wire and decides the status; `message` is for people and not a
 * contract. The other members belong to single codes: `conflicts` to `push_conflict` (all of them, in row order, at most
 * 1000), `rows` to refused uploads (`named_refusals`), the source ids to `source_retired`.
 *
 * @since 0.1.0
 * @category errors
 */
export class SyncRefused extends Schema.TaggedError<SyncRefused>("oversqlite/SyncRefused")("SyncRefused", {
  code: Code,
  message: Schema.String,
  conflicts: Schema.optional(Schema.Array(RowConflict)),
  rows: Schema.optional(Schema.Array(RefusedRow)),
  sourceId: Schema.optional(Schema.String),
  replacedBySourceId: Schema.optional(Schema.String)
}) {
  /** The HTTP status of the code. */
  get status(): number {
    return statusOf[this.code]
  }
}

/**
 * A refusal without further members.
 *
 * @since 0.1.0
 * @category constructors
 */
export const refused = (code: WireErrorCode, message: string): SyncRefused => new SyncRefused({ code, message })
