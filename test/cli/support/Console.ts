/** The command in the process of the test. */
import type { Console } from "effect"
import { Effect, Exit } from "effect"
import { run } from "../../../src/cli/Oversqlite.js"

const escapes = /\u001b\[[\d;]*m/g

/** Runs a command line; the value is what was printed, without colours, and whether it failed. */
export const running = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const printed = { out: "", error: "" }
    const print = (stream: "out" | "error") => (...parts: ReadonlyArray<unknown>) =>
      Effect.sync(() => {
        printed[stream] += `${parts.map(String).join(" ")}\n`.replace(escapes, "")
      })
    const native = yield* Effect.console
    const captured: Console.Console = { ...native, log: print("out"), error: print("error") }
    const exit = yield* Effect.exit(Effect.withConsole(run(["node", "oversqlite", ...args]), captured))
    return { ...printed, failed: Exit.isFailure(exit) }
  })
