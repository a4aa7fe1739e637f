import { assert, describe, it, vi } from "@effect/vitest"
import { ESLint } from "eslint"
import { projectRoot } from "../../tools/paths.js"

// The linter loads its plugins first, which takes its time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

describe("lint", () => {
  const eslint = new ESLint({ cwd: projectRoot })
  const rulesBroken = async (filePath: string, text: string) =>
    (await eslint.lintText(text, { filePath })).flatMap(({ messages }) => messages)
      .map(({ line, ruleId }) => `${line} ${ruleId}`)

  it("forbids in src what the library takes from Effect", async () => {
    const broken = await rulesBroken(
      "src/engine/Planted.ts",
      [
        "import { Effect } from \"effect\"",
        "export { HttpClient } from \"@effect/platform\"",
        "export const now = () => Date.now()",
        "export const pick = () => Math.random()",
        "export const later = () => setTimeout(() => {}, 1)",
        "export const run = () => Effect.runPromise(Effect.void)",
        "export const daemon = Effect.forkDaemon(Effect.void)",
        "export const cast = (value: unknown) => value as unknown as string",
        "export const home = () => process.env",
        "console.log(1)",
        ""
      ].join("\n")
    )
    assert.deepStrictEqual(broken, [
      "1 no-restricted-syntax",
      "2 no-restricted-syntax",
      "3 no-restricted-syntax",
      "4 no-restricted-syntax",
      "5 no-restricted-globals",
      "6 no-restricted-syntax",
      "7 no-restricted-syntax",
      "8 no-restricted-syntax",
      "9 no-restricted-globals",
      "10 no-console"
    ])
  })

  it("lets promise run effects and cli read its arguments", async () => {
    const text =
      "import * as Effect from \"effect/Effect\"\n\nexport const run = () => Effect.runPromise(Effect.void)\n"
    assert.deepStrictEqual(await rulesBroken("src/promise/index.ts", text), [])
    assert.deepStrictEqual(await rulesBroken("src/cli/main.ts", "export const words = process.argv\n"), [])
  })

  it("forbids names, types and notes against the house rules", async () => {
    const broken = await rulesBroken(
      "src/engine/Planted.ts",
      [
        "interface IThing {}",
        "export const snake_name = 1",
        "export const anything: any = 1",
        "export const things: IThing[] = []",
        "export const first = things[0]!",
        "// " + ["TO", "DO"].join("") + ": later",
        "const unused = (ctx: number) => ctx",
        "export const text = 'single'",
        ""
      ].join("\n")
    )
    assert.deepStrictEqual(broken, [
      "1 @typescript-eslint/naming-convention",
      "2 @typescript-eslint/naming-convention",
      "3 @typescript-eslint/no-explicit-any",
      "4 @typescript-eslint/array-type",
      "5 @typescript-eslint/no-non-null-assertion",
      "6 no-warning-comments",
      "7 @typescript-eslint/no-unused-vars",
      "7 id-denylist",
      "7 id-denylist",
      "8 @effect/dprint"
    ])
  })

  it("forbids tests that are switched off, and expect", async () => {
    const broken = await rulesBroken(
      "test/engine/Planted.test.ts",
      [
        "import { expect, it } from \"@effect/vitest\"",
        "it.only(\"one\", () => expect(1))",
        "it.effect.skip(\"two\", () => expect(1))",
        ""
      ].join("\n")
    )
    assert.deepStrictEqual(broken, ["1 no-restricted-imports", "2 no-restricted-syntax", "3 no-restricted-syntax"])
  })
})
