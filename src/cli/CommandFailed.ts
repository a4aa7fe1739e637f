/**
 * What ends a command.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * A command cannot do what it was asked for. `subject` is the option or the thing that is wrong, `problem` says what about
 * it; neither holds a secret. The command prints both and exits with 1.
 *
 * @since 0.1.0
 * @category errors
 */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{
  readonly subject: string
  readonly problem: string
}> {
  override get message() {
    return `${this.subject}: ${this.problem}`
  }
}
