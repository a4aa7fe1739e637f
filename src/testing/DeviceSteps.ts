/**
 * What happens to a device in a simulation: its host writes, its application calls operations, and the machine, its disk,
 * its clock and its user do what they do in the world.
 *
 * @since 0.1.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as fs from "node:fs"
import type { SyncError } from "../contract/SyncError.js"
import type { LocalRows } from "../engine/Attach.js"
import { background, begin, call, hostOf, operate, restart, start } from "./Application.js"
import * as CrashPoints from "./CrashPoints.js"
import * as PowerCut from "./PowerCut.js"
import type * as Prng from "./Prng.js"
import type { OperationName } from "./Script.js"
import { users } from "./ServerSteps.js"
import type { SimulatedDevice } from "./SimulatedDevice.js"
import * as Devices from "./SimulatedDevice.js"
import type { StampedRow } from "./SimulatedSchema.js"
import { stampedRows } from "./SimulatedSchema.js"
import type { State } from "./SimulationState.js"

/** One transaction of a host; `acknowledged` counts the actions in it. @internal */
export const write = Effect.fnUntraced(function*(
  state: State,
  device: SimulatedDevice,
  connection: "own" | "second",
  prng: Prng.Prng,
  acknowledged: Map<string, number>
) {
  const weights = Object.fromEntries(state.hosts.map(({ name, weight }) => [name, weight]))
  const names: Array<string> = []
  const committed = yield* Devices.hostWrite(state, device, connection, (run) =>
    Effect.gen(function*() {
      const host = hostOf(state, run, prng)
      for (let count = prng.chance(0.7) ? 1 : 2 + prng.integer(4); count > 0; count--) {
        const chosen = prng.weighted(weights)
        const action = state.hosts.find(({ name }) => name === chosen)
        if (action === undefined) continue
        names.push(action.name)
        yield* action.act(host)
      }
    }))
  state.record.note(`${device.name} host ${names.join(", ")}: ${committed ? "committed" : "refused"}`)
  if (committed) { for (const name of names) acknowledged.set(name, (acknowledged.get(name) ?? 0) + 1) }
})

/** Rows that the server cannot have from this file: those that wait for it, and all of a file that is nobody's yet. */
const unsentRows = Effect.fnUntraced(function*(sql: SqlClient, rows: ReadonlyMap<string, StampedRow>) {
  const pending = yield* Effect.orElseSucceed(Devices.pendingRows(sql), () => new Set<string>())
  const owner = yield* Effect.orElseSucceed(Devices.owner(sql), () => undefined)
  return owner === undefined ? new Set([...pending, ...rows.keys()]) : pending
})

/** Goes on with the copy at `filename`: what the device alone knew and the copy does not hold is gone. */
const goBack = Effect.fnUntraced(
  function*(state: State, device: SimulatedDevice, filename: string) {
    const { running } = device
    if (running === undefined) return
    const before = yield* stampedRows(running.second, state.schema)
    const onServer = yield* state.server.rows(device.user)
    const pending = yield* unsentRows(running.second, before)
    // What the server shows has been acknowledged, even if the device has not heard of it.
    const alone = new Set(
      Array.from(pending).filter((row) => onServer.get(row)?.stamp !== before.get(row)?.stamp || !before.has(row))
    )
    yield* Devices.powerOff(device)
    device.filename = filename
    yield* Effect.scoped(Effect.gen(function*() {
      const sql = yield* Devices.open(filename, yield* Effect.scope)
      // The tables themselves may be gone.
      const kept = yield* Effect.orElseSucceed(stampedRows(sql, state.schema), () => new Map<string, never>())
      state.ledger.forgets(device.name, kept, yield* unsentRows(sql, kept))
      state.ledger.rolledBack(device.name, alone, kept)
    }))
  },
  Effect.orDie
)

/** The machine loses power: commits that had not reached the disk are gone. @internal */
export const powerCut = Effect.fnUntraced(function*(state: State, device: SimulatedDevice, prng: Prng.Prng) {
  if (device.running === undefined) return
  state.record.count("power cut")
  const left = state.file()
  const lost = PowerCut.copy(device.filename, left, prng)
  if (lost > 0) state.record.count("power cut that lost commits")
  state.record.note(`${device.name} loses its power and ${lost} commits`)
  yield* goBack(state, device, left)
  // What a restored server had lost may have been in this device only.
  if (lost > 0) state.ledger.gaveUp()
  yield* Effect.fork(Effect.delay(start(state, device), `${prng.integer(60_000)} millis`))
})

const copyOf = Effect.fnUntraced(function*(state: State, device: SimulatedDevice) {
  const copy = state.file()
  if (device.running === undefined) return undefined
  yield* Effect.orDie(device.running.second.unsafe("VACUUM INTO ?", [copy]))
  return copy
})

/** Keeps a copy of the file for later. @internal */
export const backUp = (state: State, device: SimulatedDevice): Effect.Effect<void> =>
  Effect.map(copyOf(state, device), (copy) => {
    if (copy !== undefined) device.backups.push(copy)
  })

/** The device goes on with a copy made before. @internal */
export const rollBack = Effect.fnUntraced(function*(state: State, device: SimulatedDevice, prng: Prng.Prng) {
  const backup = prng.chance(0.5) ? device.backups[0] : device.backups.at(-1)
  if (device.running === undefined) return
  // The first time there is nothing to go back to: that is for the next time.
  if (backup === undefined) return yield* backUp(state, device)
  state.record.count("device rolled back")
  const copy = state.file()
  fs.copyFileSync(backup, copy)
  yield* goBack(state, device, copy)
  state.ledger.gaveUp()
  yield* start(state, device)
})

/** A new device begins with a copy of the file. @internal */
export const clone = Effect.fnUntraced(function*(state: State, device: SimulatedDevice) {
  if (state.devices.length > 5) return
  const copy = yield* copyOf(state, device)
  if (copy === undefined || device.running === undefined) return
  state.record.count("device cloned")
  const { second } = device.running
  state.ledger.twins(
    yield* Effect.orDie(Effect.flatMap(stampedRows(second, state.schema), (rows) => unsentRows(second, rows)))
  )
  yield* start(state, state.addDevice(device.user, copy))
})

const attachWith = Effect.fnUntraced(function*(state: State, device: SimulatedDevice, localRows: LocalRows) {
  const { running } = device
  if (running === undefined) return
  const { user } = device
  const exit = yield* Effect.exit(running.sync.attach(user, { localRows }))
  state.record.note(`${device.name} attach, ${localRows}: ${Devices.told(exit)}`)
  state.record.count(`attach, ${localRows}`)
  if (Exit.isFailure(exit)) {
    // Cut off, it may have thrown the rows away or not.
    if (localRows === "replace") state.ledger.discarded(device.name, new Map())
    const failure = Cause.failureOption(exit.cause)
    if (Option.isSome(failure) && failure.value._tag === "LocalRowsPending") yield* call(state, device, "attach")
    return
  }
  if (exit.value.status !== "connected") return
  if (localRows === "replace" && exit.value.outcome === "used_remote_state") {
    state.ledger.discarded(device.name, yield* Effect.orDie(stampedRows(running.second, state.schema)))
  }
  state.ledger.attached(device.name, user)
})

/** Syncs, detaches, lets the host write a while, and goes on as another user. @internal */
export const switchUser = (state: State, device: SimulatedDevice, prng: Prng.Prng) =>
  background(
    state,
    device,
    Effect.gen(function*() {
      yield* call(state, device, "syncThenDetach")
      const { running } = device
      if (running === undefined || (yield* Devices.owner(running.second)) !== undefined) return
      // Rows that are still here belong to the user who was here: another one must not get them.
      if ((yield* stampedRows(running.second, state.schema)).size > 0) return
      state.record.count("user switched")
      state.ledger.gaveUp(device.user)
      device.user = users.find((user) => user !== device.user) ?? users[0]
      yield* Effect.sleep(`${prng.integer(20_000)} millis`)
      yield* attachWith(state, device, prng.pick(["keep", "replace", "refuse"] as const) ?? "keep")
    }).pipe(Effect.orDie)
  )

/** Interrupts, in order, something that runs. @internal */
export const interrupt = (state: State, device: SimulatedDevice, prng: Prng.Prng): Effect.Effect<void> => {
  const fiber = prng.pick(device.fibers)
  if (fiber === undefined) return Effect.void
  state.record.count("interrupted")
  return Effect.asVoid(Effect.fork(Fiber.interrupt(fiber)))
}

/** Switches a direction off or on. @internal */
export const pause = (
  state: State,
  device: SimulatedDevice,
  uploads: boolean,
  paused: boolean
): Effect.Effect<void> => {
  if (device.running === undefined) return Effect.void
  state.record.count(paused ? "paused" : "resumed")
  const { sync } = device.running
  if (uploads) return paused ? sync.pauseUploads : sync.resumeUploads
  return paused ? sync.pauseDownloads : sync.resumeDownloads
}

/** The scope of the client ends, whatever runs, and a new one is made. @internal */
export const close = Effect.fnUntraced(function*(state: State, device: SimulatedDevice, prng: Prng.Prng) {
  const { running } = device
  if (running === undefined) return
  state.record.count(device.fibers.length > 0 ? "closed in an operation" : "closed")
  device.running = undefined
  const closing = yield* Effect.fork(Scope.close(running.scope, Exit.void))
  device.closing = closing
  yield* Effect.fork(
    Fiber.await(closing).pipe(
      Effect.zipRight(Effect.sleep(`${prng.integer(5000)} millis`)),
      Effect.zipRight(start(state, device))
    )
  )
})

/** For the registry of this process it is another database. */
const unknownHere = (text: string) => text === "PRAGMA database_list" ? "SELECT 'main' AS name, '' AS file" : text

/** Another process opens the file, works on it, and ends. @internal */
export const takeOver = (state: State, device: SimulatedDevice, prng: Prng.Prng): Effect.Effect<void> => {
  const { running } = device
  if (running === undefined) return Effect.void
  const { filename, user } = device
  const name = `${device.name}, younger`
  const work = Effect.gen(function*() {
    const sql = yield* Effect.flatMap(Effect.scope, (scope) => Devices.open(filename, scope))
    const machine = CrashPoints.make({
      notice: (point) => state.record.note(`${name} ${point}`),
      rewrite: unknownHere
    })
    const sync = yield* Devices.client(device, state.partsOf(device), sql, machine)
    // A lock of the other client is waited for in virtual time.
    for (const connection of [sql, running.own]) yield* connection.unsafe("PRAGMA busy_timeout = 0")
    state.record.count("taken over")
    const steps: ReadonlyArray<readonly [string, Effect.Effect<unknown, SyncError>]> = [
      ["open", sync.open],
      [
        "attach",
        Effect.tap(sync.attach(user), (result) =>
          Effect.sync(() => {
            if (result.status === "connected") state.ledger.attached(device.name, user)
          }))
      ],
      ["sync", sync.sync],
      ["sleep", Effect.sleep(`${prng.integer(20_000)} millis`)],
      ["sync", sync.sync]
    ]
    for (const [operation, step] of steps) {
      const exit = yield* Effect.exit(step)
      state.record.note(`${name} ${operation}: ${Devices.told(exit)}`)
      if (Exit.isFailure(exit) && Cause.isDie(exit.cause)) {
        state.record.violate(`${name} ${operation} ended in ${Devices.told(exit)}`)
      }
    }
  }).pipe(Effect.scoped)
  return background(state, device, Effect.ignore(work))
}

const fileIsInstalled = (running: Devices.Running) =>
  Effect.map(
    running.second.unsafe<{ readonly n: number }>(
      "SELECT count(*) AS n FROM sqlite_schema WHERE name = '_sync_dirty_rows'"
    ),
    ([row]) => row?.n === 1
  )

/** Takes the engine out of an idle device and starts anew with the rows that stay. @internal */
export const uninstall = Effect.fnUntraced(function*(state: State, device: SimulatedDevice) {
  const { machine, running } = device
  if (running === undefined || device.fibers.length > 0) return
  const rows = yield* stampedRows(running.second, state.schema)
  const deletes = new Set(Array.from(yield* Devices.pendingRows(running.second)).filter((row) => !rows.has(row)))
  yield* Effect.exit(running.sync.open)
  const exit = yield* Effect.exit(running.sync.uninstallSync)
  state.record.note(`${device.name} uninstallSync: ${Devices.told(exit)}`)
  if (!(yield* fileIsInstalled(running))) {
    state.record.count("uninstalled")
    state.ledger.uninstalled(device.name, deletes)
  } else if (Exit.isSuccess(exit)) state.record.violate(`${device.name} is not uninstalled`)
  else if (!machine.stopped) state.record.violate(`${device.name} uninstallSync: ${Devices.told(exit)}`)
  yield* restart(state, device, 0)
}, Effect.orDie)

const mayRefuseReads: ReadonlySet<string> = new Set(["OpenRequired", "AttachRequired", "ClientClosed"])

const compared: ReadonlyArray<OperationName> = [
  "attach",
  "pushPending",
  "pullToStable",
  "sync",
  "rebuild",
  "detach",
  "syncThenDetach"
]

/** Reads everything that can be read at any time, and holds `inspect` to its word. @internal */
export const look = Effect.fnUntraced(function*(state: State, device: SimulatedDevice, prng: Prng.Prng) {
  const { machine, running } = device
  if (running === undefined) return
  const { sync } = running
  state.record.count("looked at")
  const idle = device.fibers.length === 0
  const read = Effect.fnUntraced(function*<A, E extends { readonly _tag: string }>(
    name: string,
    self: Effect.Effect<A, E>,
    allowed: ReadonlySet<string>
  ) {
    const exit = yield* Effect.exit(self)
    state.record.note(`${device.name} ${name}: ${Devices.told(exit)}`)
    if (Exit.isSuccess(exit)) return exit.value
    const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
    const fine = machine.stopped || (failure !== undefined && allowed.has(failure._tag))
    if (!fine) state.record.violate(`${device.name} ${name} ended in ${Devices.told(exit)}`)
    return undefined
  })
  const pending = yield* read("pendingSyncStatus", sync.pendingSyncStatus, mayRefuseReads)
  yield* read("syncStatus", sync.syncStatus, mayRefuseReads)
  yield* read("lastBundleSeqSeen", sync.lastBundleSeqSeen, mayRefuseReads)
  yield* read("sourceInfo", sync.sourceInfo, mayRefuseReads)
  const inspection = yield* read("inspect", sync.inspect, new Set(["ClientClosed"]))
  if (inspection === undefined || !idle || machine.stopped) return
  // A seed that is not acknowledged counts as one.
  const seed = inspection.attachment.initializationPending ? 1 : 0
  const waiting = inspection.dirtyRowCount + inspection.outbox.rowCount + seed
  if (pending !== undefined && pending.pendingRowCount !== waiting) {
    state.record.violate(
      `${device.name}: ${pending.pendingRowCount} rows are pending, inspect says ${waiting}`
    )
  }
  const operation = prng.pick(compared) ?? "sync"
  const refusal = inspection.refusals.find((refused) => refused.operation === operation)
  if (refusal === undefined) return yield* begin(state, device, operation)
  const ended = yield* operate(state, device, operation)
  const failure = Exit.isFailure(ended) ? Option.getOrUndefined(Cause.failureOption(ended.cause)) : undefined
  if (!machine.stopped && failure?._tag !== refusal.tag) {
    state.record.violate(
      `${device.name}: inspect says that ${operation} is refused by ${refusal.tag}, it ended in ${Devices.told(ended)}`
    )
  }
})

/** Its tokens are bad for a while. @internal */
export const troubleToken = (
  state: State,
  device: SimulatedDevice,
  trouble: "expired" | "of another user",
  millis: number
): Effect.Effect<void> => {
  state.record.count(`token ${trouble}`)
  device.token = trouble
  return Effect.asVoid(Effect.fork(Effect.delay(Effect.sync(() => device.token = "valid"), `${millis} millis`)))
}
