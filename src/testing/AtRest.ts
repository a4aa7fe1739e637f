/**
 * What must hold between devices and the server when everybody is at rest, beside equal rows: it is the bookkeeping that
 * keeps them equal.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { SimulatedDevice } from "./SimulatedDevice.js"
import type { State } from "./SimulationState.js"

/** What takes numbers or versions away from under a device, or makes another one use them. */
const upheavals = [
  "device rolled back",
  "device cloned",
  "power cut that lost commits",
  "uninstalled",
  "server wiped",
  "server restored",
  "server restored, new history",
  "history pruned"
]

interface Row {
  readonly table_name: string
  readonly key_json: string
  readonly row_version: number
}

const nameOf = ({ key_json, table_name }: Row): string => {
  const fields: Readonly<Record<string, unknown>> = JSON.parse(key_json)
  return `${table_name} ${String(Object.values(fields)[0])}`
}

/** A device knows every row of the server under the server's version, and has come as far as the server (pull.md §4). */
const knowsTheServer = Effect.fnUntraced(function*(state: State, device: SimulatedDevice) {
  const { running } = device
  if (running === undefined) return
  const { latest, versions } = yield* state.server.known(device.user)
  const [at] = yield* running.second.unsafe<{ readonly seq: number }>(
    "SELECT last_bundle_seq_seen AS seq FROM _sync_attachment_state"
  )
  if (at?.seq !== latest) {
    state.record.violate(`${device.name} has seen the bundles up to ${at?.seq ?? "?"}, the server has ${latest}`)
  }
  const rows = yield* running.second.unsafe<Row>(
    "SELECT table_name, key_json, row_version FROM _sync_row_state WHERE deleted = 0"
  )
  for (const row of rows) {
    const name = nameOf(row)
    const version = versions.get(name)
    if (version === row.row_version) continue
    state.record.violate(
      `${device.name} takes ${name} for version ${row.row_version}, the server has ${version ?? "no row"}`
    )
  }
}, Effect.orDie)

/** Only an upheaval costs a device its source (recovery.md §1). */
const keepsItsSource = Effect.fnUntraced(function*(state: State, device: SimulatedDevice) {
  if (device.running === undefined) return
  const given = yield* device.running.second.unsafe<{ readonly id: string }>(
    "SELECT source_id AS id FROM _sync_source_state WHERE replaced_by_source_id <> ''"
  )
  for (const { id } of given) state.record.violate(`${device.name} gave up its source ${id} for no reason`)
}, Effect.orDie)

/**
 * A write that was made on top of the server's row is in no conflict with it. Delete actions of the server give a row a new
 * version under its old stamp: tables with such columns are left out.
 */
const conflictsAreReal = (state: State) =>
  Effect.sync(() => {
    const acted = new Set(
      state.schema.declarations.filter(({ references = [] }) =>
        references.some(({ onDelete }) => onDelete === "set null")
      ).map(({ table }) => table)
    )
    for (const { earlier, later, row } of state.ledger.needless()) {
      if (acted.has(row.slice(0, row.indexOf(" ")))) continue
      state.record.violate(`${later} (${row}) was in conflict with ${earlier}, on top of which it was written`)
    }
  })

/** Looks at all devices. Everybody must be at rest. @internal */
export const check = (state: State): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (const device of state.devices) yield* knowsTheServer(state, device)
    if (upheavals.some((upheaval) => state.record.faults.has(upheaval))) return
    for (const device of state.devices) yield* keepsItsSource(state, device)
    yield* conflictsAreReal(state)
  })
