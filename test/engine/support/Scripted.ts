/** Answers of a server, written out in a test, so that every character of a payload is the test's. */
import { Effect } from "effect"
import type { Network } from "./Network.js"
import { answered } from "./Network.js"

export interface ScriptedRow {
  readonly schema?: string
  readonly table: string
  /** JSON text of the wire key. */
  readonly key: string
  readonly op?: "INSERT" | "UPDATE" | "DELETE"
  readonly version?: number
  /** JSON text. */
  readonly payload?: string
}

const rowText = (row: ScriptedRow, version: number, op: string | undefined) =>
  `{"schema":"${row.schema ?? "business"}","table":"${row.table}","key":${row.key},"row_version":${
    row.version ?? version
  }${op === undefined ? "" : `,"op":"${op}"`}${row.payload === undefined ? "" : `,"payload":${row.payload}`}}`

/** The next pull is answered with these bundles, numbered from `first` on. */
export const pullAnswer = (
  network: Network,
  bundles: ReadonlyArray<ReadonlyArray<ScriptedRow>>,
  first = 1
): Effect.Effect<void> => {
  const texts = bundles.map((rows, index) => {
    const seq = first + index
    const of = rows.map((row) => rowText(row, seq, row.op ?? (row.payload === undefined ? "DELETE" : "INSERT")))
    return `{"bundle_seq":${seq},"source_id":"other","source_bundle_id":${seq},"rows":[${of.join(",")}]}`
  })
  const ceiling = first + bundles.length - 1
  return network.fault(
    "pull",
    answered(200, `{"stable_bundle_seq":${ceiling},"has_more":false,"bundles":[${texts.join(",")}]}`)
  )
}

/** The next snapshot consists of these rows, in one chunk. */
export const snapshotAnswer = (
  network: Network,
  rows: ReadonlyArray<ScriptedRow>,
  seq = 1
): Effect.Effect<void> =>
  Effect.zipRight(
    network.fault(
      "snapshot create",
      answered(200, {
        snapshot_id: "00000000-0000-4000-8000-000000000000",
        snapshot_bundle_seq: seq,
        row_count: rows.length,
        expires_at: "2030-01-01T00:00:00Z"
      })
    ),
    network.fault(
      "snapshot chunk",
      answered(
        200,
        `{"snapshot_id":"00000000-0000-4000-8000-000000000000","snapshot_bundle_seq":${seq},"next_row_ordinal":${rows.length},`
          + `"has_more":false,"rows":[${rows.map((row) => rowText(row, seq, undefined)).join(",")}]}`
      )
    )
  )
