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
