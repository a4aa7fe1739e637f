/**
 * Connect: who has authority over the first data of a scope (wire.md §4.1).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Actor } from "./Actor.js"
import * as ScopeState from "./ScopeState.js"
import type { Fault, ServerParts } from "./ServerParts.js"
import { now } from "./ServerParts.js"

/**
 * Resolves the authority and stores the transition. Repeating it is safe.
 *
 * @since 0.1.0
 * @category flows
 */
export const connect = ({ settings, store, uuid }: ServerParts) =>
  Effect.fnUntraced(function*(
    actor: Actor,
    request: { readonly hasLocalPendingRows: boolean }
  ): Effect.fn.Return<ScopeState.ConnectOutcome, Fault> {
    const freshId = yield* uuid
    return yield* store.write(Effect.gen(function*() {
      const scope = yield* store.scope(actor.userId)
      const { next, outcome } = ScopeState.connect(scope?.state ?? ScopeState.uninitialized, {
        sourceId: actor.sourceId,
        hasLocalPendingRows: request.hasLocalPendingRows,
        now: yield* now,
        leaseTtl: settings.initializationLeaseTtl,
        freshId
      })
      if (next !== undefined) yield* store.putScopeState(actor.userId, next)
      return outcome
    }))
  })
