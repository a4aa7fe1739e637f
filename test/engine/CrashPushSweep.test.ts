/** Kill it at any statement, any commit, any request: after `open` it goes on (DESIGN §6, push.md §11). */
import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Exit, Stream } from "effect"
import { clientWins } from "oversqlite"
import { dirty, outboxState } from "./support/Database.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, before } from "./support/Network.js"
import type { PoweredDevice } from "./support/Power.js"
import { powerOn, powerOnAttached } from "./support/Power.js"
import type { World } from "./support/World.js"
import { contents, makeWorld, temporaryFolder } from "./support/World.js"

const options = {
  uploadLimit: 3,
  committedRowsLimit: 4,
  applyRows: 3,
  resolver: clientWins,
  retryPolicy: { enabled: false }
}

const file = "00112233445566778899aabbccddeeff"

/** What both sides hold in the end, wherever the power went. */
const expected = {
  users: [
    { id: "a", name: "Mine", email: "a@x", score: 1 },
    { id: "c", name: "Edited", email: null, score: 3 },
    { id: "d", name: "New", email: "b@x", score: 4 }
  ],
  posts: [{ id: "p", title: "Post", author_id: "a" }],
  files: [{ id: Buffer.from(file, "hex"), name: "f", data: Buffer.from("ff00", "hex") }]
}

interface Play {
  readonly world: World
  readonly device: PoweredDevice
  readonly filename: string
  readonly user: string
}

/** A conflict, a delete, an insert that takes over a unique value, a blob, and an edit while the upload is under way. */
const begin = (world: World, folder: string, user: string) =>
  Effect.gen(function*() {
    const filename = `${folder}/${user}.db`
    const device = yield* powerOnAttached(world.network, filename, { ...options, user })
    yield* device.run("INSERT INTO users VALUES ('a', 'A', 'a@x', 1), ('b', 'B', 'b@x', 2), ('c', 'C', NULL, 3)")
    yield* device.run("INSERT INTO posts VALUES ('p', 'Post', 'a')")
    yield* device.run(`INSERT INTO files VALUES (x'${file}', 'f', x'00')`)
    yield* device.sync.pushPending
    const server = yield* world.server
    yield* server.write(user, "newsroom", [{
      schema: "business",
      table: "users",
      key: "a",
      payload: { name: "Server" }
    }])
    yield* device.run("UPDATE users SET name = 'Mine' WHERE id = 'a'")
    yield* device.run("DELETE FROM users WHERE id = 'b'")
    yield* device.run("INSERT INTO users VALUES ('d', 'New', 'b@x', 4)")
    yield* device.run("UPDATE files SET data = x'ff00'")
    yield* device.run("UPDATE users SET score = 3 WHERE id = 'c'")
    yield* world.network.heal
    yield* world.network.fault("push chunk", before(device.run("UPDATE users SET name = 'Edited' WHERE id = 'c'")))
    yield* device.power.forget
    return { world, device, filename, user } satisfies Play
  })

/** Whatever has happened: a few syncs later everything is on both sides. */
const end = ({ world, user }: Play, device: PoweredDevice, what: string) =>
  Effect.gen(function*() {
    yield* world.network.heal
    yield* device.run("UPDATE users SET name = 'Edited' WHERE id = 'c' AND name <> 'Edited'")
    for (let round = 0; round < 3; round++) {
      const { status } = yield* device.sync.sync
      if (!status.pending.hasPendingSyncData) break
    }
    yield* checkInvariants(device)
    assert.deepStrictEqual(yield* dirty(device), [], what)
    assert.strictEqual(yield* outboxState(device), "none", what)
    assert.deepStrictEqual(yield* contents(device), expected, what)
    const rows = yield* Effect.flatMap(world.server, (server) => Stream.runCollect(server.rows(user)))
    assert.deepStrictEqual(
      Chunk.toReadonlyArray(rows).map(({ key, payload, table }) => `${table.table} ${key} ${JSON.parse(payload).name}`),
      [
        `files 00112233-4455-6677-8899-aabbccddeeff f`,
        "posts p undefined",
        "users a Mine",
        "users c Edited",
        "users d New"
      ],
      what
    )
    yield* device.off
  })

/** Number of statements and requests of the play when nothing happens. */
const rehearsal = Effect.gen(function*() {
  const world = yield* makeWorld()
  const folder = yield* temporaryFolder
  const play = yield* begin(world, folder, "rehearsal")
  const requests = world.network.requests.length
  const report = yield* play.device.sync.sync
  assert.strictEqual(report.pushOutcome, "committed")
  // A copy: the array goes on growing with what the device does afterwards.
  const statements = [...play.device.power.statements]
  const asked = world.network.requests.slice(requests)
  yield* end(play, play.device, "rehearsal")
  return {
    world,
    folder,
    statements: statements.length,
    commits: statements.filter((text) => text === "COMMIT").length,
    requests: asked
  }
})

const killed = (play: Play, what: string) =>
  Effect.gen(function*() {
    const exit = yield* Effect.exit(play.device.sync.sync)
    assert.isTrue(Exit.isFailure(exit), what)
    assert.isTrue(yield* play.device.power.isCut, what)
    yield* play.device.off
    yield* play.world.network.heal
    const next = yield* powerOn(play.world.network, play.filename, { ...options, user: play.user })
    yield* checkInvariants(next, { quiescent: false })
    yield* next.sync.open
    yield* checkInvariants(next)
    yield* next.sync.attach(play.user)
    yield* end(play, next, what)
  })

/** Not every statement each time: those of a transaction stand and fall together, and the certificate visits them all. */
const stride = 23

describe("a sync with a conflict", () => {
  it.scoped("goes on after a crash before any of its statements [push.md §11]", () =>
    Effect.gen(function*() {
      const { folder, statements, world } = yield* rehearsal
      assert.isAbove(statements, 100)
      for (let position = 1; position <= statements; position += stride) {
        const play = yield* begin(world, folder, `statement-${position}`)
        yield* play.device.power.cutAt("before", (_text, at) => at === position)
        yield* killed(play, `before statement ${position}`)
      }
    }))

  it.scoped("goes on after a crash after any of its commits [push.md §11]", () =>
    Effect.gen(function*() {
      const { commits, folder, world } = yield* rehearsal
      for (let position = 1; position <= commits; position++) {
        const play = yield* begin(world, folder, `commit-${position}`)
        let seen = 0
        yield* play.device.power.cutAt("after", (text) => text === "COMMIT" && ++seen === position)
        yield* killed(play, `after commit ${position}`)
      }
    }))

  it.scoped("goes on after a crash before and after any of its requests [push.md §11]", () =>
    Effect.gen(function*() {
      const { folder, requests, world } = yield* rehearsal
      const seen = new Map<string, number>()
      for (const { route } of requests) {
        const nth = (seen.get(route) ?? 0) + 1
        seen.set(route, nth)
        // The first and the last of a kind: those between are the middle of the same loop.
        if (nth > 1 && nth < requests.filter((other) => other.route === route).length) continue
        for (const [when, fault] of [["before", before], ["after", after]] as const) {
          const play = yield* begin(world, folder, `${route}-${nth}-${when}`.replaceAll(" ", "-"))
          yield* world.network.heal
          const edit = play.device.run("UPDATE users SET name = 'Edited' WHERE id = 'c'")
          let asked = 0
          yield* world.network.fault(
            route,
            (exchange, ask) =>
              ++asked === nth ? fault(Effect.zipRight(edit, play.device.power.cut))(exchange, ask) : ask,
            1000
          )
          yield* killed(play, `${when} ${route} ${nth}`)
        }
      }
    }))

  it.scoped(
    "goes on with the same client after the failure of any of its statements [errors.md rule 3]",
    () =>
      Effect.gen(function*() {
        const { folder, statements, world } = yield* rehearsal
        const error = new SqlError.SqlError({
          cause: Object.assign(new Error("disk"), { code: "SQLITE_IOERR" }),
          message: "disk"
        })
        for (let position = 3; position <= statements; position += stride) {
          const play = yield* begin(world, folder, `failure-${position}`)
          yield* play.device.power.failAt((_text, at) => at === position, error)
          const exit = yield* Effect.either(play.device.sync.sync)
          if (exit._tag === "Left") assert.deepInclude({ ...exit.left }, { _tag: "StorageError", code: "io" })
          yield* checkInvariants(play.device)
          yield* end(play, play.device, `failure of statement ${position}`)
        }
      })
  )
})
