import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { device, server } from "./Devices.js"
import { checkInvariants, findViolations } from "./Invariants.js"

/** What breaks which invariant in the database of a device with one pushed, one dirty and one frozen row. */
const plants: ReadonlyArray<readonly [invariant: number, ...statements: ReadonlyArray<string>]> = [
  [1, "DELETE FROM _sync_apply_state"],
  [2, "UPDATE _sync_apply_state SET apply_mode = 1"],
  [3, "UPDATE _sync_dirty_rows SET schema_name = 'other'"],
  [4, "DROP TRIGGER trg_users_ai"],
  [4, "CREATE TRIGGER trg_other_ai AFTER INSERT ON other BEGIN DELETE FROM _sync_dirty_rows; END"],
  [4, "DELETE FROM _sync_managed_tables WHERE table_name = 'posts'"],
  [5, "UPDATE _sync_dirty_rows SET key_json = '{\"id\": \"d\"}'"],
  [5, "UPDATE _sync_row_state SET table_name = 'Users'"],
  [6, "UPDATE _sync_attachment_state SET current_source_id = 'nobody'"],
  [7, "UPDATE _sync_attachment_state SET attached_user_id = ''"],
  [8, "UPDATE _sync_attachment_state SET binding_state = 'anonymous', pending_initialization_id = 'i'"],
  [9, "UPDATE _sync_attachment_state SET binding_state = 'anonymous'"],
  [9, "UPDATE _sync_engine_state SET rows_of_user_id = 'ann'"],
  [10, "UPDATE _sync_attachment_state SET last_bundle_seq_seen = 0"],
  [11, "UPDATE _sync_source_state SET next_source_bundle_id = 1"],
  [12, "UPDATE _sync_source_state SET owner_user_id = 'bob'"],
  [13, "UPDATE _sync_operation_state SET replacement_source_id = 'r'"],
  [14, "UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ann', staged_snapshot_id = 's'"],
  [15, "UPDATE _sync_operation_state SET kind = 'source_recovery', reason = 'source_retired'"],
  [17, "DELETE FROM _sync_outbox_rows"],
  [17, "UPDATE _sync_outbox_bundle SET state = 'none'"],
  [18, "UPDATE _sync_outbox_rows SET row_ordinal = 7"],
  [18, "UPDATE _sync_outbox_rows SET wire_payload = NULL"],
  [19, "UPDATE _sync_outbox_bundle SET row_count = 2"],
  [19, "UPDATE _sync_outbox_rows SET base_row_version = 1"],
  [20, "UPDATE _sync_outbox_bundle SET state = 'committed_remote'"],
  [21, "UPDATE _sync_outbox_bundle SET source_bundle_id = 9", "UPDATE _sync_outbox_rows SET source_bundle_id = 9"],
  [24, "UPDATE _sync_dirty_rows SET payload = NULL"],
  [25, "UPDATE _sync_dirty_rows SET dirty_ordinal = 0"],
  [26, "UPDATE _sync_dirty_rows SET payload = '{}'"],
  [
    27,
    `INSERT INTO _sync_row_state VALUES ('business', 'users', '{"id":"d"}', 3, 0, '')`,
    "UPDATE _sync_dirty_rows SET base_row_version = 4"
  ],
  [28, "UPDATE _sync_row_state SET row_version = 0"],
  [29, "DELETE FROM _sync_row_state"],
  [29, "UPDATE _sync_row_state SET deleted = 1"]
]

const prepared = Effect.gen(function*() {
  const one = yield* device("ann")
  yield* one.run("CREATE TABLE other (x)")
  yield* one.run("INSERT INTO users VALUES ('p', 'pushed', NULL, 1)")
  yield* one.sync.open
  yield* one.sync.attach("ann")
  yield* one.sync.sync
  yield* one.run("INSERT INTO users VALUES ('f', 'frozen', NULL, 1)")
  yield* one.run(
    `INSERT INTO _sync_outbox_rows SELECT 2, 0, schema_name, table_name, key_json, key_json, op, base_row_version, payload, payload
       FROM _sync_dirty_rows`
  )
  yield* one.run("DELETE FROM _sync_dirty_rows")
  yield* one.run(
    `UPDATE _sync_outbox_bundle SET state = 'prepared', source_bundle_id = 2, row_count = 1,
       source_id = (SELECT current_source_id FROM _sync_attachment_state),
       canonical_request_hash = 'f46cafb0e43f9b5f2a4c8c0d1e5ddc0bd2cde1c1cb8fb0b9e7a1e5a6c2be9cb3'`
  )
  const [violation] = yield* findViolations(one)
  const hash = /rows say ([0-9a-f]{64})/.exec(violation ?? "")?.[1] ?? ""
  yield* one.run("UPDATE _sync_outbox_bundle SET canonical_request_hash = ?", [hash])
  yield* one.run("INSERT INTO users VALUES ('d', 'dirty', NULL, 1)")
  yield* checkInvariants(one)
  return one
})

describe("the check of the invariants [client-state.md §7]", () => {
  it.scoped("finds each of the planted violations, and none before and after", () =>
    Effect.gen(function*() {
      const one = yield* prepared
      for (const [invariant, ...statements] of plants) {
        yield* one.run("SAVEPOINT plant")
        for (const statement of statements) yield* one.run(statement)
        const found = yield* findViolations(one)
        assert.isTrue(
          found.some((line) => line.startsWith(`invariant ${invariant}:`)),
          `invariant ${invariant}: ${statements.at(-1)}\n${found.join("\n")}`
        )
        yield* one.run("ROLLBACK TO plant")
        yield* one.run("RELEASE plant")
        // What has been remembered of the planted state is forgotten.
        yield* findViolations(one)
        yield* checkInvariants(one)
      }
    }).pipe(Effect.provide(server())))

  it.scoped("finds frozen rows out of order [invariant 22]", () =>
    Effect.gen(function*() {
      const one = yield* device("ann")
      yield* one.sync.open
      const row = (ordinal: number, table: string, op: string) =>
        one.run(
          `INSERT INTO _sync_outbox_rows VALUES (1, ?, 'business', ?, '{"id":"x"}', '{"id":"x"}', ?, 0, NULL, NULL)`,
          [ordinal, table, op]
        )
      yield* row(0, "posts", "INSERT")
      yield* row(1, "users", "INSERT")
      const upward = yield* findViolations(one)
      assert.isTrue(upward.some((line) => line.startsWith("invariant 22: frozen rows stand in table order")))
      yield* one.run("UPDATE _sync_outbox_rows SET op = 'DELETE' WHERE table_name = 'posts'")
      const mixed = yield* findViolations(one)
      assert.isTrue(mixed.some((line) => line.startsWith("invariant 22: frozen deletes come last")))
      yield* one.run("UPDATE _sync_outbox_rows SET op = 'DELETE'")
      const downward = yield* findViolations(one)
      assert.isFalse(downward.some((line) => line.startsWith("invariant 22")))
    }).pipe(Effect.provide(server())))

  it.scoped("finds what uninstalling has left behind", () =>
    Effect.gen(function*() {
      const one = yield* device("ann")
      yield* one.sync.open
      yield* one.sync.uninstallSync
      yield* checkInvariants(one)
      yield* one.run("CREATE TABLE _sync_row_state (x)")
      assert.deepStrictEqual(yield* findViolations(one), [
        "uninstalled, but left behind: {\"type\":\"table\",\"name\":\"_sync_row_state\"}"
      ])
    }).pipe(Effect.provide(server())))
})
