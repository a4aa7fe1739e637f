import { createRequire } from "node:module"
import * as path from "node:path"
import ts from "typescript"
import { readTypeScriptConfig } from "../project.js"
import type { Check, Finding } from "./Check.js"

type Severity = "off" | "error" | "warning" | "message" | "suggestion"

interface Configuration {
  readonly diagnosticSeverity: Readonly<Record<string, Severity>>
}

/**
 * The rules that hold in `src` beside those of `tsconfig.base.json`, which hold everywhere. Tests, benchmarks and tools
 * run on the real clock, environment and console; the library never does (effect.md §1.5).
 */
const onlyInSource: Readonly<Record<string, Severity>> = {
  anyUnknownInErrorContext: "error",
  deterministicKeys: "error",
  effectFnOpportunity: "error",
  extendsNativeError: "error",
  globalConsole: "error",
  globalConsoleInEffect: "error",
  globalDate: "error",
  globalDateInEffect: "error",
  globalFetch: "error",
  globalFetchInEffect: "error",
  globalRandom: "error",
  globalRandomInEffect: "error",
  globalTimers: "error",
  globalTimersInEffect: "error",
  processEnv: "error",
  processEnvInEffect: "error",
  schemaSyncInEffect: "error",
  strictEffectProvide: "error",
  unsafeEffectTypeAssertion: "error"
}

/** Rooms that assemble programs and may therefore provide layers. */
const entryPoint = /^src\/(?:cli|promise|testing)\//

/**
 * A module that breaks rules on purpose. The language service swallows its own failures and recognises Effect only if
 * modules resolve as it expects; if it does not report these, its silence about the rest means nothing.
 */
const canary = `import * as Effect from "effect/Effect"
export const canary = Effect.gen(function*() {
  const now = Date.now()
  Effect.log("floats")
  yield* Effect.fail(now)
})
export const provided = (n: number) => Effect.gen(function*() {
  return (yield* Effect.succeed(n)) as number
})
`
const canaryRules = ["effectFnOpportunity", "floatingEffect", "globalDateInEffect", "missingReturnYieldStar"]

interface LanguageServicePlugin {
  readonly create: (info: {
    readonly languageService: Partial<ts.LanguageService>
    readonly languageServiceHost: ts.LanguageServiceHost
    readonly project: { readonly log: (message: string) => void }
    readonly config: Configuration
  }) => ts.LanguageService
}

const initialise: (modules: { readonly typescript: typeof ts }) => LanguageServicePlugin = createRequire(
  import.meta.url
)("@effect/language-service/index.js")

const configurationOf = (options: ts.CompilerOptions): Configuration => {
  const plugins: unknown = options["plugins"]
  const plugin: unknown = Array.isArray(plugins)
    ? plugins.find((candidate) => candidate.name === "@effect/language-service")
    : undefined
  if (typeof plugin !== "object" || plugin === null) throw new Error("tsconfig has no plugin @effect/language-service")
  return { diagnosticSeverity: {}, ...plugin }
}

const messageOf = (diagnostic: ts.Diagnostic): string =>
  ts.flattenDiagnosticMessageText(diagnostic.messageText, " ").replace(/\s+/g, " ").trim()

const lineOf = ({ file, start }: ts.Diagnostic): number | undefined =>
  file === undefined || start === undefined ? undefined : file.getLineAndCharacterOfPosition(start).line + 1

/**
 * The diagnostics of the Effect language service, all of them errors, over every file of `tsconfig.json`.
 *
 * Its own command line cannot be used: under NodeNext the declarations of `effect` 3 count as CommonJS, TypeScript gives
 * `import * as Effect from "effect/Effect"` a synthetic type, and the command line then recognises no Effect API at all in
 * files that import modules one by one. Here the same files are read with the resolution of a bundler.
 */
export const effectDiagnostics: Check = async (root) => {
  const { fileNames, options } = readTypeScriptConfig(root)
  const general = configurationOf(options)
  const canaryFile = path.join(root, "src", "canary.ts")
  const host: ts.LanguageServiceHost = {
    directoryExists: ts.sys.directoryExists,
    fileExists: (file) => file === canaryFile || ts.sys.fileExists(file),
    getCompilationSettings: () => ({
      ...options,
      esModuleInterop: false,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler
    }),
    getCurrentDirectory: () => root,
    getDefaultLibFileName: ts.getDefaultLibFilePath,
    getDirectories: ts.sys.getDirectories,
    getScriptFileNames: () => [...fileNames, canaryFile],
    getScriptSnapshot: (file) => {
      const text = file === canaryFile ? canary : ts.sys.readFile(file)
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
    },
    getScriptVersion: () => "0",
    readDirectory: ts.sys.readDirectory,
    readFile: (file) => file === canaryFile ? canary : ts.sys.readFile(file),
    ...(ts.sys.realpath === undefined ? {} : { realpath: ts.sys.realpath })
  }
  const service = ts.createLanguageService(host)
  const diagnosticsUnder = (extra: Readonly<Record<string, Severity>>) => {
    const plugin = initialise({ typescript: ts }).create({
      config: { ...general, diagnosticSeverity: { ...general.diagnosticSeverity, ...extra } },
      // Only what the plugin itself finds: TypeScript's own errors are another check.
      languageService: { ...service, getSemanticDiagnostics: () => [] },
      languageServiceHost: host,
      project: { log: () => {} }
    })
    return (file: string) =>
      plugin.getSemanticDiagnostics(file).filter(({ category }) =>
        category === ts.DiagnosticCategory.Error || category === ts.DiagnosticCategory.Warning
      )
  }
  const anywhere = diagnosticsUnder({})
  const inSource = diagnosticsUnder(onlyInSource)
  // The simulation's steps take their state as an argument and are piped whole: there the suggestion is no gain.
  const inTesting = diagnosticsUnder({
    ...onlyInSource,
    effectFnOpportunity: "off",
    strictEffectProvide: "off"
  })
  const inEntryPoint = diagnosticsUnder({ ...onlyInSource, strictEffectProvide: "off" })

  const caught = inSource(canaryFile).map(messageOf)
  const missed = canaryRules.filter((rule) => !caught.some((message) => message.includes(`effect(${rule})`)))
  if (missed.length > 0) throw new Error(`the Effect language service is blind: it does not see ${missed.join(", ")}`)

  const program = service.getProgram()
  const findings = fileNames.flatMap((fileName): ReadonlyArray<Finding> => {
    const file = path.relative(root, fileName)
    if (program?.getSourceFile(fileName) === undefined) return [{ file, message: "is not part of the program" }]
    const diagnose = file.startsWith("src/testing/")
      ? inTesting
      : entryPoint.test(file)
      ? inEntryPoint
      : file.startsWith("src/")
      ? inSource
      : anywhere
    return diagnose(fileName).map((diagnostic) => ({
      file,
      line: lineOf(diagnostic),
      message: messageOf(diagnostic)
    }))
  })
  service.dispose()
  return { examined: fileNames.length, unit: "files", findings }
}
