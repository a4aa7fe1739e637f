/**
 * The rowid of a table, whatever its columns are called.
 *
 * @since 0.1.0
 */

/**
 * The name under which a statement reaches the rowid: a column hides the name that it has itself. `undefined` if columns
 * hide all three; a table WITHOUT ROWID has none either, which the caller has to know.
 *
 * @since 0.1.0
 * @category getters
 */
export const rowidName = (columns: ReadonlyArray<string>): string | undefined => {
  const hidden = new Set(columns.map((name) => name.toLowerCase()))
  return ["rowid", "_rowid_", "oid"].find((name) => !hidden.has(name))
}
