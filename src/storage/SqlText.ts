/**
 * SQL text: quoting, and the expressions that turn a row of a registered table into the engine's JSON and back
 * (payload-codec.md §3, §9). Pure functions; nothing here runs a statement.
 *
 * A qualifier is what stands before a column: `NEW`, `OLD`, a table alias, or `""` for none.
 *
 * @since 0.1.0
 */
import type { LocalDataCode } from "../contract/SyncError.js"
import type { SyncColumn, SyncTable } from "./SyncTable.js"

/**
 * A quoted identifier: `order` → `"order"`.
 *
 * @since 0.1.0
 * @category quoting
 */
export const identifier = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

/**
 * A text literal: `it's` → `'it''s'`.
 *
 * @since 0.1.0
 * @category quoting
 */
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/**
 * The JSON path of a member as a text literal: `order` → `'$."order"'`.
 *
 * @since 0.1.0
 * @category quoting
 */
export const path = (member: string): string => literal(`$.${JSON.stringify(member)}`)

/**
 * A column of a row.
 *
 * @since 0.1.0
 * @category quoting
 */
export const column = (qualifier: string, of: SyncColumn): string =>
  qualifier === "" ? identifier(of.declaredName) : `${qualifier}.${identifier(of.declaredName)}`

/**
 * Now, in the form of all timestamps of the `_sync_*` tables: UTC with milliseconds (client-state.md §1).
 *
 * @since 0.1.0
 * @category expressions
 */
export const now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"

const hexOf = (value: string): string => `CASE WHEN ${value} IS NOT NULL THEN lower(hex(${value})) END`

const localValue = (qualifier: string, of: SyncColumn): string => {
  const value = column(qualifier, of)
  return of.class === "plain" ? value : hexOf(value)
}

// SQLite of the version that knows the fewest takes 100 to 127 arguments to a function.
const membersPerCall = 49

/**
 * The row in local encoding: one member per column in declaration order, blob classes as lowercase hex
 * (payload-codec.md §2, §3). The only expression for this, so that equal rows give equal texts. The result of a row
 * with a {@link rowProblem} is undefined.
 *
 * Tables with more columns than a function takes arguments are put together by `json_insert`, which keeps NULL members.
 *
 * @since 0.1.0
 * @category expressions
 */
export const localObject = (table: SyncTable, qualifier: string): string => {
  const slice = (from: number) => table.columns.slice(from, from + membersPerCall)
  let object = `json_object(${slice(0).map((of) => `${literal(of.name)}, ${localValue(qualifier, of)}`).join(", ")})`
  for (let from = membersPerCall; from < table.columns.length; from += membersPerCall) {
    const members = slice(from).map((of) => `${path(of.name)}, ${localValue(qualifier, of)}`)
    object = `json_insert(${object}, ${members.join(", ")})`
  }
  return object
}

/**
 * The canonical `key_json` of a row (capture.md §5.3): a text key as it is, a blob key as lowercase hex.
 *
 * @since 0.1.0
 * @category expressions
 */
export const keyJson = (table: SyncTable, qualifier: string): string =>
  keyJsonOfValue(table, column(qualifier, table.key))

/**
 * The canonical `key_json` of a key value, as it stands in the key column or in a reference to it.
 *
 * @since 0.1.0
 * @category expressions
 */
export const keyJsonOfValue = (table: SyncTable, value: string): string =>
  `json_object(${literal(table.key.name)}, ${table.keyKind === "uuid" ? hexOf(value) : value})`

/**
 * The `key_json` of a row whose key may be invalid: like {@link keyJson}, and a BLOB in a text key as hex, because it has
 * no JSON form.
 *
 * @since 0.1.0
 * @category expressions
 */
export const anyKeyJson = (table: SyncTable, qualifier: string): string => {
  if (table.keyKind === "uuid") return keyJson(table, qualifier)
  const key = column(qualifier, table.key)
  return `CASE WHEN ${isBlob(key)} THEN json_object(${literal(table.key.name)}, lower(hex(${key}))) ELSE ${
    keyJson(table, qualifier)
  } END`
}

/**
 * The value of the key column out of a `key_json`: what `WHERE "id" = …` compares with. NULL if a blob key is not hex.
 *
 * @since 0.1.0
 * @category expressions
 */
export const keyFromJson = (table: SyncTable, keyJson: string): string => {
  const member = `${keyJson} ->> ${path(table.key.name)}`
  return table.keyKind === "uuid" ? `unhex(${member})` : `(${member})`
}

/**
 * Whether a row has the key of a `key_json`, byte for byte whatever the collation of the column; its index is used.
 *
 * @since 0.1.0
 * @category expressions
 */
export const hasKey = (table: SyncTable, qualifier: string, keyJson: string): string => {
  const key = column(qualifier, table.key)
  const wanted = keyFromJson(table, keyJson)
  return table.exactKey ? `${key} = ${wanted}` : `(${key} = ${wanted} AND ${key} COLLATE BINARY = ${wanted})`
}

/**
 * Whether a row has one of the keys that a SELECT of key values gives, on the terms of {@link hasKey}.
 *
 * @since 0.1.0
 * @category expressions
 */
export const hasKeyIn = (table: SyncTable, qualifier: string, keys: string): string => {
  const key = column(qualifier, table.key)
  if (table.exactKey) return `${key} IN (${keys})`
  const found = column("found", table.key)
  // No table of the host is named like the one of WITH: the prefix is the engine's.
  return `${key} IN (WITH _sync_wanted(key) AS (${keys})
    SELECT ${found} FROM _sync_wanted AS w JOIN ${identifier(table.declaredName)} AS found
        ON ${found} = w.key AND ${found} COLLATE BINARY = w.key)`
}

/**
 * Whether a text is a dashed UUID, upper case tolerated (payload-codec.md §5): 1, 0, or NULL for NULL.
 *
 * @since 0.1.0
 * @category expressions
 */
export const isDashedUuid = (text: string): string =>
  `(${text} GLOB '????????-????-????-????-????????????' AND coalesce(length(unhex(${text}, '-')), 0) = 16)`

/**
 * 32 hex digits with dashes: the spelling of a UUID on the wire.
 *
 * @since 0.1.0
 * @category expressions
 */
export const dashed = (hex: string): string =>
  `(substr(${hex}, 1, 8) || '-' || substr(${hex}, 9, 4) || '-' || substr(${hex}, 13, 4) || '-' || `
  + `substr(${hex}, 17, 4) || '-' || substr(${hex}, 21))`

/**
 * The canonical `key_json` of a wire key object (a JSON text). Check a UUID key with {@link isDashedUuid} before.
 *
 * @since 0.1.0
 * @category expressions
 */
export const wireKeyToKeyJson = (table: SyncTable, wireKey: string): string => {
  const member = `${wireKey} ->> ${path(table.key.name)}`
  return `json_object(${literal(table.key.name)}, ${
    table.keyKind === "uuid" ? `lower(replace(${member}, '-', ''))` : member
  })`
}

/**
 * The wire key object of a `key_json` (payload-codec.md §4): text keys verbatim, blob keys as dashed UUID.
 *
 * @since 0.1.0
 * @category expressions
 */
export const keyJsonToWire = (table: SyncTable, keyJson: string): string => {
  const member = `(${keyJson} ->> ${path(table.key.name)})`
  return `json_object(${literal(table.key.name)}, ${table.keyKind === "uuid" ? dashed(member) : member})`
}

/**
 * Whether the key of a row can never be uploaded: not text, or not 16 bytes (capture.md §5.4). Never NULL.
 *
 * @since 0.1.0
 * @category expressions
 */
export const isInvalidKey = (table: SyncTable, qualifier: string): string => {
  const key = column(qualifier, table.key)
  return table.keyKind === "uuid"
    ? `(typeof(${key}) <> 'blob' OR length(${key}) <> 16)`
    : `(typeof(${key}) <> 'text')`
}

const isBlob = (value: string): string => `typeof(${value}) = 'blob'`

// The guard by storage class keeps a TEXT column that holds the word Inf from looking infinite.
const isInfinite = (value: string): string => `typeof(${value}) = 'real' AND ${value} IN (9e999, -9e999)`

const plainColumns = (table: SyncTable): ReadonlyArray<SyncColumn> => table.columns.filter((of) => of.class === "plain")

const canBeReal = (of: SyncColumn): boolean => of.affinity !== "TEXT"

const grouped = (operator: "AND" | "OR", conditions: ReadonlyArray<string>): string => {
  if (conditions.length <= 50) return `(${conditions.join(` ${operator} `)})`
  const groups: Array<string> = []
  for (let from = 0; from < conditions.length; from += 50) {
    groups.push(grouped(operator, conditions.slice(from, from + 50)))
  }
  return grouped(operator, groups)
}

/**
 * Whether one of the conditions holds. A long chain of OR is as deep as it is long, and SQLite limits the depth of an
 * expression, so long ones are put together in groups.
 *
 * @since 0.1.0
 * @category expressions
 */
export const anyOf = (conditions: ReadonlyArray<string>): string =>
  conditions.length === 0 ? "0" : grouped("OR", conditions)

/**
 * Whether all conditions hold, however many there are; see {@link anyOf}.
 *
 * @since 0.1.0
 * @category expressions
 */
export const allOf = (conditions: ReadonlyArray<string>): string =>
  conditions.length === 0 ? "1" : grouped("AND", conditions)

/**
 * Whether a row holds a value that has no JSON form: a BLOB in a column that is not of a blob class, or an infinite
 * REAL (capture.md §5.4). Never NULL.
 *
 * @since 0.1.0
 * @category expressions
 */
export const isInvalidValue = (table: SyncTable, qualifier: string): string =>
  anyOf(
    plainColumns(table).flatMap((of) => {
      const value = column(qualifier, of)
      return canBeReal(of) ? [isBlob(value), isInfinite(value)] : [isBlob(value)]
    })
  )

/**
 * Why a row cannot be serialised or found again by its key: NULL, or a JSON text `["code", "column"]` with a code of
 * `LocalDataError` (`blob_in_plain_column`, `real_not_finite`, `invalid_blob_uuid_key`) and the lowercase column name of
 * the first offender (payload-codec.md §3). Keys that are NULL or not 16 bytes long are for freezing to name.
 *
 * @since 0.1.0
 * @category expressions
 */
export const rowProblem = (table: SyncTable, qualifier: string): string => {
  const when = (condition: string, code: LocalDataCode, of: SyncColumn) =>
    `WHEN ${condition} THEN json_array(${literal(code)}, ${literal(of.name)})`
  const key = column(qualifier, table.key)
  const cases = table.keyKind === "uuid"
    ? [when(`typeof(${key}) NOT IN ('blob', 'null')`, "invalid_blob_uuid_key", table.key)]
    : []
  for (const of of plainColumns(table)) {
    const value = column(qualifier, of)
    cases.push(when(isBlob(value), "blob_in_plain_column", of))
    if (canBeReal(of)) cases.push(when(isInfinite(value), "real_not_finite", of))
  }
  return `CASE ${cases.join(" ")} END`
}
