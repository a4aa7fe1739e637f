/** Random bundles against a model that applies row by row (server.md §7.2–7.4). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import type { TableDeclaration } from "oversqlite/server"
import { device, effects, id, isMembers, payloads } from "./support/Device.js"
import type { Row } from "./support/Device.js"
import { inProcess } from "./support/TestServer.js"

type Action = "cascade" | "set null" | "no action" | "restrict"

interface Reference {
  readonly child: string
  readonly column: string
  readonly parent: string
  readonly action: Action
}

interface Stored {
  readonly version: number
  readonly payload: Readonly<Record<string, unknown>> | undefined
}

interface Event {
  readonly key: string
  readonly op: "INSERT" | "UPDATE" | "DELETE"
}

/** Thrown where the data forbid the bundle. */
class Forbidden {}

const columnsOf = (references: ReadonlyArray<Reference>, table: string) =>
  references.filter((reference) => reference.child === table).map((reference) => reference.column)

const keyOf = (table: string, number: number) => `${table} ${number}`

/** One scope in memory, written to be obviously right. */
class Model {
  readonly references: ReadonlyArray<Reference>
  rows = new Map<string, Stored>()
  constructor(references: ReadonlyArray<Reference>) {
    this.references = references
  }

  live(key: string) {
    return this.rows.get(key)?.payload
  }

  /** Live rows that refer to a row, in order of their keys. */
  referring(reference: Reference, key: string): ReadonlyArray<string> {
    return Array.from(this.rows)
      .filter(([child, { payload }]) =>
        child.startsWith(`${reference.child} `) && payload?.[reference.column] === id(Number(key.split(" ")[1]))
      )
      .map(([child]) => child)
      .sort((left, right) => Number(left.split(" ")[1]) - Number(right.split(" ")[1]))
  }

  remove(root: string, version: number, events: Array<Event>) {
    const queue = [root]
    this.rows.set(root, { version, payload: undefined })
    events.push({ key: root, op: "DELETE" })
    for (let parent = queue.shift(); parent !== undefined; parent = queue.shift()) {
      for (const reference of this.references.filter((_) => parent?.startsWith(`${_.parent} `))) {
        for (const child of this.referring(reference, parent)) {
          if (reference.action === "restrict") throw new Forbidden()
          if (reference.action === "cascade") {
            this.rows.set(child, { version, payload: undefined })
            events.push({ key: child, op: "DELETE" })
            queue.push(child)
          }
          if (reference.action === "set null") {
            this.rows.set(child, { version, payload: { ...this.live(child), [reference.column]: null } })
            events.push({ key: child, op: "UPDATE" })
          }
        }
      }
    }
  }

  /** The bundle's effects as `OP table number`. */
  commit(uploads: ReadonlyArray<Row>, version: number): ReadonlyArray<string> {
    const before = new Map(this.rows)
    const events: Array<Event> = []
    for (const upload of uploads) {
      const key = keyOf(upload.table, Number(String(upload.key["id"]).slice(-12)))
      const payload = isMembers(upload.payload) ? upload.payload : {}
      if (upload.op === "INSERT") {
        this.rows.set(key, { version, payload })
        events.push({ key, op: "INSERT" })
      } else if (this.live(key) !== undefined) {
        if (upload.op === "DELETE") {
          this.remove(key, version, events)
        } else {
          this.rows.set(key, { version, payload: { ...this.live(key), ...payload } })
          events.push({ key, op: "UPDATE" })
        }
      }
    }
    const groups = new Map<string, { readonly first: Event["op"]; readonly last: Event["op"] }>()
    for (const { key, op } of events) groups.set(key, { first: groups.get(key)?.first ?? op, last: op })
    for (const [key, { first, last }] of groups) {
      if (first !== "INSERT" || last !== "DELETE") continue
      groups.delete(key)
      const known = before.get(key)
      if (known === undefined) this.rows.delete(key)
      else this.rows.set(key, known)
    }
    for (const [child, { payload }] of this.rows) {
      for (const reference of this.references) {
        const parent = child.startsWith(`${reference.child} `) ? payload?.[reference.column] : undefined
        if (typeof parent !== "string") continue
        if (this.live(keyOf(reference.parent, Number(parent.slice(-12)))) === undefined) throw new Forbidden()
      }
    }
    return Array.from(
      groups,
      ([key, { first, last }]) => `${first === "INSERT" ? "INSERT" : last === "DELETE" ? "DELETE" : "UPDATE"} ${key}`
    )
  }
}

/** The effects of a bundle; none where the data forbid it. */
const attempt = (model: Model, uploads: ReadonlyArray<Row>, version: number): ReadonlyArray<string> => {
  try {
    return model.commit(uploads, version)
  } catch (error) {
    assert.instanceOf(error, Forbidden)
    return []
  }
}

/** Tables in the order of their references, which is the order of delete actions. */
const tablesOf = (references: ReadonlyArray<Reference>): ReadonlyArray<TableDeclaration> =>
  Array.from(new Set(references.map((_) => _.child)), (table) => ({
    schema: "business",
    table,
    key: { column: "id", kind: "uuid" },
    references: references.filter((_) => _.child === table).map((_) => ({
      column: _.column,
      table: _.parent,
      onDelete: _.action
    }))
  }))

const action = FastCheck.constantFrom<Array<Action>>("cascade", "cascade", "set null", "no action", "restrict")

const arbitraryReferences = FastCheck.tuple(
  FastCheck.oneof(
    FastCheck.tuple(action, action, action),
    FastCheck.constant<[Action, Action, Action]>(["cascade", "cascade", "set null"])
  ),
  FastCheck.boolean(),
  FastCheck.boolean()
).map(([[up, owner, friend], treesFirst, friendFirst]): ReadonlyArray<Reference> => {
  const trees: Reference = { child: "trees", column: "up", parent: "trees", action: up }
  const leaves: ReadonlyArray<Reference> = [
    { child: "leaves", column: "owner", parent: "trees", action: owner },
    { child: "leaves", column: "friend", parent: "leaves", action: friend }
  ]
  const ordered = friendFirst ? leaves.slice().reverse() : leaves
  return treesFirst ? [trees, ...ordered] : [...ordered, trees]
})

const number = FastCheck.integer({ min: 1, max: 4 })
const link = FastCheck.option(number, { freq: 4 })

/** What a device may want with a row; what it means depends on the state. */
interface Wish {
  readonly table: string
  readonly number: number
  readonly remove: boolean
  readonly links: readonly [number | null, number | null]
  readonly partial: boolean
}

const arbitraryWish: FastCheck.Arbitrary<Wish> = FastCheck.record({
  table: FastCheck.constantFrom("trees", "leaves"),
  number,
  remove: FastCheck.boolean(),
  links: FastCheck.tuple(link, link),
  partial: FastCheck.boolean()
})

const arbitraryBundles = FastCheck.array(
  FastCheck.uniqueArray(arbitraryWish, {
    minLength: 1,
    maxLength: 7,
    selector: (wish) => keyOf(wish.table, wish.number)
  }),
  { minLength: 1, maxLength: 6 }
)

const uploadOf = (
  model: Model,
  wish: Wish
): ReadonlyArray<Row> => {
  const stored = model.rows.get(keyOf(wish.table, wish.number))
  const head = { table: wish.table, key: { id: id(wish.number) }, base_row_version: stored?.version ?? 0 }
  const live = stored?.payload !== undefined
  if (wish.remove) return live ? [{ ...head, op: "DELETE" }] : []
  const columns = columnsOf(model.references, wish.table)
  const links = columns.map((column, index): [string, string | null] => {
    const to = wish.links[index] ?? null
    return [column, to === null ? null : id(to)]
  })
  const payload = Object.fromEntries([["id", id(wish.number)], ...(live && wish.partial ? links.slice(1) : links)])
  return [{ ...head, op: live ? "UPDATE" : "INSERT", payload }]
}

const wish = (table: string, number: number, links: Wish["links"]): Wish => ({
  table,
  number,
  remove: false,
  links,
  partial: false
})

/** A leaf that a cascade has reached when it would be set to null. */
const overtaken: [ReadonlyArray<Reference>, Array<Array<Wish>>] = [
  [
    { child: "trees", column: "up", parent: "trees", action: "cascade" },
    { child: "leaves", column: "owner", parent: "trees", action: "cascade" },
    { child: "leaves", column: "friend", parent: "leaves", action: "set null" }
  ],
  [
    [
      wish("trees", 1, [null, null]),
      wish("trees", 2, [1, null]),
      wish("leaves", 1, [1, null]),
      wish("leaves", 2, [2, 1])
    ],
    [{ ...wish("trees", 1, [null, null]), remove: true }]
  ]
]

describe("effects of a bundle", () => {
  it.live(
    "are those of applying it row by row, in the same order [server.md §7.2–7.4]",
    () =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(arbitraryReferences, arbitraryBundles, (references, bundles) =>
            Effect.runPromise(
              Effect.gen(function*() {
                const a = device("source-a")
                const model = new Model(references)
                let committed = 0
                yield* a.connect(false)
                for (const wishes of bundles) {
                  const uploads = wishes.flatMap((wish) => uploadOf(model, wish))
                  if (uploads.length === 0) continue
                  const before = new Map(model.rows)
                  const expected = attempt(model, uploads, committed + 1)
                  const reply = yield* a.push(committed + 1, uploads)
                  if (expected.length === 0) {
                    model.rows = before
                    assert.include([400, 500], reply.status)
                    continue
                  }
                  assert.strictEqual(reply.status, 200, JSON.stringify(reply.body))
                  committed += 1
                  const rows = yield* a.rows(committed)
                  assert.deepStrictEqual(effects(rows), expected)
                  payloads(rows).forEach((payload, index) => {
                    assert.deepStrictEqual(payload, model.live(String(expected[index]).replace(/^\w+ /, "")) ?? {})
                  })
                }
              }).pipe(Effect.provide(inProcess({ tables: tablesOf(references) })))
            )),
          { seed: 11, numRuns: 60, examples: [overtaken] }
        )
      ),
    120_000
  )
})
