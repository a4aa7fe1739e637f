/**
 * Whose request it is (wire.md §1.2, server.md §16).
 *
 * @since 0.1.0
 */
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { jwtVerify, SignJWT } from "jose"

/**
 * The request does not say who it is from. `message` is sent to the client as plain text with status 401; it says nothing
 * about the token.
 *
 * @since 0.1.0
 * @category errors
 */
export class Unauthenticated extends Data.TaggedError("Unauthenticated")<{ readonly message: string }> {}

const bearer = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<string, Unauthenticated> => {
  const header = request.headers["authorization"] ?? ""
  const [scheme, token, ...rest] = header.trim().split(" ")
  if (header === "") return Effect.fail(new Unauthenticated({ message: "Authorization header required" }))
  return scheme === "Bearer" && token !== undefined && token !== "" && rest.length === 0
    ? Effect.succeed(token)
    : Effect.fail(new Unauthenticated({ message: "Invalid authorization header format" }))
}

const keyOf = (secret: Redacted.Redacted<string>) => new TextEncoder().encode(Redacted.value(secret))

const invalid = () => new Unauthenticated({ message: "Invalid token" })

const verifying = (secret: Redacted.Redacted<string>) => {
  const key = keyOf(secret)
  return Effect.fnUntraced(function*(
    request: HttpServerRequest.HttpServerRequest
  ): Effect.fn.Return<string, Unauthenticated> {
    const token = yield* bearer(request)
    const currentDate = DateTime.toDateUtc(yield* DateTime.now)
    const verified = yield* Effect.tryPromise({
      try: () => jwtVerify(token, key, { algorithms: ["HS256", "HS384", "HS512"], currentDate }),
      catch: invalid
    })
    // Claims are whatever was signed.
    const subject: unknown = verified.payload.sub
    const userId = typeof subject === "string" ? subject.trim() : ""
    return userId === "" ? yield* invalid() : userId
  })
}

/**
 * Whom a token is for, and for how long.
 *
 * @since 0.1.0
 * @category options
 */
export interface IssueOptions {
  readonly secret: Redacted.Redacted<string>
  readonly userId: string
  readonly expiresIn?: Duration.DurationInput | undefined
}

const issue = Effect.fnUntraced(function*(options: IssueOptions): Effect.fn.Return<Redacted.Redacted<string>> {
  const seconds = Math.floor((yield* Clock.currentTimeMillis) / 1000)
  const token = new SignJWT().setProtectedHeader({ alg: "HS256", typ: "JWT" }).setSubject(options.userId)
    .setIssuedAt(seconds)
  if (options.expiresIn !== undefined) {
    token.setExpirationTime(seconds + Math.floor(Duration.toSeconds(options.expiresIn)))
  }
  return Redacted.make(yield* Effect.promise(() => token.sign(keyOf(options.secret))))
})

/**
 * Turns a request into the user it belongs to. A blank user id is answered `authentication_failed`.
 *
 * @since 0.1.0
 * @category services
 */
export class Authentication extends Context.Tag("oversqlite/Authentication")<
  Authentication,
  (request: HttpServerRequest.HttpServerRequest) => Effect.Effect<string, Unauthenticated>
>() {
  /**
   * Bearer tokens that are JSON Web Tokens signed with a shared secret (HS256, also HS384 and HS512). The user id is the
   * trimmed `sub`; `exp` and `nbf` count where present; the issuer is not checked (wire.md §1.2).
   *
   * @example
   * ```ts
   * import * as Redacted from "effect/Redacted"
   * import { Authentication } from "oversqlite/server"
   *
   * const authentication = Authentication.layerJwt({ secret: Redacted.make("correct horse battery staple") })
   * ```
   */
  static layerJwt(options: { readonly secret: Redacted.Redacted<string> }): Layer.Layer<Authentication> {
    return Layer.sync(Authentication, () => verifying(options.secret))
  }

  /**
   * Takes the bearer token itself for the user id. For tests and for servers that nobody else can reach: there is no
   * secret in it.
   */
  static readonly layerTokenIsUser: Layer.Layer<Authentication> = Layer.sync(Authentication, () => bearer)

  /**
   * A token for a user that `layerJwt` with the same secret accepts (HS256), for `expiresIn` from now; without it the
   * token never expires.
   */
  static issueToken(options: IssueOptions): Effect.Effect<Redacted.Redacted<string>> {
    return issue(options)
  }
}
