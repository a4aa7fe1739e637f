/**
 * Defects of the server: statements of its database that are changed on their way, and answers that are not what it
 * said.
 *
 * @since 0.1.0
 */
import type { Plant } from "./SimulationState.js"

const statement = (match: RegExp, replacement: string): Plant => ({
  serverStatement: (text) => text.replace(match, replacement)
})

const answer = (path: RegExp, change: (text: string) => string): Plant => ({
  answer: (url, text) => path.test(url.pathname) ? change(text) : text
})

/** Without the hashes that would tell that something is wrong. */
const withoutHash = (text: string) => text.replace(/"bundle_hash":"[0-9a-f]+"/gu, "\"bundle_hash\":\"\"")

/** A digit of a name is another one. */
const altered = (text: string) => text.replace(/"edited (\d)/gu, "\"edlted $1")

/** The commit (server.md §7). */
const commits: Readonly<Record<string, Plant>> = {
  "the server takes every base version": statement(
    /ELSE p\.op = 'INSERT' OR p\.base_version <> r\.version END/u,
    "ELSE p.op = 'INSERT' END"
  ),
  "the server lets rows return over a deletion unseen": statement(
    /WHEN r\.payload IS NULL THEN p\.op <> 'INSERT' OR p\.base_version <> r\.version/u,
    "WHEN r.payload IS NULL THEN 0"
  ),
  "the server deletes rows without a tombstone": statement(
    /^UPDATE server_row SET version = \?, payload = NULL FROM server_push_row AS p[^]*$/u,
    `DELETE FROM server_row WHERE ? > 0 AND (table_id, key) IN (
       SELECT p.table_id, p.key FROM server_push_row AS p
        WHERE p.push_pk = ? AND p.row_ordinal BETWEEN ? AND ? AND p.op = 'DELETE')
       AND scope_id = ? AND payload IS NOT NULL`
  ),
  "the server raises no version": statement(
    /^(INSERT INTO server_row [^]*ON CONFLICT DO UPDATE SET )version = excluded\.version, /u,
    "$1"
  ),
  "the server commits what it refuses": statement(/^ROLLBACK$/u, "COMMIT"),
  "the server loses every second row of a bundle": statement(
    /(ON r\.scope_id = \? AND r\.table_id = o\.table_id AND r\.key = o\.key\s+WHERE o\.position > \? AND o\.position <= \?)/u,
    "$1 AND o.position % 2 = 1"
  ),
  "the server stores other values in bundles than in rows": statement(
    /(^INSERT INTO server_bundle_row[^]*o\.op), r\.payload/u,
    "$1, replace(r.payload, 'edited', 'edlted')"
  ),
  "the server forgets which uploads it has": statement(
    /(FROM server_bundle\s+WHERE scope_id = \? AND source_id = \? AND source_bundle_id = \?)/u,
    "$1 AND 0"
  )
}

/** What it answers to others (server.md §8–10). */
const reading: Readonly<Record<string, Plant>> = {
  "pulls bring the newest bundles first": statement(
    /(FROM server_bundle\s+WHERE scope_id = \? AND bundle_seq > \?[^]*ORDER BY bundle_seq)/u,
    "$1 DESC"
  ),
  "pulls leave deletes out": statement(
    /(FROM server_bundle_row\s+WHERE scope_id = \? AND bundle_seq BETWEEN \? AND \?)/u,
    "$1 AND op <> 'DELETE'"
  ),
  "snapshots leave rows out": statement(
    /^(INSERT INTO server_snapshot_row[^]*AND payload IS NOT NULL)/u,
    "$1 AND payload NOT LIKE '%\"edited%'"
  ),
  "snapshots hold the rows of other users": statement(
    /^(INSERT INTO server_snapshot_row[^]*FROM server_row WHERE scope_id) = \?/u,
    "$1 >= min(1, ?)"
  ),
  "snapshots tell versions that are one too old": statement(
    /^(INSERT INTO server_snapshot_row[^]*\(ORDER BY key\), table_id, key), version/u,
    "$1, max(version - 1, 1)"
  )
}

/** What arrives of it. */
const answers: Readonly<Record<string, Plant>> = {
  "pulled bundles are empty": answer(
    /\/sync\/pull$/u,
    (text) => text.replace(/"rows":\[[^]*?\}\]/gu, "\"rows\":[]")
  ),
  "pulled deletes arrive as updates": answer(
    /\/sync\/pull$/u,
    (text) => text.replace(/"op":"DELETE"/gu, "\"op\":\"UPDATE\"")
  ),
  "pulled values are altered, and no hash tells": answer(/\/sync\/pull$/u, (text) => altered(withoutHash(text))),
  "committed values are altered under their hash": answer(/committed-bundles/u, altered),
  "commits are answered without a hash": answer(/commit$|committed-bundles/u, withoutHash),
  "snapshot values are altered": answer(/snapshot-sessions/u, altered),
  "a snapshot says that it is older": answer(
    /snapshot-sessions/u,
    (text) => text.replace(/"snapshot_bundle_seq":\d+/gu, "\"snapshot_bundle_seq\":1")
  ),
  "conflicts show another version": answer(
    /commit$/u,
    (text) => text.replace(/"server_row_version":(\d+)/gu, "\"server_row_version\":1$1")
  )
}

const rarities: Readonly<Record<string, Plant>> = {
  "the server tells nobody what a cascade deletes": statement(
    /('DELETE' AS op FROM temp\.server_cascade)\s/u,
    "$1 WHERE level = 0 "
  )
}

/**
 * Defects of the server, by name.
 *
 * @since 0.1.0
 * @category models
 */
export const bugs: Readonly<Record<string, Plant>> = { ...commits, ...reading, ...answers, ...rarities }
