/**
 * What all errors share (errors.md §1.1).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { isWireErrorCode } from "../protocol/WireError.js"
import type { SyncAction } from "./SyncOperation.js"
import { SyncOperation } from "./SyncOperation.js"

/**
 * The fields of an error: its own and the operation that failed.
 *
 * @since 0.1.0
 * @category schemas
 */
export const fields = <Own extends Schema.Struct.Fields>(
  own: Own
): Own & { readonly operation: typeof SyncOperation } => ({
  ...own,
  operation: SyncOperation
})

const advice: Readonly<Record<SyncAction, string>> = {
  open: "call open",
  attach: "call attach",
  detach: "call detach",
  push: "call pushPending, then repeat",
  rebuild: "call rebuild, then sync",
  retry_later: "try again later",
  reauthenticate: "renew the credentials",
  choose_local_rows: "choose what becomes of the local rows (localRows of attach)",
  fix_argument: "correct the argument",
  fix_configuration: "correct the configuration",
  fix_data: "correct or delete the row",
  fix_resolver: "correct the conflict resolver",
  upgrade_server: "upgrade the server",
  new_client: "build a new client",
  free_space: "free disk space",
  report: "report this"
}

/**
 * The message of an error: what happened to which operation, whether retrying helps, what to do (errors.md §1.1).
 *
 * @since 0.1.0
 * @category formatting
 */
export const sentence = (
  error: { readonly operation: SyncOperation; readonly retryable: boolean; readonly action: SyncAction },
  whatHappened: string
): string =>
  `${error.operation}: ${whatHappened}; ${
    error.retryable ? "the same call may succeed later" : "the same call will fail again"
  }; ${advice[error.action]}`

/**
 * An answer in words: its status, and the server's code if it is one of the catalogue. Anything else in that place is
 * free text of somebody on the way and stays out of messages (errors.md, general rule 4).
 *
 * @since 0.1.0
 * @category formatting
 */
export const answerInWords = (status: number, serverCode: string): string =>
  isWireErrorCode(serverCode) ? `${status} ${serverCode}` : String(status)

interface Told extends Error {
  readonly code: string
  readonly retryable: boolean
  readonly action: SyncAction
}

const isTold = (value: unknown): value is Told =>
  value instanceof Error && "code" in value && "retryable" in value && "action" in value

/**
 * What `JSON.stringify` makes of an error: all its fields, also those that are computed, and the message. Causes that
 * are not errors of the catalogue are left out: nobody knows what a driver, a transport or a token provider puts there.
 *
 * @since 0.1.0
 * @category formatting
 */
export const forLogs = (error: Told): object => {
  const { action, cause, code, message, retryable } = error
  return { ...error, code, retryable, action, message, cause: isTold(cause) ? cause : undefined }
}

/**
 * `Schema.TaggedError` for an error of the catalogue: the class of the tag with these fields (see {@link fields}), whose
 * instances tell all about themselves as JSON (see {@link forLogs}).
 *
 * @since 0.1.0
 * @category schemas
 */
export const taggedError =
  <Self>() => <Tag extends string, Fields extends Schema.Struct.Fields>(tag: Tag, own: Fields) => {
    const made = Schema.TaggedError<Self>(`oversqlite/${tag}`)(tag, own)
    // Always a class: the type only allows for a forgotten `Self`.
    if (typeof made === "function") {
      Object.defineProperty(made.prototype, "toJSON", {
        value(this: Told) {
          return forLogs(this)
        },
        configurable: true,
        writable: true
      })
    }
    return made
  }
