/**
 * Deciding a structured push conflict and putting the decision into effect (conflicts.md).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type { ConflictDecision, ConflictInput } from "../contract/ConflictResolution.js"
import type { LocalDataError, SourceRecoveryRequired, SourceReplacementDiverged } from "../contract/SyncError.js"
import {
  InvalidConflictResolution,
  LocalDataError as LocalDataFailure,
  PushConflictError,
  PushConflictRetryExhausted
} from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import * as ExactJson from "../protocol/ExactJson.js"
import * as RowPayload from "../protocol/RowPayload.js"
import * as SyncKey from "../protocol/SyncKey.js"
import type * as Wire from "../protocol/Wire.js"
import type { Intent, Resolution } from "../storage/ConflictRows.js"
import * as ConflictRows from "../storage/ConflictRows.js"
import * as DirtyRows from "../storage/DirtyRows.js"
import { onCommitFailure } from "../storage/ForeignKeys.js"
import * as Outbox from "../storage/Outbox.js"
import type { RowRefused } from "../storage/RowApply.js"
import { needsOtherRows } from "../storage/RowApply.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { SyncTable } from "../storage/SyncTable.js"
import { findTable } from "../storage/SyncTable.js"
import type { DatabaseError } from "./Answers.js"
import { refusedRow } from "./Answers.js"
import { effectOf, shapeOf } from "./ConflictRules.js"
import { enterSourceRecovery } from "./Recovery.js"
import * as Session from "./Session.js"

/**
 * What the resolution of a conflict may fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type ConflictError =
  | DatabaseError
  | PushConflictError
  | InvalidConflictResolution
  | PushConflictRetryExhausted
  | SourceRecoveryRequired
  | SourceReplacementDiverged
  | LocalDataError

/**
 * What a resolved round leaves behind: the keys that conflicted (for the retry budget), and how many of the conflicts
 * the resolver was asked about.
 *
 * @since 0.1.0
 * @category models
 */
export interface ResolvedRound {
  readonly keys: ReadonlyArray<string>
  readonly decidedByResolver: number
}

type Environment = SyncDatabase | Session.Session

interface Conflict {
  readonly table: SyncTable
  readonly key: string
  readonly details: Wire.ConflictDetails
  /** The server's row as wire payload text, `undefined` unless it is live. */
  readonly serverPayload: string | undefined
}

const thaw = Effect.flatMap(SyncDatabase, (db) => db.transaction(Outbox.thaw))

const unmatched = (details: Wire.ConflictDetails) =>
  Effect.zipRight(
    thaw,
    raise((operation) =>
      new PushConflictError({
        operation,
        row: { schema: details.schema, table: details.table, key: JSON.stringify(details.key) }
      })
    )
  )

/** The frozen row that the server speaks of (conflicts.md §3). */
const match = Effect.fnUntraced(function*(
  details: Wire.ConflictDetails
): Effect.fn.Return<Conflict, DatabaseError | PushConflictError, Environment> {
  const db = yield* SyncDatabase
  const tables = yield* db.tables
  const table = details.schema === db.schema ? findTable(tables, details.table) : undefined
  const key = table === undefined ? undefined : SyncKey.fromWire(table.key.name, table.keyKind, details.key)
  if (table === undefined || key === undefined || Either.isLeft(key)) return yield* unmatched(details)
  const serverPayload = shapeOf(details) === "live" ? ExactJson.stringify(details.server_row) : undefined
  return { table, key: key.right, details, serverPayload }
})

/** What names a row within a round. */
const idOf = ({ key, table }: Conflict): string => `${table.name} ${key}`

/** The newest intents of the conflicting rows, one statement a table; rows that are not frozen are left out. */
const intentsOf = Effect.fnUntraced(function*(
  conflicts: ReadonlyArray<Conflict>
): Effect.fn.Return<ReadonlyMap<string, Intent>, SqlError, SyncDatabase> {
  const found = new Map<string, Intent>()
  for (const table of new Set(conflicts.map((conflict) => conflict.table))) {
    const ofTable = conflicts.filter((conflict) => conflict.table === table)
    const intents = yield* ConflictRows.intents(table, ofTable.map(({ key }) => key))
    for (const conflict of ofTable) {
      const intent = intents.get(conflict.key)
      if (intent !== undefined) found.set(idOf(conflict), intent)
    }
  }
  return found
})

const decodeFailed = (conflict: Conflict, problem: RowPayload.PayloadProblem) =>
  Effect.zipRight(
    thaw,
    raise((operation) =>
      new LocalDataFailure({
        operation,
        code: problem.code,
        row: { schema: conflict.details.schema, table: conflict.table.name, key: conflict.key },
        ...(problem.column === undefined ? {} : { column: problem.column })
      })
    )
  )

const inputOf = Effect.fnUntraced(function*(
  conflict: Conflict,
  intent: Intent
): Effect.fn.Return<ConflictInput, LocalDataError | DatabaseError, Environment> {
  const { details, serverPayload, table } = conflict
  const local = intent.row === undefined ? undefined : RowPayload.decodeLocal(table.columns, intent.row)
  if (local !== undefined && Either.isLeft(local)) return yield* decodeFailed(conflict, local.left)
  const server = serverPayload === undefined ? undefined : RowPayload.decodeWire(table.columns, serverPayload)
  if (server !== undefined && Either.isLeft(server)) return yield* decodeFailed(conflict, server.left)
  const key = Either.getOrElse(SyncKey.localValue(table.key.name, conflict.key), () => "")
  return {
    schema: details.schema,
    table: table.name,
    key: table.keyKind === "uuid" ? Uint8Array.from(Buffer.from(key, "hex")) : key,
    localOp: intent.op,
    localRow: local?.right ?? null,
    baseRowVersion: intent.base,
    server: { shape: shapeOf(details), rowVersion: details.server_row_version, row: server?.right ?? null }
  }
})

/** Nothing to decide: both sides want the same (conflicts.md §2.4). */
const isSettled = (conflict: Conflict, intent: Intent): boolean => {
  if (intent.op === "DELETE") return conflict.serverPayload === undefined
  if (conflict.serverPayload === undefined || intent.row === undefined) return false
  const local = RowPayload.localToWire(conflict.table.columns, intent.row)
  return Either.isRight(local) &&
    RowPayload.equivalentWire(conflict.table.columns, local.right, conflict.serverPayload)
}

const invalid = (
  reason: InvalidConflictResolution["reason"],
  conflict: ConflictInput,
  resolution: unknown,
  cause?: unknown
) =>
  Effect.zipRight(
    thaw,
    raise((operation) =>
      new InvalidConflictResolution({
        operation,
        reason,
        conflict,
        resolution,
        ...(cause === undefined ? {} : { cause })
      })
    )
  )

const decisionTags: ReadonlySet<unknown> = new Set(["AcceptServer", "KeepLocal", "Recreate", "KeepMerged"])

const isDecision = (value: unknown): value is ConflictDecision =>
  typeof value === "object" && value !== null && "_tag" in value && decisionTags.has(value._tag)

const ask = Effect.fnUntraced(function*(
  input: ConflictInput
): Effect.fn.Return<ConflictDecision, InvalidConflictResolution | DatabaseError, Environment> {
  const { resolver } = yield* Session.memory
  // A resolver may fail with anything.
  // @effect-diagnostics-next-line anyUnknownInErrorContext:off
  const exit = yield* Effect.exit(Effect.suspend(() => resolver(input)))
  if (Exit.isFailure(exit)) {
    if (Cause.isInterrupted(exit.cause)) return yield* Effect.interrupt
    return yield* invalid("resolver_failed", input, undefined, Cause.squash(exit.cause))
  }
  const decision: unknown = exit.value
  return isDecision(decision) ? decision : yield* invalid("no_decision", input, decision)
})

/** Resolvers are written by hosts, in JavaScript too: what SQLite could not hold is no row. */
const isColumnValue = (value: unknown): boolean =>
  value === null || typeof value === "string" || value instanceof Uint8Array ||
  (typeof value === "number" && Number.isFinite(value)) ||
  (typeof value === "bigint" && BigInt.asIntN(64, value) === value)

/** A merged row with lowercase member names, or what is wrong with it (conflicts.md §4). */
const mergedRow = (
  table: SyncTable,
  key: ConflictInput["key"],
  row: unknown
): Either.Either<RowPayload.Row, "payload_not_object" | "payload_columns" | "payload_key"> => {
  if (typeof row !== "object" || row === null || Array.isArray(row)) return Either.left("payload_not_object")
  const members = Object.entries(row).map(([name, value]) => [name.toLowerCase(), value] as const)
  const names = new Set(members.map(([name]) => name))
  if (names.size !== members.length || members.length !== table.columns.length) return Either.left("payload_columns")
  if (!table.columns.every((column) => names.has(column.name))) return Either.left("payload_columns")
  if (!members.every(([, value]) => isColumnValue(value))) return Either.left("payload_not_object")
  const normal: Record<string, RowPayload.ColumnValue> = Object.fromEntries(members)
  const merged = normal[table.key.name]
  const same = merged instanceof Uint8Array && key instanceof Uint8Array
    ? Buffer.compare(merged, key) === 0
    : merged === key
  return same ? Either.right(normal) : Either.left("payload_key")
}

interface Decided {
  readonly conflict: Conflict
  readonly intent: Intent
  readonly resolution: Resolution
  readonly byResolver: boolean
}

const decide = Effect.fnUntraced(function*(
  conflict: Conflict,
  intent: Intent
): Effect.fn.Return<Decided, ConflictError, Environment> {
  const { details, key, serverPayload, table } = conflict
  const settled = isSettled(conflict, intent)
  const input = yield* inputOf(conflict, intent)
  const decision: ConflictDecision = settled ? { _tag: "AcceptServer" } : yield* ask(input)
  const effect = effectOf(intent.op, input.server.shape, decision._tag)
  if (effect === undefined) return yield* invalid("not_allowed", input, decision)
  let payload = effect.row === "take_server" ? serverPayload : undefined
  if (decision._tag === "KeepMerged") {
    const merged = mergedRow(table, input.key, decision.row)
    if (Either.isLeft(merged)) return yield* invalid(merged.left, input, decision)
    const checked = RowPayload.checkRow(table.columns, merged.right)
    if (Either.isLeft(checked)) return yield* invalid("payload_not_object", input, decision)
    payload = RowPayload.encodeWire(table.columns, checked.right)
  }
  return {
    conflict,
    intent,
    byResolver: !settled,
    resolution: {
      table,
      key,
      serverVersion: details.server_row_version,
      row: effect.row === "delete" ? "delete" : effect.row === "leave" ? "leave" : "write",
      payload,
      state: effect.state,
      requeue: effect.requeue
    }
  }
})

const sameIntent = (left: Intent, right: Intent | undefined): boolean =>
  right !== undefined && left.op === right.op && left.base === right.base && left.row === right.row

const maxAsks = 3

const exhausted = Effect.gen(function*() {
  const db = yield* SyncDatabase
  yield* thaw
  const remainingDirtyCount = yield* db.read(DirtyRows.count)
  return yield* raise((operation) => new PushConflictRetryExhausted({ operation, retryCount: 2, remainingDirtyCount }))
})

/**
 * Resolves all conflicts of one answer in one transaction. Whatever goes wrong after the rows were found, the upload is
 * thawed, so that every local intent is an ordinary pending row again (conflicts.md §8). `RowRefused` means that the
 * decided row does not fit to the rows here but may fit to the server's, which have not been pulled yet.
 *
 * @since 0.1.0
 * @category flows
 */
export const resolve = Effect.fnUntraced(function*(
  answered: ReadonlyArray<Wire.ConflictDetails>
): Effect.fn.Return<ResolvedRound, ConflictError | RowRefused, Environment> {
  const db = yield* SyncDatabase
  const conflicts: Array<Conflict> = []
  for (const details of answered) conflicts.push(yield* match(details))

  const undecided = new Map<string, { readonly conflict: Conflict; readonly intent: Intent }>()
  const decided = new Map<string, Decided>()
  const intents = yield* db.read(intentsOf(conflicts))
  for (const conflict of conflicts) {
    const intent = intents.get(idOf(conflict))
    if (intent === undefined) return yield* unmatched(conflict.details)
    // Versions of a row never fall on a server that has kept its history.
    if (conflict.details.server_row_version < intent.frozenBase) {
      return yield* enterSourceRecovery("source_sequence_out_of_order")
    }
    undecided.set(idOf(conflict), { conflict, intent })
  }

  for (let asked = 0; asked < maxAsks; asked++) {
    for (const [id, { conflict, intent }] of undecided) decided.set(id, yield* decide(conflict, intent))
    undecided.clear()
    const changed = yield* db.authoritative(putIntoEffect([...decided.values()]), onCommitFailure).pipe(
      Effect.catchTags({
        RowRefused: (refused) =>
          Effect.flatMap(
            thaw,
            (): Effect.Effect<never, RowRefused | LocalDataError, SyncDatabase> =>
              needsOtherRows(refused) ? Effect.fail(refused) : refusedRow(refused)
          ),
        LocalDataError: (error) => Effect.zipRight(thaw, Effect.fail(error))
      })
    )
    if (changed.length === 0) {
      const tables = [...new Set(conflicts.map((conflict) => conflict.table.name))]
      yield* Session.announce({ tables, reason: "conflict" })
      return {
        keys: [...decided.keys()],
        decidedByResolver: [...decided.values()].filter((one) => one.byResolver).length
      }
    }
    for (const { conflict, intent } of changed) undecided.set(idOf(conflict), { conflict, intent })
  }
  return yield* exhausted
})

/** Writes the decisions, unless the host has edited one of the rows meanwhile: those come back with their new intent. */
const putIntoEffect = Effect.fnUntraced(function*(decided: ReadonlyArray<Decided>): Effect.fn.Return<
  ReadonlyArray<{ readonly conflict: Conflict; readonly intent: Intent }>,
  SqlError | LocalDataError | Effect.Effect.Error<ReturnType<typeof ConflictRows.resolve>>,
  SyncDatabase
> {
  const newest = yield* intentsOf(decided.map(({ conflict }) => conflict))
  const changed: Array<{ readonly conflict: Conflict; readonly intent: Intent }> = []
  for (const { conflict, intent } of decided) {
    const now = newest.get(idOf(conflict))
    if (now !== undefined && !sameIntent(intent, now)) changed.push({ conflict, intent: now })
  }
  if (changed.length === 0) yield* ConflictRows.resolve(decided.map((one) => one.resolution))
  return changed
})
