import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import * as fs from "node:fs"
import * as Errors from "oversqlite"
import { byTable, clientWins, createSyncClient, keepMerged, serverWins } from "oversqlite/promise"
import type { SyncClient } from "oversqlite/promise"
import { answered, before, lost, refused, retryAfter } from "../engine/support/Network.js"
import { secondsPass, turn, whileTimePasses } from "../engine/support/Time.js"
import { makeWorld } from "../engine/support/World.js"
import {
  applicationFile,
  attachedClient,
  connection,
  insert,
  optionsFor,
  plainClient,
  rejection
} from "./support/PlainClient.js"

const noPending = { pendingRowCount: 0, hasPendingSyncData: false, blocksDetach: false }

describe("every operation as a promise [errors.md §2]", () => {
  it.scoped("answers with the engine's results", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { database, filename } = yield* applicationFile
      insert(database, "u1")
      const client = yield* plainClient(world, filename)
      yield* Effect.promise(async () => {
        assert.strictEqual(await client.open(), undefined)
        assert.deepStrictEqual(await client.pendingSyncStatus(), {
          pendingRowCount: 1,
          hasPendingSyncData: true,
          blocksDetach: false
        })
        assert.deepStrictEqual(await client.attach("ann"), {
          status: "connected",
          outcome: "seeded_from_local",
          syncStatus: {
            authority: "pending_local_seed",
            pending: { pendingRowCount: 2, hasPendingSyncData: true, blocksDetach: true },
            lastBundleSeqSeen: 0
          }
        })
        const status = { authority: "authoritative_materialized", pending: noPending, lastBundleSeqSeen: 1 } as const
        assert.deepStrictEqual(await client.pushPending(), {
          outcome: "committed",
          status,
          requeuedRowCount: 0,
          conflictCount: 0,
          discardedByServerCount: 0
        })
        assert.deepStrictEqual(await client.pullToStable(), {
          outcome: "already_at_target",
          status,
          ignoredRowCount: 0
        })
        assert.deepStrictEqual(await client.sync(), {
          pushOutcome: "no_change",
          remoteOutcome: "already_at_target",
          status
        })
        assert.deepStrictEqual(await client.syncStatus(), status)
        assert.strictEqual(await client.lastBundleSeqSeen(), 1)
        const rebuilt = await client.rebuild()
        assert.strictEqual(rebuilt.outcome, "applied_snapshot")
        assert.deepStrictEqual(rebuilt.restore, { bundleSeq: 1, rowCount: 1 })
        const inspection = await client.inspect()
        assert.strictEqual(inspection.instance, "connected")
        assert.deepStrictEqual(await client.sourceInfo(), {
          currentSourceId: inspection.attachment.sourceId,
          rebuildRequired: false,
          sourceRecoveryRequired: false
        })
        assert.deepStrictEqual(await client.pushTransfer(), {
          sessionsCreated: 1,
          chunksUploaded: 1,
          committedBundleChunksRead: 1
        })
        assert.deepStrictEqual(await client.snapshotTransfer(), { sessionsCreated: 1, chunksFetched: 1 })
        await client.resetTransfer("push")
        assert.strictEqual((await client.pushTransfer()).sessionsCreated, 0)
        await client.pauseUploads()
        assert.strictEqual((await client.pushPending()).outcome, "skipped_paused")
        await client.resumeUploads()
        await client.pauseDownloads()
        assert.strictEqual((await client.pullToStable()).outcome, "skipped_paused")
        await client.resumeDownloads()
        insert(database, "u2")
        assert.deepStrictEqual(await client.detach(), { outcome: "blocked_unsynced_data", pendingRowCount: 1 })
        const left = await client.syncThenDetach()
        assert.isTrue(left.isSuccess)
        assert.strictEqual(left.syncRounds, 1)
        assert.deepStrictEqual(database.prepare("SELECT count(*) AS n FROM users").get(), { n: 0 })
        await client.attach("ann", { localRows: "refuse" })
        assert.deepStrictEqual(database.prepare("SELECT count(*) AS n FROM users").get(), { n: 2 })
        await client.uninstallSync()
        assert.deepStrictEqual(database.prepare("SELECT count(*) AS n FROM users").get(), { n: 2 })
        assert.deepStrictEqual(
          database.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name LIKE '\\_sync\\_%' ESCAPE '\\'").get(),
          { n: 0 }
        )
      })
    }))

  it.scoped("gives waits in milliseconds, in results and in errors", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { filename } = yield* applicationFile
      const client = yield* plainClient(world, filename, { retryPolicy: { enabled: false } })
      yield* world.network.fault(
        "connect",
        answered(200, { resolution: "retry_later", retry_after_seconds: 7, lease_expires_at: "2026-01-01T00:00:00Z" })
      )
      yield* Effect.promise(async () => {
        await client.open()
        assert.deepStrictEqual(await client.attach("ann"), { status: "retry_later", retryAfterMs: 7000 })
        await client.attach("ann")
      })
      yield* world.network.fault("pull", retryAfter(503, 20))
      const error = yield* rejection(() => client.pullToStable())
      assert.instanceOf(error, Errors.TransportError)
      assert.strictEqual(error.retryAfterMs, 20_000)
    }))

  it.scoped("uses the source ids and the limits it is given", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client, database } = yield* attachedClient(world, {
        generateSourceId: () => "the-first-source",
        uploadLimit: 1
      })
      insert(database, "u1")
      insert(database, "u2")
      yield* Effect.promise(async () => {
        assert.strictEqual((await client.sourceInfo()).currentSourceId, "the-first-source")
        await client.sync()
        assert.strictEqual((await client.pushTransfer()).chunksUploaded, 2)
      })
    }))
})

describe("errors [errors.md §1]", () => {
  it.scoped("are the very errors of the catalogue", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { filename } = yield* applicationFile
      const client = yield* plainClient(world, filename, { retryPolicy: { enabled: true, maxAttempts: 2 } })
      const early = yield* rejection(() => client.sync())
      assert.instanceOf(early, Errors.OpenRequired)
      assert.instanceOf(early, Error)
      assert.deepStrictEqual(
        { tag: early._tag, code: early.code, action: early.action, operation: early.operation, again: early.retryable },
        { tag: "OpenRequired", code: "open_required", action: "open", operation: "sync", again: false }
      )
      assert.instanceOf(yield* rejection(() => client.attach(" ")), Errors.InvalidArgumentError)
      yield* Effect.promise(() => client.open())
      const anonymous = yield* rejection(() => client.pullToStable())
      assert.instanceOf(anonymous, Errors.AttachRequired)
      assert.isTrue(Errors.isLifecyclePrecondition(anonymous))
      yield* world.network.fault("capabilities", lost, 2)
      const unreachable = yield* whileTimePasses(rejection(() => client.attach("ann")))
      assert.instanceOf(unreachable, Errors.RetryExhausted)
      assert.strictEqual(unreachable.attempts, 2)
      assert.instanceOf(unreachable.cause, Errors.TransportError)
      assert.strictEqual(unreachable.cause.code, "connection")
    }))

  it.scoped("of the construction reject the factory and leave nothing behind", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { filename } = yield* applicationFile
      const options = yield* optionsFor(world, filename)
      const refusedBy = (more: Partial<typeof options>) => rejection(() => createSyncClient({ ...options, ...more }))
      const noSchema = yield* refusedBy({ schema: " " })
      assert.instanceOf(noSchema, Errors.ConfigurationError)
      assert.strictEqual(noSchema.code, "schema_missing")
      assert.instanceOf(yield* refusedBy({ tables: [{ name: "nowhere", key: "id" }] }), Errors.ConfigurationError)
      assert.instanceOf(yield* refusedBy({ server: "ftp://localhost" }), Errors.ConfigurationError)
      for (const database of ["", `${filename}/no/folder.db`]) {
        const unopened = yield* refusedBy({ database })
        assert.instanceOf(unopened, Errors.StorageError)
        assert.deepStrictEqual([unopened.code, unopened.operation], ["io", "construct"])
      }
      const client = yield* plainClient(world, filename)
      assert.instanceOf(yield* refusedBy({}), Errors.DatabaseAlreadyOwned)
      yield* Effect.promise(() => client.dispose())
      yield* plainClient(world, filename)
    }))

  it.scoped("a second operation fails at once if the client is told so", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world, { onBusy: "fail" })
      const gate = yield* Deferred.make<void>()
      yield* world.network.fault("pull", before(Deferred.await(gate)))
      const first = client.pullToStable()
      const busy = yield* rejection(() => client.sync())
      assert.instanceOf(busy, Errors.SyncOperationInProgress)
      assert.strictEqual(busy.runningOperation, "pullToStable")
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.promise(() => first)
    }))
})

describe("the application's own connection [DESIGN D14]", () => {
  it.scoped("writes to the same file while the client works in the background", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const a = yield* attachedClient(world, { applyRows: 8 })
      const b = yield* attachedClient(world)
      const loops = [a.client.run(), b.client.run()]
      for (let written = 0; written < 60; written++) {
        insert(a.database, `a${written}`)
        insert(b.database, `b${written}`)
        if (written % 3 === 0) a.database.prepare("UPDATE users SET score = score + 1 WHERE id = ?").run(`a${written}`)
        if (written % 5 === 0) b.database.prepare("DELETE FROM users WHERE id = ?").run(`b${written}`)
        if (written % 7 === 0) yield* secondsPass(1)
        else yield* turn
      }
      yield* secondsPass(6)
      const rows = (database: typeof a.database) => database.prepare("SELECT * FROM users ORDER BY id").all()
      assert.strictEqual(rows(a.database).length, 60 + 48)
      assert.deepStrictEqual(rows(b.database), rows(a.database))
      const pending = yield* Effect.promise(() => a.client.pendingSyncStatus())
      assert.deepStrictEqual(pending, noPending)
      yield* Effect.promise(() => Promise.all([a.client.dispose(), b.client.dispose()]))
      yield* Effect.promise(() => Promise.all(loops))
    }))
})

const isAbort = (error: unknown): error is DOMException => error instanceof DOMException && error.name === "AbortError"

/** A client whose pull does not come back. */
const hanging = Effect.gen(function*() {
  const world = yield* makeWorld()
  const { client, database, filename } = yield* attachedClient(world)
  const gate = yield* Deferred.make<void>()
  yield* world.network.fault("pull", before(Deferred.await(gate)))
  return { world, client, database, filename, gate }
})

describe("AbortSignal [errors.md, general rule 5]", () => {
  it.scoped("interrupts a call that waits for its turn and leaves the running one alone", () =>
    Effect.gen(function*() {
      const { client, gate } = yield* hanging
      const running = client.pullToStable()
      const controller = new AbortController()
      const waiting = rejection(() => client.sync({ signal: controller.signal }))
      const fiber = yield* Effect.fork(waiting)
      yield* turn
      controller.abort()
      const error = yield* fiber
      assert.isTrue(isAbort(error))
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Effect.promise(() => running)).outcome, "already_at_target")
    }))

  it.scoped("interrupts a call that runs; durable state alone says how to go on", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client, database } = yield* attachedClient(world)
      insert(database, "u1")
      const reached = yield* Deferred.make<void>()
      yield* world.network.fault(
        "push commit",
        before(Effect.zipRight(Deferred.succeed(reached, undefined), Effect.never))
      )
      const controller = new AbortController()
      const fiber = yield* Effect.fork(rejection(() => client.sync({ signal: controller.signal })))
      yield* Deferred.await(reached)
      controller.abort(new Error("no time left"))
      const error = yield* fiber
      assert.isTrue(isAbort(error))
      assert.strictEqual(isAbort(error) && error.cause instanceof Error && error.cause.message, "no time left")
      const { running } = (yield* Effect.promise(() => client.status().next())).value
      assert.strictEqual(running, undefined)
      assert.strictEqual((yield* Effect.promise(() => client.sync())).pushOutcome, "committed")
    }))

  it.scoped("that has fired already starts nothing", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world)
      yield* world.network.asked
      assert.isTrue(isAbort(yield* rejection(() => client.sync({ signal: AbortSignal.abort() }))))
      assert.deepStrictEqual(yield* world.network.asked, [])
    }))

  it.scoped("that fires after the end changes nothing", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world)
      const controller = new AbortController()
      yield* Effect.promise(() => client.sync({ signal: controller.signal }))
      controller.abort()
      yield* Effect.promise(() => client.sync())
    }))
})

describe("dispose and close", () => {
  it.scoped("dispose interrupts what runs and waits, and the file can be opened by another client at once", () =>
    Effect.gen(function*() {
      const { client, filename, world } = yield* hanging
      const calls = [() => client.pullToStable(), () => client.sync(), () => client.attach("ann")]
      const fibers = yield* Effect.forEach(calls, (call) => Effect.fork(rejection(call)))
      const background = client.run()
      yield* turn
      yield* Effect.promise(() => client.dispose())
      for (const fiber of fibers) assert.isTrue(isAbort(yield* fiber))
      yield* Effect.promise(() => background)
      const next = yield* plainClient(world, filename)
      yield* Effect.promise(async () => {
        await next.open()
        await next.attach("ann")
        await next.sync()
      })
    }))

  it.scoped("afterwards every operation rejects with ClientClosed, and what never rejects does not", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client } = yield* attachedClient(world)
      yield* Effect.promise(() => client.dispose())
      yield* Effect.promise(() => client.dispose())
      const operations = {
        open: () => client.open(),
        attach: () => client.attach("ann"),
        detach: () => client.detach(),
        pendingSyncStatus: () => client.pendingSyncStatus(),
        syncStatus: () => client.syncStatus(),
        syncThenDetach: () => client.syncThenDetach(),
        uninstallSync: () => client.uninstallSync(),
        pushPending: () => client.pushPending(),
        pullToStable: () => client.pullToStable(),
        sync: () => client.sync(),
        rebuild: () => client.rebuild(),
        lastBundleSeqSeen: () => client.lastBundleSeqSeen(),
        sourceInfo: () => client.sourceInfo(),
        inspect: () => client.inspect()
      }
      for (const [name, operation] of Object.entries(operations)) {
        const error = yield* rejection(operation)
        assert.instanceOf(error, Errors.ClientClosed)
        assert.strictEqual(error.operation, name)
      }
      yield* Effect.promise(async () => {
        await client.run()
        await client.notifyLocalWrite()
        await client.notifyOnline()
        await client.pauseUploads()
        await client.resumeUploads()
        await client.pauseDownloads()
        await client.resumeDownloads()
        await client.setResolver(serverWins)
        await client.resetTransfer("snapshot")
        await client.pushTransfer()
        await client.snapshotTransfer()
        await client.close()
      })
    }))

  it.scoped("close waits for the operation that runs", () =>
    Effect.gen(function*() {
      const { client, filename, gate, world } = yield* hanging
      const running = client.pullToStable()
      yield* turn
      let closed = false
      const closing = client.close().then(() => {
        closed = true
      })
      yield* secondsPass(3)
      assert.isFalse(closed)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Effect.promise(() => running)).outcome, "already_at_target")
      yield* Effect.promise(() => closing)
      yield* plainClient(world, filename)
    }))

  it.scoped("dispose closes the file, and Symbol.asyncDispose is the same", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { database, filename } = yield* applicationFile
      const client = yield* plainClient(world, filename)
      yield* Effect.promise(() => client.open())
      database.close()
      assert.isTrue(fs.existsSync(`${filename}-wal`))
      yield* Effect.promise(() => client[Symbol.asyncDispose]())
      // The last connection that closes takes the log along.
      assert.isFalse(fs.existsSync(`${filename}-wal`))
      const again = yield* connection(filename)
      assert.deepStrictEqual(again.prepare("SELECT engine_epoch FROM _sync_engine_state").get(), { engine_epoch: 1 })
    }))
})

describe("conflict resolvers [conflicts.md §2]", () => {
  /** The client has changed a row that the server has changed, too. */
  const conflicting = (resolver: Parameters<SyncClient["setResolver"]>[0]) =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { client, database } = yield* attachedClient(world)
      insert(database, "u1")
      yield* Effect.promise(() => client.sync())
      yield* world.write([{ table: "users", key: "u1", payload: { name: "Server", email: null, score: 2 } }])
      database.prepare("UPDATE users SET name = 'Device' WHERE id = 'u1'").run()
      yield* Effect.promise(() => client.setResolver(resolver))
      const nameNow = () => Object(database.prepare("SELECT name FROM users").get()).name
      return { client, nameNow }
    })

  it.scoped.each(
    [
      ["serverWins", serverWins, "Server"],
      ["clientWins", clientWins, "Device"],
      ["byTable", byTable({ users: clientWins }), "Device"],
      ["byTable, another table", byTable({ posts: clientWins }), "Server"],
      ["an async one that merges", async ({ localRow, server }: Errors.ConflictInput) => {
        await new Promise<void>((resolve) => setImmediate(resolve))
        return keepMerged({ ...server.row, name: `${server.row?.["name"]} + ${localRow?.["name"]}` })
      }, "Server + Device"]
    ] as const
  )("%s", ([, resolver, expected]) =>
    Effect.gen(function*() {
      const { client, nameNow } = yield* conflicting(resolver)
      yield* Effect.promise(() => client.sync())
      assert.strictEqual(nameNow(), expected)
    }))

  it.scoped.each(
    [
      ["throws", () => {
        throw new RangeError("undecided")
      }],
      ["rejects", () => Promise.reject(new RangeError("undecided"))]
    ] as const
  )("one that %s fails the push, names the cause and loses nothing", ([, resolver]) =>
    Effect.gen(function*() {
      const { client, nameNow } = yield* conflicting(resolver)
      const error = yield* rejection(() => client.sync())
      assert.instanceOf(error, Errors.InvalidConflictResolution)
      assert.strictEqual(error.reason, "resolver_failed")
      assert.instanceOf(error.cause, RangeError)
      assert.strictEqual(nameNow(), "Device")
      assert.strictEqual((yield* Effect.promise(() => client.pendingSyncStatus())).pendingRowCount, 1)
      yield* Effect.promise(() => client.setResolver(clientWins))
      yield* Effect.promise(() => client.sync())
      assert.strictEqual(nameNow(), "Device")
    }))
})

describe("tokens [lifecycle.md §4.5, retry-and-loops.md §2]", () => {
  it.scoped("are asked for with every request, and anew after a 401", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const asked: Array<boolean> = []
      const { client } = yield* attachedClient(world, {
        token: ({ forceRefresh, signal }) => {
          assert.isFalse(signal.aborted)
          asked.push(forceRefresh)
          return Promise.resolve({ token: "ann", userId: "ann" })
        }
      })
      asked.length = 0
      yield* world.network.fault("pull", refused(401, "authentication_failed"))
      yield* Effect.promise(() => client.pullToStable())
      assert.deepStrictEqual(asked, [false, true])
    }))

  it.scoped("of another user are refused before anything is sent", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      let userId = "ann"
      const { client } = yield* attachedClient(world, { token: () => ({ token: userId, userId }) })
      userId = "bob"
      yield* world.network.asked
      assert.instanceOf(yield* rejection(() => client.sync()), Errors.CredentialsMismatch)
      assert.deepStrictEqual(yield* world.network.asked, [])
    }))

  it.scoped.each(
    [
      ["throws", () => {
        throw new Error("signed out")
      }],
      ["rejects", () => Promise.reject(new Error("signed out"))],
      ["delivers nothing", () => JSON.parse("{}")]
    ] as const
  )("a provider that %s is a TransportError with code credentials", ([, token]) =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const { filename } = yield* applicationFile
      const client = yield* plainClient(world, filename, { token })
      yield* Effect.promise(() => client.open())
      const error = yield* rejection(() => client.attach("ann"))
      assert.instanceOf(error, Errors.TransportError)
      assert.deepStrictEqual([error.code, error.action], ["credentials", "reauthenticate"])
      assert.instanceOf(error.cause, Error)
    }))
})
