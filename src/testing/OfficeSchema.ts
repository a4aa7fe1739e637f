/**
 * The schema a simulation uses unless it is given another one: a cascade, a self reference, a cycle, a unique column, two
 * tables with blobs, and a blob key.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Host, HostAction, Repair, SimulatedSchema } from "./SimulatedSchema.js"

/**
 * People with superiors and teams, teams with leaders, notes that go with their owner, photos.
 *
 * @since 0.1.0
 * @category schemas
 */
export const schema: SimulatedSchema = {
  schema: "office",
  ddl: [
    `CREATE TABLE teams (id TEXT PRIMARY KEY NOT NULL, title TEXT, stamp TEXT,
       lead TEXT REFERENCES people (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)`,
    `CREATE TABLE people (id TEXT PRIMARY KEY NOT NULL, name TEXT, code TEXT UNIQUE, stamp TEXT,
       boss TEXT REFERENCES people (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
       team TEXT REFERENCES teams (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)`,
    `CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, body TEXT, size INTEGER, sketch BLOB, stamp TEXT,
       owner TEXT REFERENCES people (id) ON DELETE CASCADE)`,
    "CREATE TABLE photos (id BLOB PRIMARY KEY NOT NULL, pixels BLOB, stamp TEXT)"
  ],
  tables: [
    { name: "teams", key: "id" },
    { name: "people", key: "id" },
    { name: "notes", key: "id", cascades: [{ column: "owner", table: "people" }] },
    { name: "photos", key: "id", isBlobKey: true }
  ],
  declarations: [
    {
      schema: "office",
      table: "teams",
      key: { column: "id", kind: "text" },
      columns: { title: "text", stamp: "text", lead: "text" },
      references: [{ column: "lead", table: "people", onDelete: "set null" }]
    },
    {
      schema: "office",
      table: "people",
      key: { column: "id", kind: "text" },
      columns: {
        name: "text",
        code: { kind: "text", unique: true },
        stamp: "text",
        boss: "text",
        team: "text"
      },
      references: [
        { column: "boss", table: "people", onDelete: "set null" },
        { column: "team", table: "teams", onDelete: "set null" }
      ]
    },
    {
      schema: "office",
      table: "notes",
      key: { column: "id", kind: "text" },
      columns: { body: "text", size: "integer", sketch: "bytea", stamp: "text", owner: "text" },
      references: [{ column: "owner", table: "people", onDelete: "cascade" }]
    },
    {
      schema: "office",
      table: "photos",
      key: { column: "id", kind: "uuid" },
      columns: { pixels: "bytea", stamp: "text" }
    }
  ]
}

/** Mostly a key of its own; now and then one that others think of as well. */
const newKey = ({ prng }: Host, letter: string) =>
  prng.chance(0.4) ? `${letter}${prng.integer(8)}` : `${letter}-${prng.uuid().slice(0, 8)}`

const code = ({ prng }: Host) => prng.chance(0.4) ? `code ${prng.integer(6)}` : null

const bytes = ({ prng }: Host) => "00ff10".slice(0, 2 * prng.integer(4))

const maybe = (host: Host, table: string) =>
  host.prng.chance(0.6) ? Effect.map(host.someKey(table), (key) => key ?? null) : Effect.succeed(null)

const action = (name: string, weight: number, act: HostAction["act"]): HostAction => ({ name, weight, act })

/** Does something to one row of a table, if there is one. */
const one = (table: string, act: (host: Host, key: unknown) => ReturnType<HostAction["act"]>): HostAction["act"] =>
(
  host
) => Effect.flatMap(host.someKey(table), (key) => key === undefined ? Effect.void : act(host, key))

/**
 * What hosts do to the office.
 *
 * @since 0.1.0
 * @category hosts
 */
export const hosts: ReadonlyArray<HostAction> = [
  action("hire", 5, (host) =>
    Effect.gen(function*() {
      yield* host.run("INSERT INTO people (id, name, code, boss, team, stamp) VALUES (?, ?, ?, ?, ?, ?)", [
        newKey(host, "p"),
        `name <${host.prng.integer(100)}> & Söhne`,
        code(host),
        yield* maybe(host, "people"),
        yield* maybe(host, "teams"),
        host.stamp()
      ])
    })),
  action(
    "rename",
    6,
    one("people", (host, key) =>
      host.run("UPDATE people SET name = ?, stamp = ? WHERE id = ?", [
        `renamed ${host.prng.integer(100)}`,
        host.stamp(),
        key
      ]))
  ),
  action(
    "change code",
    2,
    one(
      "people",
      (host, key) => host.run("UPDATE people SET code = ?, stamp = ? WHERE id = ?", [code(host), host.stamp(), key])
    )
  ),
  action(
    "swap codes",
    1,
    one("people", (host, first) =>
      Effect.gen(function*() {
        const second = yield* host.someKey("people")
        const [left] = yield* host.run("SELECT code FROM people WHERE id = ?", [first])
        const [right] = yield* host.run("SELECT code FROM people WHERE id = ?", [second])
        if (first === second) return
        yield* host.run("UPDATE people SET code = NULL WHERE id = ?", [first])
        yield* host.run("UPDATE people SET code = ?, stamp = ? WHERE id = ?", [left?.["code"], host.stamp(), second])
        yield* host.run("UPDATE people SET code = ?, stamp = ? WHERE id = ?", [right?.["code"], host.stamp(), first])
      }))
  ),
  action(
    "promote",
    2,
    one("people", (host, key) =>
      Effect.gen(function*() {
        yield* host.run("UPDATE people SET boss = ?, team = ?, stamp = ? WHERE id = ?", [
          yield* maybe(host, "people"),
          yield* maybe(host, "teams"),
          host.stamp(),
          key
        ])
      }))
  ),
  action("dismiss", 2, one("people", (host, key) => host.run("DELETE FROM people WHERE id = ?", [key]))),
  action(
    "displace",
    1,
    (host) =>
      host.run("INSERT OR REPLACE INTO people (id, name, code, stamp) VALUES (?, ?, ?, ?)", [
        newKey(host, "p"),
        "displacing",
        code(host),
        host.stamp()
      ])
  ),
  action("found", 2, (host) =>
    Effect.gen(function*() {
      yield* host.run("INSERT INTO teams (id, title, lead, stamp) VALUES (?, ?, ?, ?)", [
        newKey(host, "t"),
        "team",
        yield* maybe(host, "people"),
        host.stamp()
      ])
    })),
  action(
    "lead",
    2,
    one("teams", (host, key) =>
      Effect.gen(function*() {
        yield* host.run("UPDATE teams SET lead = ?, stamp = ? WHERE id = ?", [
          yield* maybe(host, "people"),
          host.stamp(),
          key
        ])
      }))
  ),
  action("dissolve", 1, one("teams", (host, key) => host.run("DELETE FROM teams WHERE id = ?", [key]))),
  action("note", 5, (host) =>
    Effect.gen(function*() {
      yield* host.run("INSERT INTO notes (id, body, size, sketch, owner, stamp) VALUES (?, ?, ?, unhex(?), ?, ?)", [
        newKey(host, "n"),
        `body "${host.prng.integer(1000)}" \u2028 \\`,
        host.prng.integer(1_000_000),
        host.prng.chance(0.5) ? bytes(host) : null,
        yield* maybe(host, "people"),
        host.stamp()
      ])
    })),
  action(
    "edit note",
    4,
    one("notes", (host, key) =>
      host.run("UPDATE notes SET body = ?, stamp = ? WHERE id = ?", [
        `edited ${host.prng.integer(1000)}`,
        host.stamp(),
        key
      ]))
  ),
  action(
    "move note",
    1,
    one(
      "notes",
      (host, key) => host.run("UPDATE notes SET id = ?, stamp = ? WHERE id = ?", [newKey(host, "n"), host.stamp(), key])
    )
  ),
  action("tear up note", 2, one("notes", (host, key) => host.run("DELETE FROM notes WHERE id = ?", [key]))),
  action("photo", 2, (host) =>
    host.run("INSERT INTO photos (id, pixels, stamp) VALUES (unhex(?), unhex(?), ?)", [
      host.prng.uuid().replaceAll("-", ""),
      bytes(host),
      host.stamp()
    ])),
  action(
    "retouch",
    2,
    one("photos", (host, key) =>
      host.run("UPDATE photos SET pixels = unhex(?), stamp = ? WHERE id = ?", [
        `${10 + host.prng.integer(90)}`,
        host.stamp(),
        key
      ]))
  ),
  action("shred", 1, one("photos", (host, key) => host.run("DELETE FROM photos WHERE id = ?", [key])))
]

/**
 * Takes what may contradict other rows (codes and references) out of a row; if that does not help, the row itself. A row
 * that was deleted here while others still refer to it comes back.
 *
 * @since 0.1.0
 * @category hosts
 */
export const repair: Repair = (host, { key, table }, attempt) =>
  Effect.flatMap(
    host.run(`SELECT 1 FROM "${table}" WHERE id = ?`, [key]),
    ([there]) =>
      there === undefined && attempt <= 2
        // What others hold on to must not be deleted: the row comes back.
        ? host.run(`INSERT INTO "${table}" (id, stamp) VALUES (?, ?)`, [key, host.stamp()])
        : repairRow(host, { key, table }, attempt)
  )

const repairRow: Repair = (host, { key, table }, attempt) => {
  if (attempt > 1) return host.run(`DELETE FROM "${table}" WHERE id = ?`, [key])
  switch (table) {
    case "people":
      return host.run("UPDATE people SET code = NULL, boss = NULL, team = NULL, stamp = ? WHERE id = ?", [
        host.stamp(),
        key
      ])
    case "teams":
      return host.run("UPDATE teams SET lead = NULL, stamp = ? WHERE id = ?", [host.stamp(), key])
    case "notes":
      return host.run("UPDATE notes SET owner = NULL, stamp = ? WHERE id = ?", [host.stamp(), key])
    default:
      return host.run(`DELETE FROM "${table}" WHERE id = ?`, [key])
  }
}
