/**
 * Which release this is.
 *
 * @since 0.1.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const decode = Schema.decodeUnknown(Schema.parseJson(Schema.Struct({ version: Schema.String })))

/**
 * The version in the package's `package.json`, which is as far away from the compiled modules as from their sources.
 *
 * @since 0.1.0
 * @category getters
 */
export const version: Effect.Effect<string, never, FileSystem.FileSystem | Path.Path> = Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const manifest = yield* path.fromFileUrl(new URL("../../package.json", import.meta.url))
  return (yield* decode(yield* files.readFileString(manifest))).version
}).pipe(Effect.orDie)
