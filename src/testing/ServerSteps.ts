/**
 * What happens to the server of a simulation now and then.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { SyncServer } from "../server/SyncServer.js"
import type * as Prng from "./Prng.js"
import { stampedRows } from "./SimulatedSchema.js"
import type { State } from "./SimulationState.js"

/** Whose data there is. @internal */
export const users = ["ann", "bob"] as const

/** The server goes back to something older, and the ledger hears of it. @internal */
export const serverGoesBack = Effect.fnUntraced(function*(state: State, back: Effect.Effect<void>) {
  const held: Array<ReadonlyMap<string, { readonly stamp: string; readonly owners: ReadonlyArray<string> }>> = []
  for (const { running } of state.devices) {
    if (running !== undefined) held.push(yield* Effect.orDie(stampedRows(running.second, state.schema)))
  }
  yield* back
  state.historyWentBack = true
  for (const user of users) state.ledger.serverWentBack(user, yield* state.server.rows(user), held)
})

/** Whether a device has, or may be about to have, rows of its own bundles beyond its checkpoint. */
const isAhead = Effect.fnUntraced(function*({ running }: State["devices"][number]) {
  if (running === undefined) return true
  const [found] = yield* Effect.orElseSucceed(
    running.second.unsafe<{ readonly ahead: number }>(
      `SELECT b.state <> 'none' OR EXISTS (SELECT 1 FROM _sync_row_state AS s WHERE s.row_version > a.last_bundle_seq_seen)
                AS ahead FROM _sync_attachment_state AS a, _sync_outbox_bundle AS b`
    ),
    () => []
  )
  return found?.ahead === 1
})

/** The server goes on with a copy of its file. Without a new history id the operator has forgotten something. @internal */
export const restoreServer = Effect.fnUntraced(function*(state: State, backup: string, renewHistory: boolean) {
  const unseen = !renewHistory && (yield* Effect.exists(state.devices, isAhead))
  yield* serverGoesBack(state, state.server.restore(backup, renewHistory))
  if (!unseen) return
  state.restoredUnseen = true
  for (const user of users) state.ledger.gaveUp(user)
})

/** Gives up a part of a user's history; another time it may take some of that back. @internal */
export const pruneHistory = Effect.fnUntraced(function*(
  state: State,
  service: SyncServer["Type"],
  user: string,
  prng: Prng.Prng
) {
  const { latest } = yield* state.server.known(user)
  yield* Effect.ignore(service.setRetainedFloor(user, prng.integer(latest + 1)))
})
