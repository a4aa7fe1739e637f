/**
 * The durable states of a client, each built the way it comes about: by operations and faults, or by SQL where only the
 * reference leaves it behind (recovery.md §6, lifecycle.md §5).
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Scope } from "effect"
import * as path from "node:path"
import type { SyncOptions } from "oversqlite"
import type { Device } from "./Devices.js"
import { lost, refused } from "./Network.js"
import { failsWith } from "./Outcome.js"
import { powerOn } from "./Power.js"
import { temporaryFolder } from "./World.js"
import type { DeviceOptions, World } from "./World.js"

export type Build = (world: World, options?: Partial<SyncOptions>) => Effect.Effect<Device, never, Scope.Scope>

/** One attempt per request: no state of these has anything to do with waiting. */
export const once: Partial<SyncOptions> = { retryPolicy: { enabled: false } }

const u1 = "INSERT INTO users VALUES ('u1', 'Ann', 'ann@x', 1.5)"
const u2 = "INSERT INTO users VALUES ('u2', 'Bob', 'bob@x', 2)"
const edit = "UPDATE users SET score = score + 10 WHERE id = 'u1'"

const failing = <A, E, R>(self: Effect.Effect<A, E, R>, tag: string) => Effect.asVoid(failsWith(self, { _tag: tag }))

/** Attached, connected, in step with a server that has one user of ours and one of another writer. */
export const clean: Build = (world, options = {}) =>
  Effect.gen(function*() {
    const device = yield* world.device({ ...once, ...options })
    yield* device.run(u1)
    yield* device.sync.open
    yield* device.sync.attach("ann")
    yield* device.sync.sync
    yield* world.write([{ table: "users", key: "w1", payload: { name: "Wire", email: null, score: 3 } }])
    yield* device.sync.sync
    return device
  }).pipe(Effect.orDie)

const then =
  (build: Build, more: (device: Device, world: World) => Effect.Effect<unknown, unknown>): Build => (world, options) =>
    Effect.gen(function*() {
      const device = yield* build(world, options)
      yield* more(device, world)
      yield* world.network.heal
      return device
    }).pipe(Effect.orDie)

/** Opened, with two local rows (one from before), and never attached. */
export const withLocalRows = (world: World, options: DeviceOptions = once): Effect.Effect<Device> =>
  Effect.gen(function*() {
    const device = yield* world.device(options)
    yield* device.run("INSERT INTO users VALUES ('u9', 'Local', 'local@x', 9)")
    yield* device.sync.open
    yield* device.run("INSERT INTO users VALUES ('u8', 'Late', NULL, 8)")
    return device
  }).pipe(Effect.orDie)

const notOpened: Build = (world, options = {}) =>
  Effect.tap(world.device({ ...once, ...options }), (device) => device.run(u1))

const anonymous = then(notOpened, ({ sync }) => sync.open)

/** A second device's rows, so that the account has data when this one attaches. */
const accountWithData = (world: World) => clean(world)

const remoteReplace: Build = (world, options = {}) =>
  Effect.gen(function*() {
    yield* accountWithData(world)
    const filename = path.join(yield* temporaryFolder, "device.db")
    const powered = yield* powerOn(world.network, filename, { ...once })
    yield* powered.run("INSERT INTO users VALUES ('u9', 'Local', 'local@x', 9)")
    yield* powered.sync.open
    // The first transaction that silences capture is the one that applies the snapshot.
    yield* powered.power.cutAt("before", (text) => text.startsWith("UPDATE _sync_apply_state SET apply_mode = 1"))
    yield* Effect.exit(powered.sync.attach("ann"))
    assert.isTrue(yield* powered.power.isCut)
    yield* powered.off
    const device = yield* world.device({ ...once, ...options, filename, ddl: [] })
    yield* device.sync.open
    return device
  }).pipe(Effect.orDie)

const notConnected = then(clean, ({ sync }) => sync.open)
const dirty = then(clean, ({ run }) => Effect.zipRight(run(u2), run(edit)))

const prepared = then(
  dirty,
  ({ sync }, { network }) =>
    Effect.zipRight(network.fault("push create", lost), failing(sync.pushPending, "TransportError"))
)

const committed = then(
  dirty,
  ({ sync }, { network }) =>
    Effect.zipRight(network.fault("committed rows", lost), failing(sync.pushPending, "TransportError"))
)

/** History is pruned and the snapshot that has to replace it does not arrive. */
const rebuildGate = then(clean, ({ sync }, world) =>
  Effect.gen(function*() {
    for (const score of [4, 5]) {
      yield* world.write([{ table: "users", key: "w1", payload: { name: "Wire", email: null, score } }])
    }
    yield* Effect.flatMap(world.server, (server) => server.setRetainedFloor("ann", 3))
    yield* world.network.fault("snapshot create", lost)
    yield* failing(sync.pullToStable, "TransportError")
  }))

const rebuildGateCommitted = then(dirty, ({ sync }, { network }) =>
  Effect.gen(function*() {
    yield* network.fault("committed rows", refused(409, "history_pruned"))
    yield* network.fault("snapshot create", lost)
    yield* failing(sync.pushPending, "TransportError")
  }))

const rebuildGatePrepared = then(prepared, ({ run }) => run("UPDATE _sync_attachment_state SET rebuild_required = 1"))

/** The operator has restored the server and given it a new history. */
const recovery = then(clean, ({ sync }, world) =>
  Effect.gen(function*() {
    yield* Effect.flatMap(world.server, (server) => server.renewHistory)
    yield* failing(sync.pullToStable, "SourceRecoveryRequired")
  }))

const recoveryFrom = (build: Build, code: string) =>
  then(
    build,
    ({ sync }, { network }) =>
      Effect.zipRight(
        network.fault("push create", refused(409, code)),
        failing(sync.pushPending, "SourceRecoveryRequired")
      )
  )

const recoveryPrepared = recoveryFrom(dirty, "source_sequence_out_of_order")
const recoveryPruned = recoveryFrom(dirty, "history_pruned")
const recoveryCommitted = recoveryFrom(committed, "source_sequence_out_of_order")

const edited = (build: Build) => then(build, ({ run }) => run("UPDATE users SET name = 'Later' WHERE id = 'u1'"))

const seedPending = then(anonymous, ({ sync }) => sync.attach("ann"))

const seedFrozen = then(
  seedPending,
  ({ sync }, { network }) =>
    Effect.zipRight(network.fault("push create", lost), failing(sync.pushPending, "TransportError"))
)

const emptySeed = then(seedPending, ({ run }) => run("DELETE FROM users"))

const leaseLost = then(
  seedFrozen,
  ({ sync }, { network }) =>
    Effect.zipRight(
      network.fault("push create", refused(409, "initialization_expired")),
      failing(sync.pushPending, "InitializationLeaseLost")
    )
)

const scopeLost = then(dirty, ({ sync }, world) => Effect.zipRight(world.reset, failing(sync.pushPending, "ScopeLost")))

const diverged = then(
  recoveryPrepared,
  ({ sync }, { network }) =>
    Effect.zipRight(
      network.fault("snapshot create", refused(409, "source_retired", { replaced_by_source_id: "elsewhere" })),
      failing(sync.rebuild, "SourceReplacementDiverged")
    )
)

/** A counter that is ahead of an account that begins anew, and the seed frozen under it. */
const seedRecovery = then(seedPending, ({ run, sync }) =>
  Effect.gen(function*() {
    yield* run("UPDATE _sync_source_state SET next_source_bundle_id = 5")
    yield* failing(sync.pushPending, "SourceRecoveryRequired")
  }))

const seedGate = then(seedPending, ({ run }) => run("UPDATE _sync_attachment_state SET rebuild_required = 1"))

const replacing = (
  fields: {
    readonly snapshotId: string
    readonly bundleSeq: number
    readonly rowCount: number
    readonly target?: string
  }
) =>
  `UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = '${fields.target ?? "ann"}',
     staged_snapshot_id = '${fields.snapshotId}', snapshot_bundle_seq = ${fields.bundleSeq},
     snapshot_row_count = ${fields.rowCount}`

/** The rows of the account, as a snapshot of them is staged. */
const accountRows = ["u1", "w1"].map((id, index) =>
  `INSERT INTO _sync_snapshot_stage VALUES ('old', ${index + 1}, 'business', 'users', '{"id":"${id}"}', ${
    index + 1
  }, '${
    index === 0
      ? `{"id":"u1","name":"Ann","email":"ann@x","score":1.5}`
      : `{"id":"w1","name":"Wire","email":null,"score":3}`
  }')`
)

const attach = `UPDATE _sync_attachment_state SET binding_state = 'attached', attached_user_id = 'ann'`

/** A client of the new engine on what the reference has left; `more` are its last statements before it stopped. */
const reference = (...more: ReadonlyArray<string>): Build => (world, options = {}) =>
  Effect.gen(function*() {
    yield* accountWithData(world)
    const device = yield* anonymous(world, options)
    for (const statement of more) yield* device.run(statement)
    yield* device.sync.open
    return device
  }).pipe(Effect.orDie)

const referenceBegun = reference(replacing({ snapshotId: "", bundleSeq: 0, rowCount: 0 }))
const referenceCreated = reference(replacing({ snapshotId: "old", bundleSeq: 2, rowCount: 2 }))
const referencePartial = reference(...accountRows.slice(1), replacing({ snapshotId: "old", bundleSeq: 2, rowCount: 2 }))
const referenceStaged = reference(
  ...accountRows,
  replacing({ snapshotId: "old", bundleSeq: 2, rowCount: 2 })
)
const referenceEmpty = reference(replacing({ snapshotId: "old", bundleSeq: 0, rowCount: 0 }))
const referencePrepared = reference(
  ...accountRows,
  attach,
  replacing({ snapshotId: "", bundleSeq: 0, rowCount: 0 })
)

/** The snapshot is in the tables, only the end of the replace is missing. */
const referenceApplied: Build = (world, options) =>
  Effect.gen(function*() {
    const device = yield* clean(world, options)
    yield* device.run(replacing({ snapshotId: "", bundleSeq: 0, rowCount: 0 }))
    yield* device.sync.open
    return device
  }).pipe(Effect.orDie)

const connectedReplace = then(clean, ({ run }) => run(replacing({ snapshotId: "", bundleSeq: 0, rowCount: 0 })))

export interface State {
  readonly build: Build
  /** The durable state, as {@link durableState} tells it. */
  readonly is: string
  /** Only the reference leaves this behind: not all invariants hold yet. */
  readonly reference?: true
}

/** Binding, operation, gate, outbox, and whether rows are dirty and a seed is pending. */
export const durableState = ({ run }: Pick<Device, "run">): Effect.Effect<string> =>
  Effect.map(
    run(
      `SELECT a.binding_state AS binding, o.kind, a.rebuild_required AS gate, b.state AS outbox,
              EXISTS (SELECT 1 FROM _sync_dirty_rows) AS dirty, a.pending_initialization_id <> '' AS seed
         FROM _sync_attachment_state AS a, _sync_operation_state AS o, _sync_outbox_bundle AS b`
    ),
    ([row]) =>
      [
        row?.["binding"],
        ...(row?.["kind"] === "none" ? [] : [row?.["kind"]]),
        ...(row?.["gate"] === 1 ? ["gate"] : []),
        ...(row?.["outbox"] === "none" ? [] : [row?.["outbox"]]),
        ...(row?.["dirty"] === 1 ? ["dirty"] : []),
        ...(row?.["seed"] === 1 ? ["seed"] : [])
      ].join(" ")
  )

const state = (is: string, build: Build): State => ({ build, is })
const ofReference = (is: string, build: Build): State => ({ build, is, reference: true })

/** All states by name. */
export const states = {
  "not opened": state("anonymous dirty", notOpened),
  "opened, anonymous": state("anonymous dirty", anonymous),
  "opened, anonymous + remote replace": state("anonymous remote_replace dirty", remoteReplace),
  "opened, attached, not connected": state("attached", notConnected),
  "connected, clean": state("attached", clean),
  "dirty only": state("attached dirty", dirty),
  "outbox prepared": state("attached prepared", prepared),
  "outbox committed_remote": state("attached committed_remote", committed),
  "rebuild gate, nothing pending": state("attached gate", rebuildGate),
  "rebuild gate + dirty": state("attached gate dirty", edited(rebuildGate)),
  "rebuild gate + outbox committed_remote": state("attached gate committed_remote", rebuildGateCommitted),
  "rebuild gate + outbox prepared": ofReference("attached gate prepared", rebuildGatePrepared),
  "source recovery": state("attached source_recovery gate", recovery),
  "source recovery + outbox prepared": state("attached source_recovery gate prepared", recoveryPrepared),
  "source recovery, history pruned": state("attached source_recovery gate prepared", recoveryPruned),
  "source recovery + outbox committed_remote": state(
    "attached source_recovery gate committed_remote",
    recoveryCommitted
  ),
  "source recovery + dirty": state("attached source_recovery gate dirty", edited(recovery)),
  "source recovery + outbox prepared + dirty": state(
    "attached source_recovery gate prepared dirty",
    edited(recoveryPrepared)
  ),
  "source recovery + outbox committed_remote + dirty": state(
    "attached source_recovery gate committed_remote dirty",
    edited(recoveryCommitted)
  ),
  "source recovery, diverged": state("attached source_recovery gate prepared", diverged),
  "seed pending": state("attached dirty seed", seedPending),
  "seed frozen": state("attached prepared seed", seedFrozen),
  "seed empty": state("attached dirty seed", emptySeed),
  "seed + rebuild gate": state("attached gate dirty seed", seedGate),
  "seed + source recovery": state("attached source_recovery gate prepared seed", seedRecovery),
  "lease lost": state("anonymous prepared", leaseLost),
  "scope lost": state("anonymous dirty", scopeLost),
  "reference: replace begun": ofReference("anonymous remote_replace dirty", referenceBegun),
  "reference: replace created": ofReference("anonymous remote_replace dirty", referenceCreated),
  "reference: replace half staged": ofReference("anonymous remote_replace dirty", referencePartial),
  "reference: replace staged": ofReference("anonymous remote_replace dirty", referenceStaged),
  "reference: replace of an empty account": ofReference("anonymous remote_replace dirty", referenceEmpty),
  "reference: replace prepared": ofReference("attached remote_replace dirty", referencePrepared),
  "reference: replace applied": ofReference("attached remote_replace", referenceApplied),
  "connected + remote replace": ofReference("attached remote_replace", connectedReplace)
} as const

export type StateName = keyof typeof states
