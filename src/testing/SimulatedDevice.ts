/**
 * A device of a simulation: a SQLite file, the real client on it, a host that writes through the client's connection and
 * through one of its own. It can stop at any point and start again on the same file.
 *
 * @since 0.1.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientTag from "@effect/platform/HttpClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { ConflictResolver } from "../contract/ConflictResolution.js"
import { SourceIdGenerator } from "../engine/SourceIds.js"
import type { SyncClient } from "../engine/SyncClient.js"
import { make as makeClient } from "../engine/SyncClient.js"
import type { SyncOptions } from "../engine/SyncConfig.js"
import { Credentials } from "../remote/Credentials.js"
import { Breathe } from "../storage/WorkTables.js"
import * as CrashPoints from "./CrashPoints.js"
import type { Ledger } from "./Ledger.js"
import type * as Prng from "./Prng.js"
import type { Host, SimulatedSchema } from "./SimulatedSchema.js"
import { clientTables, stampedRows } from "./SimulatedSchema.js"
import * as VirtualTime from "./VirtualTime.js"

/** What a device has while it is on. @internal */
export interface Running {
  readonly scope: Scope.CloseableScope
  readonly sync: SyncClient["Type"]
  /** The connection of the engine. */
  readonly own: SqlClient.SqlClient
  /** Another connection to the same file. */
  readonly second: SqlClient.SqlClient
}

/** A device: its file outlives its machine, and its machine stops at crash points. @internal */
export interface SimulatedDevice {
  readonly name: string
  filename: string
  /** Whose data the application asks for. */
  user: string
  machine: CrashPoints.Machine
  running: Running | undefined
  /** Operations under way. */
  fibers: Array<Fiber.RuntimeFiber<unknown, unknown>>
  /** What its tokens are like. */
  token: "valid" | "expired" | "of another user"
  /** By how many milliseconds its wall clock is fast. */
  clockJump: number
  /** One start at a time. */
  readonly starting: Effect.Semaphore
  /** A client whose scope is ending. */
  closing: Fiber.RuntimeFiber<unknown, unknown> | undefined
  /** Copies of the file, oldest first, with the stamps they hold. */
  readonly backups: Array<string>
}

/** What a device is made of when it is switched on. @internal */
export interface DeviceParts {
  readonly schema: SimulatedSchema
  readonly ledger: Ledger
  readonly prng: Prng.Prng
  readonly network: (device: SimulatedDevice) => HttpClient.HttpClient
  readonly resolver: ConflictResolver
  readonly options: Partial<SyncOptions>
  readonly makeMachine: (device: SimulatedDevice) => CrashPoints.Machine
}

/** The resolver of the application, with its decisions noted. */
const noted = (ledger: Ledger, schema: SimulatedSchema, resolver: ConflictResolver): ConflictResolver => (conflict) =>
  // A resolver may fail with anything.
  // @effect-diagnostics-next-line anyUnknownInErrorContext:off
  Effect.tap(resolver(conflict), (decision) =>
    Effect.sync(() => {
      const stamp = schema.stamp ?? "stamp"
      const stampOf = (row: Readonly<Record<string, unknown>> | null) => row === null ? undefined : String(row[stamp])
      const { key } = conflict
      const name = typeof key === "string" ? key.replaceAll("-", "") : Buffer.from(key).toString("hex")
      const blob = schema.tables.find((table) => table.name === conflict.table)?.isBlobKey === true
      const row = `${conflict.table} ${blob || typeof key !== "string" ? name : key}`
      const local = stampOf(conflict.localRow)
      const server = stampOf(conflict.server.row)
      switch (decision._tag) {
        case "AcceptServer":
          return ledger.decided({ row, loser: local, winner: server })
        case "KeepLocal":
        case "Recreate":
          return ledger.decided({ row, loser: server, winner: local })
        case "KeepMerged": {
          const merged = stampOf(decision.row)
          ledger.decided({ row, loser: local, winner: merged })
          return ledger.decided({ row, loser: server, winner: merged })
        }
      }
    }))

/** A connection to a database file, until the scope ends. @internal */
export const open = (filename: string, scope: Scope.Scope): Effect.Effect<SqlClient.SqlClient, ConfigError> =>
  Effect.map(
    Layer.buildWithScope(SqliteClient.layer({ filename }), scope),
    (context): SqlClient.SqlClient => Context.get(context, SqliteClient.SqliteClient)
  )

/** Closes everything; the file stays. @internal */
export const powerOff = (device: SimulatedDevice): Effect.Effect<void> =>
  Effect.gen(function*() {
    device.machine.stopped = true
    const { fibers, running } = device
    device.running = undefined
    device.fibers = []
    yield* Fiber.interruptAll(fibers)
    if (device.closing !== undefined) yield* Fiber.await(device.closing)
    device.closing = undefined
    if (running !== undefined) yield* Scope.close(running.scope, Exit.void)
  })

/** Starts the machine and its client; the tables are created on the first start. Fails as the client's layer does. @internal */
export const powerOn = Effect.fnUntraced(function*(device: SimulatedDevice, parts: DeviceParts) {
  if (device.closing !== undefined) yield* Fiber.await(device.closing)
  device.closing = undefined
  device.machine = parts.makeMachine(device)
  const { machine } = device
  const scope = yield* Scope.make()
  const starting = Effect.gen(function*() {
    const own = yield* open(device.filename, scope)
    const second = yield* open(device.filename, scope)
    for (const statement of parts.schema.ddl) {
      yield* own.unsafe(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS "))
    }
    for (const pragma of ["busy_timeout = 0", "foreign_keys = ON", "recursive_triggers = ON"]) {
      yield* second.unsafe(`PRAGMA ${pragma}`)
    }
    device.running = { scope, sync: yield* client(device, parts, own, machine), own, second }
  }).pipe(Scope.extend(scope))
  yield* Effect.onExit(
    starting,
    (exit) =>
      Exit.isSuccess(exit)
        ? Effect.void
        : Effect.zipRight(Effect.sync(() => machine.stopped = true), Scope.close(scope, exit))
  )
})

/** A token of which the network knows that it has expired. @internal */
export const expiredToken = "expired"

/** A client on a connection, with everything around it simulated. @internal */
export const client = Effect.fnUntraced(function*(
  device: SimulatedDevice,
  parts: DeviceParts,
  sql: SqlClient.SqlClient,
  machine: CrashPoints.Machine
) {
  const clock = VirtualTime.wallClock(yield* Effect.clock, () => device.clockJump)
  const credentials = Credentials.layer(Effect.sync(() => {
    const user = device.token === "of another user" ? `not ${device.user}` : device.user
    return {
      token: Redacted.make(device.token === "expired" ? expiredToken : user),
      userId: Option.some(user)
    }
  }))
  const sync = yield* makeClient({
    baseUrl: "http://localhost",
    schema: parts.schema.schema,
    tables: clientTables(parts.schema),
    resolver: noted(parts.ledger, parts.schema, parts.resolver),
    ...parts.options
  }).pipe(
    Effect.provideServiceEffect(SqlClient.SqlClient, CrashPoints.sqlClient(sql, machine)),
    Effect.provideService(HttpClientTag.HttpClient, CrashPoints.httpClient(parts.network(device), machine)),
    Effect.provideService(SourceIdGenerator, Effect.sync(parts.prng.uuid)),
    Effect.provideService(Breathe, Effect.sleep("1 millis")),
    Effect.provide(credentials)
  )
  return withServices(sync, parts.prng, clock)
})

/** References are looked up where an operation runs, not where the client is built. */
const withServices = (sync: SyncClient["Type"], prng: Prng.Prng, clock: Clock.Clock): SyncClient["Type"] => {
  const given = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    self.pipe(
      Effect.withClock(clock),
      Effect.provideService(SourceIdGenerator, Effect.sync(prng.uuid)),
      Effect.provideService(Breathe, Effect.sleep("1 millis"))
    )
  return {
    ...sync,
    open: given(sync.open),
    attach: (userId, options) => given(sync.attach(userId, options)),
    detach: given(sync.detach),
    syncThenDetach: given(sync.syncThenDetach),
    pushPending: given(sync.pushPending),
    pullToStable: given(sync.pullToStable),
    sync: given(sync.sync),
    rebuild: given(sync.rebuild),
    uninstallSync: given(sync.uninstallSync),
    inspect: given(sync.inspect),
    run: given(sync.run)
  }
}

/** Whose data the device holds, blank for nobody's. @internal */
export const owner = (sql: SqlClient.SqlClient): Effect.Effect<string | undefined, SqlError> =>
  Effect.map(
    sql.unsafe<{ readonly owner: string }>(
      `SELECT CASE WHEN a.attached_user_id <> '' THEN a.attached_user_id ELSE e.rows_of_user_id END AS owner
         FROM _sync_attachment_state AS a, _sync_engine_state AS e`
    ),
    ([row]) => row === undefined || row.owner === "" ? undefined : row.owner
  )

/** The application asks for the data of the user whose rows are in the file: whoever is signed in there. @internal */
export const followFile = (device: SimulatedDevice): Effect.Effect<void> => {
  const { running } = device
  if (running === undefined) return Effect.void
  return Effect.map(Effect.orElseSucceed(owner(running.second), () => undefined), (user) => {
    if (user !== undefined) device.user = user
  })
}

/** Rows that the server has or may have, as `table key`. @internal */
export const serverRows = (sql: SqlClient.SqlClient): Effect.Effect<ReadonlySet<string>, SqlError> =>
  Effect.map(
    sql.unsafe<{ readonly row: string }>(
      `SELECT table_name || ' ' || (key_json ->> (SELECT '$.' || key FROM json_each(key_json))) AS row
         FROM (SELECT table_name, key_json FROM _sync_row_state UNION SELECT table_name, key_json FROM _sync_outbox_rows)`
    ),
    (rows) => new Set(rows.map(({ row }) => row))
  )

/** Rows that wait for the server, as `table key`. @internal */
export const pendingRows = (sql: SqlClient.SqlClient): Effect.Effect<ReadonlySet<string>, SqlError> =>
  Effect.map(
    sql.unsafe<{ readonly row: string }>(
      `SELECT table_name || ' ' || (key_json ->> (SELECT '$.' || key FROM json_each(key_json))) AS row
         FROM (SELECT table_name, key_json FROM _sync_dirty_rows UNION SELECT table_name, key_json FROM _sync_outbox_rows)
        ORDER BY 1`
    ),
    (rows) => new Set(rows.map(({ row }) => row))
  )

/** One transaction of a host; whether it was acknowledged. @internal */
export const hostWrite = (
  parts: { readonly schema: SimulatedSchema; readonly ledger: Ledger },
  device: SimulatedDevice,
  connection: "own" | "second",
  act: (run: Host["run"]) => Effect.Effect<unknown, SqlError>
): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const running = device.running
    if (running === undefined) return Effect.succeed(false)
    const sql = running[connection]
    return sql.withTransaction(Effect.gen(function*() {
      // The write lock first: a deferred transaction that reads first may be refused later.
      yield* sql.unsafe("UPDATE _sync_apply_state SET singleton_key = 1 WHERE 0")
      const user = yield* owner(sql)
      const before = yield* stampedRows(sql, parts.schema)
      yield* act((text, parameters) => sql.unsafe<Record<string, unknown>>(text, parameters))
      const known = yield* serverRows(sql)
      const problems = yield* sql.unsafe("PRAGMA foreign_key_check")
      if (problems.length > 0) return yield* Effect.fail("contradiction" as const)
      return { user, before, known, after: yield* stampedRows(sql, parts.schema) }
    })).pipe(
      // Nobody else can have the connection's thread while the transaction is open.
      Effect.withMaxOpsBeforeYield(Number.MAX_SAFE_INTEGER),
      Effect.exit,
      Effect.map((exit) => {
        if (Exit.isFailure(exit)) return false
        parts.ledger.wrote(device.name, exit.value)
        return true
      })
    )
  })

/** How an operation ended, in a few words. @internal */
export const told = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) {
    const value: unknown = exit.value
    if (typeof value !== "object" || value === null) return "ok"
    const words = Object.entries(value).filter(([name, word]) =>
      typeof word === "string" && /outcome|status/iu.test(name)
    )
    return `ok ${words.map(([, word]) => String(word)).join(" ")}`.trim()
  }
  const failure = Cause.failureOption(exit.cause)
  if (Option.isSome(failure)) {
    const error: unknown = failure.value
    if (typeof error !== "object" || error === null || !("_tag" in error)) return String(error)
    const detail = ["code", "reason", "rule", "status", "serverCode"].flatMap((field) =>
      field in error ? [String(Reflect.get(error, field))] : []
    )
    const row: unknown = "row" in error ? error.row : undefined
    const cause: unknown = "cause" in error ? error.cause : undefined
    return [
      `${String(error._tag)}(${detail.join(" ")})`,
      ...(row === undefined ? [] : [JSON.stringify(row)]),
      ...(cause instanceof Error && !("_tag" in cause) ? [cause.message] : [])
    ].join(" ")
  }
  return Cause.isInterruptedOnly(exit.cause) ? "interrupted" : `defect ${Cause.pretty(exit.cause)}`
}
