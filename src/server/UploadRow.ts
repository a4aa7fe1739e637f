/**
 * Rows of an upload: validated against the declared tables and brought into the form in which they are stored
 * (wire.md §2.2, values.md §3).
 *
 * @since 0.1.0
 */
import * as CanonicalJson from "../protocol/CanonicalJson.js"
import * as JsonText from "../protocol/JsonText.js"
import type { Op, PushRequestRow, WireKey } from "../protocol/Wire.js"
import { hiddenColumn } from "../protocol/Wire.js"
import type { RefusedRow } from "../protocol/WireError.js"
import { bytea, conversions, defaultText } from "./ColumnValue.js"
import * as ExactText from "./ExactText.js"
import type { StagedRow } from "./ServerStorage.js"
import type { ServerColumn, ServerTable, ServerTables } from "./TableDeclaration.js"

/** Ends the look at a row; the text is for the client. */
class Invalid {
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}

type Members = Readonly<Record<string, unknown>>

const isMembers = (value: unknown): value is Members =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const identifier = /^[a-z0-9_]+$/
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

const tableOf = (tables: ServerTables, row: PushRequestRow): ServerTable | Invalid => {
  const schema = row.schema.trim().toLowerCase() || "public"
  const table = row.table.trim().toLowerCase()
  if (!identifier.test(schema) || !identifier.test(table)) return new Invalid("invalid schema or table name")
  return tables.get(`${schema}.${table}`) ?? new Invalid(`table ${schema}.${table} is not registered`)
}

const opOf = (text: string): Op | Invalid => {
  const op = text.trim().toUpperCase()
  return op === "INSERT" || op === "UPDATE" || op === "DELETE" ? op : new Invalid(`invalid op ${JSON.stringify(text)}`)
}

const keyOf = (table: ServerTable, key: WireKey): string | Invalid => {
  const name = `${table.name}.${table.key.column}`
  const value = Object.hasOwn(key, table.key.column) ? key[table.key.column] : undefined
  if (value === undefined) return new Invalid(`row key ${name} is required`)
  if (typeof value !== "string") return new Invalid(`row key ${name} must be a string`)
  return table.key.kind === "text" || uuid.test(value)
    ? value
    : new Invalid(`row key ${name} must use canonical dashed lowercase UUID text`)
}

/** Members under lowercase names; `twice` is a name that occurs in two spellings. */
const fold = (payload: Members): { readonly members: Members; readonly twice: string | undefined } | Invalid => {
  const names = Object.keys(payload)
  if (names.every((name) => identifier.test(name))) return { members: payload, twice: undefined }
  const members: Record<string, unknown> = {}
  let twice: string | undefined
  for (const name of names) {
    const lower = name.toLowerCase()
    if (!identifier.test(lower)) return new Invalid(`invalid payload column name ${JSON.stringify(name)}`)
    if (Object.hasOwn(members, lower)) twice = lower
    JsonText.setMember(members, lower, payload[name])
  }
  return { members, twice }
}

interface StoredPayload {
  readonly payload: string
  readonly partial: boolean
  readonly problem: string | undefined
}

/** A row of a table with declared columns: sorted members, each converted; the first thing wrong becomes the problem. */
const typedPayload = (columns: ReadonlyArray<ServerColumn>, op: Op, members: Members): StoredPayload => {
  const texts: Array<string> = []
  let problem: string | undefined
  let present = 0
  for (const column of columns) {
    const given = Object.hasOwn(members, column.name)
    if (given) present += 1
    else if (op === "UPDATE") continue
    const value = members[column.name]
    const text = given ? (value === null ? "null" : conversions[column.kind](value)) : defaultText(column)
    if (text === undefined) {
      problem ??= `${column.name} does not take this value as ${column.kind}`
    } else if (text === "null" && column.notNull) {
      problem ??= `${column.name} must not be null`
    }
    texts.push(`"${column.name}":${text ?? "null"}`)
  }
  if (Object.keys(members).length > present) {
    const unknown = Object.keys(members).find((name) => !columns.some((column) => column.name === name))
    problem ??= `${unknown ?? "a member"} is not a column`
  }
  return { payload: `{${texts.join(",")}}`, partial: texts.length < columns.length, problem }
}

const payloadOf = (table: ServerTable, op: Op, key: string, payload: unknown): StoredPayload | Invalid => {
  if (payload === undefined || payload === null) return new Invalid(`${op} for ${table.name} requires payload`)
  if (!isMembers(payload)) return new Invalid(`payload for ${table.name} must be a JSON object`)
  if (Object.hasOwn(payload, hiddenColumn)) {
    return new Invalid(`payload for ${table.name} must not include hidden scope column ${JSON.stringify(hiddenColumn)}`)
  }
  const folded = fold(payload)
  if (folded instanceof Invalid) return folded
  const { members, twice } = folded
  const { column } = table.key
  if (Object.hasOwn(members, column) && members[column] !== key) {
    return new Invalid(`payload key ${table.name}.${column} must equal the row key`)
  }
  for (const binary of table.columns ?? []) {
    const value = binary.kind === "bytea" ? members[binary.name] : undefined
    if (value !== undefined && value !== null && bytea(value) === undefined) {
      return new Invalid(`payload binary field ${table.name}.${binary.name} must be valid base64`)
    }
  }
  const { depth, finite } = CanonicalJson.extent(members)
  if (!finite) return new Invalid(`payload for ${table.name} cannot be stored: a number is out of range`)
  const complete = Object.hasOwn(members, column) ? members : { ...members, [column]: key }
  const stored = depth > ExactText.maxNesting
    ? { payload: "{}", partial: false, problem: "the payload is nested too deeply" }
    : table.columns === undefined
    ? { payload: ExactText.encode(complete), partial: op === "UPDATE", problem: undefined }
    : typedPayload(table.columns, op, complete)
  const scopeMember = Object.hasOwn(members, hiddenColumn) ? `${hiddenColumn} is not a column` : undefined
  return twice === undefined ? { ...stored, problem: scopeMember ?? stored.problem } : {
    ...stored,
    problem: `${twice} occurs twice`
  }
}

/** No version is beyond what a double counts; a wrong one only has to stay wrong. */
const countable = (version: number): number =>
  Math.max(Number.MIN_SAFE_INTEGER, Math.min(version, Number.MAX_SAFE_INTEGER)) + 0

const decodeRow = (tables: ServerTables, row: PushRequestRow): StagedRow | Invalid => {
  const table = tableOf(tables, row)
  if (table instanceof Invalid) return table
  const op = opOf(row.op)
  if (op instanceof Invalid) return op
  const key = keyOf(table, row.key)
  if (key instanceof Invalid) return key
  const head = { table, key, op, baseRowVersion: countable(row.base_row_version) }
  if (op === "DELETE") {
    return row.payload === undefined
      ? { ...head, payload: undefined, partial: false, problem: undefined }
      : new Invalid(`DELETE for ${table.name} must not include payload`)
  }
  const stored = payloadOf(table, op, key, row.payload)
  return stored instanceof Invalid ? stored : { ...head, ...stored }
}

const named = (row: PushRequestRow, reason: string): RefusedRow => ({
  schema: row.schema,
  table: row.table,
  key: row.key,
  reason
})

/** Rows a refusal names at most. */
const maxNamed = 1000

/**
 * The rows of one chunk as they are staged. `refused` are those that can never be staged: unknown tables, malformed keys
 * and payloads, and a second row for one key; the chunk is accepted only if there are none. A row that can be staged but
 * never stored carries a `problem` and fails the commit (values.md §3).
 *
 * @since 0.1.0
 * @category decoding
 */
export const decode = (
  tables: ServerTables,
  rows: ReadonlyArray<PushRequestRow>
): { readonly staged: ReadonlyArray<StagedRow>; readonly refused: ReadonlyArray<RefusedRow> } => {
  const staged: Array<StagedRow> = []
  const refused: Array<RefusedRow> = []
  const seen = new Map<ServerTable, Set<string>>()
  for (const row of rows) {
    const decoded = decodeRow(tables, row)
    if (decoded instanceof Invalid) {
      refused.push(named(row, decoded.reason))
    } else {
      const keys = seen.get(decoded.table) ?? new Set()
      seen.set(decoded.table, keys)
      if (keys.has(decoded.key)) {
        refused.push(named(row, `duplicate target row in push request: ${decoded.table.name} ${decoded.key}`))
      }
      keys.add(decoded.key)
      staged.push(decoded)
    }
    if (refused.length >= maxNamed) break
  }
  return { staged, refused }
}
