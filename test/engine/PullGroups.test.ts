import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import type { TableDeclaration } from "oversqlite/server"
import { groupOf, nextGroup } from "../../src/engine/BundleGroups.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

/** Every way of setting unique values aside: NULL, a text nobody has, a negative number in a STRICT table. */
const ddl = [
  "CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT, email TEXT UNIQUE, code TEXT NOT NULL UNIQUE)",
  `CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, title TEXT, rank INTEGER NOT NULL UNIQUE,
     author_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE) STRICT`,
  `CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, label TEXT COLLATE NOCASE,
     parent_id TEXT REFERENCES nodes (id) ON DELETE CASCADE, UNIQUE (label, parent_id)) WITHOUT ROWID`
]

const tables = ["users", "posts", "nodes"].map((name) => ({ name, key: "id" }))

const declared: ReadonlyArray<TableDeclaration> = [
  { schema: "business", table: "users", key: { column: "id", kind: "text" } },
  {
    schema: "business",
    table: "posts",
    key: { column: "id", kind: "text" },
    references: [{ column: "author_id", table: "users", onDelete: "cascade" }]
  },
  {
    schema: "business",
    table: "nodes",
    key: { column: "id", kind: "text" },
    references: [{ column: "parent_id", table: "nodes", onDelete: "cascade" }]
  }
]

type Payload = Readonly<Record<string, string | number | null>>

interface State {
  readonly users: Map<string, Payload>
  readonly posts: Map<string, Payload>
  readonly nodes: Map<string, Payload>
}

/** What a writer does; ids and unique values are few, so that they are used again. */
const command = FastCheck.oneof(
  {
    weight: 4,
    arbitrary: FastCheck.record({
      do: FastCheck.constant("user" as const),
      id: FastCheck.nat(5),
      other: FastCheck.nat(9)
    })
  },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      do: FastCheck.constant("rotate" as const),
      id: FastCheck.nat(5),
      other: FastCheck.nat(9)
    })
  },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      do: FastCheck.constant("drop user" as const),
      id: FastCheck.nat(5),
      other: FastCheck.nat(9)
    })
  },
  {
    weight: 4,
    arbitrary: FastCheck.record({
      do: FastCheck.constant("post" as const),
      id: FastCheck.nat(5),
      other: FastCheck.nat(9)
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      do: FastCheck.constant("drop post" as const),
      id: FastCheck.nat(5),
      other: FastCheck.nat(9)
    })
  },
  {
    weight: 3,
    arbitrary: FastCheck.record({
      do: FastCheck.constant("node" as const),
      id: FastCheck.nat(5),
      other: FastCheck.nat(9)
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      do: FastCheck.constant("drop node" as const),
      id: FastCheck.nat(5),
      other: FastCheck.nat(9)
    })
  }
)

type Command = typeof command extends FastCheck.Arbitrary<infer A> ? A : never

const dropNode = (state: State, id: string) => {
  state.nodes.delete(id)
  for (const [child, node] of [...state.nodes]) if (node["parent_id"] === id) dropNode(state, child)
}

const free = (rows: Map<string, Payload>, member: string, from: number): number => {
  const used = new Set([...rows.values()].map((row) => row[member]))
  for (let number = from;; number++) if (!used.has(number) && !used.has(`${number}`)) return number
}

const run = (state: State, { do: what, id: given, other }: Command): void => {
  const id = `k${given}`
  switch (what) {
    case "user": {
      const email = other % 3 === 0 ? null : `${free(state.users, "email", other)}`
      const code = state.users.get(id)?.["code"] ?? `${free(state.users, "code", other)}`
      return void state.users.set(id, { name: `n${other}`, email, code })
    }
    case "rotate": {
      const ids = [...state.users.keys()].sort()
      const before = ids.map((one) => state.users.get(one) ?? {})
      ids.forEach((one, index) => {
        const next = before[(index + 1) % ids.length] ?? {}
        state.users.set(one, { ...before[index], email: next["email"] ?? null, code: next["code"] ?? null })
      })
      const posts = [...state.posts.keys()].sort()
      const ranks = posts.map((one) => state.posts.get(one)?.["rank"] ?? null)
      posts.forEach((one, index) => {
        state.posts.set(one, { ...state.posts.get(one), rank: ranks[(index + 1) % posts.length] ?? null })
      })
      return
    }
    case "drop user": {
      state.users.delete(id)
      for (const [post, row] of [...state.posts]) if (row["author_id"] === id) state.posts.delete(post)
      return
    }
    case "post": {
      const authors = [...state.users.keys()].sort()
      const author = authors[other % Math.max(authors.length, 1)]
      if (author === undefined) return
      const rank = state.posts.get(id)?.["rank"] ?? free(state.posts, "rank", other)
      return void state.posts.set(id, { title: `t${other}`, rank, author_id: author })
    }
    case "drop post":
      return void state.posts.delete(id)
    case "node": {
      const parents = [null, ...[...state.nodes.keys()].filter((one) => one < id).sort()]
      return void state.nodes.set(id, { label: `${id}-${other}`, parent_id: parents[other % parents.length] ?? null })
    }
    case "drop node":
      return dropNode(state, id)
  }
}

const names = ["users", "posts", "nodes"] as const

const copied = (state: State): State => ({
  users: new Map(state.users),
  posts: new Map(state.posts),
  nodes: new Map(state.nodes)
})

/** The rows of the bundle that leads from one state to the next. */
const difference = (before: State, after: State) =>
  names.flatMap((table) => [
    ...[...after[table]].filter(([key, payload]) => JSON.stringify(before[table].get(key)) !== JSON.stringify(payload))
      .map(([key, payload]) => ({ table, key, payload })),
    ...[...before[table].keys()].filter((key) => !after[table].has(key)).map((key) => ({ table, key, payload: null }))
  ])

/** Tables and row state of a device, as the server's database has them. */
const compare = (world: World, device: Device) =>
  Effect.gen(function*() {
    const rows = yield* world.serverRows
    for (const table of names) {
      const own = new Map(
        (yield* device.run(`SELECT * FROM ${table}`)).map((row) => [`${table} ${String(row["id"])}`, row])
      )
      const theirs = new Map([...rows].filter(([key]) => key.startsWith(`${table} `)))
      assert.deepStrictEqual(own, theirs)
    }
    const sql = yield* world.serverSql
    const versions = yield* Effect.orDie(sql.unsafe(
      `SELECT replace(t.name, 'business.', '') AS table_name, json_object('id', r.key) AS key_json, r.version AS row_version,
              r.payload IS NULL AS deleted
         FROM server_row AS r JOIN server_table AS t USING (table_id) ORDER BY 1, 2`
    ))
    assert.deepStrictEqual(
      yield* device.run("SELECT table_name, key_json, row_version, deleted FROM _sync_row_state ORDER BY 1, 2"),
      versions
    )
    yield* checkInvariants(device)
  })

const history = FastCheck.array(FastCheck.array(command, { minLength: 1, maxLength: 5 }), {
  minLength: 1,
  maxLength: 12
})

describe("a group of bundles equals its bundles one after the other [pull.md §4.1]", () => {
  it.scoped.prop(
    "tables and row state are the server's, with budgets of 1, 4 and 4096 rows and any pages",
    [history, FastCheck.integer({ min: 1, max: 13 })],
    ([bundles, downloadLimit]) =>
      Effect.gen(function*() {
        const world = yield* makeWorld({ declared })
        const devices: Array<Device> = []
        for (const applyRows of [1, 4, 4096]) {
          devices.push(yield* world.attached({ ddl, tables, applyRows, downloadLimit }))
        }
        let state: State = { users: new Map(), posts: new Map(), nodes: new Map() }
        for (const [index, commands] of bundles.entries()) {
          const next = copied(state)
          for (const one of commands) run(next, one)
          const rows = difference(state, next)
          if (rows.length > 0) yield* world.write(rows)
          state = next
          // One of the devices looks in between.
          const early = devices[index]
          if (early !== undefined) yield* early.sync.pullToStable
        }
        for (const device of devices) {
          const report = yield* device.sync.pullToStable
          assert.notStrictEqual(report.outcome, "applied_snapshot")
          yield* compare(world, device)
        }
      }),
    { fastCheck: { seed: 20260901, numRuns: 20 }, timeout: 120_000 }
  )
})

describe("cutting a page [pull.md §4.1]", () => {
  const page = (...counts: ReadonlyArray<number>) =>
    counts.map((count, index) => ({
      bundle_seq: index + 1,
      source_id: "s",
      source_bundle_id: index + 1,
      row_count: count,
      bundle_hash: `h${index + 1}`,
      rows: Array.from({ length: count }, () => ({
        schema: "s",
        table: "t",
        key: { id: "k" },
        op: "DELETE" as const,
        row_version: 1,
        payload: undefined
      }))
    }))
  const table: ReadonlyArray<readonly [counts: ReadonlyArray<number>, budget: number, groups: ReadonlyArray<string>]> =
    [
      [[1, 1, 1], 3, ["0-2"]],
      [[1, 1, 1], 2, ["0-1", "2-2"]],
      [[1, 1, 1], 1, ["0-0", "1-1", "2-2"]],
      [[5, 1, 1], 2, ["0-0", "1-2"]],
      [[1, 5, 1], 2, ["0-0", "1-1", "2-2"]],
      [[0, 0, 2, 0, 1], 2, ["0-3", "4-4"]],
      [[4], 4, ["0-0"]]
    ]
  for (const [counts, budget, groups] of table) {
    it(`rows ${counts.join(", ")} with a budget of ${budget}: ${groups.join(", ")}`, () => {
      const bundles = page(...counts)
      const found: Array<string> = []
      for (let first = 0; first < bundles.length;) {
        const group = nextGroup(bundles, first, bundles.length, budget)
        assert.strictEqual(group.lastBundleSeq, group.last + 1)
        assert.strictEqual(group.lastBundleHash, `h${group.last + 1}`)
        found.push(`${group.first}-${group.last}`)
        first = group.last + 1
      }
      assert.deepStrictEqual(found, groups)
    })
  }

  it("never goes beyond the end it is given", () => {
    assert.strictEqual(nextGroup(page(1, 1, 1), 0, 2, 10).last, 1)
    assert.deepStrictEqual(groupOf(page(1, 1), 0, 1), { first: 0, last: 1, lastBundleSeq: 2, lastBundleHash: "h2" })
  })
})
