/**
 * An upload that the server refuses for its content (push.md §5.2).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { UploadRefused } from "../contract/SyncError.js"
import type { RowRef } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"
import * as SyncKey from "../protocol/SyncKey.js"
import { refusedRows } from "../protocol/WireError.js"
import type { Refusal, SyncApi } from "../remote/SyncApi.js"
import * as DirtyRows from "../storage/DirtyRows.js"
import * as Outbox from "../storage/Outbox.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import { findTable } from "../storage/SyncTable.js"
import type { DatabaseError } from "./Answers.js"
import * as ServerFeatures from "./ServerFeatures.js"
import * as Session from "./Session.js"
import { pageSizes } from "./SyncConfig.js"

/**
 * Whether a chunk may have been refused for its size: a session that was resumed does not know the server's limits. They
 * are asked for once; smaller ones are worth another attempt (client-state.md §3.1).
 *
 * @since 0.1.0
 * @category deciding
 */
export const hasSmallerLimit = Effect.fnUntraced(function*(
  refusal: Refusal,
  frozenRowCount: number
): Effect.fn.Return<boolean, never, SyncApi | Session.Session> {
  const { config } = yield* Session.Session
  const memory = yield* Session.memory
  const isNamed = refusal.body !== undefined && refusedRows(refusal.body).length > 0
  if (refusal.request !== "push_chunk_upload" || memory.limits !== undefined || isNamed) return false
  yield* Effect.ignore(ServerFeatures.learn)
  const { limits } = yield* Session.memory
  const sent = Math.min(pageSizes(config, undefined).uploadRows, frozenRowCount)
  return limits !== undefined && pageSizes(config, limits).uploadRows < sent
})

/** The rows that the server has named, by their local keys where those can be told. */
const namedRows = (refusal: Refusal): Effect.Effect<ReadonlyArray<RowRef>, never, SyncDatabase> =>
  Effect.gen(function*() {
    const db = yield* SyncDatabase
    const tables = yield* db.tables
    return refusal.body === undefined ? [] : refusedRows(refusal.body).map(({ key, schema, table }) => {
      const known = findTable(tables, table)
      const local = known === undefined ? undefined : SyncKey.fromWire(known.key.name, known.keyKind, key)
      return {
        schema,
        table,
        key: local !== undefined && Either.isRight(local) ? local.right : JSON.stringify(key)
      }
    })
  })

/**
 * Thaws the upload, so that its rows are ordinary pending rows again, and fails with `UploadRefused`. The number is not
 * used up.
 *
 * @since 0.1.0
 * @category transitions
 */
export const refuse = (
  refusal: Refusal
): Effect.Effect<never, UploadRefused | DatabaseError, SyncDatabase | Session.Session> =>
  Effect.gen(function*() {
    const db = yield* SyncDatabase
    // The freeze has left no dirty row behind: those that are there now were written since.
    const writtenDuringUpload = yield* db.transaction(Effect.zipLeft(DirtyRows.exists, Outbox.thaw))
    yield* Session.remember({ writtenDuringUpload })
    const rows = yield* namedRows(refusal)
    return yield* raise((operation) =>
      new UploadRefused({
        operation,
        request: refusal.request,
        status: refusal.status,
        serverCode: refusal.serverCode,
        rows
      })
    )
  })
