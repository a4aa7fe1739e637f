/**
 * `oversqlite token`
 *
 * @since 0.1.0
 */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Authentication } from "../server/index.js"
import { decoded } from "./DecodedOption.js"
import * as SecretFile from "./SecretFile.js"

const user = decoded("user", Schema.Trim.pipe(Schema.minLength(1)), "a user id that is not blank").pipe(
  Options.withPseudoName("ID"),
  Options.withDescription("The user that the token is for; its data are the user's scope.")
)

const units = { s: "seconds", m: "minutes", h: "hours", d: "days" } as const

const isUnit = (text: string): text is keyof typeof units => text in units

const durationOf = (text: string): Duration.Duration => {
  const unit = text.slice(-1)
  const amount = Number(text.slice(0, -1))
  return isUnit(unit) ? Duration.decode(`${amount} ${units[unit]}`) : Duration.infinity
}

const expiresIn = decoded(
  "expires-in",
  Schema.String.pipe(Schema.pattern(/^(?:0*[1-9]\d{0,6}[smhd]|never)$/)),
  "a whole number with its unit, such as 90s, 30m, 1h or 7d, or never"
).pipe(
  Options.withPseudoName("DURATION"),
  Options.map(durationOf),
  Options.withDescription("How long the token is valid: 90s, 30m, 1h, 7d or never."),
  Options.withDefault(Duration.hours(1))
)

/**
 * Prints a token for a user: the whole output is the token and a line feed.
 *
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make(
  "token",
  { secretFile: SecretFile.option, user, expiresIn },
  ({ expiresIn, secretFile, user }) =>
    Effect.gen(function*() {
      const token = yield* Authentication.issueToken({
        secret: yield* SecretFile.read(secretFile),
        userId: user,
        ...(Duration.isFinite(expiresIn) ? { expiresIn } : {})
      })
      yield* Console.log(Redacted.value(token))
    })
).pipe(Command.withDescription("Prints a bearer token for a user, valid for an hour unless told otherwise."))
