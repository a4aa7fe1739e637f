/** Intent-preserving apply against a model: every pending key, every snapshot row, every way of applying a snapshot. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import type { ServerRow, TableDeclaration } from "oversqlite/server"
import type { Device } from "./support/Devices.js"
import { followGuidance } from "./support/Guidance.js"
import { checkInvariants } from "./support/Invariants.js"
import { after, before, refused } from "./support/Network.js"
import { makeWorld } from "./support/World.js"
import type { World } from "./support/World.js"

const ddl = ["CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, body TEXT)"]
const tables = [{ name: "notes", key: "id" }]
const declared: ReadonlyArray<TableDeclaration> = [
  { schema: "business", table: "notes", key: { column: "id", kind: "text" } }
]

/** A key and its new body; `undefined` deletes. */
type Change = readonly [key: number, body: number | undefined]

const changes = FastCheck.array(
  FastCheck.tuple(FastCheck.nat(8), FastCheck.option(FastCheck.nat(1), { nil: undefined })),
  { maxLength: 9, size: "max" }
)

interface Stored {
  readonly version: number
  readonly deleted: boolean
}

interface Pending {
  readonly key: string
  readonly op: string
  readonly base: number
}

/** What the model needs to know of a device. */
interface Snapshot {
  readonly live: ReadonlyMap<string, unknown>
  readonly state: ReadonlyMap<string, Stored>
  readonly dirty: ReadonlyArray<Pending>
  readonly frozen: ReadonlyArray<Pending & { readonly deletes: boolean }>
}

const keyOf = (json: unknown) => String(JSON.parse(String(json)).id)

const observe = (device: Pick<Device, "run">): Effect.Effect<Snapshot> =>
  Effect.gen(function*() {
    const live = yield* device.run("SELECT id, body FROM notes ORDER BY id")
    const state = yield* device.run("SELECT key_json, row_version, deleted FROM _sync_row_state ORDER BY key_json")
    const pending = (rows: ReadonlyArray<Record<string, unknown>>) =>
      rows.map((row) => ({
        key: keyOf(row["key_json"]),
        op: String(row["op"]),
        base: Number(row["base_row_version"]),
        deletes: row["payload"] === null
      }))
    const dirty = yield* device.run("SELECT * FROM _sync_dirty_rows ORDER BY dirty_ordinal")
    const frozen = yield* device.run("SELECT *, local_payload AS payload FROM _sync_outbox_rows ORDER BY row_ordinal")
    return {
      live: new Map(live.map((row) => [String(row["id"]), row["body"]])),
      state: new Map(
        state.map((row) => [
          keyOf(row["key_json"]),
          { version: Number(row["row_version"]), deleted: row["deleted"] === 1 }
        ])
      ),
      dirty: pending(dirty).map(({ base, key, op }) => ({ base, key, op })),
      frozen: pending(frozen)
    }
  })

/** The server's live rows with their versions: what a snapshot would show. */
const serverState = (world: World) =>
  Effect.gen(function*() {
    const sql = yield* world.serverSql
    const rows = yield* Effect.orDie(
      sql.unsafe<{ readonly key: string; readonly version: number; readonly body: unknown }>(
        "SELECT key, version, payload ->> '$.body' AS body FROM server_row WHERE payload IS NOT NULL ORDER BY key"
      )
    )
    return new Map(rows.map(({ body, key, version }) => [key, { version, body }]))
  })

/** One bundle of another writer with what the changes come to. */
const remote = (world: World, wanted: ReadonlyArray<Change>) =>
  Effect.gen(function*() {
    const known = yield* serverState(world)
    const rows = [...new Map(wanted)].flatMap(([key, body]): ReadonlyArray<ServerRow> => {
      const there = known.get(`k${key}`)
      if (body === undefined ? there === undefined : there?.body === `b${body}`) return []
      return [{ table: "notes", key: `k${key}`, payload: body === undefined ? null : { body: `b${body}` } }]
    })
    if (rows.length > 0) yield* world.write(rows)
  })

const local = (device: Pick<Device, "run">, wanted: ReadonlyArray<Change>) =>
  Effect.forEach(wanted, ([key, body]) =>
    body === undefined
      ? device.run("DELETE FROM notes WHERE id = ?", [`k${key}`])
      : device.run(
        "INSERT INTO notes VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        [`k${key}`, `b${body}`]
      ), { discard: true })

interface Applied {
  readonly keepsOutbox: boolean
  readonly wentBack: boolean
  readonly committedSeq: number
  readonly rebaseToZero: boolean
}

/** pull.md §6.3 and §6.4, key by key. */
const model = (
  was: Snapshot,
  snapshot: ReadonlyMap<string, { readonly version: number; readonly body: unknown }>,
  applied: Applied
): Snapshot & { readonly summary: Record<string, number> } => {
  const { committedSeq, keepsOutbox, wentBack } = applied
  const isFrozen = (key: string) => was.frozen.some((row) => row.key === key)
  const corrected = (key: string, base: number) =>
    applied.rebaseToZero ? 0 : wentBack ? Math.min(base, snapshot.get(key)?.version ?? 0) : base
  const pending: Array<{ readonly key: string; readonly base: number; readonly lost: boolean }> = was.dirty.map((
    row
  ) => ({
    key: row.key,
    base: committedSeq > 0 && isFrozen(row.key) ? committedSeq : row.base,
    lost: false
  }))
  const known = new Map(was.state)
  if (committedSeq > 0) {
    for (const { deletes, key } of was.frozen) known.set(key, { version: committedSeq, deleted: deletes })
  }
  const isPending = (key: string) => pending.some((row) => row.key === key)
  if (wentBack) {
    const lost = [...known].filter(([key, { deleted, version }]) => {
      if (isPending(key) || (keepsOutbox && isFrozen(key))) return false
      const theirs = snapshot.get(key)
      if (deleted) return theirs !== undefined && theirs.version < version
      return was.live.has(key) && (theirs === undefined || theirs.version < version)
    })
    lost.sort(([left, { version: a }], [right, { version: b }]) => a - b || (left < right ? -1 : 1))
    for (const [key] of lost) pending.push({ key, base: snapshot.get(key)?.version ?? 0, lost: true })
  }
  const isIdentical = (key: string) =>
    was.live.has(key) ? snapshot.has(key) && snapshot.get(key)?.body === was.live.get(key) : !snapshot.has(key)
  const frozenOnly = keepsOutbox ? was.frozen.filter(({ key }) => !isPending(key)) : []
  const everything = [...pending, ...frozenOnly.map(({ base, key }) => ({ key, base, lost: false }))]
  const kept = everything.filter(({ key }) => !isIdentical(key))
  const live = new Map([...snapshot].map(([key, { body }]) => [key, body]))
  for (const { key } of kept) {
    if (was.live.has(key)) live.set(key, was.live.get(key))
    else live.delete(key)
  }
  const opOf = (key: string) => !was.live.has(key) ? "DELETE" : snapshot.has(key) ? "UPDATE" : "INSERT"
  const dirty = kept.filter(({ key }) => !frozenOnly.some((row) => row.key === key))
    .map(({ base, key }) => ({ key, op: opOf(key), base: corrected(key, base) }))
  const frozen = keepsOutbox
    ? was.frozen.filter(({ key }) => !isIdentical(key)).flatMap((row) => {
      if (!wentBack) return [row]
      if (row.deletes && !snapshot.has(row.key)) return []
      const op = row.deletes ? "DELETE" : snapshot.has(row.key) ? "UPDATE" : "INSERT"
      return [{ ...row, op, base: corrected(row.key, row.base) }]
    })
    : []
  return {
    live: new Map([...live].sort(([left], [right]) => left < right ? -1 : 1)),
    state: new Map([...snapshot].map(([key, { version }]) => [key, { version, deleted: false }])),
    dirty,
    frozen,
    summary: {
      kept: kept.filter(({ lost }) => !lost).length,
      identical: everything.filter(({ key, lost }) => !lost && isIdentical(key)).length,
      discarded: 0,
      recovered: kept.filter(({ lost }) => lost).length
    }
  }
}

const scenarios = ["keep-source", "rotated", "replay-pruned", "remote replace"] as const

interface Phases {
  /** In the backup. */
  readonly shared: ReadonlyArray<Change>
  readonly synced: ReadonlyArray<Change>
  readonly pulled: ReadonlyArray<Change>
  readonly frozen: ReadonlyArray<Change>
  readonly dirty: ReadonlyArray<Change>
  readonly remote: ReadonlyArray<Change>
}

const phases = FastCheck.record({
  shared: changes,
  synced: changes,
  pulled: changes,
  frozen: changes,
  dirty: changes,
  remote: changes
})

const check = (scenario: typeof scenarios[number], wentBack: boolean) => (given: Phases) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared })
    const options = { ddl, tables }
    const writer = yield* world.attached(options)
    yield* remote(world, given.shared)
    const a = scenario === "remote replace" ? yield* world.device(options) : yield* world.attached(options)
    yield* a.sync.open
    let backup = ""
    if (scenario !== "remote replace") {
      yield* a.sync.attach("ann")
      yield* a.sync.pullToStable
      backup = yield* world.backup
      yield* local(a, given.synced)
      yield* a.sync.sync
      yield* remote(world, given.pulled)
      yield* a.sync.sync
    }
    const restored = wentBack ? world.restore(backup, { renewHistory: true }) : Effect.void
    const elsewhere = Effect.zipRight(restored, remote(world, given.remote))

    let was = yield* observe(a)
    let snapshot = yield* serverState(world)
    let committedSeq = 0
    const look = Effect.gen(function*() {
      was = yield* observe(a)
      const [header] = yield* a.run("SELECT remote_bundle_seq AS seq FROM _sync_outbox_bundle")
      committedSeq = Number(header?.["seq"])
      snapshot = yield* serverState(world)
    })
    yield* world.network.fault("snapshot create", before(look), 9)

    let summary: unknown
    let frozeAnything = true
    switch (scenario) {
      case "keep-source": {
        yield* local(a, given.frozen)
        yield* local(a, given.dirty)
        yield* elsewhere
        summary = (yield* a.sync.rebuild).localRows
        break
      }
      case "rotated": {
        yield* local(a, given.frozen)
        const code = wentBack ? "source_sequence_out_of_order" : "history_pruned"
        yield* world.network.fault("push create", refused(409, code))
        frozeAnything = (yield* Effect.either(a.sync.pushPending))._tag === "Left"
        if (!frozeAnything) break
        yield* local(a, given.dirty)
        yield* elsewhere
        yield* checkInvariants(a, { historyWentBack: true })
        summary = (yield* a.sync.rebuild).localRows
        break
      }
      case "replay-pruned": {
        yield* local(a, given.frozen)
        yield* world.network.fault("push commit", after(Effect.zipRight(local(a, given.dirty), elsewhere)))
        yield* world.network.fault("committed rows", refused(409, "history_pruned"), 9)
        const report = yield* a.sync.pushPending
        frozeAnything = report.outcome === "committed"
        break
      }
      case "remote replace": {
        yield* local(a, given.frozen)
        yield* local(a, given.dirty)
        yield* elsewhere
        const attached = yield* a.sync.attach("ann")
        summary = attached.status === "connected" && attached.outcome === "used_remote_state"
          ? attached.localRows
          : assert.fail(JSON.stringify(attached))
        break
      }
    }
    if (!frozeAnything) return
    const { summary: expected, ...state } = model(was, snapshot, {
      keepsOutbox: scenario === "rotated",
      wentBack,
      committedSeq,
      rebaseToZero: scenario === "remote replace"
    })
    assert.deepStrictEqual(yield* observe(a), state)
    if (summary !== undefined) assert.deepStrictEqual(summary, expected)
    yield* checkInvariants(a, { historyWentBack: true })
    // What is pending gets to the server in the end, and everybody agrees.
    yield* world.network.heal
    yield* followGuidance(a)
    assert.strictEqual((yield* a.sync.pendingSyncStatus).pendingRowCount, 0)
    const rows = yield* serverState(world)
    assert.deepStrictEqual(
      (yield* observe(a)).live,
      new Map([...rows].map(([key, { body }]) => [key, body]))
    )
    yield* writer.sync.close
  })

describe("pending work survives a snapshot, key by key [pull.md §6.3, §6.4; recovery.md §4, §5.3]", () => {
  for (const [index, scenario] of scenarios.entries()) {
    for (const wentBack of scenario === "remote replace" ? [false] : [false, true]) {
      it.scoped.prop(
        `${scenario}${wentBack ? ", by a server that has gone back" : ""}`,
        [phases],
        ([given]) => check(scenario, wentBack)(given),
        { fastCheck: { seed: 977 + index, numRuns: 12 }, timeout: 120_000 }
      )
    }
  }
})
