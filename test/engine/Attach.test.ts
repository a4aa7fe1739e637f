import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { dump } from "./support/Database.js"
import { serverTables, tables } from "./support/Devices.js"
import { checkInvariants } from "./support/Invariants.js"
import { answered, changed, lost, refused } from "./support/Network.js"
import type { Fault, Route } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { clean, once, withLocalRows } from "./support/States.js"
import { whileTimePasses } from "./support/Time.js"
import { makeWorld } from "./support/World.js"

const capabilities = (change: (body: Record<string, unknown>) => Record<string, unknown>): Fault => changed(change)

const withLimits = (body: Record<string, unknown>, more: Record<string, unknown>) => ({
  ...body,
  bundle_limits: { ...Object(body["bundle_limits"]), ...more }
})

const unsupported = (reason: string) => ({ _tag: "AttachLifecycleUnsupported", reason, action: "upgrade_server" })
const transport = (request: string, code: string, more: Readonly<Record<string, unknown>> = {}) => ({
  _tag: "TransportError",
  request,
  code,
  ...more
})
const protocol = (request: string, rule: string) => ({ _tag: "ProtocolError", request, rule, action: "report" })

const cap = "connect_capabilities"
const con = "connect_request"
const create = "snapshot_session_create"

// lifecycle.md §4.2, and the snapshot of §5.4 steps 1 and 3
const failures: ReadonlyArray<
  readonly [route: Route, what: string, fault: Fault, expected: Readonly<Record<string, unknown>>]
> = [
  ["capabilities", "no connection", lost, transport(cap, "connection", { retryable: true })],
  ["capabilities", "404", refused(404, "not_found"), unsupported("capabilities_endpoint_missing")],
  ["capabilities", "405", answered(405, ""), unsupported("capabilities_endpoint_missing")],
  ["capabilities", "501", answered(501, "<html>"), unsupported("capabilities_endpoint_missing")],
  ["capabilities", "401", answered(401, "no"), transport(cap, "status", { status: 401, action: "reauthenticate" })],
  ["capabilities", "403", answered(403, "no"), transport(cap, "status", { status: 403, action: "reauthenticate" })],
  ["capabilities", "500", refused(500, "oops"), transport(cap, "status", { status: 500, serverCode: "oops" })],
  ["capabilities", "503", refused(503, "busy"), transport(cap, "status", { status: 503, retryable: true })],
  ["capabilities", "no JSON", answered(200, "<html>hello</html>"), unsupported("capabilities_invalid")],
  ["capabilities", "an array", answered(200, "[]"), unsupported("capabilities_invalid")],
  [
    "capabilities",
    "features that are none",
    capabilities((body) => ({ ...body, features: 7 })),
    unsupported("capabilities_invalid")
  ],
  [
    "capabilities",
    "no connect lifecycle",
    capabilities((body) => ({ ...body, features: {} })),
    unsupported("connect_lifecycle_absent")
  ],
  [
    "capabilities",
    "connect lifecycle false",
    capabilities((body) => ({ ...body, features: { connect_lifecycle: false } })),
    unsupported("connect_lifecycle_absent")
  ],
  [
    "capabilities",
    "another protocol version",
    capabilities((body) => ({ ...body, protocol_version: "v2" })),
    { ...unsupported("protocol_version_unsupported"), serverVersion: "v2" }
  ],
  [
    "capabilities",
    "the later dialect",
    capabilities((body) => withLimits(body, { default_bytes_per_snapshot_chunk: 1024 })),
    { ...unsupported("protocol_version_unsupported"), serverVersion: "v1" }
  ],
  ["connect", "no connection", lost, transport(con, "connection", { retryable: true })],
  ["connect", "404", refused(404, "not_found"), unsupported("connect_endpoint_missing")],
  ["connect", "405", answered(405, ""), unsupported("connect_endpoint_missing")],
  ["connect", "501", answered(501, ""), unsupported("connect_endpoint_missing")],
  ["connect", "400", refused(400, "invalid_request"), transport(con, "status", { status: 400, action: "report" })],
  ["connect", "500", refused(500, "connect_failed"), transport(con, "status", { status: 500 })],
  ["connect", "no JSON", answered(200, "{"), protocol(con, "invalid_json")],
  [
    "connect",
    "a resolution of the future",
    answered(200, { resolution: "merge" }),
    protocol(con, "resolution_unknown")
  ],
  ["connect", "no resolution", answered(200, {}), protocol(con, "resolution_unknown")],
  ["connect", "a lease without id", answered(200, { resolution: "initialize_local" }), protocol(con, "field_invalid")],
  ["connect", "a pause without length", answered(200, { resolution: "retry_later" }), protocol(con, "field_invalid")],
  ["snapshot create", "no connection", lost, transport(create, "connection")],
  ["snapshot create", "500", refused(500, "snapshot_failed"), transport(create, "status", { status: 500 })],
  ["snapshot create", "409", refused(409, "scope_uninitialized"), transport(create, "status", { status: 409 })],
  ["snapshot create", "no id", changed((body) => ({ ...body, snapshot_id: "" })), protocol(create, "field_invalid")]
]

describe("failures of the requests: typed, and the database is as before [lifecycle.md §4.2]", () => {
  for (const [route, what, fault, expected] of failures) {
    it.scoped(`${route}, ${what} → ${expected["_tag"]}(${expected["reason"] ?? expected["rule"] ?? expected["code"]})`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        yield* clean(world)
        const device = yield* withLocalRows(world)
        const before = yield* dump(device)
        // A 401 is asked about once more, with a fresh token.
        yield* world.network.fault(route, fault, expected["status"] === 401 ? 2 : 1)
        yield* failsWith(device.sync.attach("ann"), { operation: "attach", ...expected })
        assert.deepStrictEqual(yield* dump(device), before)
        assert.strictEqual((yield* device.sync.inspect).instance, "opened")
        yield* checkInvariants(device)
        const attached = yield* device.sync.attach("ann")
        assert.deepInclude(attached, {
          outcome: "used_remote_state",
          localRows: { kept: 2, identical: 0, discarded: 0, recovered: 0 }
        })
      }))
  }

  const downloads: ReadonlyArray<readonly [string, Fault, Readonly<Record<string, unknown>>]> = [
    ["no connection", lost, transport("snapshot_chunk_fetch", "connection")],
    [
      "a session that has expired",
      refused(410, "snapshot_session_expired"),
      transport("snapshot_chunk_fetch", "status")
    ],
    [
      "a row of a table that is not configured",
      changed((body) => JSON.parse(JSON.stringify(body).replaceAll("\"table\":\"users\"", "\"table\":\"others\""))),
      { _tag: "LocalDataError", code: "unknown_table" }
    ],
    [
      "fewer rows than announced",
      changed((body) => ({ ...body, rows: Array.from(Object(body["rows"])).slice(1), next_row_ordinal: 1 })),
      protocol("snapshot_chunk_fetch", "count_mismatch")
    ],
    [
      "columns that this table does not have",
      changed((body) => JSON.parse(JSON.stringify(body).replaceAll("\"score\"", "\"points\""))),
      { _tag: "LocalDataError", code: "payload_column_mismatch" }
    ]
  ]
  for (const [what, fault, expected] of downloads) {
    it.scoped(`the snapshot, ${what} → ${expected["_tag"]}: nothing but the stage has changed, and the next attach succeeds`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        yield* clean(world)
        const device = yield* withLocalRows(world)
        const before = yield* dump(device, ["_sync_snapshot_stage"])
        yield* world.network.fault("snapshot chunk", fault)
        yield* failsWith(device.sync.attach("ann"), { operation: "attach", ...expected })
        assert.deepStrictEqual(yield* dump(device, ["_sync_snapshot_stage"]), before)
        yield* checkInvariants(device)
        const attached = yield* device.sync.attach("ann")
        assert.deepInclude(attached, { outcome: "used_remote_state" })
        yield* checkInvariants(device)
      }))
  }

  it.scoped("transient failures are repeated, and RetryExhausted names the request and its last cause", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* withLocalRows(world, {})
      const before = yield* dump(device)
      yield* world.network.fault("connect", refused(503, "busy"), 3)
      const error = yield* whileTimePasses(failsWith(device.sync.attach("ann"), {
        _tag: "RetryExhausted",
        request: "connect_request",
        attempts: 3,
        operation: "attach"
      }))
      assert.deepInclude(Object(error).cause, { _tag: "TransportError", status: 503 })
      assert.deepStrictEqual(yield* dump(device), before)
      yield* world.network.fault("connect", lost, 2)
      const attached = yield* whileTimePasses(device.sync.attach("ann"))
      assert.deepInclude(attached, { outcome: "seeded_from_local" })
    }))

  it.scoped("credentials of another user: nothing is sent, nothing is changed [lifecycle.md §4.5]", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* withLocalRows(world, { ...once, tokenOf: "bob" })
      const before = yield* dump(device)
      yield* failsWith(device.sync.attach("ann"), {
        _tag: "CredentialsMismatch",
        operation: "attach",
        attachedUserId: "ann",
        credentialsUserId: "bob",
        action: "reauthenticate"
      })
      assert.deepStrictEqual(yield* world.network.asked, [])
      assert.deepStrictEqual(yield* dump(device), before)
    }))

  it.scoped("credentials of another user: every operation that uses the network sends nothing", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const first = yield* clean(world)
      const device = yield* world.replaced(first, { ...once, tokenOf: "bob" })
      yield* device.sync.open
      // Resuming needs no network, so it says nothing about the token.
      yield* device.sync.attach("ann")
      yield* device.run("INSERT INTO users VALUES ('u8', 'Late', NULL, 8)")
      yield* world.network.asked
      const mismatch = { _tag: "CredentialsMismatch", attachedUserId: "ann", credentialsUserId: "bob" }
      yield* failsWith(device.sync.pullToStable, { _tag: "DirtyStateRejected" })
      yield* failsWith(device.sync.rebuild, mismatch)
      yield* failsWith(device.sync.pushPending, mismatch)
      yield* failsWith(device.sync.sync, mismatch)
      yield* failsWith(device.sync.syncThenDetach, { ...mismatch, operation: "syncThenDetach" })
      const before = yield* dump(device)
      yield* failsWith(device.sync.pushPending, { _tag: "CredentialsMismatch", attachedUserId: "ann" })
      assert.deepStrictEqual(yield* dump(device), before)
      assert.deepStrictEqual(yield* world.network.asked, [])
    }))
})

describe("the tables of server and client [lifecycle.md §4.2 D]", () => {
  const { posts, users } = {
    users: { schema: "business", table: "users", key: { column: "id", kind: "text" } },
    posts: { schema: "business", table: "posts", key: { column: "id", kind: "text" } }
  } as const
  const files = serverTables.find(({ table }) => table === "files")

  it.scoped("a configured table that the server does not have → TableContractMismatch", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({ declared: [users] })
      const device = yield* withLocalRows(world)
      const before = yield* dump(device)
      yield* failsWith(device.sync.attach("ann"), {
        _tag: "TableContractMismatch",
        operation: "attach",
        clientOnly: ["business.posts", "business.files"],
        keyMismatches: [],
        serverOnly: [],
        action: "fix_configuration"
      })
      assert.deepStrictEqual(yield* world.network.asked, ["capabilities"])
      assert.deepStrictEqual(yield* dump(device), before)
    }))

  it.scoped("another key column → TableContractMismatch", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      yield* world.network.fault(
        "capabilities",
        changed((body) => ({
          ...body,
          registered_table_specs: [
            { schema: "Business", table: "USERS", sync_key_columns: ["ID"] },
            { schema: "business", table: "posts", sync_key_columns: ["slug"] },
            { schema: "business", table: "files", sync_key_columns: ["id"] },
            { schema: "business", table: "more", sync_key_columns: ["id"] }
          ]
        }))
      )
      const device = yield* withLocalRows(world)
      yield* failsWith(device.sync.attach("ann"), {
        _tag: "TableContractMismatch",
        clientOnly: [],
        keyMismatches: [{ table: "posts", clientKey: "id", serverKey: "slug" }],
        serverOnly: ["business.more"]
      })
    }))

  for (
    const [what, fault] of [
      ["an empty list", changed((body) => ({ ...body, registered_table_specs: [] }))],
      ["no list", changed(({ registered_table_specs: _, ...body }) => body)],
      ["no protocol version", changed(({ protocol_version: _, ...body }) => body)]
    ] as const
  ) {
    it.scoped(`${what} says nothing and is not checked`, () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        yield* world.network.fault("capabilities", fault)
        const device = yield* withLocalRows(world)
        assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "seeded_from_local" })
      }))
  }

  it.scoped("tables that only the server has are no error", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld({
        declared: [users, posts, ...(files === undefined ? [] : [files]), { ...users, table: "more" }]
      })
      const device = yield* withLocalRows(world)
      assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "seeded_from_local" })
    }))

  it.scoped("a client without tables attaches to a server with some", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.device({ ...once, tables: [] })
      yield* device.sync.open
      assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "started_empty" })
      assert.strictEqual((yield* device.sync.sync).remoteOutcome, "already_at_target")
      assert.strictEqual(tables.length, 3)
    }))
})
