/**
 * Watching a scope for commits (wire.md §4.8, server.md §13).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Actor } from "./Actor.js"
import * as ScopeState from "./ScopeState.js"
import type { Fault, ServerParts } from "./ServerParts.js"
import { latestOf, now } from "./ServerParts.js"
import { refused } from "./SyncRefused.js"
import type { SyncRefused } from "./SyncRefused.js"
import type { BundleEvent } from "./Watchers.js"

/** Registers first and reads the newest sequence then, so that no commit falls between. */
const events = ({ store, watchers }: ServerParts, userId: string, after: bigint): Stream.Stream<BundleEvent, Fault> =>
  Stream.unwrapScoped(Effect.gen(function*() {
    const queue = yield* watchers.subscribe(userId)
    const latest = latestOf(yield* store.read(store.scope(userId)))
    const catchUp: BundleEvent = { bundleSeq: latest, sourceId: "", sourceBundleId: 0 }
    return Stream.make(catchUp).pipe(
      Stream.concat(Stream.fromQueue(queue, { maxChunkSize: 1 })),
      Stream.mapAccum(after, (seen, event) => {
        const newer = event.bundleSeq > seen
        return [newer ? BigInt(event.bundleSeq) : seen, newer ? [event] : []]
      }),
      Stream.flattenIterables
    )
  }))

/**
 * The commits of the actor's scope beyond `after`, ascending, the newest only for a slow reader. The stream registers
 * when it is run and ends when the server closes.
 *
 * @since 0.1.0
 * @category flows
 */
export const watch = (parts: ServerParts) =>
  Effect.fnUntraced(function*(
    actor: Actor,
    after: bigint
  ): Effect.fn.Return<Stream.Stream<BundleEvent, Fault>, SyncRefused | Fault> {
    const scope = yield* parts.store.read(parts.store.scope(actor.userId))
    yield* ScopeState.admitRead(actor.userId, scope?.state ?? ScopeState.uninitialized, yield* now)
    return events(parts, actor.userId, after)
  })

/**
 * The refusals that come before anything else (wire.md §4.8): `malformed` says that the cursor was no number.
 *
 * @since 0.1.0
 * @category guards
 */
export const admit = (
  parts: ServerParts,
  actor: Actor,
  malformed: boolean
): Effect.Effect<void, SyncRefused> =>
  Effect.gen(function*() {
    const { allow, enabled } = parts.settings.watch
    if (enabled && !(yield* allow(actor))) {
      return yield* refused("bundle_change_watch_forbidden", "watching is not allowed for this actor")
    }
    if (malformed) return yield* refused("invalid_request", "after_bundle_seq must be an integer >= 0")
    if (!enabled) return yield* refused("bundle_change_watch_disabled", "watching is disabled")
  })
