/**
 * Signals that tell the process to end.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { constants } from "node:os"
import { performance } from "node:perf_hooks"

/** A key press reaches a process that was started by `npx` twice: through its terminal, and passed on by `npx`. */
const echo = 250

const signals = ["SIGINT", "SIGTERM"] as const

/**
 * As long as the scope is open, the second SIGINT or SIGTERM ends the process at once, with the exit code of a shell for that
 * signal. The first one is the business of whoever runs the program; repetitions within a quarter of a second belong to it.
 *
 * @since 0.1.0
 * @category signals
 */
export const secondEndsAtOnce: Effect.Effect<void, never, Scope.Scope> = Effect.asVoid(Effect.acquireRelease(
  Effect.sync(() => {
    let first: number | undefined
    const listener = (signal: NodeJS.Signals) => {
      const now = performance.now()
      first ??= now
      if (now - first > echo) process.exit(128 + constants.signals[signal])
    }
    for (const signal of signals) process.on(signal, listener)
    return listener
  }),
  (listener) =>
    Effect.sync(() => {
      for (const signal of signals) process.off(signal, listener)
    })
))
