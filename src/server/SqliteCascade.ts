/**
 * The statements that references and unique columns need, built once from the declarations (server.md §7.2–7.4). Their
 * number depends on the declarations, never on rows.
 *
 * @since 0.1.0
 */
import { literal } from "../storage/SqlText.js"
import { defaultText } from "./ColumnValue.js"
import type { Catalog } from "./SqliteSchema.js"
import type { DeleteAction, ServerReference, ServerTable } from "./TableDeclaration.js"

/**
 * A statement with named parameters (`:scope`); the driver knows only positions.
 *
 * @since 0.1.0
 * @category models
 */
export interface NamedStatement {
  readonly text: string
  readonly names: ReadonlyArray<Parameter>
}

type Parameter = "scope" | "bundle" | "level" | "limit"

/**
 * The values of a statement's parameters, in order of their places.
 *
 * @since 0.1.0
 * @category getters
 */
export const parameters = (
  statement: NamedStatement,
  values: Partial<Readonly<Record<Parameter, number>>>
): ReadonlyArray<number> => statement.names.map((name) => values[name] ?? 0)

const isParameter = (name: string): name is Parameter => ["scope", "bundle", "level", "limit"].includes(name)

const prepare = (text: string): NamedStatement => {
  const names: Array<Parameter> = []
  return {
    text: text.replace(/:([a-z]+)/g, (whole, name: string) => {
      if (!isParameter(name)) return whole
      names.push(name)
      return "?"
    }),
    names
  }
}

/**
 * The statements of the declarations; one that no declaration asks for is `undefined`.
 *
 * @since 0.1.0
 * @category models
 */
export interface CascadeStatements {
  /** Tables whose deletes act on other rows, or may be kept from happening. */
  readonly acting: ReadonlyArray<number>
  /** Adds the rows that cascades reach from those of a level to `server_cascade`, as the next level. */
  readonly descend: NamedStatement | undefined
  /** Selects rows whose delete a `restrict` reference forbids. */
  readonly restricted: NamedStatement | undefined
  /** Writes the deletes, and the updates they cause, to `server_effect` in the order of events. */
  readonly capture: NamedStatement
  /** Takes deleted parents out of the rows that refer to them. */
  readonly detach: ReadonlyArray<NamedStatement>
  /** Selects rows that violate a reference or a unique column. */
  readonly violated: NamedStatement | undefined
}

interface Edge {
  readonly reference: ServerReference
  readonly child: ServerTable
  readonly childId: number
  readonly parentId: number
}

const when = <A>(condition: boolean, value: A): A | undefined => condition ? value : undefined

/** The value of a member as it is indexed. */
const member = (alias: string, column: string) => `${alias}.payload ->> '$.${column}'`

/** The live rows of a table that refer to row `parent`; the sign keeps the column's affinity off the index. */
const referring = (edge: Edge, parent: string) =>
  `server_row AS c ON c.scope_id = :scope AND c.table_id = ${edge.childId} AND c.payload IS NOT NULL
    AND ${member("c", edge.reference.column)} = +${parent}.key`

const descend = (edges: ReadonlyArray<Edge>): string => `
  INSERT INTO temp.server_cascade (table_id, key, root, level, parent_position, reference, position)
  SELECT table_id, key, root, :level + 1, parent_position, reference,
    row_number() OVER (ORDER BY root, parent_position, reference, key)
  FROM (
    SELECT *, row_number() OVER (PARTITION BY table_id, key ORDER BY root, parent_position, reference) AS pick FROM (
      ${
  edges.map((edge) => `
      SELECT c.table_id, c.key, f.root, f.position AS parent_position, ${edge.reference.ordinal} AS reference
      FROM temp.server_cascade AS f CROSS JOIN ${referring(edge, "f")}
      WHERE f.level = :level AND f.table_id = ${edge.parentId}`).join(" UNION ALL ")
}
    )
  ) WHERE pick = 1
  ON CONFLICT DO UPDATE SET root = excluded.root, level = excluded.level, parent_position = excluded.parent_position,
    reference = excluded.reference, position = excluded.position
  WHERE excluded.root < root`

/** The referring row is still there when its turn comes: no delete has reached it in an earlier place. */
const present = (edge: Edge): string =>
  `NOT EXISTS (SELECT 1 FROM temp.server_cascade AS x WHERE x.table_id = c.table_id AND x.key = c.key
      AND (x.root, x.level, x.parent_position, x.reference)
        < (f.root, f.level + 1, f.position, ${edge.reference.ordinal}))`

const restricted = (edges: ReadonlyArray<Edge>): string =>
  edges.map((edge) => `
    SELECT f.table_id, f.key, ${literal(`is referred to by ${edge.child.name}.${edge.reference.column}`)} AS reason
    FROM temp.server_cascade AS f CROSS JOIN ${referring(edge, "f")}
    WHERE f.table_id = ${edge.parentId} AND ${present(edge)}
  `).join(" UNION ALL ")

const capture = (edges: ReadonlyArray<Edge>): string => {
  const updates = edges.map((edge) => `
    UNION ALL SELECT c.table_id, c.key, f.root, f.level + 1, f.position, ${edge.reference.ordinal}, 'UPDATE'
    FROM temp.server_cascade AS f CROSS JOIN ${referring(edge, "f")}
    WHERE f.table_id = ${edge.parentId} AND ${present(edge)}`)
  return `
  INSERT INTO temp.server_effect (table_id, key, row_ordinal, rank, first_op, last_op, version_before)
  SELECT table_id, key, root, rank, op, op, 0 FROM (
    SELECT table_id, key, root, op,
      row_number() OVER (PARTITION BY root ORDER BY level, parent_position, reference, key) - 1 AS rank
    FROM (
      SELECT table_id, key, root, level, parent_position, reference, 'DELETE' AS op FROM temp.server_cascade
      ${updates.join("")}
    )
  ) WHERE true ORDER BY root, rank
  ON CONFLICT DO UPDATE SET last_op = excluded.last_op`
}

/** The JSON text a reference gets when its parent goes. */
const detached = (edge: Edge): string => {
  const column = edge.child.columns?.find((_) => _.name === edge.reference.column)
  return edge.reference.onDelete === "set default" && column !== undefined ? defaultText(column) : "null"
}

/** A literal in which no colon begins the name of a parameter. */
const opaque = (text: string): string => literal(text).replaceAll(":", ":' || '")

const detach = (edge: Edge): string => `
  UPDATE server_row SET version = :bundle,
    payload = json_set(payload, '$.${edge.reference.column}', json(${opaque(detached(edge))}))
  WHERE scope_id = :scope AND table_id = ${edge.childId} AND payload IS NOT NULL AND key IN (
    SELECT c.key FROM temp.server_cascade AS f CROSS JOIN ${referring(edge, "f")}
    WHERE f.table_id = ${edge.parentId})`

const missingParents = (edge: Edge): string => `
  SELECT e.table_id, e.key, ${literal(`${edge.reference.column} refers to no row of ${edge.reference.table}`)} AS reason
  FROM temp.server_effect AS e CROSS JOIN server_row AS c
    ON c.scope_id = :scope AND c.table_id = e.table_id AND c.key = e.key
  WHERE e.table_id = ${edge.childId} AND ${member("c", edge.reference.column)} IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM server_row AS p WHERE p.scope_id = :scope AND p.table_id = ${edge.parentId}
      AND p.key = ${member("c", edge.reference.column)} AND p.payload IS NOT NULL)`

const orphans = (edge: Edge): string => `
  SELECT e.table_id, e.key, ${literal(`is referred to by ${edge.child.name}.${edge.reference.column}`)} AS reason
  FROM temp.server_effect AS e CROSS JOIN ${referring(edge, "e")}
  WHERE e.table_id = ${edge.parentId} AND e.last_op = 'DELETE'`

const duplicates = (tableId: number, column: string): string => `
  SELECT e.table_id, e.key, ${literal(`${column} is not unique`)} AS reason
  FROM temp.server_effect AS e CROSS JOIN server_row AS c
    ON c.scope_id = :scope AND c.table_id = e.table_id AND c.key = e.key
  CROSS JOIN server_row AS o ON o.scope_id = :scope AND o.table_id = ${tableId} AND o.payload IS NOT NULL
    AND ${member("o", column)} = ${member("c", column)} AND o.key <> c.key
  WHERE e.table_id = ${tableId}`

/**
 * Builds the statements for the declared tables.
 *
 * @since 0.1.0
 * @category constructors
 */
export const cascadeStatements = (catalog: Catalog): CascadeStatements => {
  const edges = catalog.tables.flatMap((child) =>
    child.references.map((reference): Edge => ({
      reference,
      child,
      childId: catalog.idOf(child),
      parentId: catalog.idOf(catalog.named(reference.table))
    }))
  )
  const having = (...actions: ReadonlyArray<DeleteAction>) =>
    edges.filter((edge) => actions.includes(edge.reference.onDelete))
  const cascading = having("cascade")
  const detaching = having("set null", "set default")
  const restricting = having("restrict")
  const unique = catalog.tables.flatMap((table) =>
    (table.columns ?? []).filter((column) => column.unique).map((column) => ({
      tableId: catalog.idOf(table),
      column: column.name
    }))
  )
  const violated = [
    ...edges.map(missingParents),
    ...edges.map(orphans),
    ...unique.map(({ column, tableId }) => duplicates(tableId, column))
  ]
  return {
    acting: Array.from(new Set([...cascading, ...detaching, ...restricting].map((edge) => edge.parentId))),
    descend: when(cascading.length > 0, prepare(descend(cascading))),
    restricted: when(restricting.length > 0, prepare(restricted(restricting))),
    capture: prepare(capture(detaching)),
    detach: detaching.map((edge) => prepare(detach(edge))),
    violated: when(violated.length > 0, prepare(violated.join(" UNION ALL ") + " LIMIT :limit"))
  }
}
