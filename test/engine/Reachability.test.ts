import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Device } from "./support/Devices.js"
import { followGuidance } from "./support/Guidance.js"
import { states } from "./support/States.js"
import type { StateName } from "./support/States.js"
import { turn } from "./support/Time.js"
import { contents, makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const sameAsServer = (world: World, device: Device) =>
  Effect.gen(function*() {
    const server = yield* world.serverRows
    const { users = [] } = yield* contents(device, ["users"])
    assert.deepStrictEqual(
      Object.fromEntries(
        users.map(({ email, id, name, score }) => [`users ${String(id)}`, { id, name, email, score }])
      ),
      Object.fromEntries([...server].filter(([key]) => key.startsWith("users ")))
    )
  })

const operations = ["attach", "pushPending", "pullToStable", "rebuild", "detach", "sync"] as const

type Operation = typeof operations[number]

const run = (device: Device, operation: Operation): Effect.Effect<unknown, unknown> =>
  operation === "attach" ? device.sync.attach("ann") : device.sync[operation]

const names = Object.keys(states) as ReadonlyArray<StateName>

describe("no state is a dead end [client-state.md invariant 34, recovery.md §7]", () => {
  for (const name of names) {
    it.scoped(`${name}: doing what the errors ask for leads to a clean state, with nothing lost`, () =>
      Effect.gen(function*() {
        yield* turn
        const world = yield* makeWorld()
        const device = yield* states[name].build(world)
        const { users: wanted = [] } = yield* contents(device, ["users"])
        yield* followGuidance(device, { reference: "reference" in states[name] })
        yield* sameAsServer(world, device)
        const { users = [] } = yield* contents(device, ["users"])
        const kept = new Set(users.map(({ id }) => id))
        assert.deepStrictEqual(wanted.filter(({ id }) => !kept.has(id)), [])
      }))
  }

  /** The operations from the `first` on, and then the ones before it. */
  const from = (first: number) =>
    operations.map((_, index) => operations[(first + index) % operations.length] ?? "sync")

  for (const restart of [false, true]) {
    it.scoped(
      `nor after all operations in any order${restart ? ", with a new client on the database" : ""}`,
      () =>
        Effect.gen(function*() {
          for (const [index, name] of names.entries()) {
            yield* turn
            const world = yield* makeWorld()
            const built = yield* states[name].build(world)
            const order = from(restart ? index + 3 : index)
            for (const operation of order) yield* Effect.exit(run(built, operation))
            const device = restart ? yield* world.replaced(built, { retryPolicy: { enabled: false } }) : built
            yield* followGuidance(device, { reference: "reference" in states[name] })
            yield* sameAsServer(world, device)
            yield* device.sync.close
          }
        }),
      60_000
    )
  }
})
