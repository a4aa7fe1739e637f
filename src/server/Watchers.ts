/**
 * Who waits for commits of which user (server.md §13).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"

/**
 * A commit as watchers hear of it; a catch-up event knows no source (wire.md §4.8).
 *
 * @since 0.1.0
 * @category models
 */
export interface BundleEvent {
  readonly bundleSeq: number
  readonly sourceId: string
  readonly sourceBundleId: number
}

/**
 * The watchers of this process.
 *
 * @since 0.1.0
 * @category models
 */
export interface Watchers {
  /** Registers a watcher until the scope closes. Its queue keeps one event, the newest. */
  readonly subscribe: (userId: string) => Effect.Effect<Queue.Queue<BundleEvent>, never, Scope.Scope>
  /** Tells all watchers of a user. */
  readonly publish: (userId: string, event: BundleEvent) => Effect.Effect<void>
  /** How many watchers a user has. */
  readonly count: (userId: string) => Effect.Effect<number>
  /** Ends all streams. */
  readonly close: Effect.Effect<void>
}

/**
 * No watcher yet.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Watchers> = Effect.sync(() => {
  const queues = new Map<string, Set<Queue.Queue<BundleEvent>>>()
  let closed = false

  const unregister = (userId: string, queue: Queue.Queue<BundleEvent>) =>
    Effect.suspend(() => {
      const mine = queues.get(userId)
      mine?.delete(queue)
      if (mine?.size === 0) queues.delete(userId)
      return Queue.shutdown(queue)
    })

  const register = (userId: string) =>
    Effect.tap(Queue.sliding<BundleEvent>(1), (queue) => {
      if (closed) return Queue.shutdown(queue)
      const mine = queues.get(userId) ?? new Set()
      queues.set(userId, mine.add(queue))
      return Effect.void
    })

  return {
    subscribe: (userId) => Effect.acquireRelease(register(userId), (queue) => unregister(userId, queue)),
    publish: (userId, event) =>
      Effect.suspend(() =>
        Effect.forEach(queues.get(userId) ?? [], (queue) => Queue.offer(queue, event), { discard: true })
      ),
    count: (userId) => Effect.sync(() => queues.get(userId)?.size ?? 0),
    close: Effect.suspend(() => {
      closed = true
      const open = Array.from(queues.values()).flatMap((mine) => Array.from(mine))
      return Effect.forEach(open, Queue.shutdown, { discard: true })
    })
  }
})
