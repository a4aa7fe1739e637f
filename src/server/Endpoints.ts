/**
 * One handler per endpoint: reads the request, runs the operation, writes the answer (wire.md §4).
 *
 * @since 0.1.0
 */
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { ConnectRequest, Limits, PushChunkRequest, PushSessionRequest } from "../protocol/Wire.js"
import { SnapshotSessionRequest } from "../protocol/Wire.js"
import { actor, answered, basedOn, bodyText, json, noContent } from "./Answer.js"
import * as RequestBody from "./RequestBody.js"
import * as RequestQuery from "./RequestQuery.js"
import * as ResponseText from "./ResponseText.js"
import { refused } from "./SyncRefused.js"
import { SyncServer } from "./SyncServer.js"

const decodeConnect = RequestBody.decode(ConnectRequest)
const decodePushSession = RequestBody.decode(PushSessionRequest)
const decodePushChunk = RequestBody.decode(PushChunkRequest)
const decodeSnapshotSession = RequestBody.decode(SnapshotSessionRequest)

const parameter = (name: string) => Effect.map(HttpRouter.params, (params) => params[name] ?? "")

const query = Effect.map(HttpServerRequest.HttpServerRequest, (request) => RequestQuery.parse(request.url))

const unparsable = (what: string) => refused("invalid_request", `Failed to parse ${what} request`)

/**
 * `GET /sync/capabilities`
 *
 * @since 0.1.0
 * @category handlers
 */
export const capabilities = answered(
  "status_failed",
  Effect.gen(function*() {
    const server = yield* SyncServer
    return json(ResponseText.capabilities(yield* server.capabilities(yield* actor)))
  })
)

/**
 * `POST /sync/connect`
 *
 * @since 0.1.0
 * @category handlers
 */
export const connect = answered(
  "connect_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const malformed = unparsable("connect")
    const request = yield* Effect.mapError(decodeConnect(yield* bodyText(malformed)), () => malformed)
    const outcome = yield* (yield* SyncServer).connect(caller, {
      hasLocalPendingRows: request.has_local_pending_rows
    })
    return json(ResponseText.connect(outcome))
  })
)

/**
 * `POST /sync/push-sessions`
 *
 * @since 0.1.0
 * @category handlers
 */
export const createPushSession = answered(
  "push_session_create_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const malformed = unparsable("push session")
    const request = yield* Effect.mapError(decodePushSession(yield* bodyText(malformed)), () => malformed)
    return json(ResponseText.pushSession(yield* (yield* SyncServer).createPushSession(caller, request)))
  })
)

/**
 * `POST /sync/push-sessions/{push_id}/chunks`
 *
 * @since 0.1.0
 * @category handlers
 */
export const uploadChunk = answered(
  "push_chunk_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const malformed = unparsable("push chunk")
    const request = yield* Effect.mapError(decodePushChunk(yield* bodyText(malformed)), () => malformed)
    const pushId = yield* parameter("push_id")
    return json(ResponseText.pushChunk(pushId, yield* (yield* SyncServer).uploadChunk(caller, pushId, request)))
  })
)

/**
 * `POST /sync/push-sessions/{push_id}/commit`
 *
 * @since 0.1.0
 * @category handlers
 */
export const commitPushSession = answered(
  "push_session_commit_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const pushId = yield* parameter("push_id")
    return json(ResponseText.commit(yield* (yield* SyncServer).commitPushSession(caller, pushId)))
  })
)

/**
 * `DELETE /sync/push-sessions/{push_id}`
 *
 * @since 0.1.0
 * @category handlers
 */
export const deletePushSession = answered(
  "push_session_delete_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    yield* (yield* SyncServer).deletePushSession(caller, yield* parameter("push_id"))
    return noContent
  })
)

/** Rows of a page: the default where nothing is said, at most the maximum. */
const pageRows = (given: bigint, maximum: number): number => given > maximum ? maximum : Number(given)

/**
 * `GET /sync/committed-bundles/{bundle_seq}/rows`
 *
 * @since 0.1.0
 * @category handlers
 */
export const committedRows = answered(
  "committed_bundle_rows_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const server = yield* SyncServer
    const { defaultRowsPerCommittedBundleChunk, maxRowsPerCommittedBundleChunk } = server.settings
    const parameters = yield* query
    const bundleSeq = RequestQuery.integer(yield* parameter("bundle_seq"))
    const after = RequestQuery.number(parameters, "after_row_ordinal", null)
    const maxRows = RequestQuery.number(parameters, "max_rows", BigInt(defaultRowsPerCommittedBundleChunk))
    if (bundleSeq === undefined || after === undefined || maxRows === undefined) {
      return yield* refused("committed_bundle_chunk_invalid", "bundle_seq, after_row_ordinal and max_rows are integers")
    }
    if (bundleSeq <= 0n) return yield* refused("committed_bundle_chunk_invalid", "bundle_seq must be > 0")
    if (after !== null && after < 0n) {
      return yield* refused("committed_bundle_chunk_invalid", "after_row_ordinal must be >= 0")
    }
    if (maxRows <= 0n) return yield* refused("committed_bundle_chunk_invalid", "max_rows must be > 0")
    const page = yield* server.committedRows(caller, {
      bundleSeq,
      after: after ?? undefined,
      maxRows: pageRows(maxRows, maxRowsPerCommittedBundleChunk)
    })
    return basedOn(page.baseBundleHash, json(ResponseText.committedRows(page)))
  })
)

/**
 * `GET /sync/pull`
 *
 * @since 0.1.0
 * @category handlers
 */
export const pull = answered(
  "pull_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const server = yield* SyncServer
    const parameters = yield* query
    const after = RequestQuery.number(parameters, "after_bundle_seq", 0n)
    const maxBundles = RequestQuery.number(parameters, "max_bundles", BigInt(Limits.defaultBundlesPerPull))
    const target = RequestQuery.number(parameters, "target_bundle_seq", 0n)
    if (after === undefined || after < 0n) {
      return yield* refused("invalid_request", "after_bundle_seq must be an integer >= 0")
    }
    if (maxBundles === undefined || maxBundles < 1n || maxBundles > Limits.maxBundlesPerPull) {
      return yield* refused("invalid_request", `max_bundles must be between 1 and ${Limits.maxBundlesPerPull}`)
    }
    if (target === undefined || target < 0n) {
      return yield* refused("invalid_request", "target_bundle_seq must be an integer >= 0")
    }
    const page = yield* server.pull(caller, { after, target, maxBundles: Number(maxBundles) })
    return basedOn(page.baseBundleHash, json(ResponseText.pull(page, yield* server.historyId)))
  })
)

/**
 * `GET /sync/watch`
 *
 * @since 0.1.0
 * @category handlers
 */
export const watch = answered(
  "bundle_change_watch_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const server = yield* SyncServer
    const after = RequestQuery.number(yield* query, "after_bundle_seq", 0n)
    const events = yield* server.watch(caller, after !== undefined && after >= 0n ? after : undefined)
    const heartbeats = Stream.repeatEffect(Effect.as(
      Effect.sleep(server.settings.watch.heartbeat),
      ResponseText.heartbeat
    ))
    // The empty text makes the HTTP server send the headers at once.
    const body = Stream.make("").pipe(
      Stream.concat(Stream.merge(Stream.map(events, ResponseText.event), heartbeats, { haltStrategy: "left" })),
      Stream.encodeText
    )
    return HttpServerResponse.stream(body, {
      contentType: "text/event-stream",
      headers: { "cache-control": "no-cache", "x-accel-buffering": "no" }
    })
  })
)

/**
 * `POST /sync/snapshot-sessions`
 *
 * @since 0.1.0
 * @category handlers
 */
export const createSnapshot = answered(
  "snapshot_session_create_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const server = yield* SyncServer
    const malformed = refused("snapshot_session_invalid", "Failed to parse snapshot session request")
    const text = yield* bodyText(malformed)
    if (!RequestBody.endsWell(text)) return yield* malformed
    const request = RequestBody.isBlank(text)
      ? undefined
      : yield* Effect.mapError(decodeSnapshotSession(text), () => malformed)
    const asked = request?.source_replacement
    const { baseBundleHash, session } = yield* server.createSnapshot(
      caller,
      asked && {
        previousSourceId: asked.previous_source_id.trim(),
        newSourceId: asked.new_source_id.trim(),
        reason: asked.reason.trim()
      }
    )
    return basedOn(baseBundleHash, json(ResponseText.snapshotSession(session, yield* server.historyId)))
  })
)

/**
 * `GET /sync/snapshot-sessions/{snapshot_id}`
 *
 * @since 0.1.0
 * @category handlers
 */
export const snapshotChunk = answered(
  "snapshot_chunk_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    const server = yield* SyncServer
    const { defaultRowsPerSnapshotChunk, maxRowsPerSnapshotChunk } = server.settings
    const parameters = yield* query
    const after = RequestQuery.number(parameters, "after_row_ordinal", 0n)
    const maxRows = RequestQuery.number(parameters, "max_rows", BigInt(defaultRowsPerSnapshotChunk))
    if (after === undefined || after < 0n) {
      return yield* refused("snapshot_chunk_invalid", "after_row_ordinal must be an integer >= 0")
    }
    if (maxRows === undefined || maxRows <= 0n) {
      return yield* refused("snapshot_chunk_invalid", "max_rows must be an integer > 0")
    }
    const snapshotId = yield* parameter("snapshot_id")
    const page = yield* server.snapshotChunk(caller, snapshotId, {
      after,
      maxRows: pageRows(maxRows, maxRowsPerSnapshotChunk)
    })
    return json(ResponseText.snapshotChunk(snapshotId, page))
  })
)

/**
 * `DELETE /sync/snapshot-sessions/{snapshot_id}`
 *
 * @since 0.1.0
 * @category handlers
 */
export const deleteSnapshot = answered(
  "snapshot_session_delete_failed",
  Effect.gen(function*() {
    const caller = yield* actor
    yield* (yield* SyncServer).deleteSnapshot(caller, yield* parameter("snapshot_id"))
    return noContent
  })
)

/**
 * `GET /syncx/health`: 503 when unhealthy.
 *
 * @since 0.1.0
 * @category handlers
 */
export const health = answered(
  "health_failed",
  Effect.gen(function*() {
    const document = yield* (yield* SyncServer).health
    return json(ResponseText.health(document), document.status === "healthy" ? 200 : 503)
  })
)

/**
 * `GET /syncx/status`: always 200.
 *
 * @since 0.1.0
 * @category handlers
 */
export const status = answered(
  "status_failed",
  Effect.gen(function*() {
    return json(ResponseText.health(yield* (yield* SyncServer).health))
  })
)

/**
 * `HEAD` on a GET route: authenticated, then refused (wire.md §1.6).
 *
 * @since 0.1.0
 * @category handlers
 */
export const head = answered(
  "method_not_allowed",
  Effect.zipRight(actor, refused("method_not_allowed", "method not allowed"))
)

/**
 * `HEAD` on an open GET route.
 *
 * @since 0.1.0
 * @category handlers
 */
export const openHead = answered("method_not_allowed", refused("method_not_allowed", "method not allowed"))
