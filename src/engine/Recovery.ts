/**
 * What happens when the server shows that this client cannot simply go on: source recovery, a lost scope, a lost
 * initialization lease (recovery.md §2, §3; push.md §10.1). Each is one transaction, then the memory, then the error.
 *
 * @since 0.1.0
 */
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import {
  InitializationLeaseLost,
  ScopeLost,
  SourceRecoveryRequired,
  SourceReplacementDiverged
} from "../contract/SyncError.js"
import type { SourceRecoveryReason } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"
import type { Refusal } from "../remote/SyncApi.js"
import { capturePreExisting } from "../storage/ChangeCapture.js"
import * as ClientState from "../storage/ClientState.js"
import * as CommittedStage from "../storage/CommittedStage.js"
import * as DirtyRows from "../storage/DirtyRows.js"
import * as Outbox from "../storage/Outbox.js"
import * as SnapshotStage from "../storage/SnapshotStage.js"
import * as Sources from "../storage/Sources.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { DatabaseError } from "./Answers.js"
import * as Session from "./Session.js"
import * as SourceIds from "./SourceIds.js"

/**
 * Reserves the replacement source inside a transaction (recovery.md §3): a stored reservation is kept, a replacement
 * named by the server is adopted unless it is used up here or the very source to be replaced, otherwise a fresh id is taken.
 *
 * @since 0.1.0
 * @category steps
 */
export const reserveReplacement = Effect.fnUntraced(function*(
  preferred: string
): Effect.fn.Return<string, SqlError | SourceReplacementDiverged, SyncDatabase> {
  const { attachment, storedReplacement } = yield* ClientState.read
  if (storedReplacement !== "") {
    if (preferred !== "" && preferred !== storedReplacement) {
      return yield* raise((operation) =>
        new SourceReplacementDiverged({
          operation,
          reason: "retired_elsewhere",
          localReplacement: storedReplacement,
          remoteReplacement: preferred
        })
      )
    }
    yield* Sources.ensure(storedReplacement)
    return storedReplacement
  }
  const known = (yield* Sources.all).find((source) => source.sourceId === preferred)
  const usable = preferred !== "" && preferred !== attachment.sourceId &&
    (known === undefined || (known.nextSourceBundleId === 1 && known.replacedBy === ""))
  const replacement = usable ? preferred : yield* SourceIds.fresh
  yield* Sources.ensure(replacement)
  return replacement
})

/**
 * Closes both gates durably, then fails with `SourceRecoveryRequired` (recovery.md §2.1). `preferred` is the
 * replacement that the server names, blank if it names none.
 *
 * @since 0.1.0
 * @category transitions
 */
export const enterSourceRecovery = Effect.fnUntraced(function*(
  reason: SourceRecoveryReason,
  options: { readonly preferred?: string; readonly serverMessage?: string | undefined } = {}
): Effect.fn.Return<
  never,
  SourceRecoveryRequired | SourceReplacementDiverged | DatabaseError,
  SyncDatabase | Session.Session
> {
  const db = yield* SyncDatabase
  yield* db.transaction(Effect.gen(function*() {
    const replacementSourceId = yield* reserveReplacement((options.preferred ?? "").trim())
    yield* ClientState.setAttachment({ rebuildRequired: true })
    yield* ClientState.setOperation({ kind: "source_recovery", reason, replacementSourceId })
  }))
  // What an earlier recovery has met says nothing about this one.
  yield* Session.remember({ diverged: false })
  return yield* raise((operation) =>
    new SourceRecoveryRequired({
      operation,
      reason,
      ...(options.serverMessage === undefined ? {} : { serverMessage: options.serverMessage })
    })
  )
})

/**
 * The account's data is gone on the server: every local row becomes pending again under a fresh source and the binding
 * is dissolved; then fails with `ScopeLost` (recovery.md §2.4).
 *
 * @since 0.1.0
 * @category transitions
 */
export const loseScope = Effect.fnUntraced(function*(
  reason: "scope_uninitialized" | "scope_initializing"
): Effect.fn.Return<never, ScopeLost | DatabaseError, SyncDatabase | Session.Session> {
  const db = yield* SyncDatabase
  const lost = yield* db.transaction(Effect.gen(function*() {
    const installed = yield* db.tables
    const { attachment } = yield* ClientState.read
    yield* Outbox.thaw
    yield* Effect.provideService(capturePreExisting(installed), SqlClient, db.sql)
    yield* db.all("DELETE FROM _sync_row_state WHERE schema_name = ?", [db.schema])
    yield* CommittedStage.clear
    yield* SnapshotStage.clear
    const fresh = yield* SourceIds.fresh
    yield* Sources.replace(attachment.sourceId, fresh)
    yield* dissolve(attachment.userId)
    yield* ClientState.setOperation({ kind: "none" })
    return { sourceId: fresh, requeuedRowCount: yield* DirtyRows.count }
  }))
  yield* Session.remember({ sourceId: lost.sourceId, userId: "", initializationId: "", connected: false })
  return yield* raise((operation) => new ScopeLost({ operation, reason, requeuedRowCount: lost.requeuedRowCount }))
})

/** Anonymous again, remembering whose rows are in the tables. */
const dissolve = Effect.fnUntraced(function*(userId: string) {
  yield* ClientState.setAttachment({
    bindingState: "anonymous",
    userId: "",
    initializationId: ""
  })
  yield* ClientState.beginHistory("")
  yield* ClientState.setRowsOfUser(userId)
})

/**
 * The lease of a seeding upload is gone: the binding is dissolved, rows and outbox stay; then fails with
 * `InitializationLeaseLost` (push.md §10.1).
 *
 * @since 0.1.0
 * @category transitions
 */
export const loseLease = Effect.fnUntraced(function*(
  reason: InitializationLeaseLost["reason"]
): Effect.fn.Return<never, InitializationLeaseLost | DatabaseError, SyncDatabase | Session.Session> {
  const db = yield* SyncDatabase
  yield* db.transaction(Effect.gen(function*() {
    const { attachment } = yield* ClientState.read
    yield* dissolve(attachment.userId)
  }))
  yield* Session.remember({ userId: "", initializationId: "", connected: false })
  return yield* raise((operation) => new InitializationLeaseLost({ operation, reason }))
})

/**
 * Whether a refusal of a read says that the scope is not there, or not yet (recovery.md §2.4).
 *
 * @since 0.1.0
 * @category deciding
 */
export const missingScope = ({ serverCode, status }: Refusal): ScopeLost["reason"] | undefined =>
  status === 409 && (serverCode === "scope_uninitialized" || serverCode === "scope_initializing")
    ? serverCode
    : undefined

/**
 * The server says that the scope is not there (pull, snapshot create): a lost lease if this client was to fill it, else
 * a lost scope. `scope_initializing` while an initialization is pending is the push's business: the caller reports it.
 *
 * @since 0.1.0
 * @category transitions
 */
export const scopeMissing = (
  reason: "scope_uninitialized" | "scope_initializing"
): Effect.Effect<never, InitializationLeaseLost | ScopeLost | DatabaseError, SyncDatabase | Session.Session> =>
  Effect.flatMap(
    Session.memory,
    (
      { initializationId }
    ): Effect.Effect<never, InitializationLeaseLost | ScopeLost | DatabaseError, SyncDatabase | Session.Session> =>
      initializationId === "" ? loseScope(reason) : loseLease("initialization_expired")
  )
