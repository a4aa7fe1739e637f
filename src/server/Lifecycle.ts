/**
 * Running, draining, closed (server.md §14).
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { refused } from "./SyncRefused.js"
import type { SyncRefused } from "./SyncRefused.js"

/**
 * The server has been closed; nothing is done any more.
 *
 * @since 0.1.0
 * @category errors
 */
export class ServerClosed extends Data.TaggedError("ServerClosed")<{}> {
  override get message() {
    return "the sync server is closed"
  }
}

/**
 * What the server is doing: its state, and the operations that run.
 *
 * @since 0.1.0
 * @category models
 */
export interface Activity {
  readonly lifecycle: "running" | "shutting_down" | "closed"
  readonly inflight: number
}

/**
 * Counts operations and refuses new ones once the end has begun.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lifecycle {
  readonly activity: Effect.Effect<Activity>
  /** Runs one operation: `service_unavailable` while draining, `ServerClosed` afterwards. */
  readonly run: <A, E, R>(operation: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SyncRefused | ServerClosed, R>
  /** Refuses new operations, waits for the running ones, then closes. Repeating it waits too. */
  readonly close: Effect.Effect<void>
}

const admit = (activity: Activity): readonly [Effect.Effect<void, SyncRefused | ServerClosed>, Activity] => {
  switch (activity.lifecycle) {
    case "running":
      return [Effect.void, { ...activity, inflight: activity.inflight + 1 }]
    case "shutting_down":
      return [Effect.fail(refused("service_unavailable", "the sync service is shutting down")), activity]
    case "closed":
      return [Effect.fail(new ServerClosed()), activity]
  }
}

/**
 * A running server without operations.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Lifecycle> = Effect.gen(function*() {
  const state = yield* SubscriptionRef.make<Activity>({ lifecycle: "running", inflight: 0 })

  const enter = Effect.flatten(SubscriptionRef.modify(state, admit))
  const leave = SubscriptionRef.update(state, (activity) => ({ ...activity, inflight: activity.inflight - 1 }))

  return {
    activity: SubscriptionRef.get(state),
    run: (operation) => Effect.acquireUseRelease(enter, () => operation, () => leave),
    close: Effect.gen(function*() {
      yield* SubscriptionRef.update(state, (activity) => ({
        ...activity,
        lifecycle: activity.lifecycle === "running" ? "shutting_down" as const : activity.lifecycle
      }))
      yield* Stream.runDrain(Stream.takeUntil(state.changes, (activity) => activity.inflight === 0))
      yield* SubscriptionRef.update(state, (activity) => ({ ...activity, lifecycle: "closed" as const }))
    })
  }
})
