/**
 * What an answer must say beyond its shape before anything of it is used (push.md §4, §5, §7; pull.md §3, §5.3;
 * conflicts.md §1). Pure: an answer and what is known about it go in, the accepted part or the broken rule comes out.
 *
 * @since 0.1.0
 */
export { conflict } from "./ConflictRules.js"
export { pullContinues, pullPage, type PullVerdict, snapshotChunk, snapshotSession } from "./PullRules.js"
export {
  alreadyCommitted,
  chunkAccepted,
  committed,
  committedRowsPage,
  type Connected,
  connected,
  staging,
  type UploadIdentity
} from "./PushRules.js"
export type { Checked, ProtocolRule, Violation } from "./Violation.js"
