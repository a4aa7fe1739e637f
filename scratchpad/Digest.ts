/** Content digests over all tables, the same for a device and for the server if they hold the same rows. */
import type Database from "better-sqlite3"
import { Effect, Either, Stream } from "effect"
import { createHash } from "node:crypto"
import { CanonicalJson } from "oversqlite/protocol"
import type { ServerFailure } from "oversqlite/server"
import type { Server } from "./Parts.js"

/** One row: the name of its table, its key and its canonical text. */
interface Row {
  readonly table: string
  readonly key: string
  readonly text: string
}

/** The rows of one party: tables by name, keys by their bytes. */
type Rows = Stream.Stream<Row, ServerFailure>

const keys = { cities: "id", continents: "code", countries: "code" }

/** The rows of a device, read through the application's own connection. */
export const deviceRows = (database: Database.Database): Rows =>
  Stream.flatMap(
    Stream.fromIterable(Object.entries(keys)),
    ([table, key]) =>
      Stream.suspend(() =>
        Stream.fromIterable(
          database.prepare<[], Readonly<Record<string, unknown>>>(
            `SELECT * FROM ${table} ORDER BY ${key}`
          ).iterate()
        )
      ).pipe(
        Stream.map((row): Row => ({ table, key: String(row[key]), text: CanonicalJson.encode(row) }))
      )
  )

/** The rows of the account on the server. */
export const serverRows = ({ rows }: Server): Rows =>
  Stream.map(rows, ({ key, payload, table }): Row => ({
    table: table.table,
    key,
    text: Either.getOrThrow(CanonicalJson.canonicalize(payload))
  }))

export interface Digest {
  readonly rows: number
  /** SHA-256 per table, in hexadecimal digits. */
  readonly tables: Readonly<Record<string, string>>
}

export const digest = (rows: Rows): Effect.Effect<Digest, ServerFailure> =>
  Effect.gen(function*() {
    const hashes = Object.fromEntries(Object.keys(keys).map((table) => [table, createHash("sha256")]))
    let count = 0
    yield* Stream.runForEachChunk(rows, (chunk) =>
      Effect.sync(() => {
        for (const { table, text } of chunk) {
          hashes[table]?.update(`${text}\n`)
          count++
        }
      }))
    return {
      rows: count,
      tables: Object.fromEntries(Object.entries(hashes).map(([table, hash]) => [table, hash.digest("hex")]))
    }
  })

const differences = (left: ReadonlyMap<string, string>, right: ReadonlyMap<string, string>): ReadonlyArray<string> =>
  [...new Set([...left.keys(), ...right.keys()])]
    .filter((key) => left.get(key) !== right.get(key))
    .map((key) => `  ${key}\n    ${left.get(key) ?? "(no row)"}\n    ${right.get(key) ?? "(no row)"}`)

const byKey = (rows: Rows) =>
  Stream.runFold(rows, new Map<string, string>(), (map, { key, table, text }) => map.set(`${table} ${key}`, text))

/** Compares two parties row by row: a text for people, with ten rows at most. */
export const explain = (leftName: string, left: Rows, rightName: string, right: Rows) =>
  Effect.gen(function*() {
    const found = differences(yield* byKey(left), yield* byKey(right))
    const more = found.length > 10 ? [`  and ${found.length - 10} more`] : []
    return [`${found.length} rows differ between ${leftName} and ${rightName}:`, ...found.slice(0, 10), ...more]
      .join("\n")
  })
