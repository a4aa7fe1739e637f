/**
 * The sync server as a service: one method per endpoint (wire.md §4), row bodies in and out as text.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type * as Wire from "../protocol/Wire.js"
import type { RequestFailure } from "./RequestFailure.js"

export * from "./RequestFailure.js"

/**
 * Who is calling: the current source (header `Oversync-Source-ID`, left out if blank), and the user the token must
 * belong to (blank: not yet known).
 *
 * @since 0.1.0
 * @category models
 */
export interface Caller {
  readonly sourceId: string
  readonly userId: string
}

/**
 * A decoded answer together with the very text it was decoded from: row bodies travel as text into SQLite.
 *
 * @since 0.1.0
 * @category models
 */
export interface Page<A> {
  readonly text: string
  readonly body: A
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
  ) => Effect.Effect<Wire.SnapshotSession, RequestFailure>

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
   * an event that makes no sense is a `ProtocolError`.
   */
  readonly watch: (caller: Caller, afterBundleSeq: number) => Stream.Stream<Wire.ChangeEvent, RequestFailure>
}>() {}
