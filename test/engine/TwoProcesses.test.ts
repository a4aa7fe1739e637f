/** Fencing between two processes of the machine on one file (client-state.md §5, DESIGN D17). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as path from "node:path"
import * as readline from "node:readline"
import { fileURLToPath } from "node:url"
import { dump } from "./support/Database.js"
import { checkInvariants } from "./support/Invariants.js"
import { before } from "./support/Network.js"
import type { Route } from "./support/Network.js"
import { failsWith } from "./support/Outcome.js"
import { once } from "./support/States.js"
import { contents, makeWorld, temporaryFolder } from "./support/World.js"

const script = fileURLToPath(new URL("./support/secondProcess.ts", import.meta.url))

/** A process that runs operations of a client of its own on the file, and tells how each ended. */
const secondProcess = (filename: string) =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["--import", "tsx", script, filename], {
          cwd: fileURLToPath(new URL("../../", import.meta.url)),
          stdio: ["pipe", "pipe", "inherit"]
        })
      ),
      (running) => Effect.sync(() => void running.kill("SIGKILL"))
    )
    const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const line = Effect.map(Effect.promise(() => lines.next()), ({ value }) => String(value))
    assert.strictEqual(yield* line, "ready")
    return (operation: "open" | "detach" | "sync") =>
      Effect.zipRight(Effect.sync(() => void child.stdin.write(`${operation}\n`)), line)
  })

const takenOver = { _tag: "DatabaseTakenOver", retryable: false, action: "open" }

const meetings: ReadonlyArray<readonly [Route, "pushPending" | "pullToStable" | "rebuild"]> = [
  ["push create", "pushPending"],
  ["push chunk", "pushPending"],
  ["push commit", "pushPending"],
  ["committed rows", "pushPending"],
  ["pull", "pullToStable"],
  ["snapshot create", "rebuild"],
  ["snapshot chunk", "rebuild"]
]

describe("a process that opens the database takes it over from another one [client-state.md §5]", () => {
  it.scoped(
    "which ends at its next durable step wherever it is, leaves nothing half-written, and can take it back",
    () =>
      Effect.gen(function*() {
        const world = yield* makeWorld()
        const filename = path.join(yield* temporaryFolder, "shared.db")
        const device = yield* world.attached({ ...once, filename, uploadLimit: 2 })
        const other = yield* secondProcess(filename)
        for (const [round, [route, operation]] of meetings.entries()) {
          const what = `${operation} at ${route}`
          if (operation === "pushPending") {
            yield* device.run("INSERT INTO users VALUES (?, 'N', ?, 1), (?, 'M', NULL, 2), (?, 'O', NULL, 3)", [
              `a${round}`,
              `${round}@x`,
              `b${round}`,
              `c${round}`
            ])
          } else {
            yield* world.write([{
              table: "users",
              key: `s${round}`,
              payload: { name: "S", email: null, score: round }
            }])
          }
          let between: unknown
          yield* world.network.fault(
            route,
            before(Effect.gen(function*() {
              assert.strictEqual(yield* other("open"), "open ok")
              between = yield* dump(device)
            }))
          )
          yield* failsWith<unknown, unknown, never>(device.sync[operation], { ...takenOver, operation })
          assert.isDefined(between, what)
          assert.deepStrictEqual(yield* dump(device), between, what)
          yield* failsWith(device.sync.sync, takenOver)
          yield* device.sync.open
          assert.strictEqual(yield* other("detach"), "detach DatabaseTakenOver", what)
          assert.deepInclude(yield* device.sync.attach("ann"), { outcome: "resumed_attached_state" })
          if (operation === "rebuild") yield* device.sync.rebuild
          yield* device.sync.sync
          yield* checkInvariants(device)
        }
        const fresh = yield* world.attached()
        assert.deepStrictEqual(yield* contents(device), yield* contents(fresh))
        assert.lengthOf(yield* device.run("SELECT id FROM users"), 4 * 3 + 3)
      }),
    60_000
  )
})
