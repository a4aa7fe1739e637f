import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Inspection } from "oversqlite"
import { counting } from "../storage/support/database.js"
import { dump } from "./support/Database.js"
import { inspectedAs, operationNames, outcomeOf, shortOf } from "./support/Operations.js"
import { durableState, states } from "./support/States.js"
import type { StateName } from "./support/States.js"
import { turn } from "./support/Time.js"
import { makeWorld } from "./support/World.js"

const names = Object.keys(states) as ReadonlyArray<StateName>

const gates: ReadonlySet<string> = new Set(["OR", "AR", "DTI", "SRR", "RBR", "PPR", "DSR"])

/** The words of `durableState`, told by `inspect` alone. */
const wordsOf = ({ attachment, dirtyRowCount, operation, outbox }: Inspection): string =>
  [
    attachment.bindingState,
    ...(operation.kind === "none" ? [] : [operation.kind]),
    ...(attachment.rebuildRequired ? ["gate"] : []),
    ...(outbox.state === "none" ? [] : [outbox.state]),
    ...(dirtyRowCount > 0 ? ["dirty"] : []),
    ...(attachment.initializationPending ? ["seed"] : [])
  ].join(" ")

/** What the rows of the states hold: none of it may be told. */
const secrets = ["Ann", "Bob", "Wire", "Later", "Local", "ann@x", "bob@x", "\"u1\"", "\"u2\"", "\"w1\""]

describe("inspect [errors.md §2]", () => {
  for (const name of names) {
    it.scoped(`${name}: the whole durable state, serialisable, without row contents, and changing nothing`, () =>
      Effect.gen(function*() {
        yield* turn
        const device = yield* states[name].build(yield* makeWorld())
        const before = yield* dump(device)
        const inspection = yield* device.sync.inspect
        assert.deepStrictEqual(yield* dump(device), before)
        assert.strictEqual(wordsOf(inspection), yield* durableState(device))
        const text = JSON.stringify(inspection)
        assert.deepStrictEqual(JSON.parse(text), inspection)
        assert.deepStrictEqual(secrets.filter((secret) => text.includes(secret)), [])
        assert.deepStrictEqual(inspection.tables, [
          { table: "files", configured: true },
          { table: "posts", configured: true },
          { table: "users", configured: true }
        ])
        const frozen = yield* device.run("SELECT count(*) AS n FROM _sync_outbox_rows")
        assert.strictEqual(inspection.outbox.rowCount, frozen[0]?.["n"])
      }))

    it.scoped(`${name}: its refusals are exactly what the operations end with`, () =>
      Effect.gen(function*() {
        yield* turn
        const device = yield* states[name].build(yield* makeWorld())
        const { refusals } = yield* device.sync.inspect
        const announced = new Map(refusals.map(({ operation, tag }) => [operation, shortOf(tag)] as const))
        const refused = operationNames.filter((operation) => {
          const inspected = inspectedAs(operation)
          return refusals.some((refusal) => refusal.operation === inspected)
        })
        // Refused operations change nothing, so they can be tried one after the other.
        const before = yield* dump(device)
        for (const operation of refused) {
          const outcome = yield* outcomeOf(operation, device)
          assert.isTrue(gates.has(outcome), `${operation}: ${outcome}`)
          assert.strictEqual(outcome, [...announced].find(([one]) => one === inspectedAs(operation))?.[1])
        }
        assert.deepStrictEqual(yield* dump(device), before)
      }))
  }

  it.scoped("tells the instance: constructed, opened, connected; and ends with close", () =>
    Effect.gen(function*() {
      const world = yield* makeWorld()
      const device = yield* world.device()
      const instance = Effect.map(device.sync.inspect, (inspection) => inspection.instance)
      assert.strictEqual(yield* instance, "constructed")
      yield* device.sync.open
      assert.strictEqual(yield* instance, "opened")
      yield* device.sync.attach("ann")
      assert.strictEqual(yield* instance, "connected")
      yield* device.sync.open
      assert.strictEqual(yield* instance, "opened")
      yield* device.sync.close
      assert.strictEqual((yield* Effect.flip(device.sync.inspect))._tag, "ClientClosed")
    }))

  it.scoped("names operation, reason, replacement and target", () =>
    Effect.gen(function*() {
      const recovering = yield* states["source recovery + outbox prepared"].build(yield* makeWorld())
      const { operation, outbox, source } = yield* recovering.sync.inspect
      assert.deepInclude(operation, { kind: "source_recovery", reason: "source_sequence_out_of_order" })
      assert.notStrictEqual(operation.replacementSourceId ?? "", "")
      assert.deepStrictEqual(outbox, { state: "prepared", sourceBundleId: 2, rowCount: 2 })
      assert.deepStrictEqual(source, { nextSourceBundleId: 2, knownSources: 2 })

      const committed = yield* states["outbox committed_remote"].build(yield* makeWorld())
      assert.deepStrictEqual((yield* committed.sync.inspect).outbox, {
        state: "committed_remote",
        sourceBundleId: 2,
        rowCount: 2,
        remoteBundleSeq: 3
      })

      const replacing = yield* states["opened, anonymous + remote replace"].build(yield* makeWorld())
      const replace = yield* replacing.sync.inspect
      assert.deepStrictEqual(replace.operation, { kind: "remote_replace", targetUserId: "ann" })
      assert.isTrue(replace.stagedSnapshotRows)
    }))
})

describe("a status read is one read of the last committed state [lifecycle.md §1.3]", () => {
  for (const name of ["pendingSyncStatus", "syncStatus", "lastBundleSeqSeen", "sourceInfo", "inspect"] as const) {
    it.scoped(`${name}: one statement, so that no write can come between its parts`, () =>
      Effect.gen(function*() {
        const device = yield* states["dirty only"].build(yield* makeWorld())
        const [, { statements, transactions }] = yield* counting<unknown, unknown, never>(device.sync[name])
        assert.lengthOf(statements, 1)
        assert.strictEqual(transactions, 0)
      }))
  }
})
