/**
 * Turns the database of a device into one that the reference client has written: its exact tables without ours, its
 * spelling of keys, its triggers.
 */
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Context, Effect, Layer } from "effect"
import type { Scope } from "effect"
import { referenceDatabase } from "../../storage/support/reference.js"
import type { Device } from "./Devices.js"
import { ddl } from "./Devices.js"

/** How the reference's own code spells text in JSON (capture.md §5.3): its triggers leave these raw. */
export const escaped = (json: string): string =>
  json.replaceAll(/[<>&\u2028\u2029]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** Columns that code of the reference has written, not one of its triggers. */
const spelt: Readonly<Record<string, ReadonlyArray<string>>> = {
  _sync_row_state: ["key_json"],
  _sync_push_stage: ["key_json"],
  _sync_snapshot_stage: ["key_json"],
  _sync_outbox_rows: ["wire_key_json"]
}

const business = ["users", "posts", "files"]

const stateTables = [
  "_sync_source_state",
  "_sync_attachment_state",
  "_sync_operation_state",
  "_sync_apply_state",
  "_sync_row_state",
  "_sync_dirty_rows",
  "_sync_outbox_bundle",
  "_sync_outbox_rows",
  "_sync_push_stage",
  "_sync_snapshot_stage",
  "_sync_managed_tables"
]

/** The reference's triggers guard while anything is pending, and know nothing of keys that cannot be uploaded. */
const triggers = (table: string) => [
  `CREATE TRIGGER trg_${table}_bi_guard BEFORE INSERT ON ${table}
     WHEN (SELECT kind FROM _sync_operation_state) <> 'none' AND (SELECT apply_mode FROM _sync_apply_state) = 0
     BEGIN SELECT RAISE(ABORT, 'SYNC_TRANSITION_PENDING'); END`,
  `CREATE TRIGGER trg_${table}_ai AFTER INSERT ON ${table} WHEN (SELECT apply_mode FROM _sync_apply_state) = 0
     BEGIN INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, payload, dirty_ordinal)
       VALUES ('business', '${table}', json_object('id', NEW.id), 'INSERT', '{}', 99); END`
]

/** A fresh database with what the device's held, as the reference would have it. The device's client is closed. */
export const asReference = (
  device: Device,
  change: ReadonlyArray<string> = []
): Effect.Effect<Device, never, Scope.Scope> =>
  Effect.gen(function*() {
    yield* device.sync.close
    const context = yield* Layer.build(SqliteClient.layer({ filename: ":memory:" }))
    const sql = Context.get(context, SqliteClient.SqliteClient)
    for (const statement of ddl) yield* sql.unsafe(statement)
    yield* referenceDatabase(sql, [])
    for (const table of [...business, ...stateTables]) {
      yield* sql.unsafe(`DELETE FROM ${table}`)
      const columns = (yield* sql.unsafe<{ readonly name: string }>("SELECT name FROM pragma_table_info(?)", [table]))
        .map(({ name }) => name)
      const rows = yield* device.sql.unsafe<Record<string, string | number | null | Uint8Array>>(
        `SELECT ${columns.join(", ")} FROM ${table}`
      )
      for (const row of rows) {
        const values = columns.map((column) => {
          const value = row[column]
          return spelt[table]?.includes(column) && typeof value === "string" ? escaped(value) : value ?? null
        })
        yield* sql.unsafe(`INSERT INTO ${table} VALUES (${columns.map(() => "?").join(", ")})`, values)
      }
    }
    for (const table of business) {
      for (const statement of triggers(table)) yield* sql.unsafe(statement)
    }
    for (const statement of change) yield* sql.unsafe(statement)
    const run: Device["run"] = (text, parameters) => Effect.orDie(sql.unsafe(text, parameters))
    return { sync: device.sync, sql, run }
  }).pipe(Effect.orDie)
