/**
 * The ways out: `detach`, `syncThenDetach`, `uninstallSync` (lifecycle.md §6–8), and `sync` which the second repeats.
 *
 * @since 0.1.0
 */
import { SqlClient } from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import type { LocalDataError } from "../contract/SyncError.js"
import { DirtyStateRejected } from "../contract/SyncError.js"
import type {
  DetachResult,
  PushOutcome,
  RemoteSyncReport,
  SyncReport,
  SyncThenDetachResult
} from "../contract/SyncResult.js"
import type { SyncApi } from "../remote/SyncApi.js"
import * as ClientState from "../storage/ClientState.js"
import { onCommitFailure } from "../storage/ForeignKeys.js"
import { uninstall as uninstallTables } from "../storage/Installation.js"
import * as SnapshotApply from "../storage/SnapshotApply.js"
import * as SnapshotStage from "../storage/SnapshotStage.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { DatabaseError } from "./Answers.js"
import { refusedRow } from "./Answers.js"
import type { GateError } from "./Gates.js"
import * as Gates from "./Gates.js"
import type { PullError } from "./Pull.js"
import * as Pull from "./Pull.js"
import type { PushError } from "./Push.js"
import * as Push from "./Push.js"
import * as Session from "./Session.js"
import * as Status from "./Status.js"

/**
 * What `detach` may fail with: a row of the host's own tables that refers to a synchronised one, and stays behind, is a
 * `LocalDataError` that names it.
 *
 * @since 0.1.0
 * @category errors
 */
export type DetachError = GateError | DatabaseError | LocalDataError

type Environment = SyncDatabase | SyncApi | Session.Session

const detached: DetachResult = { outcome: "detached", pendingRowCount: 0 }

const anonymous = Effect.gen(function*() {
  yield* ClientState.setAttachment({
    bindingState: "anonymous",
    userId: "",
    initializationId: ""
  })
  yield* ClientState.setOperation({ kind: "none" })
  yield* ClientState.beginHistory("")
  yield* SnapshotStage.clear
})

/**
 * Ends the binding. The check for pending work and the clearing are one transaction, so that no write is lost between
 * them. An unfinished remote replace is cancelled, with all rows kept (lifecycle.md §6.2).
 *
 * @since 0.1.0
 * @category flows
 */
export const detach: Effect.Effect<DetachResult, DetachError, Environment> = Effect.gen(
  function*() {
    const db = yield* SyncDatabase
    const result = yield* db.authoritative(
      Effect.gen(function*() {
        const { durable, pending, situation } = yield* Status.observe
        yield* Gates.pass("detach", situation)
        const status = Status.pendingStatusOf(durable, pending)
        if (durable.operation.kind === "remote_replace") {
          // Nothing pending and attached: the snapshot has been applied, only the end of the replace was missing.
          if (durable.attachment.bindingState === "attached" && status.pendingRowCount === 0) {
            yield* SnapshotApply.clearManaged({ keepOutbox: false })
          }
          yield* anonymous
          return detached
        }
        if (status.blocksDetach) {
          return { outcome: "blocked_unsynced_data", pendingRowCount: status.pendingRowCount } as const
        }
        yield* SnapshotApply.clearManaged({ keepOutbox: false })
        yield* anonymous
        return detached
      }),
      onCommitFailure
    ).pipe(Effect.catchTag("RowRefused", refusedRow))
    if (result.outcome === "detached") {
      yield* Session.remember({ userId: "", initializationId: "", connected: false })
      const { tables } = yield* db.tables
      yield* Session.announce({ tables: tables.map((table) => table.name), reason: "detach" })
    }
    return result
  }
)

const reportOf = (pushOutcome: PushOutcome, pulled: RemoteSyncReport): SyncReport => ({
  pushOutcome,
  remoteOutcome: pulled.outcome,
  status: pulled.status,
  ...(pulled.restore === undefined ? {} : { restore: pulled.restore }),
  ...(pulled.localRows === undefined ? {} : { localRows: pulled.localRows })
})

const maxRounds = 3

/**
 * Push, then pull. If the host's writes get in between the two, both are repeated, three rounds at most (pull.md §7).
 *
 * @since 0.1.0
 * @category flows
 */
export const sync: Effect.Effect<SyncReport, PushError | PullError, Environment> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  yield* Effect.flatMap(db.read(Status.situation), (situation) => Gates.pass("sync", situation))
  let pushOutcome: PushOutcome = "no_change"
  for (let round = 1;; round++) {
    const pushed = yield* Push.push
    // What an earlier round committed stays true when the last one had nothing left to say.
    if (pushOutcome !== "committed") pushOutcome = pushed.outcome
    const pulled = yield* (yield* Session.memory).downloadsPaused
      ? skippedPull
      : Effect.catchTag(
        Pull.pull,
        "DirtyStateRejected",
        (rejected) =>
          pushed.outcome === "skipped_paused" || round === maxRounds
            ? new DirtyStateRejected({ operation: rejected.operation, dirtyCount: rejected.dirtyCount, pushOutcome })
            : Effect.void
      )
    if (pulled !== undefined) return reportOf(pushOutcome, pulled)
  }
})

const skippedPull = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const status = yield* db.read(Status.read)
  const report: RemoteSyncReport = { outcome: "skipped_paused", status, ignoredRowCount: 0 }
  return report
})

/**
 * Syncs and detaches, up to three rounds as long as less is pending after each (lifecycle.md §7).
 *
 * @since 0.1.0
 * @category flows
 */
export const syncThenDetach: Effect.Effect<SyncThenDetachResult, PushError | PullError, Environment> = Effect.gen(
  function*() {
    const db = yield* SyncDatabase
    let previous = Number.POSITIVE_INFINITY
    for (const round of [1, 2, 3] as const) {
      const lastSync = yield* sync
      const result = yield* detach
      if (result.outcome === "detached") {
        return { isSuccess: true, lastSync, detach: result, syncRounds: round, remainingPendingRowCount: 0 }
      }
      const { durable, pending } = yield* db.read(Status.observe)
      const { pendingRowCount } = Status.pendingStatusOf(durable, pending)
      if (round === 3 || pendingRowCount >= previous) {
        return {
          isSuccess: false,
          lastSync,
          detach: { outcome: "blocked_unsynced_data", pendingRowCount },
          syncRounds: round,
          remainingPendingRowCount: pendingRowCount
        }
      }
      previous = pendingRowCount
    }
    return yield* Effect.dieMessage("the third round always returns")
  }
)

/**
 * Removes every trigger and table of the engine from the database; the host's rows stay. Nothing stops it: it is the
 * last way out (lifecycle.md §8).
 *
 * @since 0.1.0
 * @category flows
 */
export const uninstall: Effect.Effect<void, DatabaseError, SyncDatabase> = Effect.flatMap(
  SyncDatabase,
  (db) => db.asInstalled(Effect.provideService(uninstallTables, SqlClient, db.sql))
)
