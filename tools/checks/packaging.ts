import { execFileSync, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import ts from "typescript"
import type { Check, Finding, Outcome } from "./Check.js"

interface Manifest {
  readonly name: string
  readonly exports: Readonly<Record<string, string | { readonly types?: string; readonly default?: string }>>
  readonly bin?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
}

/** Files that a release has no use for. */
const stray = /(?:^|\/)(?:test|tests|scratchpad|bench|tools)\/|\.test\.|\.tsbuildinfo$/

const filesIn = (folder: string): ReadonlyArray<string> =>
  fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))

/** What the exports map and the command promise and the package does not hold. */
const missingFiles = (manifest: Manifest, packed: string): ReadonlyArray<Finding> => {
  const lacks = (file: string) => !fs.existsSync(path.join(packed, file))
  const entries = Object.entries(manifest.exports).flatMap(([subpath, target]): ReadonlyArray<Finding> => {
    if (typeof target === "string") {
      return lacks(target) ? [{ file: "package.json", message: `exports ${subpath}: no ${target}` }] : []
    }
    return (["types", "default"] as const).flatMap((condition) => {
      const file = target[condition]
      if (file === undefined) return [{ file: "package.json", message: `exports ${subpath} has no "${condition}"` }]
      return lacks(file) ? [{ file: "package.json", message: `exports ${subpath}, ${condition}: no ${file}` }] : []
    })
  })
  const commands = Object.entries(manifest.bin ?? {}).flatMap(([name, file]): ReadonlyArray<Finding> => {
    if (lacks(file)) return [{ file: "package.json", message: `bin ${name}: no ${file}` }]
    return fs.readFileSync(path.join(packed, file), "utf8").startsWith("#!/usr/bin/env node\n")
      ? []
      : [{ file, message: "a command begins with #!/usr/bin/env node" }]
  })
  const texts = ["LICENSE", "README.md"].filter(lacks).map((file) => ({ file, message: "is not in the package" }))
  const strays = filesIn(packed).filter((file) => stray.test(file)).map((file) => ({
    file,
    message: "does not belong in the package"
  }))
  return [...entries, ...commands, ...texts, ...strays]
}

/** A folder of an application that has the package and what it declares, and nothing else, in its `node_modules`. */
const makeConsumer = (manifest: Manifest, packed: string, installed: string, folder: string): void => {
  const modules = path.join(folder, "node_modules")
  fs.mkdirSync(modules, { recursive: true })
  fs.renameSync(packed, path.join(modules, manifest.name))
  const declared = { ...manifest.dependencies, ...manifest.peerDependencies, "@types/node": "" }
  for (const name of Object.keys(declared)) {
    const link = path.join(modules, name)
    fs.mkdirSync(path.dirname(link), { recursive: true })
    fs.symlinkSync(path.join(installed, name), link, "dir")
  }
  fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }))
}

/** Loads every entry point in one Node process that knows only the consumer. */
const load = (specifiers: ReadonlyArray<string>, consumer: string): ReadonlyArray<Finding> => {
  const program = `for (const specifier of ${JSON.stringify(specifiers)}) {
  await import(specifier).then(
    (module) => Object.keys(module).length > 0 || console.log(specifier + ": exports nothing"),
    (error) => console.log(specifier + ": " + error.message.split("\\n")[0])
  )
}`
  const file = path.join(consumer, "load.js")
  fs.writeFileSync(file, program)
  const { status, stderr, stdout } = spawnSync(process.execPath, [file], { cwd: consumer, encoding: "utf8" })
  const problems = stdout.split("\n").filter((line) => line !== "")
  return [...problems, ...(status === 0 ? [] : [stderr.trim()])].map((message) => ({ file: "dist", message }))
}

/** Compiles an import of every entry point, and the package's declarations themselves, as a NodeNext application would. */
const compile = (specifiers: ReadonlyArray<string>, name: string, consumer: string): ReadonlyArray<Finding> => {
  const file = path.join(consumer, "consumer.ts")
  const lines = specifiers.map((specifier, index) => `export * as entry${index} from ${JSON.stringify(specifier)}`)
  fs.writeFileSync(file, lines.join("\n"))
  const own = path.join(consumer, "node_modules", name) + path.sep
  const options: ts.CompilerOptions = {
    exactOptionalPropertyTypes: true,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    noEmit: true,
    // Declarations with a missing import would otherwise turn into `any` without a word.
    skipLibCheck: false,
    strict: true,
    target: ts.ScriptTarget.ES2022,
    typeRoots: [path.join(consumer, "node_modules", "@types")],
    types: ["node"]
  }
  const program = ts.createProgram([file], options, {
    ...ts.createCompilerHost(options),
    getCurrentDirectory: () => consumer
  })
  const sources = program.getSourceFiles().filter(({ fileName }) => fileName === file || fileName.startsWith(own))
  return sources.flatMap((source) =>
    [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map((diagnostic) => ({
      file: source.fileName === file ? path.basename(file) : path.relative(own, source.fileName),
      line: source.getLineAndCharacterOfPosition(diagnostic.start ?? 0).line + 1,
      message: ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n")
    }))
  )
}

/** Starts every command for its help text. */
const runCommands = (manifest: Manifest, consumer: string): ReadonlyArray<Finding> =>
  Object.values(manifest.bin ?? {}).flatMap((file) => {
    const command = path.join(consumer, "node_modules", manifest.name, file)
    if (!fs.existsSync(command)) return []
    const { status, stderr } = spawnSync(process.execPath, [command, "--help"], { cwd: consumer, encoding: "utf8" })
    return status === 0 ? [] : [{ file, message: `--help ends with ${status ?? "a signal"}: ${stderr.trim()}` }]
  })

/**
 * Examines an unpacked package: `packed` is its folder (which is moved away), `installed` the `node_modules` that holds
 * what it declares, `consumer` a new folder outside the project.
 */
export const examinePackage = (packed: string, installed: string, consumer: string): Outcome => {
  const manifest: Manifest = JSON.parse(fs.readFileSync(path.join(packed, "package.json"), "utf8"))
  const specifiers = Object.entries(manifest.exports).filter(([, target]) => typeof target !== "string")
    .map(([subpath]) => path.posix.join(manifest.name, subpath))
  const missing = missingFiles(manifest, packed)
  makeConsumer(manifest, packed, installed, consumer)
  const findings = [
    ...missing,
    ...load(specifiers, consumer),
    ...compile(specifiers, manifest.name, consumer),
    ...runCommands(manifest, consumer)
  ]
  return { examined: specifiers.length, unit: "entry points", findings }
}

/** What `npm pack` makes (which builds first) can be installed and used: every subpath, its types and the command. */
export const packaging: Check = async (root) => {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "oversqlite-package-")))
  try {
    const pack = spawnSync("npm", ["pack", "--pack-destination", folder], { cwd: root, encoding: "utf8" })
    const archive = fs.readdirSync(folder).find((file) => file.endsWith(".tgz"))
    if (pack.status !== 0 || archive === undefined) {
      const message = `npm pack does not make a package:\n${pack.stdout.trim()}\n${pack.stderr.trim()}`
      return { examined: 1, unit: "packages", findings: [{ file: "package.json", message }] }
    }
    execFileSync("tar", ["-xzf", archive], { cwd: folder })
    return examinePackage(
      path.join(folder, "package"),
      path.join(root, "node_modules"),
      path.join(folder, "consumer")
    )
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}
