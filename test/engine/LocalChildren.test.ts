/** Rows of the host's own tables whose parents a snapshot takes away and brings back (pull.md §6.1). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { counting } from "../storage/support/database.js"
import type { Device } from "./support/Devices.js"
import { ddl } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { insert, user } from "./support/Rebuilds.js"
import { makeWorld } from "./support/World.js"

const once = { retryPolicy: { enabled: false } }

const withTables = (...statements: ReadonlyArray<string>) => ({ ...once, ddl: [...ddl, ...statements] })

const drafts = "CREATE TABLE drafts (id TEXT PRIMARY KEY, user_id TEXT REFERENCES users (id) ON DELETE CASCADE)"

/** Every row of a table with its rowid where it has one, as texts. */
const rows = (device: Device, table: string, columns: string) =>
  Effect.map(
    device.run(`SELECT concat_ws(' ', ${columns}) AS line FROM "${table}" ORDER BY 1`),
    (found) => found.map(({ line }) => line)
  )

describe("a rebuild leaves the host's own tables alone [pull.md §6.1]", () => {
  interface Case {
    readonly name: string
    readonly tables: ReadonlyArray<string>
    readonly rows: ReadonlyArray<string>
    /** Looked at before and after: table and columns. */
    readonly look: ReadonlyArray<readonly [table: string, columns: string]>
  }
  const cases: ReadonlyArray<Case> = [
    {
      name: "a cascade",
      tables: [drafts],
      rows: ["INSERT INTO drafts (rowid, id, user_id) VALUES (70, 'd', 'x'), (7, 'e', 'y'), (8, 'f', NULL)"],
      look: [["drafts", "rowid, id, quote(user_id)"]]
    },
    {
      name: "SET NULL",
      tables: ["CREATE TABLE drafts (id TEXT PRIMARY KEY, user_id TEXT REFERENCES users (id) ON DELETE SET NULL)"],
      rows: ["INSERT INTO drafts VALUES ('d', 'x'), ('e', 'y'), ('f', NULL)"],
      look: [["drafts", "rowid, id, quote(user_id)"]]
    },
    {
      name: "SET DEFAULT",
      tables: [
        "CREATE TABLE drafts (id TEXT PRIMARY KEY, user_id TEXT DEFAULT 'y' REFERENCES users (id) ON DELETE SET DEFAULT)"
      ],
      rows: ["INSERT INTO drafts VALUES ('d', 'x'), ('e', 'y'), ('f', NULL)"],
      look: [["drafts", "rowid, id, quote(user_id)"]]
    },
    {
      name: "a cascade and SET NULL in one row",
      tables: [
        `CREATE TABLE shares (giver TEXT REFERENCES users (id) ON DELETE CASCADE,
           taker TEXT REFERENCES users (id) ON DELETE SET NULL)`
      ],
      rows: ["INSERT INTO shares VALUES ('x', 'y'), ('y', 'x'), (NULL, 'x'), ('x', NULL)"],
      look: [["shares", "rowid, quote(giver), quote(taker)"]]
    },
    {
      name: "a chain of the host's tables",
      tables: [
        drafts,
        "CREATE TABLE attachments (id INTEGER PRIMARY KEY, draft TEXT REFERENCES drafts ON DELETE CASCADE, size)",
        "CREATE TABLE notes (text, attachment INTEGER REFERENCES attachments ON DELETE SET NULL)"
      ],
      rows: [
        "INSERT INTO drafts VALUES ('d', 'x')",
        "INSERT INTO attachments VALUES (5, 'd', 1.5), (6, NULL, x'00')",
        "INSERT INTO notes VALUES ('a', 5), ('b', 6)"
      ],
      look: [
        ["drafts", "rowid, id, user_id"],
        ["attachments", "id, quote(draft), quote(size)"],
        ["notes", "rowid, text, attachment"]
      ]
    },
    {
      name: "rows that refer to rows of their own table, also in a circle",
      tables: [
        `CREATE TABLE drafts (id TEXT PRIMARY KEY, user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
           answers TEXT REFERENCES drafts (id) ON DELETE CASCADE)`
      ],
      rows: [
        "INSERT INTO drafts VALUES ('a', 'x', NULL), ('b', NULL, 'a'), ('c', NULL, 'b'), ('d', 'x', NULL), ('e', 'x', 'd')",
        "UPDATE drafts SET answers = 'e' WHERE id = 'd'"
      ],
      look: [["drafts", "rowid, id, quote(user_id), quote(answers)"]]
    },
    {
      name: "a table WITHOUT ROWID, with generated columns and a composite key",
      tables: [
        `CREATE TABLE visits (user_id TEXT REFERENCES users ON DELETE CASCADE, day TEXT, n INTEGER,
           twice INTEGER AS (n * 2), thrice INTEGER AS (n * 3) STORED, PRIMARY KEY (user_id, day)) WITHOUT ROWID`,
        `CREATE TABLE steps (n INTEGER, who TEXT, "when" TEXT,
           FOREIGN KEY (who, "when") REFERENCES visits ON DELETE CASCADE)`,
        `CREATE TABLE shops (name TEXT, who TEXT, "when" TEXT,
           FOREIGN KEY ("when", who) REFERENCES visits (day, user_id) ON DELETE SET NULL)`
      ],
      rows: [
        "INSERT INTO visits VALUES ('x', 'Monday', 1), ('x', 'Tuesday', 2), ('y', 'Monday', 3)",
        "INSERT INTO steps VALUES (1, 'x', 'Monday'), (2, 'y', 'Monday'), (3, 'nobody', NULL)",
        "INSERT INTO shops VALUES ('s', 'x', 'Tuesday'), ('t', 'x', NULL)"
      ],
      look: [
        ["visits", "user_id, day, n, twice, thrice"],
        ["steps", "rowid, n, who, quote(\"when\")"],
        ["shops", "rowid, name, who, quote(\"when\")"]
      ]
    },
    {
      name: "quoted names and columns that hide the rowid",
      tables: [
        `CREATE TABLE "my ""drafts""" (rowid TEXT, "_ROWID_" TEXT, "c0" TEXT, id TEXT, "the user's" TEXT
           REFERENCES users ON DELETE CASCADE)`
      ],
      rows: [
        `INSERT INTO "my ""drafts""" (oid, rowid, _rowid_, c0, id, "the user's")
           VALUES (90, 'r', 's', 't', 'u', 'x'), (9, 'r', 's', 't', 'u', 'x')`
      ],
      look: [["my \"\"drafts\"\"", "oid, rowid, _rowid_, c0, id, \"the user's\""]]
    },
    {
      name: "no rowid to name",
      tables: [
        "CREATE TABLE odd (rowid TEXT, _rowid_ TEXT, oid TEXT REFERENCES users ON DELETE CASCADE)",
        "CREATE TABLE keyed (rowid TEXT PRIMARY KEY, _rowid_ TEXT, oid TEXT REFERENCES users ON DELETE SET NULL)"
      ],
      rows: ["INSERT INTO odd VALUES ('a', 'b', 'x'), ('a', 'b', 'x')", "INSERT INTO keyed VALUES ('a', 'b', 'x')"],
      look: [["odd", "rowid, _rowid_, oid"], ["keyed", "rowid, _rowid_, quote(oid)"]]
    }
  ]
  for (const { look, name, rows: given, tables } of cases) {
    it.scoped(name, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const a = yield* world.attached(withTables(...tables))
        yield* a.run(insert("x"))
        yield* a.run(insert("y"))
        yield* a.sync.sync
        for (const row of given) yield* a.run(row)
        const all = Effect.forEach(look, ([table, columns]) => rows(a, table, columns))
        const before = yield* all
        yield* a.sync.rebuild
        assert.deepStrictEqual(yield* all, before)
        yield* checkInvariants(a)
        assert.deepStrictEqual(
          yield* a.run("SELECT name FROM sqlite_temp_schema WHERE name LIKE '\\_sync\\_local%' ESCAPE '\\'"),
          []
        )
      }))
  }

  it.scoped("asks nothing of a database without such tables", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(withTables("CREATE TABLE drafts (id TEXT, user_id TEXT REFERENCES users (id))"))
      const [, { statements }] = yield* counting(a.sync.rebuild)
      assert.deepStrictEqual(statements.filter((one) => /_sync_local|drafts|xinfo/.test(one)), [])
    }))
})

describe("where the parent is gone, the action of the host stands [pull.md §6.1]", () => {
  it.scoped("a user that another device has deleted takes the draft along", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(withTables(
        drafts,
        "CREATE TABLE attachments (id TEXT, draft TEXT REFERENCES drafts (id) ON DELETE CASCADE)",
        `CREATE TABLE marks (id TEXT, user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
           other TEXT DEFAULT 'x' REFERENCES users (id) ON DELETE SET DEFAULT,
           draft TEXT REFERENCES drafts (id) ON DELETE SET NULL)`
      ))
      yield* a.run(insert("x"))
      yield* a.run(insert("y"))
      yield* a.sync.sync
      yield* a.run("INSERT INTO drafts VALUES ('of x', 'x'), ('of y', 'y')")
      yield* a.run("INSERT INTO attachments VALUES ('a', 'of x'), ('b', 'of y')")
      yield* a.run("INSERT INTO marks VALUES ('m', 'x', 'x', 'of x'), ('n', 'y', 'y', 'of y')")
      yield* world.write([{ table: "users", key: "y", payload: null }])
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* rows(a, "drafts", "id, user_id"), ["of x x"])
      assert.deepStrictEqual(yield* rows(a, "attachments", "id, draft"), ["a of x"])
      assert.deepStrictEqual(yield* rows(a, "marks", "id, quote(user_id), quote(other), quote(draft)"), [
        "m 'x' 'x' 'of x'",
        "n NULL 'x' NULL"
      ])
      yield* checkInvariants(a)
    }))

  it.scoped("a row with two parents goes with either, and loses the reference to the one that may be lost", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(withTables(
        `CREATE TABLE shares (giver TEXT REFERENCES users (id) ON DELETE CASCADE,
           owner TEXT REFERENCES users (id) ON DELETE CASCADE,
           taker TEXT DEFAULT 'x' REFERENCES users (id) ON DELETE SET DEFAULT)`
      ))
      yield* a.run(insert("x"))
      yield* a.run(insert("y"))
      yield* a.sync.sync
      yield* a.run("INSERT INTO shares VALUES ('x', 'y', 'x'), ('x', 'x', 'y'), ('x', NULL, NULL)")
      yield* world.write([{ table: "users", key: "y", payload: null }])
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* rows(a, "shares", "rowid, giver, quote(owner), quote(taker)"), [
        "2 x 'x' 'x'",
        "3 x NULL NULL"
      ])
    }))

  it.scoped("a pending parent keeps its draft, and one deleted here does not get it back", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* world.attached(withTables(drafts))
      yield* a.run(insert("x"))
      yield* a.sync.sync
      yield* a.run(insert("pending"))
      yield* a.run("INSERT INTO drafts VALUES ('of x', 'x'), ('of pending', 'pending')")
      yield* a.run("DELETE FROM users WHERE id = 'x'")
      yield* a.sync.rebuild
      assert.deepStrictEqual(yield* rows(a, "drafts", "id, user_id"), ["of pending pending"])
      yield* checkInvariants(a)
    }))
})

describe("an attach that takes a snapshot [lifecycle.md §5.4, pull.md §6.1]", () => {
  for (const [localRows, left] of [["keep", ["of u1 u1", "of x x"]], ["replace", ["of u1 u1"]]] as const) {
    it.scoped(`${localRows}: drafts stay with the users that stay`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        yield* world.write([user("u1")])
        const a = yield* world.device(withTables(drafts))
        yield* a.run(insert("x"))
        yield* a.run(insert("u1"))
        yield* a.run("INSERT INTO drafts VALUES ('of x', 'x'), ('of u1', 'u1')")
        yield* a.sync.open
        yield* a.sync.attach("ann", { localRows })
        assert.deepStrictEqual(yield* rows(a, "drafts", "id, user_id"), [...left])
        yield* checkInvariants(a)
      }))
  }
})
