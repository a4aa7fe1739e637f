/**
 * The random ids of the server: push, snapshot, initialization and history ids (wire.md §1.5).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"

/**
 * Where random ids come from: version-4 UUIDs in lowercase dashed text. Tests replace it to know the ids beforehand.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { Identifiers } from "oversqlite/server"
 *
 * let count = 0
 * const counted = Effect.sync(() => `00000000-0000-4000-8000-${String(count++).padStart(12, "0")}`)
 * const known = Effect.provideService(Identifiers, { uuid: counted })
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class Identifiers extends Context.Reference<Identifiers>()("oversqlite/Identifiers", {
  defaultValue: (): { readonly uuid: Effect.Effect<string> } => ({ uuid: Effect.sync(() => randomUUID()) })
}) {}
