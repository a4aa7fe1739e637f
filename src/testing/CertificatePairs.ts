/**
 * The pairs of a full crash certificate: which operations are stopped in which states.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { SyncError } from "../contract/SyncError.js"
import { operationOf } from "./Application.js"
import type { StateName } from "./CertificateStates.js"
import type { OperationName } from "./Script.js"
import type { Running, SimulatedDevice } from "./SimulatedDevice.js"
import type { State } from "./SimulationState.js"

/**
 * What is stopped: the operations of the client, the variants of `attach`, building a client, giving it up, and the reads
 * of its status one after the other.
 *
 * @since 0.1.0
 * @category models
 */
export type CertifiedOperation =
  | OperationName
  | "build the client"
  | "attach, replace"
  | "attach, refuse"
  | "uninstallSync"
  | "close"
  | "end of scope"
  | "status reads"

/**
 * The pairs of a full certificate.
 *
 * @since 0.1.0
 * @category models
 */
export const pairs: ReadonlyArray<readonly [operation: CertifiedOperation, state: StateName]> = [
  ["build the client", "no client yet"],
  ["build the client", "rows, no client yet"],
  ["build the client", "dirty, not attached again"],
  ["open", "new"],
  ["open", "rows from before"],
  ["open", "dirty"],
  ["open", "dirty, taken over"],
  ["attach", "opened"],
  ["attach", "rows from before, opened"],
  ["attach", "server in use"],
  ["attach", "rows, server in use"],
  ["attach, replace", "rows, server in use"],
  ["attach, refuse", "rows, server in use"],
  ["attach", "rows, another device seeds"],
  ["attach", "remote replace interrupted"],
  ["attach, replace", "remote replace interrupted"],
  ["attach", "lease lost"],
  ["attach", "scope lost"],
  ["attach", "detached, rows for another user"],
  ["detach", "clean"],
  ["detach", "dirty"],
  ["detach", "remote replace interrupted"],
  ["detach", "source recovery, nothing pending"],
  ["syncThenDetach", "dirty and behind, in conflict"],
  ["syncThenDetach", "commit not heard of"],
  ["uninstallSync", "clean"],
  ["uninstallSync", "dirty, nothing deleted"],
  ["pushPending", "seeding"],
  ["pushPending", "lease expired while seeding"],
  ["pushPending", "seeded by another device"],
  ["pushPending", "dirty"],
  ["pushPending", "dirty with swapped unique values"],
  ["pushPending", "dirty and behind, in conflict"],
  ["pushPending", "frozen"],
  ["pushPending", "committed, not replayed"],
  ["pushPending", "commit not heard of"],
  ["pushPending", "replay pruned"],
  ["pushPending", "server rolled back, dirty"],
  ["pushPending", "scope gone, dirty"],
  ["pushPending", "a twin has pushed"],
  ["pullToStable", "behind"],
  ["pullToStable", "behind swapped unique values"],
  ["pullToStable", "behind a pruned history"],
  ["pullToStable", "server rolled back"],
  ["pullToStable", "scope gone"],
  ["sync", "clean"],
  ["sync", "dirty and behind, in conflict"],
  ["sync", "dirty and behind a pruned history"],
  ["sync", "dirty, taken over"],
  ["rebuild", "behind"],
  ["rebuild", "dirty and behind, in conflict"],
  ["rebuild", "rebuild interrupted, dirty"],
  ["rebuild", "replay pruned, rebuild interrupted"],
  ["rebuild", "source recovery, nothing pending"],
  ["rebuild", "source recovery, upload frozen"],
  ["rebuild", "source recovery, upload frozen, edited since"],
  ["rebuild", "source recovery, upload committed"],
  ["rebuild", "source recovery, diverged from a twin"],
  ["run", "dirty and behind, in conflict"],
  ["close", "dirty"],
  ["end of scope", "dirty"],
  ["status reads", "frozen"]
]

/** What an operation does on a running client. @internal */
export const perform = (
  state: State,
  device: SimulatedDevice,
  running: Running,
  operation: Exclude<CertifiedOperation, "build the client">
): Effect.Effect<unknown, SyncError> => {
  const { sync } = running
  switch (operation) {
    case "attach, replace":
      return sync.attach(device.user, { localRows: "replace" })
    case "attach, refuse":
      return sync.attach(device.user, { localRows: "refuse" })
    case "uninstallSync":
      return sync.uninstallSync
    case "close":
      return sync.close
    case "end of scope":
      return Scope.close(running.scope, Exit.void)
    case "status reads":
      return Effect.all([
        sync.inspect,
        sync.sourceInfo,
        sync.pendingSyncStatus,
        sync.syncStatus,
        sync.lastBundleSeqSeen
      ])
    default:
      return operationOf(state, device, sync, operation)
  }
}
