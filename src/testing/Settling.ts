/**
 * The end of a simulation: the world is healthy again, and everybody does what errors ask for until nothing is left to
 * do; then all must hold the same.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { SyncError } from "../contract/SyncError.js"
import type { Ended } from "./Application.js"
import { hostOf, operate, restart, start } from "./Application.js"
import { findViolations } from "./Invariants.js"
import * as Prng from "./Prng.js"
import type { OperationName } from "./Script.js"
import type { SimulatedDevice } from "./SimulatedDevice.js"
import * as Devices from "./SimulatedDevice.js"
import { contents, stampedRows } from "./SimulatedSchema.js"
import type { State } from "./SimulationState.js"

/** Steps that one device may need to become quiet, and rounds of all of them. */
const patience = { steps: 30, rounds: 8, sameEnds: 10, badRounds: 3 }

const isQuiet = (device: SimulatedDevice) =>
  Effect.suspend(() => {
    const running = device.running
    if (running === undefined) return Effect.succeed(false)
    return Effect.map(
      running.second.unsafe<{ readonly quiet: number }>(
        `SELECT a.binding_state = 'attached' AND a.rebuild_required = 0 AND o.kind = 'none' AND b.state = 'none'
                AND NOT EXISTS (SELECT 1 FROM _sync_dirty_rows) AS quiet
           FROM _sync_attachment_state AS a, _sync_operation_state AS o, _sync_outbox_bundle AS b`
      ),
      ([row]) => row?.quiet === 1
    )
  }).pipe(Effect.orDie)

/** Rows that an error names. */
const namedRows = (error: SyncError): ReadonlyArray<{ readonly table: string; readonly key?: string | undefined }> =>
  error._tag === "UploadRefused" ? error.rows : error._tag === "LocalDataError" ? [error.row] : []

const keyOf = (keyJson: string): string => {
  const fields: Readonly<Record<string, unknown>> = JSON.parse(keyJson)
  return String(Object.values(fields)[0])
}

/** The host repairs the rows that were named, or all that are pending. */
const repair = Effect.fnUntraced(function*(state: State, device: SimulatedDevice, error: SyncError, attempt: number) {
  const running = device.running
  if (running === undefined) return
  const named = namedRows(error).flatMap(({ key, table }) => key === undefined ? [] : [`${table} ${keyOf(key)}`])
  const pending = yield* Effect.orDie(Devices.pendingRows(running.second))
  const chosen = attempt > 2 || named.length === 0 ? Array.from(pending) : named
  yield* Effect.forEach(chosen, (row) =>
    Devices.hostWrite(state, device, "second", (run) => {
      const table = row.slice(0, row.indexOf(" "))
      const text = row.slice(row.indexOf(" ") + 1)
      const blob = state.schema.tables.find(({ name }) => name === table)?.isBlobKey === true
      return state.repair(
        hostOf(state, run, Prng.make(0)),
        { table, key: blob ? Buffer.from(text, "hex") : text },
        attempt
      )
    }))
  state.record.note(`${device.name} repairs ${chosen.join(", ")}`)
})

const operationFor: Partial<Readonly<Record<SyncError["action"], OperationName>>> = {
  open: "open",
  attach: "attach",
  push: "pushPending",
  rebuild: "rebuild",
  detach: "detach"
}

/** Follows one device to rest; the value says why it did not come to rest. @internal */
export const calm = (state: State, device: SimulatedDevice): Effect.Effect<string | undefined> =>
  Effect.gen(function*() {
    const ends: Array<string> = []
    let repairs = 0
    let reports = 0
    let next: OperationName = "sync"
    for (let step = 0; step < patience.steps; step++) {
      yield* start(state, device)
      if (device.running === undefined) return `it does not start: ${ends.join("; ")}`
      const ended: Ended = yield* operate(state, device, next)
      ends.push(`${next}: ${Devices.told(ended)}`)
      // What has not helped so often will not help later.
      const latest = ends.slice(-patience.sameEnds)
      if (latest.length === patience.sameEnds && new Set(latest).size === 1) {
        return `${latest.length} times ${latest[0]}`
      }
      if (Exit.isSuccess(ended)) {
        if (next === "sync" && (yield* isQuiet(device))) return undefined
        const value: unknown = ended.value
        if (typeof value === "object" && value !== null && "retryAfter" in value) {
          yield* Effect.sleep(Duration.isDuration(value.retryAfter) ? value.retryAfter : "30 seconds")
          next = "attach"
        } else next = "sync"
        continue
      }
      const failure: Option.Option<SyncError> = Cause.failureOption(ended.cause)
      if (Option.isNone(failure)) return ends.join("; ")
      const error: SyncError = failure.value
      const following: OperationName | undefined = operationFor[error.action]
      if (following !== undefined) next = following
      else if (error.action === "fix_data") {
        yield* repair(state, device, error, ++repairs)
        next = "sync"
      } else if (error.action === "retry_later") {
        yield* Effect.sleep("30 seconds")
        next = "sync"
      } else if (error.action === "new_client") {
        yield* restart(state, device, 0)
        next = "open"
      } else if (++reports > 1) return ends.join("; ")
      else next = "sync"
    }
    return ends.join("; ")
  })

/** The first lines in which two databases differ. */
const difference = (left: ReadonlyArray<string>, right: ReadonlyArray<string>): ReadonlyArray<string> => {
  const there = new Set(left)
  const here = new Set(right)
  return [
    ...left.filter((line) => !here.has(line)).map((line) => `only there: ${line}`),
    ...right.filter((line) => !there.has(line)).map((line) => `only here: ${line}`)
  ].slice(0, 6)
}

const compare = Effect.fnUntraced(function*(state: State, options: SettleOptions) {
  const users = Array.from(new Set(state.devices.map(({ user }) => user)))
  for (const user of users) {
    const first = state.addDevice(user, options.newFile?.() ?? state.file())
    const trouble = yield* calm(state, first)
    if (trouble !== undefined || first.running === undefined) {
      state.record.violate(`a new device of ${user} cannot be set up: ${trouble ?? ""}`)
      continue
    }
    const there = yield* contents(first.running.second, state.schema)
    const rows = yield* stampedRows(first.running.second, state.schema)
    const onServer = yield* state.server.rows(user)
    const stamps = (of: typeof rows) => Array.from(of, ([row, { stamp }]) => `${row} ${stamp}`).sort()
    for (const line of difference(stamps(onServer), stamps(rows))) {
      state.record.violate(`the server and a new device of ${user} differ: ${line}`)
    }
    for (const device of state.devices) {
      if (device.user !== user || device === first || device.running === undefined) continue
      for (const line of difference(there, yield* contents(device.running.second, state.schema))) {
        state.record.violate(`${device.name} and a new device of ${user} differ: ${line}`)
      }
    }
    for (const line of state.ledger.lost(user, rows)) state.record.violate(line)
    state.record.note(`rows of ${user}: ${there.join("\n")}`)
  }
}, Effect.orDie)

/** Checks the invariants of a device that is running. @internal */
export const check = (state: State, device: SimulatedDevice, where: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    if (device.running === undefined) return
    const found = yield* findViolations({ sql: device.running.second }, {
      quiescent: device.fibers.length === 0,
      historyWentBack: state.historyWentBack
    })
    for (const line of found) state.record.violate(`${device.name} after ${where}: ${line}`)
  })

/** How a world is brought to rest. @internal */
export interface SettleOptions {
  /** A round in which everybody is at rest is not repeated. */
  readonly once?: boolean | undefined
  /** Gives the file of a new device, to which nothing has happened yet. */
  readonly newFile?: (() => string) | undefined
}

/** Heals the world, waits for what runs, and drives everybody to rest. @internal */
export const settle = (state: State, options: SettleOptions = {}): Effect.Effect<void> =>
  Effect.gen(function*() {
    state.weather = 0
    state.server.machine().stopAt = undefined
    if (state.server.machine().stopped) yield* state.server.stop
    yield* state.server.start
    for (const device of state.devices) {
      device.machine.stopAt = undefined
      yield* Effect.forEach(device.fibers, Fiber.await)
    }
    // Machines that have stopped meanwhile start again.
    yield* Effect.sleep("10 minutes")
    if (options.once !== true) {
      for (const device of state.devices) yield* start(state, device)
      for (const device of state.devices) yield* check(state, device, "the script")
    }
    let troubles: Array<string> = []
    for (let round = 0; round < patience.rounds; round++) {
      const earlier = troubles.join("\n")
      troubles = []
      const before = state.record.points
      const ceilings: Array<string> = []
      for (const device of state.devices) {
        const trouble = yield* calm(state, device)
        if (trouble !== undefined) troubles.push(`${device.name} does not come to rest: ${trouble}`)
        yield* check(state, device, `round ${round}`)
        ceilings.push(yield* checkpointOf(device))
      }
      state.record.note(`round ${round} of ${state.record.points - before} points: ${ceilings.join(" ")}`)
      if (troubles.length > 0 && round + 1 >= patience.badRounds) break
      const restless = yield* Effect.filter(state.devices, (device) => Effect.map(isQuiet(device), (quiet) => !quiet))
      if (
        (round > 0 || options.once === true) && troubles.length === 0 && restless.length === 0 &&
        !(yield* isBehind(state))
      ) break
      // Whoever has ended in the same way twice, with time for leases to run out, will not end otherwise.
      if (round > 1 && troubles.length > 0 && troubles.join("\n") === earlier) break
      if (round === patience.rounds - 1 && troubles.length === 0) {
        troubles.push(`after ${patience.rounds} rounds there is still something to do`)
      }
    }
    for (const trouble of troubles) state.record.violate(trouble)
    if (troubles.length === 0) yield* compare(state, options)
  })

const checkpointOf = (device: SimulatedDevice) =>
  Effect.suspend(() =>
    device.running === undefined
      ? Effect.succeed("off")
      : Effect.map(
        device.running.second.unsafe<{ readonly at: string }>(
          "SELECT attached_user_id || ':' || last_bundle_seq_seen AS at FROM _sync_attachment_state"
        ),
        ([row]) => row?.at ?? ""
      )
  ).pipe(Effect.orDie)

/** Whether devices of one user stand at different bundles. */
const isBehind = (state: State) =>
  Effect.map(
    Effect.forEach(state.devices, checkpointOf),
    (all) => new Set(all).size !== new Set(all.map((at) => at.slice(0, at.lastIndexOf(":")))).size
  )
