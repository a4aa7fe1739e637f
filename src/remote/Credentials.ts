/**
 * Where the bearer token of every request comes from (wire.md §1.2, lifecycle.md §4.5).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

/**
 * A bearer token, and the user it was issued for if the provider knows: a token of another user than the attached one is
 * then refused before anything is sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface Bearer {
  readonly token: Redacted.Redacted<string>
  readonly userId: Option.Option<string>
}

/**
 * The provider could not deliver a token; `cause` is its own failure. Requests report it as
 * `TransportError(credentials)` (errors.md §1.6).
 *
 * @since 0.1.0
 * @category errors
 */
export class CredentialsUnavailable extends Data.TaggedError("CredentialsUnavailable")<{
  readonly cause: unknown
}> {}

/**
 * Asks for a token. `forceRefresh` is true after the server has answered 401 to the previous one: a cached token must
 * not be handed out again.
 *
 * @since 0.1.0
 * @category models
 */
export type Provider<E, R> = (options: { readonly forceRefresh: boolean }) => Effect.Effect<Bearer, E, R>

/**
 * The token provider of the host application.
 *
 * @example
 * ```ts
 * import { Effect, Option, Redacted } from "effect"
 * import { Credentials } from "oversqlite"
 *
 * declare const signIn: (fresh: boolean) => Effect.Effect<{ readonly jwt: string; readonly subject: string }>
 *
 * const CredentialsOfTheApp = Credentials.layer(({ forceRefresh }) =>
 *   Effect.map(signIn(forceRefresh), ({ jwt, subject }) => ({
 *     token: Redacted.make(jwt),
 *     userId: Option.some(subject)
 *   }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class Credentials extends Context.Tag("oversqlite/Credentials")<Credentials, {
  /** Called once per request, and a second time with `forceRefresh` if that was answered 401. */
  readonly bearer: (
    options: { readonly forceRefresh: boolean }
  ) => Effect.Effect<Bearer, CredentialsUnavailable>
}>() {
  /**
   * Credentials from a provider, or from an effect that always delivers a valid token. What it needs is taken from the
   * layer's context.
   *
   * @since 0.1.0
   */
  static readonly layer = <E, R>(
    provider: Effect.Effect<Bearer, E, R> | Provider<E, R>
  ): Layer.Layer<Credentials, never, R> =>
    Layer.effect(
      Credentials,
      Effect.map(Effect.context<R>(), (context) => ({
        bearer: (options) =>
          (Effect.isEffect(provider) ? provider : Effect.suspend(() => provider(options))).pipe(
            Effect.mapError((cause) => new CredentialsUnavailable({ cause })),
            Effect.provide(context)
          )
      }))
    )

  /**
   * One token that does not change, optionally with the user it belongs to.
   *
   * @since 0.1.0
   */
  static readonly layerBearer = (
    token: string | Redacted.Redacted<string>,
    options?: { readonly userId?: string | undefined } | undefined
  ): Layer.Layer<Credentials> =>
    Credentials.layer(Effect.succeed<Bearer>({
      token: Redacted.isRedacted(token) ? token : Redacted.make(token),
      userId: Option.fromNullable(options?.userId)
    }))
}
