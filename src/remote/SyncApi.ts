/**
 * The sync server as a service: one method per endpoint (wire.md §4), row bodies in and out as text.
 *
 * @since 0.1.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { ConfigurationError, CredentialsMismatch, TransportError } from "../contract/SyncError.js"
import type { SyncRequest } from "../contract/SyncOperation.js"
import * as Wire from "../protocol/Wire.js"
import { decodeJson } from "./Answer.js"
import type { Credentials } from "./Credentials.js"
import type { Caller, Outgoing } from "./HttpExchange.js"
import * as HttpExchange from "./HttpExchange.js"
import type { RequestFailure } from "./RequestFailure.js"
import { endlessBytes } from "./ResponseBody.js"
import * as RetryPolicy from "./RetryPolicy.js"
import * as ServerEvents from "./ServerEvents.js"

export type { Caller } from "./HttpExchange.js"
export * from "./RequestFailure.js"

/**
 * Where the server is and how patient to be with it (retry-and-loops.md §2.1). An absent or non-positive limit takes its
 * default.
 *
 * @since 0.1.0
 * @category models
 */
export interface RemoteOptions {
  /**
   * `http` or `https`, with the path prefix of the deployment if there is one; no query, no fragment. Without it requests
   * go to bare paths, and the host's `HttpClient` says where they are (`HttpClientRequest.prependUrl`).
   */
  readonly baseUrl?: string | undefined
  /** From sending a request to the headers of its answer; default 120 s. */
  readonly requestTimeout?: Duration.DurationInput | undefined
  /** Between two pieces of a body; default 30 s. */
  readonly bodyIdleTimeout?: Duration.DurationInput | undefined
  /** Between two bytes of a watch stream; default 65 s, which is two and a half heartbeats. */
  readonly watchIdleTimeout?: Duration.DurationInput | undefined
  /** The size of one body in bytes; default 64 MiB. */
  readonly maxResponseBytes?: number | undefined
  /** Default: three attempts (retry-and-loops.md §1). */
  readonly retryPolicy?: RetryPolicy.RetryPolicyOptions | undefined
  /** Whether requests carry the headers of the running trace; default false. */
  readonly tracePropagation?: boolean | undefined
}

/**
 * A decoded answer together with the very text it was decoded from: row bodies travel as text into SQLite.
 *
 * @since 0.1.0
 * @category models
 */
export interface Page<A> {
  /** The exact text. */
  readonly text: string
  /** Numbers in payloads are doubles here, as the hash rule wants them (hashing.md §2); `text` has every digit. */
  readonly body: A
  /** Hash of the bundle that the answer builds on, blank if the server does not name it (`BaseBundleHashHeader`). */
  readonly baseBundleHash: string
}

/**
 * The sync server.
 *
 * Unless it says otherwise a method repeats its request around sending, body and decoding as the retry policy says
 * (retry-and-loops.md §2) and fails with `RetryExhausted` when a transient failure persists; with retries off the raw
 * failure comes back. Statuses that are not repeated come back as `Refusal`. Answers are decoded, not validated: that is
 * the caller's part (`protocol/AnswerRules`).
 *
 * @since 0.1.0
 * @category services
 */
export class SyncApi extends Context.Tag("oversqlite/SyncApi")<SyncApi, {
  /**
   * Sends nothing: whether the token provider can deliver now, and whether the token is the caller's, as far as it says.
   * For what must not begin under another account's token (lifecycle.md §4.5).
   */
  readonly authorise: (caller: Caller) => Effect.Effect<void, TransportError | CredentialsMismatch>

  /**
   * How often a token that the server no longer took has been replaced by another one: a stream that was opened before
   * still bears the old one (retry-and-loops.md §5.3).
   */
  readonly tokenRefreshes: Effect.Effect<number>

  /**
   * `GET /sync/capabilities` (wire.md §4.12). A body that is no JSON is `ProtocolError(invalid_json)`, one of another
   * shape `ProtocolError(field_invalid)`; lifecycle.md §4.2 has its own name for both.
   */
  readonly capabilities: (
    caller: Caller,
    request: "connect_capabilities" | "watch_capabilities"
  ) => Effect.Effect<Wire.Capabilities, RequestFailure>

  /** `POST /sync/connect` (wire.md §4.1). Repeating it is safe. */
  readonly connect: (
    caller: Caller,
    hasLocalPendingRows: boolean
  ) => Effect.Effect<Wire.ConnectResponse, RequestFailure>

  /**
   * `POST /sync/push-sessions` (wire.md §4.2), **one** attempt: the push has a budget of its own. A blank
   * `initializationId` is left out.
   */
  readonly createPushSession: (
    caller: Caller,
    body: {
      readonly sourceBundleId: number
      readonly plannedRowCount: number
      readonly initializationId: string
    }
  ) => Effect.Effect<Wire.PushSessionResponse, RequestFailure>

  /**
   * `POST /sync/push-sessions/{push_id}/chunks` (wire.md §4.3), **one** attempt. `startRowOrdinal` is 0-based; `rowsJson`
   * is the text of a JSON array of `PushRequestRow` and is sent verbatim.
   */
  readonly uploadChunk: (
    caller: Caller,
    pushId: string,
    startRowOrdinal: number,
    rowsJson: string
  ) => Effect.Effect<Wire.PushChunkResponse, RequestFailure>

  /** `POST /sync/push-sessions/{push_id}/commit` (wire.md §4.4), **one** attempt, no body. */
  readonly commitPushSession: (caller: Caller, pushId: string) => Effect.Effect<Wire.CommitResponse, RequestFailure>

  /**
   * `DELETE /sync/push-sessions/{push_id}` (wire.md §4.5): one attempt of at most five seconds whose outcome is ignored.
   * Works inside finalizers too.
   */
  readonly deletePushSession: (caller: Caller, pushId: string) => Effect.Effect<void>

  /**
   * `GET /sync/committed-bundles/{bundle_seq}/rows` (wire.md §4.6). `afterRowOrdinal` is 0-based and exclusive: the
   * first request must leave it `undefined`. **One** attempt as `committed_bundle_chunk_fetch`, repeated by the policy
   * as `history_check`.
   */
  readonly committedRows: (
    caller: Caller,
    options: {
      readonly bundleSeq: number
      readonly afterRowOrdinal: number | undefined
      readonly maxRows: number
      readonly request: "committed_bundle_chunk_fetch" | "history_check"
    }
  ) => Effect.Effect<Page<Wire.CommittedRowsPage>, RequestFailure>

  /** `GET /sync/pull` (wire.md §4.7). `afterBundleSeq` is exclusive, `targetBundleSeq` inclusive. */
  readonly pull: (
    caller: Caller,
    options: {
      readonly afterBundleSeq: number
      readonly maxBundles: number
      readonly targetBundleSeq: number | undefined
    }
  ) => Effect.Effect<Page<Wire.PullPage>, RequestFailure>

  /** `POST /sync/snapshot-sessions` (wire.md §4.9), without a body for a keep-source snapshot. Repeating it is safe. */
  readonly createSnapshotSession: (
    caller: Caller,
    replacement: Wire.SourceReplacement | undefined
  ) => Effect.Effect<Page<Wire.SnapshotSession>, RequestFailure>

  /** `GET /sync/snapshot-sessions/{snapshot_id}` (wire.md §4.10). `afterRowOrdinal` is 1-based and exclusive, 0 first. */
  readonly snapshotChunk: (
    caller: Caller,
    snapshotId: string,
    options: { readonly afterRowOrdinal: number; readonly maxRows: number }
  ) => Effect.Effect<Page<Wire.SnapshotChunk>, RequestFailure>

  /** `DELETE /sync/snapshot-sessions/{snapshot_id}` (wire.md §4.11), on the terms of `deletePushSession`. */
  readonly deleteSnapshotSession: (caller: Caller, snapshotId: string) => Effect.Effect<void>

  /**
   * `GET /sync/watch` (wire.md §4.8), **one** attempt. The stream never ends by itself: when the server closes it, it
   * fails with `TransportError(body_interrupted)`; after a silence of `watchIdleTimeout` with `TransportError(timeout)`;
   * an event that makes no sense is a `ProtocolError`. `onOpen` runs when the headers of the answer have come.
   */
  readonly watch: (
    caller: Caller,
    afterBundleSeq: number,
    options?: { readonly onOpen?: Effect.Effect<void> | undefined } | undefined
  ) => Stream.Stream<Wire.ChangeEvent, RequestFailure>
}>() {
  /**
   * The service over the host's transport. A base address that is none: `ConfigurationError(base_url_invalid)`.
   *
   * @since 0.1.0
   */
  static readonly layer = (
    options: RemoteOptions
  ): Layer.Layer<SyncApi, ConfigurationError, HttpClient.HttpClient | Credentials> =>
    Layer.effect(SyncApi, make(options))
}

const mebibyte = 1024 * 1024

const baseBundleHashHeader = Wire.BaseBundleHashHeader.toLowerCase()

/** A clean-up that nobody waits for longer than this. */
const deleteTimeout: Duration.DurationInput = "5 seconds"

/**
 * Builds the service; see {@link SyncApi.layer}.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: RemoteOptions
): Effect.Effect<
  Context.Tag.Service<SyncApi>,
  ConfigurationError,
  HttpClient.HttpClient | Credentials
> =>
  Effect.gen(function*() {
    const maxBytes = options.maxResponseBytes ?? 0
    const exchange = yield* HttpExchange.make({
      baseUrl: options.baseUrl,
      requestTimeout: RetryPolicy.positiveOr(options.requestTimeout, "120 seconds"),
      body: {
        idleTimeout: RetryPolicy.positiveOr(options.bodyIdleTimeout, "30 seconds"),
        maxBytes: maxBytes > 0 ? maxBytes : 64 * mebibyte
      },
      tracePropagation: options.tracePropagation ?? false
    })
    const watchIdleTimeout = RetryPolicy.positiveOr(options.watchIdleTimeout, "65 seconds")
    const policy = RetryPolicy.make(options.retryPolicy)

    const repeated = (request: SyncRequest) => RetryPolicy.retry(policy, request)

    const page = <A, I>(schema: Schema.Schema<A, I>) => {
      const decode = decodeJson(schema)
      return (caller: Caller, outgoing: Outgoing): Effect.Effect<Page<A>, HttpExchange.ExchangeFailure> =>
        Effect.flatMap(
          exchange.receive(caller, outgoing),
          ({ headers, text }) =>
            Effect.map(decode(outgoing.request, text), (body) => ({
              text,
              body,
              baseBundleHash: headers[baseBundleHashHeader] ?? ""
            }))
        )
    }
    const answer = <A, I>(schema: Schema.Schema<A, I>) => {
      const send = page(schema)
      return (caller: Caller, outgoing: Outgoing) => Effect.map(send(caller, outgoing), ({ body }) => body)
    }

    const capabilities = answer(Wire.Capabilities)
    const connect = answer(Wire.ConnectResponse)
    const createPushSession = answer(Wire.PushSessionResponse)
    const uploadChunk = answer(Wire.PushChunkResponse)
    const commitPushSession = answer(Wire.CommitResponse)
    const committedRows = page(Wire.CommittedRowsPage)
    const pull = page(Wire.PullPage)
    const createSnapshotSession = page(Wire.SnapshotSession)
    const snapshotChunk = page(Wire.SnapshotChunk)

    // Interruptible on its own: as a finalizer it runs where nothing else is, and must still keep its time limit.
    const deleteQuietly = (caller: Caller, outgoing: Outgoing): Effect.Effect<void> =>
      exchange.receive(caller, outgoing).pipe(
        Effect.interruptible,
        Effect.timeout(deleteTimeout),
        Effect.ignoreLogged
      )

    return SyncApi.of({
      authorise: (caller) => exchange.authorise(caller, "connect_request"),

      tokenRefreshes: exchange.refreshes,

      capabilities: (caller, request) =>
        capabilities(caller, { request, method: "GET", path: ["sync", "capabilities"] }).pipe(repeated(request)),

      connect: (caller, hasLocalPendingRows) =>
        connect(caller, {
          request: "connect_request",
          method: "POST",
          path: ["sync", "connect"],
          json: JSON.stringify({ has_local_pending_rows: hasLocalPendingRows })
        }).pipe(repeated("connect_request")),

      createPushSession: (caller, { initializationId, plannedRowCount, sourceBundleId }) =>
        createPushSession(caller, {
          request: "push_session_create",
          method: "POST",
          path: ["sync", "push-sessions"],
          json: JSON.stringify({
            source_bundle_id: sourceBundleId,
            planned_row_count: plannedRowCount,
            ...(initializationId.trim() === "" ? {} : { initialization_id: initializationId })
          })
        }),

      uploadChunk: (caller, pushId, startRowOrdinal, rowsJson) =>
        uploadChunk(caller, {
          request: "push_chunk_upload",
          method: "POST",
          path: ["sync", "push-sessions", pushId, "chunks"],
          json: `{"start_row_ordinal":${startRowOrdinal},"rows":${rowsJson}}`
        }),

      commitPushSession: (caller, pushId) =>
        commitPushSession(caller, {
          request: "push_session_commit",
          method: "POST",
          path: ["sync", "push-sessions", pushId, "commit"]
        }),

      deletePushSession: (caller, pushId) =>
        deleteQuietly(caller, {
          request: "push_session_delete",
          method: "DELETE",
          path: ["sync", "push-sessions", pushId]
        }),

      committedRows: (caller, { afterRowOrdinal, bundleSeq, maxRows, request }) => {
        const attempt = committedRows(caller, {
          request,
          method: "GET",
          path: ["sync", "committed-bundles", String(bundleSeq), "rows"],
          query: { after_row_ordinal: afterRowOrdinal, max_rows: maxRows }
        })
        return request === "history_check" ? repeated(request)(attempt) : attempt
      },

      pull: (caller, { afterBundleSeq, maxBundles, targetBundleSeq }) =>
        pull(caller, {
          request: "pull_request",
          method: "GET",
          path: ["sync", "pull"],
          query: { after_bundle_seq: afterBundleSeq, max_bundles: maxBundles, target_bundle_seq: targetBundleSeq }
        }).pipe(repeated("pull_request")),

      createSnapshotSession: (caller, replacement) =>
        createSnapshotSession(caller, {
          request: "snapshot_session_create",
          method: "POST",
          path: ["sync", "snapshot-sessions"],
          ...(replacement === undefined ? {} : {
            json: JSON.stringify({
              source_replacement: {
                previous_source_id: replacement.previous_source_id,
                new_source_id: replacement.new_source_id,
                reason: replacement.reason
              }
            })
          })
        }).pipe(repeated("snapshot_session_create")),

      snapshotChunk: (caller, snapshotId, { afterRowOrdinal, maxRows }) =>
        snapshotChunk(caller, {
          request: "snapshot_chunk_fetch",
          method: "GET",
          path: ["sync", "snapshot-sessions", snapshotId],
          query: { after_row_ordinal: afterRowOrdinal, max_rows: maxRows }
        }).pipe(repeated("snapshot_chunk_fetch")),

      deleteSnapshotSession: (caller, snapshotId) =>
        deleteQuietly(caller, {
          request: "snapshot_session_delete",
          method: "DELETE",
          path: ["sync", "snapshot-sessions", snapshotId]
        }),

      watch: (caller, afterBundleSeq, options) =>
        exchange.open(caller, {
          request: "bundle_change_watch",
          method: "GET",
          path: ["sync", "watch"],
          query: { after_bundle_seq: afterBundleSeq },
          accept: "text/event-stream"
        }).pipe(
          Effect.tap(options?.onOpen ?? Effect.void),
          Effect.map((response) =>
            ServerEvents.decode(endlessBytes("bundle_change_watch", response, watchIdleTimeout))
          ),
          Stream.unwrap
        )
    })
  })
