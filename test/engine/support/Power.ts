/**
 * A device that can lose its power: from a chosen statement or request on nothing reaches its database or the network any
 * more, and what a transaction has not committed is gone. It starts again on the same file.
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import { HttpClient, HttpClientError } from "@effect/platform"
import { SqlClient, SqlError, Statement } from "@effect/sql"
import type { SqlConnection } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { Credentials, make as makeClient } from "oversqlite"
import type { SyncOptions } from "oversqlite"
import type { Device } from "./Devices.js"
import { ddl, tables } from "./Devices.js"
import type { Network } from "./Network.js"

/** Chooses a statement by its text and its position among those of this run, from 1. */
export type Chosen = (text: string, position: number) => boolean

export interface Power {
  /** Everything that the engine has asked of the database since power on or the last `forget`. */
  readonly statements: ReadonlyArray<string>
  readonly forget: Effect.Effect<void>
  readonly isCut: Effect.Effect<boolean>
  /** Cuts the power: the fault of a request, or a step of a resolver. */
  readonly cut: Effect.Effect<never>
  /** Cuts the power before or after a statement, `COMMIT` included. */
  readonly cutAt: (when: "before" | "after", chosen: Chosen) => Effect.Effect<void>
  /** Makes a statement fail. */
  readonly failAt: (chosen: Chosen, error: SqlError.SqlError) => Effect.Effect<void>
}

export interface PoweredDevice extends Device {
  readonly power: Power
  /** Closes client and database. What runs must have ended. */
  readonly off: Effect.Effect<void>
}

interface Plan {
  readonly at: "before" | "after" | SqlError.SqlError
  readonly chosen: Chosen
}

interface Run {
  statements: Array<string>
  plan: Plan | undefined
  isCut: boolean
}

/** What the clean-up of a dead device meets. */
const dead = new SqlError.SqlError({ cause: new Error("no power"), message: "no power" })

const cutIn = (run: Run): Effect.Effect<never> =>
  Effect.suspend(() => {
    run.isCut = true
    return Effect.interrupt
  })

const guard = (run: Run) => <A>(text: string, act: Effect.Effect<A, SqlError.SqlError>) =>
  Effect.suspend(() => {
    if (run.isCut) return Effect.fail(dead)
    const position = run.statements.push(text)
    if (run.plan === undefined || !run.plan.chosen(text, position)) return act
    const { at } = run.plan
    run.plan = undefined
    if (at === "before") return cutIn(run)
    return at === "after" ? Effect.zipRight(act, cutIn(run)) : Effect.fail(at)
  })

const guarded = (connection: SqlConnection.Connection, run: Run): SqlConnection.Connection => {
  const through = guard(run)
  return {
    execute: (text, parameters, transform) => through(text, connection.execute(text, parameters, transform)),
    executeRaw: (text, parameters) => through(text, connection.executeRaw(text, parameters)),
    executeStream: (text, parameters, transform) => connection.executeStream(text, parameters, transform),
    executeValues: (text, parameters) => through(text, connection.executeValues(text, parameters)),
    executeUnprepared: (text, parameters, transform) =>
      through(text, Effect.suspend(() => connection.executeUnprepared(text, parameters, transform)))
  }
}

const guardedSql = (sqlite: SqlClient.SqlClient, run: Run) =>
  SqlClient.make({
    acquirer: Effect.map(Effect.scoped(sqlite.reserve), (connection) => guarded(connection, run)),
    transactionAcquirer: Effect.map(sqlite.reserve, (connection) => guarded(connection, run)),
    compiler: Statement.makeCompilerSqlite(),
    spanAttributes: []
  }).pipe(Effect.provide(Reactivity.layer))

const guardedHttp = (http: HttpClient.HttpClient, run: Run) =>
  HttpClient.make((request) =>
    Effect.suspend(() =>
      run.isCut
        ? Effect.fail(new HttpClientError.RequestError({ request, reason: "Transport", cause: dead }))
        : http.execute(request)
    )
  )

/** Starts a device on a file; the tables are created if they are not there. It is neither opened nor attached. */
export const powerOn = Effect.fnUntraced(function*(
  network: Network,
  filename: string,
  options: Partial<SyncOptions> & { readonly user?: string; readonly ddl?: ReadonlyArray<string> } = {}
) {
  const run: Run = { statements: [], plan: undefined, isCut: false }
  const scope = yield* Scope.make()
  const context = yield* Layer.buildWithScope(SqliteClient.layer({ filename }), scope)
  const sqlite = Context.get(context, SqliteClient.SqliteClient)
  // The power is cut by not asking any more: what the disk has written through does not matter.
  yield* sqlite.unsafe("PRAGMA synchronous = OFF")
  for (const statement of options.ddl ?? ddl) {
    yield* sqlite.unsafe(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS "))
  }
  const sync = yield* makeClient({ baseUrl: "http://localhost", schema: "business", tables, ...options }).pipe(
    Effect.provideServiceEffect(SqlClient.SqlClient, guardedSql(sqlite, run)),
    Effect.provideService(HttpClient.HttpClient, guardedHttp(network.client, run)),
    Effect.provide(Credentials.layerBearer(options.user ?? "ann")),
    Scope.extend(scope)
  )
  const planned = (plan: Plan) =>
    Effect.sync(() => {
      run.statements = []
      run.plan = plan
    })
  const device: PoweredDevice = {
    sync,
    sql: sqlite,
    run: (text, parameters) => Effect.orDie(sqlite.unsafe(text, parameters)),
    off: Scope.close(scope, Exit.void),
    power: {
      get statements() {
        return run.statements
      },
      forget: Effect.sync(() => void (run.statements = [])),
      isCut: Effect.sync(() => run.isCut),
      cut: cutIn(run),
      cutAt: (at, chosen) => planned({ at, chosen }),
      failAt: (chosen, at) => planned({ at, chosen })
    }
  }
  return device
}, Effect.orDie)

/** Starts a device on a file, opens it and attaches the user. */
export const powerOnAttached = Effect.fnUntraced(function*(
  network: Network,
  filename: string,
  options: Parameters<typeof powerOn>[2] = {}
) {
  const device = yield* powerOn(network, filename, options)
  yield* device.sync.open
  yield* device.sync.attach(options.user ?? "ann")
  return device
}, Effect.orDie)
