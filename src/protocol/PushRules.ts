/**
 * Rules for the answers of connect and push (lifecycle.md §4.3, push.md §4, §5, §7).
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { rowViolation } from "./RowRules.js"
import type { Checked } from "./Violation.js"
import { accept, echo, filled, firstOf, positive, violation } from "./Violation.js"
import type {
  CommitResponse,
  CommittedRowsPage,
  ConnectResponse,
  PushChunkResponse,
  PushSessionResponse
} from "./Wire.js"

/**
 * A decided connect (wire.md §4.1).
 *
 * @category connect
 * @since 0.1.0
 */
export type Connected =
  | { readonly resolution: "remote_authoritative" | "initialize_empty" }
  | { readonly resolution: "initialize_local"; readonly initializationId: string }
  | { readonly resolution: "retry_later"; readonly retryAfterSeconds: number }

/**
 * The answer of connect (wire.md §4.1, lifecycle.md §4.3): `resolution_unknown`, or `field_invalid` where the resolution
 * comes without the member it needs.
 *
 * @category connect
 * @since 0.1.0
 */
export const connected = (answer: ConnectResponse): Checked<Connected> => {
  switch (answer.resolution) {
    case "remote_authoritative":
    case "initialize_empty":
      return Either.right({ resolution: answer.resolution })
    case "initialize_local":
      return accept(
        { resolution: answer.resolution, initializationId: answer.initialization_id },
        filled("initialization_id", answer.initialization_id)
      )
    case "retry_later":
      return accept(
        { resolution: answer.resolution, retryAfterSeconds: answer.retry_after_seconds },
        positive("retry_after_seconds", answer.retry_after_seconds)
      )
    default:
      return Either.left(violation("resolution_unknown", "a known resolution", answer.resolution))
  }
}

/**
 * An opened push session (push.md §4): `status_unknown`, `field_invalid` (blank `push_id`), `echo_mismatch`,
 * `ordinal_mismatch` (a session that does not start at row 0).
 *
 * @category push
 * @since 0.1.0
 */
export const staging = (
  answer: PushSessionResponse,
  request: { readonly plannedRowCount: number }
): Checked<{ readonly pushId: string }> =>
  accept(
    { pushId: answer.push_id },
    firstOf(
      answer.status !== "staging" && violation("status_unknown", "staging", answer.status),
      filled("push_id", answer.push_id),
      echo("planned_row_count", answer.planned_row_count, request.plannedRowCount),
      answer.next_expected_row_ordinal !== 0 &&
        violation("ordinal_mismatch", "next_expected_row_ordinal 0", answer.next_expected_row_ordinal)
    )
  )

/**
 * The upload an answer must be about.
 *
 * @category push
 * @since 0.1.0
 */
export interface UploadIdentity {
  readonly sourceId: string
  readonly sourceBundleId: number
}

const commitOf = (
  answer: CommitResponse,
  upload: UploadIdentity
): Checked<CommitResponse> =>
  accept(
    {
      bundle_seq: answer.bundle_seq,
      source_id: answer.source_id,
      source_bundle_id: answer.source_bundle_id,
      row_count: answer.row_count,
      bundle_hash: answer.bundle_hash
    },
    firstOf(
      echo("source_bundle_id", answer.source_bundle_id, upload.sourceBundleId),
      echo("source_id", answer.source_id, upload.sourceId),
      positive("bundle_seq", answer.bundle_seq),
      positive("row_count", answer.row_count),
      filled("bundle_hash", answer.bundle_hash)
    )
  )

/**
 * A push session that was refused because its tuple is committed (push.md §4): `status_unknown`, `echo_mismatch`,
 * `field_invalid`.
 *
 * @category push
 * @since 0.1.0
 */
export const alreadyCommitted = (
  answer: PushSessionResponse,
  upload: UploadIdentity
): Checked<CommitResponse> =>
  answer.status === "already_committed"
    ? commitOf(answer, upload)
    : Either.left(violation("status_unknown", "already_committed", answer.status))

/**
 * A commit (push.md §5): `echo_mismatch` if it is of another upload, `field_invalid`.
 *
 * @category push
 * @since 0.1.0
 */
export const committed = (answer: CommitResponse, upload: UploadIdentity): Checked<CommitResponse> =>
  commitOf(answer, upload)

/**
 * An accepted chunk (push.md §5): `echo_mismatch`, `ordinal_mismatch`. `startRowOrdinal` is 0-based, `rowCount` that of
 * the chunk. The next ordinal comes out.
 *
 * @category push
 * @since 0.1.0
 */
export const chunkAccepted = (
  answer: PushChunkResponse,
  chunk: { readonly pushId: string; readonly startRowOrdinal: number; readonly rowCount: number }
): Checked<number> => {
  const next = chunk.startRowOrdinal + chunk.rowCount
  return accept(
    next,
    firstOf(
      echo("push_id", answer.push_id, chunk.pushId),
      answer.next_expected_row_ordinal !== next &&
        violation("ordinal_mismatch", `next_expected_row_ordinal ${next}`, answer.next_expected_row_ordinal)
    )
  )
}

/**
 * A page of committed rows (push.md §7): `echo_mismatch` against the known commit, `ordinal_mismatch`, `no_progress` (more
 * is promised, but nothing came), `count_mismatch` (more rows than the bundle has, or fewer at its end), `row_invalid`,
 * `hidden_column`.
 *
 * `afterRowOrdinal` is the 0-based exclusive cursor of the request, `undefined` for the first page. `seen` collects the
 * keys of the bundle: give the same set with each of its pages, so that a key which comes twice is found.
 *
 * @category push
 * @since 0.1.0
 */
export const committedRowsPage = (
  page: CommittedRowsPage,
  request: {
    readonly commit: CommitResponse
    readonly afterRowOrdinal: number | undefined
    readonly seen: Set<string>
  }
): Checked<CommittedRowsPage> => {
  const { afterRowOrdinal, commit, seen } = request
  const count = (afterRowOrdinal ?? -1) + 1 + page.rows.length
  const broken = firstOf(
    echo("bundle_seq", page.bundle_seq, commit.bundle_seq),
    echo("source_id", page.source_id, commit.source_id),
    echo("source_bundle_id", page.source_bundle_id, commit.source_bundle_id),
    echo("row_count", page.row_count, commit.row_count),
    echo("bundle_hash", page.bundle_hash, commit.bundle_hash),
    page.has_more && page.rows.length === 0 && violation("no_progress", "rows before more rows"),
    page.next_row_ordinal !== count - 1 &&
      violation("ordinal_mismatch", `next_row_ordinal ${count - 1}`, page.next_row_ordinal),
    (page.has_more ? count >= commit.row_count : count !== commit.row_count) &&
      violation("count_mismatch", `${commit.row_count} rows`, page.has_more ? `more than ${count}` : count)
  )
  if (broken !== undefined) return Either.left(broken)
  for (const row of page.rows) {
    const violated = rowViolation(row, row.op, seen)
    if (violated !== undefined) return Either.left(violated)
  }
  return Either.right(page)
}
