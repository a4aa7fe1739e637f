/**
 * Freezing: dirty rows become the outbox in one transaction (push.md §3, §14.1). The live row decides what is uploaded.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { LocalDataCode, LocalDataError } from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import type { OutboxHeader } from "./ClientState.js"
import * as ClientState from "./ClientState.js"
import * as Outbox from "./Outbox.js"
import * as Sources from "./Sources.js"
import { dashed, hasKey, identifier, keyJsonToWire, literal, localObject, path as jsonPath } from "./SqlText.js"
import { SyncDatabase } from "./SyncDatabase.js"
import type { SyncColumn, SyncTable } from "./SyncTable.js"
import { jsonArray } from "./TableSql.js"
import { forEachSlice } from "./WorkTables.js"

/**
 * An integer beyond ±(2^53−1) is to be frozen and the server's features are not known yet (DESIGN D7).
 *
 * @since 0.1.0
 * @category errors
 */
export class FeaturesNeeded extends Data.TaggedError("FeaturesNeeded")<{}> {}

const isUuid = (column: SyncColumn): boolean => column.class === "uuid-key" || column.class === "uuid-ref"

/** Why a column of a row cannot go up, as `["code", "column"]`; 64-bit integers only where the server takes them. */
const problemsOf = (column: SyncColumn, exactIntegers: boolean): ReadonlyArray<string> => {
  const value = `t.${identifier(column.declaredName)}`
  const when = (condition: string, code: LocalDataCode) =>
    `WHEN ${condition} THEN json_array(${literal(code)}, ${literal(column.name)})`
  if (isUuid(column)) {
    const code = column.class === "uuid-key" ? "invalid_blob_uuid_key" : "invalid_blob_uuid_reference"
    return [when(`${value} IS NOT NULL AND length(CAST(${value} AS BLOB)) <> 16`, code)]
  }
  if (column.class === "blob") return []
  const range = `typeof(${value}) = 'integer' AND ${value} NOT BETWEEN -9007199254740991 AND 9007199254740991`
  return [
    when(`typeof(${value}) = 'blob'`, "blob_in_plain_column"),
    when(`typeof(${value}) = 'real' AND ${value} IN (9e999, -9e999)`, "real_not_finite"),
    ...(exactIntegers ? [] : [when(range, "integer_out_of_range")])
  ]
}

const keyJoin = (table: SyncTable, key: string): string => hasKey(table, "t", key)

const ofTable = "d.schema_name = ? AND d.table_name = ?"

/**
 * The first row that cannot be frozen. A key without a row is left out: nothing of it goes up but, at most, a delete. The
 * outer level is for the names: beside the host's columns `problem` may be one of them.
 */
const checkStatement = (table: SyncTable, exactIntegers: boolean): string => {
  const name = identifier(table.declaredName)
  const key = identifier(table.key.declaredName)
  return `SELECT r.key_json, r.problem FROM (
SELECT d.key_json, d.dirty_ordinal,
       CASE WHEN json_type(d.key_json, ${jsonPath(table.key.name)}) IS NOT 'text'
                 AND EXISTS (SELECT 1 FROM ${name} AS n WHERE n.${key} IS NULL)
              THEN json_array('key_not_text', ${literal(table.key.name)})
            ${
    table.columns.flatMap((column) => problemsOf(column, exactIntegers)).join("\n            ")
  } END AS problem
  FROM _sync_dirty_rows AS d
  LEFT JOIN ${name} AS t ON ${keyJoin(table, "d.key_json")}
 WHERE ${ofTable}) AS r
 WHERE r.problem IS NOT NULL ORDER BY r.dirty_ordinal LIMIT 1`
}

const knownState = "s.schema_name = d.schema_name AND s.table_name = d.table_name AND s.key_json = d.key_json"

/**
 * Appends what goes up for a table, in order of capture. Its joins are CROSS JOINs: the few dirty rows lead, whatever the
 * planner thinks of the sizes of the other tables.
 */
const intent = (op: string, from: string): string =>
  `INSERT INTO temp._sync_intent (position, table_name, key_json, op, base)
SELECT coalesce((SELECT max(position) FROM temp._sync_intent), -1)
         + row_number() OVER (ORDER BY d.dirty_ordinal, d.key_json),
       d.table_name, d.key_json, ${op}, d.base_row_version
  FROM ${from}`

/** Rows that are there go up as they are; what the server knows of the key decides between the two operations. */
const upsertStatement = (table: SyncTable): string =>
  intent(
    "CASE WHEN s.deleted = 0 THEN 'UPDATE' ELSE 'INSERT' END",
    `_sync_dirty_rows AS d
  CROSS JOIN ${identifier(table.declaredName)} AS t ON ${keyJoin(table, "d.key_json")}
  LEFT JOIN _sync_row_state AS s ON ${knownState}
 WHERE ${ofTable}`
  )

/** Rows that are gone here and live on the server. */
const deleteStatement = (table: SyncTable): string =>
  intent(
    "'DELETE'",
    `_sync_dirty_rows AS d
  CROSS JOIN _sync_row_state AS s ON ${knownState} AND s.deleted = 0
 WHERE ${ofTable}
   AND NOT EXISTS (SELECT 1 FROM ${identifier(table.declaredName)} AS t WHERE ${keyJoin(table, "d.key_json")})`
  )

// No table of the host is named like the one of WITH: the prefix is the engine's.
const outboxStatement = (table: SyncTable): string =>
  `WITH _sync_frozen AS MATERIALIZED (
  SELECT i.table_name, i.key_json, i.op, i.base, i.position,
         CASE WHEN i.op <> 'DELETE' THEN ${localObject(table, "t")} END AS local
    FROM temp._sync_intent AS i
    LEFT JOIN ${identifier(table.declaredName)} AS t ON ${keyJoin(table, "i.key_json")}
   WHERE i.table_name = ? AND i.position BETWEEN ? AND ?)
INSERT INTO _sync_outbox_rows (source_bundle_id, row_ordinal, schema_name, table_name, key_json, wire_key_json,
                               op, base_row_version, local_payload, wire_payload)
SELECT ?, f.position, ?, f.table_name, f.key_json, ${keyJsonToWire(table, "f.key_json")}, f.op, f.base, f.local, f.local
  FROM _sync_frozen AS f`

const uuidOrNull = (hex: string): string => `CASE length(${hex}) WHEN 32 THEN ${dashed(hex)} ELSE ${hex} END`

/** Functions of SQLite take about a hundred arguments. */
const membersPerCall = 49

/** Sets the members of blob classes to their wire spelling; base64 comes from `_sync_patch` (payload-codec.md §4). */
const wireStatement = (table: SyncTable): string | undefined => {
  const blobs = table.columns.filter((column) => column.class === "blob")
  const members = table.columns.filter((column) => column.class !== "plain")
  if (members.length === 0) return undefined
  const settings = members.map((column) => {
    const local = `local_payload ->> ${jsonPath(column.name)}`
    const patched = `(SELECT p.value ->> ${blobs.indexOf(column)} FROM temp._sync_patch AS p WHERE p.ord = row_ordinal)`
    return { path: jsonPath(column.name), value: column.class === "blob" ? patched : uuidOrNull(`(${local})`) }
  })
  let wire = "local_payload"
  for (let from = 0; from < settings.length; from += membersPerCall) {
    const some = settings.slice(from, from + membersPerCall)
    wire = `json_set(${wire}, ${some.map(({ path, value }) => `${path}, ${value}`).join(", ")})`
  }
  return `UPDATE _sync_outbox_rows SET wire_payload = ${wire}
 WHERE ${Outbox.ofBundle} AND table_name = ? AND row_ordinal BETWEEN ? AND ? AND op <> 'DELETE'`
}

const hexStatement = (table: SyncTable): string | undefined => {
  const blobs = table.columns.filter((column) => column.class === "blob")
  return blobs.length === 0
    ? undefined
    : `SELECT row_ordinal AS ord,
              ${jsonArray(blobs.map((column) => `local_payload ->> ${jsonPath(column.name)}`))} AS hex
         FROM _sync_outbox_rows WHERE ${Outbox.ofBundle} AND table_name = ? AND row_ordinal BETWEEN ? AND ? AND op <> 'DELETE'`
}

const toBase64 = (hex: string | null): string | null => hex === null ? null : Buffer.from(hex, "hex").toString("base64")

/** Gives the frozen rows of a range their wire payload; tables without blobs have it already. */
const encodeWire = Effect.fnUntraced(function*(
  table: SyncTable,
  first: number,
  last: number
): Effect.fn.Return<void, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const statement = wireStatement(table)
  if (statement === undefined) return
  const hex = hexStatement(table)
  if (hex !== undefined) {
    const rows = yield* db.all<{ readonly ord: number; readonly hex: string }>(hex, [table.name, first, last])
    const patches = rows.map((row) => {
      const values: ReadonlyArray<string | null> = JSON.parse(row.hex)
      return [row.ord, ...values.map(toBase64)]
    })
    yield* db.all("DELETE FROM temp._sync_patch")
    yield* db.all(
      `INSERT INTO temp._sync_patch (ord, value)
       SELECT e.value ->> 0, json_remove(e.value, '$[0]') FROM json_each(?) AS e`,
      [JSON.stringify(patches)]
    )
  }
  yield* db.all(statement, [table.name, first, last])
})

const decodeProblem = Schema.decodeUnknownSync(Schema.parseJson(Schema.Tuple(LocalDataCode, Schema.String)))

const checkRows = Effect.fnUntraced(function*(
  table: SyncTable,
  exactIntegers: boolean | undefined
): Effect.fn.Return<void, SqlError | LocalDataError | FeaturesNeeded, SyncDatabase> {
  const db = yield* SyncDatabase
  const [offender] = yield* db.all<{ readonly key_json: string; readonly problem: string }>(
    checkStatement(table, exactIntegers === true),
    [db.schema, table.name]
  )
  if (offender === undefined) return
  const [code, column] = decodeProblem(offender.problem)
  if (code === "integer_out_of_range" && exactIntegers === undefined) return yield* new FeaturesNeeded()
  return yield* raise((operation) =>
    new LocalDataError({
      operation,
      code,
      row: { schema: db.schema, table: table.name, key: offender.key_json },
      column
    })
  )
})

interface Placed {
  readonly frozen: number
}

/**
 * Moves all dirty rows into the outbox, inside a transaction (push.md §3). No-ops (rows created and deleted before the
 * server ever saw them) are dropped. Answers the new header, or `undefined` if nothing is left to upload.
 *
 * `exactIntegers` is what the server advertises, `undefined` if that is not known: then an integer beyond ±(2^53−1)
 * fails with `FeaturesNeeded`. A row that cannot be encoded fails with a `LocalDataError` naming it.
 *
 * @since 0.1.0
 * @category writing
 */
export const freeze = Effect.fnUntraced(function*(
  exactIntegers: boolean | undefined
): Effect.fn.Return<OutboxHeader | undefined, SqlError | LocalDataError | FeaturesNeeded, SyncDatabase> {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const { attachment, source } = yield* ClientState.read
  const pending = new Set(
    (yield* db.all<{ readonly table_name: string }>("SELECT DISTINCT table_name FROM _sync_dirty_rows"))
      .map((row) => row.table_name)
  )
  const dirty = tables.filter((table) => pending.has(table.name))
  if (dirty.length === 0) return undefined
  yield* db.all("DELETE FROM temp._sync_intent")
  for (const table of dirty) yield* checkRows(table, exactIntegers)
  // Non-deletes before deletes, parents before children, for deletes the other way round (capture.md §7.2).
  for (const table of dirty) yield* db.all(upsertStatement(table), [db.schema, table.name])
  for (const table of [...dirty].reverse()) yield* db.all(deleteStatement(table), [db.schema, table.name])
  const [placed] = yield* db.all<Placed>("SELECT coalesce(max(position) + 1, 0) AS frozen FROM temp._sync_intent")
  const rowCount = placed?.frozen ?? 0
  yield* db.all(
    `DELETE FROM _sync_dirty_rows
      WHERE schema_name = ? AND table_name IN (SELECT value FROM json_each(?))`,
    [db.schema, JSON.stringify(dirty.map((table) => table.name))]
  )
  if (rowCount === 0) return undefined
  const sourceBundleId = source.nextSourceBundleId
  yield* forEachSlice(
    { first: 0, last: rowCount - 1, size: db.applyRows },
    (first, last) =>
      Effect.forEach(dirty, (table) =>
        Effect.zipRight(
          db.all(outboxStatement(table), [table.name, first, last, sourceBundleId, db.schema]),
          encodeWire(table, first, last)
        ), { discard: true })
  )
  const header: OutboxHeader = {
    state: "prepared",
    sourceId: attachment.sourceId,
    sourceBundleId,
    requestHash: yield* Outbox.requestHash,
    rowCount,
    initializationId: attachment.initializationId,
    remoteBundleHash: "",
    remoteBundleSeq: 0
  }
  yield* Sources.ensure(attachment.sourceId)
  yield* ClientState.setOutboxHeader(header)
  return header
})
