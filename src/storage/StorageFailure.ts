/**
 * What a failure of SQLite means to the engine (errors.md §1.6).
 *
 * `SqlError` never leaves the storage room: it says nothing but `cause`. What can be told from the cause is told here,
 * for every driver that names SQLite's result code, its number, or at least its text.
 *
 * @since 0.1.0
 */
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { StorageError } from "../contract/SyncError.js"
import { CurrentOperation } from "../contract/SyncOperation.js"

/**
 * Kinds of refusal by a constraint. `datatype` is a value that a STRICT table does not take, `trigger` an abort by a
 * trigger: the host's own rule, or one of ours.
 *
 * @since 0.1.0
 * @category models
 */
export type ConstraintKind = "unique" | "primary_key" | "foreign_key" | "not_null" | "check" | "datatype" | "trigger"

/**
 * Texts with which the triggers of the engine abort a statement of the host (capture.md §4, §5.4).
 *
 * @since 0.1.0
 * @category models
 */
export type CaptureAbort = "SYNC_TRANSITION_PENDING" | "SYNC_INVALID_KEY" | "SYNC_INVALID_VALUE"

const primaryCodes: Readonly<Record<number, string>> = {
  5: "SQLITE_BUSY",
  6: "SQLITE_LOCKED",
  8: "SQLITE_READONLY",
  10: "SQLITE_IOERR",
  11: "SQLITE_CORRUPT",
  13: "SQLITE_FULL",
  14: "SQLITE_CANTOPEN",
  19: "SQLITE_CONSTRAINT",
  26: "SQLITE_NOTADB"
}

const extendedCodes: Readonly<Record<number, string>> = {
  275: "SQLITE_CONSTRAINT_CHECK",
  787: "SQLITE_CONSTRAINT_FOREIGNKEY",
  1299: "SQLITE_CONSTRAINT_NOTNULL",
  1555: "SQLITE_CONSTRAINT_PRIMARYKEY",
  1811: "SQLITE_CONSTRAINT_TRIGGER",
  2067: "SQLITE_CONSTRAINT_UNIQUE",
  2579: "SQLITE_CONSTRAINT_ROWID",
  3091: "SQLITE_CONSTRAINT_DATATYPE"
}

const texts: ReadonlyArray<readonly [pattern: RegExp, code: string]> = [
  [/UNIQUE constraint failed/i, "SQLITE_CONSTRAINT_UNIQUE"],
  [/FOREIGN KEY constraint failed/i, "SQLITE_CONSTRAINT_FOREIGNKEY"],
  [/NOT NULL constraint failed/i, "SQLITE_CONSTRAINT_NOTNULL"],
  [/CHECK constraint failed/i, "SQLITE_CONSTRAINT_CHECK"],
  [/cannot store \S+ value in \S+ column/i, "SQLITE_CONSTRAINT_DATATYPE"],
  [/\bSYNC_(TRANSITION_PENDING|INVALID_KEY|INVALID_VALUE)\b/, "SQLITE_CONSTRAINT_TRIGGER"],
  [/database (table )?is locked/i, "SQLITE_BUSY"],
  [/database or disk is full/i, "SQLITE_FULL"],
  [/attempt to write a readonly database/i, "SQLITE_READONLY"],
  [/disk I\/O error/i, "SQLITE_IOERR"],
  [/database disk image is malformed/i, "SQLITE_CORRUPT"],
  [/file is not a database/i, "SQLITE_NOTADB"]
]

// An SqlError may wrap the driver's error more than once; five levels are more than any driver uses.
const causes = (error: unknown): ReadonlyArray<object> => {
  const found: Array<object> = []
  for (let cause = error; typeof cause === "object" && cause !== null && found.length < 5;) {
    found.push(cause)
    cause = "cause" in cause ? cause.cause : undefined
  }
  return found
}

const property = (value: object, name: string): unknown => Object.getOwnPropertyDescriptor(value, name)?.value

const textOf = (value: object): string => "message" in value && typeof value.message === "string" ? value.message : ""

const codeFromNumber = (value: unknown): string | undefined =>
  typeof value === "number" ? extendedCodes[value] ?? primaryCodes[value & 0xff] : undefined

/**
 * SQLite's result code, extended where the driver gives it: `SQLITE_BUSY`, `SQLITE_CONSTRAINT_UNIQUE`, ….
 * `undefined` if nothing tells.
 *
 * @since 0.1.0
 * @category getters
 */
export const sqliteCode = (error: unknown): string | undefined => {
  let general: string | undefined
  for (const cause of causes(error)) {
    const named = "code" in cause && typeof cause.code === "string" && cause.code.startsWith("SQLITE_")
      ? cause.code
      : undefined
    const numbered = ["errcode", "resultCode", "rawCode", "errno", "code"].reduce<string | undefined>(
      (code, name) => code ?? codeFromNumber(property(cause, name)),
      undefined
    )
    const told = texts.find(([pattern]) => pattern.test(textOf(cause)))?.[1]
    const exact = [named, numbered].find((code) => code !== undefined && code !== "SQLITE_CONSTRAINT") ?? told
    if (exact !== undefined) return exact
    general = general ?? named ?? numbered
  }
  return general
}

/**
 * Whether another connection holds the lock that the statement needed. The same statement may succeed later.
 *
 * @since 0.1.0
 * @category guards
 */
export const isBusy = (error: unknown): boolean => {
  const code = sqliteCode(error)
  return code !== undefined && (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED"))
}

const kinds: Readonly<Record<string, ConstraintKind>> = {
  SQLITE_CONSTRAINT_UNIQUE: "unique",
  SQLITE_CONSTRAINT_PRIMARYKEY: "primary_key",
  SQLITE_CONSTRAINT_ROWID: "primary_key",
  SQLITE_CONSTRAINT_FOREIGNKEY: "foreign_key",
  SQLITE_CONSTRAINT_NOTNULL: "not_null",
  SQLITE_CONSTRAINT_CHECK: "check",
  SQLITE_CONSTRAINT_DATATYPE: "datatype",
  SQLITE_CONSTRAINT_TRIGGER: "trigger",
  SQLITE_MISMATCH: "datatype"
}

/**
 * The constraint that refused a statement or a commit, or `undefined` if the failure is of another kind. Whether a
 * trigger of the engine has aborted it says {@link captureAbort}.
 *
 * @since 0.1.0
 * @category getters
 */
export const isConstraint = (error: unknown): { readonly kind: ConstraintKind } | undefined => {
  const kind = kinds[sqliteCode(error) ?? ""]
  return kind === undefined ? undefined : { kind }
}

const aborts: ReadonlyArray<CaptureAbort> = ["SYNC_TRANSITION_PENDING", "SYNC_INVALID_KEY", "SYNC_INVALID_VALUE"]

/**
 * The text with which a trigger of the engine aborted the statement (capture.md §4, §5.4), or `undefined`.
 *
 * @since 0.1.0
 * @category getters
 */
export const captureAbort = (error: unknown): CaptureAbort | undefined => {
  const all = causes(error).map(textOf)
  return aborts.find((abort) => all.some((text) => text.includes(abort)))
}

/**
 * The code of the `StorageError` that a failure becomes (errors.md §1.6).
 *
 * @since 0.1.0
 * @category getters
 */
export const storageCode = (error: unknown): StorageError["code"] => {
  const code = sqliteCode(error) ?? ""
  if (isBusy(error)) return "busy"
  if (code.startsWith("SQLITE_FULL")) return "full"
  if (code.startsWith("SQLITE_READONLY") || code === "SQLITE_PERM") return "read_only"
  if (code.startsWith("SQLITE_IOERR") || code.startsWith("SQLITE_CANTOPEN")) return "io"
  if (code.startsWith("SQLITE_CORRUPT") || code.startsWith("SQLITE_NOTADB")) return "corrupt"
  return "other"
}

/**
 * The typed error of a failure, in the name of the running operation. Its `cause` is the driver's own error.
 *
 * @since 0.1.0
 * @category constructors
 */
export const storageError = (error: SqlError): Effect.Effect<StorageError> =>
  Effect.map(CurrentOperation, (operation) => {
    const code = sqliteCode(error)
    return new StorageError({
      operation,
      code: storageCode(error),
      ...(code === undefined ? {} : { sqliteCode: code }),
      cause: error.cause ?? error
    })
  })

/**
 * Turns every `SqlError` into a `StorageError` of the running operation (errors.md §1.6). Failures that are the data's
 * (constraints) have to be caught before, with {@link isConstraint}.
 *
 * @since 0.1.0
 * @category error handling
 */
export const catchSql = <A, E, R>(
  self: Effect.Effect<A, E | SqlError, R>
): Effect.Effect<A, Exclude<E, SqlError> | StorageError, R> =>
  Effect.catchIf(
    self,
    (error): error is SqlError => error instanceof SqlError,
    (error) => Effect.flatMap(storageError(error), Effect.fail)
  )
