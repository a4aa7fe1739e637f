/** What a database holds, in a form that tests can compare and read. */
import { Effect } from "effect"
import type { Device } from "./Devices.js"

type Reader = Pick<Device, "run">

type Rows = ReadonlyArray<Record<string, unknown>>

/** Every value of every table, spelled exactly: to show that nothing has changed. */
export const dump = (
  { run }: Reader,
  without: ReadonlyArray<string> = []
): Effect.Effect<Readonly<Record<string, ReadonlyArray<string>>>> =>
  Effect.gen(function*() {
    const tables = yield* run("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    const contents: Record<string, ReadonlyArray<string>> = {}
    for (const { name } of tables) {
      const table = String(name)
      if (without.includes(table)) continue
      const columns = yield* run("SELECT name FROM pragma_table_info(?)", [table])
      const values = columns.map((column) => `quote("${String(column["name"])}")`).join(" || ', ' || ")
      contents[table] = (yield* run(`SELECT ${values} AS line FROM "${table}" ORDER BY 1`)).map((row) =>
        String(row["line"])
      )
    }
    return contents
  })

/** The key of a row without its JSON: `{"id":"u1"}` → `u1`. */
export const keyOf = (keyJson: unknown): string => String(Object.values(JSON.parse(String(keyJson)))[0])

export interface Pending {
  readonly row: string
  readonly op: string
  readonly base: number
  /** The payload as a value. */
  readonly payload: unknown
}

const pendingOf = (rows: Rows): ReadonlyArray<Pending> =>
  rows.map((row) => ({
    row: `${String(row["table_name"])} ${keyOf(row["key_json"])}`,
    op: String(row["op"]),
    base: Number(row["base_row_version"]),
    payload: row["payload"] === null ? null : JSON.parse(String(row["payload"]))
  }))

/** Dirty rows in the order of their first capture. */
export const dirtyRows = ({ run }: Reader): Effect.Effect<ReadonlyArray<Pending>> =>
  Effect.map(
    run("SELECT table_name, key_json, op, base_row_version, payload FROM _sync_dirty_rows ORDER BY dirty_ordinal"),
    pendingOf
  )

/** Frozen rows in upload order, with their local payload. */
export const frozenRows = ({ run }: Reader): Effect.Effect<ReadonlyArray<Pending>> =>
  Effect.map(
    run(
      `SELECT table_name, key_json, op, base_row_version, local_payload AS payload FROM _sync_outbox_rows
        ORDER BY row_ordinal`
    ),
    pendingOf
  )

/** Dirty rows as `UPDATE users u1 base 3`. */
export const dirty = (device: Reader): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(dirtyRows(device), (rows) => rows.map(({ base, op, row }) => `${op} ${row} base ${base}`))

/** Frozen rows as `UPDATE users u1 base 3`. */
export const frozen = (device: Reader): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(frozenRows(device), (rows) => rows.map(({ base, op, row }) => `${op} ${row} base ${base}`))

/** Row state as `users u1` → `3 live` or `3 deleted`. */
export const rowState = ({ run }: Reader): Effect.Effect<Readonly<Record<string, string>>> =>
  Effect.map(
    run("SELECT table_name, key_json, row_version, deleted FROM _sync_row_state ORDER BY 1, 2"),
    (rows) =>
      Object.fromEntries(
        rows.map((row) => [
          `${String(row["table_name"])} ${keyOf(row["key_json"])}`,
          `${String(row["row_version"])} ${row["deleted"] === 1 ? "deleted" : "live"}`
        ])
      )
  )

export interface Header {
  readonly state: string
  readonly sourceId: string
  readonly sourceBundleId: number
  readonly rowCount: number
  readonly bundleSeq: number
}

/** The header of the outbox. */
export const header = ({ run }: Reader): Effect.Effect<Header> =>
  Effect.map(run("SELECT * FROM _sync_outbox_bundle"), ([row]) => ({
    state: String(row?.["state"]),
    sourceId: String(row?.["source_id"]),
    sourceBundleId: Number(row?.["source_bundle_id"]),
    rowCount: Number(row?.["row_count"]),
    bundleSeq: Number(row?.["remote_bundle_seq"])
  }))

/** State of the outbox header: `none`, `prepared` or `committed_remote`. */
export const outboxState = (device: Reader): Effect.Effect<string> => Effect.map(header(device), ({ state }) => state)

/** Number of the next upload of the current source. */
export const nextNumber = ({ run }: Reader): Effect.Effect<number> =>
  Effect.map(
    run(
      `SELECT s.next_source_bundle_id AS n FROM _sync_attachment_state AS a
         JOIN _sync_source_state AS s ON s.source_id = a.current_source_id`
    ),
    ([row]) => Number(row?.["n"])
  )

/** The first column of the first row. */
export const value = ({ run }: Reader, text: string): Effect.Effect<unknown> =>
  Effect.map(run(text), ([row]) => row === undefined ? undefined : Object.values(row)[0])
