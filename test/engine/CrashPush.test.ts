/** Every line of the crash table of push.md §11: the power goes there, and a new client goes on with the same file. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import * as fs from "node:fs"
import { dirty, header, outboxState, rowState, value } from "./support/Database.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Fault, Route } from "./support/Network.js"
import { after, before, refused } from "./support/Network.js"
import type { Chosen, PoweredDevice } from "./support/Power.js"
import { powerOn, powerOnAttached } from "./support/Power.js"
import type { World } from "./support/World.js"
import { makeWorld, temporaryFolder } from "./support/World.js"

const options = { uploadLimit: 2, retryPolicy: { enabled: false } }

/** Commits of one push, in order. */
const commits = ["freeze", "record commit", "empty stage", "fill stage", "replay"] as const

type Commit = typeof commits[number]

const nth = (position: number): Chosen => {
  let seen = 0
  return (text) => text === "COMMIT" && ++seen === position
}

type Cut =
  | { readonly when: "before" | "after"; readonly commit: Commit }
  | { readonly when: "before" | "after"; readonly route: Route; readonly request: number }

interface Line {
  readonly what: string
  readonly cut: Cut
  readonly outbox: string
  readonly dirty: number
  /** Rows left in the stage. */
  readonly staged: number
  /** Requests of the next push: c(reate), k (chunk), m (commit), r(ows). */
  readonly next: string
}

const whole = "ckkmr"

/** push.md §11. Three rows are pushed: two chunks, one page. */
const table: ReadonlyArray<Line> = [
  {
    what: "freeze not committed",
    cut: { when: "before", commit: "freeze" },
    outbox: "none",
    dirty: 3,
    staged: 0,
    next: whole
  },
  {
    what: "freeze committed",
    cut: { when: "after", commit: "freeze" },
    outbox: "prepared",
    dirty: 0,
    staged: 0,
    next: whole
  },
  {
    what: "create not sent",
    cut: { when: "before", route: "push create", request: 1 },
    outbox: "prepared",
    dirty: 0,
    staged: 0,
    next: whole
  },
  {
    what: "session created",
    cut: { when: "after", route: "push create", request: 1 },
    outbox: "prepared",
    dirty: 0,
    staged: 0,
    next: whole
  },
  {
    what: "some chunks",
    cut: { when: "after", route: "push chunk", request: 1 },
    outbox: "prepared",
    dirty: 0,
    staged: 0,
    next: whole
  },
  {
    what: "all chunks",
    cut: { when: "after", route: "push chunk", request: 2 },
    outbox: "prepared",
    dirty: 0,
    staged: 0,
    next: whole
  },
  {
    what: "commit not sent",
    cut: { when: "before", route: "push commit", request: 1 },
    outbox: "prepared",
    dirty: 0,
    staged: 0,
    next: whole
  },
  {
    what: "commit accepted, answer lost",
    cut: { when: "after", route: "push commit", request: 1 },
    outbox: "prepared",
    dirty: 0,
    staged: 0,
    next: "cr"
  },
  {
    what: "commit answered, not recorded",
    cut: { when: "before", commit: "record commit" },
    outbox: "prepared",
    dirty: 0,
    staged: 0,
    next: "cr"
  },
  {
    what: "committed_remote recorded",
    cut: { when: "after", commit: "record commit" },
    outbox: "committed_remote",
    dirty: 0,
    staged: 0,
    next: "cr"
  },
  {
    what: "page not asked for",
    cut: { when: "before", route: "committed rows", request: 1 },
    outbox: "committed_remote",
    dirty: 0,
    staged: 0,
    next: "cr"
  },
  {
    what: "page not staged",
    cut: { when: "before", commit: "fill stage" },
    outbox: "committed_remote",
    dirty: 0,
    staged: 0,
    next: "cr"
  },
  {
    what: "stage filled",
    cut: { when: "after", commit: "fill stage" },
    outbox: "committed_remote",
    dirty: 0,
    staged: 3,
    next: "cr"
  },
  {
    what: "replay not committed",
    cut: { when: "before", commit: "replay" },
    outbox: "committed_remote",
    dirty: 0,
    staged: 3,
    next: "cr"
  },
  { what: "replay committed", cut: { when: "after", commit: "replay" }, outbox: "none", dirty: 0, staged: 0, next: "" }
]

const letters: Partial<Record<Route, string>> = {
  "push create": "c",
  "push chunk": "k",
  "push commit": "m",
  "push delete": "d",
  "committed rows": "r"
}

const asked = (world: World) =>
  Effect.map(world.network.asked, (routes) => routes.map((one) => letters[one] ?? "").join(""))

const arrange = (device: PoweredDevice, world: World, cut: Cut) => {
  if ("commit" in cut) return device.power.cutAt(cut.when, nth(1 + commits.indexOf(cut.commit)))
  const fault: Fault = cut.when === "before" ? before(device.power.cut) : after(device.power.cut)
  return Effect.zipRight(
    cut.request > 1 ? world.network.fault(cut.route, (_exchange, ask) => ask, cut.request - 1) : Effect.void,
    world.network.fault(cut.route, fault)
  )
}

const started = Effect.gen(function*() {
  const world = yield* makeWorld()
  const filename = `${yield* temporaryFolder}/device.db`
  const device = yield* powerOnAttached(world.network, filename, options)
  return { world, filename, device }
})

const write = (device: PoweredDevice) =>
  Effect.gen(function*() {
    yield* device.run("INSERT INTO users VALUES ('u1', 'Ann', NULL, 1)")
    yield* device.run("INSERT INTO posts VALUES ('p1', 'Hello', 'u1')")
    yield* device.run("INSERT INTO files VALUES (x'00112233445566778899aabbccddeeff', 'f', x'0102')")
  })

/** The push ends with the power; afterwards the file is opened by a client that is not attached yet. */
const died = (device: PoweredDevice, world: World, filename: string, push = device.sync.pushPending) =>
  Effect.gen(function*() {
    const exit = yield* Effect.exit(push)
    assert.isTrue(Exit.isFailure(exit) && Exit.isInterrupted(exit))
    assert.isTrue(yield* device.power.isCut)
    yield* device.off
    yield* world.network.heal
    yield* asked(world)
    const next = yield* powerOn(world.network, filename, options)
    yield* checkInvariants(next, { quiescent: false })
    return next
  })

const resumed = (next: PoweredDevice) =>
  Effect.gen(function*() {
    yield* next.sync.open
    yield* checkInvariants(next)
    const attached = yield* next.sync.attach("ann")
    assert.deepInclude(attached, { outcome: "resumed_attached_state" })
  })

const finished = (world: World, device: PoweredDevice, rows: number) =>
  Effect.gen(function*() {
    assert.strictEqual(yield* outboxState(device), "none")
    assert.deepStrictEqual(yield* dirty(device), [])
    assert.strictEqual((yield* world.serverRows).size, rows)
    yield* checkInvariants(device)
  })

describe("a crash", () => {
  for (const { cut, dirty: dirtyCount, next: requests, outbox, staged, what } of table) {
    it.scoped(`${what}: ${outbox}, then ${requests === "" ? "nothing" : requests} [push.md §11]`, () =>
      Effect.gen(function*() {
        const { device, filename, world } = yield* started
        yield* write(device)
        yield* arrange(device, world, cut)
        const next = yield* died(device, world, filename)
        assert.strictEqual(yield* outboxState(next), outbox)
        assert.lengthOf(yield* dirty(next), dirtyCount)
        assert.strictEqual(yield* value(next, "SELECT count(*) FROM _sync_push_stage"), staged)
        yield* resumed(next)
        const report = yield* next.sync.pushPending
        assert.strictEqual(report.outcome, requests === "" ? "no_change" : "committed")
        assert.strictEqual(yield* asked(world), requests)
        assert.strictEqual(report.requeuedRowCount, 0)
        const { chunksUploaded, sessionsCreated } = yield* next.sync.pushTransfer
        assert.deepStrictEqual([sessionsCreated, chunksUploaded], requests === whole ? [1, 2] : [0, 0])
        yield* finished(world, next, 3)
        yield* next.off
      }))
  }

  it.scoped("after a stage was filled from an unproven bundle begins with an empty stage [push.md §11]", () =>
    Effect.gen(function*() {
      const { device, filename, world } = yield* started
      yield* write(device)
      yield* arrange(device, world, { when: "after", route: "push commit", request: 1 })
      const second = yield* died(device, world, filename)
      yield* resumed(second)
      // Load, forget the initialization, empty the stage, fill it.
      yield* second.power.cutAt("after", nth(4))
      const third = yield* died(second, world, filename)
      assert.deepInclude(yield* header(third), { state: "prepared" })
      assert.strictEqual(yield* value(third, "SELECT count(*) FROM _sync_push_stage"), 3)
      yield* resumed(third)
      assert.strictEqual((yield* third.sync.pushPending).outcome, "committed")
      assert.strictEqual(yield* asked(world), "cr")
      yield* finished(world, third, 3)
      yield* third.off
    }))

  it.scoped("after a thaw finds dirty rows and freezes them under the same number [push.md §11]", () =>
    Effect.gen(function*() {
      const { device, filename, world } = yield* started
      yield* write(device)
      yield* world.network.fault("push chunk", refused(400, "push_chunk_invalid"))
      yield* device.power.cutAt("after", nth(2))
      const next = yield* died(device, world, filename)
      assert.strictEqual(yield* outboxState(next), "none")
      assert.lengthOf(yield* dirty(next), 3)
      yield* resumed(next)
      assert.strictEqual((yield* next.sync.pushPending).outcome, "committed")
      assert.include(
        world.network.requests.findLast(({ route }) => route === "push create")?.body,
        "\"source_bundle_id\":1"
      )
      yield* finished(world, next, 3)
      yield* next.off
    }))

  for (const when of ["before", "after"] as const) {
    it.scoped(`${when} a conflict was resolved goes on with what is durable [push.md §11]`, () =>
      Effect.gen(function*() {
        const { device, filename, world } = yield* started
        yield* write(device)
        yield* device.sync.pushPending
        yield* world.write([{ table: "users", key: "u1", payload: { name: "Server", email: null, score: 2 } }])
        yield* device.run("UPDATE users SET name = 'Mine' WHERE id = 'u1'")
        yield* device.run("UPDATE posts SET title = 'Changed'")
        // Freeze, resolve.
        yield* device.power.cutAt(when, nth(2))
        const next = yield* died(device, world, filename)
        assert.strictEqual(yield* outboxState(next), when === "before" ? "prepared" : "none")
        assert.deepStrictEqual(yield* dirty(next), when === "before" ? [] : ["UPDATE posts p1 base 1"])
        assert.deepInclude(yield* rowState(next), { "users u1": when === "before" ? "1 live" : "2 live" })
        yield* resumed(next)
        assert.strictEqual((yield* next.sync.sync).pushOutcome, "committed")
        assert.deepStrictEqual(yield* next.run("SELECT name, title FROM users JOIN posts"), [
          { name: "Server", title: "Changed" }
        ])
        yield* finished(world, next, 3)
        yield* next.off
      }))
  }

  it.scoped("after source recovery was entered finds the gate, and the outbox as it was [push.md §11]", () =>
    Effect.gen(function*() {
      const { device, filename, world } = yield* started
      yield* write(device)
      yield* world.network.fault("push commit", refused(409, "source_sequence_changed"))
      yield* device.power.cutAt("after", nth(2))
      const next = yield* died(device, world, filename)
      assert.deepInclude(yield* header(next), { state: "prepared", rowCount: 3 })
      yield* resumed(next)
      const error = yield* Effect.flip(next.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "SourceRecoveryRequired", reason: "source_sequence_changed" })
      yield* next.sync.rebuild
      assert.strictEqual((yield* next.sync.sync).pushOutcome, "committed")
      yield* finished(world, next, 3)
      yield* next.off
    }))

  it.scoped("after the scope was lost finds an anonymous database with all rows pending [push.md §11]", () =>
    Effect.gen(function*() {
      const { device, filename, world } = yield* started
      yield* write(device)
      yield* device.sync.pushPending
      yield* world.reset
      yield* device.run("UPDATE users SET name = 'Later'")
      yield* device.power.cutAt("after", nth(2))
      const next = yield* died(device, world, filename)
      yield* next.sync.open
      const error = yield* Effect.flip(next.sync.pushPending)
      assert.deepInclude({ ...error }, { _tag: "AttachRequired", reason: "anonymous" })
      assert.lengthOf(yield* dirty(next), 3)
      yield* checkInvariants(next)
      assert.deepInclude(yield* next.sync.attach("ann"), { outcome: "seeded_from_local" })
      yield* next.sync.pushPending
      yield* finished(world, next, 3)
      yield* next.off
    }))
})

describe("a power cut that takes committed transactions with it", () => {
  for (const [position, { cut, outbox, what }] of table.entries()) {
    if (!("commit" in cut) || cut.when === "before" || position === table.length - 1) continue
    it.scoped(`back to "${what}" (${outbox}) loses nothing, whatever was done since [push.md §11, client-state.md §6]`, () =>
      Effect.gen(function*() {
        const { device, filename, world } = yield* started
        yield* write(device)
        yield* arrange(device, world, cut)
        const second = yield* died(device, world, filename)
        const copy = `${filename}.earlier`
        yield* second.run("VACUUM INTO ?", [copy])
        yield* resumed(second)
        yield* second.sync.pushPending
        yield* second.run("UPDATE users SET name = 'Second'")
        yield* second.sync.pushPending
        yield* second.run("INSERT INTO users VALUES ('u2', 'Unsent', NULL, 2)")
        yield* second.off
        fs.rmSync(filename)
        fs.renameSync(copy, filename)
        const third = yield* powerOn(world.network, filename, options)
        assert.strictEqual(yield* outboxState(third), outbox)
        yield* resumed(third)
        yield* third.run("INSERT INTO users VALUES ('u3', 'Third', NULL, 3)")
        for (let round = 0; round < 3; round++) {
          yield* third.sync.sync
          yield* checkInvariants(third)
        }
        assert.deepStrictEqual(yield* third.run("SELECT id, name FROM users ORDER BY id"), [
          { id: "u1", name: "Second" },
          { id: "u3", name: "Third" }
        ])
        yield* finished(world, third, 4)
        yield* third.off
      }))
  }
})
