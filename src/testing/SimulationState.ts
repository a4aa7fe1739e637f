/**
 * Everything that one simulated run shares: its record, and the machines and the network in it.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import * as path from "node:path"
import type { ConflictResolver } from "../contract/ConflictResolution.js"
import { acceptServer, clientWins, keepMerged, serverWins } from "../contract/ConflictResolution.js"
import type { SyncOptions } from "../engine/SyncConfig.js"
import type { ServerOptions } from "../server/ServerSettings.js"
import * as CrashPoints from "./CrashPoints.js"
import * as Faults from "./Faults.js"
import * as Ledger from "./Ledger.js"
import * as Prng from "./Prng.js"
import type { SpellKind } from "./Script.js"
import * as SimulatedDevice from "./SimulatedDevice.js"
import type { HostAction, Repair, SimulatedSchema } from "./SimulatedSchema.js"
import * as SimulatedServer from "./SimulatedServer.js"

/**
 * A defect that is put into a run on purpose, to see that the checks find it: statements of the devices or of the server,
 * or answers, are changed on their way. Whatever returns another text than it was given counts as one time that the
 * defect took effect.
 *
 * @since 0.1.0
 * @category models
 */
export interface Plant {
  /** The text that the database of a device runs in place of this one. */
  readonly statement?: ((text: string) => string) | undefined
  /** The same for the database of the server. */
  readonly serverStatement?: ((text: string) => string) | undefined
  /** The body that arrives in place of this one. */
  readonly answer?: ((url: URL, text: string) => string) | undefined
}

/** The record of a run, while it is made. @internal */
export interface Record {
  readonly note: (line: string) => void
  readonly violate: (line: string) => void
  readonly count: (fault: string) => void
  readonly lines: Array<string>
  readonly violations: Array<string>
  readonly faults: Map<string, number>
  crashPoints: number
  points: number
  /** Change events that servers have sent. */
  watchEvents: number
  /** How often a planted defect has changed something. */
  planted: number
  /** Done with the first violation. */
  readonly violated: Deferred.Deferred<void>
  readonly hash: () => string
}

const makeRecord = (keepLines: boolean): Record => {
  const hash = createHash("sha256")
  const record: Record = {
    lines: [],
    violations: [],
    faults: new Map(),
    crashPoints: 0,
    points: 0,
    watchEvents: 0,
    planted: 0,
    violated: Deferred.unsafeMake(FiberId.none),
    note: (line) => {
      hash.update(line).update("\n")
      if (keepLines) record.lines.push(line)
    },
    violate: (line) => {
      record.violations.push(line)
      Deferred.unsafeDone(record.violated, Effect.void)
      record.note(`violation: ${line}`)
    },
    count: (fault) => void record.faults.set(fault, (record.faults.get(fault) ?? 0) + 1),
    hash: () => hash.copy().digest("hex")
  }
  return record
}

/** What a simulated world is built from. @internal */
export interface StateOptions {
  readonly seed: number
  readonly folder: string
  readonly schema: SimulatedSchema
  readonly hosts: ReadonlyArray<HostAction>
  readonly repair: Repair
  readonly resolver: ConflictResolver | undefined
  readonly client: Partial<SyncOptions>
  readonly serverOptions: ServerOptions
  readonly plant: Plant
  readonly keepLines: boolean
}

/** What requests meet for a while. @internal */
export interface Spell {
  readonly what: SpellKind
  /** Seconds of its `Retry-After`. */
  readonly retryAfter: number
}

/** A simulated world: server, devices, weather, and what is known of every row. @internal */
export interface State extends StateOptions {
  readonly record: Record
  readonly ledger: Ledger.Ledger
  readonly server: SimulatedServer.SimulatedServer
  readonly devices: Array<SimulatedDevice.SimulatedDevice>
  readonly partsOf: (device: SimulatedDevice.SimulatedDevice) => SimulatedDevice.DeviceParts
  readonly file: () => string
  readonly stamp: () => string
  readonly addDevice: (user: string, filename?: string) => SimulatedDevice.SimulatedDevice
  readonly serverBackups: Array<string>
  /** Percent of the requests that meet a fault. */
  weather: number
  /** What requests meet for a while. */
  spell: Spell | undefined
  /** Devices stop at the next point whose name contains this text. */
  stopWhere: string | undefined
  /** The history has gone back: versions may be lower than before. */
  historyWentBack: boolean
}

/** Takes both sides: the local values over the server's. */
const merging: ConflictResolver = ({ localRow, server }) =>
  Effect.succeed(localRow === null || server.row === null ? acceptServer : keepMerged({ ...server.row, ...localRow }))

const resolvers: ReadonlyArray<ConflictResolver> = [serverWins, clientWins, merging]

const weightOf: Readonly<globalThis.Record<Faults.FaultKind, number>> = {
  "request lost": 4,
  "answer lost": 6,
  "duplicated": 2,
  "duplicated late": 2,
  "duplicated after others": 2,
  "overtaken": 3,
  "delayed": 3,
  "timed out": 1,
  "truncated": 2,
  "corrupted": 2,
  "429": 1,
  "500": 1,
  "502": 1,
  "503": 1,
  "503 with Retry-After": 1,
  "expired token": 1
}

/** What an event stream may meet; faults that read the whole body would wait for ever. */
const streamWeightOf = {
  "stream cut": 8,
  "request lost": 2,
  "delayed": 1,
  "429": 1,
  "500": 1,
  "503": 1,
  "expired token": 1
} as const

/** The stream breaks after a time. */
const cutStream: Faults.Fault = (exchange) =>
  Effect.map(exchange.send, (response) => {
    if (response.status !== 200) return response
    const { prng, request } = exchange
    const cut = new HttpClientError.ResponseError({ request, response, reason: "Decode" })
    const stream = response.stream.pipe(
      Stream.interruptAfter(`${prng.integer(20_000)} millis`),
      Stream.concat(Stream.fail(cut))
    )
    return Object.defineProperty(response, "stream", { value: stream })
  })

/** Points that one run may pass: many times what a long one needs. */
const maxPoints = 400_000

/** A defect may make a machine go round in circles without any time passing. */
const endless = (record: Record) => {
  const line = `no end after ${maxPoints} points`
  if (!record.violations.includes(line)) record.violate(line)
  throw new Error(line)
}

/** What a plant makes of a text, counted. */
const counted = (record: Record, text: string, rewritten: string): string => {
  if (rewritten !== text) record.planted++
  return rewritten
}

/** Builds a world in which nothing is switched on yet. @internal */
export const make = (options: StateOptions): State => {
  const { plant, seed } = options
  const record = makeRecord(options.keepLines)
  const ledger = Ledger.make()
  let files = 0
  let stamps = 0
  const file = () => path.join(options.folder, `${files++}.db`)
  const noticed = (who: string) => (point: string) => {
    record.points++
    if (record.points > maxPoints) endless(record)
    record.note(`${who} ${point}`)
  }
  const server = SimulatedServer.make({
    schema: options.schema,
    prng: Prng.make(seed, "server"),
    file,
    options: options.serverOptions,
    makeMachine: () =>
      CrashPoints.make({
        notice: noticed("server"),
        onStop: (point) => {
          record.crashPoints++
          record.note(`server stops ${point}`)
        },
        rewrite: (text) => counted(record, text, plant.serverStatement?.(text) ?? text)
      }),
    onEvent: () => {
      record.watchEvents++
      record.note("server announces a bundle")
    },
    change: (url, text) => counted(record, text, plant.answer?.(url, text) ?? text)
  })
  const network = (device: SimulatedDevice.SimulatedDevice): HttpClient.HttpClient => {
    const prng = Prng.make(seed, "network", device.name, files)
    const faulty = Faults.apply(server.client, prng, ({ request, url }) => {
      if (request.headers["authorization"] === `Bearer ${SimulatedDevice.expiredToken}`) {
        record.count("expired token")
        return Faults.expiredToken
      }
      const { spell } = state
      if (spell !== undefined && (spell.what === "no network" || prng.chance(0.8))) {
        record.count(`spell: ${spell.what}`)
        return spell.what === "no network"
          ? Faults.loseRequest
          : Faults.status(Number.parseInt(spell.what, 10), spell.what.endsWith("Retry-After") ? spell : {})
      }
      if (!prng.chance(state.weather / 100)) return undefined
      const kind = url.pathname.endsWith("/sync/watch") ? prng.weighted(streamWeightOf) : prng.weighted(weightOf)
      if (kind === undefined) return undefined
      record.count(kind)
      record.note(`${device.name} ${request.method} ${url.pathname} ${kind}`)
      return kind === "stream cut" ? cutStream : Faults.kinds[kind]
    }, server.beside)
    // Everything takes some time, so that devices take turns.
    return HttpClient.make((request) =>
      Effect.suspend(() => {
        const there = Effect.sleep(`${1 + prng.integer(80)} millis`)
        const back = Effect.sleep(`${1 + prng.integer(80)} millis`)
        return Effect.zipRight(there, Effect.zipLeft(faulty.execute(request), back))
      })
    )
  }
  const partsOf = (device: SimulatedDevice.SimulatedDevice): SimulatedDevice.DeviceParts => {
    const index = state.devices.indexOf(device)
    const prng = Prng.make(seed, "device", device.name, record.points)
    return {
      schema: options.schema,
      ledger,
      prng,
      network,
      resolver: options.resolver ?? resolvers[(seed + index) % resolvers.length] ?? serverWins,
      options: options.client,
      makeMachine: () =>
        CrashPoints.make({
          notice: (point) => {
            noticed(device.name)(point)
            if (state.stopWhere !== undefined && point.includes(state.stopWhere)) {
              state.stopWhere = undefined
              device.machine.stopAt = device.machine.passed
            }
          },
          onStop: (point) => {
            record.crashPoints++
            record.count("crash")
            record.note(`${device.name} stops ${point}`)
          },
          rewrite: (text) => counted(record, text, plant.statement?.(text) ?? text)
        })
    }
  }
  const state: State = {
    ...options,
    record,
    ledger,
    server,
    devices: [],
    partsOf,
    file,
    stamp: () => `w${++stamps}`,
    addDevice: (user, filename = file()) => {
      const device: SimulatedDevice.SimulatedDevice = {
        name: `device ${state.devices.length}`,
        filename,
        user,
        machine: CrashPoints.make(),
        running: undefined,
        fibers: [],
        token: "valid",
        clockJump: 0,
        starting: Effect.unsafeMakeSemaphore(1),
        closing: undefined,
        backups: []
      }
      device.machine.stopped = true
      state.devices.push(device)
      return device
    },
    serverBackups: [],
    weather: 10,
    spell: undefined,
    historyWentBack: false,
    stopWhere: undefined
  }
  return state
}
