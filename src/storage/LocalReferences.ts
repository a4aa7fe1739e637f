/**
 * Which references make rows of the host's own tables depend on synchronised rows. Pure data, found in the catalogue.
 *
 * @since 0.1.0
 */
import type { CatalogueForeignKey } from "./TableCatalogue.js"

/**
 * A foreign key of a table that is not synchronised, with an action on delete. `to` is NULL where the parent's primary key
 * is meant.
 *
 * @since 0.1.0
 * @category models
 */
export interface LocalReference {
  readonly child: string
  readonly parent: string
  readonly onDelete: "CASCADE" | "SET NULL" | "SET DEFAULT"
  readonly columns: ReadonlyArray<{ readonly from: string; readonly to: string | null }>
}

const isAction = (onDelete: string): onDelete is LocalReference["onDelete"] =>
  onDelete === "CASCADE" || onDelete === "SET NULL" || onDelete === "SET DEFAULT"

const referencesOf = (foreignKeys: ReadonlyArray<CatalogueForeignKey>): ReadonlyArray<LocalReference> => {
  const byKey = new Map<string, LocalReference>()
  for (const { child, from, id, onDelete, parent, to } of foreignKeys) {
    if (!isAction(onDelete)) continue
    const key = `${id} ${child}`
    byKey.set(key, { child, parent, onDelete, columns: [...byKey.get(key)?.columns ?? [], { from, to }] })
  }
  return [...byKey.values()]
}

/**
 * The references through which emptying the synchronised tables reaches others: directly, or by the rows that a cascade
 * deletes on the way.
 *
 * @since 0.1.0
 * @category inspection
 */
export const localReferences = (
  synchronised: ReadonlyArray<{ readonly name: string }>,
  foreignKeys: ReadonlyArray<CatalogueForeignKey>
): ReadonlyArray<LocalReference> => {
  const emptied = new Set(synchronised.map(({ name }) => name))
  const isReached = ({ parent }: LocalReference) => emptied.has(parent.toLowerCase())
  const references = referencesOf(foreignKeys).filter(({ child }) => !emptied.has(child.toLowerCase()))
  for (let before = -1; before < emptied.size;) {
    before = emptied.size
    for (const reference of references) {
      if (reference.onDelete === "CASCADE" && isReached(reference)) emptied.add(reference.child.toLowerCase())
    }
  }
  return references.filter(isReached)
}
