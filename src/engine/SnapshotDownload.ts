/**
 * Bringing a snapshot into the stage: session, chunks, count (pull.md §5.2 steps 2–4). Touches nothing but the stage.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { LocalDataError, ProtocolError } from "../contract/SyncError.js"
import { CurrentOperation } from "../contract/SyncOperation.js"
import * as AnswerRules from "../protocol/AnswerRules.js"
import type * as Wire from "../protocol/Wire.js"
import type { Caller, RequestFailure } from "../remote/SyncApi.js"
import { SyncApi } from "../remote/SyncApi.js"
import * as SnapshotStage from "../storage/SnapshotStage.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import { countUnknown, findStranger } from "../storage/WireRows.js"
import type { DatabaseError } from "./Answers.js"
import { accept, strange } from "./Answers.js"
import { shrinking } from "./PageSize.js"
import * as Session from "./Session.js"
import { pageSizes } from "./SyncConfig.js"

/**
 * A complete snapshot in the stage.
 *
 * @since 0.1.0
 * @category models
 */
export interface StagedSnapshot {
  readonly snapshotId: string
  readonly bundleSeq: number
  /** Rows the server announced. */
  readonly rowCount: number
  /** Rows of tables that are not configured, skipped by configuration. */
  readonly ignoredRowCount: number
  /** History the snapshot belongs to, blank if the server has none (wire.md §12). */
  readonly historyId: string
  /** Hash of the bundle `bundleSeq`, blank if the server does not name it. */
  readonly bundleHash: string
}

const chunks = Effect.fnUntraced(function*(
  session: Wire.SnapshotSession,
  caller: Caller
): Effect.fn.Return<
  number,
  RequestFailure | ProtocolError | LocalDataError | DatabaseError,
  SyncDatabase | SyncApi | Session.Session
> {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const { config } = yield* Session.Session
  const { limits } = yield* Session.memory
  const operation = yield* CurrentOperation
  const ignoreUnknown = config.unknownTables === "ignore"
  let maxRows = pageSizes(config, limits).snapshotRows
  let ignored = 0
  let received = 0
  for (let more = true; more;) {
    const answer = yield* shrinking(
      maxRows,
      (rows) => api.snapshotChunk(caller, session.snapshot_id, { afterRowOrdinal: received, maxRows: rows })
    )
    maxRows = answer.maxRows
    const chunk = yield* accept("snapshot_chunk_fetch")(
      AnswerRules.snapshotChunk(answer.page.body, { session, afterRowOrdinal: received })
    )
    yield* Session.countSnapshot("chunksFetched")
    const tables = yield* db.tables
    const stranger = findStranger(tables, chunk.rows, { ignoreUnknown })
    if (stranger !== undefined) return yield* strange(stranger)
    if (chunk.rows.length > 0) {
      yield* db.transaction(SnapshotStage.stage(session.snapshot_id, received, answer.page.text))
    }
    if (ignoreUnknown) ignored += countUnknown(tables, chunk.rows)
    received += chunk.rows.length
    more = chunk.has_more
    yield* Session.report({ operation, phase: "download", done: received, total: session.row_count })
  }
  return ignored
})

/**
 * Creates a snapshot session (with a source replacement for a rotated rebuild), downloads it into the empty stage and
 * checks the count. The session is deleted on the server in the background, whatever happens. A refused creation comes
 * back as `Refusal`. `by` is who calls, if that is not the attached user yet.
 *
 * @since 0.1.0
 * @category steps
 */
export const download = Effect.fnUntraced(function*(
  replacement: Wire.SourceReplacement | undefined,
  by?: Caller
): Effect.fn.Return<
  StagedSnapshot,
  RequestFailure | ProtocolError | LocalDataError | DatabaseError,
  SyncDatabase | SyncApi | Session.Session
> {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const { scope } = yield* Session.Session
  const caller = by ?? (yield* Session.caller)
  yield* db.transaction(SnapshotStage.clear)
  const answer = yield* api.createSnapshotSession(caller, replacement)
  const session = yield* accept("snapshot_session_create")(AnswerRules.snapshotSession(answer.body))
  yield* Session.countSnapshot("sessionsCreated")
  const ignoredRowCount = yield* Effect.ensuring(
    chunks(session, caller),
    Effect.forkIn(api.deleteSnapshotSession(caller, session.snapshot_id), scope)
  )
  return {
    snapshotId: session.snapshot_id,
    bundleSeq: session.snapshot_bundle_seq,
    rowCount: session.row_count,
    ignoredRowCount,
    historyId: session.history_id,
    bundleHash: answer.baseBundleHash
  }
})
