/** Installing the sync state in tests, and looking at what capture leaves behind. */
import { SqlClient } from "@effect/sql"
import type { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect } from "effect"
import { install, type InstallOptions } from "../../../src/storage/Installation.js"
import type { SyncTables } from "../../../src/storage/SyncTable.js"

export const schema = "business"

/** Installs tables whose key column is `id` unless they say otherwise. */
export const installing = (
  sql: SqlClient.SqlClient,
  tables: ReadonlyArray<string | InstallOptions["tables"][number]>,
  options: Partial<InstallOptions> = {}
) =>
  Effect.provideService(
    install({
      schema,
      tables: tables.map((table) => typeof table === "string" ? { name: table, key: "id" } : table),
      ...options
    }),
    SqlClient.SqlClient,
    sql
  )

/** The installed table of this name. */
export const tableOf = (tables: SyncTables, name: string) => {
  const table = tables.tables.find((one) => one.name === name)
  if (table === undefined) throw new Error(`no table ${name}`)
  return table
}

export interface Dirty {
  readonly table_name: string
  readonly key_json: string
  readonly op: string
  readonly base_row_version: number
  readonly payload: string | null
  readonly dirty_ordinal: number
}

/** All dirty rows in order of capture. */
export const dirtyRows = (sql: SqliteClient.SqliteClient) =>
  sql<Dirty>`SELECT table_name, key_json, op, base_row_version, payload, dirty_ordinal
               FROM _sync_dirty_rows ORDER BY dirty_ordinal`

/** Makes a key known to the server, live or as a tombstone. */
export const rowState = (
  sql: SqlClient.SqlClient,
  table: string,
  keyJson: string,
  version: number,
  deleted: 0 | 1 = 0
) =>
  sql`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted)
      VALUES (${schema}, ${table}, ${keyJson}, ${version}, ${deleted})
          ON CONFLICT (schema_name, table_name, key_json)
          DO UPDATE SET row_version = excluded.row_version, deleted = excluded.deleted`

/** Runs statements as the engine does: with capture and guards silent. */
export const silently = <A, E, R>(sql: SqlClient.SqlClient, self: Effect.Effect<A, E, R>) =>
  sql`UPDATE _sync_apply_state SET apply_mode = 1`.pipe(
    Effect.zipRight(self),
    Effect.zipLeft(sql`UPDATE _sync_apply_state SET apply_mode = 0`)
  )
