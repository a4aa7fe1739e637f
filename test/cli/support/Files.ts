/** Files that a command is given. */
import { FileSystem } from "@effect/platform"
import { Effect } from "effect"
import type { TableDeclaration } from "oversqlite/server"

export const secret = "a secret of the tests, long enough to sign with"

export const tables: ReadonlyArray<TableDeclaration> = [
  {
    schema: "business",
    table: "users",
    key: { column: "id", kind: "uuid" },
    columns: { name: "text", age: "integer" }
  },
  {
    schema: "business",
    table: "posts",
    key: { column: "id", kind: "uuid" },
    columns: { title: "text", author_id: "uuid" },
    references: [{ column: "author_id", table: "users", onDelete: "cascade" }]
  }
]

/** A directory of the test's own, with a file of each kind in it. */
export const directory = Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  const path = yield* files.makeTempDirectoryScoped({ prefix: "oversqlite-cli-" })
  const write = (name: string, text: string) =>
    Effect.as(files.writeFileString(`${path}/${name}`, text), `${path}/${name}`)
  return {
    path,
    write,
    data: `${path}/data`,
    secret: yield* write("secret", `\n  ${secret}\n`),
    tables: yield* write("tables.json", JSON.stringify(tables))
  }
})

export type Directory = Effect.Effect.Success<typeof directory>
