/**
 * What the server can do, asked when a push needs to know and no `attach` of this instance has asked
 * (payload-codec.md §4.1, client-state.md §3.1).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Features } from "../protocol/Dialect.js"
import { features as featuresOf } from "../protocol/Dialect.js"
import type { RequestFailure } from "../remote/SyncApi.js"
import { SyncApi, toTransportError } from "../remote/SyncApi.js"
import * as Session from "./Session.js"

/**
 * Asks for the capabilities and remembers features and limits.
 *
 * @since 0.1.0
 * @category steps
 */
export const learn: Effect.Effect<
  Features,
  Exclude<RequestFailure, { readonly _tag: "Refusal" }>,
  SyncApi | Session.Session
> = Effect.gen(function*() {
  const api = yield* SyncApi
  const caller = yield* Session.caller
  const capabilities = yield* Effect.catchTag(
    api.capabilities(caller, "connect_capabilities"),
    "Refusal",
    toTransportError
  )
  const features = featuresOf(capabilities)
  yield* Session.remember({ features, limits: capabilities.bundle_limits })
  return features
})
