/**
 * The main job: two devices and a server exchange the countries and cities of the world, edit them offline, and end up
 * with the same rows. `--size small` takes some 2 000 cities instead of all. Exit code 1 if anything differs.
 */
import { FileSystem, Path } from "@effect/platform"
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import type Database from "better-sqlite3"
import { Data, Effect, Equal } from "effect"
import { parseArgs } from "node:util"
import type { SyncClient, SyncReport } from "oversqlite"
import { digest, explain, readDevice, readServer } from "./Digest.js"
import type { Digest } from "./Digest.js"
import { openDatabase, startClient, startServer, user } from "./Parts.js"
import * as Reports from "./Report.js"
import { cityRows, createTables, insertCity, insertCountries } from "./World.js"
import type { CityRow } from "./World.js"

const sizes: Readonly<Record<string, number | undefined>> = { full: undefined, small: 2000 }

/** Rows of one transaction of the application. */
const batch = 10_000

/** What each device does while it is offline. No row is touched by both. */
const edits = {
  A: [
    "UPDATE cities SET population = population + 1 WHERE id % 100 = 1 AND country <> 'MC'",
    "DELETE FROM cities WHERE id % 1000 = 502 AND country <> 'MC'",
    `INSERT INTO cities SELECT 'a-' || code, 'New ' || capital, code, 'PPL', 0, 0.5, -0.25 FROM countries
       WHERE capital IS NOT NULL AND code <> 'MC'`,
    "UPDATE countries SET native = upper(native) WHERE continent = 'OC'"
  ],
  B: [
    "UPDATE cities SET name = name || ' ✓', latitude = round(latitude, 2) WHERE id % 100 = 3 AND country <> 'MC'",
    "DELETE FROM cities WHERE id % 1000 = 504 AND country <> 'MC'",
    // Takes its cities with it.
    "DELETE FROM countries WHERE code = 'MC'",
    "UPDATE countries SET capital = NULL WHERE continent = 'AN'"
  ]
}

/** Loads cities through the application's own connection: the client's triggers capture them all the same. */
const loadCities = (report: Reports.Report, database: Database.Database, rows: Array<CityRow>) =>
  Effect.gen(function*() {
    const insert = database.prepare(insertCity)
    const insertAll = database.transaction((some: ReadonlyArray<CityRow>) => {
      for (const row of some) insert.run(...row)
    })
    while (rows.length > 0) {
      yield* Effect.sync(() => insertAll(rows.splice(0, batch)))
      yield* report.advance(`device A: ${rows.length} cities to load`)
      yield* Effect.sleep(0)
    }
  })

const edit = (database: Database.Database, statements: ReadonlyArray<string>) =>
  Effect.sync(database.transaction(() => {
    for (const statement of statements) database.exec(statement)
  }))

type Client = SyncClient["Type"]

const isQuiet = ({ pushOutcome, remoteOutcome, status }: SyncReport): boolean =>
  pushOutcome === "no_change" && remoteOutcome === "already_at_target" && !status.pending.hasPendingSyncData

/** Syncs both in turn until neither has anything to send or to receive; the value is the number of rounds. */
const syncUntilQuiet = (a: Client, b: Client) =>
  Effect.gen(function*() {
    for (let round = 1; round <= 10; round++) {
      const reports = [yield* a.sync, yield* b.sync]
      if (reports.every(isQuiet)) return round
    }
    return yield* Effect.dieMessage("the devices are not quiet after ten rounds")
  })

const attach = (client: Client, outcome: "seeded_from_local" | "used_remote_state") =>
  Effect.flatMap(client.attach(user), (attached) =>
    attached.status === "connected" && attached.outcome === outcome
      ? Effect.succeed(attached)
      : Effect.dieMessage(`attach was to end as ${outcome}, and ended as ${JSON.stringify(attached)}`))

const job = (size: number | undefined) =>
  Effect.gen(function*() {
    const report = Reports.make()
    const path = yield* Path.Path
    const folder = yield* Effect.flatMap(FileSystem.FileSystem, (files) =>
      files.makeTempDirectoryScoped({ prefix: "oversqlite-" }))
    const file = (name: string) =>
      path.join(folder, `${name}.db`)
    const server = yield* startServer(file("server"))
    const connectA = yield* openDatabase(file("a"))
    const connectB = yield* openDatabase(file("b"))
    createTables(connectA)
    createTables(connectB)

    const early = yield* report.step(
      "A loads continents and countries",
      Effect.promise(() => insertCountries(connectA)),
      (rows) => rows
    )
    const a = yield* startClient(file("a"), server)
    const b = yield* startClient(file("b"), server)
    yield* report.follow("device A", a.progress)
    yield* report.follow("device B", b.progress)
    const cities = yield* Effect.promise(() => cityRows(size))
    const total = early + cities.length
    yield* report.step(
      "A loads cities, captured by triggers",
      loadCities(report, connectA, cities),
      cities.length
    )
    yield* report.step("A opens, captures what was there before", a.open, total)
    yield* report.step("A attaches", attach(a, "seeded_from_local"), 0)
    yield* report.step("A pushes its seed", a.pushPending, total)

    yield* b.open
    yield* report.step(
      "B attaches by snapshot",
      attach(b, "used_remote_state"),
      (attached) => attached.outcome === "used_remote_state" ? attached.restore.rowCount : 0
    )

    yield* Effect.all([edit(connectA, edits.A), edit(connectB, edits.B)])
    const pending = yield* Effect.all([a.pendingSyncStatus, b.pendingSyncStatus])
    const edited = pending.reduce((sum, { pendingRowCount }) => sum + pendingRowCount, 0)
    yield* report.step("A and B sync what they did offline", syncUntilQuiet(a, b), edited)
    yield* report.step("A syncs with nothing to do", a.sync, 0)

    const parties = { A: readDevice(connectA), B: readDevice(connectB), server: readServer(server) }
    const [digestA, digestB, digestServer] = yield* report.step(
      "all rows of A, B and the server compared",
      Effect.all([digest(parties.A), digest(parties.B), digest(parties.server)]),
      (digests) => digests.reduce((sum, { rows }) => sum + rows, 0)
    )
    yield* report.finish
    const sameAsServer = (device: Digest) => Equal.equals(Data.struct(device.tables), Data.struct(digestServer.tables))
    console.log()
    for (const [name, hash] of Object.entries(digestServer.tables)) console.log(`${name.padEnd(10)}  sha-256 ${hash}`)
    console.log(`peak memory ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`)
    const different = [
      ...sameAsServer(digestA) ? [] : [yield* explain("A", parties.A, "the server", parties.server)],
      ...sameAsServer(digestB) ? [] : [yield* explain("B", parties.B, "the server", parties.server)],
      ...[connectA, connectB].flatMap((database) => database.pragma("foreign_key_check")).map((row) =>
        `a reference to nothing: ${JSON.stringify(row)}`
      )
    ]
    if (different.length > 0) return yield* Effect.fail(different.join("\n"))
    console.log("equal")
  })

const { size } = parseArgs({ options: { size: { type: "string", default: "full" } } }).values
if (!(size in sizes)) throw new Error(`--size is ${Object.keys(sizes).join(" or ")}, not ${size}`)

job(sizes[size]).pipe(Effect.scoped, Effect.provide(NodeContext.layer), NodeRuntime.runMain)
