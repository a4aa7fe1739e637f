/**
 * The chunks of an upload, as large as the server takes them (push.md §5).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ProtocolError } from "../contract/SyncError.js"
import { CurrentOperation } from "../contract/SyncOperation.js"
import * as AnswerRules from "../protocol/AnswerRules.js"
import type { RequestFailure } from "../remote/SyncApi.js"
import { Refusal, SyncApi } from "../remote/SyncApi.js"
import * as Outbox from "../storage/Outbox.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { DatabaseError } from "./Answers.js"
import { accept } from "./Answers.js"
import * as Session from "./Session.js"
import { pageSizes } from "./SyncConfig.js"

const isTooLarge = (failure: RequestFailure): failure is Refusal => failure instanceof Refusal && failure.status === 413

/** The refusal of a row that is too large by itself. Nobody has read it on the other side: it is named here. */
const naming = (refusal: Refusal, chunk: Outbox.Chunk): Refusal =>
  new Refusal({ ...refusal, body: { error: refusal.serverCode, message: "", rows: JSON.parse(chunk.rowsJson) } })

/**
 * Uploads all chunks. One that is too large for the server, or for something between, is sent again with half of its
 * bytes, which is remembered for later uploads; a single row comes back as a `Refusal` that names it. `reached` is told
 * how far the upload has come.
 *
 * @since 0.1.0
 * @category flows
 */
export const uploadChunks = Effect.fnUntraced(function*(
  pushId: string,
  frozenRowCount: number,
  reached: (rows: number) => Effect.Effect<void>
): Effect.fn.Return<void, RequestFailure | ProtocolError | DatabaseError, SyncDatabase | SyncApi | Session.Session> {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const caller = yield* Session.caller
  const { config } = yield* Session.Session
  const operation = yield* CurrentOperation
  for (let done = 0; done < frozenRowCount;) {
    const { limits, uploadBytes } = yield* Session.memory
    const chunk = yield* db.read(
      Outbox.chunk(done, { rows: pageSizes(config, limits).uploadRows, bytes: uploadBytes })
    )
    const answer = yield* Effect.catchIf(
      api.uploadChunk(caller, pushId, done, chunk.rowsJson),
      isTooLarge,
      (refusal) =>
        chunk.rowCount > 1
          ? Session.remember({ uploadBytes: Math.floor(chunk.bytes / 2) })
          : Effect.fail(naming(refusal, chunk))
    )
    if (answer === undefined) continue
    if (answer.push_id === pushId) yield* Session.countPush("chunksUploaded")
    yield* accept("push_chunk_upload")(
      AnswerRules.chunkAccepted(answer, { pushId, startRowOrdinal: done, rowCount: chunk.rowCount })
    )
    done += chunk.rowCount
    yield* reached(done)
    yield* Session.report({ operation, phase: "upload", done, total: frozenRowCount })
  }
})
