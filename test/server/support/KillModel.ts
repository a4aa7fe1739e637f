/** What must be true of a scope after a restart, checked against what its sources know. */
import { Schema } from "effect"
import { BundleHash, CanonicalJson, Wire } from "oversqlite/protocol"
import type { KillSource } from "./KillSource.js"
import { rawDevice } from "./RawClient.js"
import type { RawDevice } from "./RawClient.js"

const pageOf = Schema.decodeUnknownSync(Wire.PullPage)
const sessionOf = Schema.decodeUnknownSync(Wire.SnapshotSession)
const chunkOf = Schema.decodeUnknownSync(Wire.SnapshotChunk)

const allBundles = async (reader: RawDevice): Promise<ReadonlyArray<Wire.Bundle>> => {
  const bundles: Array<Wire.Bundle> = []
  for (let target = "";;) {
    const page = pageOf((await reader.pull(bundles.at(-1)?.bundle_seq ?? 0, `&max_bundles=1000${target}`)).body)
    bundles.push(...page.bundles)
    if (!page.has_more) return bundles
    target = `&target_bundle_seq=${page.stable_bundle_seq}`
  }
}

/** The live rows of a scope as `key → version and payload`. */
const liveRows = async (reader: RawDevice): Promise<ReadonlyMap<string, string>> => {
  const session = sessionOf((await reader.send("POST", "/sync/snapshot-sessions")).body)
  const path = `/sync/snapshot-sessions/${session.snapshot_id}`
  const rows = new Map<string, string>()
  for (let after = 0;;) {
    const chunk = chunkOf((await reader.send("GET", `${path}?max_rows=5000&after_row_ordinal=${after}`)).body)
    for (const row of chunk.rows) {
      rows.set(String(row.key["id"]), `${row.row_version} ${CanonicalJson.encode(row.payload)}`)
    }
    if (!chunk.has_more) break
    after = chunk.next_row_ordinal
  }
  await reader.send("DELETE", path)
  return rows
}

interface Content {
  readonly op: string
  readonly key: unknown
  readonly payload?: unknown
}

const contentOf = (rows: ReadonlyArray<Content>): string =>
  CanonicalJson.encode(rows.map(({ key, op, payload }) => [op, key, payload ?? null]))

const ascending = (numbers: ReadonlyArray<number>): boolean => numbers.every((number, index) => number === index + 1)

/**
 * Reads the whole history and all rows of a scope and says what is wrong: gaps, bundles twice, acknowledged bundles that are
 * missing or different, bundles nobody sent, rows that are not what the history makes of them. Tells the sources what has
 * become of the bundles they are in doubt about.
 */
export const verifyScope = async (
  user: string,
  sources: ReadonlyArray<KillSource>,
  connection: { readonly url: string; readonly token: string }
): Promise<{ readonly problems: ReadonlyArray<string>; readonly bundles: number; readonly rows: number }> => {
  const problems: Array<string> = []
  const reader = rawDevice({ ...connection, source: "reader" })
  const bundles = await allBundles(reader)
  const problem = (what: string) => problems.push(`${user}: ${what}`)

  if (!ascending(bundles.map((bundle) => bundle.bundle_seq))) problem("bundle_seq has gaps or repetitions")
  const model = new Map<string, string>()
  for (const bundle of bundles) {
    const name = `bundle ${bundle.bundle_seq} (${bundle.source_id} ${bundle.source_bundle_id})`
    const digest = BundleHash.bundleHash(bundle.rows)
    if (digest !== bundle.bundle_hash) problem(`${name}: the hash is not that of its rows`)
    if (bundle.rows.length !== bundle.row_count) problem(`${name}: row_count is not the number of rows`)
    const source = sources.find(({ id }) => id === bundle.source_id)
    const sent = source?.sent.get(bundle.source_bundle_id)
    if (sent === undefined) problem(`${name}: nobody has sent it`)
    else if (contentOf(sent) !== contentOf(bundle.rows)) problem(`${name}: not what was sent`)
    for (const row of bundle.rows) {
      if (row.row_version !== bundle.bundle_seq) problem(`${name}: a row has another version`)
      const key = String(row.key["id"])
      if (row.op === "DELETE") model.delete(key)
      else model.set(key, `${row.row_version} ${CanonicalJson.encode(row.payload)}`)
    }
  }

  for (const source of sources) {
    const own = bundles.filter((bundle) => bundle.source_id === source.id)
    if (!ascending(own.map((bundle) => bundle.source_bundle_id))) {
      problem(`${source.id}: source_bundle_id has gaps or repetitions`)
    }
    for (const [id, { bundleHash, bundleSeq, rowCount }] of source.acknowledged) {
      const found = own[id - 1]
      if (found === undefined) problem(`${source.id} ${id}: acknowledged as ${bundleSeq}, and lost`)
      else if (found.bundle_seq !== bundleSeq || found.bundle_hash !== bundleHash || found.row_count !== rowCount) {
        problem(`${source.id} ${id}: acknowledged as ${bundleSeq}, and different`)
      }
    }
    const { inDoubt } = source
    const unknown = own.slice(source.acknowledged.size).map((bundle) => bundle.source_bundle_id)
    if (inDoubt !== undefined) source.expect(unknown.includes(inDoubt))
    if (unknown.some((id) => id !== inDoubt)) problem(`${source.id}: committed although nobody asked: ${unknown}`)
  }

  const live = await liveRows(reader)
  if (JSON.stringify([...live].sort()) !== JSON.stringify([...model].sort())) {
    problem("the rows are not what the history makes of them")
  }
  reader.close()
  return { problems, bundles: bundles.length, rows: bundles.reduce((sum, bundle) => sum + bundle.row_count, 0) }
}
