/** A host that knows nothing but what results and errors tell it to do (recovery.md §8). */
import { assert } from "@effect/vitest"
import { Effect, Either, TestClock } from "effect"
import type { SyncError } from "oversqlite"
import type { Device } from "./Devices.js"
import { checkInvariants } from "./Invariants.js"

type Step = "open" | "attach" | "pushPending" | "rebuild" | "sync" | "detach" | "wait"

const isSyncError = (error: unknown): error is SyncError =>
  typeof error === "object" && error !== null && "action" in error

/** What the `action` of an error asks for. */
const stepOf = (error: unknown): Step | undefined => {
  if (!isSyncError(error)) return undefined
  switch (error.action) {
    case "open":
    case "attach":
    case "detach":
    case "rebuild":
      return error.action
    case "push":
      return "pushPending"
    case "retry_later":
      return "wait"
    default:
      return undefined
  }
}

const run = (device: Device, user: string, step: Step): Effect.Effect<unknown, unknown> => {
  switch (step) {
    case "attach":
      return Effect.tap(
        device.sync.attach(user),
        (result) => result.status === "retry_later" ? TestClock.adjust(result.retryAfter) : Effect.void
      )
    case "wait":
      return TestClock.adjust("1 minute")
    default:
      return device.sync[step]
  }
}

const isClean = (device: Device) =>
  Effect.map(
    Effect.orDie(device.sync.inspect),
    ({ attachment, dirtyRowCount, instance, operation, outbox }) =>
      instance === "connected" && attachment.bindingState === "attached" && !attachment.rebuildRequired &&
      !attachment.initializationPending && operation.kind === "none" && outbox.state === "none" && dirtyRowCount === 0
  )

/**
 * Syncs, and does what the errors ask for, until the client is attached, without gates and without pending work. Fails
 * the test if that takes more than `limit` steps; answers the steps.
 */
export const followGuidance = (
  device: Device,
  options: { readonly user?: string; readonly limit?: number; readonly reference?: boolean } = {}
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const taken: Array<string> = []
    let next: Step = "sync"
    for (let steps = 0; steps < (options.limit ?? 12); steps++) {
      const outcome: Either.Either<unknown, unknown> = yield* Effect.either(run(device, options.user ?? "ann", next))
      const clean = yield* isClean(device)
      yield* checkInvariants(device, { historyWentBack: true, reference: options.reference === true && !clean })
      if (Either.isRight(outcome)) {
        taken.push(next)
        if (next === "sync" && clean) return taken
        next = "sync"
      } else {
        const error: unknown = outcome.left
        taken.push(`${next}: ${isSyncError(error) ? `${error._tag} → ${error.action}` : String(error)}`)
        next = stepOf(error) ?? assert.fail(`no way on: ${taken.join(", ")}`)
      }
    }
    return assert.fail(`a dead end: ${taken.join(", ")}`)
  })
