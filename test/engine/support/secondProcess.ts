/**
 * Another process on the database of a test: `secondProcess.ts FILE`. It reads names of operations, one a line, and tells
 * for each how it ended: `ok`, or the tag of the error.
 */
import { HttpClient, HttpClientError } from "@effect/platform"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect, Layer } from "effect"
import * as readline from "node:readline"
import { Credentials, SyncClient } from "../../../src/index.js"
import { tables } from "./Devices.js"

const offline = Layer.succeed(
  HttpClient.HttpClient,
  HttpClient.make((request) => Effect.fail(new HttpClientError.RequestError({ request, reason: "Transport" })))
)

const filename = process.argv[2] ?? ""

const program = Effect.gen(function*() {
  const sync = yield* SyncClient
  const operations = new Map<string, Effect.Effect<unknown, { readonly _tag: string }>>([
    ["open", sync.open],
    ["detach", sync.detach],
    ["sync", sync.sync]
  ])
  process.stdout.write("ready\n")
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  for (;;) {
    const { done, value } = yield* Effect.promise(() => lines.next())
    if (done === true) return
    const operation = operations.get(value) ?? Effect.fail({ _tag: `no operation ${value}` })
    const ended = yield* Effect.match(operation, { onFailure: ({ _tag }) => _tag, onSuccess: () => "ok" })
    process.stdout.write(`${value} ${ended}\n`)
  }
})

await Effect.runPromise(program.pipe(
  Effect.provide(
    SyncClient.layer({ schema: "business", tables, retryPolicy: { enabled: false } }).pipe(
      Layer.provide([offline, Credentials.layerBearer("ann"), SqliteClient.layer({ filename })])
    )
  )
))
