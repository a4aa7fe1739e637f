/**
 * One operation at a time, in order of arrival (lifecycle.md §1.3). Effect's own semaphore lets late comers pass.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type { SyncOperation } from "../contract/SyncOperation.js"

/**
 * A lock. `acquire` waits for its turn and is interruptible while it waits; `tryAcquire` never waits.
 *
 * @since 0.1.0
 * @category models
 */
export interface OperationLock {
  /** Runs an effect when it is its turn. */
  readonly withLock: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Runs an effect as soon as the lock is free, before all that wait for it. */
  readonly withLockNext: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /**
   * Runs an effect now, or answers what else to do if the lock is held. The name is what others hear then who are
   * refused; one who has waited for the lock has none.
   */
  readonly withLockOr: <E2, R2>(
    name: SyncOperation,
    busy: (holder: SyncOperation | undefined) => Effect.Effect<never, E2, R2>
  ) => <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | E2, R | R2>
}

/**
 * A free lock.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<OperationLock> = Effect.sync(() => {
  let held = false
  let holder: SyncOperation | undefined
  const waiting: Array<Deferred.Deferred<void>> = []

  const release = Effect.suspend(() => {
    holder = undefined
    const next = waiting.shift()
    if (next === undefined) {
      held = false
      return Effect.void
    }
    return Effect.asVoid(Deferred.succeed(next, undefined))
  })

  // Only the waiting can be interrupted: a lock that was given is always held by somebody who will give it back.
  const acquire = (
    restore: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>,
    queue: (turn: Deferred.Deferred<void>) => void
  ) =>
    Effect.suspend(() => {
      if (!held) {
        held = true
        return Effect.void
      }
      const turn = Deferred.unsafeMake<void>(FiberId.none)
      queue(turn)
      return Effect.onInterrupt(restore(Deferred.await(turn)), () =>
        Effect.suspend(() => {
          const place = waiting.indexOf(turn)
          if (place === -1) return release
          waiting.splice(place, 1)
          return Effect.void
        }))
    })

  const locking = (queue: (turn: Deferred.Deferred<void>) => void): OperationLock["withLock"] => (self) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.zipRight(acquire(restore, queue), Effect.ensuring(restore(self), release))
    )

  return {
    withLock: locking((turn) => waiting.push(turn)),
    withLockNext: locking((turn) => waiting.unshift(turn)),
    withLockOr: <E2, R2>(
      name: SyncOperation,
      busy: (holder: SyncOperation | undefined) => Effect.Effect<never, E2, R2>
    ) =>
    <A, E, R>(self: Effect.Effect<A, E, R>) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend((): Effect.Effect<A, E | E2, R | R2> => {
          if (held) return busy(holder)
          held = true
          holder = name
          return Effect.ensuring(restore(self), release)
        })
      )
  }
})
