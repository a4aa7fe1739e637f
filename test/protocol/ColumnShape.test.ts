import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck } from "effect"
import { Buffer } from "node:buffer"
import { RowPayload } from "oversqlite/protocol"
import { bytes, seeded, uuidBytes } from "./arbitraries.js"
import { database } from "./database.js"

describe("column rules", () => {
  it.each<readonly [string, boolean, boolean, RowPayload.ColumnClass]>([
    ["BLOB", true, false, "uuid-key"],
    ["MyBlobType", true, true, "uuid-key"],
    ["blob", false, true, "uuid-ref"],
    ["LONGBLOB", false, false, "blob"],
    ["BYTEA", false, false, "plain"],
    ["TEXT", true, false, "plain"],
    ["TEXT", false, true, "plain"],
    ["", false, false, "plain"]
  ])("class of %j (key %s, reference %s) is %s [payload-codec.md §1]", (declaredType, isKey, isReference, expected) => {
    assert.strictEqual(RowPayload.columnClass({ declaredType, isKey, isReference }), expected)
  })

  it.scoped("gives every declared type the affinity that SQLite gives it", () =>
    Effect.gen(function*() {
      const types = [
        "INT",
        "INTEGER",
        "BIGINT",
        "UNSIGNED BIG INT",
        "tinyint",
        "CHARACTER(20)",
        "VARCHAR(255)",
        "NCHAR(55)",
        "TEXT",
        "CLOB",
        "CHARINT",
        "BLOB",
        "",
        "REAL",
        "DOUBLE PRECISION",
        "FLOAT",
        "FLOATING POINT",
        "BOOLEAN",
        "DATE",
        "DATETIME",
        "NUMERIC",
        "DECIMAL(10,5)",
        "STRING",
        "UUID",
        "JSON",
        "BYTEA",
        "TIMESTAMPTZ"
      ]
      const sql = yield* database
      for (const type of types) {
        yield* sql`DROP TABLE IF EXISTS t`
        yield* sql.unsafe(`CREATE TABLE t (a ${type})`)
        yield* sql.unsafe(`INSERT INTO t VALUES ('1'), (1)`)
        const kinds = (yield* sql<{ readonly kind: string }>`SELECT typeof(a) AS kind FROM t`).map(({ kind }) => kind)
          .join()
        const expected =
          { "integer,integer": ["INTEGER", "NUMERIC"], "real,real": ["REAL"], "text,text": ["TEXT"] }[kinds] ??
            ["BLOB"]
        assert.include(expected, RowPayload.affinityOf(type), type)
      }
      assert.strictEqual(RowPayload.affinityOf("BIGINT"), "INTEGER")
      assert.strictEqual(RowPayload.affinityOf("DECIMAL"), "NUMERIC")
    }))
})

describe("UUID and blob texts", () => {
  it("converts between hex, UUID and base64 without loss [payload-codec.md §9]", () => {
    FastCheck.assert(
      FastCheck.property(uuidBytes, bytes, (uuid, data) => {
        const hex = Buffer.from(uuid).toString("hex")
        assert.deepStrictEqual(Either.flatMap(RowPayload.hexToUuid(hex), RowPayload.uuidToHex), Either.right(hex))
        const dataHex = Buffer.from(data).toString("hex")
        assert.deepStrictEqual(
          Either.flatMap(RowPayload.hexToBase64(dataHex), RowPayload.base64ToHex),
          Either.right(dataHex)
        )
      }),
      seeded
    )
  })

  it.each(["", "00", "g".repeat(32), "0".repeat(31), "0".repeat(33)])("finds no UUID in the hex text %j", (hex) => {
    assert.deepStrictEqual(RowPayload.hexToUuid(hex), Either.left("not_uuid"))
  })
})
