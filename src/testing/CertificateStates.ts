/**
 * The representative states of the crash certificate, each as what leads to it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { start } from "./Application.js"
import type { StampedRows } from "./Ledger.js"
import type { OperationName } from "./Script.js"
import type { SimulatedDevice } from "./SimulatedDevice.js"
import * as Devices from "./SimulatedDevice.js"
import { stampedRows } from "./SimulatedSchema.js"
import type { State } from "./SimulationState.js"

/** The world in which a state is reached. @internal */
export interface World {
  readonly state: State
  /** The device that will be stopped. */
  readonly device: SimulatedDevice
  /** Another device of the same user. */
  readonly other: SimulatedDevice
  /** Each statement is a transaction of its own; `'*'` stands for a fresh stamp. */
  readonly write: (device: SimulatedDevice, ...statements: ReadonlyArray<string>) => Effect.Effect<void>
  readonly run: (device: SimulatedDevice, ...operations: ReadonlyArray<OperationName>) => Effect.Effect<void>
  /** Lets an operation of the device end at its first point whose name contains a text, and starts it again. */
  readonly cutOff: (operation: OperationName, point: string) => Effect.Effect<void>
}

/** How a state is reached. @internal */
export interface Prepared {
  readonly prepare: (world: World) => Effect.Effect<void>
  /** What gives the device its session back when it starts again in this state. */
  readonly session: ReadonlyArray<OperationName>
  /** No client was ever built: the database holds the host's tables, and what these statements write. */
  readonly untouched?: ReadonlyArray<string> | undefined
  /** What happens when the device has its session. */
  readonly then?: ((world: World) => Effect.Effect<void>) | undefined
}

const rows = [
  "INSERT INTO people (id, name, code, stamp) VALUES ('a', 'Ann', 'one', '*'), ('b', 'Bob', 'two', '*')",
  "INSERT INTO teams (id, title, lead, stamp) VALUES ('t', 'Team', 'a', '*')",
  "INSERT INTO notes (id, body, owner, stamp) VALUES ('n', 'Note', 'a', '*'), ('m', 'More', 'b', '*')",
  "INSERT INTO photos (id, pixels, stamp) VALUES (unhex('00112233445566778899aabbccddeeff'), unhex('00ff'), '*')"
]

const edits = [
  "UPDATE people SET name = 'Anna', stamp = '*' WHERE id = 'a'",
  "DELETE FROM people WHERE id = 'b'",
  "INSERT INTO notes (id, body, owner, stamp) VALUES ('o', 'Other', 'a', '*')"
]

/** Without a deletion, which uninstalling forgets. */
const additions = [
  "UPDATE people SET name = 'Anna', stamp = '*' WHERE id = 'a'",
  "INSERT INTO notes (id, body, owner, stamp) VALUES ('o', 'Other', 'a', '*')"
]

const others = [
  "UPDATE people SET name = 'Andrea', stamp = '*' WHERE id = 'a'",
  "UPDATE notes SET body = 'Else', stamp = '*' WHERE id = 'n'",
  "INSERT INTO people (id, name, stamp) VALUES ('c', 'Cy', '*')"
]

/** Written before the device belongs to anybody: one row as the server has it, one that differs, one of its own. */
const ownRows = [
  "INSERT INTO people (id, name, code, stamp) VALUES ('a', 'Anton', 'three', '*'), ('d', 'Dora', 'four', '*')",
  "INSERT INTO notes (id, body, owner, stamp) VALUES ('n', 'Mine', 'd', '*')"
]

const swap = [
  "UPDATE people SET code = NULL, stamp = '*' WHERE id = 'a'",
  "UPDATE people SET code = 'one', stamp = '*' WHERE id = 'b'",
  "UPDATE people SET code = 'two', stamp = '*' WHERE id = 'a'"
]

type Prepare = Prepared["prepare"]

/** Both devices hold the same. */
const clean: Prepare = Effect.fnUntraced(function*({ device, other, run, write }) {
  yield* run(device, "open", "attach")
  yield* write(device, ...rows)
  yield* run(device, "sync")
  yield* run(other, "open", "attach", "sync")
})

const dirty: Prepare = (world) => Effect.zipRight(clean(world), world.write(world.device, ...edits))

const behind: Prepare = Effect.fnUntraced(function*(world) {
  yield* clean(world)
  yield* world.write(world.other, ...others)
  yield* world.run(world.other, "sync")
})

const inConflict: Prepare = (world) => Effect.zipRight(behind(world), world.write(world.device, ...edits))

const serverInUse: Prepare = Effect.fnUntraced(function*({ device, other, run, write }) {
  yield* run(other, "open", "attach")
  yield* write(other, ...rows)
  yield* run(other, "sync")
  yield* run(device, "open")
})

const serverInUseWithRows: Prepare = (world) =>
  Effect.zipRight(serverInUse(world), world.write(world.device, ...ownRows))

const seeding: Prepare = ({ device, run, write }) =>
  Effect.zipRight(write(device, ...rows), run(device, "open", "attach"))

/** Frozen, and edited since. */
const frozen: Prepare = Effect.fnUntraced(function*(world) {
  yield* dirty(world)
  yield* world.cutOff("pushPending", "send POST /sync/push-sessions")
  yield* world.write(world.device, "UPDATE people SET name = 'Annabel', stamp = '*' WHERE id = 'a'")
})

const notReplayed: Prepare = (world) =>
  Effect.zipRight(dirty(world), world.cutOff("pushPending", "send GET /sync/committed-bundles"))

const notHeardOf: Prepare = (world) =>
  Effect.zipRight(dirty(world), world.cutOff("pushPending", "acted POST /sync/push-sessions/*/commit"))

const goBack = Effect.fnUntraced(function*(world: World, backup: string, renewHistory: boolean) {
  yield* world.state.server.restore(backup, renewHistory)
  world.state.historyWentBack = true
})

/** The server has lost what the device has pushed last. */
const rolledBack: Prepare = Effect.fnUntraced(function*(world) {
  yield* clean(world)
  const backup = yield* world.state.server.backup
  yield* world.write(world.device, ...edits)
  yield* world.run(world.device, "sync")
  yield* goBack(world, backup, false)
})

const rolledBackDirty: Prepare = (world) =>
  Effect.zipRight(
    rolledBack(world),
    world.write(world.device, "UPDATE notes SET body = 'Late', stamp = '*' WHERE id = 'n'")
  )

const sourceRecovery: Prepare = (world) =>
  Effect.zipRight(rolledBackDirty(world), world.run(world.device, "pushPending"))

/** The server has lost everything, and begins a new history. */
const scopeGone = (then: ReadonlyArray<string>): Prepare =>
  Effect.fnUntraced(function*(world) {
    const backup = yield* world.state.server.backup
    yield* clean(world)
    yield* world.write(world.device, ...then)
    const held: Array<StampedRows> = []
    for (const { running } of world.state.devices) {
      if (running !== undefined) held.push(yield* Effect.orDie(stampedRows(running.second, world.state.schema)))
    }
    yield* goBack(world, backup, true)
    // What one device has deleted and the server has lost, another device may bring back (recovery.md §2.4).
    world.state.ledger.serverWentBack("ann", yield* world.state.server.rows("ann"), held)
  })

const leaseExpired: Prepare = (world) => Effect.zipRight(seeding(world), Effect.sleep("1 hour"))

const seededByAnother: Prepare = Effect.fnUntraced(function*(world) {
  yield* leaseExpired(world)
  yield* world.run(world.other, "open")
  yield* world.write(world.other, ...ownRows)
  yield* world.run(world.other, "attach", "sync")
})

const prune = Effect.fnUntraced(function*({ state }: World, floor: number) {
  const service = yield* state.server.service
  if (service !== undefined) yield* Effect.orDie(service.setRetainedFloor("ann", floor))
})

const replayPruned: Prepare = Effect.fnUntraced(function*(world) {
  yield* notReplayed(world)
  yield* world.run(world.other, "sync")
  yield* world.write(world.other, others[1] ?? "")
  yield* world.run(world.other, "sync")
  yield* prune(world, 2)
})

const historyPruned: Prepare = (world) => Effect.zipRight(behind(world), prune(world, 2))

/** A second device goes on with a copy of the device's file. */
const clone = Effect.fnUntraced(function*({ device, run, state }: World) {
  const copy = state.file()
  if (device.running === undefined) return undefined
  yield* Effect.orDie(device.running.second.unsafe("VACUUM INTO ?", [copy]))
  state.ledger.twins(yield* Effect.orDie(Devices.pendingRows(device.running.second)))
  const twin = state.addDevice(device.user, copy)
  yield* start(state, twin)
  yield* run(twin, "open", "attach")
  return twin
})

const twinHasPushed: Prepare = Effect.fnUntraced(function*(world) {
  yield* dirty(world)
  const twin = yield* clone(world)
  if (twin === undefined) return
  yield* world.write(twin, "UPDATE people SET name = 'Twin', stamp = '*' WHERE id = 'a'")
  yield* world.run(twin, "sync")
})

/** The device and its twin have reserved different sources, and the twin has taken its own. */
const diverged: Prepare = Effect.fnUntraced(function*(world) {
  yield* rolledBackDirty(world)
  const twin = yield* clone(world)
  yield* world.run(world.device, "pushPending")
  if (twin !== undefined) yield* world.run(twin, "pushPending", "rebuild", "sync")
})

const userSwitched: Prepare = Effect.fnUntraced(function*(world) {
  yield* clean(world)
  yield* world.run(world.device, "detach")
  world.device.user = "bob"
  yield* world.write(world.device, ...ownRows)
})

const takenOver: Prepared["then"] = ({ device }) =>
  Effect.suspend(() =>
    device.running === undefined
      ? Effect.void
      : Effect.asVoid(Effect.orDie(
        device.running.second.unsafe("UPDATE _sync_engine_state SET engine_epoch = engine_epoch + 1")
      ))
  )

const none: Prepared["session"] = []
const opened: Prepared["session"] = ["open"]
const connected: Prepared["session"] = ["open", "attach"]

const inSession = (session: Prepared["session"], prepare: Prepare, then?: Prepared["then"]): Prepared => ({
  prepare,
  session,
  then
})

const nothing: Prepare = () => Effect.void

const untouched = (statements: ReadonlyArray<string>): Prepared => ({
  prepare: nothing,
  session: none,
  untouched: statements
})

/** The states by name. @internal */
export const states = {
  "no client yet": untouched([]),
  "rows, no client yet": untouched(rows),
  "new": inSession(none, nothing),
  "opened": inSession(opened, nothing),
  "rows from before": inSession(none, ({ device, write }) => write(device, ...rows)),
  "rows from before, opened": inSession(
    opened,
    ({ device, run, write }) => Effect.zipRight(write(device, ...rows), run(device, "open"))
  ),
  "server in use": inSession(opened, serverInUse),
  "rows, server in use": inSession(opened, serverInUseWithRows),
  "rows, another device seeds": inSession(
    opened,
    Effect.fnUntraced(function*(world) {
      yield* world.run(world.other, "open")
      yield* world.write(world.other, ...rows)
      yield* world.run(world.other, "attach")
      yield* world.run(world.device, "open")
      yield* world.write(world.device, ...ownRows)
    })
  ),
  "remote replace interrupted": inSession(
    opened,
    Effect.fnUntraced(function*(world) {
      yield* serverInUseWithRows(world)
      yield* world.cutOff("attach", "before INSERT INTO _sync_row_state")
    })
  ),
  "seeding": inSession(connected, seeding),
  "lease expired while seeding": inSession(connected, leaseExpired),
  "seeded by another device": inSession(connected, seededByAnother),
  "lease lost": inSession(
    opened,
    (world) => Effect.zipRight(seededByAnother(world), world.run(world.device, "pushPending"))
  ),
  "clean": inSession(connected, clean),
  "dirty": inSession(connected, dirty),
  "dirty, nothing deleted": inSession(
    connected,
    (world) => Effect.zipRight(clean(world), world.write(world.device, ...additions))
  ),
  "dirty, not attached again": inSession(none, dirty),
  "dirty with swapped unique values": inSession(
    connected,
    (world) => Effect.zipRight(clean(world), world.write(world.device, ...swap))
  ),
  "behind": inSession(connected, behind),
  "behind swapped unique values": inSession(
    connected,
    Effect.fnUntraced(function*(world) {
      yield* clean(world)
      yield* world.write(world.other, ...swap)
      yield* world.run(world.other, "sync")
    })
  ),
  "behind a pruned history": inSession(connected, historyPruned),
  "dirty and behind, in conflict": inSession(connected, inConflict),
  "dirty and behind a pruned history": inSession(
    connected,
    (world) => Effect.zipRight(historyPruned(world), world.write(world.device, ...edits))
  ),
  "frozen": inSession(connected, frozen),
  "committed, not replayed": inSession(connected, notReplayed),
  "commit not heard of": inSession(connected, notHeardOf),
  "replay pruned": inSession(connected, replayPruned),
  "replay pruned, rebuild interrupted": inSession(
    connected,
    (world) => Effect.zipRight(replayPruned(world), world.cutOff("pushPending", "send POST /sync/snapshot-sessions"))
  ),
  "rebuild interrupted, dirty": inSession(
    connected,
    Effect.fnUntraced(function*(world) {
      yield* behind(world)
      yield* world.cutOff("rebuild", "send POST /sync/snapshot-sessions")
      yield* world.write(world.device, ...edits)
    })
  ),
  "server rolled back": inSession(connected, rolledBack),
  "server rolled back, dirty": inSession(connected, rolledBackDirty),
  "source recovery, nothing pending": inSession(
    connected,
    (world) => Effect.zipRight(rolledBack(world), world.run(world.device, "pullToStable"))
  ),
  "source recovery, upload frozen": inSession(connected, sourceRecovery),
  "source recovery, upload frozen, edited since": inSession(
    connected,
    (world) => Effect.zipRight(sourceRecovery(world), world.write(world.device, ...others))
  ),
  "source recovery, upload committed": inSession(
    connected,
    Effect.fnUntraced(function*(world) {
      yield* clean(world)
      const backup = yield* world.state.server.backup
      yield* world.write(world.device, "UPDATE notes SET body = 'First', stamp = '*' WHERE id = 'n'")
      yield* world.run(world.device, "sync")
      yield* world.write(world.device, ...edits)
      yield* world.cutOff("pushPending", "send GET /sync/committed-bundles")
      yield* goBack(world, backup, false)
      yield* world.run(world.device, "pushPending")
    })
  ),
  "source recovery, diverged from a twin": inSession(connected, diverged),
  "scope gone": inSession(connected, scopeGone([])),
  "scope gone, dirty": inSession(connected, scopeGone(edits)),
  "scope lost": inSession(
    opened,
    (world) => Effect.zipRight(scopeGone(edits)(world), world.run(world.device, "pushPending"))
  ),
  "a twin has pushed": inSession(connected, twinHasPushed),
  "dirty, taken over": inSession(connected, dirty, takenOver),
  "detached, rows for another user": inSession(opened, userSwitched)
} as const satisfies Readonly<Record<StateName, Prepared>>

/**
 * A representative state from which an operation is stopped.
 *
 * @since 0.1.0
 * @category models
 */
export type StateName =
  | "no client yet"
  | "rows, no client yet"
  | "new"
  | "opened"
  | "rows from before"
  | "rows from before, opened"
  | "server in use"
  | "rows, server in use"
  | "rows, another device seeds"
  | "remote replace interrupted"
  | "seeding"
  | "lease expired while seeding"
  | "seeded by another device"
  | "lease lost"
  | "clean"
  | "dirty"
  | "dirty, nothing deleted"
  | "dirty, not attached again"
  | "dirty with swapped unique values"
  | "behind"
  | "behind swapped unique values"
  | "behind a pruned history"
  | "dirty and behind, in conflict"
  | "dirty and behind a pruned history"
  | "frozen"
  | "committed, not replayed"
  | "commit not heard of"
  | "replay pruned"
  | "replay pruned, rebuild interrupted"
  | "rebuild interrupted, dirty"
  | "server rolled back"
  | "server rolled back, dirty"
  | "source recovery, nothing pending"
  | "source recovery, upload frozen"
  | "source recovery, upload frozen, edited since"
  | "source recovery, upload committed"
  | "source recovery, diverged from a twin"
  | "scope gone"
  | "scope gone, dirty"
  | "scope lost"
  | "a twin has pushed"
  | "dirty, taken over"
  | "detached, rows for another user"
