/** One scenario per error of the catalogue: how a caller meets it (errors.md §1). */
import { Effect, Fiber, TestClock } from "effect"
import { keepMerged, recreate } from "oversqlite"
import { memory } from "../../storage/support/database.js"
import { ddl } from "./Devices.js"
import { answered, before, changed, lost, refused, truncated } from "./Network.js"
import {
  again,
  anyTable,
  attach,
  attached,
  attachWith,
  building,
  bundle,
  capabilities,
  conflict,
  constructing,
  diverging,
  final,
  inNetwork,
  inState,
  more,
  onOtherSqlite,
  payload,
  protocol,
  pull,
  pulled,
  pullWith,
  push,
  pushWith,
  received,
  recovery,
  resolution,
  resolving,
  seedWith,
  smuggled,
  sqliteFailure,
  t,
  table,
  transient,
  twoPages,
  unsupported,
  untouched,
  uuid
} from "./Provoking.js"
import type { Scenario } from "./Provoking.js"
import { pullAnswer } from "./Scripted.js"
import { clean, once, states, withLocalRows } from "./States.js"

/** `Tag` or `Tag literal` → how it is met. */
export const scenarios: Readonly<Record<string, Scenario>> = {
  "ConfigurationError schema_missing": final("construct", "fix_configuration", constructing([], { schema: " " })),
  "ConfigurationError schema_invalid": final(
    "construct",
    "fix_configuration",
    constructing([], { schema: "Business" })
  ),
  "ConfigurationError schema_scope_mismatch": final("construct", "fix_configuration", again({}, { schema: "other" })),
  "ConfigurationError base_url_invalid": final(
    "construct",
    "fix_configuration",
    constructing([], { baseUrl: "no url" })
  ),
  "ConfigurationError pragma_failed": final(
    "construct",
    "fix_configuration",
    onOtherSqlite(/^PRAGMA main.journal_mode$/, "SELECT 'delete'")
  ),
  "ConfigurationError sqlite_unsupported": final(
    "construct",
    "fix_configuration",
    onOtherSqlite(/exact_reals/, "SELECT no_such_function(1)")
  ),
  "ConfigurationError table_name_missing": table(anyTable, { name: " ", key: "id" }),
  "ConfigurationError table_name_qualified": table(anyTable, { name: "main.t", key: "id" }),
  "ConfigurationError table_duplicate": final(
    "construct",
    "fix_configuration",
    constructing([anyTable], { tables: [t, { name: "T", key: "id" }] })
  ),
  "ConfigurationError key_missing": table(anyTable, { name: "t", key: "" }),
  "ConfigurationError key_not_single": table(anyTable, { name: "t", key: ["id", "x"] }),
  "ConfigurationError table_unreadable": table("CREATE VIEW t AS SELECT * FROM nowhere"),
  "ConfigurationError key_column_missing": table(anyTable, { name: "t", key: "uid" }),
  "ConfigurationError key_not_primary": table("CREATE TABLE t (id TEXT, x TEXT PRIMARY KEY)"),
  "ConfigurationError key_composite_primary": table("CREATE TABLE t (id TEXT, x TEXT, PRIMARY KEY (id, x))"),
  "ConfigurationError key_type_unsupported": table("CREATE TABLE t (id INTEGER PRIMARY KEY)"),
  "ConfigurationError key_changed": final(
    "construct",
    "fix_configuration",
    again({}, { tables: [{ name: "t", key: "code" }] }, [
      "DROP TABLE t",
      "CREATE TABLE t (code TEXT PRIMARY KEY NOT NULL, id TEXT)"
    ])
  ),
  "ConfigurationError column_generated": table("CREATE TABLE t (id TEXT PRIMARY KEY, x TEXT AS (id))"),
  "ConfigurationError column_reserved": table("CREATE TABLE t (id TEXT PRIMARY KEY, _sync_scope_id TEXT)"),
  "ConfigurationError identifier_invalid": table("CREATE TABLE t (id TEXT PRIMARY KEY, \"a b\" TEXT)"),
  "ConfigurationError foreign_key_composite": table(
    "CREATE TABLE t (id TEXT PRIMARY KEY, a, b, FOREIGN KEY (a, b) REFERENCES p (a, b))"
  ),
  "ConfigurationError foreign_key_not_closed": table("CREATE TABLE t (id TEXT PRIMARY KEY, p TEXT REFERENCES p (id))"),
  "ConfigurationError removed_table_pending": final("construct", "fix_configuration", again({}, { tables: [] })),
  "ConfigurationError trigger_failed": final(
    "construct",
    "fix_configuration",
    constructing([
      anyTable,
      "CREATE TABLE other (x)",
      "CREATE TRIGGER trg_t_au AFTER INSERT ON other BEGIN SELECT 1; END"
    ], { tables: [t] })
  ),

  "DatabaseAlreadyOwned": transient("construct", "new_client", ({ network }) =>
    Effect.gen(function*() {
      const sql = yield* memory
      yield* inNetwork(network, building(sql, {}))
      return yield* inNetwork(network, building(sql, {}))
    })),
  "DatabaseTakenOver": final(
    "pushPending",
    "open",
    inState(
      "dirty only",
      (device) =>
        Effect.zipRight(device.run("UPDATE _sync_engine_state SET engine_epoch = engine_epoch + 1"), push(device))
    )
  ),
  "ClientClosed": final(
    "pushPending",
    "new_client",
    inState("dirty only", (device) => Effect.zipRight(device.sync.close, push(device)))
  ),
  "InvalidArgumentError userId": final("attach", "fix_argument", inState("not opened", ({ sync }) => sync.attach(" "))),
  "InvalidArgumentError transaction": final(
    "pushPending",
    "fix_argument",
    inState("dirty only", (device) => device.sql.withTransaction(push(device)))
  ),
  "OpenRequired": final("pushPending", "open", inState("not opened", push)),
  "AttachRequired anonymous": final("pushPending", "attach", inState("opened, anonymous", push)),
  "AttachRequired not_connected": final("pushPending", "attach", inState("opened, attached, not connected", push)),
  "AttachRequired binding_changed": final(
    "pullToStable",
    "attach",
    inState(
      "connected, clean",
      (device) =>
        Effect.zipRight(device.run("UPDATE _sync_attachment_state SET attached_user_id = 'bob'"), pull(device))
    )
  ),
  "DestructiveTransitionInProgress": final("pushPending", "attach", inState("connected + remote replace", push)),
  "SyncOperationInProgress": transient(
    "pullToStable",
    "retry_later",
    attached((device, { network }) =>
      Effect.gen(function*() {
        yield* network.fault("pull", () => Effect.never)
        const running = yield* Effect.fork(pull(device))
        yield* Effect.yieldNow()
        yield* Effect.repeat(Effect.yieldNow(), { until: () => network.requests.at(-1)?.route === "pull" })
        return yield* Effect.ensuring(pull(device), Fiber.interrupt(running))
      }), { onBusy: "fail" })
  ),
  "AttachLifecycleUnsupported capabilities_endpoint_missing": unsupported("capabilities", refused(404, "not_found")),
  "AttachLifecycleUnsupported connect_endpoint_missing": unsupported("connect", refused(404, "not_found")),
  "AttachLifecycleUnsupported capabilities_invalid": unsupported("capabilities", answered(200, "<html>")),
  "AttachLifecycleUnsupported connect_lifecycle_absent": unsupported("capabilities", capabilities({ features: {} })),
  "AttachLifecycleUnsupported protocol_version_unsupported": unsupported(
    "capabilities",
    capabilities({ protocol_version: "v9" })
  ),
  "TableContractMismatch": final(
    "attach",
    "fix_configuration",
    attachWith(
      "capabilities",
      capabilities({
        registered_table_specs: [{ schema: "business", table: "elsewhere", sync_key_columns: ["id"] }]
      })
    )
  ),
  "AttachBindingConflict": final("attach", "detach", inState("connected, clean", ({ sync }) => sync.attach("bob"))),
  "AttachLocalStateConflict remote_replace_for_other_user": final(
    "attach",
    "detach",
    inState("opened, anonymous + remote replace", ({ sync }) => sync.attach("bob"))
  ),
  "AttachLocalStateConflict rows_of_other_user": final(
    "attach",
    "choose_local_rows",
    inState("scope lost", ({ sync }) => sync.attach("bob"))
  ),
  "AttachLocalStateConflict binding_changed": final("attach", "detach", (world) =>
    Effect.gen(function*() {
      const device = yield* withLocalRows(world)
      yield* world.network.fault(
        "connect",
        before(device.run("UPDATE _sync_attachment_state SET current_source_id = 'other'"))
      )
      return yield* attach(device)
    })),
  "LocalRowsPending": final("attach", "choose_local_rows", (world) =>
    Effect.gen(function*() {
      yield* clean(world)
      const device = yield* withLocalRows(world)
      return yield* device.sync.attach("ann", { localRows: "refuse" })
    })),
  "CredentialsMismatch": final("attach", "reauthenticate", (world) =>
    Effect.flatMap(
      world.device({ ...once, tokenOf: "bob" }),
      (device) => Effect.zipRight(device.sync.open, attach(device))
    )),

  "RebuildRequired": final("pushPending", "rebuild", inState("rebuild gate, nothing pending", push)),
  "SourceRecoveryRequired history_pruned": recovery("history_pruned"),
  "SourceRecoveryRequired source_sequence_out_of_order": recovery("source_sequence_out_of_order"),
  "SourceRecoveryRequired source_sequence_changed": recovery("source_sequence_changed", "push commit"),
  "SourceRecoveryRequired source_retired": recovery("source_retired"),
  "SourceReplacementDiverged retired_elsewhere": diverging((_device, { network }) =>
    network.fault("snapshot create", refused(409, "source_retired", { replaced_by_source_id: "elsewhere" }))
  ),
  "SourceReplacementDiverged refused": diverging((_device, { network }) =>
    network.fault("snapshot create", refused(409, "source_replacement_invalid"))
  ),
  "SourceReplacementDiverged used_up": diverging(({ run }) =>
    run(
      `UPDATE _sync_source_state SET next_source_bundle_id = 4
        WHERE source_id = (SELECT replacement_source_id FROM _sync_operation_state)`
    )
  ),
  "PendingPushReplay": final("pullToStable", "push", inState("outbox prepared", pull)),
  "DirtyStateRejected": final("pullToStable", "push", inState("dirty only", pull)),
  "InitializationLeaseLost initialization_expired": final(
    "pushPending",
    "attach",
    seedWith("push create", refused(409, "initialization_expired"))
  ),
  "InitializationLeaseLost initialization_stale": final(
    "pushPending",
    "attach",
    seedWith("push create", refused(409, "initialization_stale"))
  ),
  "InitializationLeaseLost superseded": final("pushPending", "attach", (world) =>
    Effect.gen(function*() {
      const device = yield* states["seed empty"].build(world)
      yield* world.network.fault("connect", answered(200, { resolution: "remote_authoritative" }))
      return yield* push(device)
    })),
  "ScopeLost scope_uninitialized": final(
    "pushPending",
    "attach",
    pushWith("push create", refused(409, "scope_uninitialized"))
  ),
  "ScopeLost scope_initializing": final(
    "pushPending",
    "attach",
    pushWith("push create", refused(409, "scope_initializing"))
  ),
  "UploadRefused": final("pushPending", "fix_data", pushWith("push chunk", refused(400, "push_chunk_invalid"))),
  "PushConflictError": transient(
    "pushPending",
    "report",
    pushWith("push commit", refused(409, "push_conflict", { conflict: conflict({ key: { id: "0011" } }) }))
  ),
  "InvalidConflictResolution resolver_failed": final(
    "pushPending",
    "fix_resolver",
    resolving(() => Effect.fail("no idea"))
  ),
  "InvalidConflictResolution no_decision": resolution(undefined),
  "InvalidConflictResolution not_allowed": resolution(recreate),
  "InvalidConflictResolution payload_not_object": resolution({ _tag: "KeepMerged", row: [] }),
  "InvalidConflictResolution payload_columns": resolution(keepMerged({ id: "u1" })),
  "InvalidConflictResolution payload_key": resolution(
    keepMerged({ id: "u9", name: "SECRET", email: null, score: 1 })
  ),
  "PushConflictRetryExhausted": transient(
    "pushPending",
    "retry_later",
    pushWith(
      "push commit",
      refused(409, "push_conflict", {
        conflict: conflict({
          op: "INSERT",
          base_row_version: 0,
          server_row_deleted: false,
          server_row: JSON.parse(payload)
        })
      }),
      { resolver: () => Effect.succeed({ _tag: "KeepLocal" }) }
    )
  ),

  "TransportError connection": transient("pullToStable", "retry_later", pullWith(lost)),
  "TransportError timeout": transient(
    "pullToStable",
    "retry_later",
    attached((device, { network }) =>
      Effect.gen(function*() {
        yield* network.fault("pull", () => Effect.never)
        const running = yield* Effect.fork(pull(device))
        yield* Effect.repeat(Effect.yieldNow(), { until: () => network.requests.at(-1)?.route === "pull" })
        yield* TestClock.adjust("2 seconds")
        return yield* Fiber.join(running)
      }), { requestTimeout: "1 second" })
  ),
  "TransportError body_interrupted": transient("pullToStable", "retry_later", pullWith(truncated)),
  "TransportError response_too_large": final(
    "attach",
    "report",
    attachWith("connect", answered(200, { padding: "x".repeat(100_000) }), { maxResponseBytes: 50_000 })
  ),
  "TransportError credentials": transient("attach", "reauthenticate", (world) =>
    Effect.flatMap(
      // A token that no header can carry.
      world.device({ ...once, user: "SECRET TOKEN" }),
      (device) => Effect.zipRight(device.sync.open, attach(device))
    )),
  "TransportError status": final("pullToStable", "report", pullWith(refused(418, "teapot"))),
  "RetryExhausted": transient(
    "pullToStable",
    "retry_later",
    pullWith(refused(503, "busy"), { retryPolicy: { enabled: true, maxAttempts: 1 } })
  ),
  "ProtocolError invalid_json": protocol("pullToStable", pullWith(answered(200, "<html>"))),
  "ProtocolError field_invalid": protocol("pullToStable", pullWith(bundle({ source_id: "" }))),
  "ProtocolError echo_mismatch": protocol(
    "pushPending",
    pushWith("push chunk", changed((body) => ({ ...body, push_id: "other" })))
  ),
  "ProtocolError status_unknown": protocol(
    "pushPending",
    pushWith("push create", changed((body) => ({ ...body, status: "queued" })))
  ),
  "ProtocolError resolution_unknown": protocol("attach", attachWith("connect", answered(200, {}))),
  "ProtocolError count_mismatch": protocol("pullToStable", pullWith(bundle({ row_count: 2 }))),
  "ProtocolError hash_mismatch": protocol("pullToStable", pullWith(bundle({ bundle_hash: "0011" }))),
  "ProtocolError ordinal_mismatch": protocol(
    "pushPending",
    pushWith("push chunk", changed((body) => ({ ...body, next_expected_row_ordinal: 9 })))
  ),
  "ProtocolError sequence_invalid": protocol("pullToStable", pullWith(bundle({ bundle_seq: 2 }))),
  "ProtocolError ceiling_changed": protocol(
    "pullToStable",
    twoPages([untouched, changed((page) => ({ ...page, stable_bundle_seq: 3 }))])
  ),
  "ProtocolError ended_early": protocol(
    "pullToStable",
    twoPages([changed((page) => ({ ...page, has_more: false }))])
  ),
  "ProtocolError no_progress": protocol(
    "pullToStable",
    twoPages([changed((page) => ({ ...page, bundles: [], has_more: true }))])
  ),
  "ProtocolError row_invalid": protocol("pullToStable", pulled({ ...received, version: 0 })),
  "ProtocolError hidden_column": protocol(
    "pullToStable",
    pulled({ ...received, payload: "{\"id\":\"u1\",\"_sync_scope_id\":\"SECRET\"}" })
  ),

  "StorageError busy": transient("pushPending", "retry_later", sqliteFailure("SQLITE_BUSY")),
  "StorageError full": transient("pushPending", "free_space", sqliteFailure("SQLITE_FULL")),
  "StorageError read_only": final("pushPending", "report", sqliteFailure("SQLITE_READONLY")),
  "StorageError io": final("pushPending", "report", sqliteFailure("SQLITE_IOERR")),
  "StorageError corrupt": final("pushPending", "report", sqliteFailure("SQLITE_CORRUPT")),
  "StorageError other": final("pushPending", "report", sqliteFailure("SQLITE_NOLFS")),

  "LocalDataError invalid_blob_uuid_key": final(
    "pushPending",
    "fix_data",
    smuggled("files", "{\"id\":\"0011\"}", "INSERT INTO files VALUES (x'0011', 'SECRET', NULL)")
  ),
  "LocalDataError invalid_blob_uuid_reference": final(
    "pushPending",
    "fix_data",
    smuggled("reviews", `{"id":"${uuid}"}`, `INSERT INTO reviews VALUES (x'${uuid}', x'0011')`)
  ),
  "LocalDataError key_not_text": final(
    "pushPending",
    "fix_data",
    smuggled("notes", "{\"id\":null}", "INSERT INTO notes (id, t) VALUES (NULL, 'SECRET')")
  ),
  "LocalDataError payload_undecodable": final(
    "pushPending",
    "fix_data",
    // What the reference has frozen is not the live row that is read again, but a text.
    inState("outbox prepared", (device, { network }) =>
      Effect.gen(function*() {
        yield* device.run("UPDATE _sync_outbox_rows SET local_payload = 'SECRET' WHERE key_json = '{\"id\":\"u1\"}'")
        yield* network.fault(
          "push commit",
          refused(409, "push_conflict", {
            conflict: conflict({ server_row_deleted: false, server_row: JSON.parse(payload) })
          })
        )
        return yield* push(device)
      }))
  ),
  "LocalDataError blob_in_plain_column": final(
    "pushPending",
    "fix_data",
    smuggled("notes", "{\"id\":\"n\"}", "INSERT INTO notes (id, t) VALUES ('n', x'0c')")
  ),
  "LocalDataError real_not_finite": final(
    "pushPending",
    "fix_data",
    smuggled("notes", "{\"id\":\"n\"}", "INSERT INTO notes (id, r) VALUES ('n', 9e999)")
  ),
  "LocalDataError integer_out_of_range": final("pushPending", "fix_data", (world) =>
    Effect.gen(function*() {
      yield* world.network.fault("capabilities", capabilities({ features: { connect_lifecycle: true } }), 10)
      const device = yield* world.attached({ ...once, ...more })
      yield* device.run("INSERT INTO notes (id, i) VALUES ('n', 9007199254740993)")
      return yield* push(device)
    })),
  "LocalDataError payload_column_mismatch": final(
    "pullToStable",
    "fix_configuration",
    pulled({ ...received, payload: "{\"id\":\"u1\",\"name\":\"SECRET\"}" })
  ),
  "LocalDataError payload_bad_wire_encoding": final(
    "pullToStable",
    "fix_data",
    pulled({ table: "files", key: "{\"id\":\"0011\"}", payload: "{\"id\":\"0011\",\"name\":\"n\",\"data\":null}" })
  ),
  "LocalDataError payload_key_mismatch": final(
    "pullToStable",
    "fix_data",
    pulled({ ...received, key: "{\"id\":\"u2\"}" })
  ),
  "LocalDataError unknown_table": final("pullToStable", "fix_configuration", pulled({ ...received, table: "nowhere" })),
  "LocalDataError schema_mismatch": final(
    "pullToStable",
    "fix_configuration",
    pulled({ ...received, schema: "other" })
  ),
  "LocalDataError local_constraint": final(
    "pullToStable",
    "fix_data",
    attached((device, { network }) => Effect.zipRight(pullAnswer(network, [[received]]), pull(device)), {
      ddl: ddl.map((statement) => statement.replace("score REAL", "score REAL CHECK (score > 5)"))
    })
  )
}
