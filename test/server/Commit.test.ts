/** What a commit refuses, applies and records (server.md §7, values.md §3). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import type { TableDeclaration } from "oversqlite/server"
import { device, effects, id, insert, isMembers, outcome, payloads, remove, update, user } from "./support/Device.js"
import type { Reply, Row } from "./support/Device.js"
import { inProcess } from "./support/TestServer.js"

const a = device("source-a")
const b = device("source-b")

/** Row 1 lives at version 3, row 2 is a tombstone of version 2, row 3 never was. */
const arranged = Effect.gen(function*() {
  yield* a.connect(false)
  yield* a.push(1, [user(1), user(2)])
  yield* a.push(2, [remove("users", 2, 1)])
  yield* a.push(3, [update("users", 1, 1, { name: "Newer" })])
})

const live = { server_row_version: 3, server_row_deleted: false }
const tombstone = { server_row_version: 2, server_row_deleted: true }
const unknown = { server_row_version: 0, server_row_deleted: false }

type Verdict = "ok" | typeof live | typeof tombstone | typeof unknown

/** server.md §7.1, every cell. */
const conflictTable: ReadonlyArray<readonly [what: string, row: Row, verdict: Verdict]> = [
  ["INSERT of an unknown row with base 0", user(3), "ok"],
  ["INSERT of an unknown row with another base", user(3, 5), unknown],
  ["INSERT over a live row with base 0", user(1), live],
  ["INSERT over a live row with its version", user(1, 3), live],
  ["INSERT over a tombstone with its version", user(2, 2), "ok"],
  ["INSERT over a tombstone with base 0", user(2), tombstone],
  ["INSERT over a tombstone with another base", user(2, 1), tombstone],
  ["UPDATE of an unknown row with base 0", update("users", 3, 0, { name: "x" }), unknown],
  ["UPDATE of an unknown row with another base", update("users", 3, 4, { name: "x" }), unknown],
  ["UPDATE of a live row with its version", update("users", 1, 3, { name: "x" }), "ok"],
  ["UPDATE of a live row with an older base", update("users", 1, 1, { name: "x" }), live],
  ["UPDATE of a live row with a newer base", update("users", 1, 9, { name: "x" }), live],
  ["UPDATE of a tombstone with its version", update("users", 2, 2, { name: "x" }), tombstone],
  ["UPDATE of a tombstone with another base", update("users", 2, 1, { name: "x" }), tombstone],
  ["DELETE of an unknown row with base 0", remove("users", 3, 0), unknown],
  ["DELETE of an unknown row with another base", remove("users", 3, 4), unknown],
  ["DELETE of a live row with its version", remove("users", 1, 3), "ok"],
  ["DELETE of a live row with another base", remove("users", 1, 1), live],
  ["DELETE of a tombstone with its version", remove("users", 2, 2), tombstone],
  ["DELETE of a tombstone with another base", remove("users", 2, 1), tombstone]
]

const conflictOf = (reply: Reply) => {
  const conflict = reply.body["conflict"]
  return isMembers(conflict) ? conflict : {}
}

describe("conflicts", () => {
  for (const [what, row, verdict] of conflictTable) {
    it.effect(`${what}: ${verdict === "ok" ? "accepted" : "conflict"} [server.md §7.1]`, () =>
      Effect.gen(function*() {
        yield* arranged
        const reply = yield* b.push(1, [row])
        if (verdict === "ok") return assert.strictEqual(outcome(reply), "200")
        assert.strictEqual(outcome(reply), "409 push_conflict")
        const conflict = conflictOf(reply)
        assert.deepInclude(conflict, {
          schema: "business",
          table: "users",
          key: row.key,
          op: row.op,
          base_row_version: row.base_row_version,
          ...verdict
        })
        assert.strictEqual(
          isMembers(conflict["server_row"]) ? conflict["server_row"]["name"] : null,
          verdict === live ? "Newer" : null
        )
      }).pipe(Effect.provide(inProcess())))
  }

  it.effect("are all named, in row order, the first of them twice [wire.md §12]", () =>
    Effect.gen(function*() {
      yield* arranged
      const reply = yield* b.push(1, [user(9), remove("users", 2, 1), user(8), user(1)])
      assert.strictEqual(outcome(reply), "409 push_conflict")
      const conflicts = reply.body["conflicts"]
      assert.isTrue(Array.isArray(conflicts))
      assert.deepStrictEqual(
        Array.isArray(conflicts) ? conflicts.filter(isMembers).map((_) => [_["op"], _["key"]]) : [],
        [["DELETE", { id: id(2) }], ["INSERT", { id: id(1) }]]
      )
      assert.deepStrictEqual(Array.isArray(conflicts) ? conflicts[0] : null, reply.body["conflict"])
    }).pipe(Effect.provide(inProcess())))

  it.effect("of one row are not caused by other rows of the same bundle [server.md §7.1]", () =>
    Effect.gen(function*() {
      yield* arranged
      const reply = yield* b.push(1, [remove("users", 1, 3), user(4)])
      assert.strictEqual(outcome(reply), "200")
    }).pipe(Effect.provide(inProcess())))
})

describe("what is written", () => {
  it.effect("an inserted row over a tombstone comes back as INSERT [server.md §7.4]", () =>
    Effect.gen(function*() {
      yield* arranged
      yield* b.push(1, [user(2, 2)])
      assert.deepStrictEqual(effects(yield* b.rows(4)), ["INSERT users 2"])
    }).pipe(Effect.provide(inProcess())))

  it.effect("missing members of an INSERT get their default, those of an UPDATE stay [values.md §3]", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.parse("2026-03-22T12:00:00.120Z"))
      yield* a.connect(false)
      yield* a.push(1, [insert("users", 1, { name: "One" })])
      yield* TestClock.adjust("1 hour")
      yield* a.push(2, [update("users", 1, 1, { email: "one@example.com" })])
      const first = {
        created_at: "2026-03-22T12:00:00.12+00:00",
        email: null,
        id: id(1),
        name: "One",
        updated_at: "2026-03-22T12:00:00.12+00:00"
      }
      assert.deepStrictEqual(payloads(yield* a.rows(1)), [first])
      assert.deepStrictEqual(payloads(yield* a.rows(2)), [{ ...first, email: "one@example.com" }])
    }).pipe(Effect.provide(inProcess())))

  it.effect("an UPDATE without members still is one [values.md §3]", () =>
    Effect.gen(function*() {
      yield* arranged
      yield* b.push(1, [update("users", 1, 3, {})])
      const rows = yield* b.rows(4)
      assert.deepStrictEqual(effects(rows), ["UPDATE users 1"])
      assert.strictEqual(payloads(rows)[0]?.["name"], "Newer")
    }).pipe(Effect.provide(inProcess())))

  it.effect("members in another case belong to their column [values.md §10]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [insert("users", 1, { Name: "One" })])
      assert.strictEqual(payloads(yield* a.rows(1))[0]?.["name"], "One")
    }).pipe(Effect.provide(inProcess())))

  it.effect("a document without declared columns is merged member by member [values.md §3]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      const note = (op: string, base: number, payload: object): Row => ({
        schema: "public",
        table: "notes",
        key: { slug: "n" },
        op,
        base_row_version: base,
        payload
      })
      yield* a.push(1, [note("INSERT", 0, { slug: "n", title: "T", tags: ["b", "a"], size: 9007199254740993n })])
      yield* a.push(2, [note("UPDATE", 1, { title: null })])
      assert.deepStrictEqual(payloads(yield* a.rows(2)), [
        { size: 9007199254740993n, slug: "n", tags: ["b", "a"], title: null }
      ])
    }).pipe(Effect.provide(inProcess({ tables: [{ table: "notes", key: { column: "slug", kind: "text" } }] }))))
})

describe("what the data forbid", () => {
  const refusals: ReadonlyArray<readonly [what: string, row: Row, reason: string]> = [
    ["an unknown column", insert("users", 1, { shoe: 44 }), "shoe is not a column"],
    [
      "a value that does not convert",
      insert("typed_rows", 1, { enabled_flag: 1, count_value: "x" }),
      "count_value does not take this value as bigint"
    ],
    ["a missing NOT NULL column", insert("typed_rows", 1, {}), "enabled_flag must not be null"],
    ["NULL in a NOT NULL column", insert("files", 1, { data: null }), "data must not be null"],
    ["one column twice", insert("users", 1, { name: "a", Name: "b" }), "name occurs twice"],
    ["U+0000 in a text", insert("users", 1, { name: "a\u0000b" }), "name does not take this value as text"],
    [
      "a reference to nothing",
      insert("posts", 1, { author_id: id(99) }),
      "author_id refers to no row of business.users"
    ],
    ["the hidden column in another case", insert("users", 1, { _SYNC_SCOPE_ID: "x" }), "_sync_scope_id is not a column"]
  ]
  for (const [what, row, reason] of refusals) {
    it.effect(`${what} fails the whole commit and is named [values.md §3, wire.md §12]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        const reply = yield* a.push(1, [user(50), row])
        assert.strictEqual(outcome(reply), "500 push_session_commit_failed")
        assert.deepStrictEqual(reply.body["rows"], [{ schema: "business", table: row.table, key: row.key, reason }])
        assert.strictEqual((yield* a.pull(0)).body["stable_bundle_seq"], 0)
        assert.strictEqual(outcome(yield* a.push(1, [user(50)])), "200")
      }).pipe(Effect.provide(inProcess())))
  }

  it.effect("conflicts outrank it [wire.md §4.4]", () =>
    Effect.gen(function*() {
      yield* arranged
      assert.strictEqual(
        outcome(yield* b.push(1, [insert("users", 7, { shoe: 1 }), user(1)])),
        "409 push_conflict"
      )
    }).pipe(Effect.provide(inProcess())))
})

const reference = (
  onDelete: "no action" | "restrict" | "cascade" | "set null" | "set default",
  more: Partial<TableDeclaration> = {}
): ReadonlyArray<TableDeclaration> => [
  { schema: "business", table: "parents", key: { column: "id", kind: "uuid" }, columns: { name: "text" } },
  {
    schema: "business",
    table: "children",
    key: { column: "id", kind: "uuid" },
    columns: { name: "text", parent_id: { kind: "uuid", default: id(1) } },
    references: [{ column: "parent_id", table: "parents", onDelete }],
    ...more
  }
]

const child = (number: number, parent: number, base = 0) => insert("children", number, { parent_id: id(parent) }, base)
const parent = (number: number) => insert("parents", number, { name: `p${number}` })

const family = Effect.gen(function*() {
  yield* a.connect(false)
  yield* a.push(1, [parent(1), parent(2), child(11, 2), child(12, 2)])
})

describe("references", () => {
  it.effect("are checked with the whole bundle in place, in any order of rows [server.md §7.2]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      assert.strictEqual(outcome(yield* a.push(1, [child(11, 1), parent(1)])), "200")
      assert.strictEqual(
        outcome(yield* a.push(2, [remove("parents", 1, 1), remove("children", 11, 1)])),
        "200"
      )
    }).pipe(Effect.provide(inProcess({ tables: reference("no action") }))))

  it.effect("no action: a parent with children stays [server.md §7.4]", () =>
    Effect.gen(function*() {
      yield* family
      const reply = yield* a.push(2, [remove("parents", 2, 1)])
      assert.strictEqual(outcome(reply), "500 push_session_commit_failed")
      assert.strictEqual(outcome(yield* a.push(2, [remove("parents", 1, 1)])), "200")
    }).pipe(Effect.provide(inProcess({ tables: reference("no action") }))))

  it.effect("restrict: children that go later in the bundle are too late [server.md §3]", () =>
    Effect.gen(function*() {
      yield* family
      const children = [remove("children", 11, 1), remove("children", 12, 1)]
      assert.strictEqual(
        outcome(yield* a.push(2, [remove("parents", 2, 1), ...children])),
        "500 push_session_commit_failed"
      )
      assert.strictEqual(outcome(yield* a.push(2, [...children, remove("parents", 2, 1)])), "200")
    }).pipe(Effect.provide(inProcess({ tables: reference("restrict") }))))

  it.effect("cascade: children follow their parent, in order of their keys [server.md §7.3]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [remove("parents", 2, 1), user2])
      assert.deepStrictEqual(effects(yield* a.rows(2)), [
        "DELETE parents 2",
        "DELETE children 11",
        "DELETE children 12",
        "INSERT parents 9"
      ])
      assert.strictEqual((yield* a.snapshot()).body["row_count"], 2)
    }).pipe(Effect.provide(inProcess({ tables: reference("cascade") }))))

  it.effect("set null: children are updated, after their parent [server.md §7.3]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [remove("parents", 2, 1)])
      const rows = yield* a.rows(2)
      assert.deepStrictEqual(effects(rows), ["DELETE parents 2", "UPDATE children 11", "UPDATE children 12"])
      assert.deepStrictEqual(payloads(rows)[1], { id: id(11), name: null, parent_id: null })
    }).pipe(Effect.provide(inProcess({ tables: reference("set null") }))))

  it.effect("set default: children go to the default, which must exist [server.md §3]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [remove("parents", 2, 1)])
      assert.deepStrictEqual(payloads(yield* a.rows(2))[1], { id: id(11), name: null, parent_id: id(1) })
      assert.strictEqual(outcome(yield* a.push(3, [remove("parents", 1, 1)])), "500 push_session_commit_failed")
    }).pipe(Effect.provide(inProcess({ tables: reference("set default") }))))
})

const user2 = parent(9)

describe("normalisation of effects", () => {
  it.effect("a row inserted and cascaded away in one bundle leaves no trace [server.md §7.4]", () =>
    Effect.gen(function*() {
      yield* family
      const reply = yield* a.push(2, [child(13, 2), remove("parents", 2, 1)])
      assert.strictEqual(reply.body["row_count"], 3)
      assert.deepStrictEqual(effects(yield* a.rows(2)), [
        "DELETE parents 2",
        "DELETE children 11",
        "DELETE children 12"
      ])
      assert.strictEqual(outcome(yield* a.push(3, [child(13, 1)])), "200")
    }).pipe(Effect.provide(inProcess({ tables: reference("cascade") }))))

  it.effect("a tombstone inserted and cascaded away keeps its version [server.md §7.4]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [remove("children", 11, 1)])
      yield* a.push(3, [child(11, 2, 2), remove("parents", 2, 1)])
      assert.deepStrictEqual(effects(yield* a.rows(3)), ["DELETE parents 2", "DELETE children 12"])
      assert.strictEqual(outcome(yield* a.push(4, [child(11, 1, 2)])), "200")
    }).pipe(Effect.provide(inProcess({ tables: reference("cascade") }))))

  it.effect("a row updated and then cascaded away is one DELETE at the place of the update [server.md §7.4]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [update("children", 12, 1, { name: "x" }), remove("parents", 2, 1)])
      assert.deepStrictEqual(effects(yield* a.rows(2)), [
        "DELETE children 12",
        "DELETE parents 2",
        "DELETE children 11"
      ])
    }).pipe(Effect.provide(inProcess({ tables: reference("cascade") }))))

  it.effect("an UPDATE or DELETE of a row that was cascaded away does nothing [server.md §7.2]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [
        remove("parents", 2, 1),
        update("children", 12, 1, { name: "x", parent_id: id(1) }),
        remove("children", 11, 1)
      ])
      assert.deepStrictEqual(effects(yield* a.rows(2)), [
        "DELETE parents 2",
        "DELETE children 11",
        "DELETE children 12"
      ])
    }).pipe(Effect.provide(inProcess({ tables: reference("cascade") }))))

  it.effect("a child moved away before its parent goes survives [server.md §7.2]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [update("children", 12, 1, { parent_id: id(1) }), remove("parents", 2, 1)])
      assert.deepStrictEqual(effects(yield* a.rows(2)), [
        "UPDATE children 12",
        "DELETE parents 2",
        "DELETE children 11"
      ])
    }).pipe(Effect.provide(inProcess({ tables: reference("cascade") }))))

  it.effect("an inserted row that is set to null is one INSERT with the last image [server.md §7.4]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [child(13, 2), remove("parents", 2, 1)])
      const rows = yield* a.rows(2)
      assert.deepStrictEqual(effects(rows), [
        "INSERT children 13",
        "DELETE parents 2",
        "UPDATE children 11",
        "UPDATE children 12"
      ])
      assert.strictEqual(payloads(rows)[0]?.["parent_id"], null)
    }).pipe(Effect.provide(inProcess({ tables: reference("set null") }))))

  it.effect("a row set to null and deleted later is one DELETE at its first place [server.md §7.4]", () =>
    Effect.gen(function*() {
      yield* family
      yield* a.push(2, [remove("parents", 2, 1), remove("children", 11, 1), update("children", 12, 1, { name: "x" })])
      const rows = yield* a.rows(2)
      assert.deepStrictEqual(effects(rows), ["DELETE parents 2", "DELETE children 11", "UPDATE children 12"])
      assert.deepStrictEqual(payloads(rows)[2], { id: id(12), name: "x", parent_id: null })
    }).pipe(Effect.provide(inProcess({ tables: reference("set null") }))))
})

describe("cascades over several levels", () => {
  const category = (number: number, above: number | undefined) =>
    insert("categories", number, { name: `c${number}`, parent_id: above === undefined ? null : id(above) })

  it.effect("go breadth first, each level in the order of the one above [server.md §7.3]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [
        category(1, undefined),
        category(2, 1),
        category(3, 1),
        category(4, 3),
        category(5, 2),
        category(6, 2),
        category(7, 4)
      ])
      yield* a.push(2, [remove("categories", 1, 1)])
      assert.deepStrictEqual(effects(yield* a.rows(2)), [1, 2, 3, 5, 6, 4, 7].map((_) => `DELETE categories ${_}`))
    }).pipe(Effect.provide(inProcess())))

  it.effect("of several deletes keep each row with the first delete that reaches it [server.md §7.3]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [
        category(1, undefined),
        category(2, 1),
        category(3, 2),
        category(4, undefined),
        category(5, 4)
      ])
      yield* a.push(2, [remove("categories", 4, 1), remove("categories", 1, 1), remove("categories", 2, 1)])
      assert.deepStrictEqual(effects(yield* a.rows(2)), [4, 5, 1, 2, 3].map((_) => `DELETE categories ${_}`))
    }).pipe(Effect.provide(inProcess())))

  it.effect("of children deleted first leave nothing for the parent [server.md §7.3]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [category(1, undefined), category(2, 1), category(3, 2)])
      yield* a.push(2, [remove("categories", 2, 1), remove("categories", 1, 1)])
      assert.deepStrictEqual(effects(yield* a.rows(2)), [2, 3, 1].map((_) => `DELETE categories ${_}`))
    }).pipe(Effect.provide(inProcess())))

  it.effect("end in cycles [server.md §3]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [
        insert("teams", 1, { captain_member_id: id(2) }),
        insert("team_members", 2, { team_id: id(1) }),
        insert("team_members", 3, { team_id: id(1) }),
        category(5, 6),
        category(6, 5)
      ])
      yield* a.push(2, [remove("teams", 1, 1), remove("categories", 5, 1)])
      assert.deepStrictEqual(effects(yield* a.rows(2)), [
        "DELETE teams 1",
        "DELETE team_members 2",
        "DELETE team_members 3",
        "DELETE categories 5",
        "DELETE categories 6"
      ])
    }).pipe(Effect.provide(inProcess())))

  it.effect("do not cross scopes [server.md §16.1]", () =>
    Effect.gen(function*() {
      const other = device("source-z", "user-2")
      yield* a.connect(false)
      yield* other.connect(false)
      yield* a.push(1, [category(1, undefined), category(2, 1)])
      yield* other.push(1, [category(1, undefined), category(2, 1)])
      yield* a.push(2, [remove("categories", 1, 1)])
      assert.strictEqual((yield* other.snapshot()).body["row_count"], 2)
      assert.strictEqual((yield* a.snapshot()).body["row_count"], 0)
    }).pipe(Effect.provide(inProcess())))
})

describe("unique columns", () => {
  const tables: ReadonlyArray<TableDeclaration> = [{
    schema: "business",
    table: "tags",
    key: { column: "id", kind: "uuid" },
    columns: { name: { kind: "text", unique: true } }
  }]
  const tag = (number: number, name: string | null) => insert("tags", number, { name })

  it.effect("refuse a second row with the value, but not NULL [server.md §3]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [tag(1, "red"), tag(2, null), tag(3, null)])
      const reply = yield* a.push(2, [tag(4, "red")])
      assert.strictEqual(outcome(reply), "500 push_session_commit_failed")
      assert.deepStrictEqual(reply.body["rows"], [
        { schema: "business", table: "tags", key: { id: id(4) }, reason: "name is not unique" }
      ])
      assert.strictEqual(outcome(yield* a.push(2, [tag(4, "red"), tag(5, "red")])), "500 push_session_commit_failed")
    }).pipe(Effect.provide(inProcess({ tables }))))

  it.effect("let values be swapped and passed on within a bundle [server.md §7.2]", () =>
    Effect.gen(function*() {
      yield* a.connect(false)
      yield* a.push(1, [tag(1, "red"), tag(2, "blue")])
      const swapped = [update("tags", 1, 1, { name: "blue" }), update("tags", 2, 1, { name: "red" })]
      assert.strictEqual(outcome(yield* a.push(2, swapped)), "200")
      assert.strictEqual(outcome(yield* a.push(3, [tag(3, "blue"), remove("tags", 1, 2)])), "200")
    }).pipe(Effect.provide(inProcess({ tables }))))

  it.effect("are unique within a scope only [server.md §16.1]", () =>
    Effect.gen(function*() {
      const other = device("source-z", "user-2")
      yield* a.connect(false)
      yield* other.connect(false)
      yield* a.push(1, [tag(1, "red")])
      assert.strictEqual(outcome(yield* other.push(1, [tag(2, "red")])), "200")
    }).pipe(Effect.provide(inProcess({ tables }))))
})
