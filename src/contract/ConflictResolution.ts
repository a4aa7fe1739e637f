/**
 * What a conflict resolver is given and what it may answer (conflicts.md §2).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Row } from "../protocol/RowPayload.js"

/**
 * One conflicting row, decoded: `localRow` is the newest local intent (`null` exactly for DELETE); `server` is what
 * the server holds. Members of rows are lowercase column names (conflicts.md §2.1).
 *
 * @since 0.1.0
 * @category models
 */
export interface ConflictInput {
  readonly schema: string
  readonly table: string
  readonly key: string | Uint8Array
  readonly localOp: "INSERT" | "UPDATE" | "DELETE"
  readonly localRow: Row | null
  readonly baseRowVersion: number
  readonly server: {
    readonly shape: "live" | "tombstone" | "missing"
    readonly rowVersion: number
    readonly row: Row | null
  }
}

/**
 * A resolver's answer (conflicts.md §2.2). `KeepMerged` carries a full row; `Recreate` is the explicit way for a local
 * edit to win over a deletion on the server.
 *
 * @since 0.1.0
 * @category models
 */
export type ConflictDecision =
  | { readonly _tag: "AcceptServer" }
  | { readonly _tag: "KeepLocal" }
  | { readonly _tag: "Recreate" }
  | { readonly _tag: "KeepMerged"; readonly row: Row }

/**
 * Decides one conflict. Runs outside any transaction while the host goes on writing; a failure or a defect counts as
 * an invalid resolution (conflicts.md §2).
 *
 * @since 0.1.0
 * @category models
 */
export type ConflictResolver = (conflict: ConflictInput) => Effect.Effect<ConflictDecision, unknown>

/**
 * Take the server's state and drop the local intent.
 *
 * @since 0.1.0
 * @category constructors
 */
export const acceptServer: ConflictDecision = { _tag: "AcceptServer" }

/**
 * Retry the local intent on top of the server's version.
 *
 * @since 0.1.0
 * @category constructors
 */
export const keepLocal: ConflictDecision = { _tag: "KeepLocal" }

/**
 * Insert anew a row that was updated here and deleted on the server.
 *
 * @since 0.1.0
 * @category constructors
 */
export const recreate: ConflictDecision = { _tag: "Recreate" }

/**
 * Write this full row and retry it on top of the server's version.
 *
 * @since 0.1.0
 * @category constructors
 */
export const keepMerged = (row: Row): ConflictDecision => ({ _tag: "KeepMerged", row })

/**
 * The default resolver: the server wins (conflicts.md §2.3).
 *
 * @since 0.1.0
 * @category resolvers
 */
export const serverWins: ConflictResolver = () => Effect.succeed(acceptServer)

/**
 * The local change wins, also over a deletion on the server (conflicts.md §2.3).
 *
 * @since 0.1.0
 * @category resolvers
 */
export const clientWins: ConflictResolver = (conflict) =>
  Effect.succeed(conflict.localOp === "UPDATE" && conflict.server.shape !== "live" ? recreate : keepLocal)

/**
 * One resolver per table (lowercase name), with a fallback for the others.
 *
 * @example
 * ```ts
 * import { byTable, clientWins, serverWins } from "oversqlite"
 *
 * const resolver = byTable({ notes: clientWins }, serverWins)
 * ```
 *
 * @since 0.1.0
 * @category resolvers
 */
export const byTable = (
  resolvers: Readonly<Record<string, ConflictResolver>>,
  fallback: ConflictResolver = serverWins
): ConflictResolver =>
// A resolver may fail with anything: the engine makes one typed error of it.
// @effect-diagnostics-next-line anyUnknownInErrorContext:off
(conflict) => (Object.hasOwn(resolvers, conflict.table) ? resolvers[conflict.table] ?? fallback : fallback)(conflict)
