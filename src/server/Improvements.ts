/**
 * Where this server answers differently from the reference on purpose.
 *
 * @since 0.1.0
 */

/**
 * A difference from the reference server. `visible` says where a client meets it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Improvement {
  readonly reference: string
  readonly here: string
  readonly visible: string
}

/**
 * All intended differences from the reference server (wire.md §12, §9; server.md §17; values.md §10). Everything else is
 * meant to be the same.
 *
 * @since 0.1.0
 * @category documentation
 */
export const improvements = {
  exactIntegers: {
    reference: "numbers pass through binary64; integers beyond 2^53 are rounded, 64-bit limits are refused",
    here: "integers keep every digit of the signed 64-bit range; the hash rule is unchanged",
    visible: "payloads; feature exact_integers"
  },
  batchConflicts: {
    reference: "a conflicting commit names the first conflict",
    here: "it names the first, and in `conflicts` all of them, up to 1000",
    visible: "409 push_conflict; feature batch_conflicts"
  },
  historyId: {
    reference: "a server restored from a backup looks like any other",
    here: "answers carry the id of the store's history, which is renewed after a restore",
    visible: "capabilities, pull, snapshot sessions; feature history_id"
  },
  namedRefusals: {
    reference: "a refused commit is a bare 500, a refused chunk a message",
    here: "both name the rows and why",
    visible: "`rows` in 400 push_chunk_invalid and 500 push_session_commit_failed; feature named_refusals"
  },
  prunedFromZero: {
    reference: "a pull from 0 silently skips what was pruned",
    here: "it is answered 409 history_pruned, as from any other checkpoint below the floor",
    visible: "GET /sync/pull"
  },
  uniqueAtTheEnd: {
    reference: "unique columns are checked statement by statement",
    here: "they are checked with the whole bundle in place, so that values can be swapped",
    visible: "POST …/commit"
  },
  foldedMembers: {
    reference: "a payload member in another case silently becomes NULL or fails the commit",
    here: "it is the column of that name; two spellings of one column are refused",
    visible: "payload members"
  },
  setNull: {
    reference: "ON DELETE SET NULL and SET DEFAULT fail, because they would clear the scope too",
    here: "they work",
    visible: "POST …/commit"
  },
  addedTables: {
    reference: "the set of tables can never change",
    here: "tables can be added",
    visible: "start-up"
  },
  payloadSpelling: {
    reference: "snapshots and conflicts spell payloads as the database does, bundles canonically",
    here: "all three spell them canonically",
    visible: "member order and number spelling of snapshots and conflicts; byte_count of a snapshot is of that text"
  },
  requestLimit: {
    reference: "a request body may have any size",
    here: "a body beyond the limit (64 MiB unless set) is answered 413 with the code invalid_request",
    visible: "every POST"
  },
  concurrentRotations: {
    reference: "of several rotations at once one succeeds and the others answer 500",
    here: "they take turns: identical ones succeed, others get source_retired",
    visible: "POST /sync/snapshot-sessions"
  },
  lastMemberWins: {
    reference: "repeated composite members of a request are merged",
    here: "the last one counts, as for every other member",
    visible: "request bodies"
  },
  sourceIdLength: {
    reference: "source ids beyond about 2.6 kB, and U+0000, fail with 500 somewhere",
    here: "they are accepted everywhere",
    visible: "Oversync-Source-ID, new_source_id"
  }
} as const satisfies Readonly<Record<string, Improvement>>
