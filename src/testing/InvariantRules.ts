/**
 * The invariants of client-state.md §7 that one statement can ask about.
 *
 * @since 0.1.0
 */

/** An invariant as a statement that finds what breaks it. @internal */
export interface Rule {
  readonly invariant: number
  readonly says: string
  /** Selects the offenders. */
  readonly sql: string
  /** Does not hold in a database that only the reference has written. */
  readonly notOfReference?: true
}

/** The attachment, as a table in a statement. @internal */
export const attachment = "(SELECT * FROM _sync_attachment_state WHERE singleton_key = 1)"
/** The pending operation, as a table in a statement. @internal */
export const operation = "(SELECT * FROM _sync_operation_state WHERE singleton_key = 1)"
/** The header of the frozen upload, as a table in a statement. @internal */
export const outbox = "(SELECT * FROM _sync_outbox_bundle WHERE singleton_key = 1)"

const singletons = [
  "_sync_attachment_state",
  "_sync_operation_state",
  "_sync_apply_state",
  "_sync_outbox_bundle",
  "_sync_engine_state"
]

/** The tables with a `key_json`. @internal */
export const keyed = [
  "_sync_row_state",
  "_sync_dirty_rows",
  "_sync_outbox_rows",
  "_sync_push_stage",
  "_sync_snapshot_stage"
]

const scoped = [...keyed, "_sync_attachment_state", "_sync_managed_tables"]

/** All invariants that one statement can ask about. @internal */
export const rules: ReadonlyArray<Rule> = [
  ...singletons.map((table): Rule => ({
    invariant: 1,
    says: `${table} holds exactly one row, key 1`,
    sql: `SELECT count(*) AS n, min(singleton_key) AS key FROM ${table} HAVING n <> 1 OR key <> 1`
  })),
  {
    invariant: 2,
    says: "apply_mode is 0 outside of a transaction of the engine",
    sql: "SELECT apply_mode FROM _sync_apply_state WHERE apply_mode <> 0"
  },
  {
    invariant: 3,
    says: "one schema name everywhere",
    sql: `SELECT group_concat(schema_name) AS schemas FROM (${
      scoped.map((table) => `SELECT schema_name FROM ${table} WHERE schema_name <> ''`).join(" UNION ")
    }) HAVING count(*) > 1`
  },
  ...[...keyed, "_sync_managed_tables"].map((table): Rule => ({
    invariant: 5,
    says: `${table}: table names are lowercase`,
    sql: `SELECT DISTINCT table_name FROM ${table} WHERE table_name <> lower(table_name)`
  })),
  {
    invariant: 6,
    says: "after the first open there is a current source, known and not replaced",
    sql: `SELECT a.current_source_id, s.replaced_by_source_id FROM ${attachment} AS a
            JOIN _sync_engine_state AS e ON e.engine_epoch > 0
            LEFT JOIN _sync_source_state AS s ON s.source_id = a.current_source_id
           WHERE a.current_source_id = '' OR s.source_id IS NULL OR s.replaced_by_source_id <> ''`
  },
  {
    invariant: 7,
    says: "attached if and only if a user is named",
    sql: `SELECT binding_state, attached_user_id FROM ${attachment}
           WHERE (binding_state = 'attached') <> (attached_user_id <> '')`
  },
  {
    invariant: 8,
    says: "anonymous: no initialization is pending",
    sql: `SELECT pending_initialization_id FROM ${attachment}
           WHERE binding_state = 'anonymous' AND pending_initialization_id <> ''`
  },
  {
    invariant: 9,
    says: "anonymous without operation: checkpoint 0, gate open, no row state",
    sql: `SELECT a.last_bundle_seq_seen, a.rebuild_required, (SELECT count(*) FROM _sync_row_state) AS row_states
            FROM ${attachment} AS a, ${operation} AS o
           WHERE a.binding_state = 'anonymous' AND o.kind = 'none'
             AND (a.last_bundle_seq_seen <> 0 OR a.rebuild_required <> 0 OR EXISTS (SELECT 1 FROM _sync_row_state))`,
    notOfReference: true
  },
  {
    invariant: 9,
    says: "attached: rows_of_user_id is blank",
    sql: `SELECT e.rows_of_user_id FROM ${attachment} AS a, _sync_engine_state AS e
           WHERE a.binding_state = 'attached' AND e.rows_of_user_id <> ''`
  },
  {
    invariant: 11,
    says: "numbers of uploads begin with 1",
    sql: "SELECT source_id, next_source_bundle_id FROM _sync_source_state WHERE next_source_bundle_id < 1"
  },
  {
    invariant: 12,
    says: "the current source belongs to the attached user",
    sql: `SELECT a.attached_user_id, s.owner_user_id FROM ${attachment} AS a
            JOIN _sync_source_state AS s ON s.source_id = a.current_source_id
           WHERE a.binding_state = 'attached' AND s.owner_user_id NOT IN ('', a.attached_user_id)`
  },
  {
    invariant: 13,
    says: "no operation: its other columns are blank",
    sql: `SELECT * FROM ${operation} WHERE kind = 'none' AND (target_user_id <> '' OR reason <> ''
             OR replacement_source_id <> '' OR staged_snapshot_id <> '' OR snapshot_bundle_seq <> 0
             OR snapshot_row_count <> 0)`
  },
  {
    invariant: 14,
    says: "a remote replace is anonymous, has a target and a complete stage, and nothing of a recovery",
    sql: `SELECT o.*, a.binding_state, (SELECT count(*) FROM _sync_snapshot_stage AS s
                                         WHERE s.snapshot_id = o.staged_snapshot_id) AS staged
            FROM ${operation} AS o, ${attachment} AS a
           WHERE o.kind = 'remote_replace'
             AND (a.binding_state <> 'anonymous' OR o.target_user_id = '' OR o.staged_snapshot_id = ''
                  OR staged <> o.snapshot_row_count OR o.reason <> '' OR o.replacement_source_id <> '')`,
    notOfReference: true
  },
  {
    invariant: 15,
    says: "source recovery: a known reason, a fresh replacement, the gate closed, attached",
    sql: `SELECT o.reason, o.replacement_source_id, a.rebuild_required, a.binding_state, s.next_source_bundle_id
            FROM ${operation} AS o
            JOIN ${attachment} AS a
            LEFT JOIN _sync_source_state AS s ON s.source_id = o.replacement_source_id
           WHERE o.kind = 'source_recovery'
             AND (o.reason NOT IN ('history_pruned', 'source_sequence_out_of_order', 'source_sequence_changed',
                                   'source_retired')
                  OR o.replacement_source_id IN ('', a.current_source_id) OR s.next_source_bundle_id IS NOT 1
                  OR s.replaced_by_source_id IS NOT '' OR a.rebuild_required <> 1 OR a.binding_state <> 'attached')`
  },
  {
    invariant: 17,
    says: "no upload: no frozen rows, a blank header; and the other way round",
    sql: `SELECT b.*, (SELECT count(*) FROM _sync_outbox_rows) AS frozen FROM ${outbox} AS b
           WHERE (b.state = 'none') <> (frozen = 0)
              OR (b.state = 'none' AND (b.source_id <> '' OR b.source_bundle_id <> 0 OR b.canonical_request_hash <> ''
                  OR b.row_count <> 0 OR b.initialization_id <> '' OR b.remote_bundle_hash <> ''
                  OR b.remote_bundle_seq <> 0))`
  },
  {
    invariant: 18,
    says: "frozen rows carry the header's number, their ordinals have no gap, their keys are distinct",
    sql: `SELECT count(*) AS n, min(row_ordinal) AS first, max(row_ordinal) AS last,
                 count(DISTINCT schema_name || char(0) || table_name || char(0) || key_json) AS keys,
                 sum(r.source_bundle_id <> b.source_bundle_id) AS strangers
            FROM _sync_outbox_rows AS r, ${outbox} AS b
          HAVING n > 0 AND (first <> 0 OR last <> n - 1 OR keys <> n OR strangers > 0)`
  },
  {
    invariant: 18,
    says: "frozen inserts and updates have both payloads, deletes none",
    sql: `SELECT row_ordinal, op FROM _sync_outbox_rows
           WHERE (op = 'DELETE') <> (local_payload IS NULL) OR (op = 'DELETE') <> (wire_payload IS NULL)`
  },
  {
    invariant: 19,
    says: "prepared: the row count is that of the frozen rows, the remote fields are blank",
    sql: `SELECT b.row_count, b.remote_bundle_hash, b.remote_bundle_seq FROM ${outbox} AS b
           WHERE b.state = 'prepared' AND (b.row_count <> (SELECT count(*) FROM _sync_outbox_rows)
             OR b.remote_bundle_hash <> '' OR b.remote_bundle_seq <> 0)`
  },
  {
    invariant: 20,
    says: "committed: sequence and hash of the bundle are known",
    sql: `SELECT b.remote_bundle_seq, b.remote_bundle_hash FROM ${outbox} AS b
           WHERE b.state = 'committed_remote' AND (b.remote_bundle_seq <= 0 OR b.remote_bundle_hash = '')`
  },
  {
    invariant: 21,
    says: "an upload goes under the current source and its next number",
    sql: `SELECT b.source_id, b.source_bundle_id, a.current_source_id, s.next_source_bundle_id
            FROM ${outbox} AS b
            JOIN ${attachment} AS a
            LEFT JOIN _sync_source_state AS s ON s.source_id = a.current_source_id
           WHERE b.state <> 'none'
             AND (b.source_id <> a.current_source_id OR b.source_bundle_id IS NOT s.next_source_bundle_id)`,
    notOfReference: true
  },
  {
    invariant: 22,
    says: "frozen deletes come last",
    sql:
      `SELECT max(CASE WHEN op <> 'DELETE' THEN row_ordinal END) AS write, min(CASE op WHEN 'DELETE' THEN row_ordinal END) AS del
            FROM _sync_outbox_rows HAVING write > del`
  },
  {
    invariant: 24,
    says: "a dirty row has no payload if and only if it is a delete",
    sql: "SELECT table_name, key_json, op FROM _sync_dirty_rows WHERE (payload IS NULL) <> (op = 'DELETE')"
  },
  {
    invariant: 25,
    says: "ordinals of dirty rows are positive and distinct",
    sql: `SELECT dirty_ordinal, count(*) AS n FROM _sync_dirty_rows GROUP BY dirty_ordinal
          HAVING n > 1 OR dirty_ordinal < 1`
  },
  ...["_sync_dirty_rows", "_sync_outbox_rows"].map((table): Rule => ({
    invariant: 27,
    says: `${table}: no base version beyond the row state's`,
    sql: `SELECT p.table_name, p.key_json, p.base_row_version, s.row_version FROM ${table} AS p
            JOIN _sync_row_state AS s USING (schema_name, table_name, key_json)
           WHERE p.base_row_version > s.row_version`
  }))
]
