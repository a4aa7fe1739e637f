/** What the tests of rebuilds share. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Device } from "./Devices.js"
import { checkInvariants } from "./Invariants.js"
import { contents, makeWorld } from "./World.js"
import type { DeviceOptions, World } from "./World.js"

/** A row of `users` as the server writes it. */
export const user = (id: string, name = "Ann") => ({
  table: "users",
  key: id,
  payload: { name, email: null, score: 1 }
})

/** The same row, written by a device. */
export const insert = (id: string, name = "Ann") => `INSERT INTO users VALUES ('${id}', '${name}', NULL, 1)`

/** A device that has attached to an account with two users, and does not repeat requests. */
export const ready = (options: DeviceOptions = {}) =>
  Effect.gen(function*() {
    const world = yield* makeWorld()
    yield* world.write([user("u1"), user("u2")])
    const a = yield* world.attached({ retryPolicy: { enabled: false }, ...options })
    yield* world.network.asked
    return { world, a }
  })

/** Whether the rebuild gate is closed. */
export const gate = (device: Device) =>
  Effect.map(device.sync.inspect, ({ attachment }) => attachment.rebuildRequired ? "closed" : "open")

/** The device holds what a new one gets from the server. */
export const asServer = (world: World, device: Device) =>
  Effect.gen(function*() {
    yield* checkInvariants(device)
    const fresh = yield* world.attached()
    assert.deepStrictEqual(yield* contents(device), yield* contents(fresh))
  })
