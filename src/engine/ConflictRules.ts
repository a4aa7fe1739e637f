/**
 * What a decision does to the conflicting row: the truth table of conflicts.md §4. Pure.
 *
 * @since 0.1.0
 */
import type { ConflictDecision, ConflictInput } from "../contract/ConflictResolution.js"

/**
 * The effect of a decision. `row`: what happens to the live row; `state`: the row state afterwards, with the server's
 * version v; `requeue`: the intent that is pending afterwards, on base v (0 if the server does not know the row).
 *
 * @since 0.1.0
 * @category models
 */
export interface ConflictEffect {
  readonly row: "take_server" | "delete" | "leave" | "take_merged"
  readonly state: "live" | "deleted" | "removed"
  readonly requeue: "INSERT" | "UPDATE" | "DELETE" | undefined
}

type Key = `${ConflictInput["localOp"]} ${ConflictInput["server"]["shape"]} ${ConflictDecision["_tag"]}`

const none = undefined

// A pair that is missing here is not allowed.
const effects: Partial<Record<Key, ConflictEffect>> = {
  "INSERT live AcceptServer": { row: "take_server", state: "live", requeue: none },
  "INSERT live KeepLocal": { row: "leave", state: "live", requeue: "UPDATE" },
  "INSERT live KeepMerged": { row: "take_merged", state: "live", requeue: "UPDATE" },

  "INSERT tombstone AcceptServer": { row: "delete", state: "deleted", requeue: none },
  "INSERT tombstone KeepLocal": { row: "leave", state: "deleted", requeue: "INSERT" },
  "INSERT tombstone KeepMerged": { row: "take_merged", state: "deleted", requeue: "INSERT" },
  "INSERT tombstone Recreate": { row: "leave", state: "deleted", requeue: "INSERT" },

  "INSERT missing AcceptServer": { row: "delete", state: "removed", requeue: none },
  "INSERT missing KeepLocal": { row: "leave", state: "removed", requeue: "INSERT" },
  "INSERT missing KeepMerged": { row: "take_merged", state: "removed", requeue: "INSERT" },
  "INSERT missing Recreate": { row: "leave", state: "removed", requeue: "INSERT" },

  "UPDATE live AcceptServer": { row: "take_server", state: "live", requeue: none },
  "UPDATE live KeepLocal": { row: "leave", state: "live", requeue: "UPDATE" },
  "UPDATE live KeepMerged": { row: "take_merged", state: "live", requeue: "UPDATE" },

  "UPDATE tombstone AcceptServer": { row: "delete", state: "deleted", requeue: none },
  "UPDATE tombstone Recreate": { row: "leave", state: "deleted", requeue: "INSERT" },

  "UPDATE missing AcceptServer": { row: "delete", state: "removed", requeue: none },
  "UPDATE missing Recreate": { row: "leave", state: "removed", requeue: "INSERT" },

  "DELETE live AcceptServer": { row: "take_server", state: "live", requeue: none },
  "DELETE live KeepLocal": { row: "leave", state: "live", requeue: "DELETE" },

  "DELETE tombstone AcceptServer": { row: "delete", state: "deleted", requeue: none },
  "DELETE tombstone KeepLocal": { row: "delete", state: "deleted", requeue: none },

  "DELETE missing AcceptServer": { row: "delete", state: "removed", requeue: none },
  "DELETE missing KeepLocal": { row: "delete", state: "removed", requeue: none }
}

/**
 * The effect of a decision on a conflict, or `undefined` if the decision is not allowed there.
 *
 * @since 0.1.0
 * @category deciding
 */
export const effectOf = (
  localOp: ConflictInput["localOp"],
  shape: ConflictInput["server"]["shape"],
  decision: ConflictDecision["_tag"]
): ConflictEffect | undefined => effects[`${localOp} ${shape} ${decision}`]

/**
 * The shape of the server's row (conflicts.md §2.1). A live row without payload looks like a missing one.
 *
 * @since 0.1.0
 * @category deciding
 */
export const shapeOf = (details: {
  readonly server_row_deleted: boolean
  readonly server_row: unknown
}): ConflictInput["server"]["shape"] =>
  details.server_row !== null && details.server_row !== undefined
    ? "live"
    : details.server_row_deleted
    ? "tombstone"
    : "missing"
