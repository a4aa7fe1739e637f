/**
 * The directory that holds the server's data, and the store in it.
 *
 * @since 0.1.0
 */
import * as Options from "@effect/cli/Options"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import type { TableDeclaration } from "../server/index.js"
import { ServerStorageSqlite, SyncServer } from "../server/index.js"
import { CommandFailed } from "./CommandFailed.js"
import { reasonOf } from "./TextFile.js"

const subject = "--data"

/**
 * `--data DIR`
 *
 * @since 0.1.0
 * @category options
 */
export const option: Options.Options<string> = Options.text("data").pipe(
  Options.withPseudoName("DIR"),
  Options.withDescription("Directory of the server's data: one SQLite file. One server at a time works on it.")
)

/**
 * The database of a directory, in which no other server works as long as the scope is open. `file` is its absolute path.
 *
 * @since 0.1.0
 * @category models
 */
export interface DataDirectory {
  readonly file: string
  readonly isNew: boolean
  readonly sql: SqlClient.SqlClient
  /** A second connection, for reading. */
  readonly reader: SqlClient.SqlClient
}

const failed = (problem: string) => new CommandFailed({ subject, problem })

/** The failure of the driver itself, beneath what others have wrapped around it. */
const driverError = (error: unknown): unknown =>
  Predicate.hasProperty(error, "cause") && error.cause !== undefined ? driverError(error.cause) : error

const codeOf = (error: unknown): string => Predicate.hasProperty(error, "code") ? String(error.code) : ""

const cannotUse = (file: string, error: unknown): CommandFailed => {
  const driver = driverError(error)
  const code = codeOf(driver)
  if (code === "SQLITE_NOTADB") return failed(`${file} is not a SQLite database`)
  if (code.startsWith("SQLITE_BUSY")) return failed(`${file} is locked by another process`)
  return failed(`cannot use ${file}: ${Predicate.isError(driver) ? driver.message : String(driver)}`)
}

/** Opens a file until the scope closes. Where the driver throws, which is a defect of its layer, the command fails. */
const open = (
  file: string,
  pragmas: ReadonlyArray<string>,
  options: { readonly disableWAL?: boolean } = {}
): Effect.Effect<SqlClient.SqlClient, CommandFailed, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Layer.build(SqliteClient.layer({ filename: file, ...options }))
    const sql = Context.get(context, SqlClient.SqlClient)
    yield* Effect.forEach(pragmas, (pragma) => sql.unsafe(pragma), { discard: true })
    return sql
  }).pipe(Effect.catchAllCause((cause) => cannotUse(file, Cause.squash(cause))))

/**
 * Keeps other servers out until the scope closes or the process dies: a lock on a file of its own, so that the data file
 * can be copied while the server runs.
 */
const lock = (directory: string, file: string): Effect.Effect<void, CommandFailed, Scope.Scope> =>
  open(
    file,
    ["PRAGMA busy_timeout = 0", "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT"],
    { disableWAL: true }
  ).pipe(
    Effect.mapError((error) =>
      error.problem.endsWith("is locked by another process")
        ? failed(`another server works in ${directory}`)
        : error
    ),
    Effect.asVoid
  )

/**
 * Opens the database of a directory until the scope closes. With `create` a missing directory or database is created,
 * readable by nobody else; without it, it is refused.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  directory: string,
  { create }: { readonly create: boolean }
): Effect.fn.Return<DataDirectory, CommandFailed, FileSystem.FileSystem | Path.Path | Scope.Scope> {
  const files = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.resolve(directory)
  const file = path.join(folder, "oversqlite.db")
  const existed = yield* Effect.orElseSucceed(files.exists(file), () => false)
  if (!existed && !create) return yield* failed(`there is no ${file}`)
  yield* Effect.mapError(
    files.makeDirectory(folder, { recursive: true, mode: 0o700 }),
    (error) => failed(`cannot create ${folder}: ${reasonOf(error)}`)
  )
  yield* lock(folder, path.join(folder, "oversqlite.lock"))
  const sql = yield* open(file, [])
  const reader = yield* open(file, [])
  return { file, isNew: !existed, sql, reader }
})

/**
 * The server of a directory, for the declared tables.
 *
 * @since 0.1.0
 * @category layers
 */
export const server = (
  directory: DataDirectory,
  tables: ReadonlyArray<TableDeclaration>
): Layer.Layer<SyncServer, CommandFailed> =>
  SyncServer.layer({ tables }).pipe(
    Layer.provide(ServerStorageSqlite.layerWith({ reader: Layer.succeed(SqlClient.SqlClient, directory.reader) })),
    Layer.provide(Layer.succeed(SqlClient.SqlClient, directory.sql)),
    Layer.mapError((error) =>
      error._tag === "InvalidTableDeclaration"
        ? new CommandFailed({ subject: "--tables", problem: error.message })
        : cannotUse(directory.file, error)
    )
  )
