import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { BundleHash, Wire } from "oversqlite/protocol"
import { scenarios } from "./fixtures.js"
import { vectors } from "./vectors.js"

const decodePage = Schema.decodeUnknownSync(Wire.CommittedRowsPage)
const decodePull = Schema.decodeUnknownSync(Wire.PullPage)
const decodeCommit = Schema.decodeUnknownSync(Wire.CommitResponse)

/** Everything a scenario says about one of its bundles. */
interface Recorded {
  readonly hashes: Array<string>
  readonly rows: Array<Wire.BundleRow>
  readonly pulled: Array<Wire.Bundle>
  rowCount: number
}

const recordedBundles = (steps: (typeof scenarios)[number]["steps"]): ReadonlyMap<number, Recorded> => {
  const bundles = new Map<number, Recorded>()
  const bundle = (sequence: number): Recorded => {
    const known = bundles.get(sequence) ?? { hashes: [], rows: [], pulled: [], rowCount: 0 }
    bundles.set(sequence, known)
    return known
  }
  for (const { request, response } of steps) {
    if (response.status !== 200) continue
    const body: unknown = JSON.parse(response.body)
    const createdTwice = request.path.endsWith("/push-sessions") && response.body.includes("already_committed")
    if (request.path.endsWith("/commit") || createdTwice) {
      const commit = decodeCommit(body)
      bundle(commit.bundle_seq).hashes.push(commit.bundle_hash)
    } else if (request.path.includes("/committed-bundles/")) {
      const page = decodePage(body)
      const known = bundle(page.bundle_seq)
      known.hashes.push(page.bundle_hash)
      known.rowCount = page.row_count
      if (!/after_row_ordinal/.test(request.path)) known.rows.length = 0
      known.rows.push(...page.rows)
    } else if (request.path.startsWith("/sync/pull")) {
      for (const pulled of decodePull(body).bundles) {
        bundle(pulled.bundle_seq).hashes.push(pulled.bundle_hash)
        bundle(pulled.bundle_seq).pulled.push(pulled)
      }
    }
  }
  return bundles
}

describe("BundleHash", () => {
  for (const vector of vectors.filter(({ kind }) => kind !== "json")) {
    it(`reproduces the vector ${vector.id} from its rows [hashing.md §7.2]`, () => {
      const rows: ReadonlyArray<BundleHash.CommittedRow & BundleHash.UploadRow> = JSON.parse(vector.out ?? "")
      const whole = vector.kind === "bundle_hash" ? BundleHash.bundleDigest() : BundleHash.requestDigest()
      whole.add(rows)
      assert.deepStrictEqual(whole.finish(), { hash: vector.sha256, byteCount: vector.bytes, rowCount: rows.length })
      const oneByOne = vector.kind === "bundle_hash" ? BundleHash.bundleDigest() : BundleHash.requestDigest()
      for (const row of rows) {
        oneByOne.add([row])
      }
      assert.strictEqual(oneByOne.finish().hash, vector.sha256)
      const hash = vector.kind === "bundle_hash" ? BundleHash.bundleHash(rows) : BundleHash.requestHash(rows)
      assert.strictEqual(hash, vector.sha256)
    })
  }

  it("recomputes the hash of every recorded bundle, from its pages and from pull [hashing.md §2.2]", () => {
    let fromPages = 0
    let fromPull = 0
    for (const { name, steps } of scenarios) {
      for (const [sequence, { hashes, pulled, rowCount, rows }] of recordedBundles(steps)) {
        assert.strictEqual(new Set(hashes).size, 1, `${name}: bundle ${sequence} has one hash`)
        if (rows.length > 0) {
          assert.strictEqual(rows.length, rowCount)
          assert.strictEqual(BundleHash.bundleHash(rows), hashes[0], `${name}: bundle ${sequence}`)
          fromPages += 1
        }
        for (const bundle of pulled) {
          assert.strictEqual(bundle.rows.length, bundle.row_count)
          assert.strictEqual(BundleHash.bundleHash(bundle.rows), bundle.bundle_hash, `${name}: bundle ${sequence}`)
          fromPull += 1
        }
      }
    }
    assert.strictEqual(fromPages, 17)
    assert.strictEqual(fromPull, 8)
  })

  it("counts ordinals over all pages and hashes larger bundles in pieces alike [hashing.md §2.2]", () => {
    const rows = Array.from({ length: 3000 }, (_, index) => ({
      schema: "business",
      table: "users",
      key: { id: `key ${index}` },
      op: "INSERT",
      row_version: 3,
      payload: { id: `key ${index}`, name: "näme & \u{1f600}".repeat(index % 7) }
    }))
    const pages = BundleHash.bundleDigest()
    for (let start = 0; start < rows.length; start += 700) {
      pages.add(rows.slice(start, start + 700))
    }
    const { byteCount, hash, rowCount } = pages.finish()
    assert.strictEqual(hash, BundleHash.bundleHash(rows))
    assert.strictEqual(rowCount, 3000)
    assert.isAbove(byteCount, 3000 * 150)
    assert.notStrictEqual(BundleHash.bundleHash(rows.toReversed()), hash)
    assert.notStrictEqual(BundleHash.bundleHash(rows.slice(1)), hash)
  })

  it("treats an absent and a null payload alike in a bundle, not in an upload [hashing.md §4]", () => {
    const row = { schema: "s", table: "t", key: { id: "1" }, op: "DELETE", row_version: 1, base_row_version: 1 }
    assert.strictEqual(BundleHash.bundleHash([row]), BundleHash.bundleHash([{ ...row, payload: null }]))
    assert.notStrictEqual(BundleHash.requestHash([row]), BundleHash.requestHash([{ ...row, payload: null }]))
    assert.notStrictEqual(BundleHash.bundleHash([row]), BundleHash.bundleHash([{ ...row, payload: {} }]))
  })

  it("gives a value beyond binary64 a hash of its own instead of failing [hashing.md §2.2]", () => {
    const row = { schema: "s", table: "t", key: { id: "1" }, op: "INSERT", row_version: 1 }
    assert.notStrictEqual(
      BundleHash.bundleHash([{ ...row, payload: JSON.parse("{\"a\":1e999}") }]),
      BundleHash.bundleHash([{ ...row, payload: { a: null } }])
    )
  })
})
