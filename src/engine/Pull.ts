/**
 * `pullToStable`: other devices' bundles, page by page, group by group, up to the ceiling of the first answer (pull.md).
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type {
  CredentialsMismatch,
  InitializationLeaseLost,
  LocalDataError,
  ProtocolError,
  RetryExhausted,
  ScopeLost,
  SourceRecoveryRequired,
  SourceReplacementDiverged,
  TransportError
} from "../contract/SyncError.js"
import { DirtyStateRejected } from "../contract/SyncError.js"
import { CurrentOperation, raise } from "../contract/SyncOperation.js"
import type { RemoteSyncReport } from "../contract/SyncResult.js"
import * as AnswerRules from "../protocol/AnswerRules.js"
import type * as Wire from "../protocol/Wire.js"
import * as RetryPolicy from "../remote/RetryPolicy.js"
import type { Page, Refusal } from "../remote/SyncApi.js"
import { SyncApi, toTransportError } from "../remote/SyncApi.js"
import * as ClientState from "../storage/ClientState.js"
import { onCommitFailure } from "../storage/ForeignKeys.js"
import type { BundleGroup } from "../storage/PulledPage.js"
import * as PulledPage from "../storage/PulledPage.js"
import type { RowRefused } from "../storage/RowApply.js"
import { needsOtherRows } from "../storage/RowApply.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import { countUnknown, findStranger } from "../storage/WireRows.js"
import type { DatabaseError } from "./Answers.js"
import { accept, offended, refusedRow, strange } from "./Answers.js"
import { groupOf, nextGroup } from "./BundleGroups.js"
import type { GateError } from "./Gates.js"
import * as Gates from "./Gates.js"
import * as History from "./History.js"
import { shrinking } from "./PageSize.js"
import type { RebuildError } from "./Rebuild.js"
import * as Rebuild from "./Rebuild.js"
import { enterSourceRecovery, scopeMissing } from "./Recovery.js"
import * as Session from "./Session.js"
import * as Status from "./Status.js"
import { pageSizes } from "./SyncConfig.js"

/**
 * What a pull may fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type PullError =
  | GateError
  | DatabaseError
  | TransportError
  | RetryExhausted
  | ProtocolError
  | CredentialsMismatch
  | LocalDataError
  | DirtyStateRejected
  | SourceRecoveryRequired
  | SourceReplacementDiverged
  | InitializationLeaseLost
  | ScopeLost
  | RebuildError

type Environment = SyncDatabase | SyncApi | Session.Session

/** The ceiling lies below a bundle that is known: a replica lags, or the server has gone back (pull.md §3). */
class StaleCeiling extends Data.TaggedError("StaleCeiling")<{}> {}

/** History that this client needs is not there; only a snapshot helps. */
class HistoryMissing extends Data.TaggedError("HistoryMissing")<{}> {}

const interpretRefusal = (refusal: Refusal): Effect.Effect<never, PullError | HistoryMissing, Environment> =>
  Effect.flatMap(
    Session.memory,
    ({ initializationId }): Effect.Effect<never, PullError | HistoryMissing, Environment> => {
      if (refusal.status !== 409) return toTransportError(refusal)
      switch (refusal.serverCode) {
        case "history_pruned":
          return new HistoryMissing()
        case "scope_uninitialized":
          return scopeMissing("scope_uninitialized")
        case "scope_initializing":
          return initializationId === "" ? scopeMissing("scope_initializing") : toTransportError(refusal)
        default:
          return toTransportError(refusal)
      }
    }
  )

interface PageRequest {
  readonly after: number
  /** Number of the newest bundle that is known here. */
  readonly newest: number
  readonly target: number | undefined
  readonly maxBundles: number
}

interface PulledAnswer {
  readonly page: Page<Wire.PullPage>
  readonly verdict: AnswerRules.PullVerdict
  readonly maxBundles: number
}

const isOversized = (error: { readonly _tag: string }): boolean =>
  error._tag === "TransportError" && "code" in error && error.code === "response_too_large"

/** One page, validated. A ceiling below a known bundle is asked for again before it is believed. */
const requestPage = Effect.fnUntraced(function*(
  request: PageRequest
): Effect.fn.Return<PulledAnswer, PullError | HistoryMissing, Environment> {
  const api = yield* SyncApi
  const caller = yield* Session.caller
  const { retryPolicy } = yield* Session.Session
  const ask = Effect.gen(function*() {
    const { maxRows, page } = yield* shrinking(
      request.maxBundles,
      (maxBundles) => api.pull(caller, { afterBundleSeq: request.after, maxBundles, targetBundleSeq: request.target })
    )
    const verdict = yield* accept("pull_request")(
      AnswerRules.pullPage(page.body, { after: request.after, target: request.target, newest: request.newest })
    )
    if (verdict.staleCeiling) return yield* new StaleCeiling()
    return { page, verdict, maxBundles: maxRows }
  })
  const budget = yield* RetryPolicy.budget(retryPolicy, "pull_request")
  return yield* budget.retry(ask, { isTransient: (failure) => failure._tag === "StaleCeiling" }).pipe(
    Effect.catchTags({
      Refusal: interpretRefusal,
      StaleCeiling: () => enterSourceRecovery("source_sequence_out_of_order")
    }),
    // A single bundle that is too large for an answer comes as a snapshot, whose chunks are limited in rows.
    Effect.catchIf(isOversized, () => new HistoryMissing())
  )
})

/**
 * Whether a page continues the history that is known here. If it says nothing about that, the newest known bundle is
 * asked for, once a session and after a transport failure (pull.md §2 step 5, DESIGN D18).
 */
const checkHistory = Effect.fnUntraced(function*(
  { page, verdict }: PulledAnswer,
  after: number
): Effect.fn.Return<void, PullError, Environment> {
  const db = yield* SyncDatabase
  const seen = yield* db.read(ClientState.read)
  const { historyId } = verdict
  const standing = History.compare(seen, {
    historyId,
    bundles: [
      { seq: after, hash: page.baseBundleHash },
      ...verdict.bundles.map((bundle) => ({ seq: bundle.bundle_seq, hash: bundle.bundle_hash }))
    ]
  })
  if (standing === "other") return yield* enterSourceRecovery("source_sequence_out_of_order")
  const known = History.newest(seen)
  if (standing === "unknown" && known !== undefined && !(yield* Session.memory).historyChecked) {
    if (verdict.bundles.length === 0) return
    if (!(yield* History.stillHas(known))) return yield* enterSourceRecovery("source_sequence_out_of_order")
    yield* Session.remember({ historyChecked: true })
  }
  // An id that comes up for the first time says nothing about what was before it: it counts from a checked bundle on.
  if (historyId !== "" && seen.historyId === "") yield* db.transaction(ClientState.setHistoryId(historyId))
})

const applyGroup = (group: BundleGroup) =>
  Effect.flatMap(SyncDatabase, (db) => db.authoritative(PulledPage.apply(group), onCommitFailure))

const rejectDirty = (dirtyCount: number) => raise((operation) => new DirtyStateRejected({ operation, dirtyCount }))

type Refused = PulledPage.MisshapenRow | RowRefused

/** Refused whatever the order of the rows: the row itself cannot be stored. */
const isFinal = (refused: Refused): boolean => refused._tag === "MisshapenRow" || !needsOtherRows(refused)

const applyAndAnnounce = Effect.fnUntraced(function*(
  bundles: ReadonlyArray<Wire.Bundle>,
  group: BundleGroup
): Effect.fn.Return<void, Effect.Effect.Error<ReturnType<typeof applyGroup>>, Environment> {
  yield* applyGroup(group)
  const tables = new Set(bundles.slice(group.first, group.last + 1).flatMap((one) => one.rows.map((row) => row.table)))
  yield* Session.announce({ tables: [...tables], reason: "pull" })
})

/**
 * Applies the bundles from `first` on that come before a refused row's, then fails with that row. Without its bundle an
 * older version of a row is the newest one and may be refused as well: then the cut goes before that one.
 */
const failAfterCut = (
  bundles: ReadonlyArray<Wire.Bundle>,
  first: number,
  refused: Refused
): Effect.Effect<never, PullError, Environment> => {
  const end = refused.offender.bundle
  const failure = refused._tag === "RowRefused" ? refusedRow(refused) : offended(refused.offender)
  if (end <= first) return failure
  return applyAndAnnounce(bundles, groupOf(bundles, first, end - 1)).pipe(
    Effect.catchTags({
      MisshapenRow: (earlier) => failAfterCut(bundles, first, earlier),
      RowRefused: (earlier) => isFinal(earlier) ? failAfterCut(bundles, first, earlier) : Effect.void,
      DirtyInTheWay: () => Effect.void
    }),
    Effect.zipRight(failure)
  )
}

/** Applies the bundles of a page up to `end`, cutting around rows that cannot be stored (pull.md §4.2). */
const applyBundles = Effect.fnUntraced(function*(
  bundles: ReadonlyArray<Wire.Bundle>,
  end: number
): Effect.fn.Return<"applied" | "refused", PullError, Environment> {
  const db = yield* SyncDatabase
  let first = 0
  let widened = false
  while (first < end) {
    const group = widened ? groupOf(bundles, first, end - 1) : nextGroup(bundles, first, end, db.applyRows)
    const cut = (refused: Refused) => failAfterCut(bundles, group.first, refused)
    const result = yield* applyAndAnnounce(bundles, group).pipe(
      Effect.as("applied" as const),
      Effect.catchTags({
        DirtyInTheWay: ({ dirtyCount }) => rejectDirty(dirtyCount),
        MisshapenRow: cut,
        RowRefused: (refused) => isFinal(refused) ? cut(refused) : Effect.succeed("refused" as const)
      })
    )
    if (result === "applied") {
      first = group.last + 1
    } else if (!widened && group.last < end - 1) {
      // Order or mixture: the state at the end of the page is one that the server had, too.
      widened = true
    } else {
      return "refused"
    }
  }
  return "applied"
})

interface Pulled {
  readonly applied: boolean
  readonly ignoredRowCount: number
}

const pullPages: Effect.Effect<Pulled | "rebuild", PullError | HistoryMissing, Environment> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { config } = yield* Session.Session
  const { limits } = yield* Session.memory
  const operation = yield* CurrentOperation
  const ignoreUnknown = config.unknownTables === "ignore"
  const seen = yield* db.read(ClientState.read)
  const newest = History.newestSeq(seen)
  let after = seen.attachment.checkpoint
  let target: number | undefined
  let maxBundles = pageSizes(config, limits).bundles
  let applied = false
  let ignoredRowCount = 0
  for (let first = true;; first = false) {
    const answer = yield* requestPage({ after, newest, target, maxBundles })
    const { verdict } = answer
    maxBundles = answer.maxBundles
    if (first || answer.page.baseBundleHash !== "" || after < newest) yield* checkHistory(answer, after)
    const bundles = verdict.bundles
    if (bundles.length > 0) {
      const tables = yield* db.tables
      const { end, stranger } = firstStranger(tables, bundles, ignoreUnknown)
      yield* db.read(PulledPage.load(answer.page.text))
      const result = yield* applyBundles(bundles, end)
      if (result === "refused") return "rebuild"
      if (stranger !== undefined) return yield* strange(stranger)
      if (ignoreUnknown) ignoredRowCount += countUnknown(tables, bundles.flatMap((bundle) => bundle.rows))
      applied = true
      after = bundles.at(-1)?.bundle_seq ?? after
    }
    yield* Session.report({ operation, phase: "pull", done: after, total: verdict.stableBundleSeq })
    if (verdict.missingHistory) return yield* new HistoryMissing()
    const more = yield* accept("pull_request")(AnswerRules.pullContinues(verdict, after))
    if (!more) return { applied, ignoredRowCount }
    target = verdict.stableBundleSeq > 0 ? verdict.stableBundleSeq : undefined
  }
})

const firstStranger = (
  tables: Parameters<typeof findStranger>[0],
  bundles: ReadonlyArray<Wire.Bundle>,
  ignoreUnknown: boolean
) => {
  for (const [index, bundle] of bundles.entries()) {
    const stranger = findStranger(tables, bundle.rows, { ignoreUnknown })
    if (stranger !== undefined) return { end: index, stranger }
  }
  return { end: bundles.length, stranger: undefined }
}

/**
 * Pulls up to the ceiling of the first answer. Where history is missing, or rows can only be stored in another order
 * than that of the bundles, a keep-source rebuild in the same call takes its place.
 *
 * @since 0.1.0
 * @category flows
 */
export const pull: Effect.Effect<RemoteSyncReport, PullError, Environment> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  yield* Effect.flatMap(db.read(Status.situation), (situation) => Gates.pass("pullToStable", situation))
  const skipped = Effect.map(db.read(Status.read), (status): RemoteSyncReport => ({
    outcome: "skipped_paused",
    status,
    ignoredRowCount: 0
  }))
  if ((yield* Session.memory).downloadsPaused) return yield* skipped
  const pulled = yield* Effect.catchTag(pullPages, "HistoryMissing", () => Effect.succeed("missing" as const))
  if (pulled === "rebuild" || pulled === "missing") {
    if ((yield* Session.memory).downloadsPaused) return yield* skipped
    return yield* reportOf(yield* Rebuild.keepSource(pulled === "missing" ? "keep" : "reopen"))
  }
  const status = yield* db.read(Status.read)
  return {
    outcome: pulled.applied ? "applied_incremental" : "already_at_target",
    status,
    ignoredRowCount: pulled.ignoredRowCount
  }
})

const reportOf = Effect.fnUntraced(function*(restored: Rebuild.Restored) {
  const db = yield* SyncDatabase
  const status = yield* db.read(Status.read)
  const report: RemoteSyncReport = {
    outcome: "applied_snapshot",
    status,
    restore: restored.restore,
    localRows: restored.localRows,
    ignoredRowCount: restored.ignoredRowCount
  }
  return report
})

/**
 * Replaces the tables by a snapshot of the server and keeps pending work (pull.md §5, recovery.md §5): rotated if a
 * source recovery is pending; a frozen upload is settled first if the rebuild gate is closed.
 *
 * @since 0.1.0
 * @category flows
 */
export const rebuild = <E, R>(
  settleOutbox: Effect.Effect<unknown, E, R>
): Effect.Effect<RemoteSyncReport, PullError | E, Environment | R> =>
  Effect.gen(function*() {
    const db = yield* SyncDatabase
    const situation = yield* db.read(Status.situation)
    yield* Gates.pass("rebuild", situation)
    if ((yield* Session.memory).downloadsPaused) {
      const status = yield* db.read(Status.read)
      return { outcome: "skipped_paused", status, ignoredRowCount: 0 } as const
    }
    if (situation.durable.operation.kind === "source_recovery") return yield* reportOf(yield* Rebuild.rotated)
    const gated = situation.durable.attachment.rebuildRequired
    if (gated && situation.durable.outbox.state === "prepared") yield* settleOutbox
    return yield* reportOf(yield* Rebuild.keepSource(gated ? "keep" : "reopen"))
  })
