import type { ICruiseResult, IForbiddenRuleType, IModule } from "dependency-cruiser"
import { cruise } from "dependency-cruiser"
import * as fs from "node:fs"
import * as path from "node:path"
import { readTypeScriptConfig } from "../project.js"
import type { Check, Finding } from "./Check.js"

/**
 * The rooms of `src`, and which others each may import. `index` is `src/index.ts`. What is missing here is forbidden:
 * imports go downwards only.
 */
const rooms: Readonly<Record<string, ReadonlyArray<string>>> = {
  protocol: [],
  contract: ["protocol"],
  storage: ["contract", "protocol"],
  remote: ["contract", "protocol"],
  engine: ["storage", "remote", "contract", "protocol"],
  index: ["engine", "storage", "remote", "contract", "protocol"],
  promise: ["index", "engine", "storage", "remote", "contract", "protocol"],
  server: ["protocol"],
  testing: ["promise", "server", "index", "engine", "storage", "remote", "contract", "protocol"],
  cli: ["testing", "promise", "server", "index", "engine", "storage", "remote", "contract", "protocol"]
}

/** The modules of a room that stand open to a room that may not import the rest of it. */
const doors: Readonly<Record<string, ReadonlyArray<string>>> = {
  server: ["^src/storage/(?:Transaction|StorageFailure|StorageError|SqlText)\\.ts$"]
}

/** Everything reachable by a user: the subpath exports and the command. */
const entryPoints = "^src/(?:index|(?:protocol|promise|server|testing)/index|cli/main)\\.ts$"

/** The rooms of the client, which leave driver, transport and platform to the host. */
const portable = "^src/(?:index\\.ts$|(?:protocol|contract|storage|remote|engine)/)"

const pathOf = (room: string) => room === "index" ? "^src/index\\.ts$" : `^src/${room}/`

const error = <Rule extends object>(name: string, comment: string, rule: Rule) => ({
  name,
  comment,
  severity: "error" as const,
  ...rule
})

const directions = Object.entries(rooms).map(([room, others]) =>
  error(`${room}-imports-downwards`, `${room} may import ${others.join(", ") || "no other room"}`, {
    from: { path: pathOf(room) },
    to: { path: "^src/", pathNot: [...[room, ...others].map(pathOf), ...doors[room] ?? []] }
  })
)

const packages = (
  name: string,
  comment: string,
  from: { readonly path: string; readonly pathNot?: string },
  ...names: ReadonlyArray<string>
) =>
  error(name, comment, { from, to: { path: names.map((pattern) => `(?:^|/)node_modules/${pattern}/|^${pattern}$`) } })

const rules: ReadonlyArray<IForbiddenRuleType> = [
  ...directions,
  error("no-cycle", "modules may not import each other in a circle", { from: {}, to: { circular: true } }),
  error("no-way-out", "src imports nothing outside src", {
    from: { path: "^src/" },
    to: { path: "^(?:test|tools|bench|scratchpad|dist)/" }
  }),
  error("resolvable", "the import leads nowhere", { from: {}, to: { couldNotResolve: true } }),
  error("no-node-in-portable-rooms", "the client runs wherever Effect has a SQL client and an HTTP client", {
    from: { path: portable, pathNot: pathOf("protocol") },
    to: { dependencyTypes: ["core"] }
  }),
  error("pure-protocol", "of Node, protocol uses only what has no effects: node:crypto and node:buffer", {
    from: { path: pathOf("protocol") },
    to: { dependencyTypes: ["core"], pathNot: "^(?:node:)?(?:crypto|buffer)$" }
  }),
  packages(
    "no-driver-in-portable-rooms",
    "the host chooses the SQLite driver",
    { path: portable },
    "better-sqlite3",
    "@effect/sql-sqlite-[a-z-]+"
  ),
  packages(
    "platform-node-at-the-edge",
    "@effect/platform-node is for cli, promise, testing and the Node parts of server",
    { path: "^src/", pathNot: "^src/(?:cli|promise|testing)/|^src/server/(?:Node[^/]*\\.ts$|node/)" },
    "@effect/platform-node",
    "@effect/platform-node-shared"
  ),
  packages("cli-library-in-cli", "@effect/cli is for cli", { path: "^src/", pathNot: "^src/cli/" }, "@effect/cli"),
  packages("no-test-library", "src imports no test library", { path: "^src/" }, "vitest", "@effect/vitest"),
  error("declared", "src imports only what package.json lists as dependency or peer dependency", {
    from: { path: "^src/" },
    to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"], dependencyTypesNot: ["npm", "npm-peer"] }
  }),
  error("in-use", "no export of the package and no command leads to this module", {
    from: { path: entryPoints },
    to: { path: "^src/", pathNot: entryPoints, reachable: false }
  })
]

const inRoom = (module: IModule) => Object.keys(rooms).some((room) => new RegExp(pathOf(room)).test(module.source))

/** Imports go downwards through the rooms of `src`, in no circle, and reach outside only where a room may. */
export const imports: Check = async (root) => {
  const folders = ["src", "test", "tools", "bench", "scratchpad"].filter((name) => fs.existsSync(path.join(root, name)))
  // The `paths` of tsconfig, spelled out: without a `baseUrl` they would not be followed.
  const alias = Object.fromEntries(
    Object.entries(readTypeScriptConfig(root).options.paths ?? {})
      .map(([name, targets]) => [`${name}$`, targets.map((target) => path.resolve(root, target))])
  )
  const { output } = await cruise(
    folders,
    {
      baseDir: root,
      doNotFollow: { path: "node_modules" },
      enhancedResolveOptions: { conditionNames: ["import", "types", "default"], exportsFields: ["exports"] },
      moduleSystems: ["es6", "cjs"],
      ruleSet: { forbidden: [...rules] },
      tsPreCompilationDeps: true,
      validate: true
    },
    { alias }
  )
  if (typeof output === "string") throw new Error(output)
  const result: ICruiseResult = output
  const ours = result.modules.filter(({ source }) => /^(?:src|test|tools|bench|scratchpad)\//.test(source))
  const comments = new Map(rules.map(({ comment, name }) => [name, comment]))
  const violations = result.summary.violations.map(({ cycle, from, rule, to }): Finding => ({
    file: from,
    message: `${rule.name}: ${cycle?.map(({ name }) => name).join(" → ") ?? to} (${comments.get(rule.name) ?? ""})`
  }))
  const source = ours.filter((module) => module.source.startsWith("src/"))
  const homeless = source.filter((module) => !inRoom(module)).map((module) => ({
    file: module.source,
    message: "stands in no room of src"
  }))
  // In a release this would load the installed package a second time.
  const roundabout = source.flatMap((module) =>
    module.dependencies.filter((dependency) => /^oversqlite(?:\/|$)/.test(dependency.module)).map((dependency) => ({
      file: module.source,
      message: `imports ${dependency.module} instead of the module by its relative path`
    }))
  )
  return { examined: ours.length, unit: "modules", findings: [...violations, ...homeless, ...roundabout] }
}
