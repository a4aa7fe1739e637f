/** The header that names the writer: bytes, compared as they are (wire.md §1.2). */
import { HttpServer } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import { request } from "node:http"
import { Wire } from "oversqlite/protocol"
import { device, outcome, user } from "./support/Device.js"
import { inProcess, overHttp } from "./support/TestServer.js"

/** A header value carries one byte per character. */
const bytes = (text: string) => Buffer.from(text, "utf8").toString("latin1")

const named = Effect.gen(function*() {
  // The last byte of the second one is a blank in Latin-1.
  for (const [number, name] of ["gerät", "fà", "端末"].entries()) {
    const writer = device(bytes(` ${name}\t`))
    yield* writer.connect(false)
    assert.strictEqual((yield* writer.push(1, [user(number)])).body["source_id"], name)
    assert.strictEqual(outcome(yield* writer.rotate(`new ${name}`, "history_pruned", name)), "200")
    assert.strictEqual(outcome(yield* device(bytes(`new ${name}`)).push(1, [user(10 + number)])), "200")
  }
})

describe("the source id of a request", () => {
  it.scopedLive("is UTF-8, over a socket [wire.md §1.2]", () => named.pipe(Effect.provide(overHttp())))

  it.effect("is UTF-8, in process [wire.md §1.2]", () => named.pipe(Effect.provide(inProcess())))

  it.effect("fails as a whole where it is none: two ids must not become one [wire.md §1.2]", () =>
    Effect.gen(function*() {
      assert.strictEqual(outcome(yield* device("ger\u00e4t").connect(false)), "500 connect_failed")
    }).pipe(Effect.provide(inProcess())))

  it.scopedLive("is the first of several header lines, commas and all [wire.md §1.2]", () =>
    Effect.gen(function*() {
      const first = device("one, and the same")
      yield* first.connect(false)
      yield* first.push(1, [user(1)])
      const url = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(address))
      const answer = yield* Effect.promise(() =>
        new Promise<string>((resolve, reject) => {
          const headers = { authorization: "Bearer user-1", [Wire.SourceIdHeader]: [first.source, "two"] }
          const sent = request(`${url}/sync/push-sessions`, { method: "POST", headers }, (response) => {
            let text = ""
            response.on("data", (piece) => text += String(piece)).on("end", () => resolve(text))
          })
          sent.on("error", reject).end("{\"source_bundle_id\":1,\"planned_row_count\":1}")
        })
      )
      assert.include(answer, `"source_id":"${first.source}"`)
    }).pipe(Effect.provide(overHttp())))
})
