/** The server of a benchmark, in a process of its own: tells its parent where it is, and ends with it. */
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Redacted } from "effect"
import { startServer } from "../scratchpad/Parts.js"

const [filename = ":memory:"] = process.argv.slice(2)

startServer(filename).pipe(
  Effect.tap(({ baseUrl, token }) =>
    Effect.sync(() => {
      process.on("disconnect", () => process.exit(0))
      process.send?.({ baseUrl, token: Redacted.value(token) })
    })
  ),
  Effect.zipRight(Effect.never),
  Effect.scoped,
  NodeRuntime.runMain
)
