/**
 * Deliberate defects, and whether the simulation finds them: statements of the device or of the server that are changed
 * on their way, and answers that are not what the server said. Nothing of the library itself is touched.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as DeviceBugs from "./PlantedDeviceBugs.js"
import * as ServerBugs from "./PlantedServerBugs.js"
import * as Simulation from "./Simulation.js"
import type { Plant } from "./SimulationState.js"

/**
 * The defects by name.
 *
 * @since 0.1.0
 * @category models
 */
export const bugs: Readonly<Record<string, Plant>> = { ...DeviceBugs.bugs, ...ServerBugs.bugs }

/**
 * What happens in the runs for a defect.
 *
 * @since 0.1.0
 * @category models
 */
export type World = Pick<Simulation.SimulationOptions, "hosts" | "weights">

/** Hosts write and devices sync, with little else between: defects show in short runs. */
const busy: World = {
  weights: {
    "interrupt": 0,
    "pause": 0,
    "look": 0,
    "crash": 3,
    "power cut": 0,
    "close": 0,
    "take over": 0,
    "uninstall": 0,
    "back up": 0,
    "roll back": 0,
    "clone": 0,
    "switch": 0.5,
    "clock": 0,
    "token": 0,
    "server crash": 1,
    "server power cut": 0,
    "server back up": 0,
    "server restore": 0,
    "server write": 1,
    "server wipe": 0,
    "spell": 0
  }
}

/** A few rows that everybody writes all the time, and that belong to each other. */
const crowded: World = {
  hosts: [
    {
      name: "appear",
      weight: 2,
      act: ({ prng, run, stamp }) =>
        run(
          `INSERT INTO people (id, name, stamp) VALUES (?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, stamp = excluded.stamp`,
          [`p${prng.integer(3)}`, `name ${prng.integer(100)}`, stamp()]
        )
    },
    {
      name: "scribble",
      weight: 4,
      act: ({ prng, run, stamp }) =>
        run(
          `INSERT INTO notes (id, body, owner, stamp) VALUES (?, ?, (SELECT id FROM people WHERE id = ?), ?)
             ON CONFLICT (id) DO UPDATE SET body = excluded.body, owner = excluded.owner, stamp = excluded.stamp`,
          [`n${prng.integer(4)}`, `edited ${prng.integer(100)}`, `p${prng.integer(3)}`, stamp()]
        )
    },
    {
      name: "leave",
      weight: 1,
      act: ({ prng, run }) => run("DELETE FROM people WHERE id = ?", [`p${prng.integer(3)}`])
    }
  ],
  weights: { ...busy.weights, "crash": 0, "switch": 0, "server crash": 0, "weather": 0 }
}

/** Backups of the server, and days on which they are needed. */
const restoring: World = {
  weights: { ...busy.weights, "crash": 0, "switch": 0, "server back up": 8, "server restore": 6 }
}

/** Everything that a script can have. */
const usual: World = {}

const worlds: Readonly<Record<string, World>> = {
  "a pull does not look for local changes": crowded,
  "the server tells nobody what a cascade deletes": crowded,
  "the history of the server is not remembered": usual,
  "own bundles beyond the checkpoint are not remembered": usual,
  "what a restored server has lost is not queued again": restoring
}

/**
 * The world in which a defect is looked for: hosts write and devices sync, unless it shows only where something else
 * happens.
 *
 * @since 0.1.0
 * @category getters
 */
export const worldOf = (name: string): World => worlds[name] ?? busy

/**
 * The seed from which a defect is looked for: 1, unless it is so rare that hundreds of seeds before show nothing.
 *
 * @since 0.1.0
 * @category getters
 */
export const firstSeedOf = (name: string): number =>
  name === "own bundles beyond the checkpoint are not remembered" ? 668 : 1

/**
 * What became of a defect in one run.
 *
 * - `found`: it took effect, and something was violated that is not violated without it.
 * - `missed`: it took effect, and nothing was violated.
 * - `idle`: it never took effect, so the run says nothing about it.
 * - `unproven`: something was violated without it as well.
 *
 * @since 0.1.0
 * @category models
 */
export interface Finding {
  readonly outcome: "found" | "missed" | "idle" | "unproven"
  /** How often the defect has changed a statement or an answer. */
  readonly planted: number
  /** The first line of what was violated, blank if nothing was. */
  readonly violation: string
}

/**
 * Whether a simulation without any defect ends without a violation.
 *
 * @since 0.1.0
 * @category running
 */
export const isSound = (options: Omit<Simulation.SimulationOptions, "plant">): Effect.Effect<boolean> =>
  Effect.map(
    Simulation.run({ ...options, stopAtFirstViolation: true }),
    ({ violations }) => violations.length === 0
  )

/**
 * Runs a simulation with a defect, up to its first violation; if there is one, the same simulation without the defect.
 * `sound` tells whether that one is without violations, for those who know it already.
 *
 * @since 0.1.0
 * @category running
 */
export const find = (
  plant: Plant,
  options: Omit<Simulation.SimulationOptions, "plant">,
  sound: Effect.Effect<boolean> = isSound(options)
): Effect.Effect<Finding> =>
  Effect.gen(function*() {
    const { planted, violations } = yield* Simulation.run({ ...options, plant, stopAtFirstViolation: true })
    const violation = violations[0] ?? ""
    if (planted === 0) return { outcome: "idle", planted, violation }
    if (violation === "") return { outcome: "missed", planted, violation }
    return { outcome: (yield* sound) ? "found" : "unproven", planted, violation }
  })
