/**
 * Files that options name.
 *
 * @since 0.1.0
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import { CommandFailed } from "./CommandFailed.js"

const reasons: Readonly<Record<string, string>> = {
  NotFound: "there is no such file",
  PermissionDenied: "it may not be accessed",
  AlreadyExists: "there is something else of that name"
}

/**
 * Why the file system refuses, in a few words.
 *
 * @since 0.1.0
 * @category error handling
 */
export const reasonOf = (error: PlatformError): string =>
  error._tag === "SystemError"
    ? reasons[error.reason] ?? error.description ?? error.reason
    : error.description ?? "it cannot be used"

/**
 * The text of the file that an option names. The bytes must be UTF-8: two files that differ in other bytes only would be
 * the same text.
 *
 * @since 0.1.0
 * @category constructors
 */
export const read = (option: string, file: string): Effect.Effect<string, CommandFailed, FileSystem.FileSystem> =>
  Effect.gen(function*() {
    const files = yield* FileSystem.FileSystem
    const text = yield* Effect.mapError(
      files.readFileString(file),
      (error) => new CommandFailed({ subject: option, problem: `cannot read ${file}: ${reasonOf(error)}` })
    )
    return text.includes("\uFFFD")
      ? yield* new CommandFailed({ subject: option, problem: `${file} is not a UTF-8 text` })
      : text
  })
