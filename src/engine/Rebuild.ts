/**
 * Rebuilding from a snapshot: keep-source, rotated, replay-pruned, and the snapshot of an attach (pull.md §5, §6;
 * recovery.md §4, §5; lifecycle.md §5).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type {
  InitializationLeaseLost,
  LocalDataError,
  ProtocolError,
  RetryExhausted,
  ScopeLost,
  TransportError
} from "../contract/SyncError.js"
import { AttachRequired, SourceReplacementDiverged } from "../contract/SyncError.js"
import type { CredentialsMismatch } from "../contract/SyncError.js"
import { CurrentOperation, raise } from "../contract/SyncOperation.js"
import type { LocalRowsSummary, RestoreSummary } from "../contract/SyncResult.js"
import type * as Wire from "../protocol/Wire.js"
import type { Refusal } from "../remote/SyncApi.js"
import { toTransportError } from "../remote/SyncApi.js"
import type { SyncApi } from "../remote/SyncApi.js"
import type { DurableState } from "../storage/ClientState.js"
import * as ClientState from "../storage/ClientState.js"
import { onCommitFailure } from "../storage/ForeignKeys.js"
import * as Outbox from "../storage/Outbox.js"
import type { RowRefused } from "../storage/RowApply.js"
import * as SnapshotApply from "../storage/SnapshotApply.js"
import * as Sources from "../storage/Sources.js"
import type { StageIncomplete } from "../storage/StageIncomplete.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { DatabaseError } from "./Answers.js"
import { refusedRow, violated } from "./Answers.js"
import * as History from "./History.js"
import { loseScope, missingScope, reserveReplacement, scopeMissing } from "./Recovery.js"
import * as Session from "./Session.js"
import type { StagedSnapshot } from "./SnapshotDownload.js"
import { download } from "./SnapshotDownload.js"
import * as SourceIds from "./SourceIds.js"

/**
 * What a rebuild did.
 *
 * @since 0.1.0
 * @category models
 */
export interface Restored {
  readonly restore: RestoreSummary
  readonly localRows: LocalRowsSummary
  readonly ignoredRowCount: number
}

/**
 * What a rebuild may fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type RebuildError =
  | DatabaseError
  | TransportError
  | RetryExhausted
  | ProtocolError
  | CredentialsMismatch
  | LocalDataError
  | AttachRequired
  | InitializationLeaseLost
  | ScopeLost
  | SourceReplacementDiverged

type Environment = SyncDatabase | SyncApi | Session.Session

/** Refusals of a keep-source snapshot session (pull.md §5.2). */
const interpretRefusal = (refusal: Refusal): Effect.Effect<never, RebuildError, Environment> =>
  Effect.flatMap(Session.memory, ({ initializationId }): Effect.Effect<never, RebuildError, Environment> => {
    const missing = missingScope(refusal)
    if (missing === undefined) return toTransportError(refusal)
    if (missing === "scope_uninitialized" || initializationId === "") return scopeMissing(missing)
    // A scope that waits for this client's seed has no data that could be missing here: only the push leads on.
    return Effect.zipRight(reopenGate, toTransportError(refusal))
  })

const serverWentBack = (state: DurableState, snapshot: StagedSnapshot): boolean =>
  (state.operation.kind === "source_recovery" && state.operation.reason === "source_sequence_out_of_order") ||
  snapshot.bundleSeq < History.newestSeq(state) ||
  standingOf(state, snapshot) === "other"

const standingOf = (state: DurableState, snapshot: StagedSnapshot): History.Standing =>
  History.compare(state, {
    historyId: snapshot.historyId,
    bundles: [{ seq: snapshot.bundleSeq, hash: snapshot.bundleHash }]
  })

/**
 * Whether the server has lost the newest bundle that is known here although its numbering is beyond it and its history id
 * is the one that is known: what only this device has would vanish under the snapshot.
 */
const hasLostBundle = Effect.fnUntraced(function*(snapshot: StagedSnapshot) {
  const db = yield* SyncDatabase
  const state = yield* db.read(ClientState.read)
  const known = History.newest(state)
  return known !== undefined && !serverWentBack(state, snapshot) && standingOf(state, snapshot) === "trusted" &&
    !(yield* History.stillHas(known))
})

/** Runs the transaction that applies a snapshot and gives its failures their public names. */
const applying = <A, R>(
  self: Effect.Effect<A, SqlError | RowRefused | StageIncomplete | LocalDataError | AttachRequired, R>
) =>
  Effect.flatMap(SyncDatabase, (db) => db.authoritative(self, onCommitFailure)).pipe(
    Effect.catchTags({
      RowRefused: refusedRow,
      StageIncomplete: (incomplete: StageIncomplete) =>
        violated("snapshot_chunk_fetch", {
          rule: "count_mismatch",
          expected: String(incomplete.expected),
          actual: String(incomplete.actual)
        })
    })
  )

const afterwards = (snapshot: StagedSnapshot) =>
  ClientState.beginHistory(snapshot.historyId, { seq: snapshot.bundleSeq, hash: snapshot.bundleHash })

const announceReplaced = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  yield* Session.announce({ tables: tables.map((table) => table.name), reason: "snapshot" })
})

const restoredFrom = (snapshot: StagedSnapshot, localRows: LocalRowsSummary): Restored => ({
  restore: { bundleSeq: snapshot.bundleSeq, rowCount: snapshot.rowCount },
  localRows,
  ignoredRowCount: snapshot.ignoredRowCount
})

const attachedState = Effect.gen(function*() {
  const state = yield* ClientState.read
  if (state.attachment.bindingState !== "attached" || state.attachment.userId === "") {
    return yield* raise((operation) => new AttachRequired({ operation, reason: "anonymous" }))
  }
  return state
})

const closeGate = Effect.flatMap(
  SyncDatabase,
  (db) => db.transaction(Effect.zipRight(attachedState, ClientState.setAttachment({ rebuildRequired: true })))
)

/**
 * Replaces the tables by a snapshot under the same source; pending work stays pending (pull.md §5).
 *
 * `gate`: `keep` leaves the rebuild gate closed if the rebuild fails, because incremental sync is impossible;
 * `reopen` opens it again, because it was open before and nothing is missing (pull.md §5.2).
 *
 * @since 0.1.0
 * @category flows
 */
export const keepSource = (
  gate: "keep" | "reopen",
  localRows: "keep" | "discard" = "keep"
): Effect.Effect<Restored, RebuildError, Environment> =>
  Effect.gen(function*() {
    const operation = yield* CurrentOperation
    yield* closeGate
    const snapshot = yield* Effect.catchTag(download(undefined), "Refusal", interpretRefusal)
    const lost = yield* hasLostBundle(snapshot)
    yield* Session.report({ operation, phase: "apply", done: 0, total: snapshot.rowCount })
    const summary = yield* applying(Effect.gen(function*() {
      const state = yield* attachedState
      const committed = state.outbox.state === "committed_remote" ? state.outbox : undefined
      // Whoever did not settle it: frozen rows are pending work like any other, and never lost with the outbox.
      if (state.outbox.state === "prepared") yield* Outbox.thaw
      const applied = yield* SnapshotApply.apply({
        snapshotId: snapshot.snapshotId,
        stagedRowCount: snapshot.rowCount - snapshot.ignoredRowCount,
        pendingWork: localRows,
        rebaseToZero: false,
        keepOutbox: false,
        serverWentBack: lost || serverWentBack(state, snapshot)
      })
      if (committed !== undefined) {
        yield* Sources.raiseCounter(committed.sourceId, committed.sourceBundleId + 1)
      }
      yield* afterwards(snapshot)
      return applied
    }))
    yield* announceReplaced
    return restoredFrom(snapshot, summary)
  }).pipe(
    Effect.onError(() => gate === "reopen" ? Effect.ignore(reopenGate) : Effect.void)
  )

/** Only a gate that this client may still open: attached and no source recovery. */
const reopenGate = Effect.flatMap(SyncDatabase, (db) =>
  db.transaction(Effect.gen(function*() {
    const { attachment, operation } = yield* ClientState.read
    if (attachment.bindingState === "attached" && operation.kind === "none") {
      yield* ClientState.setAttachment({ rebuildRequired: false })
    }
  })))

/**
 * A `prepared` upload under a committed number, of which nobody can say whose bundle it was, gives the number up and
 * becomes pending work; the rebuild gate is closed (recovery.md §4). Does nothing for other uploads.
 *
 * @since 0.1.0
 * @category transitions
 */
export const giveUpNumber: Effect.Effect<void, DatabaseError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) =>
    db.transaction(Effect.gen(function*() {
      const { outbox } = yield* ClientState.read
      if (outbox.state !== "prepared") return
      yield* Sources.raiseCounter(outbox.sourceId, outbox.sourceBundleId + 1)
      yield* Outbox.thaw
      yield* ClientState.setAttachment({ rebuildRequired: true })
    }))
)

/**
 * Finishes a push whose own bundle can no longer be read, or cannot be replayed, through a snapshot (recovery.md §4).
 * A `prepared` upload gives up its number first.
 *
 * @since 0.1.0
 * @category flows
 */
export const replayPruned: Effect.Effect<Restored, RebuildError, Environment> = Effect.zipRight(
  giveUpNumber,
  Effect.suspend(() => keepSource("keep"))
)

const diverged = (
  reason: SourceReplacementDiverged["reason"],
  localReplacement: string,
  remoteReplacement?: string
) =>
  Effect.zipRight(
    Session.remember({ diverged: true }),
    raise((operation) =>
      new SourceReplacementDiverged({
        operation,
        reason,
        localReplacement,
        ...(remoteReplacement === undefined ? {} : { remoteReplacement })
      })
    )
  )

/**
 * Refusals of a snapshot session in source recovery (recovery.md §5.2 step 4). A seed that is pending cannot go on under
 * its source either: it begins anew under a fresh one, like everything else in a lost scope (recovery.md §2.4).
 */
const interpretRecoveryRefusal = (refusal: Refusal): Effect.Effect<never, RebuildError, Environment> => {
  const missing = missingScope(refusal)
  return missing === undefined ? toTransportError(refusal) : loseScope(missing)
}

/** Refusals of a rotated snapshot session (recovery.md §5.2 step 4, §5.4). */
const interpretRotatedRefusal =
  (replacement: string) => (refusal: Refusal): Effect.Effect<never, RebuildError, Environment> => {
    if (refusal.status === 409 && refusal.serverCode === "source_retired") {
      const remote = refusal.body?.replaced_by_source_id ?? ""
      return remote.trim() === ""
        ? violated(refusal.request, { rule: "field_invalid", expected: "a replaced_by_source_id" })
        : diverged("retired_elsewhere", replacement, remote)
    }
    if (refusal.status === 409 && refusal.serverCode === "source_replacement_invalid") {
      return diverged("refused", replacement)
    }
    return interpretRecoveryRefusal(refusal)
  }

const usedUp = (replacement: string) =>
  Effect.map(
    Sources.all,
    (sources) =>
      sources.some((source) =>
        source.sourceId === replacement && (source.nextSourceBundleId !== 1 || source.replacedBy !== "")
      )
  )

/**
 * Leaves source recovery: a snapshot, a new source for this database, the frozen upload re-targeted to it, all pending
 * work kept (recovery.md §5). After a divergence the next call takes a source of its own instead of the reserved one.
 *
 * @since 0.1.0
 * @category flows
 */
export const rotated: Effect.Effect<Restored, RebuildError, Environment> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const operation = yield* CurrentOperation
  const around = (yield* Session.memory).diverged
  const reserved = yield* db.transaction(Effect.gen(function*() {
    const state = yield* attachedState
    const reason = state.operation.kind === "source_recovery"
      ? ClientState.recoveryReason(state.operation.reason)
      : "history_pruned"
    const replacement = yield* reserveReplacement("")
    yield* ClientState.setOperation({ kind: "source_recovery", reason, replacementSourceId: replacement })
    yield* ClientState.setAttachment({ rebuildRequired: true })
    return { previous: state.attachment.sourceId, replacement, reason }
  }))
  const request: Wire.SourceReplacement | undefined = around ? undefined : {
    previous_source_id: reserved.previous,
    new_source_id: reserved.replacement,
    reason: reserved.reason
  }
  const snapshot = yield* Effect.catchTag(
    download(request),
    "Refusal",
    around ? interpretRecoveryRefusal : interpretRotatedRefusal(reserved.replacement)
  )
  const lost = yield* hasLostBundle(snapshot)
  yield* Session.report({ operation, phase: "apply", done: 0, total: snapshot.rowCount })
  const applied = yield* applying(Effect.gen(function*() {
    const state = yield* attachedState
    const target = around ? yield* SourceIds.fresh : reserved.replacement
    if (!around && (target === state.attachment.sourceId || (yield* usedUp(target)))) return { _tag: "UsedUp" as const }
    const keepOutbox = state.outbox.state === "prepared"
    const summary = yield* SnapshotApply.apply({
      snapshotId: snapshot.snapshotId,
      stagedRowCount: snapshot.rowCount - snapshot.ignoredRowCount,
      pendingWork: "keep",
      rebaseToZero: false,
      keepOutbox,
      serverWentBack: lost || serverWentBack(state, snapshot)
    })
    if (state.outbox.state === "committed_remote") {
      yield* Sources.raiseCounter(state.outbox.sourceId, state.outbox.sourceBundleId + 1)
    }
    yield* Sources.replace(state.attachment.sourceId, target)
    if (keepOutbox) yield* Outbox.retarget(state.outbox, target)
    yield* ClientState.setOperation({ kind: "none" })
    yield* afterwards(snapshot)
    return { _tag: "Applied" as const, target, summary }
  }))
  if (applied._tag === "UsedUp") return yield* diverged("used_up", reserved.replacement)
  yield* Session.remember({ sourceId: applied.target, diverged: false })
  yield* announceReplaced
  return restoredFrom(snapshot, applied.summary)
})

/**
 * Lays the staged snapshot of a remote replace over the database and attaches it (lifecycle.md §5.4 step 4), in one
 * transaction. If that fails, the operation row goes back to `none` before the error is returned.
 *
 * @since 0.1.0
 * @category flows
 */
export const finishRemoteReplace = Effect.fnUntraced(function*(
  snapshot: StagedSnapshot,
  userId: string,
  pendingWork: "keep" | "discard"
): Effect.fn.Return<Restored, RebuildError, Environment> {
  const db = yield* SyncDatabase
  const summary = yield* applying(Effect.gen(function*() {
    const { attachment, outbox } = yield* ClientState.read
    if (outbox.state !== "none") yield* Outbox.thaw
    // From here on the guard triggers must let pending work back into the tables.
    yield* ClientState.setOperation({ kind: "none" })
    const applied = yield* SnapshotApply.apply({
      snapshotId: snapshot.snapshotId,
      stagedRowCount: snapshot.rowCount - snapshot.ignoredRowCount,
      pendingWork,
      rebaseToZero: true,
      keepOutbox: false,
      serverWentBack: false
    })
    yield* Sources.ensure(attachment.sourceId, userId)
    yield* ClientState.setAttachment({ bindingState: "attached", userId, initializationId: "", schema: db.schema })
    yield* ClientState.setRowsOfUser("")
    yield* afterwards(snapshot)
    return applied
  })).pipe(
    Effect.onError(() =>
      Effect.ignore(db.transaction(Effect.zipRight(
        ClientState.setOperation({ kind: "none" }),
        ClientState.setHistoryId("")
      )))
    )
  )
  yield* announceReplaced
  return restoredFrom(snapshot, summary)
})
