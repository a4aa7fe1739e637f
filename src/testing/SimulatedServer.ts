/**
 * The server of a simulation: the real one on a real file, in fibers of its own. It can stop at any point, start again,
 * and go back to a backup.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as fs from "node:fs"
import { Authentication } from "../server/Authentication.js"
import { Identifiers } from "../server/Identifiers.js"
import * as InProcess from "../server/InProcess.js"
import type { ServerOptions } from "../server/ServerSettings.js"
import type { StoredRow } from "../server/ServerStorage.js"
import * as ServerStorageSqlite from "../server/ServerStorageSqlite.js"
import { SyncServer } from "../server/SyncServer.js"
import * as CrashPoints from "./CrashPoints.js"
import type * as Prng from "./Prng.js"
import type { SimulatedSchema, StampedRow } from "./SimulatedSchema.js"

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
  readonly service: Effect.Effect<SyncServer["Type"] | undefined>
  /** The live rows of a user as `table key` → stamp. */
  readonly rows: (user: string) => Effect.Effect<ReadonlyMap<string, StampedRow>>
  /** The number of a user's newest bundle, and the versions of the live rows by `table key`. */
  readonly known: (user: string) => Effect.Effect<{
    readonly latest: number
    readonly versions: ReadonlyMap<string, number>
  }>
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
}

/** Builds a server that is not started yet. @internal */
export const make = (parts: ServerParts): SimulatedServer => {
  let filename = parts.file()
  let machine = parts.makeMachine()
  let running: Running | undefined

  const nameOf = ({ key, table }: StoredRow) => {
    const blob = parts.schema.tables.find(({ name }) => name === table.table)?.isBlobKey === true
    return `${table.table} ${blob ? key.replaceAll("-", "") : key}`
  }

  const launch = Effect.gen(function*() {
    machine = parts.makeMachine()
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

  const client = HttpClient.make((request, url) =>
    Effect.gen(function*() {
      const down = (cause: unknown) => new HttpClientError.RequestError({ request, reason: "Transport", cause })
      const now = running
      if (now === undefined) return yield* down(new Error("connection refused"))
      // In a fiber of the server: it goes on when the client dies, and dies with the server.
      const fiber = yield* now.http.execute(request).pipe(
        Effect.flatMap((response) =>
          Effect.map(response.text, (text) => ({ status: response.status, headers: response.headers, text }))
        ),
        Effect.forkIn(now.scope)
      )
      const exit = yield* Fiber.await(fiber)
      if (machine.stopped && running === now) yield* stop
      if (Exit.isFailure(exit)) return yield* down(exit.cause)
      const { headers, status, text } = exit.value
      const changed = text === "" ? text : parts.change(url, text)
      const kept = new Headers(Object.entries(headers).filter(([name]) => name !== "content-length"))
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
    start: Effect.suspend(() => running === undefined ? launch : Effect.void),
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
    service: Effect.sync(() => running?.service),
    rows: Effect.fnUntraced(function*(user) {
      if (running === undefined) return new Map<string, StampedRow>()
      const rows = yield* Stream.runCollect(running.service.rows(user))
      const stamp = parts.schema.stamp ?? "stamp"
      return new Map(
        Chunk.toReadonlyArray(rows).map((row) => {
          const fields: Readonly<Record<string, unknown>> = JSON.parse(row.payload)
          return [nameOf(row), { stamp: String(fields[stamp]), owners: [] }] as const
        })
      )
    }, Effect.orDie),
    known: Effect.fnUntraced(function*(user) {
      if (running === undefined) return { latest: 0, versions: new Map<string, number>() }
      const [scope] = yield* running.sqlite.unsafe<{ readonly latest: number }>(
        "SELECT latest_bundle_seq AS latest FROM server_scope WHERE user_id = ?",
        [user]
      )
      const rows = yield* Stream.runCollect(running.service.rows(user))
      const versions = Chunk.toReadonlyArray(rows).map((row) => [nameOf(row), row.rowVersion] as const)
      return { latest: scope?.latest ?? 0, versions: new Map(versions) }
    }, Effect.orDie)
  }
}
