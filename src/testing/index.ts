/**
 * Tools for proving that data survives: faults for any `HttpClient`, machines that stop anywhere, virtual time, and the
 * simulation of the whole system.
 *
 * @since 0.1.0
 */
export * as Certificate from "./Certificate.js"
export * as CrashPoints from "./CrashPoints.js"
export * as Faults from "./Faults.js"
export * as Invariants from "./Invariants.js"
export * as Ledger from "./Ledger.js"
export * as OfficeSchema from "./OfficeSchema.js"
export * as PlantedBugs from "./PlantedBugs.js"
export * as Prng from "./Prng.js"
export * as Script from "./Script.js"
export type { Host, HostAction, Repair, SimulatedSchema, SimulatedTable } from "./SimulatedSchema.js"
export * as Simulation from "./Simulation.js"
export type { Plant } from "./SimulationState.js"
export * as VirtualTime from "./VirtualTime.js"
