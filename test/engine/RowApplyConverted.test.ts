/** Values that SQL cannot convert by itself, in several tables of one bundle (payload-codec.md §5, §9.2). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Device } from "./support/Devices.js"
import { makeWorld } from "./support/World.js"

const names = ["one", "two", "three"] as const

const tables = names.map((name) => ({ name, key: "id" }))

const declared = names.map((table) => ({ schema: "business", table, key: { column: "id", kind: "text" as const } }))

const withColumn = (type: string) => ({
  ddl: names.map((name) => `CREATE TABLE ${name} (id TEXT PRIMARY KEY NOT NULL, data ${type}, note TEXT)`),
  tables
})

const written = (payloads: ReadonlyArray<Record<string, unknown>>) =>
  names.map((table, index) => ({ table, key: "k", payload: { note: null, ...payloads[index] } }))

const contents = (device: Device) =>
  Effect.map(
    device.run(
      names.map((name) => `SELECT typeof(data) || ' ' || quote(data) AS data FROM ${name}`).join(" UNION ALL ")
    ),
    (rows) => rows.map(({ data }) => data)
  )

const blobs = ["blob X'00FF'", "blob X'AABB'", "blob X''"]

const onWire = written([{ data: "AP8=" }, { data: "qrs=" }, { data: "" }])

const insertBlobs = (device: Device) =>
  Effect.gen(function*() {
    yield* device.run("INSERT INTO one VALUES ('k', x'00ff', NULL)")
    yield* device.run("INSERT INTO two VALUES ('k', x'aabb', NULL)")
    yield* device.run("INSERT INTO three VALUES ('k', x'', NULL)")
  })

describe("blobs of several tables in one bundle", () => {
  it.scoped("survive the replay of the own upload, and an edit after it [push.md §9]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      const a = yield* world.attached(withColumn("BLOB"))
      const b = yield* world.attached(withColumn("BLOB"))
      yield* insertBlobs(a)
      yield* a.sync.pushPending
      assert.deepStrictEqual(yield* contents(a), blobs)
      yield* a.run("UPDATE one SET note = 'edited'")
      yield* a.sync.sync
      yield* b.sync.sync
      assert.deepStrictEqual(yield* contents(b), blobs)
    }))

  it.scoped("arrive by a pull [pull.md §4.1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      const a = yield* world.attached(withColumn("BLOB"))
      yield* world.write(onWire)
      yield* a.sync.pullToStable
      assert.deepStrictEqual(yield* contents(a), blobs)
    }))

  it.scoped("arrive by a snapshot [pull.md §6]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      yield* world.attached(withColumn("BLOB"))
      yield* world.write(onWire)
      assert.deepStrictEqual(yield* contents(yield* world.attached(withColumn("BLOB"))), blobs)
    }))
})

it.scoped("fractions for TEXT columns of several tables arrive as the server writes them [payload-codec.md §5]", () =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared })
    const a = yield* world.attached(withColumn("TEXT"))
    yield* world.write(written([{ data: 1.5 }, { data: 2.25 }, { data: -3.125 }]))
    yield* a.sync.pullToStable
    assert.deepStrictEqual(yield* contents(a), ["text '1.5'", "text '2.25'", "text '-3.125'"])
  }))
