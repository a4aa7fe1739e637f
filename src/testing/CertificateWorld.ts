/**
 * The worlds of the crash certificate: a state is reached once, kept as files and notes, and gone on from at every point.
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { operate, restart, start } from "./Application.js"
import type { Prepared, World } from "./CertificateStates.js"
import { followOn } from "./Invariants.js"
import type { Notes } from "./Ledger.js"
import * as Office from "./OfficeSchema.js"
import * as Settling from "./Settling.js"
import type { SimulatedDevice } from "./SimulatedDevice.js"
import * as Devices from "./SimulatedDevice.js"
import { stampedRows } from "./SimulatedSchema.js"
import type { Plant, State } from "./SimulationState.js"
import * as SimulationState from "./SimulationState.js"

/** A state that was reached: nothing is switched on in it. @internal */
export interface Kept {
  readonly serverFile: string
  readonly devices: ReadonlyArray<{ readonly filename: string; readonly user: string }>
  /** The file of a device that was opened and used for nothing. */
  readonly newFile: string
  /** Remembers how far the stopped device had come. */
  readonly seen: SqlClient.SqlClient | undefined
  readonly notes: Notes
  readonly stamps: number
  readonly millis: number
  readonly historyWentBack: boolean
  /** What was violated on the way. */
  readonly violations: ReadonlyArray<string>
}

/** A world that goes on from a kept state. @internal */
export interface Living extends World {
  /** Gives a copy of the file that is used for nothing. */
  readonly newFile: () => string
  /** Connections of their own to the files of device and server, which stay open while those are off. */
  readonly readers: { readonly device: SqlClient.SqlClient; readonly server: SqlClient.SqlClient }
  readonly scope: Scope.CloseableScope
}

/** Every third seed gives the same resolvers to the same devices. */
const seeds = { before: 0, after: 3 }

const makeState = (folder: string, seed: number, plant: Plant): State => {
  const state = SimulationState.make({
    seed,
    folder,
    schema: Office.schema,
    hosts: Office.hosts,
    repair: Office.repair,
    resolver: undefined,
    client: { uploadLimit: 3, downloadLimit: 2, committedRowsLimit: 3, snapshotChunkRows: 4, applyRows: 4 },
    serverOptions: {},
    plant,
    keepLines: false
  })
  state.weather = 0
  return state
}

const worldOf = (state: State, device: SimulatedDevice, other: SimulatedDevice): World => {
  const run: World["run"] = (on, ...operations) =>
    Effect.forEach(operations, (each) => operate(state, on, each), { discard: true })
  return {
    state,
    device,
    other,
    run,
    write: (on, ...statements) =>
      Effect.forEach(statements, (statement) =>
        Effect.map(
          Devices.hostWrite(state, on, "second", (execute) =>
            execute(statement.replaceAll("'*'", () => `'${state.stamp()}'`))),
          (acknowledged) => {
            if (!acknowledged) {
              state.record.violate(`a write that belongs to the state was refused: ${statement}`)
            }
          }
        ), { discard: true }),
    cutOff: Effect.fnUntraced(function*(started, point) {
      state.stopWhere = point
      yield* Effect.exit(operate(state, device, started))
      if (state.stopWhere !== undefined) state.record.violate(`${started} has no point ${point}`)
      state.stopWhere = undefined
      yield* restart(state, device, 0)
      yield* run(device, "open", "attach")
    })
  }
}

const switchOff = Effect.fnUntraced(function*(state: State) {
  for (const device of state.devices) yield* Devices.powerOff(device)
  yield* state.server.stop
})

/** Reaches a state and switches everything off. @internal */
export const prepare = ({ prepare }: Prepared, folder: string, plant: Plant): Effect.Effect<Kept> => {
  const state = makeState(folder, seeds.before, plant)
  return Effect.gen(function*() {
    const began = yield* Clock.currentTimeMillis
    // Nothing else has asked for a file yet: this is the server's.
    const serverFile = () => state.server.file()
    yield* state.server.start
    const device = state.addDevice("ann")
    const other = state.addDevice("ann")
    yield* start(state, device)
    yield* start(state, other)
    yield* prepare(worldOf(state, device, other))
    yield* Settling.check(state, device, "the preparation")
    const seen = device.running?.second
    const unused = state.addDevice("ann")
    yield* start(state, unused)
    yield* operate(state, unused, "open")
    yield* switchOff(state)
    const millis = (yield* Clock.currentTimeMillis) - began
    return {
      serverFile: serverFile(),
      devices: state.devices.filter((each) => each !== unused).map(({ filename, user }) => ({ filename, user })),
      newFile: unused.filename,
      seen,
      notes: state.ledger.notes(),
      stamps: Number(state.stamp().slice(1)),
      millis,
      historyWentBack: state.historyWentBack,
      violations: state.record.violations
    }
  }).pipe(Effect.ensuring(switchOff(state)))
}

/** A database in which only the host has written. */
const fill = Effect.fnUntraced(
  function*(state: State, device: SimulatedDevice, statements: ReadonlyArray<string>) {
    const sql = yield* Effect.flatMap(Effect.scope, (scope) => Devices.open(device.filename, scope))
    for (const statement of [...state.schema.ddl, ...statements]) {
      yield* sql.unsafe(statement.replaceAll("'*'", () => `'${state.stamp()}'`))
    }
    const after = yield* stampedRows(sql, state.schema)
    state.ledger.wrote(device.name, { user: undefined, before: new Map(), after, known: new Set() })
  },
  Effect.scoped,
  Effect.orDie
)

/** Goes on from a kept state: server and devices are switched on, and the stopped device has its session. @internal */
export const goOn = Effect.fnUntraced(function*(
  kept: Kept,
  { session, then, untouched }: Prepared,
  folder: string,
  plant: Plant
): Effect.fn.Return<Living> {
  const state = makeState(folder, seeds.after, plant)
  const copy = (from: string) => {
    const to = state.file()
    fs.copyFileSync(from, to)
    return to
  }
  fs.copyFileSync(kept.serverFile, state.server.file())
  state.ledger.adopt(kept.notes)
  for (let stamp = 0; stamp < kept.stamps; stamp++) state.stamp()
  state.historyWentBack = kept.historyWentBack
  yield* Effect.sleep(kept.millis)
  yield* state.server.start
  for (const [index, { filename, user }] of kept.devices.entries()) {
    state.addDevice(user, index === 0 && untouched !== undefined ? state.file() : copy(filename))
  }
  const [device, other] = state.devices
  if (device === undefined || other === undefined) return yield* Effect.dieMessage("a world has two devices")
  const world = worldOf(state, device, other)
  if (untouched === undefined) {
    yield* start(state, device)
    resume(kept, device)
  } else yield* fill(state, device, untouched)
  yield* world.run(device, ...session)
  if (then !== undefined) yield* then(world)
  const scope = yield* Scope.make()
  const open = (filename: string) => Effect.orDie(Devices.open(filename, scope))
  const readers = { device: yield* open(device.filename), server: yield* open(state.server.file()) }
  return { ...world, readers, scope, newFile: () => copy(kept.newFile) }
})

/** The device was started again: checks compare with what was seen of it in the kept state. @internal */
export const resume = (kept: Kept, device: SimulatedDevice): void => {
  if (kept.seen !== undefined && device.running !== undefined) followOn(kept.seen, device.running.second)
}

/** Switches a world off. @internal */
export const end = (world: Living): Effect.Effect<void> =>
  Effect.zipRight(Scope.close(world.scope, Exit.void), switchOff(world.state))

const quoted = (name: string) => `"${name.replaceAll("\"", "\"\"")}"`

/** Not as a statement of the client: that would belong to the transaction which is looked at. */
const rowsOf = <A extends object>(sql: SqlClient.SqlClient, text: string): Effect.Effect<ReadonlyArray<A>> =>
  Effect.orDie(Effect.scoped(Effect.flatMap(sql.reserve, (connection) => connection.execute(text, [], undefined))))

/** Reads of everything, by the schema. */
const readings = new Map<string, string>()

/** Every table and trigger, and every value but moments, of which only those that lie far apart make a difference. */
const everything = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const [schema] = yield* rowsOf<{ readonly text: string }>(
    sql,
    "SELECT group_concat(coalesce(sql, name), ';' ORDER BY name) AS text FROM sqlite_schema"
  )
  const text = schema?.text ?? ""
  let reading = readings.get(text)
  if (reading === undefined) {
    const columns = yield* rowsOf<{ readonly name: string; readonly columns: string }>(
      sql,
      `SELECT m.name, json_group_array(c.name) AS columns FROM sqlite_schema AS m, pragma_table_info(m.name) AS c
        WHERE m.type = 'table' GROUP BY m.name ORDER BY m.name`
    )
    reading = columns.map(({ columns, name }) => {
      const names: ReadonlyArray<string> = JSON.parse(columns)
      const values = names.map((column) =>
        column.endsWith("_at")
          ? `CASE typeof(${quoted(column)}) WHEN 'integer' THEN ${quoted(column)} / 600000 ELSE '' END`
          : `quote(${quoted(column)})`
      )
      return `SELECT '${name}:' || concat_ws(',', ${values.join(", ")}) AS line FROM ${quoted(name)}`
    }).join(" UNION ALL ")
    readings.set(text, reading)
  }
  const lines = yield* rowsOf<{ readonly line: string }>(sql, reading)
  return createHash("sha1").update(text).update(lines.map(({ line }) => line).join("\n")).digest("hex")
})

/** What is in a database, read again only if another connection has committed something. */
const watched = () => {
  let seen: { readonly sql: SqlClient.SqlClient; readonly version: number; readonly content: string } | undefined
  return (sql: SqlClient.SqlClient) =>
    Effect.gen(function*() {
      const [row] = yield* rowsOf<{ readonly data_version: number }>(sql, "PRAGMA data_version")
      const version = row?.data_version ?? 0
      if (seen === undefined || seen.sql !== sql || seen.version !== version) {
        seen = { sql, version, content: yield* everything(sql) }
      }
      return seen.content
    })
}

/**
 * Names what the future depends on if the device stops now, again and again: what is committed in its database and in the
 * server's, and what is owed to hosts. @internal
 */
export const durableState = ({ readers, state }: Living): Effect.Effect<string> => {
  const onDevice = watched()
  const onServer = watched()
  return Effect.gen(function*() {
    const { next, writes } = state.ledger.notes()
    return createHash("sha1")
      .update(yield* onDevice(readers.device))
      .update(yield* onServer(readers.server))
      .update(JSON.stringify([writes, next]))
      .digest("hex")
  })
}

/** A folder for one world. @internal */
export const folderIn = (folder: string): string => fs.mkdtempSync(path.join(folder, "world-"))
