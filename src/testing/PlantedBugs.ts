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
