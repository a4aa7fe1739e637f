/** What runs once per batch must not look at everything each time: time grows with the rows, not with their square. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { counting } from "../storage/support/database.js"
import type { Device } from "./support/Devices.js"
import { makeWorld } from "./support/World.js"

/** Small batches, so that whatever runs per batch runs often. */
const options = { uploadLimit: 7, committedRowsLimit: 7, snapshotChunkRows: 7, applyRows: 8 }

/** Rows of each table. */
const rows = 60
const batches = 6

const insert = ({ run }: Device) =>
  Effect.gen(function*() {
    const numbers = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})`
    yield* run(`${numbers} INSERT INTO users SELECT 'u' || i, 'User ' || i, i || '@x', i + 0.5 FROM n`)
    yield* run(`${numbers} INSERT INTO posts SELECT 'p' || i, 'Post', 'u' || i FROM n`)
    yield* run(`${numbers} INSERT INTO files SELECT unhex(printf('%032x', i)), 'f', randomblob(5) FROM n`)
  })

/** An application that refers to rows has an index for it; without one SQLite itself scans. */
const indexed = (device: Device) =>
  Effect.as(device.run("CREATE INDEX IF NOT EXISTS posts_by_author ON posts (author_id)"), device)

/** What holds all rows of the run, by name or by the alias that the statements give it. */
const full = /^SCAN (?:_sync_(?!managed)\w+|[dipost]|users|posts|files)\b/

/** The statements of the device that ran once per batch or more and scan a table that holds all rows. */
const scanning = (device: Device, statements: ReadonlyArray<string>, allowed: RegExp) =>
  Effect.gen(function*() {
    const times = new Map<string, number>()
    for (const statement of statements) times.set(statement, (times.get(statement) ?? 0) + 1)
    const repeated = [...times].filter(([text, count]) =>
      count >= batches && /^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)/.test(text) && !text.includes("server_")
    )
    assert.isAbove(repeated.length, 3)
    const found: Array<string> = []
    for (const [text] of repeated) {
      const parameters = text.replaceAll(/'[^']*'/g, "").split("?").slice(1).map(() => null)
      const plan = yield* device.run(`EXPLAIN QUERY PLAN ${text}`, parameters)
      const scans = plan.map(({ detail }) => String(detail)).filter((detail) =>
        full.test(detail) && !allowed.test(detail)
      )
      if (scans.length > 0) found.push(`${scans.join("; ")}: ${text.replaceAll(/\s+/g, " ")}`)
    }
    return found
  })

describe("what runs once per batch", () => {
  it.scoped("finds its rows by key in a push and its replay [push.md §14]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* Effect.flatMap(world.attached(options), indexed)
      yield* insert(device)
      const [, { statements }] = yield* counting(device.sync.pushPending)
      assert.deepStrictEqual(yield* scanning(device, statements, /^$/), [])
    }))

  it.scoped("finds its rows by key when a snapshot is applied under pending work [pull.md §6]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const writer = yield* world.attached()
      yield* insert(writer)
      yield* writer.sync.pushPending
      const device = yield* Effect.flatMap(world.attached(options), indexed)
      yield* device.run("UPDATE users SET score = 0")
      yield* device.run("DELETE FROM posts")
      const [, { statements }] = yield* counting(device.sync.rebuild)
      // The rows of one batch are all there is in the work table.
      assert.deepStrictEqual(yield* scanning(device, statements, /^SCAN s$|^SCAN _sync_incoming$/), [])
    }))
})
