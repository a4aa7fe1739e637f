/**
 * The server of a simulation: the real one on a real file, in fibers of its own. It can stop at any point, start again,
 * and go back to a backup.
 *
 * @since 0.1.0
 */
import type * as Headers from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as fs from "node:fs"
import { Authentication } from "../server/Authentication.js"
import { Identifiers } from "../server/Identifiers.js"
import * as InProcess from "../server/InProcess.js"
import type { ServerOptions } from "../server/ServerSettings.js"
import * as ServerStorageSqlite from "../server/ServerStorageSqlite.js"
import type { ServerRow } from "../server/ServerWrite.js"
import { SyncServer } from "../server/SyncServer.js"
import * as CrashPoints from "./CrashPoints.js"
import * as PowerCut from "./PowerCut.js"
import type * as Prng from "./Prng.js"
import type { SimulatedSchema, StampedRow } from "./SimulatedSchema.js"
import { ownersOf } from "./SimulatedSchema.js"

/** A server that can be stopped, started, copied and put back to a copy. @internal */
export interface SimulatedServer {
  /** The network to it; requests fail while it is down. */
  readonly client: HttpClient.HttpClient
  readonly isUp: () => boolean
  /** The path of its database. */
  readonly file: () => string
  readonly machine: () => CrashPoints.Machine
  readonly start: Effect.Effect<void>
  /** Stops at once; what is under way is cut off. */
  readonly stop: Effect.Effect<void>
  /** A copy of its file. */
  readonly backup: Effect.Effect<string>
  /** Starts on a copy of a backup, with the history id that was in it or a new one. */
  readonly restore: (backup: string, renewHistory: boolean) => Effect.Effect<void>
  /** Stops at once and goes back to what is flushed for sure, or to something newer; the value is the number of commits lost. */
  readonly cutPower: (prng: Prng.Prng) => Effect.Effect<number>
  /** Starts with nothing. */
  readonly wipe: Effect.Effect<void>
  /** Runs beside the server's own work, until it stops. */
  readonly beside: (self: Effect.Effect<unknown>) => Effect.Effect<void>
  /**
   * A write of the backend to some row of a user: a new stamp, a copy under another key, or a delete. The value says what it
   * would do, and whether the server has acknowledged it; `undefined` if there is nothing to write to.
   */
  readonly write: (user: string, prng: Prng.Prng, stamp: string) => Effect.Effect<BackendWrite | undefined>
  readonly service: Effect.Effect<SyncServer["Type"] | undefined>
  /** The live rows of a user as `table key` → stamp. */
  readonly rows: (user: string) => Effect.Effect<ReadonlyMap<string, StampedRow>>
  /** The number of a user's newest bundle, and the versions of the live rows by `table key`. */
  readonly known: (user: string) => Effect.Effect<{
    readonly latest: number
    readonly versions: ReadonlyMap<string, number>
  }>
}

interface Answered {
  readonly status: number
  readonly headers: Headers.Headers
  readonly text: string
  /** The answer itself, if it is a stream. */
  readonly response?: HttpClientResponse.HttpClientResponse
}

/** What a backend has tried. @internal */
export interface BackendWrite {
  readonly row: string
  /** The stamp of the row before, `undefined` for a new one. */
  readonly before: string | undefined
  readonly deletes: boolean
  /** `unknown` if the server stopped before it answered. */
  readonly outcome: "committed" | "refused" | "unknown"
}

interface Running {
  readonly scope: Scope.CloseableScope
  readonly http: HttpClient.HttpClient
  readonly service: SyncServer["Type"]
  readonly sqlite: SqlClient.SqlClient
}

/** What a server is made of when it is started. @internal */
export interface ServerParts {
  readonly schema: SimulatedSchema
  readonly prng: Prng.Prng
  readonly file: () => string
  readonly options?: ServerOptions | undefined
  readonly makeMachine: () => CrashPoints.Machine
  readonly change: (url: URL, text: string) => string
  /** Told of every change event that leaves the server. */
  readonly onEvent?: (() => void) | undefined
}

const flushedCommit = "after COMMIT"

/** A live row of the store. */
interface Kept {
  readonly table: string
  readonly key: string
  readonly version: number
  readonly payload: string
}

/** Builds a server that is not started yet. @internal */
export const make = (parts: ServerParts): SimulatedServer => {
  let filename = parts.file()
  let machine = parts.makeMachine()
  let running: Running | undefined
  /** The clock of this machine: requests bring the clocks of their senders along. */
  let clock: Clock.Clock | undefined
  const starting = Effect.unsafeMakeSemaphore(1)
  let flushes = false
  let flushed: PowerCut.LogPosition | undefined

  /** Commits are flushed one by one while `synchronous` is FULL. */
  const noticing = (made: CrashPoints.Machine): CrashPoints.Machine => ({
    ...made,
    notice: (point) => {
      made.notice(point)
      if (point === "after PRAGMA synchronous = FULL") flushes = true
      else if (point === "after PRAGMA synchronous = NORMAL") flushes = false
      else if (point === flushedCommit && flushes) flushed = PowerCut.position(filename)
    }
  })

  const nameOf = ({ key, table }: Pick<Kept, "key" | "table">) => {
    const blob = parts.schema.tables.find(({ name }) => name === table)?.isBlobKey === true
    return `${table} ${blob ? key.replaceAll("-", "") : key}`
  }

  /** What is committed, whatever the server is doing just now; no point at which it could stop. */
  const kept = Effect.fnUntraced(function*(user: string) {
    const context = yield* Layer.build(SqliteClient.layer({ filename, readonly: true, disableWAL: true }))
    const sql = Context.get(context, SqliteClient.SqliteClient)
    const [scope] = yield* sql<{ readonly latest: number }>`
      SELECT latest_bundle_seq AS latest FROM server_scope WHERE user_id = ${user}`
    const rows = yield* sql<Kept>`
      SELECT substr(t.name, instr(t.name, '.') + 1) AS "table", r.key, r.version, r.payload
        FROM server_row AS r JOIN server_scope USING (scope_id) JOIN server_table AS t USING (table_id)
       WHERE user_id = ${user} AND r.payload IS NOT NULL ORDER BY t.name, r.key`
    return { latest: scope?.latest ?? 0, rows }
  }, Effect.scoped)

  const launch = Effect.gen(function*() {
    machine = noticing(parts.makeMachine())
    clock = yield* Effect.clock
    const scope = yield* Scope.make()
    const sqlite = yield* Layer.buildWithScope(SqliteClient.layer({ filename }), scope)
    const guarded = Layer.effect(
      SqlClient.SqlClient,
      CrashPoints.sqlClient(Context.get(sqlite, SqliteClient.SqliteClient), machine)
    )
    const built = yield* InProcess.layer.pipe(
      Layer.provideMerge(Layer.merge(
        SyncServer.layer({ tables: parts.schema.declarations, ...parts.options }).pipe(
          Layer.provide(ServerStorageSqlite.layer),
          Layer.provide(guarded)
        ),
        Authentication.layerTokenIsUser
      )),
      Layer.buildWithScope(scope),
      Effect.provideService(Identifiers, { uuid: Effect.sync(parts.prng.uuid) })
    )
    running = {
      scope,
      http: Context.get(built, HttpClient.HttpClient),
      service: Context.get(built, SyncServer),
      sqlite: Context.get(sqlite, SqliteClient.SqliteClient)
    }
  }).pipe(Effect.orDie)

  const stop = Effect.suspend(() => {
    machine.stopped = true
    const old = running
    running = undefined
    return old === undefined ? Effect.void : Scope.close(old.scope, Exit.void)
  })

  /** The events of a stream go from a fiber of the server to the one that reads them, until either has enough. */
  const streamed = Effect.fnUntraced(function*(
    now: Running,
    request: HttpClientRequest.HttpClientRequest,
    response: HttpClientResponse.HttpClientResponse
  ) {
    const sent = HttpClientResponse.fromWeb(
      request,
      new Response(null, { status: response.status, headers: new globalThis.Headers(response.headers) })
    )
    const mailbox = yield* Mailbox.make<Uint8Array, HttpClientError.ResponseError>()
    const cut = new HttpClientError.ResponseError({ request, response: sent, reason: "Decode" })
    const fiber = yield* response.stream.pipe(
      Stream.runForEach((bytes) => {
        if (new TextDecoder().decode(bytes).includes("data:")) parts.onEvent?.()
        return mailbox.offer(bytes)
      }),
      Effect.onExit(() => mailbox.fail(cut)),
      Effect.forkIn(now.scope)
    )
    const stream = Stream.ensuring(Mailbox.toStream(mailbox), Effect.fork(Fiber.interrupt(fiber)))
    return Object.defineProperty(sent, "stream", { value: stream })
  })

  const client = HttpClient.make((request, url) =>
    Effect.gen(function*() {
      const down = (cause: unknown) => new HttpClientError.RequestError({ request, reason: "Transport", cause })
      const now = running
      if (now === undefined) return yield* down(new Error("connection refused"))
      // In a fiber of the server: it goes on when the client dies, and dies with the server.
      const streams = url.pathname.endsWith("/sync/watch")
      const fiber = yield* now.http.execute(request).pipe(
        Effect.flatMap((response): Effect.Effect<Answered, HttpClientError.ResponseError> => {
          const { headers, status } = response
          return streams && status === 200
            ? Effect.succeed({ status, headers, text: "", response })
            : Effect.map(response.text, (text) => ({ status, headers, text }))
        }),
        (self) => clock === undefined ? self : Effect.withClock(self, clock),
        Effect.forkIn(now.scope)
      )
      const exit = yield* Fiber.await(fiber)
      if (machine.stopped && running === now) yield* stop
      if (Exit.isFailure(exit)) return yield* down(exit.cause)
      const { headers, response, status, text } = exit.value
      if (response !== undefined) return yield* streamed(now, request, response)
      const changed = text === "" ? text : parts.change(url, text)
      const kept = new globalThis.Headers(Object.entries(headers).filter(([name]) => name !== "content-length"))
      return HttpClientResponse.fromWeb(
        request,
        new Response(changed === "" ? null : changed, { status, headers: kept })
      )
    })
  )

  return {
    client,
    isUp: () => running !== undefined,
    file: () => filename,
    machine: () => machine,
    start: starting.withPermits(1)(Effect.suspend(() => running === undefined ? launch : Effect.void)),
    stop,
    backup: Effect.suspend(() => {
      const copy = parts.file()
      return running === undefined
        ? Effect.sync(() => {
          fs.copyFileSync(filename, copy)
          if (fs.existsSync(`${filename}-wal`)) fs.copyFileSync(`${filename}-wal`, `${copy}-wal`)
          return copy
        })
        : Effect.as(Effect.orDie(running.sqlite.unsafe("VACUUM INTO ?", [copy])), copy)
    }),
    restore: Effect.fnUntraced(function*(backup, renewHistory) {
      yield* stop
      filename = parts.file()
      fs.copyFileSync(backup, filename)
      if (fs.existsSync(`${backup}-wal`)) fs.copyFileSync(`${backup}-wal`, `${filename}-wal`)
      yield* launch
      if (renewHistory) yield* Effect.suspend(() => running?.service.renewHistory ?? Effect.void)
    }, Effect.orDie),
    cutPower: Effect.fnUntraced(function*(prng) {
      const left = parts.file()
      const lost = PowerCut.copy(filename, left, prng, flushed)
      yield* stop
      filename = left
      return lost
    }),
    beside: (self) =>
      Effect.suspend(() => running === undefined ? Effect.void : Effect.asVoid(Effect.forkIn(self, running.scope))),
    wipe: Effect.suspend(() =>
      Effect.zipRight(
        stop,
        Effect.suspend(() => {
          filename = parts.file()
          return launch
        })
      )
    ),
    write: Effect.fnUntraced(function*(user, prng, stamp) {
      const now = running
      if (now === undefined) return undefined
      const chosen = prng.pick((yield* kept(user)).rows)
      if (chosen === undefined) return undefined
      const { key, payload, table } = chosen
      const fields: Readonly<Record<string, unknown>> = JSON.parse(payload)
      const column = parts.schema.stamp ?? "stamp"
      const what = prng.weighted({ update: 6, insert: 2, delete: 2 }) ?? "update"
      const target = what === "insert" ? prng.uuid() : key
      const keyColumn = parts.schema.tables.find(({ name }) => name === table)?.key ?? "id"
      const { [keyColumn]: _, ...others } = fields
      const row: ServerRow = {
        schema: parts.schema.schema,
        table,
        key: target,
        payload: what === "delete" ? null : { ...(what === "insert" ? others : {}), [column]: stamp }
      }
      const exit = yield* now.service.write(user, "backend", [row]).pipe(
        Effect.forkIn(now.scope),
        Effect.flatMap(Fiber.await)
      )
      if (machine.stopped && running === now) yield* stop
      const failure = Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : Option.none()
      const refused = Option.isSome(failure) && failure.value._tag === "SyncRefused"
      return {
        row: nameOf({ key: target, table }),
        before: what === "insert" ? undefined : String(fields[column]),
        deletes: what === "delete",
        outcome: Exit.isSuccess(exit) ? "committed" as const : refused ? "refused" as const : "unknown" as const
      }
    }, Effect.orDie),
    service: Effect.sync(() => running?.service),
    rows: Effect.fnUntraced(function*(user) {
      const stamp = parts.schema.stamp ?? "stamp"
      const { rows } = yield* kept(user)
      return new Map(
        rows.map((row) => {
          const fields: Readonly<Record<string, unknown>> = JSON.parse(row.payload)
          const cascades = parts.schema.tables.find(({ name }) => name === row.table)?.cascades
          return [
            nameOf(row),
            { stamp: String(fields[stamp]), owners: ownersOf(cascades, (column) => fields[column]) }
          ] as const
        })
      )
    }, Effect.orDie),
    known: Effect.fnUntraced(function*(user) {
      const { latest, rows } = yield* kept(user)
      return { latest, versions: new Map(rows.map((row) => [nameOf(row), row.version] as const)) }
    }, Effect.orDie)
  }
}
