import { HttpClient, HttpClientRequest } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Layer, Stream } from "effect"
import * as Fs from "node:fs"
import type { Wire } from "../../src/protocol/index.js"
import { Credentials } from "../../src/remote/Credentials.js"
import type { Caller } from "../../src/remote/SyncApi.js"
import { Refusal, SyncApi } from "../../src/remote/SyncApi.js"
import type { Received } from "./ScriptedServer.js"
import { caller, json, refusal, remote, scriptedServer } from "./ScriptedServer.js"

type Api = typeof SyncApi.Service

const replacement: Wire.SourceReplacement = {
  reason: "history_pruned",
  new_source_id: "source-b",
  previous_source_id: "source-a"
}

interface Expected {
  readonly method: string
  readonly path: string
  readonly body?: string
}

const cases: ReadonlyArray<readonly [string, (api: Api) => Effect.Effect<unknown, unknown>, Expected]> = [
  [
    "capabilities [wire.md §4.12]",
    (api) => api.capabilities(caller, "connect_capabilities"),
    { method: "GET", path: "/sync/capabilities" }
  ],
  [
    "connect with pending rows [wire.md §4.1]",
    (api) => api.connect(caller, true),
    { method: "POST", path: "/sync/connect", body: `{"has_local_pending_rows":true}` }
  ],
  [
    "connect without pending rows [wire.md §4.1]",
    (api) => api.connect(caller, false),
    { method: "POST", path: "/sync/connect", body: `{"has_local_pending_rows":false}` }
  ],
  [
    "push create [wire.md §4.2]",
    (api) => api.createPushSession(caller, { sourceBundleId: 3, plannedRowCount: 17, initializationId: "" }),
    { method: "POST", path: "/sync/push-sessions", body: `{"source_bundle_id":3,"planned_row_count":17}` }
  ],
  [
    "push create under a lease [wire.md §4.2]",
    (api) => api.createPushSession(caller, { sourceBundleId: 1, plannedRowCount: 2, initializationId: "init-1" }),
    {
      method: "POST",
      path: "/sync/push-sessions",
      body: `{"source_bundle_id":1,"planned_row_count":2,"initialization_id":"init-1"}`
    }
  ],
  [
    "chunk, its rows sent verbatim [wire.md §4.3]",
    (api) => api.uploadChunk(caller, "push-1", 1000, `[{"n": 9007199254740993,"x":1.0}]`),
    {
      method: "POST",
      path: "/sync/push-sessions/push-1/chunks",
      body: `{"start_row_ordinal":1000,"rows":[{"n": 9007199254740993,"x":1.0}]}`
    }
  ],
  [
    "commit without a body [wire.md §4.4]",
    (api) => api.commitPushSession(caller, "push-1"),
    { method: "POST", path: "/sync/push-sessions/push-1/commit" }
  ],
  [
    "push delete [wire.md §4.5]",
    (api) => api.deletePushSession(caller, "push-1"),
    { method: "DELETE", path: "/sync/push-sessions/push-1" }
  ],
  [
    "first page of committed rows, without a cursor [wire.md §3]",
    (api) =>
      api.committedRows(caller, {
        bundleSeq: 42,
        afterRowOrdinal: undefined,
        maxRows: 1000,
        request: "committed_bundle_chunk_fetch"
      }),
    { method: "GET", path: "/sync/committed-bundles/42/rows?max_rows=1000" }
  ],
  [
    "later page of committed rows [wire.md §4.6]",
    (api) =>
      api.committedRows(caller, {
        bundleSeq: 42,
        afterRowOrdinal: 0,
        maxRows: 1,
        request: "committed_bundle_chunk_fetch"
      }),
    { method: "GET", path: "/sync/committed-bundles/42/rows?after_row_ordinal=0&max_rows=1" }
  ],
  [
    "history check [pull.md §2]",
    (api) =>
      api.committedRows(caller, { bundleSeq: 7, afterRowOrdinal: undefined, maxRows: 1, request: "history_check" }),
    { method: "GET", path: "/sync/committed-bundles/7/rows?max_rows=1" }
  ],
  [
    "first pull, without a target [wire.md §4.7]",
    (api) => api.pull(caller, { afterBundleSeq: 0, maxBundles: 1000, targetBundleSeq: undefined }),
    { method: "GET", path: "/sync/pull?after_bundle_seq=0&max_bundles=1000" }
  ],
  [
    "later pull [wire.md §4.7]",
    (api) => api.pull(caller, { afterBundleSeq: 5, maxBundles: 2, targetBundleSeq: 9 }),
    { method: "GET", path: "/sync/pull?after_bundle_seq=5&max_bundles=2&target_bundle_seq=9" }
  ],
  [
    "keep-source snapshot, without a body [wire.md §4.9]",
    (api) => api.createSnapshotSession(caller, undefined),
    { method: "POST", path: "/sync/snapshot-sessions" }
  ],
  [
    "rotated snapshot [wire.md §4.9]",
    (api) => api.createSnapshotSession(caller, replacement),
    {
      method: "POST",
      path: "/sync/snapshot-sessions",
      body:
        `{"source_replacement":{"previous_source_id":"source-a","new_source_id":"source-b","reason":"history_pruned"}}`
    }
  ],
  [
    "snapshot chunk [wire.md §4.10]",
    (api) => api.snapshotChunk(caller, "snap-1", { afterRowOrdinal: 0, maxRows: 500 }),
    { method: "GET", path: "/sync/snapshot-sessions/snap-1?after_row_ordinal=0&max_rows=500" }
  ],
  [
    "snapshot delete [wire.md §4.11]",
    (api) => api.deleteSnapshotSession(caller, "snap-1"),
    { method: "DELETE", path: "/sync/snapshot-sessions/snap-1" }
  ],
  [
    "watch [wire.md §4.8]",
    (api) => Stream.runDrain(api.watch(caller, 57)),
    { method: "GET", path: "/sync/watch?after_bundle_seq=57" }
  ]
]

/** The request that a call sends to a server that refuses everything. */
const requestOf = (
  call: (api: Api) => Effect.Effect<unknown, unknown>,
  baseUrl = "http://sync.test"
): Effect.Effect<Received> => {
  const server = scriptedServer(refusal(403, "forbidden"))
  return SyncApi.pipe(
    Effect.flatMap((api) => Effect.ignore(call(api))),
    Effect.provide(remote(server, { baseUrl })),
    Effect.flatMap(() => Effect.orDie(Effect.fromNullable(server.received[0])))
  )
}

describe("what is sent", () => {
  it.effect.each(cases)("%s", ([_name, call, expected]) =>
    Effect.gen(function*() {
      const { body, headers, method, path } = yield* requestOf(call)
      assert.deepStrictEqual({ method, path, body }, { body: undefined, ...expected })
      const common: Readonly<Record<string, string>> = {
        "accept": expected.path.startsWith("/sync/watch") ? "text/event-stream" : "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer token-1",
        "cache-control": "no-store",
        "oversync-source-id": "source-a"
      }
      assert.deepStrictEqual(
        { ...headers },
        expected.body === undefined ? common : {
          ...common,
          "content-length": String(expected.body.length),
          "content-type": "application/json"
        }
      )
    }))

  it.effect.each(["", "   "])(
    "no source header for the blank source \"%s\" [retry-and-loops.md §2]",
    (sourceId) =>
      Effect.gen(function*() {
        const blank: Caller = { sourceId, userId: "" }
        const { headers } = yield* requestOf((api) => api.connect(blank, true))
        assert.notProperty(headers, "oversync-source-id")
      })
  )

  const prefixes: ReadonlyArray<readonly [string, string]> = [
    ["http://sync.test/", "/sync/capabilities"],
    ["http://sync.test///", "/sync/capabilities"],
    ["https://sync.test:8443/app/v1", "/app/v1/sync/capabilities"],
    ["  http://sync.test/app/v1//  ", "/app/v1/sync/capabilities"],
    ["http://sync.test/a%20b", "/a%20b/sync/capabilities"]
  ]
  it.effect.each(prefixes)("below \"%s\" as %s [push.md quirk 12]", ([baseUrl, path]) =>
    Effect.gen(function*() {
      const received = yield* requestOf((api) => api.capabilities(caller, "connect_capabilities"), baseUrl)
      assert.strictEqual(received.path, path)
    }))

  it.effect("bare paths without a base address, for a client of the host that knows the server [DESIGN §3]", () =>
    Effect.gen(function*() {
      const server = scriptedServer(refusal(403, "forbidden"))
      const urls: Array<string> = []
      const hosts = HttpClient.mapRequest(server.client, (request) => {
        urls.push(request.url)
        return HttpClientRequest.prependUrl(request, "https://sync.test/app")
      })
      yield* SyncApi.pipe(
        Effect.flatMap((api) => Effect.ignore(api.connect(caller, true))),
        Effect.provide(SyncApi.layer({})),
        Effect.provide([Layer.succeed(HttpClient.HttpClient, hosts), Credentials.layerBearer("token-1")])
      )
      assert.deepStrictEqual(urls, ["/sync/connect"])
      assert.strictEqual(server.received[0]?.path, "/app/sync/connect")
    }))

  const ids: ReadonlyArray<readonly [string, string]> = [
    ["e243cb60-2c7e-4af8-b0c7-2af3991230f8", "e243cb60-2c7e-4af8-b0c7-2af3991230f8"],
    ["a/b?c#d", "a%2Fb%3Fc%23d"],
    ["../../admin", "..%2F..%2Fadmin"],
    ["{urn:uuid} %20", "%7Burn%3Auuid%7D%20%2520"],
    ["!'()*~", "%21%27%28%29%2A~"],
    ["☃", "%E2%98%83"]
  ]
  it.effect.each(ids)("an id \"%s\" as one path segment %s [wire.md §1.6]", ([id, segment]) =>
    Effect.gen(function*() {
      const received = yield* requestOf((api) => api.commitPushSession(caller, id))
      assert.strictEqual(received.path, `/sync/push-sessions/${segment}/commit`)
    }))

  it.effect.each(["", ".", "..", "\ud800"])(
    "nothing for the id %j, which no path can hold [wire.md §1.6]",
    (id) =>
      Effect.gen(function*() {
        const server = scriptedServer(json({}))
        const failure = yield* SyncApi.pipe(
          Effect.flatMap((api) => api.commitPushSession(caller, id)),
          Effect.flip,
          Effect.provide(remote(server))
        )
        assert.strictEqual(failure._tag === "ProtocolError" ? failure.rule : failure._tag, "field_invalid")
        assert.lengthOf(server.received, 0)
      })
  )
})

interface Step {
  readonly request?: { readonly method: string; readonly path: string; readonly body: string | null }
  readonly response: { readonly status: number; readonly contentType: string | null; readonly body: string | null }
}

/** The call that sends a recorded request, with what of its answer is to be compared with the recorded text. */
const callOf = (
  method: string,
  path: string,
  body: string | null
): ((api: Api) => Effect.Effect<unknown, unknown>) | undefined => {
  const url = new URL(path, "http://sync.test")
  const [, , resource, id = "", last] = url.pathname.split("/")
  const number = (name: string) => Number(url.searchParams.get(name) ?? "0")
  const given = (name: string) => url.searchParams.has(name) ? number(name) : undefined
  switch (`${method} ${resource ?? ""}`) {
    case "GET capabilities":
      return (api) => api.capabilities(caller, "watch_capabilities")
    case "POST connect":
      return (api) => api.connect(caller, body === `{"has_local_pending_rows":true}`)
    case "POST push-sessions":
      return (api) =>
        last === undefined
          ? api.createPushSession(caller, { sourceBundleId: 1, plannedRowCount: 1, initializationId: "" })
          : last === "chunks"
          ? api.uploadChunk(caller, id, 0, "[]")
          : api.commitPushSession(caller, id)
    case "GET committed-bundles":
      return (api) =>
        api.committedRows(caller, {
          bundleSeq: Number(id),
          afterRowOrdinal: given("after_row_ordinal"),
          maxRows: number("max_rows"),
          request: "committed_bundle_chunk_fetch"
        })
    case "GET pull":
      return (api) =>
        api.pull(caller, {
          afterBundleSeq: number("after_bundle_seq"),
          maxBundles: number("max_bundles"),
          targetBundleSeq: given("target_bundle_seq")
        })
    case "POST snapshot-sessions":
      return (api) => api.createSnapshotSession(caller, undefined)
    case "GET snapshot-sessions":
      return (api) => api.snapshotChunk(caller, id, { afterRowOrdinal: 0, maxRows: 1000 })
    default:
      return undefined
  }
}

/** Whether every member of a recorded value is in the decoded one with the same value. */
const covers = (decoded: unknown, recorded: unknown): boolean =>
  typeof recorded === "object" && recorded !== null && typeof decoded === "object" && decoded !== null
    ? Object.entries(recorded).every(([name, value]) =>
      covers(Object.entries(decoded).find(([n]) => n === name)?.[1], value)
    )
    : decoded === recorded

const fixtures = new URL("../fixtures/wire/", import.meta.url)
const recordings = Fs.readdirSync(fixtures).filter((name) => name.endsWith(".json"))

describe("recorded answers of the reference server [wire.md §4]", () => {
  it.effect.each(recordings)("%s", (name) =>
    Effect.gen(function*() {
      const { steps }: { readonly steps: ReadonlyArray<Step> } = JSON.parse(
        Fs.readFileSync(new URL(name, fixtures), "utf8")
      )
      let compared = 0
      for (const { request, response } of steps) {
        const call = request === undefined ? undefined : callOf(request.method, request.path, request.body)
        if (call === undefined) continue
        const text = response.body ?? ""
        const result = yield* SyncApi.pipe(
          Effect.flatMap(call),
          Effect.either,
          Effect.provide(remote(scriptedServer(() => new Response(text, { status: response.status }))))
        )
        compared++
        if (response.status === 200) {
          const value = Either.getOrThrow(result)
          const isPage = typeof value === "object" && value !== null && "text" in value && "body" in value
          assert.isTrue(covers(isPage ? value.body : value, JSON.parse(text)), text)
          if (isPage) assert.strictEqual(value.text, text)
        } else {
          const failure = Either.isLeft(result) ? result.left : undefined
          if (!(failure instanceof Refusal)) return assert.fail(`${response.status} ${text}`)
          assert.strictEqual(failure.status, response.status)
          assert.strictEqual(
            failure.serverCode,
            response.contentType === "application/json" ? JSON.parse(text).error : ""
          )
        }
      }
      assert.isAbove(compared, 3)
    }))
})
