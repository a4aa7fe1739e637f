/**
 * Whether the server still has the history that this database has seen, or has gone back to a backup (recovery.md §2.2).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { CredentialsMismatch, ProtocolError, RetryExhausted, TransportError } from "../contract/SyncError.js"
import { SyncApi, toTransportError } from "../remote/SyncApi.js"
import type { DurableState } from "../storage/ClientState.js"
import * as Session from "./Session.js"

/**
 * What an answer says about the history it comes from; blank where the server says nothing.
 *
 * @since 0.1.0
 * @category models
 */
export interface Evidence {
  /** The server's history (wire.md §12). */
  readonly historyId: string
  /** The bundle that the answer builds on, and its hash. */
  readonly baseBundleSeq: number
  readonly baseBundleHash: string
}

/**
 * `same` and `other` are certain. `trusted`: nothing but the history id agrees, which an operator has to renew when a
 * backup is restored. `unknown`: the answer says nothing.
 *
 * @since 0.1.0
 * @category models
 */
export type Standing = "same" | "other" | "trusted" | "unknown"

type Seen = Pick<DurableState, "attachment" | "historyId" | "newestBundle">

/**
 * The bundle at the checkpoint with its hash; `undefined` if the hash is not known (client-state.md §2.12).
 *
 * @since 0.1.0
 * @category getters
 */
export const fingerprint = ({ attachment, newestBundle }: Seen): DurableState["newestBundle"] | undefined =>
  newestBundle.seq > 0 && newestBundle.seq === attachment.checkpoint && newestBundle.hash !== ""
    ? newestBundle
    : undefined

/**
 * Compares what a database has seen with what an answer says.
 *
 * @since 0.1.0
 * @category comparing
 */
export const compare = (seen: Seen, evidence: Evidence): Standing => {
  const named = seen.historyId !== "" && evidence.historyId !== ""
  if (named && seen.historyId !== evidence.historyId) return "other"
  const known = fingerprint(seen)
  if (known !== undefined && evidence.baseBundleHash !== "" && known.seq === evidence.baseBundleSeq) {
    return known.hash === evidence.baseBundleHash ? "same" : "other"
  }
  return named ? "trusted" : "unknown"
}

/**
 * Asks the server for the bundle with this number: whether it is the same one, or, if the server cannot tell any more,
 * may be (pull.md §2 step 5).
 *
 * @since 0.1.0
 * @category requests
 */
export const stillHas = Effect.fnUntraced(function*(
  bundle: DurableState["newestBundle"]
): Effect.fn.Return<
  boolean,
  TransportError | RetryExhausted | ProtocolError | CredentialsMismatch,
  SyncApi | Session.Session
> {
  const api = yield* SyncApi
  const caller = yield* Session.caller
  return yield* api.committedRows(caller, {
    bundleSeq: bundle.seq,
    afterRowOrdinal: undefined,
    maxRows: 1,
    request: "history_check"
  }).pipe(
    Effect.map((page) => page.body.bundle_hash === bundle.hash),
    Effect.catchTag("Refusal", (refusal) => {
      if (refusal.status === 404 && refusal.serverCode === "committed_bundle_not_found") return Effect.succeed(false)
      const unknown = refusal.status === 404 || (refusal.status === 409 && refusal.serverCode === "history_pruned")
      return unknown ? Effect.succeed(true) : toTransportError(refusal)
    })
  )
})
