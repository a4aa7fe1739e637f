/**
 * The commit of a staged bundle in the embedded store: conflicts, effects, delete actions, violations (server.md §7).
 *
 * @since 0.1.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as ExactJson from "../protocol/ExactJson.js"
import type { Op } from "../protocol/Wire.js"
import type { RefusedRow } from "../protocol/WireError.js"
import * as ExactText from "./ExactText.js"
import type { PushSession, ServerStore } from "./ServerStorage.js"
import { cascadeStatements, parameters } from "./SqliteCascade.js"
import type { NamedStatement } from "./SqliteCascade.js"
import type { Catalog } from "./SqliteSchema.js"
import { sliceRows } from "./SqliteSchema.js"
import { breathe, steps } from "./SqliteStep.js"
import type { RowConflict } from "./SyncRefused.js"
import type { ServerTable } from "./TableDeclaration.js"
import { fromMillis } from "./Timestamp.js"

type Steps = Pick<ServerStore, "conflicts" | "stagedProblems" | "apply" | "violations">

interface ConflictRow {
  readonly table_id: number
  readonly key: string
  readonly op: Op
  readonly base_version: number
  readonly version: number | null
  readonly payload: string | null
}

interface NamedRow {
  readonly table_id: number
  readonly key: string
  readonly reason: string
}

/** A run of staged rows that is applied as one: `cascading` runs are deletes whose delete actions touch other rows. */
interface Run {
  readonly cascading: number
  readonly first: number
  readonly last: number
}

interface PartialRow {
  readonly row_ordinal: number
  readonly table_id: number
  readonly payload: string
  readonly current: string
}

const isMembers = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const members = (text: string): Readonly<Record<string, unknown>> => {
  const value = ExactJson.parse(text)
  return isMembers(value) ? value : {}
}

/** The row after a partial UPDATE: members it does not carry stay as they are (values.md §3). */
const merge = (table: ServerTable, uploaded: string, current: string): string => {
  const absent = Object.fromEntries((table.columns ?? []).map((column) => [column.name, null]))
  return ExactText.encode({ ...absent, ...members(current), ...members(uploaded) })
}

/**
 * The steps of the commit.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (sql: SqlClient, catalog: Catalog): Steps => {
  const cascade = cascadeStatements(catalog)

  const execute = <A extends object>(
    statement: NamedStatement,
    values: Parameters<typeof parameters>[1]
  ): Effect.Effect<ReadonlyArray<A>, SqlError> => sql.unsafe<A>(statement.text, parameters(statement, values))

  const named = (rows: ReadonlyArray<NamedRow>): ReadonlyArray<RefusedRow> =>
    rows.map((row) => {
      const table = catalog.byId(row.table_id)
      return { schema: table.schema, table: table.table, key: { [table.key.column]: row.key }, reason: row.reason }
    })

  const conflictOf = (row: ConflictRow): RowConflict => {
    const table = catalog.byId(row.table_id)
    return {
      schema: table.schema,
      table: table.table,
      key: { [table.key.column]: row.key },
      op: row.op,
      baseRowVersion: row.base_version,
      serverRowVersion: row.version ?? 0,
      serverRowDeleted: row.version !== null && row.payload === null,
      serverRow: row.payload
    }
  }

  const runsOf = Effect.fnUntraced(function*(session: PushSession): Effect.fn.Return<ReadonlyArray<Run>, SqlError> {
    const whole: Run = { cascading: 0, first: 0, last: session.plannedRows - 1 }
    if (cascade.acting.length === 0) return [whole]
    const acting = JSON.stringify(cascade.acting)
    const found = yield* sql`SELECT 1 AS found FROM server_push_row WHERE push_pk = ${session.id} AND op = 'DELETE'
      AND table_id IN (SELECT value FROM json_each(${acting})) LIMIT 1`
    if (found.length === 0) return [whole]
    return yield* sql<Run>`WITH marked AS (
        SELECT row_ordinal, op = 'DELETE' AND table_id IN (SELECT value FROM json_each(${acting})) AS cascading
        FROM server_push_row WHERE push_pk = ${session.id}
      ), numbered AS (
        SELECT row_ordinal, cascading,
          row_ordinal - row_number() OVER (PARTITION BY cascading ORDER BY row_ordinal) AS island
        FROM marked
      )
      SELECT cascading, min(row_ordinal) AS first, max(row_ordinal) AS last FROM numbered
      GROUP BY cascading, island ORDER BY first`
  })

  const completePartial = Effect.fnUntraced(
    function*(session: PushSession, run: Run): Effect.fn.Return<void, SqlError> {
      for (let from = run.first - 1;;) {
        const rows = yield* sql<PartialRow>`SELECT p.row_ordinal, p.table_id, p.payload, r.payload AS current
        FROM server_push_row AS p CROSS JOIN server_row AS r
          ON r.scope_id = ${session.scopeId} AND r.table_id = p.table_id AND r.key = p.key
        WHERE p.push_pk = ${session.id} AND p.row_ordinal > ${from} AND p.row_ordinal <= ${run.last}
          AND p.partial = 1 AND r.payload IS NOT NULL
        ORDER BY p.row_ordinal LIMIT ${sliceRows}`
        const last = rows[rows.length - 1]
        if (last === undefined) return
        const merged = rows.map((row) => [row.row_ordinal, merge(catalog.byId(row.table_id), row.payload, row.current)])
        // Materialised, so that each row is found by its key; otherwise the JSON is scanned once per row.
        yield* sql`WITH merged(ordinal, payload) AS MATERIALIZED (
          SELECT e.value ->> 0, e.value ->> 1 FROM json_each(${JSON.stringify(merged)}) AS e)
        UPDATE server_push_row SET payload = merged.payload FROM merged
        WHERE push_pk = ${session.id} AND row_ordinal = merged.ordinal`
        if (rows.length < sliceRows) return
        from = last.row_ordinal
        yield* breathe
      }
    }
  )

  /** Rows whose order among each other does not matter: targets are unique, and references are checked at the end. */
  const applyPlain = Effect.fnUntraced(function*(
    session: PushSession,
    run: Run,
    bundleSeq: number,
    now: string
  ): Effect.fn.Return<void, SqlError> {
    yield* completePartial(session, run)
    for (let first = run.first; first <= run.last; first += sliceRows) {
      const last = Math.min(first + sliceRows - 1, run.last)
      // An UPDATE or DELETE of a row that a cascade of this bundle has removed does nothing (server.md §7.2).
      yield* sql`INSERT INTO temp.server_effect
          (table_id, key, row_ordinal, rank, first_op, last_op, version_before)
        SELECT p.table_id, p.key, p.row_ordinal, 0, p.op, p.op, p.base_version FROM server_push_row AS p
        WHERE p.push_pk = ${session.id} AND p.row_ordinal BETWEEN ${first} AND ${last}
          AND (p.op = 'INSERT' OR EXISTS (SELECT 1 FROM server_row AS r WHERE r.scope_id = ${session.scopeId}
            AND r.table_id = p.table_id AND r.key = p.key AND r.payload IS NOT NULL))
        ON CONFLICT DO UPDATE SET last_op = excluded.last_op`
      yield* sql`INSERT INTO server_row (scope_id, table_id, key, version, payload)
        SELECT ${session.scopeId}, p.table_id, p.key, ${bundleSeq}, replace(p.payload, char(1), ${now})
        FROM server_push_row AS p
        WHERE p.push_pk = ${session.id} AND p.row_ordinal BETWEEN ${first} AND ${last} AND p.op <> 'DELETE'
          AND (p.op = 'INSERT' OR EXISTS (SELECT 1 FROM server_row AS r WHERE r.scope_id = ${session.scopeId}
            AND r.table_id = p.table_id AND r.key = p.key AND r.payload IS NOT NULL))
        ON CONFLICT DO UPDATE SET version = excluded.version, payload = excluded.payload`
      yield* sql`UPDATE server_row SET version = ${bundleSeq}, payload = NULL FROM server_push_row AS p
        WHERE p.push_pk = ${session.id} AND p.row_ordinal BETWEEN ${first} AND ${last} AND p.op = 'DELETE'
          AND server_row.scope_id = ${session.scopeId} AND server_row.table_id = p.table_id AND server_row.key = p.key
          AND server_row.payload IS NOT NULL`
      if (last < run.last) yield* breathe
    }
  })

  /** Deletes with their delete actions, breadth first (server.md §7.3). Returns what a restriction keeps. */
  const applyCascading = Effect.fnUntraced(function*(
    session: PushSession,
    run: Run,
    bundleSeq: number
  ): Effect.fn.Return<ReadonlyArray<NamedRow>, SqlError> {
    const scope = session.scopeId
    yield* sql`DELETE FROM temp.server_cascade`
    yield* sql`INSERT INTO temp.server_cascade (table_id, key, root, level, parent_position, reference, position)
      SELECT p.table_id, p.key, p.row_ordinal, 0, 0, 0, p.row_ordinal
      FROM server_push_row AS p CROSS JOIN server_row AS r
        ON r.scope_id = ${scope} AND r.table_id = p.table_id AND r.key = p.key
      WHERE p.push_pk = ${session.id} AND p.row_ordinal BETWEEN ${run.first} AND ${run.last} AND r.payload IS NOT NULL`
    for (let level = 0; cascade.descend !== undefined; level++) {
      yield* execute(cascade.descend, { scope, level })
      const deeper = yield* sql`SELECT 1 AS found FROM temp.server_cascade WHERE level = ${level + 1} LIMIT 1`
      if (deeper.length === 0) break
    }
    const kept = cascade.restricted === undefined
      ? []
      : yield* execute<NamedRow>(cascade.restricted, { scope })
    if (kept.length > 0) return kept
    yield* execute(cascade.capture, { scope })
    for (const detach of cascade.detach) {
      yield* execute(detach, { scope, bundle: bundleSeq })
    }
    yield* sql`UPDATE server_row SET version = ${bundleSeq}, payload = NULL FROM temp.server_cascade AS c
      WHERE server_row.scope_id = ${scope} AND server_row.table_id = c.table_id AND server_row.key = c.key`
    return []
  })

  /** A row that came and went within the bundle leaves no trace (server.md §7.4). */
  const forgetVanished = (session: PushSession): Effect.Effect<void, SqlError> =>
    Effect.gen(function*() {
      const vanished = sql.literal(`temp.server_effect WHERE first_op = 'INSERT' AND last_op = 'DELETE'`)
      yield* sql`DELETE FROM server_row WHERE scope_id = ${session.scopeId}
        AND (table_id, key) IN (SELECT table_id, key FROM ${vanished} AND version_before = 0)`
      yield* sql`UPDATE server_row SET version = e.version_before FROM temp.server_effect AS e
        WHERE e.first_op = 'INSERT' AND e.last_op = 'DELETE' AND server_row.scope_id = ${session.scopeId}
          AND server_row.table_id = e.table_id AND server_row.key = e.key`
      yield* sql`DELETE FROM ${vanished}`
    })

  return {
    conflicts: steps((session: PushSession, limit: number) =>
      Effect.map(
        sql<ConflictRow>`SELECT p.table_id, p.key, p.op, p.base_version, r.version, r.payload
          FROM server_push_row AS p LEFT JOIN server_row AS r
            ON r.scope_id = ${session.scopeId} AND r.table_id = p.table_id AND r.key = p.key
          WHERE p.push_pk = ${session.id} AND CASE
            WHEN r.key IS NULL THEN p.op <> 'INSERT' OR p.base_version <> 0
            WHEN r.payload IS NULL THEN p.op <> 'INSERT' OR p.base_version <> r.version
            ELSE p.op = 'INSERT' OR p.base_version <> r.version END
          ORDER BY p.row_ordinal LIMIT ${limit}`,
        (rows) => rows.map(conflictOf)
      )
    ),

    stagedProblems: steps((session: PushSession, limit: number) =>
      Effect.map(
        sql<NamedRow>`SELECT table_id, key, problem AS reason FROM server_push_row
          WHERE push_pk = ${session.id} AND problem IS NOT NULL ORDER BY row_ordinal LIMIT ${limit}`,
        named
      )
    ),

    apply: steps((session: PushSession, bundleSeq: number, now: number) =>
      Effect.gen(function*() {
        yield* sql`DELETE FROM temp.server_effect`
        let cascaded = false
        for (const run of yield* runsOf(session)) {
          if (run.cascading === 0) {
            yield* applyPlain(session, run, bundleSeq, JSON.stringify(fromMillis(now)))
          } else {
            cascaded = true
            const kept = yield* applyCascading(session, run, bundleSeq)
            if (kept.length > 0) return named(kept)
          }
        }
        if (cascaded) yield* forgetVanished(session)
        return []
      })
    ),

    violations: steps((session: PushSession, limit: number) =>
      cascade.violated === undefined
        ? Effect.succeed([])
        : Effect.map(execute<NamedRow>(cascade.violated, { scope: session.scopeId, limit }), named)
    )
  }
}
