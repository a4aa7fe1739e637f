import { assert, describe, it, vi } from "@effect/vitest"
import type { Outcome } from "../../tools/checks/Check.js"
import { documentation } from "../../tools/checks/documentation.js"
import { effectDiagnostics } from "../../tools/checks/effectDiagnostics.js"
import { examples } from "../../tools/checks/examples.js"
import { imports } from "../../tools/checks/imports.js"
import { words } from "../../tools/checks/words.js"
import { plantedProject } from "./plantedProject.js"

// A compiler or linter starts in every test, which takes its time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

/** The findings as `file:line first words`. */
const found = (outcome: Outcome) =>
  outcome.findings.map(({ file, line, message }) => `${file}${line === undefined ? "" : `:${line}`} ${message}`).sort()

describe("imports", () => {
  const clean = {
    "src/protocol/index.ts": "import { createHash } from \"node:crypto\"\nexport const hash = createHash\n",
    "src/contract/Name.ts": "import type { hash } from \"../protocol/index.js\"\nexport type Name = typeof hash\n",
    "src/storage/SqlText.ts": "export const quote = 1\n",
    "src/engine/Push.ts": "import { quote } from \"../storage/SqlText.js\"\nexport const push = quote\n",
    "src/index.ts": "export * from \"./contract/Name.js\"\nexport * from \"./engine/Push.js\"\n",
    "src/promise/index.ts": "export * from \"../index.js\"\n",
    "src/server/index.ts": "export * from \"../storage/SqlText.js\"\nexport * from \"../protocol/index.js\"\n",
    "src/cli/main.ts":
      "import * as Runtime from \"@effect/platform-node/NodeRuntime\"\nexport const run = Runtime.runMain\n",
    "test/Push.test.ts": "import { push } from \"oversqlite\"\nimport \"../src/engine/Push.js\"\nexport { push }\n"
  }

  it("finds nothing in a tree whose imports go downwards", async () => {
    const outcome = await imports(plantedProject(clean))
    assert.deepStrictEqual(found(outcome), [])
    assert.strictEqual(outcome.examined, Object.keys(clean).length)
  })

  const violations: ReadonlyArray<readonly [string, Readonly<Record<string, string>>, string]> = [
    [
      "an import upwards",
      {
        "src/storage/SqlText.ts": "import type { push } from \"../engine/Push.js\"\nexport type Quote = typeof push\n"
      },
      "storage-imports-downwards"
    ],
    [
      "a dynamic import upwards",
      { "src/storage/SqlText.ts": "export const load = () => import(\"../engine/Push.js\")\n" },
      "storage-imports-downwards"
    ],
    [
      "a type taken from above in place",
      { "src/storage/SqlText.ts": "export type Push = typeof import(\"../engine/Push.js\")\n" },
      "storage-imports-downwards"
    ],
    [
      "an import from beside",
      {
        "src/remote/Api.ts": "export * from \"../storage/SqlText.js\"\n",
        "src/engine/Pull.ts": "import \"../remote/Api.js\"\n",
        "src/index.ts": clean["src/index.ts"] + "export * from \"./engine/Pull.js\"\n"
      },
      "remote-imports-downwards"
    ],
    [
      "the server in the engine",
      { "src/engine/Push.ts": "export * from \"../server/index.js\"\n" },
      "engine-imports-downwards"
    ],
    [
      "a closed module of storage in the server",
      {
        "src/storage/Outbox.ts": "export const outbox = 1\n",
        "src/server/index.ts": "export * from \"../storage/Outbox.js\"\n"
      },
      "server-imports-downwards"
    ],
    [
      "a circle of types",
      {
        "src/contract/Name.ts": "import type { Other } from \"./Other.js\"\nexport type Name = Other\n",
        "src/contract/Other.ts": "import type { Name } from \"./Name.js\"\nexport type Other = Name\n"
      },
      "no-cycle"
    ],
    [
      "a built-in module in the engine",
      { "src/engine/Push.ts": "import * as fs from \"node:fs\"\nexport const push = fs\n" },
      "no-node-in-portable-rooms"
    ],
    [
      "a built-in module with effects in protocol",
      { "src/protocol/index.ts": "export * from \"node:fs\"\n" },
      "pure-protocol"
    ],
    [
      "a driver in storage",
      { "src/storage/SqlText.ts": "export * as Driver from \"@effect/sql-sqlite-node/SqliteClient\"\n" },
      "no-driver-in-portable-rooms"
    ],
    [
      "a package that users do not have",
      { "src/cli/main.ts": "import Database from \"better-sqlite3\"\nexport const open = Database\n" },
      "declared"
    ],
    [
      "the platform of Node in the server",
      { "src/server/index.ts": "export * as Http from \"@effect/platform-node/NodeHttpServer\"\n" },
      "platform-node-at-the-edge"
    ],
    [
      "an import by the package's own name",
      { "src/promise/index.ts": "export * from \"oversqlite\"\n" },
      "imports oversqlite instead"
    ],
    [
      "a test in the library",
      {
        "src/engine/Push.ts": "export * from \"../../test/Push.test.js\"\n",
        "test/Push.test.ts": "export const push = 1\n"
      },
      "no-way-out"
    ],
    ["an import of nothing", { "src/engine/Push.ts": "export * from \"./Gone.js\"\n" }, "resolvable"],
    ["a module that nothing leads to", { "src/storage/Unused.ts": "export const unused = 1\n" }, "in-use"],
    ["a module outside the rooms", { "src/Extra.ts": "export const extra = 1\n" }, "stands in no room"]
  ]

  it.each(violations)("finds %s", async (_, files, rule) => {
    const findings = found(await imports(plantedProject({ ...clean, ...files })))
    assert.isTrue(findings.some((finding) => finding.includes(rule)), findings.join("\n"))
  })
})

describe("documentation", () => {
  it("finds every export without description, version or category", async () => {
    const outcome = await documentation(plantedProject({
      "src/engine/Push.ts": [
        "/**\n * Says it all.\n *\n * @since 0.1.0\n * @category models\n */",
        "export const complete = 1",
        "export const bare = 1",
        "/** @since 0.1.0 */",
        "export interface Half {}",
        "/** Internal, and so in no reference. @internal */",
        "export const internal = 1",
        "const late = 1",
        "export { late }",
        "export * from \"./Pull.js\"",
        "/**\n * A service.\n *\n * @since 0.1.0\n * @category services\n */",
        "export class Clock extends Tag(\"Clock\")<Clock, { readonly now: number }>() {}"
      ].join("\n")
    }))
    assert.deepStrictEqual(
      found(outcome),
      [
        "src/engine/Push.ts:14 late lacks a doc comment",
        "src/engine/Push.ts:22 now of a service lacks a doc comment",
        "src/engine/Push.ts:8 bare lacks a doc comment",
        "src/engine/Push.ts:10 Half lacks a description",
        "src/engine/Push.ts:10 Half lacks one @category"
      ].sort()
    )
    assert.strictEqual(outcome.examined, 6)
  })

  it("has examined nothing where there is no export", async () => {
    assert.strictEqual((await documentation(plantedProject({}))).examined, 0)
  })
})

describe("words", () => {
  it("finds the paths of a machine and the hosts of registries, and does not find itself", async () => {
    const outcome = await words(plantedProject({
      "README.md": ["A page.", ["see ", "root", "file"].join("/"), ["https://registry", "npmjs", "org"].join(".")].join(
        "\n"
      ),
      "src/index.ts": "export const framework = \"roots/and/works\"\n"
    }))
    assert.deepStrictEqual(found(outcome), [
      "README.md:2 names a path of one machine",
      "README.md:3 names the host of a package registry"
    ])
  })
})

describe("examples", () => {
  it("reports the line of the page or comment where an example does not compile", async () => {
    const outcome = await examples(plantedProject({
      "README.md":
        "# Title\n\n```ts\nimport { push } from \"oversqlite\"\n\nconst text: string = push\n```\n\n```sh\nls\n```\n",
      "src/index.ts": [
        "/**",
        " * Pushes.",
        " *",
        " * @example",
        " * ```ts",
        " * import { pull } from \"oversqlite\"",
        " * ```",
        " *",
        " * @since 0.1.0",
        " */",
        "export const push = 1",
        "/**",
        " * @example",
        " * pull()",
        " */",
        "export const other = push"
      ].join("\n")
    }))
    assert.strictEqual(outcome.examined, 2)
    assert.deepStrictEqual(found(outcome), [
      "README.md:6 Type 'number' is not assignable to type 'string'.",
      "src/index.ts:13 an @example needs a ```ts block, so that it is compiled",
      "src/index.ts:6 Module '\"oversqlite\"' has no exported member 'pull'."
    ])
  })

  it("misses a README without a program", async () => {
    assert.deepStrictEqual(found(await examples(plantedProject({ "README.md": "# Title\n" }))), [
      "README.md shows no program in a ```ts block"
    ])
  })
})

describe("diagnostics", () => {
  const program = [
    "import * as Effect from \"effect/Effect\"",
    "export const program = Effect.gen(function*() {",
    "  Effect.log(\"floats\")",
    "  yield* Effect.log(process.env[\"HOME\"])",
    "})"
  ].join("\n")

  it("finds in src what is forbidden there, and in tests what is wrong everywhere", async () => {
    const outcome = await effectDiagnostics(
      plantedProject({ "src/engine/Push.ts": program, "test/Push.test.ts": program })
    )
    assert.strictEqual(outcome.examined, 2)
    assert.deepStrictEqual(
      outcome.findings.map(({ file, line, message }) => [file, line, /effect\((\w+)\)/.exec(message)?.[1]]),
      [
        ["src/engine/Push.ts", 3, "floatingEffect"],
        ["src/engine/Push.ts", 4, "processEnvInEffect"],
        ["test/Push.test.ts", 3, "floatingEffect"]
      ]
    )
  })
})
