/**
 * The application on a simulated device: it calls operations, and does what their errors say.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { SyncError } from "../contract/SyncError.js"
import { StorageError } from "../contract/SyncError.js"
import type { OperationName } from "./Script.js"
import type { SimulatedDevice } from "./SimulatedDevice.js"
import * as Devices from "./SimulatedDevice.js"
import type { Host } from "./SimulatedSchema.js"
import type { State } from "./SimulationState.js"

/** How an operation ended: `done`, or with an error. @internal */
export type Ended = Exit.Exit<unknown, SyncError>

/** Attaches, and tells the ledger whom the rows belong to from now on. */
const attach = (state: State, device: SimulatedDevice, sync: Devices.Running["sync"]) =>
  Effect.tap(sync.attach(device.user), (result) =>
    Effect.sync(() => {
      if (result.status === "connected") state.ledger.attached(device.name, device.user)
    }))

/** What an operation does on a running client. @internal */
export const operationOf = (
  state: State,
  device: SimulatedDevice,
  sync: Devices.Running["sync"],
  name: OperationName
): Effect.Effect<unknown, SyncError> => {
  switch (name) {
    case "attach":
      return attach(state, device, sync)
    case "run":
      // Now and then long enough for the event stream to break and come back.
      return Effect.timeoutOption(sync.run, device.machine.passed % 3 === 0 ? "5 minutes" : "20 seconds")
    default:
      return sync[name]
  }
}

/** Notes how an operation ended, and watches for ends that must not be. @internal */
export const noteEnd = (
  state: State,
  device: SimulatedDevice,
  machine: SimulatedDevice["machine"],
  name: string,
  exit: Exit.Exit<unknown, unknown>
): void => {
  state.record.note(`${device.name} ${name}: ${Devices.told(exit)}`)
  if (machine.stopped || Exit.isSuccess(exit)) return
  const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
  const ofStorage = failure instanceof StorageError ? failure : undefined
  const unexpected = failure === undefined ? !Cause.isInterruptedOnly(exit.cause) : ofStorage?.code === "other"
  if (!unexpected) return
  const cause = ofStorage === undefined ? "" : String(ofStorage.cause)
  state.record.violate(`${device.name} ${name} ended in ${Devices.told(exit)} ${cause}`)
}

/** Runs an operation to its end, notes it, and watches for ends that must not be. @internal */
export const operate = (state: State, device: SimulatedDevice, name: OperationName): Effect.Effect<Ended> =>
  Effect.suspend((): Effect.Effect<Ended> => {
    const running = device.running
    if (running === undefined) return Effect.interrupt
    const { machine } = device
    return operationOf(state, device, running.sync, name).pipe(
      Effect.exit,
      Effect.tap((exit) => Effect.sync(() => noteEnd(state, device, machine, name, exit)))
    )
  })

/** Starts the machine if it is off, with a client that is not opened. @internal */
export const start = (state: State, device: SimulatedDevice): Effect.Effect<boolean> =>
  device.starting.withPermits(1)(Effect.suspend(() => {
    if (device.running !== undefined && !device.machine.stopped) return Effect.succeed(true)
    const off = device.running === undefined ? Effect.void : Devices.powerOff(device)
    return Effect.zipRight(off, Devices.powerOn(device, state.partsOf(device))).pipe(
      Effect.exit,
      Effect.tap(() => Devices.followFile(device)),
      Effect.map((exit) => {
        if (Exit.isSuccess(exit)) return true
        const interrupted = Cause.isInterruptedOnly(exit.cause)
        if (!interrupted) state.record.violate(`${device.name} does not start: ${Devices.told(exit)}`)
        return false
      })
    )
  }))

/** Switches a stopped machine off, and on again after a time. @internal */
export const restart = (state: State, device: SimulatedDevice, afterMillis: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* Devices.powerOff(device)
    yield* Effect.sleep(`${afterMillis} millis`)
    for (let attempt = 0; attempt < 5; attempt++) {
      if (yield* start(state, device)) return
    }
  })

/** Like `operate`, after `open` and `attach` where an application would call them; a machine that stops starts again. @internal */
export const call = (state: State, device: SimulatedDevice, name: OperationName): Effect.Effect<void> =>
  Effect.gen(function*() {
    let ended = yield* operate(state, device, name)
    for (let attempt = 0; attempt < 2 && Exit.isFailure(ended); attempt++) {
      const failure = Cause.failureOption(ended.cause)
      if (Option.isNone(failure)) break
      const tag = failure.value._tag
      if (tag === "OpenRequired" || tag === "DatabaseTakenOver") yield* operate(state, device, "open")
      else if (tag !== "AttachRequired") break
      if (name !== "attach") yield* operate(state, device, "attach")
      ended = yield* operate(state, device, name)
    }
  })

/** Starts an operation in a fiber of the device. @internal */
export const begin = (state: State, device: SimulatedDevice, name: OperationName): Effect.Effect<void> =>
  background(state, device, call(state, device, name))

/** Runs something in a fiber of the device; a machine that stops in it starts again. @internal */
export const background = Effect.fnUntraced(function*(
  state: State,
  device: SimulatedDevice,
  self: Effect.Effect<unknown>
) {
  const { machine } = device
  const fiber = yield* Effect.fork(Effect.exit(self))
  device.fibers.push(fiber)
  yield* Effect.fork(Effect.gen(function*() {
    yield* Fiber.await(fiber)
    device.fibers = device.fibers.filter((other) => other !== fiber)
    if (machine.stopped && device.machine === machine && device.running !== undefined) {
      yield* restart(state, device, 1000)
    }
  }))
})

/** A host of this device. @internal */
export const hostOf = (state: State, run: Host["run"], prng: Host["prng"]): Host => ({
  prng,
  stamp: state.stamp,
  run,
  someKey: Effect.fnUntraced(function*(table) {
    const key = state.schema.tables.find(({ name }) => name === table)?.key ?? "id"
    const rows = yield* run(`SELECT "${key}" AS k FROM "${table}" ORDER BY "${key}"`)
    return prng.pick(rows)?.["k"]
  })
})
