import { assert, describe, it } from "@effect/vitest"
import { Duration, FastCheck } from "effect"
import type { SyncError } from "oversqlite"
import * as Errors from "oversqlite"
import * as Rules from "../../src/engine/SyncLoopRules.js"
import * as Watch from "../../src/engine/SyncLoopWatch.js"
import { Refusal } from "../../src/remote/SyncApi.js"

const operation = "pushPending"
const row = { schema: "business", table: "users" }
const conflict: Errors.ConflictInput = {
  schema: "business",
  table: "users",
  key: "u1",
  localOp: "DELETE",
  localRow: null,
  baseRowVersion: 1,
  server: { shape: "missing", rowVersion: 0, row: null }
}
const status = (code: number, more: { readonly serverCode?: string; readonly retryAfter?: Duration.Duration } = {}) =>
  new Errors.TransportError({ operation, code: "status", request: "pull_request", status: code, ...more })
const unreachable = new Errors.TransportError({ operation, code: "connection", request: "pull_request" })

interface Case {
  readonly error: SyncError
  readonly push: Rules.Reaction
  readonly pull: Rules.Reaction
}

const both = (error: SyncError, reaction: Rules.Reaction): Case => ({ error, push: reaction, pull: reaction })

/** Every tag of the catalogue: a new one does not compile until it has its line. */
const byTag: { readonly [Tag in SyncError["_tag"]]: Case } = {
  ClientClosed: both(new Errors.ClientClosed({ operation }), "closed"),
  SyncOperationInProgress: both(
    new Errors.SyncOperationInProgress({ operation, runningOperation: "attach" }),
    "busy"
  ),
  OpenRequired: both(new Errors.OpenRequired({ operation }), "detached"),
  AttachRequired: both(new Errors.AttachRequired({ operation, reason: "not_connected" }), "detached"),
  DestructiveTransitionInProgress: both(
    new Errors.DestructiveTransitionInProgress({ operation, transitionKind: "remote_replace" }),
    "detached"
  ),
  RetryExhausted: both(
    new Errors.RetryExhausted({ operation, request: "pull_request", attempts: 3, cause: unreachable }),
    "repeat"
  ),
  TransportError: both(unreachable, "repeat"),
  StorageError: both(new Errors.StorageError({ operation, code: "busy", cause: undefined }), "repeat"),
  PushConflictError: both(new Errors.PushConflictError({ operation, row }), "repeat"),
  PushConflictRetryExhausted: both(
    new Errors.PushConflictRetryExhausted({ operation, retryCount: 2, remainingDirtyCount: 1 }),
    "repeat"
  ),
  DirtyStateRejected: both(new Errors.DirtyStateRejected({ operation, dirtyCount: 1 }), "push_first"),
  PendingPushReplay: both(new Errors.PendingPushReplay({ operation, outboundCount: 1 }), "push_first"),
  UploadRefused: both(
    new Errors.UploadRefused({
      operation,
      request: "push_chunk_upload",
      status: 400,
      serverCode: "push_chunk_invalid",
      rows: []
    }),
    "await_write"
  ),
  LocalDataError: {
    error: new Errors.LocalDataError({ operation, code: "local_constraint", row }),
    push: "await_write",
    pull: "await_news"
  },
  RebuildRequired: both(new Errors.RebuildRequired({ operation }), "stop"),
  SourceRecoveryRequired: both(new Errors.SourceRecoveryRequired({ operation, reason: "source_retired" }), "stop"),
  SourceReplacementDiverged: both(
    new Errors.SourceReplacementDiverged({ operation, reason: "refused", localReplacement: "s" }),
    "stop"
  ),
  ScopeLost: both(new Errors.ScopeLost({ operation, reason: "scope_uninitialized", requeuedRowCount: 1 }), "stop"),
  InitializationLeaseLost: both(
    new Errors.InitializationLeaseLost({ operation, reason: "initialization_expired" }),
    "stop"
  ),
  CredentialsMismatch: both(
    new Errors.CredentialsMismatch({ operation, attachedUserId: "ann", credentialsUserId: "bob" }),
    "stop"
  ),
  InvalidConflictResolution: both(
    new Errors.InvalidConflictResolution({ operation, reason: "no_decision", conflict, resolution: undefined }),
    "stop"
  ),
  ProtocolError: both(new Errors.ProtocolError({ operation, request: "pull_request", rule: "invalid_json" }), "stop"),
  DatabaseTakenOver: both(new Errors.DatabaseTakenOver({ operation }), "stop"),
  ConfigurationError: both(
    new Errors.ConfigurationError({ operation, code: "key_changed", detail: "" }),
    "stop"
  ),
  InvalidArgumentError: both(new Errors.InvalidArgumentError({ operation, argument: "transaction" }), "stop"),
  AttachLifecycleUnsupported: both(
    new Errors.AttachLifecycleUnsupported({ operation, reason: "capabilities_invalid" }),
    "stop"
  ),
  TableContractMismatch: both(
    new Errors.TableContractMismatch({ operation, clientOnly: [], keyMismatches: [], serverOnly: [] }),
    "stop"
  ),
  AttachBindingConflict: both(
    new Errors.AttachBindingConflict({ operation, attachedUserId: "ann", requestedUserId: "bob" }),
    "stop"
  ),
  AttachLocalStateConflict: both(
    new Errors.AttachLocalStateConflict({ operation, reason: "binding_changed" }),
    "stop"
  ),
  LocalRowsPending: both(new Errors.LocalRowsPending({ operation, pendingRowCount: 1 }), "stop"),
  // The one error that says "call again": building a client is not background work, so it cannot reach the loop.
  DatabaseAlreadyOwned: both(new Errors.DatabaseAlreadyOwned({ operation, database: "x" }), "repeat")
}

const byCode: ReadonlyArray<readonly [name: string, Case]> = [
  ["TransportError status 500", both(status(500), "repeat")],
  ["TransportError status 503", both(status(503), "repeat")],
  ["TransportError status 401", both(status(401), "stop")],
  ["TransportError status 403", both(status(403), "stop")],
  [
    "TransportError status 409 scope_initializing",
    both(status(409, { serverCode: "scope_initializing" }), "push_first")
  ],
  ["TransportError status 409", both(status(409, { serverCode: "push_conflict" }), "stop")],
  [
    "TransportError credentials",
    both(new Errors.TransportError({ operation, code: "credentials", request: "pull_request" }), "repeat")
  ],
  [
    "TransportError response_too_large",
    both(new Errors.TransportError({ operation, code: "response_too_large", request: "pull_request" }), "stop")
  ],
  ["StorageError full", both(new Errors.StorageError({ operation, code: "full", cause: undefined }), "repeat")],
  ["StorageError corrupt", both(new Errors.StorageError({ operation, code: "corrupt", cause: undefined }), "stop")]
]

describe("what the coordinator makes of a failure [retry-and-loops.md §4.3]", () => {
  it.each([...Object.entries(byTag), ...byCode])("%s", (_name, { error, pull, push }) => {
    assert.deepStrictEqual(
      { push: Rules.reactionTo("push", error), pull: Rules.reactionTo("pull", error) },
      { push, pull }
    )
  })
})

const pauses: Rules.Pauses = { shortest: 1000, longest: 60_000, fallback: 30_000 }
const quiet: Rules.Circumstances = {
  now: 100_000,
  jitter: 1,
  pending: false,
  checkpoint: 7,
  uploadsPaused: false,
  downloadsPaused: false,
  busy: false,
  listening: false
}
const settled: Rules.LoopState = { ...Rules.initial(pauses), pullWanted: false, pulledAt: 99_500 }

describe("state transitions [retry-and-loops.md §3, §4.3]", () => {
  it("doubles the pause after each retryable failure from the shortest to the longest, and forgets it at a success", () => {
    let state = settled
    const seen: Array<number> = []
    for (let failures = 0; failures < 9; failures++) {
      state = Rules.failed(state, "pull", unreachable, quiet, pauses)
      seen.push(state.notBefore - quiet.now)
      assert.isTrue(state.pullWanted)
      assert.strictEqual(state.error, unreachable)
    }
    assert.deepStrictEqual(seen, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000])
    const found = Rules.succeeded(state, "pull", quiet, pauses)
    assert.deepStrictEqual(
      { backoff: found.backoff, notBefore: found.notBefore, error: found.error, pullWanted: found.pullWanted },
      { backoff: 1000, notBefore: 0, error: undefined, pullWanted: false }
    )
  })

  it("waits as long as the server asks, within the longest pause", () => {
    const pauseAfter = (seconds: number) =>
      Rules.failed(
        settled,
        "pull",
        new Errors.RetryExhausted({
          operation,
          request: "pull_request",
          attempts: 3,
          cause: status(503, { retryAfter: Duration.seconds(seconds) })
        }),
        quiet,
        pauses
      ).notBefore - quiet.now
    assert.deepStrictEqual([0, 20, 600].map(pauseAfter), [1000, 20_000, 60_000])
  })

  it("keeps the back-off at its shortest for lifecycle preconditions", () => {
    const grown = { ...settled, backoff: 32_000 }
    const state = Rules.failed(grown, "push", byTag.AttachRequired.error, quiet, pauses)
    assert.strictEqual(state.backoff, 1000)
    assert.strictEqual(state.hold, "detached")
  })

  it("asks for a pull when a push has found the server again", () => {
    const lost = Rules.failed(settled, "push", unreachable, quiet, pauses)
    assert.isTrue(Rules.succeeded(lost, "push", quiet, pauses).pullWanted)
    assert.isFalse(Rules.succeeded(settled, "push", quiet, pauses).pullWanted)
  })

  it("lifts blocks at a host write, the pull's block also at an event, and holds only at a success of the host", () => {
    const blocked: Rules.LoopState = {
      ...settled,
      pushAwaitsWrite: true,
      pullAwaitsNewsUntil: 200_000,
      error: byTag.LocalDataError.error
    }
    const facts = (state: Rules.LoopState) => ({
      push: state.pushAwaitsWrite,
      pull: state.pullAwaitsNewsUntil > 0,
      error: state.error !== undefined
    })
    assert.deepStrictEqual(facts(Rules.written(blocked)), { push: false, pull: false, error: false })
    assert.deepStrictEqual(facts(Rules.announced(blocked, 8)), { push: true, pull: false, error: false })
    assert.deepStrictEqual(facts(Rules.reconnected(blocked, pauses)), { push: true, pull: true, error: true })
    const stopped: Rules.LoopState = { ...blocked, hold: "stopped" }
    assert.strictEqual(Rules.written(stopped).hold, "stopped")
    assert.strictEqual(Rules.announced(stopped, 8).hold, "stopped")
    assert.strictEqual(Rules.reconnected(stopped, pauses).hold, "stopped")
    assert.strictEqual(Rules.restarted(stopped, pauses).hold, "none")
    assert.strictEqual(Rules.restarted(stopped, pauses).error, undefined)
  })
})

const until = (time: number): Rules.Step => ({ _tag: "Wait", until: time })
const push: Rules.Step = { _tag: "Push" }
const pull: Rules.Step = { _tag: "Pull" }
const forever = Number.POSITIVE_INFINITY

const steps: ReadonlyArray<
  readonly [name: string, state: Partial<Rules.LoopState>, now: Partial<Rules.Circumstances>, step: Rules.Step]
> = [
  ["nothing to do: the timer, or the next look", {}, {}, until(100_500)],
  ["the poll is due", { pulledAt: 99_000 }, {}, pull],
  ["listening: the fallback timer is far", {}, { listening: true }, until(101_000)],
  ["listening: the fallback timer is due", { pulledAt: 70_000 }, { listening: true }, pull],
  [
    "the timer is jittered once, when it starts",
    { pulledAt: 99_000, pullJitter: 1.2 },
    { jitter: 0.8 },
    until(100_200)
  ],
  ["something pending", {}, { pending: true }, push],
  ["push before pull", { pullWanted: true }, { pending: true }, push],
  ["push wanted although nothing is seen", { pushWanted: true }, {}, push],
  ["writes are gathered after a push", { pushNotBefore: 100_300 }, { pending: true }, until(100_300)],
  [
    "pull wanted while a push is gathered",
    { pushNotBefore: 100_300, pullWanted: true },
    { pending: true },
    until(100_300)
  ],
  ["pull wanted after a push", { pushNotBefore: 100_300, pullWanted: true }, {}, pull],
  ["pull wanted", { pullWanted: true }, {}, pull],
  ["an event beyond the checkpoint", { announced: 8 }, {}, pull],
  ["an event at the checkpoint", { announced: 7 }, {}, until(100_500)],
  ["an event while an operation runs", { announced: 8 }, { busy: true }, until(101_000)],
  ["an event, the timer due, while an operation runs", { announced: 8, pulledAt: 0 }, { busy: true }, pull],
  ["pull wanted while an operation runs: it waits at the lock", { pullWanted: true }, { busy: true }, pull],
  ["backing off", { notBefore: 100_100, pullWanted: true }, { pending: true }, until(100_100)],
  ["uploads paused", {}, { pending: true, uploadsPaused: true }, until(101_000)],
  ["uploads paused, pull wanted, nothing pending", { pullWanted: true }, { uploadsPaused: true }, pull],
  [
    "uploads paused, pull wanted, but its gates would refuse",
    { pullWanted: true },
    { pending: true, uploadsPaused: true },
    until(101_000)
  ],
  ["downloads paused", { pullWanted: true, announced: 8 }, { downloadsPaused: true }, until(101_000)],
  ["downloads paused, something pending", { pullWanted: true }, { downloadsPaused: true, pending: true }, push],
  ["push waits for a write", { pushAwaitsWrite: true, pullWanted: true }, { pending: true }, until(101_000)],
  ["pull waits for news", { pullAwaitsNewsUntil: 100_200, pullWanted: true }, {}, until(100_200)],
  ["pull has waited for news long enough", { pullAwaitsNewsUntil: 100_000, pullWanted: true }, {}, pull],
  ["push does not wait for news of the pull", { pullAwaitsNewsUntil: 160_000 }, { pending: true }, push],
  ["detached", { hold: "detached", pullWanted: true }, { pending: true }, until(forever)],
  ["stopped", { hold: "stopped", pullWanted: true }, { pending: true }, until(forever)]
]

describe("the step that is due [retry-and-loops.md §4.3, §5]", () => {
  it.each(steps)("%s", (_name, state, now, step) => {
    assert.deepStrictEqual(Rules.nextStep({ ...settled, ...state }, { ...quiet, ...now }, pauses), step)
  })

  it("never waits for a time that has passed, whatever the state", () => {
    const time = FastCheck.integer({ min: 0, max: 200_000 })
    FastCheck.assert(
      FastCheck.property(
        FastCheck.record({
          pushWanted: FastCheck.boolean(),
          pullWanted: FastCheck.boolean(),
          announced: FastCheck.integer({ min: 0, max: 14 }),
          pushAwaitsWrite: FastCheck.boolean(),
          pullAwaitsNewsUntil: time,
          notBefore: time,
          pushNotBefore: time,
          pulledAt: FastCheck.integer({ min: 0, max: 100_000 }),
          pullJitter: FastCheck.double({ min: 0.8, max: 1.2, noNaN: true })
        }),
        FastCheck.record({
          jitter: FastCheck.double({ min: 0.8, max: 1.2, noNaN: true }),
          pending: FastCheck.boolean(),
          uploadsPaused: FastCheck.boolean(),
          downloadsPaused: FastCheck.boolean(),
          busy: FastCheck.boolean(),
          listening: FastCheck.boolean()
        }),
        (state, now) => {
          const step = Rules.nextStep({ ...settled, ...state }, { ...quiet, ...now }, pauses)
          assert.isTrue(step._tag !== "Wait" || step.until > quiet.now)
        }
      ),
      { seed: 7, numRuns: 2000 }
    )
  })
})

describe("the event stream's own pauses [retry-and-loops.md §5]", () => {
  const at = (now: number) => ({ now, jitter: 1 })
  const broken = unreachable
  const refusal = (code: number, serverCode: string) =>
    new Refusal({ request: "bundle_change_watch", status: code, serverCode, body: undefined })

  it("grow while streams do not live, and start anew after one that has", () => {
    let state = Watch.initial(true, 0, pauses)
    const seen: Array<number> = []
    for (let ends = 0; ends < 8; ends++) {
      state = Watch.ended({ ...state, openedAt: 0 }, broken, at(4999), pauses)
      seen.push(state.openAt - 4999)
    }
    assert.deepStrictEqual(seen, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
    const lived = Watch.ended({ ...state, openedAt: 0 }, broken, at(5000), pauses)
    assert.deepStrictEqual({ openAt: lived.openAt, backoff: lived.backoff }, { openAt: 6000, backoff: 2000 })
  })

  it("a stream that never opened does not count as one that lived", () => {
    const state = Watch.ended({ ...Watch.initial(true, 0, pauses), backoff: 8000 }, broken, at(50_000), pauses)
    assert.strictEqual(state.openAt, 58_000)
  })

  it.each(
    [
      [403, "bundle_change_watch_forbidden", { forbidden: true, advertised: true }],
      [503, "bundle_change_watch_disabled", { forbidden: false, advertised: undefined }],
      [404, "", { forbidden: false, advertised: undefined }],
      [503, "service_unavailable", { forbidden: false, advertised: true }],
      [409, "scope_initializing", { forbidden: false, advertised: true }],
      [403, "", { forbidden: false, advertised: true }]
    ] as const
  )("%s %s", (code, serverCode, expected) => {
    const state = Watch.ended(Watch.initial(true, 0, pauses), refusal(code, serverCode), at(0), pauses)
    assert.deepStrictEqual({ forbidden: state.forbidden, advertised: state.advertised }, expected)
  })

  it("what the attach has learnt is not asked again at once", () => {
    assert.strictEqual(Watch.initial(undefined, 50, pauses).askAt, 50)
    assert.strictEqual(Watch.initial(false, 50, pauses).askAt, 30_050)
  })
})
