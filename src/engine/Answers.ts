/**
 * From checked answers and refusals to errors of the running operation.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { ConfigurationError, DatabaseTakenOver, StorageError } from "../contract/SyncError.js"
import { LocalDataError, ProtocolError } from "../contract/SyncError.js"
import type { SyncRequest } from "../contract/SyncOperation.js"
import { raise } from "../contract/SyncOperation.js"
import type { Violation } from "../protocol/AnswerRules.js"
import type { Offender, RowRefused } from "../storage/RowApply.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { Stranger } from "../storage/WireRows.js"

/**
 * What every transaction of the engine may fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type DatabaseError = StorageError | DatabaseTakenOver | ConfigurationError

/**
 * Fails with the rule that an answer breaks.
 *
 * @since 0.1.0
 * @category conversions
 */
export const violated = (request: SyncRequest, violation: Violation): Effect.Effect<never, ProtocolError> =>
  raise((operation) => new ProtocolError({ operation, request, ...violation }))

/**
 * The accepted part of an answer, or the rule it breaks.
 *
 * @since 0.1.0
 * @category conversions
 */
export const accept =
  (request: SyncRequest) => <A>(checked: Either.Either<A, Violation>): Effect.Effect<A, ProtocolError> =>
    Either.isRight(checked) ? Effect.succeed(checked.right) : violated(request, checked.left)

/**
 * Fails with the error of a received row that has no place here.
 *
 * @since 0.1.0
 * @category conversions
 */
export const strange = (stranger: Stranger): Effect.Effect<never, LocalDataError> =>
  raise((operation) => new LocalDataError({ operation, code: stranger.code, row: stranger.row }))

/**
 * Fails with the error of a row that stands in the way.
 *
 * @since 0.1.0
 * @category conversions
 */
export const offended = (offender: Offender, cause?: unknown): Effect.Effect<never, LocalDataError, SyncDatabase> =>
  Effect.flatMap(SyncDatabase, (db) =>
    raise((operation) =>
      new LocalDataError({
        operation,
        code: offender.code,
        row: { schema: db.schema, table: offender.table, key: offender.key },
        ...(offender.column === undefined ? {} : { column: offender.column }),
        ...(cause === undefined ? {} : { cause })
      })
    ))

/**
 * Fails with the error of a row that a constraint refused.
 *
 * @since 0.1.0
 * @category conversions
 */
export const refusedRow = (refused: RowRefused): Effect.Effect<never, LocalDataError, SyncDatabase> =>
  offended(refused.offender, refused.cause)
