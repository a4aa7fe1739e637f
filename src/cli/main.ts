#!/usr/bin/env node
/**
 * The `oversqlite` command.
 *
 * @since 0.1.0
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { run } from "./Oversqlite.js"

// Whoever reads the output may go away before the server does.
process.stdout.on("error", () => {})
process.stderr.on("error", () => {})

const logger = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

run(process.argv).pipe(
  // Only a bug shows where it happened.
  Effect.tapDefect((defect) => Effect.logFatal("the command broke", defect)),
  Effect.provide([NodeContext.layer, logger]),
  (effect) => NodeRuntime.runMain(effect, { disableErrorReporting: true, disablePrettyLogger: true })
)
