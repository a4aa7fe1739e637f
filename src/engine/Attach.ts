/**
 * `attach`: resume, finish an unfinished replace, or ask the server who has authority (lifecycle.md §4, §5, §9).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type {
  CredentialsMismatch,
  InvalidArgumentError,
  LocalDataError,
  RetryExhausted,
  TransportError
} from "../contract/SyncError.js"
import {
  AttachBindingConflict,
  AttachLifecycleUnsupported,
  AttachLocalStateConflict,
  LocalRowsPending,
  TableContractMismatch
} from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import type { AttachResult, LocalRowsSummary } from "../contract/SyncResult.js"
import * as AnswerRules from "../protocol/AnswerRules.js"
import * as Dialect from "../protocol/Dialect.js"
import type * as Wire from "../protocol/Wire.js"
import type { Caller, Refusal, RequestFailure } from "../remote/SyncApi.js"
import { SyncApi, toTransportError } from "../remote/SyncApi.js"
import type { DurableState } from "../storage/ClientState.js"
import * as ClientState from "../storage/ClientState.js"
import * as DirtyRows from "../storage/DirtyRows.js"
import { onCommitFailure } from "../storage/ForeignKeys.js"
import * as Outbox from "../storage/Outbox.js"
import * as SnapshotApply from "../storage/SnapshotApply.js"
import * as SnapshotStage from "../storage/SnapshotStage.js"
import * as Sources from "../storage/Sources.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { SyncTables } from "../storage/SyncTable.js"
import { accept, refusedRow } from "./Answers.js"
import type { DatabaseError } from "./Answers.js"
import { prepareState } from "./Open.js"
import type { OpenError } from "./Open.js"
import type { RebuildError } from "./Rebuild.js"
import * as Rebuild from "./Rebuild.js"
import * as Session from "./Session.js"
import { download } from "./SnapshotDownload.js"
import type { StagedSnapshot } from "./SnapshotDownload.js"
import * as SourceIds from "./SourceIds.js"
import * as Status from "./Status.js"

/**
 * What becomes of pending local rows if the account already has data (lifecycle.md §5, DESIGN D5).
 *
 * @since 0.1.0
 * @category models
 */
export type LocalRows = "keep" | "replace" | "refuse"

/**
 * What an attach may fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type AttachError =
  | OpenError
  | RebuildError
  | InvalidArgumentError
  | AttachBindingConflict
  | AttachLocalStateConflict
  | AttachLifecycleUnsupported
  | TableContractMismatch
  | LocalRowsPending
  | RetryExhausted

type Environment = SyncDatabase | SyncApi | Session.Session

/**
 * What an attach comes to before the server is asked (lifecycle.md §4.1).
 *
 * @since 0.1.0
 * @category models
 */
export type AttachPlan =
  | { readonly _tag: "FinishReplace"; readonly operation: Extract<ClientState.Operation, { kind: "remote_replace" }> }
  /** Left by another client between the snapshot and the end of a replace: attached, but not finished. */
  | { readonly _tag: "FinishAttached" }
  | { readonly _tag: "Resume" }
  | { readonly _tag: "BindingConflict"; readonly attachedUserId: string }
  | { readonly _tag: "ReplaceForOther"; readonly pendingUserId: string }
  | { readonly _tag: "RowsOfOther"; readonly pendingUserId: string }
  | { readonly _tag: "Connect"; readonly discardRows: boolean; readonly switchSource: boolean }

/**
 * Decides what an attach of this user comes to. Pure.
 *
 * @since 0.1.0
 * @category deciding
 */
export const planOf = (state: DurableState, userId: string, localRows: LocalRows): AttachPlan => {
  const { attachment, operation, rowsOfUserId, source } = state
  const attached = attachment.bindingState === "attached"
  if (operation.kind === "remote_replace") {
    if (operation.targetUserId !== userId) return { _tag: "ReplaceForOther", pendingUserId: operation.targetUserId }
    if (attached && attachment.userId === userId) return { _tag: "FinishAttached" }
    return { _tag: "FinishReplace", operation }
  }
  if (attached) {
    return attachment.userId === userId
      ? { _tag: "Resume" }
      : { _tag: "BindingConflict", attachedUserId: attachment.userId }
  }
  const rowsOfOther = rowsOfUserId !== "" && rowsOfUserId !== userId
  if (rowsOfOther && localRows !== "replace") return { _tag: "RowsOfOther", pendingUserId: rowsOfUserId }
  return {
    _tag: "Connect",
    discardRows: rowsOfOther,
    switchSource: source.ownerUserId !== "" && source.ownerUserId !== userId
  }
}

/** The user's former source on this device if it is still usable, else a fresh one, becomes current (lifecycle.md §9). */
const switchSource = (userId: string): Effect.Effect<string, SqlError, SyncDatabase> =>
  Effect.gen(function*() {
    const known = yield* Sources.all
    const former = known.filter((source) => source.ownerUserId === userId && source.replacedBy === "").at(-1)
    const sourceId = former?.sourceId ?? (yield* SourceIds.fresh)
    yield* Sources.ensure(sourceId)
    yield* ClientState.setAttachment({ sourceId })
    return sourceId
  })

/** Makes the database this user's before anything is asked: one transaction (lifecycle.md §4.1 step 8). */
const makeRoom = Effect.fnUntraced(function*(
  userId: string,
  plan: Extract<AttachPlan, { _tag: "Connect" }>
): Effect.fn.Return<
  LocalRowsSummary | undefined,
  DatabaseError | TransportError | CredentialsMismatch | LocalDataError,
  Environment
> {
  if (!plan.discardRows && !plan.switchSource) return undefined
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  // Under another account's token nothing of this may happen.
  yield* api.authorise({ sourceId: "", userId })
  const outcome = yield* db.authoritative(
    Effect.gen(function*() {
      const { dirty, frozen } = yield* DirtyRows.pending
      if (plan.discardRows) {
        yield* SnapshotApply.clearManaged({ keepOutbox: false })
        yield* SnapshotStage.clear
        yield* ClientState.setRowsOfUser("")
      }
      const sourceId = plan.switchSource ? yield* switchSource(userId) : undefined
      return { discarded: plan.discardRows ? dirty + frozen : undefined, sourceId }
    }),
    onCommitFailure
  ).pipe(Effect.catchTag("RowRefused", refusedRow))
  if (outcome.sourceId !== undefined) yield* Session.remember({ sourceId: outcome.sourceId })
  return outcome.discarded === undefined
    ? undefined
    : { kept: 0, identical: 0, discarded: outcome.discarded, recovered: 0 }
})

const unsupported = (reason: AttachLifecycleUnsupported["reason"], serverVersion?: string) =>
  raise((operation) =>
    new AttachLifecycleUnsupported({ operation, reason, ...(serverVersion === undefined ? {} : { serverVersion }) })
  )

const isMissingEndpoint = (refusal: Refusal): boolean =>
  refusal.status === 404 || refusal.status === 405 || refusal.status === 501

/** Refuses a server whose tables are not those of the configuration (lifecycle.md §4.2). */
const compareTables = (tables: SyncTables, specs: ReadonlyArray<Wire.RegisteredTable>) => {
  if (specs.length === 0) return Effect.void
  const remote = new Map(
    specs.map((spec) => [
      `${spec.schema.toLowerCase()}.${spec.table.toLowerCase()}`,
      (spec.sync_key_columns[0] ?? "").toLowerCase()
    ])
  )
  const local = new Map(tables.tables.map((table) => [`${tables.schema}.${table.name}`, table]))
  const clientOnly = [...local.keys()].filter((name) => !remote.has(name))
  const keyMismatches = [...local].flatMap(([name, table]) => {
    const serverKey = remote.get(name)
    return serverKey === undefined || serverKey === "" || serverKey === table.key.name
      ? []
      : [{ table: table.name, clientKey: table.key.name, serverKey }]
  })
  const serverOnly = [...remote.keys()].filter((name) => !local.has(name))
  if (clientOnly.length > 0 || keyMismatches.length > 0) {
    return raise((operation) => new TableContractMismatch({ operation, clientOnly, keyMismatches, serverOnly }))
  }
  return serverOnly.length === 0
    ? Effect.void
    : Effect.logInfo(`the server synchronises ${serverOnly.length} tables that this client does not`)
}

const learnCapabilities = Effect.fnUntraced(function*(
  caller: Caller
): Effect.fn.Return<Wire.Capabilities, AttachError, Environment> {
  const db = yield* SyncDatabase
  const api = yield* SyncApi
  const capabilities = yield* api.capabilities(caller, "connect_capabilities").pipe(
    Effect.catchTag("ProtocolError", () => unsupported("capabilities_invalid")),
    Effect.catchTag(
      "Refusal",
      (refusal): Effect.Effect<never, AttachError> =>
        isMissingEndpoint(refusal) ? unsupported("capabilities_endpoint_missing") : toTransportError(refusal)
    )
  )
  const version = capabilities.protocol_version
  if (Dialect.detect(capabilities) !== "v1") {
    return yield* unsupported("protocol_version_unsupported", version)
  }
  if (capabilities.features["connect_lifecycle"] !== true) {
    return yield* unsupported("connect_lifecycle_absent", version)
  }
  yield* compareTables(yield* db.tables, capabilities.registered_table_specs)
  yield* Session.remember({ features: Dialect.features(capabilities), limits: capabilities.bundle_limits })
  return capabilities
})

const connect = Effect.fnUntraced(function*(
  caller: Caller,
  hasLocalPendingRows: boolean
): Effect.fn.Return<AnswerRules.Connected, Exclude<RequestFailure, Refusal> | AttachLifecycleUnsupported, Environment> {
  const api = yield* SyncApi
  const answer = yield* Effect.catchTag(
    api.connect(caller, hasLocalPendingRows),
    "Refusal",
    (refusal): Effect.Effect<never, AttachLifecycleUnsupported | TransportError> =>
      isMissingEndpoint(refusal) ? unsupported("connect_endpoint_missing") : toTransportError(refusal)
  )
  return yield* accept("connect_request")(AnswerRules.connected(answer))
})

const bindingChanged = raise((operation) => new AttachLocalStateConflict({ operation, reason: "binding_changed" }))

/** The scope is this client's to fill, or empty (lifecycle.md §4.3). */
const initialize = Effect.fnUntraced(function*(
  userId: string,
  server: { readonly initializationId: string; readonly historyId: string }
): Effect.fn.Return<void, DatabaseError | AttachLocalStateConflict, Environment> {
  const { historyId, initializationId } = server
  const db = yield* SyncDatabase
  const { sourceId } = yield* Session.memory
  yield* db.transaction(Effect.gen(function*() {
    const { attachment } = yield* ClientState.read
    const taken = attachment.bindingState === "attached" && attachment.userId !== userId
    if (taken || attachment.sourceId !== sourceId) return yield* bindingChanged
    yield* Sources.ensure(sourceId, userId)
    yield* ClientState.setAttachment({
      bindingState: "attached",
      userId,
      initializationId,
      schema: db.schema
    })
    yield* ClientState.beginHistory(historyId)
    yield* ClientState.setRowsOfUser("")
    yield* ClientState.setOperation({ kind: "none" })
  }))
  yield* Session.remember({ userId, initializationId, connected: true, historyChecked: false })
})

const refuseLocalRows = Effect.gen(function*() {
  const { dirty, frozen } = yield* DirtyRows.pending
  const pendingRowCount = dirty + frozen
  if (pendingRowCount > 0) {
    return yield* raise((operation) => new LocalRowsPending({ operation, pendingRowCount }))
  }
})

/** The account has data: its snapshot becomes the state of the tables (lifecycle.md §5.4). */
const useRemoteState = Effect.fnUntraced(function*(
  userId: string,
  localRows: LocalRows,
  caller: Caller
): Effect.fn.Return<Rebuild.Restored, AttachError, Environment> {
  const db = yield* SyncDatabase
  if (localRows === "refuse") yield* db.read(refuseLocalRows)
  const snapshot = yield* Effect.catchTag(download(undefined, caller), "Refusal", toTransportError)
  const pendingWork = localRows === "replace" ? "discard" : "keep"
  yield* db.transaction(Effect.gen(function*() {
    if (localRows === "refuse") yield* refuseLocalRows
    yield* ClientState.setOperation({
      kind: "remote_replace",
      targetUserId: userId,
      snapshotId: snapshot.snapshotId,
      bundleSeq: snapshot.bundleSeq,
      rowCount: snapshot.rowCount - snapshot.ignoredRowCount
    })
    // Whoever finishes this after a crash has to know which history the rows are from: the server may have another by then.
    yield* ClientState.setHistoryId(snapshot.historyId)
  }))
  return yield* Rebuild.finishRemoteReplace(snapshot, userId, pendingWork)
})

const stagedFrom = (
  operation: Extract<ClientState.Operation, { kind: "remote_replace" }>,
  historyId: string
): StagedSnapshot => ({
  snapshotId: operation.snapshotId,
  bundleSeq: operation.bundleSeq,
  rowCount: operation.rowCount,
  ignoredRowCount: 0,
  historyId,
  bundleHash: ""
})

const connectedResult = Effect.fnUntraced(function*(
  userId: string,
  restored: Rebuild.Restored
): Effect.fn.Return<AttachResult, DatabaseError, Environment> {
  const db = yield* SyncDatabase
  yield* Session.remember({ userId, initializationId: "", connected: true, historyChecked: false })
  return {
    status: "connected",
    outcome: "used_remote_state",
    syncStatus: yield* db.read(Status.read),
    restore: restored.restore,
    localRows: restored.localRows
  }
})

const goOn = Effect.fnUntraced(function*(
  userId: string,
  localRows: LocalRows,
  plan: Extract<AttachPlan, { _tag: "Connect" }>
): Effect.fn.Return<AttachResult, AttachError, Environment> {
  const db = yield* SyncDatabase
  const discarded = yield* makeRoom(userId, plan)
  const { sourceId } = yield* Session.memory
  const caller: Caller = { sourceId, userId }
  const { history_id: historyId } = yield* learnCapabilities(caller)
  const hasLocalPendingRows = yield* db.read(DirtyRows.exists)
  const connected = yield* connect(caller, hasLocalPendingRows)
  switch (connected.resolution) {
    case "retry_later": {
      yield* Session.remember({ connected: false })
      return { status: "retry_later", retryAfter: Duration.seconds(connected.retryAfterSeconds) }
    }
    case "initialize_empty":
    case "initialize_local": {
      const seeded = connected.resolution === "initialize_local"
      yield* initialize(userId, { initializationId: seeded ? connected.initializationId : "", historyId })
      return {
        status: "connected",
        outcome: seeded ? "seeded_from_local" : "started_empty",
        syncStatus: yield* db.read(Status.read),
        ...(discarded === undefined ? {} : { localRows: discarded })
      }
    }
    case "remote_authoritative": {
      const restored = yield* useRemoteState(userId, localRows, caller)
      const localRowsSummary = discarded === undefined
        ? restored.localRows
        : { ...restored.localRows, discarded: restored.localRows.discarded + discarded.discarded }
      return yield* connectedResult(userId, { ...restored, localRows: localRowsSummary })
    }
  }
})

/**
 * Attaches the database to a user. `userId` is not blank; the client is open. Needs the network unless the user is
 * attached already or only the last step of an earlier attach is missing.
 *
 * @since 0.1.0
 * @category flows
 */
export const attach = Effect.fnUntraced(function*(
  userId: string,
  localRows: LocalRows
): Effect.fn.Return<AttachResult, AttachError, Environment> {
  const db = yield* SyncDatabase
  const state = yield* db.transaction(Effect.zipRight(prepareState, ClientState.read))
  yield* Session.remember({ sourceId: state.attachment.sourceId })
  const plan = planOf(state, userId, localRows)
  switch (plan._tag) {
    case "ReplaceForOther":
      return yield* raise((operation) =>
        new AttachLocalStateConflict({
          operation,
          reason: "remote_replace_for_other_user",
          pendingUserId: plan.pendingUserId
        })
      )
    case "RowsOfOther":
      return yield* raise((operation) =>
        new AttachLocalStateConflict({ operation, reason: "rows_of_other_user", pendingUserId: plan.pendingUserId })
      )
    case "BindingConflict":
      return yield* raise((operation) =>
        new AttachBindingConflict({ operation, attachedUserId: plan.attachedUserId, requestedUserId: userId })
      )
    case "Resume": {
      yield* Session.remember({
        userId,
        initializationId: state.attachment.initializationId,
        connected: true,
        historyChecked: false
      })
      return {
        status: "connected",
        outcome: "resumed_attached_state",
        syncStatus: yield* db.read(Status.read)
      }
    }
    case "FinishReplace": {
      const staged = yield* db.read(SnapshotStage.stagedCount(plan.operation.snapshotId))
      if (plan.operation.snapshotId !== "" && staged === plan.operation.rowCount) {
        if (localRows === "refuse") yield* db.read(refuseLocalRows)
        const restored = yield* Rebuild.finishRemoteReplace(
          stagedFrom(plan.operation, state.historyId),
          userId,
          localRows === "replace" ? "discard" : "keep"
        )
        return yield* connectedResult(userId, restored)
      }
      // A replace that another client left half downloaded: nothing of it is of use.
      yield* db.transaction(Effect.zipRight(SnapshotStage.clear, ClientState.setOperation({ kind: "none" })))
      return yield* attach(userId, localRows)
    }
    case "FinishAttached": {
      yield* db.transaction(Effect.gen(function*() {
        if (localRows === "refuse") yield* refuseLocalRows
        // A seed frozen before the replace was never committed: it is pending work like the rest.
        yield* Outbox.thaw
        yield* ClientState.setOperation({ kind: "none" })
        yield* ClientState.setAttachment({ rebuildRequired: true })
      }))
      yield* Session.remember({ userId, initializationId: "", connected: false })
      const restored = yield* Rebuild.keepSource("keep", localRows === "replace" ? "discard" : "keep")
      return yield* connectedResult(userId, restored)
    }
    case "Connect":
      return yield* goOn(userId, localRows, plan)
  }
})
