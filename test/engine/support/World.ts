/**
 * A world of its own for a test: a real server on a database of its own that can be copied, restored and replaced, the
 * network to it, and any number of devices.
 */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Chunk, Context, Effect, Layer, Option, Redacted, Scope, Stream } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Credentials, make as makeClient } from "oversqlite"
import type { SyncOptions } from "oversqlite"
import { Authentication, InProcess, ServerStorageSqlite, SyncServer } from "oversqlite/server"
import type { ServerOptions, ServerRow, TableDeclaration } from "oversqlite/server"
import type { Device } from "./Devices.js"
import { ddl, serverTables, tables } from "./Devices.js"
import { makeNetwork } from "./Network.js"
import type { Answer, Network } from "./Network.js"
import { turn } from "./Time.js"

type Rows = ReadonlyArray<Record<string, unknown>>

export interface WorldOptions {
  readonly declared?: ReadonlyArray<TableDeclaration> | undefined
  /** The server does not say which history it has, like the reference's (wire.md §12). */
  readonly withoutHistoryId?: boolean | undefined
  readonly server?: ServerOptions | undefined
}

export type DeviceOptions = Partial<SyncOptions> & {
  readonly filename?: string | undefined
  readonly ddl?: ReadonlyArray<string> | undefined
  readonly user?: string | undefined
  /** Whom the token says it is for; it does not say by default. */
  readonly tokenOf?: string | undefined
  /**
   * Tokens one after the other, the next one for every forced refresh, the last one for ever: each is the user's name
   * with a number, which no server of a test minds.
   */
  readonly tokens?: number | undefined
}

export interface World {
  readonly network: Network
  /** The server that is running now. */
  readonly server: Effect.Effect<SyncServer["Type"]>
  /** The database behind it. */
  readonly serverSql: Effect.Effect<SqliteClient.SqliteClient>
  /** Writes rows of the schema `business` as one bundle of another writer; the value is its sequence. */
  readonly write: (rows: ReadonlyArray<ServerRow>, writer?: string) => Effect.Effect<number>
  /** The live rows of the scope, as `table key → payload`. */
  readonly serverRows: Effect.Effect<ReadonlyMap<string, unknown>>
  /** A copy of the server's database. */
  readonly backup: Effect.Effect<string>
  /** Replaces the server by one on a copy of a backup; as a careful operator, with a new history id, or not. */
  readonly restore: (backup: string, options: { readonly renewHistory: boolean }) => Effect.Effect<void>
  /** Replaces the server by an empty one. */
  readonly reset: Effect.Effect<void>
  /** A device: a database with the tables of the test, and a client that is not opened yet. */
  readonly device: (options?: DeviceOptions) => Effect.Effect<Device>
  /** A device that has opened its database and attached. */
  readonly attached: (options?: DeviceOptions) => Effect.Effect<Device>
  /** Closes the client of a device and starts another one on the same database, opened and attached. */
  readonly restarted: (device: Device, options?: DeviceOptions) => Effect.Effect<Device>
  /** The same without `open` and `attach`. */
  readonly replaced: (device: Device, options?: DeviceOptions) => Effect.Effect<Device>
  /** A second device whose database is a copy of the first one's. */
  readonly copyOf: (device: Device, options?: DeviceOptions) => Effect.Effect<Device>
}

const withoutHistory = ({ status, text }: Answer): Answer => {
  if (text === "") return { status, text }
  const body: Record<string, unknown> = JSON.parse(text)
  delete body["history_id"]
  const features = body["features"]
  if (typeof features === "object" && features !== null) body["features"] = { ...features, history_id: false }
  return { status, text: JSON.stringify(body) }
}

const user = "ann"

const credentialsOf = (given: DeviceOptions): Layer.Layer<Credentials> => {
  const name = given.user ?? user
  if (given.tokens === undefined) return Credentials.layerBearer(name, { userId: given.tokenOf })
  const last = given.tokens
  let number = 1
  return Credentials.layer(({ forceRefresh }) =>
    Effect.sync(() => {
      if (forceRefresh && number < last) number++
      return { token: Redacted.make(`${name};${number}`), userId: Option.fromNullable(given.tokenOf) }
    })
  )
}

const withoutNumber = (request: HttpClientRequest.HttpClientRequest) =>
  HttpClientRequest.setHeader(request, "authorization", (request.headers["authorization"] ?? "").replace(/;\d+$/, ""))

/** A folder that is gone with the test. */
export const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "oversqlite-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

/** The world, in the scope of the test. */
export const makeWorld = Effect.fnUntraced(function*(options: WorldOptions = {}) {
  // Nothing in such a test waits for anything: without a turn now and then the test runner hears nothing of its worker.
  yield* turn
  const scope = yield* Effect.scope
  let folder: string | undefined
  let files = 0
  const file = Effect.gen(function*() {
    folder = folder ?? (yield* Effect.provideService(temporaryFolder, Scope.Scope, scope))
    return path.join(folder, `${files++}.db`)
  })
  const declared = options.declared ?? serverTables

  const start = (filename = ":memory:") =>
    InProcess.layer.pipe(
      Layer.provideMerge(Layer.merge(
        SyncServer.layer({ tables: declared, ...options.server }).pipe(
          Layer.provide(ServerStorageSqlite.layer),
          Layer.provideMerge(SqliteClient.layer({ filename }))
        ),
        Authentication.layerTokenIsUser
      )),
      Layer.buildWithScope(scope),
      // What a test does to a disk need not last.
      Effect.tap((context) => Context.get(context, SqliteClient.SqliteClient).unsafe("PRAGMA synchronous = OFF")),
      Effect.orDie
    )
  let current = yield* start()
  const network = makeNetwork(
    () => Context.get(current, HttpClient.HttpClient),
    options.withoutHistoryId === true ? withoutHistory : undefined
  )
  const server = Effect.sync(() => Context.get(current, SyncServer))
  const serverSql = Effect.sync(() => Context.get(current, SqliteClient.SqliteClient))

  const deviceOn = (sql: SqlClient.SqlClient, given: DeviceOptions) =>
    Effect.gen(function*() {
      const credentials = yield* Layer.build(credentialsOf(given))
      const sync = yield* makeClient({ baseUrl: "http://localhost", schema: "business", tables, ...given }).pipe(
        Effect.provide(credentials),
        Effect.provideService(SqlClient.SqlClient, sql),
        Effect.provideService(HttpClient.HttpClient, HttpClient.mapRequest(network.client, withoutNumber))
      )
      const run: Device["run"] = (text, parameters) => Effect.orDie(sql.unsafe(text, parameters))
      return { sync, sql, run } satisfies Device
    }).pipe(Effect.provideService(Scope.Scope, scope), Effect.orDie)

  const device = (given: DeviceOptions = {}) =>
    Effect.gen(function*() {
      const filename = given.filename ?? ":memory:"
      const context = yield* Layer.buildWithScope(SqliteClient.layer({ filename }), scope)
      const sql = Context.get(context, SqliteClient.SqliteClient)
      for (const statement of given.ddl ?? ddl) yield* sql.unsafe(statement)
      return yield* deviceOn(sql, given)
    }).pipe(Effect.orDie)

  const connect = (given: Device, as: string) =>
    Effect.zipRight(given.sync.open, given.sync.attach(as)).pipe(Effect.orDie, Effect.as(given))

  const replaced: World["replaced"] = (old, given = {}) => Effect.zipRight(old.sync.close, deviceOn(old.sql, given))

  const world: World = {
    network,
    server,
    serverSql,
    write: (rows, writer = "newsroom") =>
      Effect.flatMap(
        server,
        (running) => running.write(user, writer, rows.map((row) => ({ schema: "business", ...row })))
      ).pipe(
        Effect.map(({ bundleSeq }) => Number(bundleSeq)),
        Effect.orDie
      ),
    serverRows: Effect.flatMap(server, (running) => Stream.runCollect(running.rows(user))).pipe(
      Effect.map((rows) =>
        new Map(
          Chunk.toReadonlyArray(rows).map(({ key, payload, table }) =>
            [`${table.table} ${key}`, JSON.parse(payload)] as const
          )
        )
      ),
      Effect.orDie
    ),
    backup: Effect.gen(function*() {
      const copy = yield* file
      const sql = yield* serverSql
      yield* sql.unsafe("VACUUM INTO ?", [copy])
      return copy
    }).pipe(Effect.orDie),
    restore: (backup, { renewHistory }) =>
      Effect.gen(function*() {
        const copy = yield* file
        fs.copyFileSync(backup, copy)
        current = yield* start(copy)
        if (renewHistory) yield* Effect.flatMap(server, (running) => running.renewHistory)
      }).pipe(Effect.orDie),
    reset: Effect.gen(function*() {
      current = yield* start()
    }),
    device,
    attached: (given = {}) => Effect.flatMap(device(given), (fresh) => connect(fresh, given.user ?? user)),
    restarted: (old, given = {}) => Effect.flatMap(replaced(old, given), (fresh) => connect(fresh, given.user ?? user)),
    replaced,
    copyOf: (original, given = {}) =>
      Effect.gen(function*() {
        const copy = yield* file
        yield* original.run("VACUUM INTO ?", [copy])
        return yield* device({ ddl: [], ...given, filename: copy })
      })
  }
  return world
})

/** The contents of tables, rows in key order. */
export const contents = (
  { run }: Pick<Device, "run">,
  names: ReadonlyArray<string> = ["users", "posts", "files"]
): Effect.Effect<Readonly<Record<string, Rows>>> =>
  Effect.map(
    Effect.forEach(names, (name) => Effect.map(run(`SELECT * FROM "${name}" ORDER BY 1`), (rows) => [name, rows])),
    (entries) => Object.fromEntries(entries)
  )
