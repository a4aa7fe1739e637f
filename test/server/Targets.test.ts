/** Request targets that no client of ours sends (wire.md §1.6, §1.7). */
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { request } from "node:http"
import { device, id, outcome, parsed } from "./support/Device.js"
import { ask, inProcess, overHttp } from "./support/TestServer.js"

const a = device("source-a")

const answered = (path: string, method: "GET" | "POST" | "DELETE" = "GET") =>
  Effect.map(ask(path, { method }), (answer) =>
    answer.contentType === "application/json"
      ? outcome({ status: answer.status, body: parsed(answer) })
      : `${answer.status} ${answer.text.trim()}`)

describe("paths", () => {
  const long = "x".repeat(5000)
  for (
    const [method, path, expected] of [
      ["GET", "/sync/capabilities;x", "404 404 page not found"],
      ["GET", "/sync/pull;after_bundle_seq=9", "404 404 page not found"],
      ["GET", "/sync/%70ull", "200"],
      ["POST", `/sync/push-sessions/${long}/commit`, "404 push_session_not_found"],
      ["POST", "/sync/push-sessions/%ff/commit", "404 push_session_not_found"],
      ["POST", `/sync/push-sessions/${id(1)};x/commit`, "404 push_session_not_found"],
      ["DELETE", "/sync/push-sessions/%C3%28%zz", "404 404 page not found"],
      ["DELETE", "/sync/push-sessions/%C3%28", "404 push_session_not_found"],
      ["GET", `/sync/snapshot-sessions/${long}`, "500 snapshot_chunk_failed"],
      ["GET", "/sync/snapshot-sessions/%ff", "500 snapshot_chunk_failed"]
    ] as const
  ) {
    it.effect(`${method} ${path.slice(0, 60)} is answered ${expected} [wire.md §1.6, §9 #13]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        assert.strictEqual(yield* answered(path, method), expected)
      }).pipe(Effect.provide(inProcess())))
  }

  it.scopedLive("TRACE on a known path is 405 like every other method [wire.md §1.6]", () =>
    Effect.gen(function*() {
      const url = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(address))
      const trace = (path: string) =>
        Effect.promise(() =>
          new Promise<string>((resolve, reject) => {
            const sent = request(url + path, { method: "TRACE" }, (response) => {
              response.resume().on("end", () => resolve(`${response.statusCode} ${response.headers.allow}`))
            })
            sent.on("error", reject).end()
          })
        )
      assert.strictEqual(yield* trace("/sync/pull"), "405 GET, HEAD")
      assert.strictEqual(yield* trace("/sync/nothing"), "404 undefined")
    }).pipe(Effect.provide(overHttp())))
})

describe("query parameters", () => {
  for (
    const [query, expected] of [
      ["after_bundle_seq=%zz", "200"],
      ["after_bundle_seq=%f", "200"],
      ["after_bundle_seq=%ff", "400 invalid_request"],
      ["after_bundle_seq=%C3%A4", "400 invalid_request"],
      ["after_bundle_seq=%30", "200"],
      ["after_bundle_seq=+0", "400 invalid_request"],
      ["after_bundle_seq=x;y", "200"]
    ] as const
  ) {
    it.effect(`${query} is answered ${expected} [wire.md §1.7]`, () =>
      Effect.gen(function*() {
        yield* a.connect(false)
        assert.strictEqual(yield* answered(`/sync/pull?${query}`), expected)
      }).pipe(Effect.provide(inProcess())))
  }
})
