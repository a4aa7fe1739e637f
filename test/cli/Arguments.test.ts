/** What the command refuses, and how it says so (issue 4). */
import { FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer } from "node:net"
import { running } from "./support/Console.js"
import type { Directory } from "./support/Files.js"
import { directory, secret } from "./support/Files.js"
import { completed } from "./support/Process.js"

const serve = (files: Directory, changed: Readonly<Record<string, string | undefined>> = {}) => {
  const options: Readonly<Record<string, string | undefined>> = {
    data: files.data,
    port: "0",
    tables: files.tables,
    "jwt-secret-file": files.secret,
    ...changed
  }
  return [
    "serve",
    ...Object.entries(options).flatMap(([name, value]) => value === undefined ? [] : [`--${name}`, value])
  ]
}

/** Expects a refusal whose message is found, without a word of the code or of the secret. */
const refused = Effect.fnUntraced(function*(args: ReadonlyArray<string>, ...messages: ReadonlyArray<string>) {
  const { error, failed, out } = yield* running(...args)
  assert.isTrue(failed, args.join(" "))
  for (const message of messages) assert.include(error, message)
  assert.notMatch(error + out, /^\s+at /m)
  assert.notInclude(error + out, secret)
})

describe("serve refuses", () => {
  for (
    const [what, changed, message] of [
      ["a missing --data", { data: undefined }, "--data"],
      ["a missing --port", { port: undefined }, "--port"],
      ["a missing --tables", { tables: undefined }, "--tables"],
      ["a missing --jwt-secret-file", { "jwt-secret-file": undefined }, "--jwt-secret-file"],
      ["a port that is no number", { port: "http" }, "--port: must be a whole number from 0 to 65535, not \"http\""],
      ["a port that is no whole number", { port: "80.5" }, "--port: must be a whole number"],
      ["a port beyond the last", { port: "65536" }, "--port: must be a whole number"],
      ["a prefix without a slash", { prefix: "api" }, "--prefix: must be a path such as /api/sync-server, not \"api\""],
      ["a prefix that climbs", { prefix: "/api/.." }, "--prefix: must be a path"],
      ["an address of another machine", { host: "192.0.2.1" }, "--host: 192.0.2.1 is not an address of this machine"],
      ["an option it does not know", { colour: "red" }, "--colour"],
      ["a secret file that is not there", { "jwt-secret-file": "nowhere" }, "--jwt-secret-file: cannot read nowhere"],
      ["a tables file that is not there", { tables: "nowhere.json" }, "--tables: cannot read nowhere.json"]
    ] as const
  ) {
    it.scoped(`${what}, and creates nothing [issue 4]`, () =>
      Effect.gen(function*() {
        const files = yield* directory
        yield* refused(serve(files, changed), message)
        if (what !== "an address of another machine") {
          assert.isFalse(yield* (yield* FileSystem.FileSystem).exists(files.data))
        }
      }).pipe(Effect.provide(NodeContext.layer)))
  }

  for (
    const [what, text, message] of [
      ["31 bytes", "0123456789012345678901234567890", "has 31 bytes, and must have at least 32"],
      ["white space only", `${" ".repeat(64)}\n`, "has 0 bytes, and must have at least 32"],
      ["32 characters between white space, one too few", `  ${"x".repeat(31)}  `, "has 31 bytes"]
    ] as const
  ) {
    it.scoped(`a secret of ${what}, without showing it [issue 4]`, () =>
      Effect.gen(function*() {
        const files = yield* directory
        const short = yield* files.write("short", text)
        const { error } = yield* running(...serve(files, { "jwt-secret-file": short }))
        assert.include(error, `--jwt-secret-file: the secret in ${short} ${message}`)
        if (text.trim() !== "") assert.notInclude(error, text.trim())
        assert.isFalse(yield* (yield* FileSystem.FileSystem).exists(files.data))
      }).pipe(Effect.provide(NodeContext.layer)))
  }

  it.scoped("a secret that is no text [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const binary = `${files.path}/binary`
      yield* (yield* FileSystem.FileSystem).writeFile(binary, new Uint8Array(40).fill(0xff))
      yield* refused(serve(files, { "jwt-secret-file": binary }), `--jwt-secret-file: ${binary} is not a UTF-8 text`)
    }).pipe(Effect.provide(NodeContext.layer)))

  const key = { column: "id", kind: "uuid" }
  for (
    const [what, value, ...messages] of [
      ["an object", {}, "tables must be an array, not {}"],
      ["a table without key", [{ table: "a" }], "tables[0].key is missing"],
      [
        "a key of another kind",
        [{ table: "a", key: { column: "id", kind: "int" } }],
        "tables[0].key.kind must be \"uuid\""
      ],
      ["a misspelt member", [{ table: "a", key, colums: {} }], "tables[0].colums is unknown"],
      [
        "several mistakes",
        [{ table: 1, key, columns: { a: "txt", b: { kind: "text", notnull: true } }, references: [{ column: "a" }] }],
        "tables[0].table must be a text, not 1",
        "tables[0].columns.a must be \"uuid\" or \"text\" or",
        "tables[0].columns.b.notnull is unknown",
        "tables[0].references[0].table is missing"
      ],
      ["a table twice", [{ table: "a", key }, { table: "a", key }], "--tables: table public.a: declared twice"],
      [
        "a reference to nothing",
        [{ table: "a", key, references: [{ column: "b", table: "b" }] }],
        "--tables: table public.a: reference to public.b, which is not declared"
      ]
    ] as const
  ) {
    it.scoped(`a tables file with ${what}, member by member [server.md §3]`, () =>
      Effect.gen(function*() {
        const files = yield* directory
        const wrong = yield* files.write("wrong.json", JSON.stringify(value))
        yield* refused(serve(files, { tables: wrong }), "--tables: ", ...messages)
      }).pipe(Effect.provide(NodeContext.layer)))
  }

  it.scoped("a tables file that is not JSON [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const wrong = yield* files.write("wrong.json", "[\n  {,]")
      yield* refused(serve(files, { tables: wrong }), `--tables: ${wrong} is not JSON from line 2, column 4 on`)
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("a file where a directory is asked for, and the other way round [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      yield* refused(serve(files, { tables: files.path }), `--tables: cannot read ${files.path}: `)
      yield* refused(serve(files, { "jwt-secret-file": files.path }), `--jwt-secret-file: cannot read ${files.path}: `)
      yield* refused(serve(files, { data: files.secret }), `--data: cannot create ${files.secret}`)
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("a data file that is no database, and leaves it alone [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const system = yield* FileSystem.FileSystem
      const file = `${files.data}/oversqlite.db`
      yield* system.makeDirectory(files.data)
      yield* system.writeFileString(file, "not a database at all, but long enough to be looked at".repeat(20))
      yield* refused(serve(files), `--data: ${file} is not a SQLite database`)
      assert.include(yield* system.readFileString(file), "not a database at all")
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("a port that somebody listens on [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const port = yield* Effect.acquireRelease(
        Effect.async<{ readonly port: number; readonly close: () => void }>((resume) => {
          const server = createServer()
          server.listen(0, "127.0.0.1", () => {
            const address = server.address()
            const port = typeof address === "object" ? address?.port ?? 0 : 0
            resume(Effect.succeed({ port, close: () => server.close() }))
          })
        }),
        ({ close }) => Effect.sync(close)
      )
      yield* refused(serve(files, { port: String(port.port) }), `--port: ${port.port} is in use`)
    }).pipe(Effect.provide(NodeContext.layer)))
})

describe("other commands refuse", () => {
  it.scoped("a token for nobody, of no duration, without secret [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      const token = (...args: ReadonlyArray<string>) => ["token", "--jwt-secret-file", files.secret, ...args]
      yield* refused(token(), "--user")
      yield* refused(token("--user", "  "), "--user: must be a user id that is not blank")
      for (const wrong of ["0h", "1", "1y", "-1h", "1.5h", ""]) {
        yield* refused(
          token("--user", "u", "--expires-in", wrong),
          "--expires-in: must be a whole number with its unit"
        )
      }
      yield* refused(["token", "--user", "u"], "--jwt-secret-file")
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("a new history for a store that is not there, and create none [issue 4]", () =>
    Effect.gen(function*() {
      const files = yield* directory
      yield* refused(
        ["renew-history", "--data", files.data, "--tables", files.tables],
        `--data: there is no ${files.data}/oversqlite.db`
      )
      assert.isFalse(yield* (yield* FileSystem.FileSystem).exists(files.data))
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("a command it does not know [issue 4]", () =>
    refused(["sing"], "use one of 'serve', 'token', 'renew-history'").pipe(Effect.provide(NodeContext.layer)))
})

describe("as a process", () => {
  it.scopedLive(
    "exits with 1, says what is wrong on stderr, and shows no stack [issue 4]",
    () =>
      Effect.gen(function*() {
        const files = yield* directory
        const [missing, wrong] = yield* Effect.all([
          completed(...serve(files, { tables: undefined })),
          completed(...serve(files, { tables: files.secret }))
        ], { concurrency: "unbounded" })
        assert.deepInclude(missing, { code: 1, stdout: "" })
        assert.include(missing.stderr, "Expected to find option: '--tables'")
        assert.deepInclude(wrong, { code: 1, stdout: "" })
        // The file given by mistake is the one with the secret.
        assert.notInclude(wrong.stderr, secret.slice(0, 8))
        assert.match(wrong.stderr, /^oversqlite: --tables: .* is not JSON from line 2, column 3 on\n$/)
      }).pipe(Effect.provide(NodeContext.layer)),
    90_000
  )

  it.scopedLive("tells its version and what it can do [issue 4]", () =>
    Effect.gen(function*() {
      const manifest: { readonly version: string } = JSON.parse(
        yield* (yield* FileSystem.FileSystem).readFileString(new URL("../../package.json", import.meta.url).pathname)
      )
      const [version, help] = yield* Effect.all([completed("--version"), completed("--help")], {
        concurrency: "unbounded"
      })
      assert.deepInclude(version, { code: 0, stdout: `${manifest.version}\n\n` })
      assert.strictEqual(help.code, 0)
      for (const name of ["serve", "token", "renew-history"]) assert.include(help.stdout, `- ${name} `)
    }).pipe(Effect.provide(NodeContext.layer)), 90_000)
})
