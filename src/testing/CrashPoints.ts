/**
 * A machine on which something happens at any point one likes: before and after every SQL statement (`BEGIN`, `COMMIT` and
 * `ROLLBACK` included) and at the three edges of every HTTP request.
 *
 * A machine that has stopped reaches neither its database nor the network any more. What a transaction has not committed
 * is gone as soon as its connection is closed, as after a crash.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import * as SqlError from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import * as Effect from "effect/Effect"

/**
 * How a statement or a request fails. `SQLITE_FULL` also ends the transaction, as SQLite does then; `connection error`
 * meets one request, `offline` that request and all after it.
 *
 * @since 0.1.0
 * @category models
 */
export type Failure = "SQLITE_IOERR" | "SQLITE_FULL" | "SQLITE_BUSY" | "connection error" | "offline"

/**
 * What happens at a point: the machine stops, somebody interrupts the fiber that is at work, or what follows fails. A
 * failure needs a statement before it runs, or a request before it is sent or after the server has acted.
 *
 * @since 0.1.0
 * @category models
 */
export type Incident =
  | { readonly kind: "crash" }
  | { readonly kind: "interrupt"; readonly interrupt: () => void }
  | { readonly kind: "fail"; readonly failure: Failure }

/**
 * A machine. `passed` counts the points it has passed since it started; its incident happens at the point whose number is
 * `stopAt` (1-based).
 *
 * @since 0.1.0
 * @category models
 */
export interface Machine {
  stopped: boolean
  passed: number
  stopAt: number | undefined
  /** What happens at `stopAt`; a crash unless it is set. */
  incident: Incident
  /** The name of the point at which it has happened. */
  struck: string | undefined
  /** Requests fail. */
  offline: boolean
  /** Hears the names of the points before anything else happens there. */
  observe: ((point: string) => Effect.Effect<void>) | undefined
  /** Told the name of every point. */
  readonly notice: (point: string) => void
  /** Told when the machine stops by itself. */
  readonly onStop: (point: string) => void
  /** The text that is run in place of a statement: for defects that are planted on purpose. */
  readonly rewrite: (text: string) => string
}

/**
 * A machine that is running.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Partial<Pick<Machine, "notice" | "onStop" | "rewrite" | "stopAt">> = {}): Machine => ({
  stopped: false,
  passed: 0,
  stopAt: options.stopAt,
  incident: { kind: "crash" },
  struck: undefined,
  offline: false,
  observe: undefined,
  notice: options.notice ?? (() => undefined),
  onStop: options.onStop ?? (() => undefined),
  rewrite: options.rewrite ?? ((text) => text)
})

const noIncident: Effect.Effect<undefined> = Effect.as(Effect.void, undefined)

/** The machine comes to a point, which may be its last one; the value is how what follows fails. */
const point = (machine: Machine, name: string): Effect.Effect<Failure | undefined> =>
  machine.observe === undefined || machine.stopped
    ? incidentAt(machine, name)
    : Effect.zipRight(machine.observe(name), incidentAt(machine, name))

const incidentAt = (machine: Machine, name: string): Effect.Effect<Failure | undefined> =>
  Effect.suspend(() => {
    if (machine.stopped) return Effect.interrupt
    machine.passed++
    machine.notice(name)
    if (machine.passed !== machine.stopAt) return noIncident
    const { incident } = machine
    machine.struck = name
    switch (incident.kind) {
      case "crash": {
        machine.stopped = true
        machine.onStop(name)
        return Effect.interrupt
      }
      case "interrupt": {
        incident.interrupt()
        // The fiber may be a child of the one that was interrupted, and hears of it in its turn.
        return Effect.as(Effect.yieldNow(), undefined)
      }
      case "fail":
        return Effect.succeed(incident.failure)
    }
  })

/** What the clean-up of a stopped machine meets. */
const noPower = new SqlError.SqlError({
  cause: new Error("the machine has stopped"),
  message: "the machine has stopped"
})

/** The error of a driver. */
const refused = (failure: Failure) =>
  new SqlError.SqlError({
    cause: Object.assign(new Error(`made to fail: ${failure}`), { code: failure }),
    message: "Failed to execute statement"
  })

const guarded = (connection: Connection, machine: Machine): Connection => {
  const through = <A>(text: string, act: (text: string) => Effect.Effect<A, SqlError.SqlError>) =>
    Effect.suspend(() => {
      if (machine.stopped) return Effect.fail(noPower)
      return point(machine, `before ${text}`).pipe(
        Effect.flatMap((failure) => {
          if (failure === undefined) return Effect.suspend(() => act(machine.rewrite(text)))
          const end = failure === "SQLITE_FULL"
            ? Effect.ignore(Effect.sandbox(connection.executeUnprepared("ROLLBACK", [], undefined)))
            : Effect.void
          return Effect.zipRight(end, refused(failure))
        }),
        Effect.tap(() => point(machine, `after ${text}`))
      )
    })
  return {
    execute: (text, parameters, transform) => through(text, (sql) => connection.execute(sql, parameters, transform)),
    executeRaw: (text, parameters) => through(text, (sql) => connection.executeRaw(sql, parameters)),
    executeStream: (text, parameters, transform) => connection.executeStream(text, parameters, transform),
    executeValues: (text, parameters) => through(text, (sql) => connection.executeValues(sql, parameters)),
    executeUnprepared: (text, parameters, transform) =>
      through(text, (sql) => connection.executeUnprepared(sql, parameters, transform))
  }
}

/**
 * The database of a machine: the given SQLite client with its points. Connections and their locks are shared with it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const sqlClient = (sqlite: SqlClient.SqlClient, machine: Machine): Effect.Effect<SqlClient.SqlClient> =>
  SqlClient.make({
    acquirer: Effect.map(Effect.scoped(sqlite.reserve), (connection) => guarded(connection, machine)),
    transactionAcquirer: Effect.map(sqlite.reserve, (connection) => guarded(connection, machine)),
    compiler: Statement.makeCompilerSqlite(),
    spanAttributes: []
  }).pipe(Effect.provide(Reactivity.layer))

/**
 * The network of a machine: the given client with its points before a request is sent, after the server has acted, and
 * before the answer is used.
 *
 * @since 0.1.0
 * @category constructors
 */
export const httpClient = (client: HttpClient.HttpClient, machine: Machine): HttpClient.HttpClient =>
  HttpClient.make((request, url) => {
    const broken = (cause: unknown) => new HttpClientError.RequestError({ request, reason: "Transport", cause })
    return Effect.gen(function*() {
      if (machine.stopped) return yield* broken(noPower)
      if (machine.offline) return yield* broken(new Error("offline"))
      const meet = Effect.fnUntraced(function*(name: string) {
        const failure = yield* point(machine, name)
        if (failure === undefined) return
        machine.offline = failure === "offline"
        return yield* broken(new Error(`made to fail: ${failure}`))
      })
      const name = `${request.method} ${url.pathname.replaceAll(/[0-9a-f-]{36}|\d+/gu, "*")}`
      yield* meet(`send ${name}`)
      const exit = yield* Effect.exit(client.execute(request))
      yield* meet(`acted ${name}`)
      const response = yield* exit
      yield* meet(`use ${name}`)
      return response
    })
  })
