/**
 * `pushPending`: freeze, upload, replay, and again after conflicts (push.md §2).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { PushConflictRetryExhausted } from "../contract/SyncError.js"
import { CurrentOperation, raise } from "../contract/SyncOperation.js"
import type { PushReport } from "../contract/SyncResult.js"
import * as AnswerRules from "../protocol/AnswerRules.js"
import type { SyncApi } from "../remote/SyncApi.js"
import { SyncApi as Api, toTransportError } from "../remote/SyncApi.js"
import * as ClientState from "../storage/ClientState.js"
import type { StagedBundle } from "../storage/CommittedStage.js"
import * as CommittedStage from "../storage/CommittedStage.js"
import * as DirtyRows from "../storage/DirtyRows.js"
import { onCommitFailure } from "../storage/ForeignKeys.js"
import type { FeaturesNeeded } from "../storage/Freeze.js"
import * as Freeze from "../storage/Freeze.js"
import * as Outbox from "../storage/Outbox.js"
import * as Sources from "../storage/Sources.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import { accept, refusedRow, violated } from "./Answers.js"
import type { ConflictError } from "./Conflict.js"
import * as Conflict from "./Conflict.js"
import type { GateError } from "./Gates.js"
import * as Gates from "./Gates.js"
import type { RebuildError } from "./Rebuild.js"
import * as Rebuild from "./Rebuild.js"
import { loseLease } from "./Recovery.js"
import * as ServerFeatures from "./ServerFeatures.js"
import * as Session from "./Session.js"
import * as SourceIds from "./SourceIds.js"
import * as Status from "./Status.js"
import type { UploadError } from "./Upload.js"
import * as Upload from "./Upload.js"

/**
 * What a push may fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type PushError = GateError | UploadError | ConflictError | RebuildError

type Environment = SyncDatabase | SyncApi | Session.Session

interface Frozen {
  readonly rowCount: number
}

const frozenRowCount = Effect.map(DirtyRows.pending, ({ frozen }) => frozen)

/** The existing outbox, or a fresh one, in one transaction; 0 rows mean that there is nothing to upload. */
const loadOrFreeze = (exactIntegers: boolean | undefined) =>
  Effect.flatMap(SyncDatabase, (db) =>
    db.transaction(Effect.gen(function*() {
      const existing = yield* Outbox.load
      if (existing.state === "none") yield* Freeze.freeze(exactIntegers)
      return { rowCount: yield* frozenRowCount }
    })))

const freeze: Effect.Effect<Frozen, PushError, Environment> = Effect.gen(function*() {
  const { features } = yield* Session.memory
  return yield* loadOrFreeze(features?.exactIntegers)
}).pipe(
  Effect.catchTag("FeaturesNeeded", () =>
    // An integer is to be frozen that not every server keeps (payload-codec.md §4.1).
    Effect.flatMap(ServerFeatures.learn, ({ exactIntegers }) =>
      Effect.catchTag(
        loadOrFreeze(exactIntegers),
        "FeaturesNeeded",
        (unanswered: FeaturesNeeded) => Effect.die(unanswered)
      )))
)

/** A pending initialization with nothing left to upload: the server is told that there is no seed (push.md §10.3). */
const settleEmptySeed = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { attachment } = yield* db.read(ClientState.read)
  if (attachment.initializationId === "") return
  const api = yield* Api
  const caller = yield* Session.caller
  const answer = yield* Effect.catchTag(api.connect(caller, false), "Refusal", toTransportError)
  const connected = yield* accept("connect_request")(AnswerRules.connected(answer))
  if (connected.resolution !== "initialize_empty") return yield* loseLease("superseded")
  yield* db.transaction(ClientState.setAttachment({ initializationId: "" }))
  yield* Session.remember({ initializationId: "" })
})

interface Replayed {
  readonly requeued: number
  readonly discarded: number
}

/** The replay transaction, with the fork of a shared source id if the bundle was another writer's (push.md §8.2, §9). */
const replay = Effect.fnUntraced(function*(
  bundle: StagedBundle,
  proven: boolean
): Effect.fn.Return<Replayed, PushError, Environment> {
  const db = yield* SyncDatabase
  const operation = yield* CurrentOperation
  yield* Session.report({ operation, phase: "replay", done: 0, total: bundle.rowCount })
  const replaying: Effect.Effect<
    CommittedStage.ReplayOutcome & { readonly sourceId: string | undefined },
    SqlError | Effect.Effect.Error<ReturnType<typeof CommittedStage.replay>>,
    SyncDatabase
  > = Effect.gen(function*() {
    const outcome = yield* CommittedStage.replay(bundle, proven)
    if (outcome.overtaken) yield* ClientState.setAttachment({ rebuildRequired: true })
    if (!outcome.foreign) return { ...outcome, sourceId: undefined }
    const fresh = yield* SourceIds.fresh
    yield* Sources.replace(bundle.sourceId, fresh)
    return { ...outcome, sourceId: fresh }
  })
  const outcome = yield* db.authoritative(replaying, onCommitFailure).pipe(
    // A snapshot has no order of rows to stumble over (push.md §12).
    Effect.catchTags({
      RowRefused: () =>
        Effect.as(Rebuild.replayPruned, { requeued: 0, discarded: 0, overtaken: false, sourceId: undefined }),
      StageIncomplete: ({ actual, expected }) =>
        violated("committed_bundle_chunk_fetch", {
          rule: "count_mismatch",
          expected: String(expected),
          actual: String(actual)
        })
    })
  )
  if (outcome.sourceId !== undefined) yield* Session.remember({ sourceId: outcome.sourceId })
  const { tables } = yield* db.tables
  yield* Session.announce({ tables: tables.map((table) => table.name), reason: "replay" })
  if (outcome.overtaken) yield* Rebuild.keepSource("keep")
  return outcome
})

const maxConflictsPerKey = 3

/**
 * Uploads what is pending and replays what the server made of it. A frozen upload is finished first; what was edited
 * meanwhile stays pending. Uploads must not be paused unless the gates alone are wanted: then `skipped_paused`.
 *
 * @since 0.1.0
 * @category flows
 */
export const push: Effect.Effect<PushReport, PushError, Environment> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const conflictsOfKey = new Map<string, number>()
  let conflictCount = 0
  let rebuilt = false
  let shortened = false
  let committed = false
  let requeuedRowCount = 0
  let discardedByServerCount = 0
  const reportOf = (outcome: PushReport["outcome"]) =>
    Effect.map(db.read(Status.read), (status): PushReport => ({
      outcome: committed ? "committed" : outcome,
      status,
      requeuedRowCount,
      conflictCount,
      discardedByServerCount
    }))

  for (;;) {
    yield* Effect.flatMap(db.read(Status.situation), (situation) => Gates.pass("pushPending", situation))
    if ((yield* Session.memory).uploadsPaused) return yield* reportOf("skipped_paused")
    const { rowCount } = yield* freeze
    if (rowCount === 0) {
      yield* settleEmptySeed
      return yield* reportOf("no_change")
    }
    const outcome = yield* Upload.run(rowCount, "upload")
    switch (outcome._tag) {
      case "Staged": {
        const replayed = yield* replay(outcome.bundle, outcome.proven)
        yield* Session.remember({ refusedRequestHash: "" })
        committed = true
        requeuedRowCount += replayed.requeued
        discardedByServerCount += replayed.discarded
        if (!shortened) return yield* reportOf("committed")
        shortened = false
        continue
      }
      case "ReplayPruned": {
        yield* Rebuild.replayPruned
        return yield* reportOf("committed")
      }
      case "Thawed":
        continue
      case "Shortened": {
        shortened = true
        continue
      }
      case "Conflict": {
        const round = yield* Effect.catchTag(
          Conflict.resolve(outcome.details),
          "RowRefused",
          (refused) => rebuilt ? refusedRow(refused) : Effect.void
        )
        if (round === undefined) {
          // The server's row refers to, or makes room for, rows that were not pulled yet, and pull wants the push first:
          // a snapshot brings them and keeps what is pending.
          rebuilt = true
          yield* Rebuild.keepSource("reopen")
          continue
        }
        conflictCount += round.decidedByResolver
        const remainingDirtyCount = yield* db.read(DirtyRows.count)
        if (remainingDirtyCount === 0) return yield* reportOf("no_change")
        for (const key of round.keys) {
          const times = (conflictsOfKey.get(key) ?? 0) + 1
          conflictsOfKey.set(key, times)
          if (times >= maxConflictsPerKey) {
            return yield* raise((operation) =>
              new PushConflictRetryExhausted({ operation, retryCount: 2, remainingDirtyCount })
            )
          }
        }
      }
    }
  }
})

/**
 * Finds out what became of a frozen upload before a snapshot is laid over the tables: committed ones are replayed, the
 * others become ordinary pending rows (pull.md §5.4).
 *
 * @since 0.1.0
 * @category flows
 */
export const settle: Effect.Effect<void, PushError, Environment> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const outbox = yield* db.transaction(Outbox.load)
  if (outbox.state !== "prepared") return
  const outcome = yield* Upload.run(yield* db.read(frozenRowCount), "settle")
  if (outcome._tag === "Staged") yield* replay(outcome.bundle, outcome.proven)
  else if (outcome._tag === "ReplayPruned") yield* Rebuild.giveUpNumber
  else if (outcome._tag === "Conflict") yield* db.transaction(Outbox.thaw)
})
