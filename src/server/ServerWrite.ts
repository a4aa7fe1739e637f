/**
 * Writes of the host application into a scope (server.md §12).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { PushRequestRow } from "../protocol/Wire.js"
import { announced, conclude } from "./Commit.js"
import * as ScopeState from "./ScopeState.js"
import type { Fault, ServerParts } from "./ServerParts.js"
import { now } from "./ServerParts.js"
import type { BundleHeader, StagedRow } from "./ServerStorage.js"
import * as SourceState from "./SourceState.js"
import { refused, SyncRefused } from "./SyncRefused.js"
import type { ServerTable } from "./TableDeclaration.js"
import * as UploadRow from "./UploadRow.js"

/**
 * A row as the host writes it: with a `payload` it is inserted, or updated member by member where it exists; with `null` it
 * is deleted where it exists. `schema` is `public` when left out. The key member may be left out of the payload.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerRow {
  readonly schema?: string | undefined
  readonly table: string
  readonly key: string
  readonly payload: Readonly<Record<string, unknown>> | null
}

/**
 * The committed bundle, and whether the write initialized the scope.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerBundle extends BundleHeader {
  readonly initialized: boolean
}

interface Addressed {
  readonly row: ServerRow
  readonly table: ServerTable
}

const address = ({ tables }: ServerParts, rows: ReadonlyArray<ServerRow>) =>
  Effect.forEach(rows, (row): Effect.Effect<Addressed, SyncRefused> => {
    const name = `${row.schema ?? "public"}.${row.table}`
    const table = tables.get(name)
    return table === undefined
      ? refused("push_chunk_invalid", `table ${name} is not registered`)
      : Effect.succeed({ row, table })
  })

/** Rows as they would be uploaded by a device that knows the current versions; deletes of nothing are left out. */
const uploads = (
  rows: ReadonlyArray<Addressed>,
  states: ReadonlyMap<number, { readonly rowVersion: number; readonly live: boolean }>
): ReadonlyArray<PushRequestRow> =>
  rows.flatMap(({ row, table }, index): ReadonlyArray<PushRequestRow> => {
    const state = states.get(index)
    const live = state?.live ?? false
    const head = {
      schema: table.schema,
      table: table.table,
      key: { [table.key.column]: row.key },
      base_row_version: state?.rowVersion ?? 0
    }
    if (row.payload === null) return live ? [{ ...head, op: "DELETE" }] : []
    return [{ ...head, op: live ? "UPDATE" : "INSERT", payload: row.payload }]
  })

const staged = Effect.fnUntraced(function*(
  parts: ServerParts,
  scopeId: number,
  rows: ReadonlyArray<Addressed>
): Effect.fn.Return<ReadonlyArray<StagedRow>, SyncRefused | Fault> {
  const states = yield* parts.store.rowStates(scopeId, rows.map(({ row, table }) => ({ table, key: row.key })))
  const decoded = UploadRow.decode(parts.tables, uploads(rows, new Map(states.map((state) => [state.index, state]))))
  const [first] = decoded.refused
  return first === undefined
    ? decoded.staged
    : yield* new SyncRefused({ code: "push_chunk_invalid", message: first.reason, rows: decoded.refused })
})

/**
 * Writes rows of a scope in one transaction that becomes one bundle under the writer's id. An uninitialized scope is
 * initialized by it; a scope that a device is initializing refuses. A write without effect is refused and leaves no trace.
 * Writer ids share the id space of sources.
 *
 * @since 0.1.0
 * @category flows
 */
export const write = (parts: ServerParts) => {
  const { settings, store, uuid } = parts
  return Effect.fnUntraced(function*(
    userId: string,
    writerId: string,
    rows: ReadonlyArray<ServerRow>
  ): Effect.fn.Return<ServerBundle, SyncRefused | Fault> {
    const user = userId.trim()
    const writer = writerId.trim()
    if (user === "" || writer === "") return yield* refused("invalid_request", "user and writer must not be blank")
    const addressed = yield* address(parts, rows)
    const pushId = yield* uuid
    const transaction = store.write(Effect.gen(function*() {
      const at = yield* now
      const known = yield* store.scope(user)
      const state = ScopeState.at(known?.state ?? ScopeState.uninitialized, at)
      const initialized = state._tag === "Uninitialized"
      if (!initialized) yield* ScopeState.admitRead(user, state, at)
      const scope = known === undefined || initialized
        ? yield* store.putScopeState(user, { _tag: "Initialized", sourceId: writer, at })
        : known
      const source = yield* store.source(scope.id, writer)
      const tuple = { sourceId: writer, sourceBundleId: SourceState.nextBundleId(source) }
      yield* SourceState.admitLive(user, writer, source)
      const upload = yield* staged(parts, scope.id, addressed)
      if (upload.length === 0) return yield* refused("push_commit_invalid", "the write has no effect")
      // Staged under a name of its own: what a device has staged for the same tuple must find its number taken.
      const session = yield* store.openPushSession({
        pushId,
        scopeId: scope.id,
        sourceId: pushId,
        sourceBundleId: 1,
        plannedRows: upload.length,
        initializationId: undefined,
        expiresAt: at + settings.pushSessionTtl
      })
      yield* store.stage(session, upload, session.expiresAt)
      const bundle = yield* conclude(parts)(scope, session, tuple, at)
      return { ...bundle, initialized }
    }))
    return yield* announced(parts, user, transaction)
  })
}
