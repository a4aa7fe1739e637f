/**
 * Ids under which databases write (client-state.md §2.1).
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Sources from "../storage/Sources.js"
import type { SyncDatabase } from "../storage/SyncDatabase.js"

/**
 * Makes candidates for source ids; random UUIDs unless replaced. A client takes it from the context it is built in.
 *
 * @since 0.1.0
 * @category context
 */
export class SourceIdGenerator extends Context.Reference<SourceIdGenerator>()("oversqlite/SourceIdGenerator", {
  defaultValue: (): Effect.Effect<string> => Effect.sync(() => globalThis.crypto.randomUUID())
}) {}

const maxCandidates = 100

/**
 * A source id that this database has never known. A generator that gives none in 100 tries is broken: a defect.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fresh: Effect.Effect<string, SqlError, SyncDatabase> = Effect.gen(function*() {
  const generate = yield* SourceIdGenerator
  const known = new Set((yield* Sources.all).map((source) => source.sourceId))
  for (let tries = 0; tries < maxCandidates; tries++) {
    const candidate = (yield* generate).trim()
    if (candidate !== "" && !known.has(candidate)) return candidate
  }
  return yield* Effect.dieMessage("the source id generator gives no fresh id")
})
