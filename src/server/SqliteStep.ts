/**
 * What the steps of the embedded store share.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Scheduler from "effect/Scheduler"
import { ServerStorageError } from "./ServerStorage.js"

const reasonOf = (error: SqlError): "busy" | "full" | "other" => {
  const code = Predicate.hasProperty(error.cause, "code") ? String(error.cause.code) : ""
  return code.startsWith("SQLITE_BUSY") ? "busy" : code.startsWith("SQLITE_FULL") ? "full" : "other"
}

/**
 * A driver failure as the store's error.
 *
 * @since 0.1.0
 * @category errors
 */
export const storageError = (error: SqlError): ServerStorageError =>
  new ServerStorageError({ reason: reasonOf(error), cause: error.cause ?? error })

/**
 * Statements as a step of the store.
 *
 * @since 0.1.0
 * @category error handling
 */
export const step = <A>(statements: Effect.Effect<A, SqlError>): Effect.Effect<A, ServerStorageError> =>
  Effect.mapError(statements, storageError)

/**
 * The steps of a module, each with its error translated.
 *
 * @since 0.1.0
 * @category error handling
 */
export const steps = <Arguments extends ReadonlyArray<unknown>, A>(
  statements: (...args: Arguments) => Effect.Effect<A, SqlError>
): (...args: Arguments) => Effect.Effect<A, ServerStorageError> =>
(...args) => step(statements(...args))

/**
 * Lets timers and sockets have a turn between two slices of one transaction. A real turn of the event loop whatever clock
 * the fiber has, so that virtual time does not stand still in it.
 *
 * @since 0.1.0
 * @category scheduling
 */
export const breathe: Effect.Effect<void> = Effect.withScheduler(
  Effect.yieldNow(),
  new Scheduler.MixedScheduler(0)
)
