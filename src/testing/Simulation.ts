/**
 * The whole system in one process on virtual time: the real server, any number of real clients on real SQLite files,
 * hosts that write all the while, and a hostile world. One seed, one run, always the same.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type { ConflictResolver } from "../contract/ConflictResolution.js"
import type { SyncOptions } from "../engine/SyncConfig.js"
import type { ServerOptions } from "../server/ServerSettings.js"
import { begin, start } from "./Application.js"
import * as AtRest from "./AtRest.js"
import * as Office from "./OfficeSchema.js"
import * as Script from "./Script.js"
import type { Step } from "./Script.js"
import { users } from "./ServerSteps.js"
import * as Settling from "./Settling.js"
import * as Devices from "./SimulatedDevice.js"
import type { HostAction, Repair, SimulatedSchema } from "./SimulatedSchema.js"
import type { Plant, State } from "./SimulationState.js"
import * as SimulationState from "./SimulationState.js"
import * as Steps from "./Steps.js"
import * as VirtualTime from "./VirtualTime.js"

/**
 * Options of a run.
 *
 * @since 0.1.0
 * @category options
 */
export interface SimulationOptions {
  /** Decides everything that is random. */
  readonly seed: number
  /** Devices at the beginning; default 3. */
  readonly devices?: number | undefined
  /** Length of the script; default 60. */
  readonly steps?: number | undefined
  /** The tables; by default an office with a cascade, a self reference, a cycle and a unique column. */
  readonly schema?: SimulatedSchema | undefined
  /** What hosts write; required with a schema of your own. */
  readonly hosts?: ReadonlyArray<HostAction> | undefined
  /** How users correct data that the server or SQLite refuses; by default the row is deleted. */
  readonly repair?: Repair | undefined
  /** The resolver of all devices; by default each has one of the built-in ones, or one that merges. */
  readonly resolver?: ConflictResolver | undefined
  /** Options of the clients; by default pages are small, so that there are many edges. */
  readonly client?: Partial<SyncOptions> | undefined
  readonly server?: ServerOptions | undefined
  /** Which steps happen how often. */
  readonly weights?: Script.StepWeights | undefined
  /** A script in place of the seed's. */
  readonly script?: ReadonlyArray<Step> | undefined
  /** A defect to be found. */
  readonly plant?: Plant | undefined
  /** End the run with its first violation; default false. */
  readonly stopAtFirstViolation?: boolean | undefined
  /** Looks at the end of the run: the rows that everybody holds; returns what is wrong with them. */
  readonly verify?: ((end: SimulationEnd) => ReadonlyArray<string>) | undefined
  /** Keep the trace as text; default false (only its hash). */
  readonly trace?: boolean | undefined
  /** Where the databases are made; default: the folder for temporary files. */
  readonly folder?: string | undefined
}

/**
 * What {@link SimulationOptions.verify} sees: the rows of a user's table, and how often each host action was acknowledged.
 *
 * @since 0.1.0
 * @category models
 */
export interface SimulationEnd {
  readonly rows: (table: string) => ReadonlyArray<Readonly<Record<string, unknown>>>
  readonly acknowledged: Readonly<Record<string, number>>
}

/**
 * What a run has shown.
 *
 * @since 0.1.0
 * @category models
 */
export interface SimulationReport {
  readonly seed: number
  readonly devices: number
  readonly script: ReadonlyArray<Step>
  /** Everything that must not be, one line each. */
  readonly violations: ReadonlyArray<string>
  /** SHA-256 of everything that happened, in order. */
  readonly hash: string
  readonly trace: ReadonlyArray<string>
  readonly virtualMillis: number
  /** Faults that happened, by kind. */
  readonly faults: Readonly<Record<string, number>>
  /** Points at which a machine was stopped. */
  readonly crashPoints: number
  /** Statements and edges of requests that were passed. */
  readonly points: number
  /** Change events that the server has sent to devices that were listening. */
  readonly watchEvents: number
  /** Acknowledged writes of hosts. */
  readonly writes: number
  /** How often the planted defect has changed something. */
  readonly planted: number
}

/**
 * A run has violated what must hold.
 *
 * @since 0.1.0
 * @category errors
 */
export class SimulationFailed extends Data.TaggedError("SimulationFailed")<{ readonly report: SimulationReport }> {
  override get message(): string {
    const { devices, script, seed, violations } = this.report
    return `seed ${seed} with ${devices} devices and ${script.length} steps: ${violations.slice(0, 5).join("\n")}`
  }
}

const smallPages: Partial<SyncOptions> = {
  uploadLimit: 3,
  downloadLimit: 2,
  committedRowsLimit: 3,
  snapshotChunkRows: 4,
  applyRows: 5,
  bundleChangeWatchMode: "auto",
  watchFallbackInterval: "30 seconds"
}

const deleteRow = (schema: SimulatedSchema): Repair => (host, { key, table }) => {
  const column = schema.tables.find(({ name }) => name === table)?.key ?? "id"
  return host.run(`DELETE FROM "${table}" WHERE "${column}" = ?`, [key])
}

const concerned = (state: State, step: Step) =>
  "device" in step ? state.devices[step.device % state.devices.length] : undefined

const play = (state: State, options: SimulationOptions, script: ReadonlyArray<Step>, devices: number) =>
  Effect.gen(function*() {
    const began = yield* Clock.currentTimeMillis
    const acknowledged = new Map<string, number>()
    yield* state.server.start
    for (let index = 0; index < devices; index++) {
      const device = state.addDevice(users[0])
      yield* start(state, device)
      yield* begin(state, device, "sync")
    }
    for (const step of script) {
      yield* Effect.sleep(`${step.pause} millis`)
      state.record.note(Script.describe(step))
      // A machine that stops interrupts what runs on it, here as well.
      yield* Effect.catchSomeCause(
        Steps.perform(state, step, acknowledged),
        (cause) => Cause.isInterruptedOnly(cause) ? Option.some(Effect.void) : Option.none()
      )
      const device = concerned(state, step)
      if (device !== undefined) yield* Settling.check(state, device, Script.describe(step))
    }
    yield* Steps.heal(state)
    yield* Settling.settle(state)
    if (state.record.violations.length === 0) yield* AtRest.check(state)
    const witness = state.devices.at(-1)?.running
    if (options.verify !== undefined && witness !== undefined && state.record.violations.length === 0) {
      const tables = new Map<string, ReadonlyArray<Readonly<Record<string, unknown>>>>()
      for (const { name } of state.schema.tables) {
        tables.set(name, yield* Effect.orDie(witness.second.unsafe<Record<string, unknown>>(`SELECT * FROM "${name}"`)))
      }
      const end: SimulationEnd = {
        rows: (table) => tables.get(table) ?? [],
        acknowledged: Object.fromEntries(acknowledged)
      }
      for (const line of options.verify(end)) state.record.violate(line)
    }
    const ended = yield* Clock.currentTimeMillis
    return ended - began
  }).pipe(
    Effect.ensuring(Effect.gen(function*() {
      for (const device of state.devices) yield* Devices.powerOff(device)
      yield* state.server.stop
    }))
  )

/**
 * Runs a simulation and tells what it has shown. Nothing that goes wrong in it is a failure of the effect: look at
 * `violations`, or use {@link check}.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { Simulation } from "oversqlite/testing"
 *
 * export const program = Effect.gen(function*() {
 *   const report = yield* Simulation.run({ seed: 7, devices: 3 })
 *   yield* Effect.log(`${report.points} points, ${report.violations.length} violations`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category running
 */
export const run = (options: SimulationOptions): Effect.Effect<SimulationReport> => {
  const { devices = 3, schema = Office.schema, seed, steps = 60 } = options
  const script = options.script ?? Script.make({ seed, devices, steps, weights: options.weights })
  return Effect.acquireUseRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(options.folder ?? os.tmpdir(), "oversqlite-simulation-"))),
    (folder) =>
      Effect.gen(function*() {
        const state = SimulationState.make({
          seed,
          folder,
          schema,
          hosts: options.hosts ?? Office.hosts,
          repair: options.repair ?? (options.schema === undefined ? Office.repair : deleteRow(schema)),
          resolver: options.resolver,
          client: { ...smallPages, ...options.client },
          serverOptions: options.server ?? {},
          plant: options.plant ?? {},
          keepLines: options.trace === true
        })
        const played = play(state, options, script, devices)
        const ending = options.stopAtFirstViolation === true
          ? Effect.raceFirst(played, Effect.as(Deferred.await(state.record.violated), 0))
          : played
        // Many times what a long script needs, even if every request fails.
        const virtualMillis = yield* VirtualTime.run(ending, { seed, limit: "90 days" }).pipe(
          Logger.withMinimumLogLevel(LogLevel.None),
          Effect.catchTag("Stuck", (stuck) =>
            Effect.sync(() => {
              state.record.violate(stuck.message)
              return stuck.afterMillis
            })),
          // Whatever else goes wrong is of this run alone.
          Effect.catchAllCause((cause) =>
            Effect.sync(() => {
              state.record.violate(`the run has broken off: ${Cause.pretty(cause, { renderErrorCause: true })}`)
              return 0
            })
          )
        )
        const { record } = state
        return {
          seed,
          devices,
          script,
          violations: record.violations,
          hash: record.hash(),
          trace: record.lines,
          virtualMillis,
          faults: Object.fromEntries(record.faults),
          crashPoints: record.crashPoints,
          points: record.points,
          watchEvents: record.watchEvents,
          writes: state.ledger.size(),
          planted: record.planted
        }
      }),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )
}

/**
 * Like {@link run}, and fails if anything was violated.
 *
 * @since 0.1.0
 * @category running
 */
export const check = (options: SimulationOptions): Effect.Effect<SimulationReport, SimulationFailed> =>
  Effect.filterOrFail(
    run(options),
    ({ violations }) => violations.length === 0,
    (report) => new SimulationFailed({ report })
  )

/**
 * A shorter script that still violates something: steps are dropped, halves first, as long as the run keeps failing. At most
 * `runs` runs (default 200).
 *
 * @since 0.1.0
 * @category running
 */
export const shrink = (
  options: SimulationOptions,
  limits: { readonly runs?: number | undefined } = {}
): Effect.Effect<SimulationReport> =>
  Effect.gen(function*() {
    let best = yield* run(options)
    if (best.violations.length === 0) return best
    let left = limits.runs ?? 200
    for (let size = Math.ceil(best.script.length / 2); size >= 1 && left > 0;) {
      let dropped = false
      for (let at = 0; at < best.script.length && left > 0;) {
        const script = best.script.filter((_, index) => index < at || index >= at + size)
        left--
        const report = yield* run({ ...options, script })
        if (report.violations.length > 0) {
          best = report
          dropped = true
        } else at += size
      }
      if (size > 1) size = Math.ceil(size / 2)
      else if (!dropped) break
    }
    return best
  })
