import * as path from "node:path"
import ts from "typescript"
import { projectFiles, read, readTypeScriptConfig } from "../project.js"
import type { Check, Finding } from "./Check.js"

/** A program shown to a reader: its text and the 1-based line of the file where it begins. */
export interface Example {
  readonly file: string
  readonly line: number
  readonly text: string
}

const fence = /^[ \t]*```(?:ts|typescript)\b[^\n]*\n([\s\S]*?)^[ \t]*```[ \t]*$/gm

const lineAt = (text: string, offset: number): number => text.slice(0, offset).split("\n").length

/** The TypeScript blocks of a text in Markdown. */
export const inMarkdown = (file: string, text: string, firstLine = 1): ReadonlyArray<Example> =>
  [...text.matchAll(fence)].map((match) => ({
    file,
    line: firstLine + lineAt(text, match.index),
    text: match[1] ?? ""
  }))

/** The doc comments of a module, each with the 1-based line where it begins. */
const docComments = (file: string, text: string) => {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const found = new Map<number, string>()
  const visit = (node: ts.Node): void => {
    for (const { end, pos } of ts.getLeadingCommentRanges(text, node.getFullStart()) ?? []) {
      if (text.startsWith("/**", pos)) found.set(pos, text.slice(pos, end))
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return [...found].map(([position, comment]) => ({ comment, line: lineAt(text, position) }))
}

/** The `@example` programs of a module; one without a TypeScript block is a finding. */
export const inModule = (
  file: string,
  text: string
): { readonly examples: ReadonlyArray<Example>; readonly findings: ReadonlyArray<Finding> } => {
  const examples: Array<Example> = []
  const findings: Array<Finding> = []
  for (const { comment, line } of docComments(file, text)) {
    const lines = comment.replace(/\*\/$/, "").split("\n").map((each) => each.replace(/^\s*\*(?!\/) ?/, ""))
    const starts = lines.flatMap((each, index) => /^\s*@[a-z]/.test(each) ? [index] : [])
    for (const start of starts.filter((index) => /^\s*@example\b/.test(lines[index] ?? ""))) {
      const end = starts.find((index) => index > start) ?? lines.length
      const section = lines.slice(start, end).join("\n") + "\n"
      const shown = inMarkdown(file, section, line + start)
      examples.push(...shown)
      if (shown.length === 0) {
        findings.push({ file, line: line + start, message: "an @example needs a ```ts block, so that it is compiled" })
      }
    }
  }
  return { examples, findings }
}

/** Type-checks programs as modules of the project that lie beside its `package.json`. */
const compile = (root: string, examples: ReadonlyArray<Example>): ReadonlyArray<Finding> => {
  const virtual = new Map(
    examples.map((example, index) => [path.join(root, `example-${index}.ts`), example] as const)
  )
  const options: ts.CompilerOptions = {
    ...readTypeScriptConfig(root).options,
    // An example may show a value without using it.
    noUnusedLocals: false,
    noUnusedParameters: false
  }
  const host = ts.createCompilerHost(options)
  const program = ts.createProgram([...virtual.keys()], options, {
    ...host,
    fileExists: (file) => virtual.has(file) || host.fileExists(file),
    getCurrentDirectory: () => root,
    getSourceFile: (file, languageVersion, ...rest) => {
      const example = virtual.get(file)
      return example === undefined
        ? host.getSourceFile(file, languageVersion, ...rest)
        : ts.createSourceFile(file, example.text, languageVersion, true)
    },
    readFile: (file) => virtual.get(file)?.text ?? host.readFile(file)
  })
  const general = [...program.getOptionsDiagnostics(), ...program.getGlobalDiagnostics()].map(({ messageText }) => ({
    file: "tsconfig.json",
    message: ts.flattenDiagnosticMessageText(messageText, "\n")
  }))
  return [
    ...general,
    ...[...virtual].flatMap(([name, { file, line }]) => {
      const source = program.getSourceFile(name)
      if (source === undefined) return [{ file, line, message: "the example was not compiled" }]
      return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map((
        diagnostic
      ) => ({
        file,
        line: line + source.getLineAndCharacterOfPosition(diagnostic.start ?? 0).line,
        message: ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n")
      }))
    })
  ]
}

/** Every TypeScript block of the Markdown files and every `@example` of `src` compiles against the project. */
export const examples: Check = async (root) => {
  const files = projectFiles(root)
  const modules = files.filter((file) => /^src\/.*\.ts$/.test(file)).map((file) => inModule(file, read(root, file)))
  const inPages = files.filter((file) => file.endsWith(".md")).flatMap((file) => inMarkdown(file, read(root, file)))
  const all = [...inPages, ...modules.flatMap((module) => module.examples)]
  const readme: ReadonlyArray<Finding> = inPages.some(({ file }) => file === "README.md")
    ? []
    : [{ file: "README.md", message: "shows no program in a ```ts block" }]
  return {
    examined: all.length,
    unit: "examples",
    findings: [...readme, ...modules.flatMap((module) => module.findings), ...compile(root, all)]
  }
}
