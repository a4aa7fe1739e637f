/** Content digests over all tables, the same for a device and for the server if they hold the same rows. */
import type Database from "better-sqlite3"
import { Effect, Either, Stream } from "effect"
import { createHash } from "node:crypto"
import { CanonicalJson } from "oversqlite/protocol"
import type { Server } from "./Parts.js"

type Table = keyof typeof keys

const keys = { cities: "id", continents: "code", countries: "code" }

const tableNames: ReadonlyArray<Table> = ["cities", "continents", "countries"]

/** Sees every row of a party, one by one: tables by name, keys by their bytes. `text` is the canonical text of the row. */
type Read<E = never> = (see: (table: string, key: string, text: string) => void) => Effect.Effect<void, E>

/** The rows of a device, read through the application's own connection. */
export const readDevice = (database: Database.Database): Read => (see) =>
  Effect.sync(() => {
    for (const table of tableNames) {
      const key = keys[table]
      const rows = database.prepare<[], Readonly<Record<string, unknown>>>(`SELECT * FROM ${table} ORDER BY ${key}`)
      for (const row of rows.iterate()) see(table, String(row[key]), CanonicalJson.encode(row))
    }
  })

/** The rows of the account on the server. */
export const readServer = ({ rows }: Server): Read<Stream.Stream.Error<Server["rows"]>> => (see) =>
  Stream.runForEachChunk(rows, (chunk) =>
    Effect.sync(() => {
      for (const { key, payload, table } of chunk) {
        see(table.table, key, Either.getOrThrow(CanonicalJson.canonicalize(payload)))
      }
    }))

/** How many rows a party has, and per table SHA-256 over their texts in hexadecimal digits. */
export interface Digest {
  readonly rows: number
  readonly tables: Readonly<Record<string, string>>
}

export const digest = <E>(read: Read<E>): Effect.Effect<Digest, E> =>
  Effect.gen(function*() {
    const hashes = new Map<string, ReturnType<typeof createHash>>(
      tableNames.map((table) => [table, createHash("sha256")])
    )
    let rows = 0
    yield* read((table, _key, text) => {
      hashes.get(table)?.update(`${text}\n`)
      rows++
    })
    return { rows, tables: Object.fromEntries([...hashes].map(([table, hash]) => [table, hash.digest("hex")])) }
  })

const texts = <E>(read: Read<E>): Effect.Effect<ReadonlyMap<string, string>, E> =>
  Effect.gen(function*() {
    const found = new Map<string, string>()
    yield* read((table, key, text) => found.set(`${table} ${key}`, text))
    return found
  })

/** Compares two parties row by row: a text for people, with ten rows at most. */
export const explain = <E, F>(leftName: string, left: Read<E>, rightName: string, right: Read<F>) =>
  Effect.zipWith(texts(left), texts(right), (left, right) => {
    const differing = [...new Set([...left.keys(), ...right.keys()])].filter((key) => left.get(key) !== right.get(key))
    return [
      `${differing.length} rows differ between ${leftName} and ${rightName}:`,
      ...differing.slice(0, 10).flatMap((key) => [
        `  ${key}`,
        `    ${leftName}: ${left.get(key) ?? "no row"}`,
        `    ${rightName}: ${right.get(key) ?? "no row"}`
      ]),
      ...differing.length > 10 ? [`  and ${differing.length - 10} more`] : []
    ].join("\n")
  })
