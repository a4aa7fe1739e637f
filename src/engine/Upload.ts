/**
 * Bringing a frozen upload to the server and its committed rows back into the stage: create → chunks → commit → fetch
 * (push.md §4–7). Transient failures are repeated here, from the earliest request whose outcome is open
 * (retry-and-loops.md §2).
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type {
  CredentialsMismatch,
  InitializationLeaseLost,
  LocalDataError,
  ProtocolError,
  RetryExhausted,
  ScopeLost,
  SourceRecoveryRequired,
  SourceReplacementDiverged,
  TransportError,
  UploadRefused
} from "../contract/SyncError.js"
import * as AnswerRules from "../protocol/AnswerRules.js"
import type * as Wire from "../protocol/Wire.js"
import * as RetryPolicy from "../remote/RetryPolicy.js"
import type { RequestFailure } from "../remote/SyncApi.js"
import { Refusal, SyncApi, toTransportError } from "../remote/SyncApi.js"
import type { OutboxHeader } from "../storage/ClientState.js"
import * as ClientState from "../storage/ClientState.js"
import type { CommittedBundle, StagedBundle } from "../storage/CommittedStage.js"
import * as Outbox from "../storage/Outbox.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { DatabaseError } from "./Answers.js"
import { accept } from "./Answers.js"
import * as CommittedFetch from "./CommittedFetch.js"
import { isTransient, verdictOf } from "./PushVerdict.js"
import { enterSourceRecovery, loseLease, loseScope, missingScope } from "./Recovery.js"
import * as Session from "./Session.js"
import { uploadChunks } from "./UploadChunks.js"
import { hasSmallerLimit, refuse } from "./UploadRefusal.js"

/**
 * How an upload ended. `Staged`: the committed rows are complete and verified in the stage; `proven` if the bundle is
 * known to be this outbox's own. `Shortened`: the outbox has fewer rows now, which are still to be uploaded.
 *
 * @since 0.1.0
 * @category models
 */
export type UploadOutcome =
  | { readonly _tag: "Staged"; readonly bundle: StagedBundle; readonly proven: boolean }
  | { readonly _tag: "Conflict"; readonly details: ReadonlyArray<Wire.ConflictDetails> }
  | { readonly _tag: "ReplayPruned" }
  | { readonly _tag: "Thawed" }
  | { readonly _tag: "Shortened" }

/**
 * What to do with an upload that the server does not have: bring it there, or make it pending again.
 *
 * @since 0.1.0
 * @category models
 */
export type Purpose = "upload" | "settle"

/**
 * What an upload may fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type UploadError =
  | DatabaseError
  | TransportError
  | RetryExhausted
  | ProtocolError
  | CredentialsMismatch
  | LocalDataError
  | SourceRecoveryRequired
  | SourceReplacementDiverged
  | InitializationLeaseLost
  | ScopeLost
  | UploadRefused

type Environment = SyncDatabase | SyncApi | Session.Session

const bundleOf = (answer: Wire.CommitResponse): CommittedBundle => ({
  bundleSeq: answer.bundle_seq,
  sourceId: answer.source_id,
  sourceBundleId: answer.source_bundle_id,
  rowCount: answer.row_count,
  bundleHash: answer.bundle_hash
})

type Created =
  | { readonly _tag: "Staging"; readonly pushId: string }
  | { readonly _tag: "AlreadyCommitted"; readonly bundle: CommittedBundle; readonly proven: boolean }

const changeHeader = Effect.fnUntraced(function*(change: (header: OutboxHeader) => OutboxHeader) {
  const { outbox } = yield* ClientState.read
  yield* ClientState.setOutboxHeader(change(outbox))
})

/** The header as the freeze has left it: the server does not know this commit any more. */
const backToPrepared = (frozenRowCount: number) =>
  changeHeader((header) => ({
    ...header,
    state: "prepared",
    rowCount: frozenRowCount,
    remoteBundleHash: "",
    remoteBundleSeq: 0
  }))

const forgetInitialization = ClientState.setAttachment({ initializationId: "" })

/** Opens a session or learns that the number is committed (push.md §4). */
const create = Effect.fnUntraced(function*(
  frozenRowCount: number,
  initializationId: string
): Effect.fn.Return<Created, RequestFailure | ProtocolError | DatabaseError, Environment> {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const caller = yield* Session.caller
  const { outbox } = yield* db.read(ClientState.read)
  const answer = yield* api.createPushSession(caller, {
    sourceBundleId: outbox.sourceBundleId,
    plannedRowCount: frozenRowCount,
    initializationId
  })
  if (answer.status !== "already_committed") {
    const { pushId } = yield* accept("push_session_create")(
      AnswerRules.staging(answer, { plannedRowCount: frozenRowCount })
    )
    yield* Session.countPush("sessionsCreated")
    return { _tag: "Staging", pushId }
  }
  const committed = yield* accept("push_session_create")(
    AnswerRules.alreadyCommitted(answer, { sourceId: caller.sourceId, sourceBundleId: outbox.sourceBundleId })
  )
  const proven = outbox.state === "committed_remote" && outbox.remoteBundleSeq === committed.bundle_seq &&
    outbox.remoteBundleHash === committed.bundle_hash
  yield* db.transaction(Effect.gen(function*() {
    yield* forgetInitialization
    if (outbox.state === "committed_remote" && !proven) yield* backToPrepared(frozenRowCount)
  }))
  yield* Session.remember({ initializationId: "" })
  return { _tag: "AlreadyCommitted", bundle: bundleOf(committed), proven }
})

/** Makes the commit's answer durable, then forgets the initialization (push.md §5). */
const recordCommit = Effect.fnUntraced(function*(
  answer: Wire.CommitResponse
): Effect.fn.Return<CommittedBundle, ProtocolError | DatabaseError, Environment> {
  const db = yield* SyncDatabase
  const { sourceId } = yield* Session.caller
  const { outbox } = yield* db.read(ClientState.read)
  const committed = bundleOf(
    yield* accept("push_session_commit")(
      AnswerRules.committed(answer, { sourceId, sourceBundleId: outbox.sourceBundleId })
    )
  )
  yield* db.transaction(Effect.gen(function*() {
    yield* forgetInitialization
    yield* changeHeader((header) => ({
      ...header,
      state: "committed_remote",
      sourceId: committed.sourceId,
      sourceBundleId: committed.sourceBundleId,
      rowCount: committed.rowCount,
      remoteBundleHash: committed.bundleHash,
      remoteBundleSeq: committed.bundleSeq
    }))
  }))
  yield* Session.remember({ initializationId: "" })
  return committed
})

/** Whether the server has said 200 to the request that failed: an answer without sense, but an answer. */
const isAnswered = (cause: Cause.Cause<{ readonly _tag: string }>): boolean =>
  Option.exists(Cause.failureOption(cause), (failure) => failure._tag === "ProtocolError")

/**
 * The seed's commit may have succeeded although its answer was lost: asks the server who it takes this client for
 * (push.md §10.2). Answers the initialization id to go on with, blank for none.
 */
const afterSeedAnswerLost = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const caller = yield* Session.caller
  const answer = yield* accept("connect_request")(AnswerRules.connected(yield* api.connect(caller, true)))
  switch (answer.resolution) {
    case "initialize_local": {
      yield* db.transaction(ClientState.setAttachment({ initializationId: answer.initializationId }))
      yield* Session.remember({ initializationId: answer.initializationId })
      return { initializationId: answer.initializationId, initialized: false }
    }
    case "retry_later":
      return yield* loseLease("superseded")
    case "initialize_empty": {
      yield* db.transaction(forgetInitialization)
      yield* Session.remember({ initializationId: "" })
      return { initializationId: "", initialized: false }
    }
    case "remote_authoritative":
      return { initializationId: "", initialized: true }
  }
})

/** Whether the scope is there, as a read is told; `undefined` if it is, or if nothing can be learnt now. */
const askForScope = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const { attachment } = yield* db.read(ClientState.read)
  return yield* api.pull(yield* Session.caller, {
    afterBundleSeq: attachment.checkpoint,
    maxBundles: 1,
    targetBundleSeq: undefined
  }).pipe(
    Effect.as(undefined),
    Effect.catchAll((failure) => Effect.succeed(failure instanceof Refusal ? missingScope(failure) : undefined))
  )
})

const conflictsOf = (refusal: Refusal) =>
  refusal.body === undefined
    ? Effect.succeed([])
    : Effect.map(
      accept(refusal.request)(AnswerRules.conflict(refusal.status, refusal.body)),
      Option.getOrElse((): ReadonlyArray<Wire.ConflictDetails> => [])
    )

/** Whether the server has refused the commit in an answer that is too large to be read. */
const isRefusedUnread = (error: TransportError): boolean =>
  error.request === "push_session_commit" && error.code === "response_too_large" &&
  (error.status === 400 || error.status === 409)

/**
 * Fewer rows have fewer conflicts: half of them are uploaded first. A single row is thawed and the failure told, so
 * that the host may correct it, or allow for larger answers.
 */
const shorten = Effect.fnUntraced(function*(
  frozenRowCount: number,
  error: TransportError
): Effect.fn.Return<UploadOutcome, TransportError | DatabaseError, SyncDatabase> {
  const db = yield* SyncDatabase
  if (frozenRowCount === 1) {
    yield* db.transaction(Outbox.thaw)
    return yield* error
  }
  yield* db.transaction(Outbox.shorten(Math.ceil(frozenRowCount / 2)))
  return { _tag: "Shortened" }
})

/** Runs an upload until its committed rows are staged, or until something else has to be done about it. */
const attempt = Effect.fnUntraced(function*(
  frozenRowCount: number,
  seed: { readonly initializationId: string; readonly initialized: boolean },
  purpose: Purpose
): Effect.fn.Return<UploadOutcome, UploadError | Refusal, Environment> {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const { retryPolicy, scope } = yield* Session.Session
  const budget = yield* RetryPolicy.budget(retryPolicy, "push_pending")
  let furthest = 0
  // Only what was never reached before is progress; otherwise a session lost at every second chunk would go on for ever.
  const reached = (rows: number) =>
    Effect.suspend(() => {
      if (rows <= furthest) return Effect.void
      furthest = rows
      return budget.progress
    })
  const upload = Effect.gen(function*() {
    const created = yield* create(frozenRowCount, seed.initializationId)
    if (created._tag === "AlreadyCommitted") return created
    const caller = yield* Session.caller
    // Nobody waits for it: what comes next does not depend on it.
    const discard = Effect.forkIn(api.deletePushSession(caller, created.pushId), scope)
    if (seed.initialized) {
      // Somebody else has filled the scope: this seed is not wanted any more.
      yield* discard
      yield* db.transaction(forgetInitialization)
      return yield* loseLease("superseded")
    }
    if (purpose === "settle") {
      yield* discard
      yield* db.transaction(Outbox.thaw)
      return undefined
    }
    // An earlier commit that the server has forgotten: the rows have to go up again.
    const { outbox } = yield* db.read(ClientState.read)
    if (outbox.state === "committed_remote") yield* db.transaction(backToPrepared(frozenRowCount))
    yield* Effect.onError(uploadChunks(created.pushId, frozenRowCount, reached), () => discard)
    const answer = yield* Effect.onError(
      api.commitPushSession(caller, created.pushId),
      (cause) => isAnswered(cause) ? Effect.void : discard
    )
    return { bundle: yield* recordCommit(answer), proven: true }
  })
  const committed = yield* budget.retry(upload, { isTransient })
  if (committed === undefined) return { _tag: "Thawed" }
  const { bundle, proven } = committed
  yield* budget.progress
  return { _tag: "Staged", bundle: yield* CommittedFetch.fetch(bundle, budget), proven }
})

/**
 * Uploads the frozen rows, or finds out what became of an earlier upload, and stages the committed bundle. Refusals that
 * need a durable transition make it and fail; conflicts and pruned history come back as outcomes. With the purpose
 * `settle`, rows that the server does not have are thawed instead of uploaded (pull.md §5.4).
 *
 * @since 0.1.0
 * @category flows
 */
export const run = Effect.fnUntraced(function*(
  frozenRowCount: number,
  purpose: Purpose
): Effect.fn.Return<UploadOutcome, UploadError, Environment> {
  const db = yield* SyncDatabase
  const { attachment } = yield* db.read(ClientState.read)
  const pendingInitialization = attachment.initializationId
  let seed = { initializationId: pendingInitialization, initialized: false }
  let askedForSeed = false

  const interpret = Effect.fnUntraced(function*(
    refusal: Refusal
  ): Effect.fn.Return<UploadOutcome | "again", UploadError, Environment> {
    const { outbox } = yield* db.read(ClientState.read)
    const memory = yield* Session.memory
    const verdict = verdictOf(refusal, {
      outboxState: outbox.state,
      initializationPending: pendingInitialization !== "",
      initializationSent: seed.initializationId !== "",
      refusedBefore: memory.refusedRequestHash !== "" && memory.refusedRequestHash === outbox.requestHash
    })
    const serverMessage = refusal.body?.message
    switch (verdict._tag) {
      case "Conflict":
        return { _tag: "Conflict", details: yield* conflictsOf(refusal) }
      case "ReplayPruned":
        return { _tag: "ReplayPruned" }
      case "Recover": {
        if (seed.initialized) {
          yield* db.transaction(forgetInitialization)
          yield* Session.remember({ initializationId: "" })
        }
        return yield* enterSourceRecovery(verdict.reason, { preferred: verdict.preferred, serverMessage })
      }
      case "LeaseLost":
        return yield* loseLease(verdict.reason)
      case "ScopeLost":
        return yield* loseScope(verdict.reason)
      case "MaybeScopeLost": {
        const missing = yield* askForScope
        return missing === undefined ? yield* toTransportError(refusal) : yield* loseScope(missing)
      }
      case "SeedAnswerLost": {
        // A second time the server contradicts itself: nothing more to learn.
        if (askedForSeed) return yield* toTransportError(refusal)
        askedForSeed = true
        seed = yield* Effect.catchTag(afterSeedAnswerLost, "Refusal", toTransportError)
        return "again"
      }
      case "Refused":
        return (yield* hasSmallerLimit(refusal, frozenRowCount)) ? "again" : yield* refuse(refusal)
      case "MaybeRefused": {
        yield* Session.remember({ refusedRequestHash: outbox.requestHash })
        return yield* toTransportError(refusal)
      }
      case "Again":
      case "Final":
        return yield* toTransportError(refusal)
    }
  })

  for (;;) {
    const outcome = yield* Effect.catchTags(attempt(frozenRowCount, seed, purpose), {
      Refusal: interpret,
      TransportError: (error) => isRefusedUnread(error) ? shorten(frozenRowCount, error) : error
    })
    if (outcome !== "again") return outcome
  }
})
