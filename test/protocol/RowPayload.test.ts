import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck } from "effect"
import { RowPayload } from "oversqlite/protocol"
import { bytes, finiteDouble, int64, seeded, storableText, text, uuidBytes } from "./arbitraries.js"
import { database } from "./database.js"

type Columns = ReadonlyArray<RowPayload.ColumnShape>

const plain = (name: string, affinity: RowPayload.Affinity): RowPayload.ColumnShape => ({
  name,
  class: "plain",
  affinity
})
const blobColumn = (name: string, kind: RowPayload.ColumnClass): RowPayload.ColumnShape => ({
  name,
  class: kind,
  affinity: "BLOB"
})

const columns: Columns = [
  blobColumn("id", "uuid-key"),
  plain("title", "TEXT"),
  plain("amount", "INTEGER"),
  plain("rating", "REAL"),
  plain("price", "NUMERIC"),
  plain("anything", "BLOB"),
  blobColumn("parent", "uuid-ref"),
  blobColumn("data", "blob")
]

/** What the columns of the table hold: SQLite has no negative zero, and a safe integer is never a double there. */
const stored = (value: number): number => value === 0 ? 0 : value
const real = finiteDouble.map(stored)
const fraction = real.filter((value) => !Number.isInteger(value))
const orNull = <A>(arbitrary: FastCheck.Arbitrary<A>) => FastCheck.option(arbitrary, { nil: null, freq: 6 })

const rowOf = (content: FastCheck.Arbitrary<string>): FastCheck.Arbitrary<RowPayload.Row> =>
  FastCheck.record({
    id: uuidBytes,
    title: orNull(content),
    amount: orNull(int64),
    rating: orNull(real),
    price: orNull(FastCheck.oneof(int64, fraction)),
    anything: orNull(FastCheck.oneof(int64, real, content)),
    parent: orNull(uuidBytes),
    data: orNull(bytes)
  })

const row = rowOf(text)

const decodedLocal = (local: string) => Either.getOrThrow(RowPayload.decodeLocal(columns, local))
const decodedWire = (wire: string) => Either.getOrThrow(RowPayload.decodeWire(columns, wire))

const codeOf = (result: Either.Either<unknown, RowPayload.PayloadProblem>) =>
  Either.match(result, { onLeft: (problem) => [problem.code, problem.column], onRight: () => ["accepted"] })

describe("RowPayload", () => {
  it("takes every row from local text and back [payload-codec.md §2]", () => {
    FastCheck.assert(
      FastCheck.property(row, (value) => {
        const local = RowPayload.encodeLocal(columns, value)
        assert.deepStrictEqual(decodedLocal(local), value)
        assert.strictEqual(RowPayload.encodeLocal(columns, decodedLocal(local)), local)
      }),
      seeded
    )
  })

  it("takes every row from wire text and back [payload-codec.md §5]", () => {
    FastCheck.assert(
      FastCheck.property(row, (value) => {
        const wire = RowPayload.encodeWire(columns, value)
        assert.deepStrictEqual(decodedWire(wire), value)
        assert.strictEqual(RowPayload.encodeWire(columns, decodedWire(wire)), wire)
      }),
      seeded
    )
  })

  it("brings a local payload to the wire without touching the row [payload-codec.md §4]", () => {
    FastCheck.assert(
      FastCheck.property(row, (value) => {
        const wire = Either.getOrThrow(RowPayload.localToWire(columns, RowPayload.encodeLocal(columns, value)))
        assert.deepStrictEqual(decodedWire(wire), value)
        assert.strictEqual(wire, RowPayload.encodeWire(columns, value))
      }),
      seeded
    )
  })

  it("uses the same text on both sides where the key is a text and no column a blob [payload-codec.md §4]", () => {
    const textKey = columns.filter((column) => column.class === "plain")
    FastCheck.assert(
      FastCheck.property(row, (value) => {
        const local = RowPayload.encodeLocal(textKey, value)
        assert.strictEqual(Either.getOrThrow(RowPayload.localToWire(textKey, local)), local)
        assert.deepStrictEqual(
          Either.getOrThrow(RowPayload.decodeLocal(textKey, local)),
          Either.getOrThrow(RowPayload.decodeWire(textKey, local))
        )
      }),
      seeded
    )
  })

  it.scoped("reads the payloads that SQLite captures, for every row [payload-codec.md §2]", () =>
    Effect.gen(function*() {
      const sql = yield* database
      yield* sql`CREATE TABLE t (
        id BLOB PRIMARY KEY NOT NULL, title TEXT, amount INTEGER, rating REAL, price NUMERIC, anything, parent BLOB, data BLOB
      )`
      const rows = FastCheck.sample(rowOf(storableText), { ...seeded, numRuns: 300 })
      for (const [index, value] of rows.entries()) {
        // A number is bound as REAL, so integers go in as bigint.
        const bound = columns.map(({ name }) => {
          const member = value[name] ?? null
          return typeof member === "number" && Number.isSafeInteger(member) && name !== "rating"
            ? BigInt(member)
            : member
        })
        yield* sql.unsafe("INSERT OR REPLACE INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)", bound)
        const [captured] = yield* sql<{ readonly payload: string }>`
          SELECT json_object('id', lower(hex(id)), 'title', title, 'amount', amount, 'rating', rating, 'price', price,
            'anything', anything, 'parent', CASE WHEN parent IS NOT NULL THEN lower(hex(parent)) END,
            'data', CASE WHEN data IS NOT NULL THEN lower(hex(data)) END) AS payload
          FROM t WHERE id = ${value["id"] ?? null}`
        const local = captured?.payload ?? ""
        assert.deepStrictEqual(decodedLocal(local), value, `row ${index}`)
        const wire = Either.getOrThrow(RowPayload.localToWire(columns, local))
        assert.deepStrictEqual(decodedWire(wire), value, `row ${index}`)
      }
    }))

  it("keeps number spelling, member order, white space and unknown members on the way to the wire [DESIGN D7]", () => {
    const local =
      `{ "rating" : 1.0e-09,\n"amount":9007199254740993, "data":"00ff","odd":{"data":"00ff","x":["}"]} , "parent":null,` +
      `"title":"\\"data\\":\\"00ff\\"","id":"550E8400E29B41D4A716446655440000","anything":-0.0}`
    assert.strictEqual(
      Either.getOrThrow(RowPayload.localToWire(columns, local)),
      local.replace("\"data\":\"00ff\",\"odd\"", "\"data\":\"AP8=\",\"odd\"")
        .replace("550E8400E29B41D4A716446655440000", "550e8400-e29b-41d4-a716-446655440000")
    )
  })

  it("leaves NULL and empty blobs as they are on the way to the wire [payload-codec.md §4]", () => {
    const both = [blobColumn("a", "blob"), blobColumn("b", "blob"), blobColumn("c", "uuid-ref")]
    const local = "{\"a\":\"\",\"b\":null,\"c\":null}"
    assert.strictEqual(Either.getOrThrow(RowPayload.localToWire(both, local)), local)
  })

  it("takes a UUID text in a UUID column of a local payload for the UUID [payload-codec.md §4]", () => {
    const key = [blobColumn("id", "uuid-key")]
    const local = "{\"id\":\"550e8400-e29b-41d4-a716-446655440000\"}"
    assert.strictEqual(Either.getOrThrow(RowPayload.localToWire(key, local)), local)
    assert.deepStrictEqual(
      Either.getOrThrow(RowPayload.decodeLocal(key, local)),
      Either.getOrThrow(RowPayload.decodeWire(key, local))
    )
  })

  const numbers: ReadonlyArray<
    readonly [spelling: string, integer: number | bigint, real: number, text: string, untyped?: number]
  > = [
    ["5", 5, 5, "5"],
    ["-17", -17, -17, "-17"],
    ["5.0", 5, 5, "5"],
    ["5e0", 5, 5, "5"],
    ["1E3", 1000, 1000, "1000"],
    ["0", 0, 0, "0"],
    ["-0", 0, 0, "0"],
    ["-0.0", 0, 0, "0"],
    ["1.10", 1.1, 1.1, "1.1"],
    ["9007199254740991", 9007199254740991, 9007199254740991, "9007199254740991"],
    ["9007199254740993", 9007199254740993n, 9007199254740992, "9007199254740993"],
    ["-9223372036854775808", -9223372036854775808n, -9223372036854775808, "-9223372036854775808"],
    ["9223372036854775807", 9223372036854775807n, 9223372036854775808, "9223372036854775807"],
    ["9223372036854775808", 9223372036854775808, 9223372036854775808, "9223372036854776000"],
    ["12345678901234567890", 12345678901234567890, 12345678901234567890, "12345678901234567000"],
    ["9007199254740994.0", 9007199254740994n, 9007199254740994, "9007199254740994", 9007199254740994],
    ["-1e18", -1000000000000000000n, -1e18, "-1000000000000000000", -1e18],
    ["1e21", 1e21, 1e21, "1e+21"],
    ["1e-7", 1e-7, 1e-7, "1e-7"],
    ["5e-324", 5e-324, 5e-324, "5e-324"],
    ["1.7976931348623157e308", 1.7976931348623157e308, 1.7976931348623157e308, "1.7976931348623157e+308"],
    ["0.30000000000000004", 0.30000000000000004, 0.30000000000000004, "0.30000000000000004"],
    ["true", 1, 1, "1"],
    ["false", 0, 0, "0"]
  ]

  for (const [spelling, integer, real, asText, untyped] of numbers) {
    it(`stores ${spelling} by the affinity of its column [payload-codec.md §5]`, () => {
      const affinities = ["INTEGER", "NUMERIC", "BLOB", "REAL", "TEXT"] as const
      const shape = affinities.map((affinity) => plain(affinity.toLowerCase(), affinity))
      const payload = `{${shape.map(({ name }) => `"${name}":${spelling}`).join(",")}}`
      const decoded = Either.getOrThrow(RowPayload.decodeWire(shape, payload))
      assert.deepStrictEqual(decoded, { integer, numeric: integer, blob: untyped ?? integer, real, text: asText })
      assert.isTrue(Object.values(decoded).every((value) => !Object.is(value, -0)))
    })
  }

  it.scoped("agrees with what SQLite stores from the same text [payload-codec.md §9]", () =>
    Effect.gen(function*() {
      const sql = yield* database
      yield* sql`CREATE TABLE t (i INTEGER, n NUMERIC, b, r REAL, s TEXT)`
      const shape = [
        plain("i", "INTEGER"),
        plain("n", "NUMERIC"),
        plain("b", "BLOB"),
        plain("r", "REAL"),
        plain("s", "TEXT")
      ]
      const integral = (member: string) =>
        `CASE WHEN typeof(p ->> '${member}') = 'real' AND abs(p ->> '${member}') < 9007199254740992.0
           AND p ->> '${member}' = CAST(p ->> '${member}' AS INTEGER)
         THEN CAST(p ->> '${member}' AS INTEGER) ELSE p ->> '${member}' END`
      for (const [spelling, integer, , asText, untyped] of numbers) {
        yield* sql`DELETE FROM t`
        const payload = `{"i":${spelling},"n":${spelling},"b":${spelling},"r":${spelling},"s":"${asText}"}`
        yield* sql.unsafe(
          `INSERT INTO t SELECT ${integral("i")}, ${integral("n")}, ${
            integral("b")
          }, p ->> 'r', p ->> 's' FROM (SELECT ? AS p)`,
          [payload]
        )
        const [kept] = yield* sql<{ readonly payload: string; readonly kind: string }>`
          SELECT json_object('i', i, 'n', n, 'b', b, 'r', r, 's', s) AS payload, typeof(b) AS kind FROM t`
        assert.deepStrictEqual(
          Either.getOrThrow(RowPayload.decodeLocal(shape, kept?.payload ?? "")),
          Either.getOrThrow(RowPayload.decodeWire(shape, payload)),
          spelling
        )
        const isInteger = untyped === undefined && (typeof integer === "bigint" || Number.isSafeInteger(integer))
        assert.strictEqual(kept?.kind, isInteger ? "integer" : "real", spelling)
      }
    }))

  it.each<readonly [string, Columns, string, RowPayload.PayloadProblem["code"], string | undefined]>([
    ["a JSON null", [plain("a", "TEXT")], "null", "payload_column_mismatch", undefined],
    ["an array", [plain("a", "TEXT")], "[1]", "payload_column_mismatch", undefined],
    ["a missing member", [plain("a", "TEXT"), plain("b", "TEXT")], "{\"a\":1}", "payload_column_mismatch", undefined],
    ["an extra member", [plain("a", "TEXT")], "{\"a\":1,\"b\":2}", "payload_column_mismatch", undefined],
    ["another member", [plain("a", "TEXT"), plain("b", "TEXT")], "{\"a\":1,\"c\":2}", "payload_column_mismatch", "b"],
    ["a member in another case", [plain("a", "TEXT")], "{\"A\":1}", "payload_column_mismatch", "a"],
    ["an inherited member", [plain("tostring", "TEXT")], "{\"b\":1}", "payload_column_mismatch", "tostring"],
    ["no JSON", [plain("a", "TEXT")], "{", "payload_bad_wire_encoding", undefined],
    ["an object value", [plain("a", "TEXT")], "{\"a\":{}}", "payload_bad_wire_encoding", "a"],
    ["an array value", [plain("a", "BLOB")], "{\"a\":[]}", "payload_bad_wire_encoding", "a"],
    ["a number beyond binary64", [plain("a", "REAL")], "{\"a\":1e999}", "payload_bad_wire_encoding", "a"],
    ["a number in a blob", [blobColumn("a", "blob")], "{\"a\":1}", "payload_bad_wire_encoding", "a"],
    ["a boolean in a key", [blobColumn("a", "uuid-key")], "{\"a\":true}", "payload_bad_wire_encoding", "a"],
    ["hex in a blob", [blobColumn("a", "blob")], "{\"a\":\"0011f\"}", "payload_bad_wire_encoding", "a"],
    ["base64 without padding", [blobColumn("a", "blob")], "{\"a\":\"AAEi/w\"}", "payload_bad_wire_encoding", "a"],
    ["base64 with surplus bits", [blobColumn("a", "blob")], "{\"a\":\"AAEi/x==\"}", "payload_bad_wire_encoding", "a"],
    ["base64 with white space", [blobColumn("a", "blob")], "{\"a\":\"AAEi\\n/w==\"}", "payload_bad_wire_encoding", "a"],
    ["the URL alphabet", [blobColumn("a", "blob")], "{\"a\":\"AAEi_w==\"}", "payload_bad_wire_encoding", "a"],
    [
      "an undashed UUID",
      [blobColumn("a", "uuid-key")],
      "{\"a\":\"550e8400e29b41d4a716446655440000\"}",
      "payload_bad_wire_encoding",
      "a"
    ],
    [
      "a UUID with blanks",
      [blobColumn("a", "uuid-ref")],
      "{\"a\":\" 550e8400-e29b-41d4-a716-446655440000\"}",
      "payload_bad_wire_encoding",
      "a"
    ],
    [
      "a UUID in braces",
      [blobColumn("a", "uuid-ref")],
      "{\"a\":\"{550e8400-e29b-41d4-a716-446655440000}\"}",
      "payload_bad_wire_encoding",
      "a"
    ],
    [
      "dashes elsewhere",
      [blobColumn("a", "uuid-ref")],
      "{\"a\":\"550e84-00e29b-41d4-a716-4466554400-00\"}",
      "payload_bad_wire_encoding",
      "a"
    ],
    ["an empty UUID", [blobColumn("a", "uuid-ref")], "{\"a\":\"\"}", "payload_bad_wire_encoding", "a"]
  ])("refuses a wire payload with %s [payload-codec.md §5]", (_, shape, payload, code, column) => {
    assert.deepStrictEqual(codeOf(RowPayload.decodeWire(shape, payload)), [code, column])
  })

  it("tolerates an upper-case UUID on the wire and spells it in lower case [payload-codec.md §5]", () => {
    const shape = [blobColumn("a", "uuid-key")]
    const upper = Either.getOrThrow(RowPayload.decodeWire(shape, "{\"a\":\"550E8400-E29B-41D4-A716-446655440000\"}"))
    assert.strictEqual(RowPayload.encodeWire(shape, upper), "{\"a\":\"550e8400-e29b-41d4-a716-446655440000\"}")
    assert.strictEqual(RowPayload.encodeLocal(shape, upper), "{\"a\":\"550e8400e29b41d4a716446655440000\"}")
  })

  it("takes an empty string for an empty blob [payload-codec.md §5]", () => {
    const shape = [blobColumn("a", "blob")]
    for (const decode of [RowPayload.decodeWire, RowPayload.decodeLocal]) {
      assert.deepStrictEqual(Either.getOrThrow(decode(shape, "{\"a\":\"\"}")), { a: new Uint8Array(0) })
    }
  })

  it("keeps a text from the server for a number column as text [payload-codec.md §8]", () => {
    assert.deepStrictEqual(
      Either.getOrThrow(RowPayload.decodeWire([plain("a", "REAL")], "{\"a\":\"Infinity\"}")),
      { a: "Infinity" }
    )
  })

  it.each<readonly [string, Columns, string, RowPayload.PayloadProblem["code"], string | undefined]>([
    ["no JSON", [plain("a", "TEXT")], "{\"a\":Inf}", "payload_undecodable", undefined],
    ["other members", [plain("a", "TEXT")], "{}", "payload_column_mismatch", undefined],
    ["an infinite number", [plain("a", "REAL")], "{\"a\":9.0e+999}", "real_not_finite", "a"],
    ["an object", [plain("a", "TEXT")], "{\"a\":{}}", "payload_undecodable", "a"],
    ["base64 in a blob", [blobColumn("a", "blob")], "{\"a\":\"AAEi/w==\"}", "payload_undecodable", "a"],
    ["half a byte", [blobColumn("a", "blob")], "{\"a\":\"123\"}", "payload_undecodable", "a"],
    ["a number in a blob", [blobColumn("a", "blob")], "{\"a\":12}", "payload_undecodable", "a"],
    ["a key of 15 bytes", [blobColumn("a", "uuid-key")], `{"a":"${"ab".repeat(15)}"}`, "invalid_blob_uuid_key", "a"],
    [
      "a reference of 17 bytes",
      [blobColumn("a", "uuid-ref")],
      `{"a":"${"ab".repeat(17)}"}`,
      "invalid_blob_uuid_reference",
      "a"
    ]
  ])("refuses a local payload with %s [errors.md §1.7]", (_, shape, payload, code, column) => {
    assert.deepStrictEqual(codeOf(RowPayload.decodeLocal(shape, payload)), [code, column])
  })

  it("reports what cannot travel on the way to the wire [payload-codec.md §4.1]", () => {
    const key = [blobColumn("a", "uuid-key")]
    assert.deepStrictEqual(codeOf(RowPayload.localToWire(key, "{\"a\":\"abcd\"}")), ["invalid_blob_uuid_key", "a"])
    assert.deepStrictEqual(codeOf(RowPayload.localToWire(key, "{\"a\":12}")), ["payload_undecodable", "a"])
    assert.deepStrictEqual(codeOf(RowPayload.localToWire(key, "[]")), ["payload_undecodable", undefined])
    assert.deepStrictEqual(codeOf(RowPayload.localToWire(key, "{\"a\":")), ["payload_undecodable", undefined])
  })

  it("says in its texts what the reference says [payload-codec.md §5]", () => {
    const shape = [plain("a", "TEXT"), plain("b", "TEXT")]
    const detail = (payload: string) =>
      Either.match(RowPayload.decodeWire(shape, payload), { onLeft: (problem) => problem.detail, onRight: () => "" })
    assert.strictEqual(detail("{\"a\":1}"), "must contain every table column")
    assert.strictEqual(detail("{\"a\":1,\"c\":1}"), "is missing column b")
    const key = RowPayload.decodeLocal([blobColumn("id", "uuid-key")], "{\"id\":\"00\"}")
    assert.include(
      Either.match(key, { onLeft: (problem) => problem.detail, onRight: () => "" }),
      "invalid blob UUID pk"
    )
  })

  it.each<readonly [string, Columns, RowPayload.Row, RowPayload.PayloadProblem["code"]]>([
    ["too few columns", [plain("a", "TEXT")], {}, "payload_column_mismatch"],
    ["too many columns", [plain("a", "TEXT")], { a: 1, b: 2 }, "payload_column_mismatch"],
    ["other columns", [plain("a", "TEXT")], { A: 1 }, "payload_column_mismatch"],
    ["a blob in a plain column", [plain("a", "TEXT")], { a: new Uint8Array(1) }, "blob_in_plain_column"],
    ["an infinite number", [plain("a", "REAL")], { a: -Infinity }, "real_not_finite"],
    ["no number", [plain("a", "REAL")], { a: NaN }, "real_not_finite"],
    ["a short key", [blobColumn("a", "uuid-key")], { a: new Uint8Array(15) }, "invalid_blob_uuid_key"],
    ["a text key", [blobColumn("a", "uuid-key")], { a: "x" }, "invalid_blob_uuid_key"],
    ["a long reference", [blobColumn("a", "uuid-ref")], { a: new Uint8Array(17) }, "invalid_blob_uuid_reference"]
  ])("refuses a row of the host with %s [payload-codec.md §4.1]", (_, shape, given, code) => {
    assert.strictEqual(codeOf(RowPayload.checkRow(shape, given))[0], code)
  })

  it("encodes every row that passes the check, and throws rather than writing something else [payload-codec.md §4.1]", () => {
    FastCheck.assert(
      FastCheck.property(row, (value) => {
        assert.deepStrictEqual(RowPayload.checkRow(columns, value), Either.right(value))
      }),
      seeded
    )
    assert.throws(() => RowPayload.encodeWire([plain("a", "TEXT")], { a: new Uint8Array(1) }), TypeError)
    assert.throws(() => RowPayload.encodeWire([plain("a", "REAL")], { a: Infinity }), TypeError)
    assert.throws(() => RowPayload.encodeWire([blobColumn("a", "uuid-key")], { a: new Uint8Array(3) }), TypeError)
  })

  it("takes a text or number in a blob column as its text bytes, as capture does [payload-codec.md §2]", () => {
    const shape = [blobColumn("a", "blob"), blobColumn("b", "blob")]
    assert.strictEqual(RowPayload.encodeLocal(shape, { a: "é", b: 12 }), "{\"a\":\"c3a9\",\"b\":\"3132\"}")
    assert.strictEqual(RowPayload.encodeWire(shape, { a: "é", b: 12n }), "{\"a\":\"w6k=\",\"b\":\"MTI=\"}")
  })

  it.each([
    [5, "5"],
    [-0, "0"],
    [1.5, "1.5"],
    [1e21, "1e+21"],
    [1e20, "100000000000000000000"],
    [9007199254740993n, "9007199254740993"]
  ])("knows the text a TEXT column holds for %s [payload-codec.md §5]", (value, expected) => {
    assert.strictEqual(RowPayload.numberAsText(value), expected)
  })
})
