/**
 * The file that holds the secret of tokens.
 *
 * @since 0.1.0
 */
import * as Options from "@effect/cli/Options"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { CommandFailed } from "./CommandFailed.js"
import * as TextFile from "./TextFile.js"

/** HS256 asks for a key as long as its hash (RFC 7518 §3.2). */
const minimumBytes = 32

/**
 * `--jwt-secret-file FILE`
 *
 * @since 0.1.0
 * @category options
 */
export const option: Options.Options<string> = Options.text("jwt-secret-file").pipe(
  Options.withPseudoName("FILE"),
  Options.withDescription(
    `File with the secret that tokens are signed with (HS256): at least ${minimumBytes} bytes; white space around it ` +
      "does not count."
  )
)

/**
 * The secret in a file, without white space around it. Refused when it is shorter than 32 bytes; no message holds any of it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const read = (file: string): Effect.Effect<Redacted.Redacted<string>, CommandFailed, FileSystem.FileSystem> =>
  Effect.flatMap(TextFile.read("--jwt-secret-file", file), (text) => {
    const secret = text.trim()
    const bytes = new TextEncoder().encode(secret).length
    return bytes < minimumBytes
      ? new CommandFailed({
        subject: "--jwt-secret-file",
        problem: `the secret in ${file} has ${bytes} bytes, and must have at least ${minimumBytes}`
      })
      : Effect.succeed(Redacted.make(secret))
  })
