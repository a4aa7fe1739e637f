/**
 * The `oversqlite` command as an effect.
 *
 * @since 0.1.0
 */
import * as Command from "@effect/cli/Command"
import type { ValidationError } from "@effect/cli/ValidationError"
import type * as NodeContext from "@effect/platform-node/NodeContext"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type { CommandFailed } from "./CommandFailed.js"
import { version } from "./PackageVersion.js"
import * as RenewHistory from "./RenewHistory.js"
import * as Serve from "./Serve.js"
import * as Token from "./Token.js"

const command = Command.make("oversqlite").pipe(
  Command.withDescription("Offline-first sync for SQLite: the server, and what it needs."),
  Command.withSubcommands([Serve.command, Token.command, RenewHistory.command])
)

/**
 * Runs the command line `args`, whose first two members are the program and the script. What is wrong has been printed to the
 * console's error output when it fails: `ValidationError` for what was typed wrongly, `CommandFailed` for everything else.
 *
 * @since 0.1.0
 * @category commands
 */
export const run = (
  args: ReadonlyArray<string>
): Effect.Effect<void, CommandFailed | ValidationError, NodeContext.NodeContext> =>
  Effect.flatMap(
    version,
    (version) => Command.run(command, { name: "oversqlite", version, executable: "oversqlite" })(args)
  ).pipe(
    Effect.tapError((error) =>
      error._tag === "CommandFailed" ? Console.error(`oversqlite: ${error.message}`) : Effect.void
    )
  )
