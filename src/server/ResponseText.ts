/**
 * The bodies of the server's answers as text (wire.md §1.5, §4). Row payloads are spliced in as they are stored.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Capabilities, ChangeEvent, CommitResponse, ConnectResponse, HealthDocument } from "../protocol/Wire.js"
import { PushChunkResponse, PushSessionResponse, SnapshotSession } from "../protocol/Wire.js"
import { bundleRow, snapshotRow } from "./BundleText.js"
import * as ExactText from "./ExactText.js"
import type { BundlePage, HistoryPage } from "./History.js"
import type { CreateOutcome } from "./Push.js"
import type { ConnectOutcome } from "./ScopeState.js"
import type { BundleHeader, SnapshotSession as Session, StoredBundleRow } from "./ServerStorage.js"
import type { SnapshotPage } from "./Snapshot.js"
import type { RowConflict, SyncRefused } from "./SyncRefused.js"
import { rfc3339 } from "./Timestamp.js"
import type { BundleEvent } from "./Watchers.js"

const escapeCharacter = (character: string) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0")

/** JSON text with the escapes of the wire, which only concern characters inside of strings. */
const json = (value: unknown): string => JSON.stringify(value).replace(/[<>&\u2028\u2029]/g, escapeCharacter)

/** An object of members that are JSON texts already. */
const object = (members: Readonly<Record<string, string>>): string =>
  "{" + Object.entries(members).map(([name, text]) => `"${name}":${text}`).join(",") + "}"

const array = (texts: ReadonlyArray<string>): string => "[" + texts.join(",") + "]"

const encoder = <A, I>(schema: Schema.Schema<A, I>) => {
  const encode = Schema.encodeSync(schema)
  return (value: A): string => json(encode(value))
}

const encodeConnect = encoder(ConnectResponse)
const encodePushSession = encoder(PushSessionResponse)
const encodeSnapshotSession = encoder(SnapshotSession)
const encodeCommit = encoder(CommitResponse)
const encodeChunk = encoder(PushChunkResponse)
const encodeEvent = encoder(ChangeEvent)

/**
 * Answer of capabilities (wire.md §4.12).
 *
 * @since 0.1.0
 * @category bodies
 */
export const capabilities = encoder(Capabilities)

/**
 * Answer of health and status (wire.md §4.13).
 *
 * @since 0.1.0
 * @category bodies
 */
export const health = encoder(HealthDocument)

/**
 * Answer of connect (wire.md §4.1).
 *
 * @since 0.1.0
 * @category bodies
 */
export const connect = (outcome: ConnectOutcome): string =>
  encodeConnect({
    resolution: outcome.resolution,
    initialization_id: "initializationId" in outcome ? outcome.initializationId : "",
    lease_expires_at: "leaseExpiresAt" in outcome ? rfc3339(outcome.leaseExpiresAt) : "",
    retry_after_seconds: "retryAfterSeconds" in outcome ? outcome.retryAfterSeconds : 0
  })

const bundleMembers = (bundle: BundleHeader): CommitResponse => ({
  bundle_seq: bundle.bundleSeq,
  source_id: bundle.sourceId,
  source_bundle_id: bundle.sourceBundleId,
  row_count: bundle.rowCount,
  bundle_hash: bundle.bundleHash
})

const noBundle: CommitResponse = { bundle_seq: 0, source_id: "", source_bundle_id: 0, row_count: 0, bundle_hash: "" }

/**
 * Answer of push create in both its shapes (wire.md §4.2).
 *
 * @since 0.1.0
 * @category bodies
 */
export const pushSession = (outcome: CreateOutcome): string => {
  const session = outcome.status === "staging" ? outcome.session : undefined
  return encodePushSession({
    push_id: session?.pushId ?? "",
    status: outcome.status,
    planned_row_count: session?.plannedRows ?? 0,
    next_expected_row_ordinal: session?.nextRowOrdinal ?? 0,
    ...(outcome.status === "already_committed" ? bundleMembers(outcome.bundle) : noBundle)
  })
}

/**
 * Answer of a chunk upload (wire.md §4.3).
 *
 * @since 0.1.0
 * @category bodies
 */
export const pushChunk = (pushId: string, nextRowOrdinal: number): string =>
  encodeChunk({ push_id: pushId, next_expected_row_ordinal: nextRowOrdinal })

/**
 * Answer of commit (wire.md §4.4).
 *
 * @since 0.1.0
 * @category bodies
 */
export const commit = (bundle: BundleHeader): string => encodeCommit(bundleMembers(bundle))

/**
 * Answer of committed rows (wire.md §4.6).
 *
 * @since 0.1.0
 * @category bodies
 */
export const committedRows = (page: BundlePage): string =>
  commit(page.bundle).slice(0, -1) + "," + object({
    rows: array(page.rows.map(bundleRow)),
    next_row_ordinal: String(page.nextRowOrdinal),
    has_more: String(page.hasMore)
  }).slice(1)

/** Rows come in bundle order, so each bundle takes the next of them. */
const bundles = (headers: ReadonlyArray<BundleHeader>, rows: ReadonlyArray<StoredBundleRow>): ReadonlyArray<string> => {
  let taken = 0
  return headers.map((bundle) => {
    const own = rows.slice(taken, taken + bundle.rowCount)
    taken += bundle.rowCount
    return commit(bundle).slice(0, -1) + `,"rows":${array(own.map(bundleRow))}}`
  })
}

/**
 * Answer of pull (wire.md §4.7).
 *
 * @since 0.1.0
 * @category bodies
 */
export const pull = (page: HistoryPage, historyId: string): string =>
  object({
    stable_bundle_seq: String(page.stableBundleSeq),
    bundles: array(bundles(page.bundles, page.rows)),
    has_more: String(page.hasMore),
    history_id: json(historyId)
  })

/**
 * Answer of snapshot create (wire.md §4.9).
 *
 * @since 0.1.0
 * @category bodies
 */
export const snapshotSession = (session: Session, historyId: string): string =>
  encodeSnapshotSession({
    snapshot_id: session.snapshotId,
    snapshot_bundle_seq: session.bundleSeq,
    row_count: session.rowCount,
    byte_count: session.byteCount,
    expires_at: rfc3339(session.expiresAt),
    history_id: historyId
  })

/**
 * Answer of a snapshot read (wire.md §4.10); `snapshotId` is the path's.
 *
 * @since 0.1.0
 * @category bodies
 */
export const snapshotChunk = (snapshotId: string, page: SnapshotPage): string =>
  object({
    snapshot_id: json(snapshotId),
    snapshot_bundle_seq: String(page.session.bundleSeq),
    rows: array(page.rows.map(snapshotRow)),
    next_row_ordinal: String(page.nextRowOrdinal),
    has_more: String(page.hasMore)
  })

/**
 * One event of the watch stream (wire.md §4.8).
 *
 * @since 0.1.0
 * @category bodies
 */
export const event = (event: BundleEvent): string => {
  const data = encodeEvent({
    bundle_seq: event.bundleSeq,
    source_id: event.sourceId,
    source_bundle_id: event.sourceBundleId
  })
  return `event: bundle\ndata: ${data}\n\n`
}

/**
 * The heartbeat of the watch stream (wire.md §4.8).
 *
 * @since 0.1.0
 * @category bodies
 */
export const heartbeat = ": heartbeat\n\n"

const conflict = (row: RowConflict): string =>
  object({
    schema: json(row.schema),
    table: json(row.table),
    key: json(row.key),
    op: json(row.op),
    base_row_version: json(row.baseRowVersion),
    server_row_version: json(row.serverRowVersion),
    server_row_deleted: json(row.serverRowDeleted),
    server_row: row.serverRow ?? "null"
  })

/**
 * The error envelope (wire.md §1.3, §12).
 *
 * @since 0.1.0
 * @category bodies
 */
export const refusal = (error: SyncRefused): string => {
  const [first, ...others] = error.conflicts?.map(conflict) ?? []
  return object({
    error: json(error.code),
    message: json(error.message),
    ...(first === undefined ? {} : { conflict: first, conflicts: array([first, ...others]) }),
    ...(error.rows === undefined ? {} : { rows: ExactText.encode(error.rows) }),
    ...(error.sourceId === undefined ? {} : { source_id: json(error.sourceId) }),
    ...(error.replacedBySourceId ? { replaced_by_source_id: json(error.replacedBySourceId) } : {})
  })
}
