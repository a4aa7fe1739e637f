/**
 * How writes of the host become dirty rows: three guard and three capture triggers per table, and the rows that were
 * there before (capture.md §3–§6, §8).
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { StorageError } from "../contract/SyncError.js"
import { LocalDataCode, LocalDataError } from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import {
  anyKeyJson,
  column,
  identifier,
  isInvalidKey,
  isInvalidValue,
  keyJson,
  literal,
  localObject,
  now,
  rowProblem
} from "./SqlText.js"
import { execute } from "./Statement.js"
import { catchSql } from "./StorageFailure.js"
import type { SyncTable, SyncTables } from "./SyncTable.js"
import type { CatalogueTrigger } from "./TableCatalogue.js"

/**
 * A trigger as it should be.
 *
 * @since 0.1.0
 * @category models
 */
export interface TriggerDefinition {
  readonly name: string
  /** Table name as declared. */
  readonly table: string
  readonly sql: string
}

const applyMode = "coalesce((SELECT apply_mode FROM _sync_apply_state WHERE singleton_key = 1), 0)"
const operationKind = "(SELECT kind FROM _sync_operation_state WHERE singleton_key = 1)"

const guardBody = "SELECT RAISE(ABORT, 'SYNC_TRANSITION_PENDING');"

const dirtyColumns = "schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal, updated_at"
const nextOrdinal = "coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0) + 1"

// A row that is dirty already keeps its base version and its place in the order.
const coalescing = `ON CONFLICT (schema_name, table_name, key_json)
    DO UPDATE SET op = excluded.op, payload = excluded.payload, updated_at = excluded.updated_at`

const capture = (
  schema: string,
  table: SyncTable,
  row: { readonly of: "NEW" | "OLD"; readonly op: string; readonly payload: string; readonly when: string }
): string =>
  `INSERT INTO _sync_dirty_rows (${dirtyColumns})
  SELECT ${literal(schema)}, ${literal(table.name)}, k.key_json, ${row.op}, coalesce(s.row_version, 0),
         ${row.payload}, ${nextOrdinal}, ${now}
    FROM (SELECT ${row.of === "NEW" ? keyJson(table, "NEW") : anyKeyJson(table, "OLD")} AS key_json) AS k
    LEFT JOIN _sync_row_state AS s
           ON s.schema_name = ${literal(schema)} AND s.table_name = ${literal(table.name)} AND s.key_json = k.key_json
   WHERE ${row.when}
      ${coalescing};`

const present = (schema: string, table: SyncTable): string =>
  capture(schema, table, {
    of: "NEW",
    op: "CASE s.deleted WHEN 0 THEN 'UPDATE' ELSE 'INSERT' END",
    payload: localObject(table, "NEW"),
    when: "true"
  })

// What an invalid key has captured was never uploaded: it goes with the last row that has the key (capture.md quirk 2).
const absent = (schema: string, table: SyncTable, when: string): string =>
  `${
    capture(schema, table, {
      of: "OLD",
      op: "'DELETE'",
      payload: "NULL",
      when: `${when} AND NOT ${isInvalidKey(table, "OLD")}`
    })
  }
  DELETE FROM _sync_dirty_rows
   WHERE ${when} AND ${isInvalidKey(table, "OLD")}
     AND schema_name = ${literal(schema)} AND table_name = ${literal(table.name)} AND key_json = ${
    anyKeyJson(table, "OLD")
  }
     AND NOT EXISTS (SELECT 1 FROM ${identifier(table.declaredName)} AS t
                      WHERE ${column("t", table.key)} IS ${column("OLD", table.key)});`

const refusals = (table: SyncTable): string =>
  `SELECT RAISE(ABORT, 'SYNC_INVALID_VALUE') WHERE ${isInvalidValue(table, "NEW")};
  SELECT RAISE(ABORT, 'SYNC_INVALID_KEY') WHERE ${isInvalidKey(table, "NEW")};`

// As bytes: to a collation that ignores case the two keys may be one, to the server they are two.
const keyMoved = (table: SyncTable): string =>
  `${column("OLD", table.key)} COLLATE BINARY IS NOT ${column("NEW", table.key)}`

/**
 * The six triggers of a table (capture.md §3): `trg_<table>_bi_guard`, `_bu_guard`, `_bd_guard`, `_ai`, `_au`, `_ad`.
 *
 * Guards abort with `SYNC_TRANSITION_PENDING` while a remote replace is pending. Capture triggers abort with
 * `SYNC_INVALID_KEY` or `SYNC_INVALID_VALUE` what could never be uploaded, and keep one dirty row per key. Both are silent
 * while `apply_mode` is 1.
 *
 * @since 0.1.0
 * @category triggers
 */
export const triggerDefinitions = (schema: string, table: SyncTable): ReadonlyArray<TriggerDefinition> => {
  const trigger = (suffix: string, event: string, when: string, body: ReadonlyArray<string>): TriggerDefinition => {
    const name = `trg_${table.name}_${suffix}`
    return {
      name,
      table: table.declaredName,
      sql: `CREATE TRIGGER ${identifier(name)} ${event} ON ${identifier(table.declaredName)} FOR EACH ROW
WHEN ${when}
BEGIN
  ${body.join("\n  ")}
END`
    }
  }
  const replacing = `${operationKind} = 'remote_replace' AND ${applyMode} <> 1`
  const capturing = `${applyMode} = 0`
  return [
    trigger("bi_guard", "BEFORE INSERT", replacing, [guardBody]),
    trigger("bu_guard", "BEFORE UPDATE", replacing, [guardBody]),
    trigger("bd_guard", "BEFORE DELETE", replacing, [guardBody]),
    trigger("ai", "AFTER INSERT", capturing, [refusals(table), present(schema, table)]),
    trigger("au", "AFTER UPDATE", capturing, [
      refusals(table),
      absent(schema, table, keyMoved(table)),
      present(schema, table)
    ]),
    trigger("ad", "AFTER DELETE", capturing, [absent(schema, table, "true")])
  ]
}

const normalised = (sql: string): string =>
  sql.toLowerCase().replaceAll(/\bif\s+not\s+exists\b/g, " ").replaceAll(/\s+/g, " ").trim()

const sameName = (left: string, right: string): boolean => left.toLowerCase() === right.toLowerCase()

/**
 * Whether a trigger was made by this engine or the reference: named `trg_*`, and writing `_sync_dirty_rows` or holding
 * the guard's text (capture.md §3).
 *
 * @since 0.1.0
 * @category triggers
 */
export const isEngineTrigger = (trigger: CatalogueTrigger): boolean =>
  /^trg_/i.test(trigger.name)
  && (/\b(insert\s+(or\s+\w+\s+)?into|update|delete\s+from)\s+["`[]?_sync_dirty_rows\b/i.test(trigger.sql)
    || trigger.sql.includes("SYNC_TRANSITION_PENDING"))

/**
 * What has to be done to a set of triggers: names to drop, definitions to create. Stored texts are compared without
 * regard to case, white space and `IF NOT EXISTS` (capture.md §3). Engine triggers that belong to none of the tables are
 * dropped.
 *
 * @since 0.1.0
 * @category triggers
 */
export const planTriggers = (
  schema: string,
  tables: ReadonlyArray<SyncTable>,
  stored: ReadonlyArray<CatalogueTrigger>
): { readonly drop: ReadonlyArray<string>; readonly create: ReadonlyArray<TriggerDefinition> } => {
  const wanted = tables.flatMap((table) => triggerDefinitions(schema, table))
  const place = (trigger: CatalogueTrigger) =>
    wanted.find(({ name, table }) => sameName(name, trigger.name) && sameName(table, trigger.table))
  const isCurrent = (trigger: CatalogueTrigger) => {
    const definition = place(trigger)
    return definition !== undefined && normalised(definition.sql) === normalised(trigger.sql)
  }
  return {
    drop: stored.filter((trigger) => !isCurrent(trigger) && (place(trigger) !== undefined || isEngineTrigger(trigger)))
      .map(({ name }) => name),
    create: wanted.filter(({ name }) => !stored.some((trigger) => sameName(trigger.name, name) && isCurrent(trigger)))
  }
}

const dropAll = (names: ReadonlyArray<string>): Effect.Effect<void, SqlError, SqlClient.SqlClient> =>
  Effect.flatMap(
    execute,
    (run) => Effect.forEach(names, (name) => run(`DROP TRIGGER IF EXISTS main.${identifier(name)}`), { discard: true })
  )

/**
 * Gives every table exactly its six triggers and removes those of other tables, inside the caller's transaction. Answers
 * whether anything had to be changed.
 *
 * @since 0.1.0
 * @category triggers
 */
export const installTriggers = (
  schema: string,
  tables: ReadonlyArray<SyncTable>,
  stored: ReadonlyArray<CatalogueTrigger>
): Effect.Effect<boolean, SqlError, SqlClient.SqlClient> =>
  Effect.flatMap(execute, (run) => {
    const { create, drop } = planTriggers(schema, tables, stored)
    return dropAll(drop).pipe(
      Effect.zipRight(Effect.forEach(create, (trigger) => run(trigger.sql), { discard: true })),
      Effect.as(drop.length + create.length > 0)
    )
  })

const storedTriggers: Effect.Effect<ReadonlyArray<CatalogueTrigger>, SqlError, SqlClient.SqlClient> = Effect.flatMap(
  execute,
  (run) =>
    run<CatalogueTrigger>(
      `SELECT name, tbl_name AS "table", sql FROM main.sqlite_schema WHERE type = 'trigger'`
    )
)

const suffixes = ["bi_guard", "bu_guard", "bd_guard", "ai", "au", "ad"]

/**
 * Drops every trigger of the engine, whatever table it is on, and whatever bears the name of one of a registered table;
 * for uninstalling (lifecycle.md §8).
 *
 * @since 0.1.0
 * @category triggers
 */
export const dropEngineTriggers: Effect.Effect<void, SqlError, SqlClient.SqlClient> = Effect.gen(function*() {
  const run = yield* execute
  const registered = yield* run<{ readonly name: string }>("SELECT table_name AS name FROM _sync_managed_tables")
  const ours = new Set(registered.flatMap(({ name }) => suffixes.map((suffix) => `trg_${name}_${suffix}`)))
  const stored = yield* storedTriggers
  yield* dropAll(
    stored.filter((trigger) => ours.has(trigger.name.toLowerCase()) || isEngineTrigger(trigger)).map(({ name }) => name)
  )
})

/**
 * Drops the engine's triggers of one table. For a host's migration: SQLite refuses `ALTER TABLE … DROP COLUMN` while they
 * exist. The next construction of a client installs them again; what is written in between is not captured (capture.md
 * §10). Nothing happens if the table has none.
 *
 * @example
 * ```ts
 * import { SqlClient } from "@effect/sql/SqlClient"
 * import * as Effect from "effect/Effect"
 * import { dropTriggers } from "oversqlite"
 *
 * export const migration = Effect.gen(function*() {
 *   const sql = yield* SqlClient
 *   yield* dropTriggers("users")
 *   yield* sql`ALTER TABLE users DROP COLUMN nickname`
 * })
 * ```
 *
 * @since 0.1.0
 * @category migrations
 */
export const dropTriggers = (table: string): Effect.Effect<void, StorageError, SqlClient.SqlClient> =>
  catchSql(Effect.flatMap(storedTriggers, (stored) =>
    dropAll(
      stored.filter((trigger) => isEngineTrigger(trigger) && sameName(trigger.table, table.trim()))
        .map(({ name }) => name)
    )))

type Installed = Pick<SyncTables, "schema" | "tables">

const preExisting = (schema: string, table: SyncTable, skipKeysWithRowState: boolean): string => {
  const values = { schema: literal(schema), table: literal(table.name), key: anyKeyJson(table, "t") }
  // A value without JSON form must not reach json_object; freezing reads the row again and names it.
  const payload = `CASE WHEN ${isInvalidValue(table, "t")} THEN '{}' ELSE ${localObject(table, "t")} END`
  const statement = (base: string, restriction: string, update: string) =>
    `INSERT INTO _sync_dirty_rows (${dirtyColumns})
  SELECT ${values.schema}, ${values.table}, ${values.key}, 'INSERT', ${base}, ${payload},
         coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0)
           + row_number() OVER (ORDER BY ${column("t", table.key)}), ${now}
    FROM ${identifier(table.declaredName)} AS t ${restriction}
      ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET op = excluded.op, payload = excluded.payload${update}`
  return skipKeysWithRowState
    ? statement(
      "coalesce(s.row_version, 0)",
      `LEFT JOIN _sync_row_state AS s
           ON s.schema_name = ${values.schema} AND s.table_name = ${values.table} AND s.key_json = ${values.key}
   WHERE s.deleted IS NOT 0`,
      ""
    )
    : statement("0", "WHERE 1", ", base_row_version = excluded.base_row_version")
}

/**
 * Queues every row of the tables as a new one (op INSERT, base 0), whether or not a trigger has seen it: tables in the
 * order of the configuration, rows in key order (capture.md §8, §10; recovery.md §2.4). Rows that are dirty already keep
 * their ordinal. One statement and one a table, inside the caller's transaction.
 *
 * With `skipKeysWithRowState` rows that the server knows are left out, a row on a tombstone is queued on the tombstone's
 * version, and rows that are dirty already keep their base.
 *
 * A row that cannot be serialised is queued as well, to be named when it is frozen: {@link checkPreExisting}.
 *
 * @since 0.1.0
 * @category pre-existing rows
 */
export const capturePreExisting = (
  { schema, tables }: Installed,
  options: { readonly skipKeysWithRowState?: boolean | undefined } = {}
): Effect.Effect<void, StorageError, SqlClient.SqlClient> =>
  catchSql(Effect.gen(function*() {
    const run = yield* execute
    const configured = yield* run<{ readonly name: string }>(
      "SELECT t.value AS name FROM _sync_engine_state AS e, json_each(nullif(e.configured_tables, '')) AS t ORDER BY t.key"
    )
    for (const { name } of configured) {
      const table = tables.find((one) => one.name === name)
      if (table !== undefined) yield* run(preExisting(schema, table, options.skipKeysWithRowState === true))
    }
  }))

const Problem = Schema.parseJson(Schema.Tuple(LocalDataCode, Schema.String))

/**
 * Fails with a `LocalDataError` that names the first row that cannot be serialised or found again by its key: before the
 * first `open` queues the rows that are there (capture.md §8). One statement a table.
 *
 * @since 0.1.0
 * @category pre-existing rows
 */
export const checkPreExisting = (
  { schema, tables }: Installed
): Effect.Effect<void, LocalDataError | StorageError, SqlClient.SqlClient> =>
  Effect.flatMap(execute, (run) =>
    Effect.forEach(tables, (table) =>
      Effect.gen(function*() {
        const [offender] = yield* catchSql(run<{ readonly key: string; readonly problem: string }>(
          // A level of its own: beside the host's columns the name of a result may be the name of one of them.
          `SELECT r.key, r.problem
             FROM (SELECT ${anyKeyJson(table, "t")} AS key, ${rowProblem(table, "t")} AS problem,
                          ${column("t", table.key)} AS place
                     FROM ${identifier(table.declaredName)} AS t) AS r
            WHERE r.problem IS NOT NULL ORDER BY r.place LIMIT 1`
        ))
        if (offender === undefined) return
        const [code, name] = yield* Effect.orDie(Schema.decode(Problem)(offender.problem))
        return yield* raise((operation) =>
          new LocalDataError({ operation, code, row: { schema, table: table.name, key: offender.key }, column: name })
        )
      }), { discard: true }))
