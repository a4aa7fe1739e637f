/**
 * What the server does under load, over real HTTP on the loopback interface: devices that push bundles one after the other
 * and then pull them, 1, 10 and 100 at a time, beside better-sqlite3 inserting the same rows alone. A push is three
 * requests (create, upload, commit), and its latency is that of the three together. Each measurement ends after `--seconds`
 * or `--bundles`, whichever comes first; `--rows` is the size of a bundle.
 */
import { HttpServer } from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import Database from "better-sqlite3"
import { Effect, Layer, Redacted } from "effect"
import { fork } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { randomBytes, randomUUID } from "node:crypto"
import * as fs from "node:fs"
import { createServer } from "node:http"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Authentication, ServerStorageSqlite, SyncRoutes, SyncServer } from "oversqlite/server"
import type { TableDeclaration } from "oversqlite/server"
import { table } from "../scratchpad/Report.js"
import type { Row } from "../test/server/support/Device.js"
import { rawDevice } from "../test/server/support/RawClient.js"
import type { RawAnswer, RawDevice } from "../test/server/support/RawClient.js"

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "5" },
    bundles: { type: "string", default: "5000" },
    rows: { type: "string", default: "20" },
    devices: { type: "string", default: "1,10,100" },
    /** In the child process: its database. */
    serve: { type: "string" }
  }
})

const limits = { seconds: Number(values.seconds), bundles: Number(values.bundles) }
const rowsPerBundle = Number(values.rows)

/** Pushes of each device before anything is measured. */
const warmUp = 5

const tables: ReadonlyArray<TableDeclaration> = [
  {
    schema: "bench",
    table: "notes",
    key: { column: "id", kind: "uuid" },
    columns: { title: "text", body: "text", size: "integer", rating: "double precision" }
  }
]

interface Usage {
  /** Peak memory in KiB, and processor time in microseconds. */
  readonly peak: number
  readonly processor: number
}

/** The server in a process of its own. */
const serve = (filename: string, secret: string) =>
  Effect.gen(function*() {
    const { address } = yield* HttpServer.HttpServer
    const usage = (): Usage => {
      const { maxRSS, systemCPUTime, userCPUTime } = process.resourceUsage()
      return { peak: maxRSS, processor: systemCPUTime + userCPUTime }
    }
    process.on("message", () => process.send?.(usage()))
    process.on("disconnect", () => process.exit(0))
    process.send?.(address._tag === "TcpAddress" ? address.port : 0)
    return yield* Effect.never
  }).pipe(
    Effect.provide(
      SyncRoutes.serve.pipe(
        Layer.provideMerge(NodeHttpServer.layerServer(() => createServer(), { port: 0, host: "127.0.0.1" })),
        Layer.provide(SyncServer.layer({ tables })),
        Layer.provide(ServerStorageSqlite.layerWith({ reader: SqliteClient.layer({ filename }) })),
        Layer.provide(SqliteClient.layer({ filename })),
        Layer.provide(Authentication.layerJwt({ secret: Redacted.make(secret) }))
      )
    ),
    NodeRuntime.runMain
  )

const answerOf = <A>(child: ChildProcess): Promise<A> =>
  new Promise((resolve, reject) => {
    child.once("message", (message) => resolve(message as A))
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)))
  })

const startServer = async (filename: string) => {
  const secret = randomBytes(32).toString("base64url")
  const child = fork(fileURLToPath(import.meta.url), ["--serve", filename])
  child.send(secret)
  const port = await answerOf<number>(child)
  return {
    url: `http://127.0.0.1:${port}`,
    token: (userId: string) =>
      Effect.runPromise(Authentication.issueToken({ secret: Redacted.make(secret), userId })).then(Redacted.value),
    usage: () => {
      child.send("usage")
      return answerOf<Usage>(child)
    },
    stop: () => child.kill()
  }
}

const body = "A note of middling length, as people write them when they have something to say and not much time. "

const makeBundle = (): ReadonlyArray<Row> =>
  Array.from({ length: rowsPerBundle }, (_, index): Row => {
    const id = randomUUID()
    return {
      schema: "bench",
      table: "notes",
      key: { id },
      op: "INSERT",
      payload: { id, title: `Note ${index}`, body: body + id, size: index * 1000, rating: index + 0.5 }
    }
  })

const succeeded = (answer: RawAnswer): RawAnswer => {
  if (answer.status !== 200) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`)
  return answer
}

/** The same rows, a transaction a bundle, in a table of their own: milliseconds for all of them. */
const insertPlainly = (filename: string, bundles: ReadonlyArray<ReadonlyArray<Row>>): number => {
  const database = new Database(filename)
  database.pragma("journal_mode = WAL")
  database.pragma("synchronous = FULL")
  database.exec("CREATE TABLE notes (id TEXT PRIMARY KEY, title TEXT, body TEXT, size INTEGER, rating REAL) STRICT")
  const insert = database.prepare("INSERT INTO notes VALUES (:id, :title, :body, :size, :rating)")
  const transaction = database.transaction((rows: ReadonlyArray<Row>) => {
    for (const row of rows) insert.run(row.payload)
  })
  const began = performance.now()
  for (const bundle of bundles) transaction(bundle)
  const milliseconds = performance.now() - began
  database.close()
  return milliseconds
}

const count = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 })
const decimal = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1, minimumFractionDigits: 1 })

const percentiles = (latencies: ReadonlyArray<number>): ReadonlyArray<string> => {
  const sorted = [...latencies].sort((left, right) => left - right)
  return [0.5, 0.95, 0.99].map((part) => decimal.format(sorted[Math.floor(part * (sorted.length - 1))] ?? 0))
}

interface Measured {
  readonly latencies: ReadonlyArray<number>
  readonly milliseconds: number
}

/** All devices at work until time or bundles are used up. */
const together = async (
  devices: ReadonlyArray<RawDevice>,
  work: (device: RawDevice, turn: number) => Promise<void>,
  { bundles, seconds }: typeof limits
): Promise<Measured> => {
  const latencies: Array<number> = []
  const began = performance.now()
  let left = bundles
  await Promise.all(devices.map(async (device) => {
    for (let turn = 0; left > 0 && performance.now() - began < seconds * 1000; turn++) {
      left -= 1
      const sent = performance.now()
      await work(device, turn)
      latencies.push(performance.now() - sent)
    }
  }))
  return { latencies, milliseconds: performance.now() - began }
}

const line = (
  name: string,
  { latencies, milliseconds }: Measured,
  rows: number,
  peak: string,
  busy: string
): ReadonlyArray<string> => [
  name,
  count.format(latencies.length * 1000 / milliseconds),
  count.format(rows * 1000 / milliseconds),
  ...percentiles(latencies),
  busy,
  peak
]

const measure = async (deviceCount: number, folder: string): Promise<ReadonlyArray<ReadonlyArray<string>>> => {
  const server = await startServer(path.join(folder, `server-${deviceCount}.db`))
  try {
    const devices = await Promise.all(Array.from({ length: deviceCount }, async (_, index) => {
      const device = rawDevice({ url: server.url, token: await server.token(`user-${index}`), source: "device" })
      succeeded(await device.connect())
      return device
    }))
    const next = new Map(devices.map((device) => [device, 1]))
    const pushed: Array<ReadonlyArray<Row>> = []
    const push = async (device: RawDevice) => {
      const rows = makeBundle()
      const number = next.get(device) ?? 1
      next.set(device, number + 1)
      succeeded(await device.push(number, rows))
      pushed.push(rows)
    }
    await together(devices, push, { seconds: limits.seconds, bundles: Math.max(warmUp * deviceCount, 50) })
    pushed.length = 0
    const before = await server.usage()
    const pushing = await together(devices, push, limits)
    const between = await server.usage()
    let pulledRows = 0
    const pulling = await together(devices, async (device, turn) => {
      const after = turn % (next.get(device) ?? 1)
      const { bundles } = succeeded(await device.pull(after, "&max_bundles=10")).body
      pulledRows += Array.isArray(bundles) ? bundles.length * rowsPerBundle : 0
    }, limits)
    const end = await server.usage()
    const busy = (from: Usage, to: Usage, milliseconds: number) =>
      `${count.format((to.processor - from.processor) / 10 / milliseconds)} %`
    const plain = insertPlainly(path.join(folder, `plain-${deviceCount}.db`), pushed)
    for (const device of devices) device.close()
    const mebibytes = ({ peak }: Usage) => count.format(peak / 1024)
    const rows = pushed.length * rowsPerBundle
    return [
      line(
        `${deviceCount} pushing`,
        pushing,
        rows,
        mebibytes(between),
        busy(before, between, pushing.milliseconds)
      ),
      line(
        `${deviceCount} pulling 10 bundles`,
        pulling,
        pulledRows,
        mebibytes(end),
        busy(between, end, pulling.milliseconds)
      ),
      [
        "  plain inserts of the pushed rows",
        count.format(pushed.length * 1000 / plain),
        count.format(rows * 1000 / plain),
        ...["", "", "", "", ""]
      ]
    ]
  } finally {
    server.stop()
  }
}

const { serve: filename } = values
if (filename !== undefined) process.once("message", (secret: string) => serve(filename, secret))
else {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "oversqlite-bench-"))
  try {
    const lines: Array<ReadonlyArray<string>> = [
      ["devices", "bundles/s", "rows/s", "p50 ms", "p95 ms", "p99 ms", "server CPU", "peak MiB"]
    ]
    for (const deviceCount of String(values.devices).split(",").map(Number)) {
      lines.push(...await measure(deviceCount, folder))
    }
    console.log(
      `bundles of ${rowsPerBundle} rows; Node ${process.version}, ${os.cpus()[0]?.model.trim()}, ` +
        `${os.cpus().length} cores\n`
    )
    console.log(table(lines))
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}
