/**
 * What building a client does to the database: pragmas, tables, triggers, and what follows from tables that came, went or
 * changed since the last time (client-state.md §3, §4; capture.md §10).
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { StorageError } from "../contract/SyncError.js"
import { ConfigurationError } from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import { dropEngineTriggers, installTriggers, isEngineTrigger } from "./ChangeCapture.js"
import { localReferences } from "./LocalReferences.js"
import { execute } from "./Statement.js"
import { catchSql, storageCode } from "./StorageFailure.js"
import * as SyncSchema from "./SyncSchema.js"
import type { SyncTableConfig, SyncTables } from "./SyncTable.js"
import type { Catalogue } from "./TableCatalogue.js"
import { readCatalogue } from "./TableCatalogue.js"
import * as TableChanges from "./TableChanges.js"
import type { ConfigurationProblem } from "./TableInspector.js"
import { inspect } from "./TableInspector.js"
import { immediate, retryBusy } from "./Transaction.js"

export { capturePreExisting, checkPreExisting, dropTriggers } from "./ChangeCapture.js"
export { canonicaliseKeys } from "./SyncSchema.js"

/**
 * Options of {@link install}.
 *
 * @since 0.1.0
 * @category models
 */
export interface InstallOptions {
  /** Name of the server's schema: letters a–z, digits, underscores. One per database. */
  readonly schema: string
  /** The tables to keep in step, in the order in which their rows are first queued. May be empty. */
  readonly tables: ReadonlyArray<SyncTableConfig>
  /** Tables that left the configuration and whose pending rows may be thrown away (capture.md §10). */
  readonly discardPendingOf?: ReadonlyArray<string> | undefined
  /** `PRAGMA synchronous`; the driver's own setting if absent (DESIGN D13). */
  readonly synchronous?: "normal" | "full" | undefined
}

const configurationError = (problem: ConfigurationProblem): Effect.Effect<never, ConfigurationError> =>
  raise((operation) => new ConfigurationError({ operation, ...problem }))

// A busy, full or damaged database says nothing about the configuration and stays what it is.
const blaming =
  (problem: ConfigurationProblem) =>
  <A, E, R>(self: Effect.Effect<A, E | SqlError, R>): Effect.Effect<A, E | SqlError | ConfigurationError, R> =>
    Effect.catchIf(
      self,
      (error): error is E & SqlError => error instanceof SqlError && storageCode(error) === "other",
      () => configurationError(problem)
    )

const probe = `SELECT json_object('r', 0.1 + 0.2) = '{"r":0.30000000000000004}' AS exact_reals,
       unhex('00-ff', '-') = x'00ff' AS unhex_ignores,
       (SELECT json_group_array(value ORDER BY value) FROM json_each('[2,1]')) = '[1,2]' AS ordered_aggregate`

const minimumBusyTimeout = 5000

/** Sets the connection up (client-state.md §3 steps 3, 4, §3.2). Pragmas cannot be changed inside a transaction. */
const prepareConnection = (
  synchronous: InstallOptions["synchronous"]
): Effect.Effect<void, ConfigurationError | SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const run = yield* execute
    const failed = (setting: string, answer = "an error"): ConfigurationProblem => ({
      code: "pragma_failed",
      detail: `PRAGMA ${setting} was answered with ${answer}`
    })
    const pragma = (setting: string) =>
      retryBusy(run<Record<string, unknown>>(`PRAGMA ${setting}`)).pipe(
        blaming(failed(setting)),
        Effect.map(([row]) => row === undefined ? undefined : Object.values(row)[0])
      )
    const expecting = (setting: string, allowed: ReadonlyArray<unknown>, question: string) =>
      Effect.flatMap(Effect.zipRight(pragma(setting), pragma(question)), (answer) =>
        allowed.includes(answer) ? Effect.void : configurationError(failed(setting, String(answer))))

    const timeout = yield* pragma("busy_timeout")
    if (typeof timeout !== "number" || timeout < minimumBusyTimeout) {
      yield* pragma(`busy_timeout = ${minimumBusyTimeout}`)
    }
    yield* expecting("journal_mode = WAL", ["wal", "memory"], "main.journal_mode")
    const [answer] = yield* blaming({
      code: "sqlite_unsupported",
      detail: "this SQLite lacks functions that sync needs"
    })(
      run<Record<string, unknown>>(probe)
    )
    const lacking = Object.entries(answer ?? {}).filter(([, value]) =>
      value !== 1
    ).map(([name]) => name)
    if (answer === undefined || lacking.length > 0) {
      return yield* configurationError({
        code: "sqlite_unsupported",
        detail: `this SQLite lacks what sync needs: ${lacking.join(", ")}`
      })
    }
    yield* expecting("foreign_keys = ON", [1], "foreign_keys")
    yield* expecting("recursive_triggers = ON", [1], "recursive_triggers")
    if (synchronous !== undefined) yield* pragma(`synchronous = ${synchronous.toUpperCase()}`)
  })

/**
 * The configured schema without the white space around it, or the `ConfigurationError` that refuses it: `schema_missing`,
 * `schema_invalid`. Needs no database (client-state.md §3 step 1, §4).
 *
 * @since 0.1.0
 * @category installation
 */
export const validSchema = (configured: string): Effect.Effect<string, ConfigurationError> => {
  const schema = configured.trim()
  if (schema === "") return configurationError({ code: "schema_missing", detail: "a schema must be configured" })
  return /^[a-z0-9_]+$/.test(schema)
    ? Effect.succeed(schema)
    : configurationError({
      code: "schema_invalid",
      detail: `schema ${schema} must consist of lowercase letters, digits and underscores`
    })
}

const scopedTables = [
  "_sync_attachment_state",
  "_sync_row_state",
  "_sync_dirty_rows",
  "_sync_snapshot_stage",
  "_sync_outbox_rows",
  "_sync_push_stage"
]

/** The configured schema must be the only one in the database (client-state.md §4). */
const checkScope = (schema: string): Effect.Effect<void, ConfigurationError | SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const run = yield* execute
    // Two ranges on both sides of the schema: with an index on it the question costs nothing, however many rows there are.
    const other = scopedTables.map((table) =>
      `EXISTS (SELECT 1 FROM ${table} WHERE schema_name > '${schema}')
         OR EXISTS (SELECT 1 FROM ${table} WHERE schema_name > '' AND schema_name < '${schema}')`
    )
    const [answer] = yield* run<{ readonly other: number }>(`SELECT ${other.join(" OR ")} AS other`)
    if (answer?.other !== 1) return
    const found = yield* run<{ readonly schema_name: string }>(
      `${scopedTables.map((table) => `SELECT schema_name FROM ${table} WHERE trim(schema_name) <> ''`).join(" UNION ")}
        ORDER BY schema_name`
    )
    if (found.every(({ schema_name }) => schema_name === schema)) return
    return yield* configurationError({
      code: "schema_scope_mismatch",
      detail: `a database holds exactly one configured schema; found ${
        found.map(({ schema_name }) => schema_name).join(", ")
      }, configured ${schema}`
    })
  })

const inspected = (
  config: ReadonlyArray<SyncTableConfig>,
  catalogue: Catalogue
): Effect.Effect<SyncTables["tables"], ConfigurationError> =>
  Either.match(inspect(config, catalogue), { onLeft: configurationError, onRight: Effect.succeed })

const renderTriggers = (
  schema: string,
  tables: SyncTables["tables"],
  catalogue: Catalogue
): Effect.Effect<SyncTables, ConfigurationError | SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const run = yield* execute
    const changed = yield* blaming({
      code: "trigger_failed",
      detail: "the triggers of a managed table cannot be created"
    })(
      installTriggers(schema, tables, catalogue.triggers)
    )
    const version = changed
      ? (yield* run<{ readonly schema_version: number }>("PRAGMA main.schema_version"))[0]?.schema_version
      : catalogue.schemaVersion
    return {
      schema,
      tables,
      localReferences: localReferences(tables, catalogue.foreignKeys),
      schemaVersion: version ?? catalogue.schemaVersion
    }
  })

const warnAboutHostTriggers = (tables: SyncTables["tables"], catalogue: Catalogue): Effect.Effect<void> => {
  const managed = new Set(tables.map(({ name }) => name))
  const triggers = catalogue.triggers.filter((trigger) =>
    managed.has(trigger.table.toLowerCase()) && !isEngineTrigger(trigger)
  )
  return triggers.length === 0 ? Effect.void : Effect.logWarning(
    "triggers of the host on managed tables also fire while the server's rows are written, and may fire recursively; "
      + "they should test that apply_mode in _sync_apply_state is 0: "
      + triggers.map(({ name, table }) => `${name} on ${table}`).join(", ")
  )
}

/**
 * Installs the sync state: pragmas, then in one immediate transaction the `_sync_*` tables, the six triggers of every
 * configured table and what capture.md §10 asks for tables that came, went or changed. Everything else of the database
 * stays. A refusal leaves no trace but the pragmas. Idempotent; needs to be outside of any transaction.
 *
 * - `ConfigurationError`: the configuration, the tables or this SQLite do not do (errors.md §1.4)
 * - `StorageError`: SQLite failed
 *
 * Warns once about triggers of the host on managed tables. (client-state.md §3 steps 3–11, §4; capture.md §2, §10)
 *
 * @since 0.1.0
 * @category installation
 */
export const install = (
  options: InstallOptions
): Effect.Effect<SyncTables, ConfigurationError | StorageError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const run = yield* execute
    const schema = yield* validSchema(options.schema)
    yield* prepareConnection(options.synchronous)
    const { catalogue, installed } = yield* immediate(sql)(Effect.gen(function*() {
      yield* SyncSchema.create
      yield* run("UPDATE _sync_apply_state SET apply_mode = 0 WHERE apply_mode <> 0")
      yield* checkScope(schema)
      const catalogue = yield* readCatalogue(options.tables.map(({ name }) => name))
      const tables = yield* inspected(options.tables, catalogue)
      const problem = yield* TableChanges.findProblem(schema, tables, options.discardPendingOf ?? [])
      if (problem !== undefined) return yield* configurationError(problem)
      const installed = yield* renderTriggers(schema, tables, catalogue)
      yield* TableChanges.adopt(
        schema,
        options.tables.flatMap(({ name }) => tables.filter((table) => table.name === name.trim().toLowerCase()))
      )
      return { catalogue, installed }
    }))
    yield* warnAboutHostTriggers(installed.tables, catalogue)
    return installed
  }).pipe(catchSql)

/**
 * Looks at the tables again if `PRAGMA schema_version` says that somebody has changed the schema, and gives tables that
 * were altered their new triggers (capture.md §10, last line). Runs inside the engine's transaction; keep the answer only
 * after that has committed. One statement if nothing has changed.
 *
 * Fails with `ConfigurationError` if a managed table is not usable any more.
 *
 * @since 0.1.0
 * @category installation
 */
export const refreshIfChanged = (
  installed: SyncTables
): Effect.Effect<SyncTables, ConfigurationError | StorageError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const run = yield* execute
    const [version] = yield* run<{ readonly schema_version: number }>("PRAGMA main.schema_version")
    if (version?.schema_version === installed.schemaVersion) return installed
    const config = installed.tables.map(({ declaredName, key }) => ({ name: declaredName, key: key.declaredName }))
    const catalogue = yield* readCatalogue(config.map(({ name }) => name))
    return yield* renderTriggers(installed.schema, yield* inspected(config, catalogue), catalogue)
  }).pipe(catchSql)

/**
 * Removes everything that {@link install} has put into the database: all triggers of the engine and its twelve tables.
 * The rows of the host stay. Runs inside the transaction of `uninstallSync` (lifecycle.md §8).
 *
 * @since 0.1.0
 * @category installation
 */
export const uninstall: Effect.Effect<void, StorageError, SqlClient.SqlClient> = catchSql(
  Effect.zipRight(dropEngineTriggers, SyncSchema.drop)
)
