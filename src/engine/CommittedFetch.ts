/**
 * Fetching the committed rows of the own bundle into the stage (push.md §7).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type {
  LocalDataError,
  ProtocolError,
  SourceRecoveryRequired,
  SourceReplacementDiverged
} from "../contract/SyncError.js"
import { CurrentOperation } from "../contract/SyncOperation.js"
import * as AnswerRules from "../protocol/AnswerRules.js"
import * as BundleHash from "../protocol/BundleHash.js"
import type * as RetryPolicy from "../remote/RetryPolicy.js"
import type { RequestFailure } from "../remote/SyncApi.js"
import { SyncApi } from "../remote/SyncApi.js"
import * as ClientState from "../storage/ClientState.js"
import type { CommittedBundle, StagedBundle } from "../storage/CommittedStage.js"
import * as CommittedStage from "../storage/CommittedStage.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import { countUnknown, findStranger } from "../storage/WireRows.js"
import type { DatabaseError } from "./Answers.js"
import { accept, strange, violated } from "./Answers.js"
import * as History from "./History.js"
import { shrinking } from "./PageSize.js"
import { isTransient } from "./PushVerdict.js"
import { enterSourceRecovery } from "./Recovery.js"
import * as Session from "./Session.js"
import { pageSizes } from "./SyncConfig.js"

/**
 * A bundle that follows the newest known one will take its place: the last moment to notice that the server has gone back
 * and counted up again since. What it has lost would be taken for known ever after.
 */
const checkHistory = Effect.fnUntraced(function*(bundle: CommittedBundle, baseBundleHash: string) {
  const db = yield* SyncDatabase
  const standing = History.compare(yield* db.read(ClientState.read), {
    historyId: "",
    bundles: [
      { seq: bundle.bundleSeq - 1, hash: baseBundleHash },
      { seq: bundle.bundleSeq, hash: bundle.bundleHash }
    ]
  })
  if (standing === "other") return yield* enterSourceRecovery("source_sequence_out_of_order")
})

/**
 * Fetches, checks and stages all committed rows (push.md §7); rows of tables that are not configured are left out where
 * the configuration says so. A page that fails is repeated alone.
 *
 * @since 0.1.0
 * @category flows
 */
export const fetch = Effect.fnUntraced(function*(
  bundle: CommittedBundle,
  budget: RetryPolicy.Budget
): Effect.fn.Return<
  StagedBundle,
  | RequestFailure
  | ProtocolError
  | LocalDataError
  | DatabaseError
  | SourceRecoveryRequired
  | SourceReplacementDiverged,
  SyncDatabase | SyncApi | Session.Session
> {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const caller = yield* Session.caller
  const { config } = yield* Session.Session
  const { limits } = yield* Session.memory
  const operation = yield* CurrentOperation
  const request = "committed_bundle_chunk_fetch"
  const digest = BundleHash.bundleDigest()
  const seen = new Set<string>()
  yield* db.transaction(CommittedStage.clear)
  let maxRows = pageSizes(config, limits).committedRows
  const ignoreUnknown = config.unknownTables === "ignore"
  let received = 0
  let ignored = 0
  for (let more = true; more;) {
    const afterRowOrdinal = received === 0 ? undefined : received - 1
    const answer = yield* budget.retry(
      shrinking(
        maxRows,
        (rows) => api.committedRows(caller, { bundleSeq: bundle.bundleSeq, afterRowOrdinal, maxRows: rows, request })
      ),
      { isTransient }
    )
    maxRows = answer.maxRows
    yield* Session.countPush("committedBundleChunksRead")
    const page = yield* accept(request)(
      AnswerRules.committedRowsPage(answer.page.body, {
        commit: {
          bundle_seq: bundle.bundleSeq,
          source_id: bundle.sourceId,
          source_bundle_id: bundle.sourceBundleId,
          row_count: bundle.rowCount,
          bundle_hash: bundle.bundleHash
        },
        afterRowOrdinal,
        seen
      })
    )
    if (received === 0) yield* checkHistory(bundle, answer.page.baseBundleHash)
    const tables = yield* db.tables
    const stranger = findStranger(tables, page.rows, { ignoreUnknown })
    if (stranger !== undefined) return yield* strange(stranger)
    yield* db.transaction(CommittedStage.stage(bundle.bundleSeq, received, answer.page.text))
    digest.add(page.rows)
    received += page.rows.length
    if (ignoreUnknown) ignored += countUnknown(tables, page.rows)
    more = page.has_more
    yield* budget.progress
    yield* Session.report({ operation, phase: "fetch", done: received, total: bundle.rowCount })
  }
  const { hash } = digest.finish()
  if (hash !== bundle.bundleHash) {
    return yield* violated(request, { rule: "hash_mismatch", expected: bundle.bundleHash, actual: hash })
  }
  return { ...bundle, stagedRowCount: received - ignored }
})
