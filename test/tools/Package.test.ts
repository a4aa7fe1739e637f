import { assert, describe, it, vi } from "@effect/vitest"
import * as fs from "node:fs"
import * as path from "node:path"
import { examinePackage } from "../../tools/checks/packaging.js"
import { projectRoot } from "../../tools/paths.js"
import { temporaryFolder } from "./plantedProject.js"

// The compiler reads the declarations of Effect and Node in each test, which takes its time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

describe("package", () => {
  const manifest = {
    name: "oversqlite",
    type: "module",
    bin: { oversqlite: "./dist/main.js" },
    exports: {
      ".": { types: "./dist/index.d.ts", default: "./dist/index.js" },
      "./server": { types: "./dist/server.d.ts", default: "./dist/server.js" },
      "./package.json": "./package.json"
    },
    peerDependencies: { effect: "*" }
  }
  const sound: Readonly<Record<string, string>> = {
    "package.json": JSON.stringify(manifest),
    LICENSE: "",
    "README.md": "",
    "dist/index.js": "export const client = 1\n",
    "dist/index.d.ts": "export declare const client: number\n",
    "dist/server.js": "export const server = 1\n",
    "dist/server.d.ts": "export declare const server: number\n",
    "dist/main.js": "#!/usr/bin/env node\n"
  }

  const examine = (files: Readonly<Record<string, string>>) => {
    const folder = temporaryFolder()
    for (const [name, text] of Object.entries(files)) {
      const file = path.join(folder, "package", name)
      fs.mkdirSync(path.dirname(file), { recursive: true })
      fs.writeFileSync(file, text)
    }
    const { examined, findings } = examinePackage(
      path.join(folder, "package"),
      path.join(projectRoot, "node_modules"),
      path.join(folder, "consumer")
    )
    return { examined, findings: findings.map(({ file, message }) => `${file}: ${message}`) }
  }

  it("finds nothing in a package that can be used", () => {
    const outcome = examine({
      ...sound,
      "dist/index.js": "import * as Effect from \"effect/Effect\"\nexport const program = Effect.void\n",
      "dist/index.d.ts":
        "import * as Effect from \"effect/Effect\"\nexport declare const program: Effect.Effect<void>\n"
    })
    assert.deepStrictEqual(outcome, { examined: 2, findings: [] })
  })

  it("finds an import of what users do not install, in code and in declarations", () => {
    const { findings } = examine({
      ...sound,
      "dist/server.js": "export { parse } from \"lossless-json\"\n",
      "dist/server.d.ts": "export type { Plugin } from \"vite\"\n"
    })
    assert.strictEqual(findings.length, 2, findings.join("\n"))
    assert.match(findings[0] ?? "", /^dist: oversqlite\/server: Cannot find package 'lossless-json'/)
    assert.match(findings[1] ?? "", /^dist\/server.d.ts: Cannot find module 'vite'/)
  })

  it("finds missing files, an empty entry point, strays and a command that does not start", () => {
    const { findings } = examine({
      ...Object.fromEntries(Object.entries(sound).filter(([name]) => !["LICENSE", "dist/server.d.ts"].includes(name))),
      "dist/index.js": "",
      "dist/main.js": "process.exit(3)\n",
      "src/engine/Push.test.ts": ""
    })
    assert.deepStrictEqual(findings.map((finding) => finding.replace(/(declaration file for module \S+).*/, "$1")), [
      "package.json: exports ./server, types: no ./dist/server.d.ts",
      "./dist/main.js: a command begins with #!/usr/bin/env node",
      "LICENSE: is not in the package",
      "src/engine/Push.test.ts: does not belong in the package",
      "dist: oversqlite: exports nothing",
      "consumer.ts: Could not find a declaration file for module 'oversqlite/server'.",
      "./dist/main.js: --help ends with 3: "
    ])
  })
})
