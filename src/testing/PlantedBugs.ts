/**
 * Deliberate defects, to see that the simulation finds them: statements of the device or of the server that are changed
 * on their way, and answers that are not what the server said. Nothing of the library itself is touched.
 *
 * @since 0.1.0
 */
import type { Plant } from "./SimulationState.js"

const statement = (match: RegExp, replacement: string): Plant => ({
  statement: (text) => text.replace(match, replacement)
})

/** The statement does nothing, but is counted and answered like one without rows. */
const skipped = (match: RegExp): Plant => ({ statement: (text) => match.test(text) ? "SELECT 1 WHERE 0" : text })

const answer = (path: RegExp, match: RegExp, replacement: string): Plant => ({
  answer: (url, text) => path.test(url.pathname) ? text.replace(match, replacement) : text
})

/**
 * The defects by name.
 *
 * @since 0.1.0
 * @category models
 */
export const bugs: Readonly<Record<string, Plant>> = {
  "apply mode is left on": statement(/SET apply_mode = 0 WHERE/u, "SET apply_mode = 1 WHERE"),
  "apply mode is never switched on": statement(/SET apply_mode = 1 WHERE/u, "SET apply_mode = 0 WHERE"),
  "rows of the outbox are not cleared": skipped(/^DELETE FROM _sync_outbox_rows/u),
  "the checkpoint runs ahead": statement(
    /^(UPDATE _sync_attachment_state SET [^]*?)last_bundle_seq_seen = \?/u,
    "$1last_bundle_seq_seen = ? + 1"
  ),
  "the checkpoint stands still": statement(
    /^(UPDATE _sync_attachment_state SET [^]*?)last_bundle_seq_seen = \?/u,
    "$1last_bundle_seq_seen = ? * 0"
  ),
  "dirty rows are kept after a freeze": skipped(/^DELETE FROM _sync_dirty_rows WHERE \(schema_name, table_name/u),
  "a thaw forgets the frozen rows": skipped(/^INSERT INTO _sync_dirty_rows[^]*FROM _sync_outbox_rows/u),
  "row state is not written": skipped(/^INSERT INTO _sync_row_state/u),
  "row state is one version behind": statement(/excluded\.row_version/gu, "excluded.row_version - 1"),
  "deleted rows stay known as live": statement(/excluded\.deleted/gu, "0"),
  "commits are rolled back": statement(/^COMMIT$/u, "ROLLBACK"),
  "transactions are committed when they fail": statement(/^ROLLBACK$/u, "COMMIT"),
  "foreign keys are not deferred": skipped(/^PRAGMA defer_foreign_keys/u),
  "deletes are not applied": skipped(/^DELETE FROM "notes"/u),
  "the snapshot stage is not emptied": skipped(/^DELETE FROM _sync_snapshot_stage/u),
  "the push stage is not emptied": skipped(/^DELETE FROM _sync_push_stage/u),
  "the source's counter is not raised": skipped(/^UPDATE _sync_source_state SET next_source_bundle_id/u),
  "the header of the outbox is not written": skipped(/^UPDATE _sync_outbox_bundle/u),
  "the operation is not ended": skipped(/^UPDATE _sync_operation_state/u),
  "updates of pulled rows are dropped": skipped(/^INSERT INTO "people"[^]*ON CONFLICT/u),
  "pulled bundles are empty": answer(/\/sync\/pull$/u, /"rows":\s*\[[^]*?\}\]/gu, "\"rows\":[]"),
  "the server forgets deletes in a pull": answer(/\/sync\/pull$/u, /"op":"DELETE"/gu, "\"op\":\"UPDATE\""),
  "a snapshot says that it is older": answer(
    /snapshot-sessions/u,
    /"snapshot_bundle_seq":\d+/gu,
    "\"snapshot_bundle_seq\":1"
  ),
  "pulled values are changed": answer(/\/sync\/pull$/u, /renamed (\d)/gu, "renaned $1"),
  "committed values are changed": answer(/committed-bundles/u, /renamed (\d)/gu, "renaned $1"),
  "snapshot values are changed": answer(/snapshot-sessions/u, /renamed (\d)/gu, "renaned $1"),
  "conflicts show another version": answer(/commit$/u, /"server_row_version":(\d+)/gu, "\"server_row_version\":1$1"),
  "the server takes every base version": {
    serverStatement: (text) => text.replace(/base_row_version <> /gu, "0 AND base_row_version <> ")
  }
}
