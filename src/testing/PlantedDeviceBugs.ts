/**
 * Defects of a device: statements of its database that are changed on their way.
 *
 * @since 0.1.0
 */
import type { Plant } from "./SimulationState.js"

const statement = (match: RegExp, replacement: string): Plant => ({
  statement: (text) => text.replace(match, replacement)
})

/** A statement that takes the same parameters and does nothing. */
const nothing = (text: string): string =>
  `SELECT 1 WHERE 0${text.replaceAll(/[^?]/gu, "").replaceAll("?", " AND ? IS NOT NULL")}`

const skipped = (match: RegExp): Plant => ({ statement: (text) => match.test(text) ? nothing(text) : text })

/** Transactions, and the switch that keeps the engine's own writes from being captured (capture.md §3). */
const transactions: Readonly<Record<string, Plant>> = {
  "apply mode is left on": statement(
    /SET apply_mode = 0 WHERE singleton_key/u,
    "SET apply_mode = 1 WHERE singleton_key"
  ),
  "apply mode is never switched on": statement(/SET apply_mode = 1 WHERE/u, "SET apply_mode = 0 WHERE"),
  "commits are rolled back": statement(/^COMMIT$/u, "ROLLBACK"),
  "transactions that fail are committed": statement(/^ROLLBACK$/u, "COMMIT"),
  "foreign keys are not deferred": skipped(/^PRAGMA defer_foreign_keys/u)
}

/** From dirty rows to the server and back (push.md §3, §5, §9). */
const uploads: Readonly<Record<string, Plant>> = {
  "dirty rows are kept after a freeze": skipped(
    /^DELETE FROM _sync_dirty_rows\s+WHERE schema_name = \? AND table_name IN \(SELECT value FROM json_each/u
  ),
  "rows of the outbox are not cleared": skipped(/^DELETE FROM _sync_outbox_rows$/u),
  "the header of the outbox is not written": skipped(/^UPDATE _sync_outbox_bundle SET state/u),
  "own deletes are not frozen": skipped(/^INSERT INTO temp\._sync_intent[^]*'DELETE', d\.base_row_version/u),
  "uploads name a base version that is one too old": statement(
    /'base_row_version', base_row_version/gu,
    "'base_row_version', max(base_row_version - 1, 0)"
  ),
  "uploads name the newest version of the server for their base": statement(
    /^(INSERT INTO temp\._sync_intent[^]*?), d\.base_row_version(\s+FROM)/u,
    "$1, coalesce(s.row_version, d.base_row_version)$2"
  ),
  "a thaw forgets the frozen rows": skipped(
    /^INSERT INTO _sync_dirty_rows[^]*FROM _sync_outbox_rows AS o\s+WHERE o\.row_ordinal >= \?/u
  ),
  "an edit made during its upload counts as uploaded": {
    statement: (text) =>
      text.replace(
        /^(DELETE FROM _sync_dirty_rows WHERE rowid IN[^]*WHERE s\.mode) = 'apply'\)$/u,
        "$1 IN ('apply', 'record'))"
      ).replace(
        /^(INSERT INTO _sync_dirty_rows[^]*FROM temp\._sync_incoming AS s WHERE s\.requeue IN) \('INSERT', 'UPDATE', 'DELETE'\)/u,
        "$1 ('none')"
      )
  },
  "an edit made during its upload keeps its old base version": statement(
    /(ON CONFLICT \(schema_name, table_name, key_json\)\s+DO UPDATE SET op = excluded\.op), base_row_version = excluded\.base_row_version/u,
    "$1"
  ),
  "the source's counter is not raised": skipped(
    /^INSERT INTO _sync_source_state \(source_id, next_source_bundle_id\)/u
  ),
  "the source's counter is raised by two": statement(
    /max\(next_source_bundle_id, excluded\.next_source_bundle_id\)/u,
    "max(next_source_bundle_id, excluded.next_source_bundle_id + 1)"
  ),
  "the push stage is not emptied": skipped(/^DELETE FROM _sync_push_stage$/u),
  "half of a bundle is replayed": statement(
    /(LEFT JOIN _sync_row_state AS s USING \(schema_name, table_name, key_json\)\s+WHERE p\.bundle_seq = \?)$/u,
    "$1 AND p.row_ordinal % 2 = 0"
  )
}

/** What a device knows of the server's rows, and how far it has come (pull.md §4). */
const downloads: Readonly<Record<string, Plant>> = {
  "the checkpoint runs ahead": statement(
    /^(UPDATE _sync_attachment_state SET )last_bundle_seq_seen = \?/u,
    "$1last_bundle_seq_seen = ? + 1"
  ),
  "the checkpoint stands still": statement(
    /^(UPDATE _sync_attachment_state SET )last_bundle_seq_seen = \?/u,
    "$1last_bundle_seq_seen = ? * 0 + last_bundle_seq_seen"
  ),
  "row state is not written": skipped(
    /^INSERT INTO _sync_row_state \(schema_name, table_name, key_json, row_version, deleted\)/u
  ),
  "row state is one version behind": statement(
    /^(INSERT INTO _sync_row_state[^]*), s\.row_version, s\.op = 'DELETE'/u,
    "$1, s.row_version - 1, s.op = 'DELETE'"
  ),
  "deleted rows stay known as live": statement(
    /^(INSERT INTO _sync_row_state[^]*), s\.op = 'DELETE'/u,
    "$1, 0"
  ),
  "pulled deletes are not applied": skipped(/^DELETE FROM "[^]*FROM temp\._sync_incoming AS s WHERE/u),
  "updates of known people are not applied": statement(
    /^(INSERT INTO "people"[^]*FROM temp\._sync_incoming[^]*ON CONFLICT \("id"\) DO) UPDATE SET .*$/u,
    "$1 NOTHING"
  ),
  "of several versions the oldest is applied": statement(
    /(PARTITION BY p\.table_name, p\.key_json ORDER BY p\.bundle) DESC/u,
    "$1 ASC"
  )
}

/** Snapshots, and what a device keeps through them (pull.md §6, recovery.md §5). */
const snapshots: Readonly<Record<string, Plant>> = {
  "tables are not emptied before a snapshot": skipped(/^DELETE FROM "(?:people|notes|teams|photos)"$/u),
  "a snapshot drops pending work": skipped(/^INSERT INTO temp\._sync_pending[^]*FROM _sync_dirty_rows AS d$/u),
  "a snapshot brings pending work its own versions for a base": statement(
    /(coalesce\(min\(p\.base, s\.row_version\), 0\) ELSE) p\.base END/u,
    "$1 coalesce(s.row_version, p.base) END"
  ),
  "pending work is not written back over a snapshot": skipped(/^INSERT INTO "\w+"[^]*FROM temp\._sync_kept_/u),
  "the operation is never ended": statement(
    /^UPDATE _sync_operation_state SET kind = \?/u,
    "UPDATE _sync_operation_state SET kind = iif(kind = 'none', ?, kind)"
  ),
  "the gate of a rebuild is never opened": statement(
    /^(UPDATE _sync_attachment_state SET [^]*)rebuild_required = \?/u,
    "$1rebuild_required = max(rebuild_required, ?)"
  )
}

const rarities: Readonly<Record<string, Plant>> = {
  "a pull does not look for local changes": statement(
    /^SELECT count\(\*\) AS n(\s+FROM temp\._sync_incoming AS i\s+JOIN _sync_dirty_rows)/u,
    "SELECT 0 AS n$1"
  ),
  "the history of the server is not remembered": skipped(
    /^UPDATE _sync_engine_state SET (?:history_id|newest_bundle_seq)/u
  ),
  "own bundles beyond the checkpoint are not remembered": skipped(/^UPDATE _sync_engine_state SET own_bundle_seq/u),
  "what a restored server has lost is not queued again": skipped(
    /^INSERT INTO temp\._sync_pending[^]*_sync_snapshot_stage/u
  )
}

/**
 * Defects of devices, by name.
 *
 * @since 0.1.0
 * @category models
 */
export const bugs: Readonly<Record<string, Plant>> = {
  ...transactions,
  ...uploads,
  ...downloads,
  ...snapshots,
  ...rarities
}
