/**
 * The crash certificate: every public operation, from representative states, is stopped at every point (before and after
 * every SQL statement and commit, and at the three edges of every request), on the device and on the server. After each
 * stop the machine starts again, the invariants are checked, and everybody is driven to rest.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { operate, restart, start } from "./Application.js"
import * as Office from "./OfficeSchema.js"
import type { OperationName } from "./Script.js"
import * as Settling from "./Settling.js"
import type { SimulatedDevice } from "./SimulatedDevice.js"
import * as Devices from "./SimulatedDevice.js"
import type { Plant, State } from "./SimulationState.js"
import * as SimulationState from "./SimulationState.js"
import * as VirtualTime from "./VirtualTime.js"

type Prepared = (world: World) => Effect.Effect<void>

interface World {
  readonly state: State
  /** The device that is stopped. */
  readonly device: SimulatedDevice
  /** Another device of the same user. */
  readonly other: SimulatedDevice
  readonly write: (device: SimulatedDevice, ...statements: ReadonlyArray<string>) => Effect.Effect<void>
  readonly run: (device: SimulatedDevice, ...operations: ReadonlyArray<OperationName>) => Effect.Effect<void>
  /** Lets an operation of the device end at its first point whose name contains a text, and starts it again. */
  readonly cutOff: (operation: OperationName, point: string) => Effect.Effect<void>
}

const rows = [
  "INSERT INTO people (id, name, code, stamp) VALUES ('a', 'Ann', 'one', '*'), ('b', 'Bob', 'two', '*')",
  "INSERT INTO teams (id, title, lead, stamp) VALUES ('t', 'Team', 'a', '*')",
  "INSERT INTO notes (id, body, owner, stamp) VALUES ('n', 'Note', 'a', '*'), ('m', 'More', 'b', '*')",
  "INSERT INTO photos (id, pixels, stamp) VALUES (unhex('00112233445566778899aabbccddeeff'), unhex('00ff'), '*')"
]

const edits = [
  "UPDATE people SET name = 'Anna', stamp = '*' WHERE id = 'a'",
  "DELETE FROM people WHERE id = 'b'",
  "INSERT INTO notes (id, body, owner, stamp) VALUES ('o', 'Other', 'a', '*')"
]

const others = [
  "UPDATE people SET name = 'Andrea', stamp = '*' WHERE id = 'a'",
  "UPDATE notes SET body = 'Else', stamp = '*' WHERE id = 'n'",
  "INSERT INTO people (id, name, stamp) VALUES ('c', 'Cy', '*')"
]

/** Both devices hold the same. */
const shared: Prepared = Effect.fnUntraced(function*({ device, other, run, write }) {
  yield* run(device, "open", "attach")
  yield* write(device, ...rows)
  yield* run(device, "sync")
  yield* run(other, "open", "attach", "sync")
})

const states: Readonly<Record<StateName, Prepared>> = {
  "new": () => Effect.void,
  "opened": ({ device, run }) => run(device, "open"),
  "local rows, opened": ({ device, run, write }) => Effect.zipRight(write(device, ...rows), run(device, "open")),
  "local rows, server in use": Effect.fnUntraced(function*({ device, other, run, write }) {
    yield* run(other, "open", "attach")
    yield* write(other, ...rows)
    yield* run(other, "sync")
    yield* run(device, "open")
    yield* write(device, ...edits)
  }),
  "seeding": ({ device, run, write }) => Effect.zipRight(write(device, ...rows), run(device, "open", "attach")),
  "clean": shared,
  "dirty": (world) => Effect.zipRight(shared(world), world.write(world.device, ...edits)),
  "behind": Effect.fnUntraced(function*(world) {
    yield* shared(world)
    yield* world.write(world.other, ...others)
    yield* world.run(world.other, "sync")
  }),
  "dirty and behind, in conflict": Effect.fnUntraced(function*(world) {
    yield* states["behind"](world)
    yield* world.write(world.device, ...edits)
  }),
  "frozen": Effect.fnUntraced(function*(world) {
    yield* states["dirty"](world)
    yield* world.cutOff("pushPending", "send POST /sync/push-sessions")
    yield* world.write(world.device, "UPDATE people SET name = 'Annabel', stamp = '*' WHERE id = 'a'")
  }),
  "committed, not replayed": Effect.fnUntraced(function*(world) {
    yield* states["dirty"](world)
    yield* world.cutOff("pushPending", "send GET /sync/committed-bundles")
  }),
  "commit not heard of": Effect.fnUntraced(function*(world) {
    yield* states["dirty"](world)
    yield* world.cutOff("pushPending", "acted POST /sync/push-sessions/*/commit")
  }),
  "rebuild interrupted, dirty": Effect.fnUntraced(function*(world) {
    yield* states["behind"](world)
    yield* world.cutOff("rebuild", "send POST /sync/snapshot-sessions")
    yield* world.write(world.device, ...edits)
  }),
  "server rolled back, dirty": Effect.fnUntraced(function*(world) {
    yield* shared(world)
    const backup = yield* world.state.server.backup
    yield* world.write(world.device, ...edits)
    yield* world.run(world.device, "sync")
    yield* world.write(world.device, "UPDATE notes SET body = 'Late', stamp = '*' WHERE id = 'n'")
    yield* world.state.server.restore(backup, false)
    world.state.historyWentBack = true
  }),
  "source recovery": Effect.fnUntraced(function*(world) {
    yield* states["server rolled back, dirty"](world)
    yield* world.run(world.device, "pushPending")
  })
}

/**
 * A representative state from which an operation is stopped.
 *
 * @since 0.1.0
 * @category models
 */
export type StateName =
  | "new"
  | "opened"
  | "local rows, opened"
  | "local rows, server in use"
  | "seeding"
  | "clean"
  | "dirty"
  | "behind"
  | "dirty and behind, in conflict"
  | "frozen"
  | "committed, not replayed"
  | "commit not heard of"
  | "rebuild interrupted, dirty"
  | "server rolled back, dirty"
  | "source recovery"

/**
 * The pairs of a full certificate.
 *
 * @since 0.1.0
 * @category models
 */
export const pairs: ReadonlyArray<readonly [operation: OperationName, state: StateName]> = [
  ["open", "new"],
  ["open", "local rows, opened"],
  ["attach", "opened"],
  ["attach", "local rows, opened"],
  ["attach", "local rows, server in use"],
  ["pushPending", "seeding"],
  ["pushPending", "dirty"],
  ["pushPending", "dirty and behind, in conflict"],
  ["pushPending", "frozen"],
  ["pushPending", "committed, not replayed"],
  ["pushPending", "commit not heard of"],
  ["pushPending", "server rolled back, dirty"],
  ["pullToStable", "behind"],
  ["sync", "dirty and behind, in conflict"],
  ["rebuild", "behind"],
  ["rebuild", "frozen"],
  ["rebuild", "rebuild interrupted, dirty"],
  ["rebuild", "source recovery"],
  ["detach", "clean"],
  ["syncThenDetach", "dirty and behind, in conflict"]
]

/**
 * What the certificate of one pair has shown.
 *
 * @since 0.1.0
 * @category models
 */
export interface Certificate {
  readonly operation: OperationName
  readonly state: StateName
  readonly machine: "device" | "server"
  /** Points at which the machine was stopped: all there are. */
  readonly points: number
  readonly violations: ReadonlyArray<string>
}

/** One run, stopped at a point; the value says whether the point was reached. */
const stopAt = Effect.fnUntraced(
  function*(
    pair: readonly [OperationName, StateName],
    machine: Certificate["machine"],
    at: number,
    folder: string,
    plant: Plant
  ) {
    const [operation, name] = pair
    const state = SimulationState.make({
      seed: 0,
      folder: fs.mkdtempSync(path.join(folder, "run-")),
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
    const reached = yield* VirtualTime.run(
      Effect.gen(function*() {
        yield* state.server.start
        const device = state.addDevice("ann")
        const other = state.addDevice("ann")
        yield* start(state, device)
        yield* start(state, other)
        const run: World["run"] = (on, ...operations) =>
          Effect.forEach(operations, (each) => operate(state, on, each), { discard: true })
        const world: World = {
          state,
          device,
          other,
          run,
          write: (on, ...statements) =>
            Effect.forEach(
              statements,
              (statement) =>
                Devices.hostWrite(state, on, "second", (execute) =>
                  execute(statement.replaceAll("'*'", () =>
                    `'${state.stamp()}'`))),
              { discard: true }
            ),
          cutOff: Effect.fnUntraced(function*(started, point) {
            state.stopWhere = point
            yield* Effect.exit(operate(state, device, started))
            state.stopWhere = undefined
            yield* restart(state, device, 0)
            yield* run(device, "open", "attach")
          })
        }
        yield* states[name](world)
        const stopping = machine === "device" ? device.machine : state.server.machine()
        stopping.stopAt = stopping.passed + at
        yield* Effect.exit(operate(state, device, operation))
        const stopped = stopping.stopped
        stopping.stopAt = undefined
        if (stopped && machine === "device") {
          yield* restart(state, device, 0)
        }
        if (stopped && machine === "server") {
          yield* Effect.zipRight(state.server.stop, state.server.start)
        }
        yield* Settling.check(state, device, `the stop at point ${at}`)
        yield* Settling.settle(state)
        return stopped
      }).pipe(
        Effect.ensuring(Effect.gen(function*() {
          for (const device of state.devices) {
            yield* Devices.powerOff(device)
          }
          yield* state.server.stop
        }))
      ),
      { seed: 0 }
    ).pipe(Logger.withMinimumLogLevel(LogLevel.None), Effect.exit)
    if (Exit.isFailure(reached)) {
      state.record.violate(Devices.told(reached))
    }
    fs.rmSync(state.folder, { recursive: true, force: true })
    return {
      reached: Exit.isSuccess(reached) && reached.value,
      violations: state.record.violations.map((line) => `point ${at}: ${line}`)
    }
  }
)

/**
 * Stops the operation at its first point, its second, and so on, each time in a new world, until a run completes
 * untouched. `every` takes only each so-many-th point (default 1: all).
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
  operation: OperationName,
  state: StateName,
  options: {
    readonly machine?: Certificate["machine"] | undefined
    readonly every?: number | undefined
    readonly plant?: Plant | undefined
  } = {}
): Effect.Effect<Certificate> => {
  const { every = 1, machine = "device", plant = {} } = options
  return Effect.acquireUseRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "oversqlite-certificate-"))),
    (folder) =>
      Effect.gen(function*() {
        const violations: Array<string> = []
        let points = 0
        for (let at = 1;; at += every) {
          const run = yield* stopAt([operation, state], machine, at, folder, plant)
          violations.push(...run.violations)
          if (!run.reached) return { operation, state, machine, points, violations }
          points++
        }
      }),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )
}
