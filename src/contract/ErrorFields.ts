/**
 * What all errors share (errors.md §1.1).
 *
 * @since 0.1.0
 */
import type * as Schema from "effect/Schema"
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
