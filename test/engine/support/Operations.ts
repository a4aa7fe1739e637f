/** The public operations as rows of tables: each runs and tells in a few letters how it ended. */
import { Effect, Either } from "effect"
import type { Device } from "./Devices.js"

const abbreviations: Readonly<Record<string, string>> = {
  OpenRequired: "OR",
  AttachRequired: "AR",
  DestructiveTransitionInProgress: "DTI",
  SourceRecoveryRequired: "SRR",
  RebuildRequired: "RBR",
  PendingPushReplay: "PPR",
  DirtyStateRejected: "DSR",
  DatabaseTakenOver: "taken over",
  ClientClosed: "closed",
  SyncOperationInProgress: "busy"
}

/** The letters of an error, as recovery.md §6 writes them. */
export const shortOf = (tag: string): string => abbreviations[tag] ?? tag

const tagOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : "defect"

type Run = (device: Device) => Effect.Effect<string, unknown>

const ok = <A, E>(self: Effect.Effect<A, E>) => Effect.as(self, "ok")

const attach = (user: string): Run => ({ sync }) =>
  Effect.map(sync.attach(user), (result) => result.status === "connected" ? result.outcome : result.status)

const hostWrite: Run = (device) =>
  Effect.gen(function*() {
    const captured = Effect.map(
      device.run("SELECT 1 FROM _sync_dirty_rows WHERE key_json = '{\"id\":\"host\"}'"),
      (rows) => rows.length
    )
    const written = yield* Effect.either(device.sql.unsafe("INSERT INTO users VALUES ('host', 'Host', NULL, 0)"))
    if (Either.isLeft(written)) return String(written.left.cause).includes("SYNC_TRANSITION_PENDING") ? "STP" : "failed"
    return (yield* captured) === 1 ? "captured" : "not captured"
  })

/** Every row of the matrix. A success is told by its outcome where it has one. */
export const operations = {
  "open": ({ sync }) => ok(sync.open),
  "attach same user": attach("ann"),
  "attach other user": attach("bob"),
  "detach": ({ sync }) => Effect.map(sync.detach, ({ outcome }) => outcome),
  "pendingSyncStatus": ({ sync }) => ok(sync.pendingSyncStatus),
  "sourceInfo": ({ sync }) => ok(sync.sourceInfo),
  "inspect": ({ sync }) => ok(sync.inspect),
  "syncStatus": ({ sync }) => ok(sync.syncStatus),
  "lastBundleSeqSeen": ({ sync }) => ok(sync.lastBundleSeqSeen),
  "pushPending": ({ sync }) => Effect.map(sync.pushPending, ({ outcome }) => outcome),
  "pullToStable": ({ sync }) => Effect.map(sync.pullToStable, ({ outcome }) => outcome),
  "sync": ({ sync }) => Effect.map(sync.sync, (report) => `${report.pushOutcome}, ${report.remoteOutcome}`),
  "syncThenDetach": ({ sync }) =>
    Effect.map(
      sync.syncThenDetach,
      ({ detach, isSuccess }) => `${isSuccess ? "success" : "failure"}, ${detach.outcome}`
    ),
  "rebuild": ({ sync }) => Effect.map(sync.rebuild, ({ outcome }) => outcome),
  "uninstallSync": ({ sync }) => ok(sync.uninstallSync),
  "close": ({ sync }) => ok(sync.close),
  "host write": hostWrite
} as const satisfies Readonly<Record<string, Run>>

export type OperationName = keyof typeof operations

export const operationNames = Object.keys(operations) as ReadonlyArray<OperationName>

/** Runs an operation; a failure is told by its letters, a defect breaks the test. */
export const outcomeOf = (name: OperationName, device: Device): Effect.Effect<string> => {
  const run: Run = operations[name]
  return Effect.catchAll(run(device), (error) => Effect.succeed(shortOf(tagOf(error))))
}

/** The name under which `inspect` speaks of an operation; `undefined` for rows it has nothing to say about. */
export const inspectedAs = (name: OperationName): string | undefined => {
  if (name.startsWith("attach")) return "attach"
  return name === "host write" || name === "close" || name === "inspect" ? undefined : name
}
