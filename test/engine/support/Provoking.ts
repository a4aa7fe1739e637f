/** Ways to make a client fail: in a state, with a broken answer, with a row or a database that does not do. */
import { HttpClient } from "@effect/platform"
import { SqlClient as Sql } from "@effect/sql"
import type { SqlClient } from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { Effect, Layer } from "effect"
import type { Scope } from "effect"
import * as path from "node:path"
import { Credentials, make as makeClient } from "oversqlite"
import type { ConflictDecision, ConflictResolver, SyncAction, SyncOperation, SyncOptions } from "oversqlite"
import { memory, script } from "../../storage/support/database.js"
import type { Device } from "./Devices.js"
import { ddl, serverTables, tables } from "./Devices.js"
import type { Fault, Route } from "./Network.js"
import { answered, changed, refused } from "./Network.js"
import { powerOnAttached } from "./Power.js"
import { pullAnswer } from "./Scripted.js"
import type { ScriptedRow } from "./Scripted.js"
import { once, states, withLocalRows } from "./States.js"
import type { StateName } from "./States.js"
import type { DeviceOptions, World } from "./World.js"
import { temporaryFolder } from "./World.js"

export type Provoke = (world: World) => Effect.Effect<unknown, unknown, Scope.Scope>

/** What the caller called, what the error asks for, whether the same call may succeed later (errors.md §1.2, §1.6, §1.7). */
export interface Scenario {
  readonly operation: SyncOperation
  readonly action: SyncAction
  readonly retryable: boolean
  readonly provoke: Provoke
}

export const final = (operation: SyncOperation, action: SyncAction, provoke: Provoke): Scenario => ({
  operation,
  action,
  retryable: false,
  provoke
})

export const transient = (operation: SyncOperation, action: SyncAction, provoke: Provoke): Scenario => ({
  operation,
  action,
  retryable: true,
  provoke
})

/** A row whose values no message may show. */
export const secretRow = "INSERT INTO users VALUES ('u1', 'SECRET', 'SECRET@x', 1.5)"

/** What the server's tables are where the tables of a device need more. */
export const declared = [
  ...serverTables,
  { schema: "business", table: "notes", key: { column: "id", kind: "text" as const } },
  { schema: "business", table: "reviews", key: { column: "id", kind: "uuid" as const } }
]

export const more = {
  ddl: [
    ...ddl,
    "CREATE TABLE notes (id TEXT PRIMARY KEY, i INTEGER, r REAL, t TEXT)",
    "CREATE TABLE reviews (id BLOB PRIMARY KEY NOT NULL, file BLOB REFERENCES files (id))"
  ],
  tables: [...tables, { name: "notes", key: "id" }, { name: "reviews", key: "id" }]
} satisfies DeviceOptions

// --- construction

export const building = (sql: SqlClient, options: Partial<SyncOptions>) =>
  Effect.flatMap(
    Layer.build(Credentials.layerBearer("ann")),
    (credentials) =>
      makeClient({ baseUrl: "http://localhost", schema: "business", tables: [], ...options }).pipe(
        Effect.provide(credentials),
        Effect.provideService(Sql.SqlClient, sql)
      )
  )

export const constructing =
  (statements: ReadonlyArray<string>, options: Partial<SyncOptions> = {}): Provoke => ({ network }) =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, statements)
      return yield* inNetwork(network, building(sql, options))
    })

export const inNetwork = <A, E, R>({ client }: World["network"], self: Effect.Effect<A, E, R>) =>
  Effect.provideService(self, HttpClient.HttpClient, client)

/** A database that answers one statement as another SQLite would. */
export const onOtherSqlite = (matching: RegExp, replacement: string): Provoke => ({ network }) =>
  Effect.gen(function*() {
    const sql = yield* memory
    const other: SqlClient = Object.assign(
      ((...args: Parameters<typeof sql>) => sql(...args)) as SqlClient,
      sql,
      {
        unsafe: ((text: string, parameters?: ReadonlyArray<never>) =>
          sql.unsafe(matching.test(text) ? replacement : text, parameters)) as typeof sql.unsafe,
        withoutTransforms: () =>
          other
      }
    )
    return yield* inNetwork(network, building(other, {}))
  })

/** A second client on the database of a first one that has been used. */
export const again =
  (first: Partial<SyncOptions>, second: Partial<SyncOptions>, between: ReadonlyArray<string> = []): Provoke =>
  ({ network }) =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* script(sql, [
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, code TEXT)",
        "INSERT INTO t VALUES ('a', 'b')"
      ])
      const sync = yield* inNetwork(network, building(sql, { tables: [t], ...first }))
      yield* sync.open
      yield* sync.close
      yield* script(sql, between)
      return yield* inNetwork(network, building(sql, { tables: [t], ...second }))
    })

export const t = { name: "t", key: "id" }

export const table = (statement: string, config: SyncOptions["tables"][number] = t): Scenario =>
  final("construct", "fix_configuration", constructing([statement], { tables: [config] }))

export const anyTable = "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, x TEXT)"

// --- clients in states

export const inState = (
  name: StateName,
  operation: (device: Device, world: World) => Effect.Effect<unknown, unknown>,
  options: Partial<SyncOptions> = {}
): Provoke =>
(world) => Effect.flatMap(states[name].build(world, options), (device) => operation(device, world))

export const attached = (
  use: (device: Device, world: World) => Effect.Effect<unknown, unknown, Scope.Scope>,
  options: DeviceOptions = {}
): Provoke =>
(world) => Effect.flatMap(world.attached({ ...once, ...options }), (device) => use(device, world))

export const push = ({ sync }: Device) => sync.pushPending
export const pull = ({ sync }: Device) => sync.pullToStable
export const rebuild = ({ sync }: Device) => sync.rebuild
export const attach = ({ sync }: Device) => sync.attach("ann")

/** A push of one row, one of whose requests goes wrong. */
export const pushWith = (route: Route, fault: Fault, options: DeviceOptions = {}): Provoke =>
  attached((device, { network }) =>
    Effect.gen(function*() {
      yield* device.run("INSERT INTO users VALUES ('u0', 'SECRET', NULL, 0)")
      yield* device.sync.pushPending
      yield* device.run(secretRow)
      yield* network.fault(route, fault, 10)
      return yield* device.sync.pushPending
    }), options)

/** A push of the first rows of an account. */
export const seedWith = (route: Route, fault: Fault): Provoke => (world) =>
  Effect.gen(function*() {
    const device = yield* states["seed pending"].build(world)
    yield* world.network.fault(route, fault, 10)
    return yield* device.sync.pushPending
  })

export const pullWith = (fault: Fault, options: DeviceOptions = {}): Provoke =>
  attached((device, { network }) => Effect.zipRight(network.fault("pull", fault, 10), pull(device)), options)

export const attachWith = (route: Route, fault: Fault, options: DeviceOptions = {}): Provoke => (world) =>
  Effect.gen(function*() {
    const device = yield* withLocalRows(world, { ...once, ...options })
    yield* world.network.fault(route, fault, 10)
    return yield* device.sync.attach("ann")
  })

/** A pull that brings this row. */
export const pulled = (received: ScriptedRow): Provoke =>
  attached((device, { network }) => Effect.zipRight(pullAnswer(network, [[received]]), pull(device)))

export const payload = "{\"id\":\"u1\",\"name\":\"SECRET\",\"email\":\"SECRET@x\",\"score\":1}"
export const received: ScriptedRow = { table: "users", key: "{\"id\":\"u1\"}", payload }

export const bundle = (change: object, page: object = {}): Fault =>
  answered(200, {
    stable_bundle_seq: 1,
    has_more: false,
    bundles: [{ bundle_seq: 1, source_id: "other", source_bundle_id: 1, rows: [], ...change }],
    ...page
  })

/** Two bundles on the server, pulled one at a time. */
export const twoPages = (faults: ReadonlyArray<Fault>): Provoke =>
  attached((device, world) =>
    Effect.gen(function*() {
      for (const key of ["u1", "u2"]) {
        yield* world.write([{ table: "users", key, payload: { name: "SECRET", email: null, score: 1 } }])
      }
      for (const fault of faults) yield* world.network.fault("pull", fault)
      return yield* pull(device)
    }), { downloadLimit: 1 })

export const untouched: Fault = (_exchange, ask) => ask

/** Writes past the triggers, as a database of the reference may hold it, and notes the row as dirty. */
export const smuggled = (name: string, keyJson: string, insert: string): Provoke =>
  attached(({ run, sync }) =>
    Effect.gen(function*() {
      yield* run("PRAGMA foreign_keys = OFF")
      yield* run("UPDATE _sync_apply_state SET apply_mode = 1")
      yield* run(insert)
      yield* run("UPDATE _sync_apply_state SET apply_mode = 0")
      yield* run("PRAGMA foreign_keys = ON")
      yield* run(
        `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, payload, dirty_ordinal)
         VALUES ('business', ?, ?, 'INSERT', '{}', 50)`,
        [name, keyJson]
      )
      return yield* sync.pushPending
    }), more)

export const uuid = "00112233445566778899aabbccddeeff"

// --- conflicts

/** Row u1 is edited on both sides, and the resolver of the device answers this. */
export const resolving = (resolver: ConflictResolver): Provoke => (world) =>
  Effect.gen(function*() {
    const device = yield* world.attached({ ...once, resolver })
    yield* device.run(secretRow)
    yield* device.sync.pushPending
    yield* world.write([{ table: "users", key: "u1", payload: { name: "SECRET 2", email: null, score: 9 } }])
    yield* device.run("UPDATE users SET score = 2")
    return yield* device.sync.pushPending
  })

/** An answer that a resolver written in JavaScript can give. */
export const giving = (answer: unknown): ConflictResolver => () => Effect.succeed(answer as ConflictDecision)

export const resolution = (answer: unknown) => final("pushPending", "fix_resolver", resolving(giving(answer)))

export const conflict = (change: object = {}) => ({
  schema: "business",
  table: "users",
  key: { id: "u1" },
  op: "UPDATE",
  base_row_version: 1,
  server_row_version: 5,
  server_row_deleted: true,
  server_row: null,
  ...change
})

// --- storage

export const sqliteFailure = (code: string): Provoke => (world) =>
  Effect.gen(function*() {
    const folder = yield* temporaryFolder
    const device = yield* powerOnAttached(world.network, path.join(folder, "device.db"), once)
    yield* device.run(secretRow)
    yield* device.power.failAt(
      (text) => text.startsWith("DELETE FROM temp._sync_intent"),
      new SqlError({ cause: Object.assign(new Error("SQLITE"), { code }), message: "SQLITE" })
    )
    return yield* Effect.ensuring(device.sync.pushPending, device.off)
  })

export const recovery = (code: string, route: Route = "push create") =>
  final("pushPending", "rebuild", pushWith(route, refused(409, code)))

/** In source recovery, and then something is wrong with the reservation. */
export const diverging = (spoil: (device: Device, world: World) => Effect.Effect<unknown, unknown>): Scenario =>
  final(
    "rebuild",
    "rebuild",
    inState("source recovery + outbox prepared", (device, world) =>
      Effect.zipRight(spoil(device, world), rebuild(device)))
  )

export const unsupported = (route: Route, fault: Fault) => final("attach", "upgrade_server", attachWith(route, fault))

export const capabilities = (change: object): Fault => changed((body) => ({ ...body, ...change }))

export const protocol = (operation: SyncOperation, provoke: Provoke) => final(operation, "report", provoke)
