/**
 * The file that declares the synchronised tables.
 *
 * @since 0.1.0
 */
import * as Options from "@effect/cli/Options"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as Lossless from "lossless-json"
import { TableDeclaration } from "../server/index.js"
import { CommandFailed } from "./CommandFailed.js"
import { memberProblems } from "./MemberProblems.js"
import * as TextFile from "./TextFile.js"

const subject = "--tables"

/**
 * `--tables FILE`
 *
 * @since 0.1.0
 * @category options
 */
export const option: Options.Options<string> = Options.text("tables").pipe(
  Options.withPseudoName("FILE"),
  Options.withDescription(
    "JSON file with an array of table declarations, such as [{\"schema\":\"business\",\"table\":\"users\"," +
      "\"key\":{\"column\":\"id\",\"kind\":\"uuid\"},\"columns\":{\"name\":\"text\"}}]."
  )
)

/** Where a text stops being JSON. The parser's own words quote the text, which may be a file given by mistake. */
const place = (text: string): string => {
  const failure = Either.flip(Either.try({ try: () => Lossless.parse(text), catch: String }))
  const position = Number(/ position (\d+)$/.exec(Either.getOrElse(failure, () => ""))?.[1] ?? 0)
  const before = text.slice(0, position).split("\n")
  return `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`
}

const parse = (file: string, text: string) =>
  Either.try({
    try: (): unknown => JSON.parse(text),
    catch: () => new CommandFailed({ subject, problem: `${file} is not JSON from ${place(text)} on` })
  })

// A misspelt member would otherwise be a rule that is silently not enforced.
const decode = Schema.decodeUnknownEither(Schema.typeSchema(Schema.Array(Schema.encodedSchema(TableDeclaration))), {
  errors: "all",
  onExcessProperty: "error"
})

/**
 * The declarations in a file: a JSON array. What is wrong with it is named by member, such as `tables[0].key.kind`; unknown
 * members are wrong, too. Whether the tables fit each other and the store is for the server to say (server.md §3).
 *
 * @since 0.1.0
 * @category constructors
 */
export const read = (
  file: string
): Effect.Effect<ReadonlyArray<TableDeclaration>, CommandFailed, FileSystem.FileSystem> =>
  Effect.gen(function*() {
    const value = yield* parse(file, yield* TextFile.read(subject, file))
    return yield* Either.mapLeft(
      decode(value),
      ({ issue }) =>
        new CommandFailed({
          subject,
          problem: `${file} is not a list of table declarations` +
            memberProblems(issue).map(({ path, problem }) => `\n  tables${path} ${problem}`).join("")
        })
    )
  })
