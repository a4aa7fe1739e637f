/**
 * What happens in a simulation, as data: a list of steps that a seed makes and that can be shortened.
 *
 * @since 0.1.0
 */
import * as Prng from "./Prng.js"

/**
 * Operations of the client that applications call.
 *
 * @since 0.1.0
 * @category models
 */
export type OperationName =
  | "open"
  | "attach"
  | "sync"
  | "pushPending"
  | "pullToStable"
  | "rebuild"
  | "detach"
  | "syncThenDetach"
  | "run"

/**
 * What requests meet during a spell.
 *
 * @since 0.1.0
 * @category models
 */
export type SpellKind = "no network" | "429" | "429 with Retry-After" | "500" | "502" | "503" | "503 with Retry-After"

/**
 * One step. `pause` is the virtual time before it in ms; `salt` decides everything random in it, so that it does the same
 * when other steps are dropped.
 *
 * - `write`: the host of a device writes, through the client's connection or its own.
 * - `operate`: an operation is started and goes on beside the following steps.
 * - `interrupt`: what runs on the device is interrupted in order, as when the user leaves the screen.
 * - `pause`: uploads or downloads are switched off or on again.
 * - `look`: every status read and `inspect`; then an operation has to do what `inspect` said of it.
 * - `crash`: the device stops after so many more points (0: now) and starts again some time later.
 * - `power cut`: it stops and comes back with what of its write-ahead log had reached the disk.
 * - `close`: the scope of its client ends while operations run, and a new client is made on the file.
 * - `take over`: another process opens the file; the client here must stop and do no harm.
 * - `uninstall`: the engine is taken out of the file; the host keeps its tables and starts anew.
 * - `back up`, `roll back`: its file is copied; it goes on with the oldest or newest copy.
 * - `clone`: a new device starts on a copy of its file.
 * - `switch`: it syncs, detaches, and goes on as another user.
 * - `clock`: its wall clock jumps.
 * - `token`: for a while its tokens have expired, or belong to somebody else.
 * - `server …`: the same for the server; `server prune` gives up the older part of the history, `server write` is a
 *   write of the backend, `server wipe` loses everything.
 * - `weather`: the probability of a fault per request from now on, in percent.
 * - `spell`: for a while every request, or most of them, meet the same.
 *
 * @since 0.1.0
 * @category models
 */
export type Step =
  & { readonly pause: number; readonly salt: number }
  & (
    | { readonly kind: "write"; readonly device: number; readonly connection: "own" | "second" }
    | { readonly kind: "operate"; readonly device: number; readonly operation: OperationName }
    | { readonly kind: "crash"; readonly device: number; readonly points: number }
    | {
      readonly kind:
        | "interrupt"
        | "look"
        | "power cut"
        | "close"
        | "take over"
        | "uninstall"
        | "back up"
        | "roll back"
        | "clone"
        | "switch"
      readonly device: number
    }
    | { readonly kind: "pause"; readonly device: number; readonly uploads: boolean; readonly paused: boolean }
    | { readonly kind: "clock"; readonly device: number; readonly millis: number }
    | {
      readonly kind: "token"
      readonly device: number
      readonly trouble: "expired" | "of another user"
      readonly millis: number
    }
    | { readonly kind: "server crash"; readonly points: number }
    | { readonly kind: "server back up" | "server prune" | "server power cut" | "server write" | "server wipe" }
    | { readonly kind: "server restore"; readonly renewHistory: boolean }
    | { readonly kind: "spell"; readonly what: SpellKind; readonly millis: number }
    | { readonly kind: "weather"; readonly percent: number }
  )

/**
 * Name of a kind of step.
 *
 * @since 0.1.0
 * @category models
 */
export type StepKind = Step["kind"]

const weights: Readonly<Record<StepKind, number>> = {
  "write": 40,
  "operate": 36,
  "interrupt": 1.5,
  "pause": 1.5,
  "look": 3,
  "crash": 5,
  "power cut": 1.5,
  "close": 1,
  "take over": 1,
  "uninstall": 0.8,
  "back up": 2.5,
  "roll back": 1.5,
  "clone": 0.8,
  "switch": 1.5,
  "clock": 1,
  "token": 1,
  "server crash": 1.5,
  "server power cut": 1,
  "server back up": 2,
  "server restore": 1.5,
  "server prune": 1.2,
  "server write": 3,
  "server wipe": 0.7,
  "weather": 3,
  "spell": 1
}

const operations: Readonly<Record<OperationName, number>> = {
  open: 1,
  attach: 3,
  sync: 30,
  pushPending: 14,
  pullToStable: 10,
  rebuild: 4,
  detach: 1,
  syncThenDetach: 1,
  run: 8
}

const spells: Readonly<Record<SpellKind, number>> = {
  "no network": 3,
  "429": 1,
  "429 with Retry-After": 1,
  "500": 1,
  "502": 1,
  "503": 1,
  "503 with Retry-After": 1
}

const hour = 3_600_000

/**
 * Which steps a script may have, as weights in place of the usual ones.
 *
 * @since 0.1.0
 * @category options
 */
export type StepWeights = Partial<Readonly<Record<StepKind, number>>>

const stepOf = (prng: Prng.Prng, devices: number, kinds: Readonly<Record<StepKind, number>>): Step => {
  const common = {
    pause: prng.chance(0.5) ? 0 : prng.integer(prng.chance(0.05) ? 4_000_000 : 5_000),
    salt: prng.integer(2 ** 31)
  }
  const device = prng.integer(devices)
  const kind = prng.weighted(kinds) ?? "write"
  switch (kind) {
    case "write":
      return { ...common, kind, device, connection: prng.chance(0.5) ? "own" : "second" }
    case "operate":
      return { ...common, kind, device, operation: prng.weighted(operations) ?? "sync" }
    case "crash":
      return { ...common, kind, device, points: prng.chance(0.2) ? 0 : 1 + prng.integer(prng.chance(0.5) ? 40 : 400) }
    case "server crash":
      return { ...common, kind, points: prng.chance(0.3) ? 0 : 1 + prng.integer(100) }
    case "server restore":
      return { ...common, kind, renewHistory: prng.chance(0.65) }
    case "weather":
      return { ...common, kind, percent: prng.pick([0, 0, 5, 15, 40]) ?? 0 }
    case "server back up":
    case "server prune":
    case "server power cut":
    case "server write":
    case "server wipe":
      return { ...common, kind }
    case "pause":
      return { ...common, kind, device, uploads: prng.chance(0.5), paused: prng.chance(0.6) }
    case "clock":
      return { ...common, kind, device, millis: (prng.chance(0.5) ? 1 : -1) * (1 + prng.integer(24 * hour)) }
    case "token": {
      const trouble = prng.chance(0.5) ? "expired" : "of another user"
      return { ...common, kind, device, trouble, millis: 1000 + prng.integer(120_000) }
    }
    case "spell":
      return {
        ...common,
        kind,
        what: prng.weighted(spells) ?? "no network",
        millis: prng.chance(0.2) ? prng.integer(6 * hour) : prng.integer(120_000)
      }
    default:
      return { ...common, kind, device }
  }
}

/**
 * The script of a seed.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: {
  readonly seed: number
  readonly devices: number
  readonly steps: number
  readonly weights?: StepWeights | undefined
}): ReadonlyArray<Step> => {
  const prng = Prng.make(options.seed, "script")
  const kinds = { ...weights, ...options.weights }
  return Array.from({ length: options.steps }, () => stepOf(prng, options.devices, kinds))
}

/**
 * A step in one line.
 *
 * @since 0.1.0
 * @category formatting
 */
export const describe = (step: Step): string => {
  const { kind, pause, salt, ...rest } = step
  return `+${pause} ms ${kind} ${
    Object.entries(rest).map(([name, value]) => `${name} ${String(value)}`).join(", ")
  } #${salt}`
}

/**
 * The steps of a script that have these salts, in their order: what a shortened script is printed as.
 *
 * @since 0.1.0
 * @category filtering
 */
export const only = (script: ReadonlyArray<Step>, salts: ReadonlySet<number>): ReadonlyArray<Step> =>
  script.filter(({ salt }) => salts.has(salt))
