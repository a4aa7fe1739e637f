/**
 * `inspect`: the durable state as one value, without row contents (errors.md §2).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SyncOperation } from "../contract/SyncOperation.js"
import type { SourceInfo } from "../contract/SyncResult.js"
import type { Inspection } from "../contract/SyncResult.js"
import * as ClientState from "../storage/ClientState.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import { actionOf, refusalOf } from "./Gates.js"
import * as Session from "./Session.js"
import * as Status from "./Status.js"

interface Stages {
  readonly push: number
  readonly snapshot: number
  readonly sources: number
  /** A JSON array of table names. */
  readonly registered: string
}

const decodeNames = Schema.decodeSync(Schema.parseJson(Schema.Array(Schema.String)))

const operations: ReadonlyArray<SyncOperation> = [
  "open",
  "attach",
  "detach",
  "pendingSyncStatus",
  "syncStatus",
  "syncThenDetach",
  "uninstallSync",
  "pushPending",
  "pullToStable",
  "sync",
  "rebuild",
  "lastBundleSeqSeen",
  "sourceInfo"
]

/**
 * The whole durable state, and for every operation that would be refused now, by what and what to do.
 *
 * @since 0.1.0
 * @category reading
 */
export const inspect: Effect.Effect<Inspection, SqlError, SyncDatabase | Session.Session> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const memory = yield* Session.memory
  const { durable, extra: stages, pending, situation } = yield* Status.observeWith<Stages>([
    "EXISTS (SELECT 1 FROM _sync_push_stage) AS push",
    "EXISTS (SELECT 1 FROM _sync_snapshot_stage) AS snapshot",
    "(SELECT count(*) FROM _sync_source_state) AS sources",
    "(SELECT json_group_array(table_name ORDER BY table_name) FROM _sync_managed_tables) AS registered"
  ])
  const registered = decodeNames(stages.registered)
  const configured = new Set((yield* db.tables).tables.map((table) => table.name))
  const { attachment, operation, outbox } = durable
  return {
    instance: memory.sourceId === "" ? "constructed" : memory.connected ? "connected" : "opened",
    attachment: {
      sourceId: attachment.sourceId,
      bindingState: attachment.bindingState,
      userId: attachment.userId,
      schema: attachment.schema,
      lastBundleSeqSeen: attachment.checkpoint,
      rebuildRequired: attachment.rebuildRequired,
      initializationPending: attachment.initializationId !== ""
    },
    source: { nextSourceBundleId: durable.source.nextSourceBundleId, knownSources: stages.sources },
    operation: {
      kind: operation.kind,
      ...(operation.kind === "source_recovery"
        ? {
          reason: ClientState.recoveryReason(operation.reason),
          ...(operation.replacementSourceId === "" ? {} : { replacementSourceId: operation.replacementSourceId })
        }
        : {}),
      ...(operation.kind === "remote_replace" ? { targetUserId: operation.targetUserId } : {})
    },
    outbox: {
      state: outbox.state,
      sourceBundleId: outbox.sourceBundleId,
      rowCount: pending.frozen,
      ...(outbox.remoteBundleSeq > 0 ? { remoteBundleSeq: outbox.remoteBundleSeq } : {})
    },
    dirtyRowCount: pending.dirty,
    stagedPushRows: stages.push === 1,
    stagedSnapshotRows: stages.snapshot === 1,
    tables: registered.map((table) => ({ table, configured: configured.has(table) })),
    refusals: operations.flatMap((name) => {
      const refusal = refusalOf(name, situation)
      return refusal === undefined ? [] : [{ operation: name, tag: refusal._tag, action: actionOf[refusal._tag] }]
    })
  }
})

/**
 * The source of this database and whether it can go on. Pure.
 *
 * @since 0.1.0
 * @category reading
 */
export const sourceInfoOf = ({ attachment, operation }: ClientState.DurableState): SourceInfo => ({
  currentSourceId: attachment.sourceId,
  rebuildRequired: attachment.rebuildRequired,
  sourceRecoveryRequired: operation.kind === "source_recovery",
  ...(operation.kind === "source_recovery"
    ? { sourceRecoveryReason: ClientState.recoveryReason(operation.reason) }
    : {})
})
