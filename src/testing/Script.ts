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
 * One step. `pause` is the virtual time before it in ms; `salt` decides everything random in it, so that it does the same
 * when other steps are dropped.
 *
 * - `write`: the host of a device writes, through the client's connection or its own.
 * - `operate`: an operation is started and goes on beside the following steps.
 * - `crash`: the device stops after so many more points (0: now) and starts again some time later.
 * - `back up`, `roll back`: its file is copied; it goes on with the oldest or newest copy.
 * - `clone`: a new device starts on a copy of its file.
 * - `switch`: it syncs, detaches, and goes on as another user.
 * - `server …`: the same for the server; `server prune` gives up the older part of the history.
 * - `weather`: the probability of a fault per request from now on, in percent.
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
    | { readonly kind: "back up" | "roll back" | "clone" | "switch"; readonly device: number }
    | { readonly kind: "server crash"; readonly points: number }
    | { readonly kind: "server back up" }
    | { readonly kind: "server restore"; readonly renewHistory: boolean }
    | { readonly kind: "server prune" }
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
  "operate": 38,
  "crash": 6,
  "back up": 1.2,
  "roll back": 0.8,
  "clone": 0.3,
  "switch": 1,
  "server crash": 1.5,
  "server back up": 1,
  "server restore": 0.5,
  "server prune": 1,
  "weather": 3
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
  run: 4
}

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
      return { ...common, kind, renewHistory: prng.chance(0.5) }
    case "weather":
      return { ...common, kind, percent: prng.pick([0, 0, 5, 15, 40]) ?? 0 }
    case "server back up":
    case "server prune":
      return { ...common, kind }
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
