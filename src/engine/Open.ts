/**
 * `open`: takes the database over, makes sure that it has a source and captures what was there before (lifecycle.md §3).
 *
 * @since 0.1.0
 */
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { LocalDataError } from "../contract/SyncError.js"
import { capturePreExisting, checkPreExisting } from "../storage/ChangeCapture.js"
import * as ClientState from "../storage/ClientState.js"
import { canonicaliseKeys } from "../storage/Installation.js"
import * as Outbox from "../storage/Outbox.js"
import * as Sources from "../storage/Sources.js"
import { SyncDatabase } from "../storage/SyncDatabase.js"
import type { DatabaseError } from "./Answers.js"
import * as Session from "./Session.js"
import * as SourceIds from "./SourceIds.js"

/**
 * What `open` may fail with: a row that was there before and cannot be serialised is a `LocalDataError` that names it.
 *
 * @since 0.1.0
 * @category errors
 */
export type OpenError = DatabaseError | LocalDataError

/**
 * Steps 1–5 of lifecycle.md §3, inside a transaction: left-over operation fields, source id, schema, pre-existing rows.
 * `attach` repeats them.
 *
 * @since 0.1.0
 * @category steps
 */
export const prepareState: Effect.Effect<void, SqlError | OpenError, SyncDatabase> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const state = yield* ClientState.read
  const first = state.attachment.sourceId === ""
  if (state.operationLeftOver) yield* ClientState.setOperation({ kind: "none" })
  if (state.attachment.schema === "") yield* ClientState.setAttachment({ schema: db.schema })
  if (first) {
    if (state.attachment.bindingState === "anonymous") {
      const installed = yield* db.tables
      yield* Effect.provideService(
        Effect.zipRight(checkPreExisting(installed), capturePreExisting(installed)),
        SqlClient,
        db.sql
      )
    }
    const sourceId = yield* SourceIds.fresh
    yield* Sources.ensure(sourceId)
    yield* ClientState.setAttachment({ sourceId })
  } else if (!state.source.known || state.source.ownerUserId === "") {
    // A database of the reference does not say whose its source is; as long as it is attached, it is known.
    yield* Sources.ensure(state.attachment.sourceId, state.attachment.userId)
  }
  yield* db.all("UPDATE _sync_apply_state SET apply_mode = 0 WHERE apply_mode <> 0")
})

/**
 * Opens the database: one transaction, no network. Idempotent; a connected session is disconnected by it.
 *
 * @since 0.1.0
 * @category flows
 */
export const open: Effect.Effect<void, OpenError, SyncDatabase | Session.Session> = Effect.gen(function*() {
  const db = yield* SyncDatabase
  const state = yield* db.takeOver((epoch) =>
    Effect.gen(function*() {
      // The first epoch of a database that already has a source: another client has written it.
      if (epoch === 1) {
        yield* Effect.provideService(canonicaliseKeys, SqlClient, db.sql)
        yield* Outbox.doubtCommit
      }
      yield* prepareState
      return yield* ClientState.read
    })
  )
  const attached = state.attachment.bindingState === "attached"
  yield* Session.remember({
    sourceId: state.attachment.sourceId,
    userId: attached ? state.attachment.userId : "",
    initializationId: state.attachment.initializationId,
    connected: false
  })
})
