/**
 * Whether the server still has the history that this database has seen, or has gone back to a backup (recovery.md §2.2).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { CredentialsMismatch, ProtocolError, RetryExhausted, TransportError } from "../contract/SyncError.js"
import { SyncApi, toTransportError } from "../remote/SyncApi.js"
import type { BundleMark, DurableState } from "../storage/ClientState.js"
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
  /** Bundles that the answer builds on or contains. */
  readonly bundles: ReadonlyArray<BundleMark>
}

/**
 * `same` and `other` are certain. `trusted`: nothing but the history id agrees, which an operator has to renew when a
 * backup is restored. `unknown`: the answer says nothing.
 *
 * @since 0.1.0
 * @category models
 */
export type Standing = "same" | "other" | "trusted" | "unknown"

type Seen = Pick<DurableState, "attachment" | "historyId" | "newestBundle" | "outbox" | "ownBundle">

/**
 * Bundles that this database knows by their hash, oldest first: the one at the checkpoint (client-state.md §2.12), and own
 * ones beyond it. The server has all of them as long as it has the newest.
 */
const landmarks = ({ attachment: { checkpoint }, newestBundle, outbox, ownBundle }: Seen): ReadonlyArray<BundleMark> =>
  [
    ...(newestBundle.seq === checkpoint ? [newestBundle] : []),
    ...(ownBundle.seq > checkpoint ? [ownBundle] : []),
    ...(outbox.state === "committed_remote" && outbox.remoteBundleSeq > Math.max(checkpoint, ownBundle.seq)
      ? [{ seq: outbox.remoteBundleSeq, hash: outbox.remoteBundleHash }]
      : [])
  ].filter(({ hash, seq }) => seq > 0 && hash !== "")

/**
 * The newest bundle that this database knows by its hash, if there is one.
 *
 * @since 0.1.0
 * @category getters
 */
export const newest = (seen: Seen): BundleMark | undefined => landmarks(seen).at(-1)

/**
 * Number of the newest bundle that this database has seen; at least the checkpoint.
 *
 * @since 0.1.0
 * @category getters
 */
export const newestSeq = (seen: Seen): number => Math.max(seen.attachment.checkpoint, newest(seen)?.seq ?? 0)

/**
 * Compares what a database has seen with what an answer says.
 *
 * @since 0.1.0
 * @category comparing
 */
export const compare = (seen: Seen, { bundles, historyId }: Evidence): Standing => {
  const named = seen.historyId !== "" && historyId !== ""
  if (named && seen.historyId !== historyId) return "other"
  const known = new Map(landmarks(seen).map(({ hash, seq }) => [seq, hash]))
  const said = bundles.filter(({ hash, seq }) => hash !== "" && known.has(seq))
  if (said.some(({ hash, seq }) => hash !== known.get(seq))) return "other"
  if (said.some(({ seq }) => seq === newestSeq(seen))) return "same"
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
  bundle: BundleMark
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
