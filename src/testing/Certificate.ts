/**
 * The crash certificate: every public operation, from representative states, meets an incident at every point: before and
 * after every SQL statement and commit, and at the three edges of every request, on the device and on the server. The
 * machine stops, the fiber is interrupted, the statement or the request fails. After each the invariants are checked, and
 * everybody is driven to rest.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { noteEnd, restart } from "./Application.js"
import type { CertifiedOperation } from "./CertificatePairs.js"
import { pairs, perform } from "./CertificatePairs.js"
import type { StateName, World } from "./CertificateStates.js"
import { states } from "./CertificateStates.js"
import * as CertificateWorld from "./CertificateWorld.js"
import type * as CrashPoints from "./CrashPoints.js"
import * as Settling from "./Settling.js"
import * as Devices from "./SimulatedDevice.js"
import { stampedRows } from "./SimulatedSchema.js"
import type { Plant } from "./SimulationState.js"
import * as VirtualTime from "./VirtualTime.js"

export {
  /**
   * What is stopped.
   *
   * @since 0.1.0
   * @category models
   */
  type CertifiedOperation,
  /**
   * The pairs of a full certificate.
   *
   * @since 0.1.0
   * @category models
   */
  pairs,
  /**
   * A representative state from which an operation is stopped.
   *
   * @since 0.1.0
   * @category models
   */
  type StateName
}

/**
 * What happens at the points.
 *
 * - `crash`: the device stops and starts again.
 * - `interrupt`: the fiber of the operation is interrupted; the same client goes on.
 * - `fail`: the statement fails (`SQLITE_IOERR`, `SQLITE_FULL` and `SQLITE_BUSY` in turn), or the request does, once and
 *   with all after it; the same client goes on.
 * - `server crash`: the server stops, and is there again when the operation has ended.
 * - `server restart`: the server stops, and is there again while the operation tries on.
 *
 * @since 0.1.0
 * @category models
 */
export type IncidentKind = "crash" | "interrupt" | "fail" | "server crash" | "server restart"

/**
 * All kinds of incidents.
 *
 * @since 0.1.0
 * @category models
 */
export const incidentKinds: ReadonlyArray<IncidentKind> = [
  "crash",
  "interrupt",
  "fail",
  "server crash",
  "server restart"
]

/**
 * What the certificate of one pair has shown.
 *
 * @since 0.1.0
 * @category models
 */
export interface Certificate {
  readonly operation: CertifiedOperation
  readonly state: StateName
  readonly kind: IncidentKind
  /** Points that an untouched run passes, times the incidents that are possible there. */
  readonly enumerated: number
  /** Of those, the points at which the incident has happened. */
  readonly visited: number
  /** Runs that it took: points with the same committed contents share one. */
  readonly runs: number
  readonly violations: ReadonlyArray<string>
}

/** An incident at a point (1-based). */
interface Stop {
  readonly at: number
  readonly point: string
  readonly durable: string
  readonly failure?: CrashPoints.Failure | undefined
}

const ofSqlite: ReadonlyArray<CrashPoints.Failure> = ["SQLITE_IOERR", "SQLITE_FULL", "SQLITE_BUSY"]

/** How something can fail at a point; statements take the codes of SQLite in turn. */
const failuresAt = (point: string, index: number): ReadonlyArray<CrashPoints.Failure> => {
  // A statement has two points.
  if (point.startsWith("before ")) return ofSqlite.filter((_, code) => code === (index >> 1) % ofSqlite.length)
  // To the client, an answer that got lost on its way and one that it could not use are the same.
  return /^(send|acted) /u.test(point) ? ["connection error", "offline"] : []
}

const stopsOf = (kind: IncidentKind, points: ReadonlyArray<Passed>): ReadonlyArray<Stop> =>
  points.flatMap(({ durable, point }, index): ReadonlyArray<Stop> =>
    kind === "fail"
      ? failuresAt(point, index).map((failure) => ({ at: index + 1, point, durable, failure }))
      : [{ at: index + 1, point, durable }]
  )

/** A point that was passed. */
interface Passed {
  readonly point: string
  /** What the future depends on if the machine stops there; blank if nobody asked. */
  readonly durable: string
}

interface Visit {
  readonly points: ReadonlyArray<Passed>
  readonly struck: string | undefined
  readonly violations: ReadonlyArray<string>
}

interface Parts {
  readonly operation: CertifiedOperation
  readonly state: StateName
  readonly kind: IncidentKind
  readonly plant: Plant
}

/** Whether nothing but files is left of what has stopped. */
const leavesFilesOnly = (kind: IncidentKind) => kind !== "interrupt" && kind !== "fail"

/** A server that has stopped starts again, once or whenever it happens. */
const serverReturns = ({ state }: World): Effect.Effect<void> =>
  Effect.suspend(() =>
    state.server.machine().stopped ? Effect.zipRight(state.server.stop, state.server.start) : Effect.void
  )

/** Nothing of an operation is left behind in the client or its connection. */
const leftBehind = Effect.fnUntraced(function*({ device, state }: World) {
  const { running } = device
  if (running === undefined) return
  const free = yield* Effect.exit(
    Effect.zipRight(running.second.unsafe("BEGIN IMMEDIATE"), running.second.unsafe("ROLLBACK"))
  )
  if (Exit.isFailure(free)) state.record.violate(`${device.name} has left a transaction open`)
  const status = yield* Stream.runHead(running.sync.status)
  if (Option.isSome(status) && status.value.running !== undefined) {
    state.record.violate(`${device.name} still says that ${status.value.running} is running`)
  }
})

/** Runs the operation, with its incident if there is one. */
const operateWith = Effect.fnUntraced(function*(world: CertificateWorld.Living, parts: Parts, stop: Stop | undefined) {
  const { device, state } = world
  const { kind, operation } = parts
  const onServer = kind === "server crash" || kind === "server restart"
  const points: Array<Passed> = []
  const durableState = CertificateWorld.durableState(world)
  let work: Fiber.RuntimeFiber<unknown, unknown> | undefined
  const watch = (machine: CrashPoints.Machine) => {
    machine.observe = (point) =>
      // Every run looks, for looking takes turns: requests under way at the same time could change places.
      leavesFilesOnly(kind)
        // Devices of a stopped server go on from where they are.
        ? Effect.map(durableState, (durable) => {
          points.push({ point, durable: onServer ? `${durable} ${device.machine.passed}` : durable })
        })
        : Effect.sync(() => void points.push({ point, durable: "" }))
    if (stop === undefined) return machine
    machine.stopAt = machine.passed + stop.at
    if (kind === "interrupt") {
      machine.incident = { kind, interrupt: () => work?.unsafeInterruptAsFork(FiberId.none) }
    } else if (stop.failure !== undefined) machine.incident = { kind: "fail", failure: stop.failure }
    return machine
  }
  if (operation === "build the client") {
    yield* Devices.powerOff(device)
    const given = state.partsOf(device)
    work = yield* Effect.fork(Devices.powerOn(device, {
      ...given,
      makeMachine: (on) => onServer ? given.makeMachine(on) : watch(given.makeMachine(on))
    }))
  } else {
    const { running } = device
    if (running === undefined) return yield* Effect.dieMessage("the device is off")
    if (!onServer) watch(device.machine)
    work = yield* Effect.fork(perform(state, device, running, operation))
  }
  const watched = onServer ? watch(state.server.machine()) : device.machine
  if (kind === "server restart") {
    yield* Effect.fork(Effect.iterate(work, {
      while: (fiber) => fiber.unsafePoll() === null,
      body: (fiber) => Effect.as(Effect.zipRight(Effect.sleep("300 millis"), serverReturns(world)), fiber)
    }))
  }
  const exit = yield* Fiber.await(work)
  const machine = onServer ? watched : device.machine
  noteEnd(state, device, device.machine, operation, exit)
  machine.observe = undefined
  machine.stopAt = undefined
  machine.offline = false
  const interrupted = Exit.isFailure(exit) && Cause.isInterrupted(exit.cause)
  if (interrupted && (onServer || kind === "fail")) state.record.violate(`${operation} was interrupted by nobody`)
  return { points, struck: machine.struck }
})

/**
 * What the application gives up by the operation, told to the ledger if it came to that: pending rows with
 * `localRows: "replace"`; by a detach, what a server that has gone back no longer has (lifecycle.md §6.2).
 */
const discarding = Effect.fnUntraced(function*(
  { device, state }: World,
  operation: CertifiedOperation
): Effect.fn.Return<{ readonly tell: Effect.Effect<void, SqlError> }, SqlError> {
  const { running } = device
  if (running === undefined) return { tell: Effect.void }
  const rowsOf = (sql: typeof running.second) => stampedRows(sql, state.schema)
  if (operation === "attach, replace") {
    const pending = yield* Devices.pendingRows(running.second)
    return {
      tell: Effect.map(rowsOf(running.second), (kept) => state.ledger.rolledBack(device.name, pending, kept))
    }
  }
  if (operation === "detach" && state.historyWentBack) {
    const held = yield* rowsOf(running.second)
    const onServer = yield* state.server.rows(device.user)
    const different = new Set(
      [...held.keys(), ...onServer.keys()].filter((row) => held.get(row)?.stamp !== onServer.get(row)?.stamp)
    )
    return {
      tell: Effect.map(Devices.owner(running.second), (owner) => {
        if (owner === undefined) state.ledger.rolledBack(device.name, different, onServer)
      })
    }
  }
  return { tell: Effect.void }
})

/** After the operation: what is left behind, and whether it leads to rest for everybody. */
const settle = Effect.fnUntraced(function*(
  world: CertificateWorld.Living,
  kept: CertificateWorld.Kept,
  operation: CertifiedOperation,
  settled: Set<string>,
  where: string
) {
  const { device, state } = world
  const lives = device.running !== undefined && !device.machine.stopped
  if (lives) {
    yield* serverReturns(world)
    yield* Settling.check(state, device, where)
    yield* leftBehind(world)
    const trouble = yield* Settling.calm(state, device)
    if (trouble !== undefined) state.record.violate(`${device.name} does not come to rest: ${trouble}`)
  }
  const durable = yield* CertificateWorld.durableState(world)
  // From the same databases everything goes the same way.
  if (settled.has(durable)) return
  yield* serverReturns(world)
  yield* restart(state, device, 0)
  // After uninstalling the engine begins anew; before the first client it has not begun.
  if (operation !== "uninstallSync" && operation !== "build the client") CertificateWorld.resume(kept, device)
  yield* Settling.check(state, device, where)
  yield* Settling.settle(state, { once: true, newFile: world.newFile })
  if (state.record.violations.length === 0) settled.add(durable)
})

/** Goes on from the kept state with one run of the operation, and drives everybody to rest. */
const visit = (
  kept: CertificateWorld.Kept,
  parts: Parts,
  stop: Stop | undefined,
  settled: Set<string>,
  folder: string
): Effect.Effect<Visit> => {
  const inside = CertificateWorld.folderIn(folder)
  const where = stop === undefined
    ? "an untouched run"
    : `point ${stop.at} (${[stop.failure ?? "", stop.point.replaceAll(/\s+/gu, " ").slice(0, 100)].join(" ").trim()})`
  return VirtualTime.run(
    Effect.acquireUseRelease(
      CertificateWorld.goOn(kept, states[parts.state], inside, parts.plant),
      (world) =>
        Effect.gen(function*() {
          const discarded = yield* discarding(world, parts.operation)
          const { points, struck } = yield* operateWith(world, parts, stop)
          if (parts.operation === "end of scope") yield* Devices.powerOff(world.device)
          yield* discarded.tell
          yield* settle(world, kept, parts.operation, settled, where)
          const { violations } = world.state.record
          return { points, struck, violations }
        }),
      CertificateWorld.end
    ).pipe(Effect.timeoutFail({ duration: "90 days", onTimeout: () => "nobody comes to rest in 90 days" })),
    { seed: 0 }
  ).pipe(
    Logger.withMinimumLogLevel(LogLevel.None),
    Effect.exit,
    Effect.map((exit): Visit =>
      Exit.isSuccess(exit) ? exit.value : { points: [], struck: undefined, violations: [Devices.told(exit)] }
    ),
    Effect.map((shown) => ({ ...shown, violations: shown.violations.map((line) => `${where}: ${line}`) })),
    Effect.tap(() => Effect.sync(() => fs.rmSync(inside, { recursive: true, force: true })))
  )
}

/**
 * Certifies one operation from one state: an untouched run enumerates the points, then the incident happens at each of
 * them.
 *
 * A machine that stops leaves nothing but its files. At every point of the untouched run the committed contents of both
 * databases are taken down, and of the points with the same contents only the first is stopped at, unless `everyStop` is
 * set: what the others would lead to has been seen. Interruptions and failures happen at every single point.
 *
 * `every` takes only each so-many-th point (default 1: all); `firstViolation` ends with the first; `folder` is where the
 * databases are made (default: the folder for temporary files).
 *
 * @example
 * ```ts
 * import { Certificate } from "oversqlite/testing"
 *
 * export const pushes = Certificate.certify("pushPending", "dirty")
 * ```
 *
 * @since 0.1.0
 * @category running
 */
export const certify = (
  operation: CertifiedOperation,
  state: StateName,
  options: {
    readonly kind?: IncidentKind | undefined
    readonly every?: number | undefined
    readonly plant?: Plant | undefined
    readonly folder?: string | undefined
    readonly everyStop?: boolean | undefined
    readonly firstViolation?: boolean | undefined
  } = {}
): Effect.Effect<Certificate> => {
  const { every = 1, kind = "crash", plant = {} } = options
  const parts: Parts = { operation, state, kind, plant }
  return Effect.acquireUseRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(options.folder ?? os.tmpdir(), "oversqlite-certificate-"))),
    (folder) =>
      Effect.gen(function*() {
        const kept = yield* VirtualTime.run(CertificateWorld.prepare(states[state], folder, plant), { seed: 0 }).pipe(
          Logger.withMinimumLogLevel(LogLevel.None),
          Effect.exit
        )
        if (Exit.isFailure(kept)) {
          return { operation, state, kind, enumerated: 0, visited: 0, runs: 0, violations: [Devices.told(kept)] }
        }
        const settled = new Set<string>()
        const untouched = yield* visit(kept.value, parts, undefined, settled, folder)
        const violations = [...kept.value.violations, ...untouched.violations]
        const stops = stopsOf(kind, untouched.points)
        const visited = new Set<Stop>()
        const stoppedAt = new Set<string>()
        let runs = 1
        for (const stop of stops.filter((_, index) => index % every === 0)) {
          if (options.firstViolation === true && violations.length > 0) break
          if (options.everyStop !== true && leavesFilesOnly(kind) && stoppedAt.has(stop.durable)) {
            visited.add(stop)
            continue
          }
          const shown = yield* visit(kept.value, parts, stop, settled, folder)
          runs++
          violations.push(...shown.violations)
          if (shown.struck === stop.point) {
            visited.add(stop)
            stoppedAt.add(stop.durable)
          } else violations.push(`point ${stop.at} was ${shown.struck ?? "not reached"}, not ${stop.point}`)
        }
        return {
          operation,
          state,
          kind,
          enumerated: stops.length,
          visited: visited.size,
          runs,
          violations
        }
      }),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )
}
