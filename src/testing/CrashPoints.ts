/**
 * A machine that can stop at any point: before and after every SQL statement (`BEGIN`, `COMMIT` and `ROLLBACK`
 * included) and at the three edges of every HTTP request.
 *
 * A stopped machine reaches neither its database nor the network any more. What a transaction has not committed is gone
 * as soon as its connection is closed, as after a crash.
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
 * A machine. `passed` counts the points it has passed since it started; it stops at the point whose number is `stopAt`
 * (1-based).
 *
 * @since 0.1.0
 * @category models
 */
export interface Machine {
  stopped: boolean
  passed: number
  stopAt: number | undefined
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
  notice: options.notice ?? (() => undefined),
  onStop: options.onStop ?? (() => undefined),
  rewrite: options.rewrite ?? ((text) => text)
})

/** The machine comes to a point; it may be its last one. */
const point = (machine: Machine, name: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (machine.stopped) return Effect.interrupt
    machine.passed++
    machine.notice(name)
    if (machine.passed !== machine.stopAt) return Effect.void
    machine.stopped = true
    machine.onStop(name)
    return Effect.interrupt
  })

/** What the clean-up of a stopped machine meets. */
const noPower = new SqlError.SqlError({
  cause: new Error("the machine has stopped"),
  message: "the machine has stopped"
})

const guarded = (connection: Connection, machine: Machine): Connection => {
  const through = <A>(text: string, act: (text: string) => Effect.Effect<A, SqlError.SqlError>) =>
    Effect.suspend(() => {
      if (machine.stopped) return Effect.fail(noPower)
      return point(machine, `before ${text}`).pipe(
        Effect.zipRight(Effect.suspend(() => act(machine.rewrite(text)))),
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
  HttpClient.make((request, url) =>
    Effect.gen(function*() {
      if (machine.stopped) {
        return yield* new HttpClientError.RequestError({ request, reason: "Transport", cause: noPower })
      }
      const name = `${request.method} ${url.pathname.replaceAll(/[0-9a-f-]{36}|\d+/gu, "*")}`
      yield* point(machine, `send ${name}`)
      const exit = yield* Effect.exit(client.execute(request))
      yield* point(machine, `acted ${name}`)
      const response = yield* exit
      yield* point(machine, `use ${name}`)
      return response
    })
  )
