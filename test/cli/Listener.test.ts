/** The HTTP server of the command by itself (wire.md §1.1). */
import { HttpServer, HttpServerResponse } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { get } from "node:http"
import * as Listener from "../../src/cli/Listener.js"

describe("a listening server", () => {
  it.scopedLive("takes headers of up to 1 MiB; beyond, the answer is 431 [wire.md §1.1]", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.succeed(HttpServerResponse.empty()))
      const url = Listener.urlOf(yield* HttpServer.HttpServer)
      const status = (bytes: number) =>
        Effect.promise(() =>
          new Promise<number | undefined>((resolve, reject) => {
            get(url, { headers: { "oversync-source-id": "x".repeat(bytes) } }, (response) => {
              response.resume()
              resolve(response.statusCode)
            }).on("error", reject)
          })
        )
      assert.strictEqual(yield* status(1_000_000), 204)
      assert.strictEqual(yield* status(1_100_000), 431)
    }).pipe(Effect.provide(Listener.layer({ host: "127.0.0.1", port: 0 }))))
})
