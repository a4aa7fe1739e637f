/**
 * The one set-based way of authoritative rows into the tables: replay, pull and snapshot fill `temp._sync_incoming` and
 * call `applyIncoming` (payload-codec.md §9). Runs inside an authoritative transaction.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { LocalDataCode } from "../contract/SyncError.js"
import { LocalDataError } from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import * as CanonicalJson from "../protocol/CanonicalJson.js"
import * as RowPayload from "../protocol/RowPayload.js"
import type { ConstraintKind } from "./StorageFailure.js"
import { isConstraint } from "./StorageFailure.js"
import { SyncDatabase } from "./SyncDatabase.js"
import type { SyncColumn, SyncTable } from "./SyncTable.js"
import { statementsOf } from "./TableSql.js"
import { forEachSlice } from "./WorkTables.js"

/**
 * A row that stands in the way: its place in `temp._sync_incoming`, the bundle it came with, and what is wrong.
 *
 * @since 0.1.0
 * @category models
 */
export interface Offender {
  readonly ord: number
  readonly bundle: number
  readonly code: LocalDataCode
  readonly table: string
  readonly key: string
  readonly column?: string | undefined
}

/**
 * Fails with the error of an offending row.
 *
 * @since 0.1.0
 * @category conversions
 */
export const raiseOffender = (offender: Offender): Effect.Effect<never, LocalDataError, SyncDatabase> =>
  Effect.flatMap(SyncDatabase, (db) =>
    raise((operation) =>
      new LocalDataError({
        operation,
        code: offender.code,
        row: { schema: db.schema, table: offender.table, key: offender.key },
        ...(offender.column === undefined ? {} : { column: offender.column })
      })
    ))

interface Part {
  readonly table_name: string
  readonly upserts: number
  readonly deletes: number
}

interface Extent {
  readonly first: number | null
  readonly last: number | null
}

interface Incoming {
  readonly parts: ReadonlyArray<{ readonly table: SyncTable; readonly upserts: boolean; readonly deletes: boolean }>
  readonly range: { readonly first: number; readonly last: number; readonly size: number }
}

const survey: Effect.Effect<Incoming, SqlError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const { tables } = yield* db.tables
  const parts = yield* db.all<Part>(
    `SELECT table_name, sum(op <> 'DELETE') AS upserts, sum(op = 'DELETE') AS deletes
       FROM temp._sync_incoming WHERE mode = 'apply' GROUP BY table_name`
  )
  const [extent] = yield* db.all<Extent>("SELECT min(ord) AS first, max(ord) AS last FROM temp._sync_incoming")
  const byName = new Map(parts.map((part) => [part.table_name, part]))
  return {
    parts: tables.flatMap((table) => {
      const part = byName.get(table.name)
      return part === undefined ? [] : [{ table, upserts: part.upserts > 0, deletes: part.deletes > 0 }]
    }),
    range: { first: extent?.first ?? 0, last: extent?.last ?? -1, size: db.applyRows }
  }
})

interface Problem {
  readonly ord: number
  readonly bundle: number
  readonly key_json: string
  readonly payload: string
  readonly problem: "columns" | "key" | "value"
}

const missingColumn = (table: SyncTable, payload: string): string | undefined => {
  try {
    const members: unknown = JSON.parse(payload)
    if (typeof members !== "object" || members === null) return undefined
    return Object.keys(members).length === table.columns.length
      ? table.columns.find((column) => !Object.hasOwn(members, column.name))?.name
      : undefined
  } catch {
    return undefined
  }
}

const offenderOf = (table: SyncTable, row: Problem): Offender => {
  const place = { ord: row.ord, bundle: row.bundle, table: table.name, key: row.key_json }
  switch (row.problem) {
    case "columns":
      return { ...place, code: "payload_column_mismatch", column: missingColumn(table, row.payload) }
    case "key":
      return { ...place, code: "payload_key_mismatch" }
    case "value":
      return { ...place, code: "payload_bad_wire_encoding" }
  }
}

const patchValue = (column: SyncColumn, raw: unknown): string | null | undefined => {
  if (raw === null || raw === undefined) return null
  if (column.class !== "blob") return CanonicalJson.encode(raw)
  return typeof raw === "string" ? Either.getOrUndefined(RowPayload.base64ToHex(raw)) : undefined
}

interface Unconverted {
  readonly ord: number
  readonly bundle: number
  readonly key_json: string
  readonly raw: string
}

/** Converts what SQL cannot and leaves it in `temp._sync_patch`; answers the first row with a bad value. */
const patch = Effect.fnUntraced(function*(
  table: SyncTable,
  first: number,
  last: number
): Effect.fn.Return<Offender | undefined, SqlError, SyncDatabase> {
  const db = yield* SyncDatabase
  const { patchColumns, unconverted } = statementsOf(table)
  if (unconverted === undefined) return undefined
  const rows = yield* db.all<Unconverted>(unconverted, [table.name, first, last])
  if (rows.length === 0) return undefined
  const patches: Array<ReadonlyArray<number | string | null>> = []
  for (const row of rows) {
    const raw: ReadonlyArray<unknown> = JSON.parse(row.raw)
    const values: Array<string | null> = []
    for (const [index, column] of patchColumns.entries()) {
      const value = patchValue(column, raw[index])
      if (value === undefined) {
        return {
          ord: row.ord,
          bundle: row.bundle,
          code: "payload_bad_wire_encoding",
          table: table.name,
          key: row.key_json,
          column: column.name
        }
      }
      values.push(value)
    }
    patches.push([row.ord, ...values])
  }
  yield* db.all(
    `INSERT OR REPLACE INTO temp._sync_patch (ord, value)
     SELECT e.value ->> 0, json_remove(e.value, '$[0]') FROM json_each(?) AS e`,
    [JSON.stringify(patches)]
  )
  return undefined
})

/**
 * The first row of `temp._sync_incoming` (mode `apply`) that the tables cannot take for its shape: other columns than
 * the table's, a key member that differs from the row's key, a value without a SQLite form (payload-codec.md §5).
 * Leaves converted values behind for {@link applyIncoming}.
 *
 * @since 0.1.0
 * @category checking
 */
export const findMisshapen: Effect.Effect<Offender | undefined, SqlError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const incoming = yield* survey
  yield* db.all("DELETE FROM temp._sync_patch")
  let found: Offender | undefined
  const note = (offender: Offender | undefined) => {
    if (offender !== undefined && (found === undefined || offender.ord < found.ord)) found = offender
  }
  yield* forEachSlice(incoming.range, (first, last) =>
    Effect.gen(function*() {
      if (found !== undefined) return
      for (const { table, upserts } of incoming.parts) {
        if (!upserts) continue
        const [problem] = yield* db.all<Problem>(statementsOf(table).check, [table.name, first, last])
        if (problem !== undefined) note(offenderOf(table, problem))
      }
      if (found !== undefined) return
      for (const { table, upserts } of incoming.parts) {
        if (upserts) note(yield* patch(table, first, last))
      }
    }))
  return found
})

/**
 * Finds the first ordinal of a range, both ends included, at which a step meets a constraint, by halving the range
 * (pull.md §4.2). Leaves what the step did behind: the transaction is going to be rolled back.
 *
 * @since 0.1.0
 * @category checking
 */
export const halve = Effect.fnUntraced(function*<R>(
  first: number,
  last: number,
  step: (first: number, last: number) => Effect.Effect<unknown, SqlError, R>
): Effect.fn.Return<number, SqlError, SyncDatabase | R> {
  const db = yield* SyncDatabase
  let [low, high] = [first, last]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    yield* db.all("SAVEPOINT _sync_probe")
    const refused = yield* step(low, middle).pipe(
      Effect.as(false),
      Effect.catchIf((error) => isConstraint(error) !== undefined, () => Effect.succeed(true))
    )
    if (refused) {
      yield* db.all("ROLLBACK TO _sync_probe")
      high = middle
    } else {
      low = middle + 1
    }
    yield* db.all("RELEASE _sync_probe")
  }
  return low
})

/**
 * SQLite refused an authoritative row: which one, and by which kind of constraint.
 *
 * @since 0.1.0
 * @category errors
 */
export class RowRefused extends Data.TaggedError("RowRefused")<{
  readonly offender: Offender
  readonly constraint: ConstraintKind
  readonly cause: unknown
}> {}

const orderMatters: ReadonlySet<ConstraintKind> = new Set(["unique", "primary_key", "foreign_key"])

/**
 * Whether the row may be accepted together with other rows of the server, as in a snapshot.
 *
 * @since 0.1.0
 * @category guards
 */
export const needsOtherRows = ({ constraint }: RowRefused): boolean => orderMatters.has(constraint)

const refuse = Effect.fnUntraced(function*(
  table: SyncTable,
  ord: number,
  constraint: ConstraintKind,
  cause: unknown
): Effect.fn.Return<never, SqlError | RowRefused, SyncDatabase> {
  const db = yield* SyncDatabase
  const [row] = yield* db.all<{ readonly bundle: number; readonly key_json: string }>(
    "SELECT bundle, key_json FROM temp._sync_incoming WHERE ord = ?",
    [ord]
  )
  return yield* new RowRefused({
    offender: { ord, bundle: row?.bundle ?? 0, code: "local_constraint", table: table.name, key: row?.key_json ?? "" },
    constraint,
    cause
  })
})

const locating = Effect.fnUntraced(function*(
  statement: string,
  table: SyncTable,
  first: number,
  last: number
): Effect.fn.Return<void, SqlError | RowRefused, SyncDatabase> {
  const db = yield* SyncDatabase
  yield* Effect.catchIf(
    db.all(statement, [table.name, first, last]),
    (error) => isConstraint(error) !== undefined,
    (error) =>
      Effect.flatMap(
        halve(first, last, (low, high) => db.all(statement, [table.name, low, high])),
        (ord) => refuse(table, ord, isConstraint(error)?.kind ?? "check", error)
      )
  )
})

/** Two keys that only the collation of the key column takes for one: one row of them is too many. */
const refuseCollision = Effect.fnUntraced(function*(
  { parts, range }: Incoming,
  check: "taken" | "overwritten"
): Effect.fn.Return<void, SqlError | RowRefused, SyncDatabase> {
  const db = yield* SyncDatabase
  for (const { table, upserts } of parts) {
    const { collision } = statementsOf(table)
    if (collision === undefined || !upserts) continue
    const [row] = yield* db.all<{ readonly ord: number }>(collision[check], [table.name, range.first, range.last])
    if (row !== undefined) return yield* refuse(table, row.ord, "unique", undefined)
  }
})

/**
 * Applies the rows of `temp._sync_incoming`: those of mode `apply` to the tables, upserts in table order and deletes in
 * reverse; the versions of all but the stale ones to the row state. `findMisshapen` must have passed. Fails with
 * `RowRefused` where a constraint is checked by a statement; foreign keys are checked by the commit.
 *
 * @since 0.1.0
 * @category applying
 */
export const applyIncoming: Effect.Effect<void, SqlError | RowRefused, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const incoming = yield* survey
  const { parts, range } = incoming
  yield* refuseCollision(incoming, "taken")
  const parked = parts.filter(({ table }) => statementsOf(table).park.length > 0)
  if (parked.length > 0) {
    yield* forEachSlice(
      range,
      (first, last) =>
        Effect.forEach(parked, ({ table }) =>
          Effect.forEach(statementsOf(table).park, (statement) =>
            // A CHECK that refuses the parking place is no fault of the data: the values then meet as they are.
            Effect.catchIf(
              db.all(statement, [table.name, first, last]),
              (error) => isConstraint(error) !== undefined,
              () => Effect.void
            ), { discard: true }), { discard: true })
    )
  }
  yield* forEachSlice(range, (first, last) =>
    Effect.forEach(
      parts,
      ({ table, upserts }) => upserts ? locating(statementsOf(table).upsert, table, first, last) : Effect.void,
      { discard: true }
    ))
  yield* refuseCollision(incoming, "overwritten")
  const deleting = parts.filter((part) => part.deletes).reverse()
  if (deleting.length > 0) {
    yield* forEachSlice(
      range,
      (first, last) =>
        Effect.forEach(deleting, ({ table }) => locating(statementsOf(table).remove, table, first, last), {
          discard: true
        })
    )
  }
  yield* forEachSlice(range, (first, last) =>
    Effect.asVoid(db.all(
      `INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted)
       SELECT ?, s.table_name, s.key_json, s.row_version, s.op = 'DELETE'
         FROM temp._sync_incoming AS s WHERE s.mode <> 'stale' AND s.ord BETWEEN ? AND ?
           ON CONFLICT (schema_name, table_name, key_json)
           DO UPDATE SET row_version = excluded.row_version, deleted = excluded.deleted,
                         updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')`,
      [db.schema, first, last]
    )))
})
