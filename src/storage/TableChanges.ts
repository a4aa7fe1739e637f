/**
 * What becomes of tables that came, went or changed between two runs (capture.md §10): decided at construction from the
 * configuration, the registry and what is stored about them, inside the construction's transaction.
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { StorageError } from "../contract/SyncError.js"
import { capturePreExisting } from "./ChangeCapture.js"
import { literal, now } from "./SqlText.js"
import { execute } from "./Statement.js"
import type { SyncTable } from "./SyncTable.js"
import type { ConfigurationProblem } from "./TableInspector.js"

const names = (tables: ReadonlyArray<SyncTable>): string => JSON.stringify(tables.map(({ name }) => name))

// The table names of pending rows by leaps over the index, so that a million pending rows cost no more than one.
const tablesIn = (pending: string, schema: string): string => {
  const next = (after: string) =>
    `SELECT min(table_name) FROM ${pending} WHERE schema_name = ${literal(schema)}${after}`
  return `SELECT name FROM (
    WITH RECURSIVE leap(name) AS (
      ${next("")} UNION ALL SELECT (${next(" AND table_name > leap.name")}) FROM leap WHERE leap.name IS NOT NULL)
    SELECT name FROM leap WHERE name IS NOT NULL)`
}

interface Orphans {
  readonly name: string
  readonly dirty: number
  readonly frozen: number
}

const findOrphans = (
  schema: string,
  tables: ReadonlyArray<SyncTable>
): Effect.Effect<ReadonlyArray<Orphans>, SqlError, SqlClient.SqlClient> =>
  Effect.flatMap(execute, (run) => {
    const count = (pending: string) =>
      `(SELECT count(*) FROM ${pending} WHERE schema_name = ${literal(schema)} AND table_name = p.name)`
    return run<Orphans>(
      `SELECT p.name, ${count("_sync_dirty_rows")} AS dirty, ${count("_sync_outbox_rows")} AS frozen
         FROM (${tablesIn("_sync_dirty_rows", schema)} UNION ${tablesIn("_sync_outbox_rows", schema)}) AS p
        WHERE p.name NOT IN (SELECT value FROM json_each(?)) ORDER BY p.name`,
      [names(tables)]
    )
  })

const thawing: ReadonlyArray<string> = [
  `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal, updated_at)
   SELECT schema_name, table_name, key_json, op, base_row_version, local_payload,
          coalesce((SELECT max(dirty_ordinal) FROM _sync_dirty_rows), 0) + row_number() OVER (ORDER BY row_ordinal), ${now}
     FROM _sync_outbox_rows WHERE true
       ON CONFLICT (schema_name, table_name, key_json) DO NOTHING`,
  "DELETE FROM _sync_outbox_rows",
  `UPDATE _sync_outbox_bundle SET state = 'none', source_id = '', source_bundle_id = 0, canonical_request_hash = '',
          row_count = 0, initialization_id = '', remote_bundle_hash = '', remote_bundle_seq = 0`
]

/** Tables that left the configuration: their pending rows are in the way, or may be thrown away. */
const settleRemoved = (
  schema: string,
  tables: ReadonlyArray<SyncTable>,
  discardPendingOf: ReadonlyArray<string>
): Effect.Effect<ConfigurationProblem | undefined, SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const run = yield* execute
    const orphans = yield* findOrphans(schema, tables)
    if (orphans.length === 0) return undefined
    const discarded = new Set(discardPendingOf.map((name) => name.trim().toLowerCase()))
    const [outbox] = yield* run<{ readonly state: string }>("SELECT state FROM _sync_outbox_bundle")
    const isCommitted = outbox?.state === "committed_remote"
    const [kept] = orphans.filter(({ frozen, name }) => !discarded.has(name) || (frozen > 0 && isCommitted))
    if (kept !== undefined) {
      const advice = discarded.has(kept.name)
        ? "an upload with its rows has been committed and must be finished: configure the table and push"
        : "configure it and push them, or name it in discardPendingOf"
      return {
        code: "removed_table_pending",
        table: kept.name,
        detail: `table ${kept.name} left the configuration with ${kept.dirty + kept.frozen} pending rows; ${advice}`
      }
    }
    if (orphans.some(({ frozen }) => frozen > 0)) {
      for (const statement of thawing) yield* run(statement)
    }
    yield* run(
      `DELETE FROM _sync_dirty_rows WHERE schema_name = ? AND table_name IN (SELECT value FROM json_each(?))`,
      [schema, JSON.stringify(orphans.map(({ name }) => name))]
    )
    return undefined
  })

const isHex = (value: string): boolean => value.length % 2 === 0 && /^[0-9a-f]*$/.test(value)

/**
 * Whether a stored key is one of the table as it is configured now: one member of the key's name, for a blob key in hex.
 * A key of a row that the server knows (`acknowledged`) has 16 bytes; others may be of any length until they are frozen.
 *
 * @since 0.1.0
 * @category decisions
 */
export const hasKeyForm = (table: SyncTable, keyJson: string, acknowledged: boolean): boolean => {
  let key: unknown
  try {
    key = JSON.parse(keyJson)
  } catch {
    return false
  }
  if (typeof key !== "object" || key === null || Array.isArray(key)) return false
  const [member, ...others] = Object.entries(key)
  if (member === undefined || others.length > 0 || member[0] !== table.key.name) return false
  const value: unknown = member[1]
  if (value === null) return !acknowledged
  if (typeof value !== "string") return false
  return table.keyKind === "text" || (isHex(value) && (!acknowledged || value.length === 32))
}

/** One stored key of each table tells whether the key column or its kind is another one now. */
const findChangedKey = (
  schema: string,
  tables: ReadonlyArray<SyncTable>
): Effect.Effect<ConfigurationProblem | undefined, SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const run = yield* execute
    const sample = (from: string) =>
      `(SELECT key_json FROM ${from} WHERE schema_name = ${literal(schema)} AND table_name = t.value LIMIT 1)`
    const stored = yield* run<
      {
        readonly name: string
        readonly known: string | null
        readonly dirty: string | null
        readonly frozen: string | null
      }
    >(
      `SELECT t.value AS name, ${sample("_sync_row_state")} AS known, ${sample("_sync_dirty_rows")} AS dirty,
              ${sample("_sync_outbox_rows")} AS frozen FROM json_each(?) AS t`,
      [names(tables)]
    )
    const changed = tables.find((table) =>
      stored.some(({ dirty, frozen, known, name }) =>
        name === table.name && !(
          (known === null || hasKeyForm(table, known, true))
          && [dirty, frozen].every((key) => key === null || hasKeyForm(table, key, false))
        )
      )
    )
    return changed === undefined ? undefined : {
      code: "key_changed",
      table: changed.name,
      column: changed.key.name,
      detail: `table ${changed.name} was synchronised under another key than ${changed.key.name}; `
        + "uninstall the sync state with the former configuration first"
    }
  })

/**
 * Settles the tables that left the configuration and finds what makes the present one impossible:
 * `removed_table_pending`, `key_changed`.
 *
 * @since 0.1.0
 * @category decisions
 */
export const findProblem = (
  schema: string,
  tables: ReadonlyArray<SyncTable>,
  discardPendingOf: ReadonlyArray<string>
): Effect.Effect<ConfigurationProblem | undefined, SqlError, SqlClient.SqlClient> =>
  Effect.flatMap(
    settleRemoved(schema, tables, discardPendingOf),
    (problem) => problem === undefined ? findChangedKey(schema, tables) : Effect.succeed(problem)
  )

interface Adopting {
  readonly source: string
  readonly binding: string
  readonly configured: string
  readonly registered: string
}

const restartReplace =
  `UPDATE _sync_operation_state SET kind = 'none', target_user_id = '', reason = '', replacement_source_id = '',
          staged_snapshot_id = '', snapshot_bundle_seq = 0, snapshot_row_count = 0
    WHERE kind = 'remote_replace'`

/**
 * Records the tables, given in configuration order, and sees to those that were not configured at the last construction:
 * nothing before the first `open`, which queues all rows anyway; their rows are queued while anonymous; while attached
 * those that the server does not know are, and only a rebuild brings what bundles have carried meanwhile.
 *
 * A remote replace that waits for its second half was downloaded for the former tables; it starts again.
 *
 * @since 0.1.0
 * @category installation
 */
export const adopt = (
  schema: string,
  tables: ReadonlyArray<SyncTable>
): Effect.Effect<void, SqlError | StorageError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const run = yield* execute
    const [state] = yield* run<Adopting>(
      `SELECT a.current_source_id AS source, a.binding_state AS binding, e.configured_tables AS configured,
              (SELECT json_group_array(table_name) FROM _sync_managed_tables WHERE schema_name = ?) AS registered
         FROM _sync_attachment_state AS a, _sync_engine_state AS e`,
      [schema]
    )
    const configured = names(tables)
    if (state?.configured !== configured) {
      yield* run("UPDATE _sync_engine_state SET configured_tables = ?", [configured])
    }
    yield* run(
      `INSERT INTO _sync_managed_tables (schema_name, table_name) SELECT ?, value FROM json_each(?) WHERE true
           ON CONFLICT (schema_name, table_name) DO NOTHING`,
      [schema, configured]
    )
    if (state === undefined || state.source === "") return
    // A database of the reference does not say what was configured; its registry says what ever was.
    const known: ReadonlyArray<string> = JSON.parse(state.configured === "" ? state.registered : state.configured)
    const added = tables.filter(({ name }) => !known.includes(name))
    const isAttached = state.binding === "attached"
    const left = known.some((name) => !tables.some((table) => table.name === name))
    if (!isAttached && (left || added.length > 0)) yield* run(restartReplace)
    if (added.length === 0) return
    yield* capturePreExisting({ schema, tables: added }, { skipKeysWithRowState: isAttached })
    if (isAttached) yield* run("UPDATE _sync_attachment_state SET rebuild_required = 1")
  })
