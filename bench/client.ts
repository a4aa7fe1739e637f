/**
 * What a row costs the client, beside what it costs to insert it with better-sqlite3 alone: the median of some rounds,
 * each with databases of its own on disk, and a server in another process. `--rows` and `--rounds` change its size.
 */
import { FileSystem, Path } from "@effect/platform"
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import type Database from "better-sqlite3"
import { Duration, Effect, Redacted } from "effect"
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { openDatabase, startClient, user } from "../scratchpad/Parts.js"
import type { Server } from "../scratchpad/Parts.js"
import { table } from "../scratchpad/Report.js"
import { cityRows, createTables, insertCity, insertCountries } from "../scratchpad/World.js"
import type { CityRow } from "../scratchpad/World.js"

const { values } = parseArgs({
  options: { rows: { type: "string", default: "10000" }, rounds: { type: "string", default: "3" } }
})
const rows = Math.max(100, Number(values.rows))
const rounds = Math.max(1, Number(values.rounds))

/** How often the short syncs are repeated within a round. */
const repetitions = 50

interface Cost {
  /** Time on the clock and time on the processor of the client's process, in ms. */
  readonly wall: number
  readonly processor: number
}

/** In the order of the table at the end. */
const measures = {
  plain: "plain insert, no client",
  captureFirst: "captured insert, nothing pending",
  captureLast: `captured insert, ${rows / 2} rows pending`,
  push: "push of inserts",
  snapshot: "attach by snapshot",
  pushUpdates: "push of updates",
  pull: "pull",
  noChange: "sync with nothing to do",
  oneRowUp: "sync of one row, sent",
  oneRowDown: "sync of one row, received"
} as const

type Measure = keyof typeof measures

type Results = Readonly<Record<Measure, Cost>>

const measured = <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<Cost, E, R> =>
  Effect.gen(function*() {
    const before = process.cpuUsage()
    const [duration] = yield* Effect.timed(work)
    const { system, user } = process.cpuUsage(before)
    return { wall: Duration.toMillis(duration), processor: (user + system) / 1000 }
  })

/** Leaves the garbage of the step before to that step. A full collection makes what follows cold: only before long steps. */
const measuredAlone = <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<Cost, E, R> =>
  Effect.zipRight(Effect.sync(() => globalThis.gc?.()), measured(work))

const startServerProcess = (filename: string) =>
  Effect.acquireRelease(
    Effect.sync(() => fork(fileURLToPath(new URL("server.ts", import.meta.url)), [filename])),
    (child) => Effect.sync(() => child.kill())
  ).pipe(
    Effect.flatMap((child) =>
      Effect.async<Pick<Server, "baseUrl" | "token">>((resume) => {
        child.once(
          "message",
          (message: { readonly baseUrl: string; readonly token: string }) =>
            resume(Effect.succeed({ baseUrl: message.baseUrl, token: Redacted.make(message.token) }))
        )
        child.once("exit", (code) => resume(Effect.dieMessage(`the server ended with ${code}`)))
      })
    )
  )

const insert = (database: Database.Database, cities: ReadonlyArray<CityRow>) =>
  Effect.sync(() => {
    const statement = database.prepare(insertCity)
    database.transaction(() => {
      for (const city of cities) statement.run(...city)
    })()
  })

/** A new database with the tables, the continents and the countries. */
const prepared = (filename: string) =>
  Effect.gen(function*() {
    const database = yield* openDatabase(filename)
    createTables(database)
    yield* Effect.promise(() => insertCountries(database))
    return database
  })

const round = (cities: ReadonlyArray<CityRow>) =>
  Effect.gen(function*() {
    const files = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folder = yield* files.makeTempDirectoryScoped({ prefix: "oversqlite-bench-" })
    const file = (name: string) => path.join(folder, `${name}.db`)
    const server = yield* startServerProcess(file("server"))
    const half = Math.floor(cities.length / 2)
    const first = cities.slice(0, half)
    const last = cities.slice(half)

    const plainDatabase = yield* prepared(file("plain"))
    const plain = yield* measuredAlone(insert(plainDatabase, cities))

    const databaseA = yield* prepared(file("a"))
    const a = yield* startClient(file("a"), server)
    yield* a.open
    const captureFirst = yield* measuredAlone(insert(databaseA, first))
    const captureLast = yield* measuredAlone(insert(databaseA, last))
    yield* a.attach(user)
    const push = yield* measuredAlone(a.pushPending)

    const databaseB = yield* openDatabase(file("b"))
    createTables(databaseB)
    const b = yield* startClient(file("b"), server)
    yield* b.open
    const snapshot = yield* measuredAlone(b.attach(user))

    databaseA.exec("UPDATE cities SET population = population + 1")
    const pushUpdates = yield* measuredAlone(a.pushPending)
    const pull = yield* measuredAlone(b.pullToStable)

    // Applications sync all day: what counts is the sync that is warm.
    yield* Effect.replicateEffect(Effect.zip(a.sync, b.sync), repetitions, { discard: true })
    const noChange = yield* measured(Effect.replicateEffect(a.sync, repetitions, { discard: true }))
    const one = databaseA.prepare("UPDATE cities SET population = population + 1 WHERE id = ?")
    const costs: Array<readonly [Cost, Cost]> = []
    for (const [id] of [...cities.slice(0, repetitions), ...cities.slice(0, repetitions)]) {
      one.run(id)
      costs.push([yield* measured(a.sync), yield* measured(b.sync)])
    }
    costs.splice(0, repetitions)
    const sum = (index: 0 | 1): Cost => ({
      wall: costs.reduce((total, cost) => total + cost[index].wall, 0),
      processor: costs.reduce((total, cost) => total + cost[index].processor, 0)
    })
    return {
      plain,
      captureFirst,
      captureLast,
      push,
      snapshot,
      pushUpdates,
      pull,
      noChange,
      oneRowUp: sum(0),
      oneRowDown: sum(1)
    } satisfies Results
  }).pipe(Effect.scoped)

const median = (numbers: ReadonlyArray<number>): number =>
  [...numbers].sort((left, right) => left - right)[Math.floor(numbers.length / 2)] ?? 0

/** How many rows, or how many syncs, a cost is divided by. */
const divisors: Readonly<Record<Measure, number>> = {
  plain: rows,
  captureFirst: Math.floor(rows / 2),
  captureLast: rows - Math.floor(rows / 2),
  push: rows,
  snapshot: rows,
  pushUpdates: rows,
  pull: rows,
  noChange: repetitions,
  oneRowUp: repetitions,
  oneRowDown: repetitions
}

const perSync: ReadonlyArray<Measure> = ["noChange", "oneRowUp", "oneRowDown"]

const isMeasure = (name: string): name is Measure => name in measures

const bench = Effect.gen(function*() {
  const all = yield* Effect.promise(() => cityRows(rows))
  const cities = all.slice(0, rows)
  const results: Array<Results> = []
  for (let number = 1; number <= rounds; number++) {
    console.log(`round ${number} of ${rounds}`)
    results.push(yield* round(cities))
  }
  const cost = (measure: Measure, part: keyof Cost) =>
    median(results.map((result) => result[measure][part])) * 1000 / divisors[measure]
  const plain = cost("plain", "wall")
  const lines = Object.keys(measures).filter(isMeasure).map((measure) => {
    const wall = cost(measure, "wall")
    return perSync.includes(measure)
      ? [
        measures[measure],
        `${(wall / 1000).toFixed(2)} ms`,
        `${(cost(measure, "processor") / 1000).toFixed(2)} ms`,
        ""
      ]
      : [
        measures[measure],
        `${wall.toFixed(1)} µs`,
        `${cost(measure, "processor").toFixed(1)} µs`,
        (wall / plain).toFixed(1)
      ]
  })
  console.log(`\n${cities.length} rows, median of ${rounds} rounds; a row each, syncs each`)
  console.log(table([["", "time", "client's processor", "× plain insert"], ...lines]))
})

bench.pipe(Effect.provide(NodeContext.layer), NodeRuntime.runMain)
