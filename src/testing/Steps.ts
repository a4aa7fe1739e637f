/**
 * Carries out the steps of a script.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { begin, restart } from "./Application.js"
import * as DeviceSteps from "./DeviceSteps.js"
import * as Prng from "./Prng.js"
import type { Step } from "./Script.js"
import { pruneHistory, serverGoesBack, users } from "./ServerSteps.js"
import * as Devices from "./SimulatedDevice.js"
import type { State } from "./SimulationState.js"

const backendWrites = Effect.fnUntraced(function*(state: State, prng: Prng.Prng) {
  const user = prng.chance(0.8) ? users[0] : users[1]
  const before = yield* state.server.rows(user)
  const stamp = state.stamp()
  const tried = yield* state.server.write(user, prng, stamp)
  if (tried === undefined) return
  state.record.note(`the backend writes ${tried.row}: ${tried.outcome}`)
  if (tried.outcome === "refused") return
  state.record.count("server write")
  if (tried.outcome === "unknown") return state.ledger.tried({ ...tried, stamp, user })
  const after = yield* state.server.rows(user)
  state.ledger.wrote("the backend", { user, before, after, known: new Set(before.keys()) })
})

const crashServer = Effect.fnUntraced(function*(state: State, points: number, prng: Prng.Prng) {
  if (!state.server.isUp()) return
  if (points > 0) {
    const machine = state.server.machine()
    machine.stopAt = machine.passed + points
  }
  state.record.count("server crash")
  yield* Effect.fork(Effect.gen(function*() {
    if (points === 0) yield* state.server.stop
    yield* Effect.sleep(`${1000 + prng.integer(30_000)} millis`)
    if (state.server.machine().stopped) yield* Effect.zipRight(state.server.stop, state.server.start)
  }))
})

const cutServerPower = Effect.fnUntraced(function*(state: State, prng: Prng.Prng) {
  if (!state.server.isUp()) return
  const lost = yield* state.server.cutPower(prng)
  state.record.count("server power cut")
  if (lost > 0) state.record.count("server power cut that lost drafts")
  state.record.note(`the server loses its power and ${lost} commits that were not flushed`)
  yield* Effect.fork(Effect.delay(state.server.start, `${1000 + prng.integer(30_000)} millis`))
})

const prune = Effect.fnUntraced(function*(state: State, prng: Prng.Prng) {
  const service = yield* state.server.service
  if (service === undefined) return
  state.record.count("history pruned")
  for (const user of users) yield* pruneHistory(state, service, user, prng)
})

const backUpServer = (state: State) => Effect.map(state.server.backup, (copy) => void state.serverBackups.push(copy))

/** Carries out one step; what takes time goes on beside the following ones. @internal */
export const perform = (state: State, step: Step, acknowledged: Map<string, number>): Effect.Effect<void> => {
  const prng = Prng.make(step.salt)
  const device = "device" in step ? state.devices[step.device % state.devices.length] : undefined
  switch (step.kind) {
    case "server crash":
      return crashServer(state, step.points, prng)
    case "server power cut":
      return cutServerPower(state, prng)
    case "server back up":
      return backUpServer(state)
    case "server restore": {
      const backup = prng.pick(state.serverBackups)
      // The first time there is nothing to go back to: that is for the next time.
      if (backup === undefined) return backUpServer(state)
      state.record.count(step.renewHistory ? "server restored, new history" : "server restored")
      return serverGoesBack(state, state.server.restore(backup, step.renewHistory))
    }
    case "server wipe":
      state.record.count("server wiped")
      return serverGoesBack(state, state.server.wipe)
    case "server prune":
      return prune(state, prng)
    case "server write":
      return backendWrites(state, prng)
    case "weather":
      return Effect.sync(() => {
        state.weather = step.percent
      })
    case "spell": {
      const spell = { what: step.what, retryAfter: 1 + prng.integer(60) }
      state.spell = spell
      state.record.count("spell")
      return Effect.asVoid(Effect.fork(Effect.delay(
        Effect.sync(() => {
          if (state.spell === spell) state.spell = undefined
        }),
        `${step.millis} millis`
      )))
    }
  }
  if (device === undefined) return Effect.void
  switch (step.kind) {
    case "write":
      return DeviceSteps.write(state, device, step.connection, prng, acknowledged)
    case "operate":
      return device.running === undefined ? Effect.void : begin(state, device, step.operation)
    case "interrupt":
      return DeviceSteps.interrupt(state, device, prng)
    case "pause":
      return DeviceSteps.pause(state, device, step.uploads, step.paused)
    case "look":
      return DeviceSteps.look(state, device, prng)
    case "crash":
      if (device.running === undefined) return Effect.void
      if (step.points > 0) {
        device.machine.stopAt = device.machine.passed + step.points
        return Effect.void
      }
      state.record.count("crash")
      return Effect.asVoid(Effect.fork(restart(state, device, prng.integer(60_000))))
    case "power cut":
      return DeviceSteps.powerCut(state, device, prng)
    case "close":
      return DeviceSteps.close(state, device, prng)
    case "take over":
      return DeviceSteps.takeOver(state, device, prng)
    case "uninstall":
      return DeviceSteps.uninstall(state, device)
    case "back up":
      return DeviceSteps.backUp(state, device)
    case "roll back":
      return DeviceSteps.rollBack(state, device, prng)
    case "clone":
      return DeviceSteps.clone(state, device)
    case "switch":
      return device.running === undefined ? Effect.void : DeviceSteps.switchUser(state, device, prng)
    case "clock":
      return Effect.sync(() => {
        state.record.count("clock jumped")
        device.clockJump += step.millis
      })
    case "token":
      return DeviceSteps.troubleToken(state, device, step.trouble, step.millis)
  }
}

/** Ends whatever would otherwise go on for ever: spells, bad tokens, pauses, bad weather. @internal */
export const heal = (state: State): Effect.Effect<void> =>
  Effect.suspend(() => {
    state.weather = 0
    state.spell = undefined
    return Effect.forEach(state.devices, (device) => {
      device.token = "valid"
      if (device.running === undefined) return Effect.void
      const { resumeDownloads, resumeUploads } = device.running.sync
      return Effect.zipRight(Effect.zipRight(resumeUploads, resumeDownloads), Devices.followFile(device))
    }, { discard: true })
  })
