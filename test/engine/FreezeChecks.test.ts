/** What a freeze refuses, and how it spells what it uploads (payload-codec.md §3, §4; DESIGN D7). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { LocalDataError, SyncOptions } from "oversqlite"
import { dirty, dump, frozen, value } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { ddl, serverTables, tables } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { changed, lost } from "./support/Network.js"
import type { World } from "./support/World.js"
import { makeWorld } from "./support/World.js"

const offline = { retryPolicy: { enabled: false } }

/** Tables with a nullable key, columns of every affinity and a reference between blobs. */
const schema: { readonly ddl: ReadonlyArray<string>; readonly tables: SyncOptions["tables"] } = {
  ddl: [
    ...ddl,
    "CREATE TABLE notes (id TEXT PRIMARY KEY, i INTEGER, r REAL, t TEXT, n NUMERIC, x)",
    "CREATE TABLE reviews (id BLOB PRIMARY KEY NOT NULL, file BLOB REFERENCES files (id), data BLOB)"
  ],
  tables: [...tables, { name: "notes", key: "id" }, { name: "reviews", key: "id" }]
}

const declared = [
  ...serverTables,
  { schema: "business", table: "notes", key: { column: "id", kind: "text" as const } },
  { schema: "business", table: "reviews", key: { column: "id", kind: "uuid" as const } }
]

const uuid = "00112233445566778899aabbccddeeff"

const started = Effect.gen(function*() {
  const world = yield* makeWorld({ declared })
  const device = yield* world.attached({ ...offline, ...schema })
  yield* device.run("INSERT INTO users VALUES ('good', 'Good', NULL, 1)")
  yield* device.sync.pushPending
  return { world, device }
})

/** Writes past the triggers, as a database of the reference may hold it, and notes the row as dirty. */
const smuggle = (device: Device, table: string, keyJson: string, insert: string) =>
  Effect.gen(function*() {
    yield* device.run("PRAGMA foreign_keys = OFF")
    yield* device.run("UPDATE _sync_apply_state SET apply_mode = 1")
    yield* device.run(insert)
    yield* device.run("UPDATE _sync_apply_state SET apply_mode = 0")
    yield* device.run("PRAGMA foreign_keys = ON")
    yield* device.run(
      `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, payload, dirty_ordinal)
       VALUES ('business', ?, ?, 'INSERT', '{}', 50)`,
      [table, keyJson]
    )
  })

interface Check {
  readonly code: LocalDataError["code"]
  readonly table: string
  readonly key: string
  readonly column: string
  readonly insert: string
  /** What the host does about it. */
  readonly wayOn: string
}

/** payload-codec.md §4.1, but for the integers. */
const checks: ReadonlyArray<Check> = [
  {
    code: "key_not_text",
    table: "notes",
    key: "{\"id\":null}",
    column: "id",
    insert: "INSERT INTO notes (id, t) VALUES (NULL, 'no key')",
    wayOn: "DELETE FROM notes WHERE id IS NULL"
  },
  {
    code: "invalid_blob_uuid_key",
    table: "files",
    key: "{\"id\":\"0011\"}",
    column: "id",
    insert: "INSERT INTO files VALUES (x'0011', 'short', NULL)",
    wayOn: `UPDATE files SET id = x'${uuid}' WHERE id = x'0011'`
  },
  {
    code: "invalid_blob_uuid_reference",
    table: "reviews",
    key: `{"id":"${uuid}"}`,
    column: "file",
    insert: `INSERT INTO reviews VALUES (x'${uuid}', x'0011', NULL)`,
    wayOn: "UPDATE reviews SET file = NULL"
  },
  {
    code: "blob_in_plain_column",
    table: "notes",
    key: "{\"id\":\"n\"}",
    column: "t",
    insert: "INSERT INTO notes (id, t) VALUES ('n', x'0c')",
    wayOn: "UPDATE notes SET t = 'text'"
  },
  {
    code: "blob_in_plain_column",
    table: "notes",
    key: "{\"id\":\"n\"}",
    column: "x",
    // The integer before it is no reason to overlook the blob: this server takes integers of 64 bits.
    insert: "INSERT INTO notes (id, i, x) VALUES ('n', 9007199254740993, x'0c')",
    wayOn: "DELETE FROM notes"
  },
  {
    code: "real_not_finite",
    table: "notes",
    key: "{\"id\":\"n\"}",
    column: "r",
    insert: "INSERT INTO notes (id, r) VALUES ('n', -9e999)",
    wayOn: "UPDATE notes SET r = 0"
  },
  {
    code: "real_not_finite",
    table: "notes",
    key: "{\"id\":\"n\"}",
    column: "x",
    insert: "INSERT INTO notes (id, x) VALUES ('n', 9e999)",
    wayOn: "UPDATE notes SET x = 1"
  }
]

describe("a row that cannot be uploaded", () => {
  it.scoped("is named with its table, key and column; nothing changes, and a host write leads on [payload-codec.md §4.1]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* started
      for (const { code, column, insert, key, table, wayOn } of checks) {
        yield* device.run("UPDATE users SET name = 'Better' WHERE id = 'good'")
        yield* smuggle(device, table, key, insert)
        yield* world.network.asked
        const before = yield* dump(device)
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.deepInclude(error, {
          _tag: "LocalDataError",
          code,
          row: { schema: "business", table, key },
          column,
          operation: "pushPending",
          retryable: false,
          action: "fix_data"
        })
        assert.notInclude(error.message, "0011")
        assert.deepStrictEqual(yield* dump(device), before, `${code}: ${insert}`)
        assert.deepStrictEqual(yield* world.network.asked, [])
        yield* device.run(wayOn)
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
        assert.deepStrictEqual(yield* dirty(device), [])
        yield* checkInvariants(device)
        for (const name of ["notes", "reviews", "files"]) yield* device.run(`DELETE FROM ${name}`)
        yield* device.sync.pushPending
      }
    }))

  it.scoped("is no obstacle once it is gone and the server never had it [push.md §3 steps 6 and 8]", () =>
    Effect.gen(function*() {
      const { device } = yield* started
      for (const key of ["{\"id\":null}", "{\"id\":\"0011\"}"]) {
        yield* device.run(
          `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, dirty_ordinal)
           VALUES ('business', ?, ?, 'DELETE', (SELECT coalesce(max(dirty_ordinal), 0) + 1 FROM _sync_dirty_rows))`,
          [key.includes("null") ? "notes" : "files", key]
        )
      }
      assert.strictEqual((yield* device.sync.pushPending).outcome, "no_change")
      assert.deepStrictEqual(yield* dirty(device), [])
    }))
})

const withoutExactIntegers = changed((body) => ({ ...body, features: { connect_lifecycle: true } }))

interface IntegerCase {
  readonly literal: string
  readonly column: "i" | "n" | "x"
  readonly needsExact: boolean
}

const integers: ReadonlyArray<IntegerCase> = [
  { literal: "9007199254740991", column: "i", needsExact: false },
  { literal: "-9007199254740991", column: "n", needsExact: false },
  { literal: "9007199254740992", column: "i", needsExact: true },
  { literal: "-9007199254740992", column: "x", needsExact: true },
  { literal: "9007199254740993", column: "n", needsExact: true },
  { literal: "9223372036854775807", column: "i", needsExact: true },
  { literal: "-9223372036854775808", column: "x", needsExact: true }
]

describe("an integer", () => {
  it.scoped("of 64 bits travels exactly through a server with exact_integers [payload-codec.md §4.1, DESIGN D7]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      const device = yield* world.attached({ ...offline, ...schema })
      for (const { column, literal } of integers) {
        yield* device.run(`INSERT INTO notes (id, ${column}) VALUES ('${column} ${literal}', ${literal})`)
      }
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      const other = yield* world.attached(schema)
      for (const { column, literal } of integers) {
        for (const one of [device, other]) {
          const text = yield* value(one, `SELECT CAST(${column} AS TEXT) FROM notes WHERE id = '${column} ${literal}'`)
          assert.strictEqual(text, literal)
        }
      }
      yield* checkInvariants(device)
    }))

  it.scoped("beyond 2^53 is refused by name where the server does not advertise it [payload-codec.md §4.1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      yield* world.network.fault("capabilities", withoutExactIntegers)
      const device = yield* world.attached({ ...offline, ...schema })
      for (const { column, literal, needsExact } of integers) {
        yield* device.run(
          `INSERT INTO notes (id, ${column}) VALUES ('big', ${literal}) ON CONFLICT (id) DO UPDATE SET ${column} = ${literal}`
        )
        yield* world.network.asked
        const before = yield* dump(device)
        if (needsExact) {
          const error = yield* Effect.flip(device.sync.pushPending)
          assert.deepInclude(error, {
            _tag: "LocalDataError",
            code: "integer_out_of_range",
            row: { schema: "business", table: "notes", key: "{\"id\":\"big\"}" },
            column
          }, literal)
          assert.deepStrictEqual(yield* dump(device), before)
          assert.deepStrictEqual(yield* world.network.asked, [])
          yield* device.run(`UPDATE notes SET ${column} = 1`)
        }
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed", literal)
      }
    }))

  const resumed = (literal: string) =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared })
      const first = yield* world.attached({ ...offline, ...schema })
      const device = yield* world.restarted(first, { ...offline, ...schema })
      yield* device.run(`INSERT INTO notes (id, i) VALUES ('big', ${literal})`)
      yield* world.network.asked
      return { world, device }
    })

  it.scoped("beyond 2^53 makes a session that knows no features ask for them, once [payload-codec.md §4.1]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* resumed("9007199254740993")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      const route = ["push create", "push chunk", "push commit", "committed rows"] as const
      assert.deepStrictEqual(yield* world.network.asked, ["capabilities", ...route])
      yield* device.run("UPDATE notes SET i = i + 1")
      yield* device.sync.pushPending
      assert.deepStrictEqual(yield* world.network.asked, route)
    }))

  it.scoped("of ordinary size asks for nothing [payload-codec.md §4.1]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* resumed("9007199254740991")
      yield* device.sync.pushPending
      assert.notInclude(yield* world.network.asked, "capabilities")
    }))

  it.scoped("whose server cannot be asked leaves everything as it is [payload-codec.md §4.1]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* resumed("9007199254740993")
      yield* world.network.fault("capabilities", lost)
      const before = yield* dump(device)
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude(error, { _tag: "TransportError", code: "connection", request: "connect_capabilities" })
      assert.deepStrictEqual(yield* dump(device), before)
      yield* world.network.fault("capabilities", withoutExactIntegers)
      assert.deepInclude(yield* Effect.flip(device.sync.pushPending), { code: "integer_out_of_range" })
      assert.deepStrictEqual(yield* dump(device), before)
    }))
})

/** The text of the only chunk that goes up. */
const uploaded = (world: World, device: Device) =>
  Effect.gen(function*() {
    const from = world.network.requests.length
    assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    const chunks = world.network.requests.slice(from).filter(({ route }) => route === "push chunk")
    assert.lengthOf(chunks, 1)
    return chunks[0]?.body
  })

describe("the uploaded text", () => {
  it.scoped("keeps the spelling of numbers and the order of columns [payload-codec.md §4]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* started
      yield* device.run(
        `INSERT INTO notes VALUES ('<a&"b>', 9007199254740993, 1, '1.50', 100, 0.1 + 0.2),
                                  ('é\u2028', -5, 1e300, '9007199254740993', 2.0, 3.0)`
      )
      assert.strictEqual(
        yield* uploaded(world, device),
        "{\"start_row_ordinal\":0,\"rows\":["
          + "{\"schema\":\"business\",\"table\":\"notes\",\"key\":{\"id\":\"<a&\\\"b>\"},\"op\":\"INSERT\",\"base_row_version\":0,"
          + "\"payload\":{\"id\":\"<a&\\\"b>\",\"i\":9007199254740993,\"r\":1.0,\"t\":\"1.50\",\"n\":100,\"x\":0.30000000000000004}},"
          + "{\"schema\":\"business\",\"table\":\"notes\",\"key\":{\"id\":\"é\u2028\"},\"op\":\"INSERT\",\"base_row_version\":0,"
          + "\"payload\":{\"id\":\"é\u2028\",\"i\":-5,\"r\":1.0e+300,\"t\":\"9007199254740993\",\"n\":2,\"x\":3.0}}]}"
      )
      yield* checkInvariants(device)
    }))

  it.scoped("has dashed UUIDs, base64 blobs and no payload for deletes; the frozen local text has hex [payload-codec.md §4]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* started
      const dashes = "00112233-4455-6677-8899-aabbccddeeff"
      const file = (data: string) => `{"id":"${dashes}","name":"f","data":${data}}`
      const row = (op: string, base: number, payload: string) =>
        `{"start_row_ordinal":0,"rows":[{"schema":"business","table":"files","key":{"id":"${dashes}"},"op":"${op}",`
        + `"base_row_version":${base}${payload}}]}`
      for (
        const [bytes, base64, version] of [["x'001122ff'", "\"ABEi/w==\"", 0], ["x''", "\"\"", 2], ["NULL", "null", 3]]
      ) {
        yield* device.run(
          `INSERT INTO files VALUES (x'${uuid}', 'f', ${bytes}) ON CONFLICT (id) DO UPDATE SET data = excluded.data`
        )
        assert.strictEqual(
          yield* uploaded(world, device),
          row(version === 0 ? "INSERT" : "UPDATE", Number(version), `,"payload":${file(String(base64))}`)
        )
      }
      yield* device.run(`INSERT INTO reviews VALUES (x'${"f".repeat(32)}', x'${uuid}', x'fb')`)
      yield* world.network.fault("push create", lost)
      yield* Effect.flip(device.sync.pushPending)
      assert.deepStrictEqual(
        yield* device.run("SELECT key_json, wire_key_json, local_payload, wire_payload FROM _sync_outbox_rows"),
        [{
          key_json: "{\"id\":\"ffffffffffffffffffffffffffffffff\"}",
          wire_key_json: "{\"id\":\"ffffffff-ffff-ffff-ffff-ffffffffffff\"}",
          local_payload: `{"id":"ffffffffffffffffffffffffffffffff","file":"${uuid}","data":"fb"}`,
          wire_payload: `{"id":"ffffffff-ffff-ffff-ffff-ffffffffffff","file":"${dashes}","data":"+w=="}`
        }]
      )
      yield* device.sync.pushPending
      yield* device.run("DELETE FROM reviews")
      yield* device.sync.pushPending
      yield* device.run("DELETE FROM files")
      assert.strictEqual(yield* uploaded(world, device), row("DELETE", 4, ""))
      yield* checkInvariants(device)
    }))

  it.scoped("is what was frozen, also after a restart and whatever the host writes meanwhile [client-state.md quirk 3]", () =>
    Effect.gen(function*() {
      const { device, world } = yield* started
      yield* device.run("INSERT INTO notes (id, r) VALUES ('n', 1)")
      yield* world.network.fault("push chunk", lost)
      yield* Effect.flip(device.sync.pushPending)
      const first = world.network.requests.findLast(({ route }) => route === "push chunk")?.body
      yield* device.run("UPDATE notes SET r = 2, t = 'later'")
      const again = yield* world.restarted(device, { ...offline, ...schema })
      assert.strictEqual(yield* uploaded(world, again), first)
      assert.deepStrictEqual(yield* again.run("SELECT r, t FROM notes"), [{ r: 2, t: "later" }])
      assert.deepStrictEqual(yield* dirty(again), ["UPDATE notes n base 2"])
      yield* checkInvariants(again)
    }))

  it.scoped("of a table with very many columns, blobs among them, comes back as it was [payload-codec.md §3]", () =>
    Effect.gen(function*() {
      const plain = Array.from({ length: 700 }, (_, position) => `p${position}`)
      const blobs = Array.from({ length: 120 }, (_, position) => `b${position}`)
      const wide = {
        ddl: [
          `CREATE TABLE wide (id TEXT PRIMARY KEY NOT NULL, ${plain.map((name) => `${name} TEXT`).join(", ")},
             ${blobs.map((name) => `${name} BLOB`).join(", ")})`
        ],
        tables: [{ name: "wide", key: "id" }]
      }
      const world = yield* makeWorld({
        declared: [{ schema: "business", table: "wide", key: { column: "id", kind: "text" } }]
      })
      const device = yield* world.attached({ ...offline, ...wide })
      yield* device.run(
        `INSERT INTO wide SELECT 'w', ${plain.map((name) => `'${name}'`).join(", ")},
           ${blobs.map((_, position) => `x'${position.toString(16).padStart(4, "0")}'`).join(", ")}`
      )
      yield* device.run("INSERT INTO wide (id) VALUES ('nothing else')")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      const other = yield* world.attached(wide)
      const all = "SELECT * FROM wide ORDER BY id"
      assert.deepStrictEqual(yield* other.run(all), yield* device.run(all))
      assert.strictEqual(yield* value(other, "SELECT hex(b119) FROM wide WHERE id = 'w'"), "0077")
      yield* other.run("UPDATE wide SET b7 = x'ff', p699 = NULL WHERE id = 'w'")
      yield* other.sync.sync
      yield* device.sync.sync
      assert.deepStrictEqual(yield* other.run(all), yield* device.run(all))
      assert.deepStrictEqual(yield* frozen(other), [])
    }))
})
