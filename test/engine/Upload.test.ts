/** Create, chunks, commit and committed rows: what is sent, and what the answers must say (push.md §4, §5, §7). */
import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as SyncConfig from "../../src/engine/SyncConfig.js"
import { BundleLimits } from "../../src/protocol/Wire.js"
import { dump, header, outboxState } from "./support/Database.js"
import type { Device } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import type { Fault, Route } from "./support/Network.js"
import { answered, answerLost, changed, lost, refused } from "./support/Network.js"
import { powerOnAttached } from "./support/Power.js"
import type { World } from "./support/World.js"
import { makeWorld, temporaryFolder } from "./support/World.js"

const decodeLimits = Schema.decodeUnknownSync(BundleLimits)

const offline = { retryPolicy: { enabled: false } }

const insertUsers = (device: Device, count: number, from = 1) =>
  device.run(
    `WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${from + count - 1})
     INSERT INTO users SELECT printf('u%02d', i), 'User', NULL, i FROM n`
  )

/** The requests since the given number, with what tells them apart. */
const sent = (world: World, from = 0) =>
  world.network.requests.slice(from).filter(({ route }) => route !== "capabilities" && route !== "connect").map(
    ({ body, route, url }) => {
      const parsed = body === "" ? {} : JSON.parse(body)
      switch (route) {
        case "push create":
          return `create ${parsed.source_bundle_id} of ${parsed.planned_row_count}`
        case "push chunk":
          return `chunk ${parsed.start_row_ordinal}+${parsed.rows.length}`
        case "committed rows":
          return `rows ${url.pathname.split("/").at(-2)}${url.search}`
        default:
          return body === "" ? route : `${route} ${body}`
      }
    }
  )

describe("an upload", () => {
  it.scoped("goes up in chunks of the upload limit and comes back in pages of the committed rows limit [push.md §5, §7]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached({ uploadLimit: 3, committedRowsLimit: 2 })
      yield* insertUsers(device, 7)
      const report = yield* device.sync.pushPending
      assert.deepInclude(report, {
        outcome: "committed",
        requeuedRowCount: 0,
        conflictCount: 0,
        discardedByServerCount: 0
      })
      assert.deepStrictEqual(sent(world), [
        "create 1 of 7",
        "chunk 0+3",
        "chunk 3+3",
        "chunk 6+1",
        "push commit",
        "rows 1?max_rows=2",
        "rows 1?after_row_ordinal=1&max_rows=2",
        "rows 1?after_row_ordinal=3&max_rows=2",
        "rows 1?after_row_ordinal=5&max_rows=2"
      ])
      assert.deepStrictEqual(yield* device.sync.pushTransfer, {
        sessionsCreated: 1,
        chunksUploaded: 3,
        committedBundleChunksRead: 4
      })
      const { currentSourceId } = yield* device.sync.sourceInfo
      for (const { route, source } of world.network.requests) {
        assert.strictEqual(source, currentSourceId, route)
      }
      assert.strictEqual((yield* world.serverRows).size, 7)
      assert.strictEqual(yield* device.sync.lastBundleSeqSeen, 1)
      yield* checkInvariants(device)
    }))

  it.scoped("takes one number after the other, and nothing more when nothing is pending [push.md §2]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached()
      for (const round of [1, 2, 3]) {
        yield* insertUsers(device, 2, round * 10)
        yield* device.sync.pushPending
      }
      assert.deepStrictEqual(sent(world).filter((one) => one.startsWith("create")), [
        "create 1 of 2",
        "create 2 of 2",
        "create 3 of 2"
      ])
      const from = world.network.requests.length
      assert.strictEqual((yield* device.sync.pushPending).outcome, "no_change")
      assert.deepStrictEqual(sent(world, from), [])
    }))

  it.scoped("carries the initialization id while one is pending, and forgets it with the commit [push.md §4, §5]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.device()
      yield* insertUsers(device, 1)
      yield* device.sync.open
      yield* device.sync.attach("ann")
      assert.isTrue((yield* device.sync.inspect).attachment.initializationPending)
      yield* device.sync.pushPending
      const create = world.network.requests.find(({ route }) => route === "push create")
      assert.match(create?.body ?? "", /"initialization_id":"[^"]+"/)
      assert.isFalse((yield* device.sync.inspect).attachment.initializationPending)
      yield* insertUsers(device, 1, 2)
      yield* device.sync.pushPending
      assert.notInclude(world.network.requests.findLast(({ route }) => route === "push create")?.body, "initialization")
    }))

  const none = { uploadLimit: 0, committedRowsLimit: -1 }
  const sizes: ReadonlyArray<
    readonly [what: string, options: typeof none, advertised: number | undefined, upload: number, pages: number]
  > = [
    ["defaults", none, undefined, 1000, 1000],
    ["defaults under an advertised limit", none, 200, 200, 200],
    ["an advertised limit of 0, which is none", none, 0, 1000, 1000],
    ["smaller than advertised", { uploadLimit: 10, committedRowsLimit: 20 }, 200, 10, 20],
    ["larger than advertised", { uploadLimit: 4000, committedRowsLimit: 3000 }, 200, 200, 200],
    ["larger than the protocol allows", { uploadLimit: 9000, committedRowsLimit: 9000 }, undefined, 5000, 5000]
  ]
  for (const [what, options, advertised, upload, pages] of sizes) {
    it(`is cut by the smaller of configuration and server: ${what} [push.md §5, client-state.md §3.1]`, () => {
      const limits = advertised === undefined ? undefined : {
        ...decodeLimits({}),
        max_rows_per_push_chunk: advertised,
        max_rows_per_committed_bundle_chunk: advertised
      }
      const config = SyncConfig.make({ schema: "s", tables: [], baseUrl: "", ...options })
      const actual = SyncConfig.pageSizes(config, limits)
      assert.deepInclude(actual, { uploadRows: upload, committedRows: pages })
    })
  }

  it.scoped("keeps to a small server, also when this session has not asked it for its limits [client-state.md §3.1]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ server: { maxRowsPerPushChunk: 2, maxRowsPerCommittedBundleChunk: 3 } })
      const device = yield* world.attached()
      yield* insertUsers(device, 5)
      yield* device.sync.pushPending
      assert.deepStrictEqual(sent(world), [
        "create 1 of 5",
        "chunk 0+2",
        "chunk 2+2",
        "chunk 4+1",
        "push commit",
        "rows 1?max_rows=3",
        "rows 1?after_row_ordinal=2&max_rows=3"
      ])
      const resumed = yield* world.restarted(device)
      yield* insertUsers(resumed, 3, 20)
      assert.strictEqual((yield* resumed.sync.pushPending).outcome, "committed")
      yield* checkInvariants(resumed)
    }))
})

interface Violation {
  readonly route: Route
  readonly fault: Fault
  readonly rule: string
}

const answers = (body: unknown): Fault => answered(200, body)

/** A staging answer with something changed; the server does not hear of the request. */
const staging = (change: object): Fault => answers({ push_id: "p", status: "staging", planned_row_count: 2, ...change })

const already = (change: object): Fault => (exchange, ask) =>
  answers({
    status: "already_committed",
    bundle_seq: 2,
    source_id: exchange.source,
    source_bundle_id: 2,
    row_count: 2,
    bundle_hash: "h",
    ...change
  })(exchange, ask)

const commit = (change: object): Fault => (exchange, ask) =>
  answers({
    bundle_seq: 2,
    source_id: exchange.source,
    source_bundle_id: 2,
    row_count: 2,
    bundle_hash: "h",
    ...change
  })(exchange, ask)

/** Answers that break a rule before anything is committed. */
const beforeCommit: ReadonlyArray<Violation> = [
  { route: "push create", fault: answers("<html>"), rule: "invalid_json" },
  { route: "push create", fault: answers([]), rule: "field_invalid" },
  { route: "push create", fault: staging({ push_id: " " }), rule: "field_invalid" },
  { route: "push create", fault: staging({ push_id: 5 }), rule: "field_invalid" },
  { route: "push create", fault: staging({ planned_row_count: 3 }), rule: "echo_mismatch" },
  { route: "push create", fault: staging({ next_expected_row_ordinal: 1 }), rule: "ordinal_mismatch" },
  { route: "push create", fault: staging({ status: "queued" }), rule: "status_unknown" },
  { route: "push create", fault: already({ source_bundle_id: 1 }), rule: "echo_mismatch" },
  { route: "push create", fault: already({ source_id: "other" }), rule: "echo_mismatch" },
  { route: "push create", fault: already({ bundle_seq: 0 }), rule: "field_invalid" },
  { route: "push create", fault: already({ row_count: 0 }), rule: "field_invalid" },
  { route: "push create", fault: already({ bundle_hash: "" }), rule: "field_invalid" },
  { route: "push chunk", fault: answers("{"), rule: "invalid_json" },
  {
    route: "push chunk",
    fault: answers({ push_id: "other", next_expected_row_ordinal: 2 }),
    rule: "echo_mismatch"
  },
  {
    route: "push chunk",
    fault: changed((body) => ({ ...body, next_expected_row_ordinal: 1 })),
    rule: "ordinal_mismatch"
  },
  { route: "push chunk", fault: changed(({ push_id }) => ({ push_id })), rule: "ordinal_mismatch" },
  { route: "push commit", fault: answers(""), rule: "invalid_json" },
  { route: "push commit", fault: commit({ bundle_seq: -1 }), rule: "field_invalid" },
  { route: "push commit", fault: commit({ source_id: "other" }), rule: "echo_mismatch" },
  { route: "push commit", fault: commit({ source_bundle_id: 3 }), rule: "echo_mismatch" },
  { route: "push commit", fault: commit({ row_count: 0 }), rule: "field_invalid" },
  { route: "push commit", fault: commit({ bundle_hash: " " }), rule: "field_invalid" }
]

type Members = Record<string, unknown>

const rowsOf = (body: Members): Array<Members> => Array.isArray(body["rows"]) ? body["rows"] : []

const row = (change: object): Fault =>
  changed((body) => ({
    ...body,
    rows: rowsOf(body).map((one, position) => position === 1 ? { ...one, ...change } : one)
  }))

/** Pages of committed rows that break a rule; the bundle has the two rows u01 and u02. */
const pages: ReadonlyArray<Violation> = [
  { route: "committed rows", fault: answers("}"), rule: "invalid_json" },
  { route: "committed rows", fault: changed((body) => ({ ...body, bundle_seq: 9 })), rule: "echo_mismatch" },
  { route: "committed rows", fault: changed((body) => ({ ...body, source_id: "other" })), rule: "echo_mismatch" },
  { route: "committed rows", fault: changed((body) => ({ ...body, source_bundle_id: 9 })), rule: "echo_mismatch" },
  { route: "committed rows", fault: changed((body) => ({ ...body, row_count: 3 })), rule: "echo_mismatch" },
  { route: "committed rows", fault: changed((body) => ({ ...body, bundle_hash: "other" })), rule: "echo_mismatch" },
  { route: "committed rows", fault: changed((body) => ({ ...body, next_row_ordinal: 0 })), rule: "ordinal_mismatch" },
  {
    route: "committed rows",
    fault: changed((body) => ({ ...body, rows: [], next_row_ordinal: -1, has_more: true })),
    rule: "no_progress"
  },
  {
    route: "committed rows",
    fault: changed((body) => ({ ...body, rows: rowsOf(body).slice(0, 1), next_row_ordinal: 0 })),
    rule: "count_mismatch"
  },
  {
    route: "committed rows",
    fault: changed((body) => ({ ...body, rows: [...rowsOf(body), ...rowsOf(body)], next_row_ordinal: 3 })),
    rule: "count_mismatch"
  },
  { route: "committed rows", fault: row({ schema: "" }), rule: "row_invalid" },
  { route: "committed rows", fault: row({ table: " " }), rule: "row_invalid" },
  { route: "committed rows", fault: row({ key: {} }), rule: "row_invalid" },
  { route: "committed rows", fault: row({ key: { id: 5 } }), rule: "row_invalid" },
  { route: "committed rows", fault: row({ row_version: 0 }), rule: "row_invalid" },
  { route: "committed rows", fault: row({ op: "UPSERT" }), rule: "row_invalid" },
  { route: "committed rows", fault: row({ payload: null }), rule: "row_invalid" },
  { route: "committed rows", fault: row({ key: { id: "u01" } }), rule: "row_invalid" },
  { route: "committed rows", fault: row({ payload: { _sync_scope_id: 1 } }), rule: "hidden_column" },
  { route: "committed rows", fault: row({ payload: { id: "u02", name: "Mallory" } }), rule: "hash_mismatch" },
  {
    route: "committed rows",
    fault: changed((body) => ({ ...body, rows: rowsOf(body).reverse() })),
    rule: "hash_mismatch"
  }
]

const requestOf: Partial<Record<Route, string>> = {
  "push create": "push_session_create",
  "push chunk": "push_chunk_upload",
  "push commit": "push_session_commit",
  "committed rows": "committed_bundle_chunk_fetch"
}

const wrong = (world: World, device: Device, { fault, route, rule }: Violation, line: number) =>
  Effect.gen(function*() {
    yield* world.network.fault(route, fault)
    const error = yield* Effect.flip(device.sync.pushPending)
    assert.strictEqual(error._tag, "ProtocolError", `line ${line}`)
    if (error._tag !== "ProtocolError") return
    assert.deepStrictEqual([error.request, error.rule], [requestOf[route], rule], `line ${line}`)
    assert.deepInclude(error, { operation: "pushPending", retryable: false, action: "report" })
  })

describe("an answer that breaks a rule", () => {
  it.scoped("of create, chunk or commit is an error and changes nothing; the outbox stays [push.md §4, §5]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* insertUsers(device, 1, 50)
      yield* device.sync.pushPending
      yield* insertUsers(device, 2)
      yield* world.network.fault("push create", lost)
      yield* Effect.flip(device.sync.pushPending)
      const before = yield* dump(device)
      for (const [line, violation] of beforeCommit.entries()) {
        yield* wrong(world, device, violation, line)
        assert.deepStrictEqual(yield* dump(device), before, `line ${line}`)
      }
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      yield* checkInvariants(device)
    }))

  it.scoped("of committed rows is an error, no table changes, and the push goes on from there [push.md §7]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* insertUsers(device, 2)
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(device.sync.pushPending)
      const before = yield* dump(device, ["_sync_push_stage"])
      for (const [line, violation] of pages.entries()) {
        yield* wrong(world, device, violation, line)
        assert.deepStrictEqual(yield* dump(device, ["_sync_push_stage"]), before, `line ${line}`)
      }
      assert.strictEqual(yield* outboxState(device), "committed_remote")
      yield* world.network.asked
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "committed rows"])
      yield* checkInvariants(device)
    }))

  it.scoped("of a row that is none of this database's is named [push.md §7]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      yield* insertUsers(device, 2)
      yield* world.network.fault("committed rows", lost)
      yield* Effect.flip(device.sync.pushPending)
      const before = yield* dump(device, ["_sync_push_stage"])
      const strangers = [
        [row({ schema: "other" }), "schema_mismatch"],
        [row({ table: "nowhere" }), "unknown_table"],
        [row({ table: "files" }), "payload_bad_wire_encoding"]
      ] as const
      for (const [fault, code] of strangers) {
        yield* world.network.fault("committed rows", fault)
        const error = yield* Effect.flip(device.sync.pushPending)
        assert.deepInclude({ ...error }, { _tag: "LocalDataError", code })
        assert.deepStrictEqual(yield* dump(device, ["_sync_push_stage"]), before)
      }
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
    }))
})

interface Discard {
  readonly route: Route
  readonly fault: Fault
  readonly discards: boolean
}

/** push.md §5: whether the session is given up on the server when an attempt ends with this. */
const discards: ReadonlyArray<Discard> = [
  { route: "push create", fault: lost, discards: false },
  { route: "push create", fault: refused(403, "push_session_forbidden"), discards: false },
  { route: "push chunk", fault: lost, discards: true },
  { route: "push chunk", fault: answerLost, discards: true },
  { route: "push chunk", fault: refused(403, "push_session_forbidden"), discards: true },
  { route: "push chunk", fault: answered(200, "garbage"), discards: true },
  { route: "push commit", fault: lost, discards: true },
  { route: "push commit", fault: refused(500, "internal"), discards: true },
  { route: "push commit", fault: answerLost, discards: true },
  { route: "push commit", fault: answered(200, "garbage"), discards: false },
  { route: "push commit", fault: changed((body) => ({ ...body, source_bundle_id: 99 })), discards: false },
  { route: "committed rows", fault: lost, discards: false },
  { route: "committed rows", fault: answered(200, "garbage"), discards: false }
]

describe("a push session", () => {
  it.scoped("is deleted if it ends before the commit is answered, and only then [push.md §5]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.attached(offline)
      for (const [line, { discards: expected, fault, route }] of discards.entries()) {
        yield* insertUsers(device, 1, line + 1)
        yield* world.network.asked
        yield* world.network.fault(route, fault)
        yield* Effect.flip(device.sync.pushPending)
        assert.strictEqual((yield* world.network.asked).includes("push delete"), expected, `line ${line}: ${route}`)
        assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
        assert.notInclude(yield* world.network.asked, "push delete")
        assert.strictEqual((yield* header(device)).state, "none")
        assert.strictEqual((yield* world.serverRows).size, line + 1)
        yield* checkInvariants(device)
      }
    }))

  it.scoped("is left alone if the commit is answered and only the database fails [push.md §5]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const folder = yield* temporaryFolder
      const device = yield* powerOnAttached(world.network, `${folder}/device.db`, offline)
      yield* insertUsers(device, 1)
      yield* world.network.asked
      const full = new SqlError.SqlError({ cause: { code: "SQLITE_FULL" }, message: "full" })
      yield* device.power.failAt((text) => /UPDATE _sync_outbox_bundle/.test(text) && committing(world), full)
      const error = yield* Effect.flip(device.sync.pushPending)
      assert.deepInclude(error, { _tag: "StorageError", code: "full", retryable: true, action: "free_space" })
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "push chunk", "push commit"])
      assert.strictEqual(yield* outboxState(device), "prepared")
      assert.strictEqual((yield* device.sync.pushPending).outcome, "committed")
      assert.deepStrictEqual(yield* world.network.asked, ["push create", "committed rows"])
      yield* checkInvariants(device)
      yield* device.off
    }))
})

const committing = (world: World) => world.network.requests.at(-1)?.route === "push commit"
