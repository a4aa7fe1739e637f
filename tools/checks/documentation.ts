import ts from "typescript"
import { projectFiles, read } from "../project.js"
import type { Check, Finding } from "./Check.js"

const isExported = (statement: ts.Statement): boolean =>
  ts.canHaveModifiers(statement) &&
  (ts.getModifiers(statement) ?? []).some((modifier) => modifier.kind === ts.SyntaxKind.ExportKeyword)

interface Export {
  readonly name: string
  /** Where the doc comment stands. */
  readonly node: ts.Node
}

/** What a statement exports of its own. What it passes on from another module is documented there. */
const exportsOf = (statement: ts.Statement): ReadonlyArray<Export> => {
  if (ts.isExportAssignment(statement)) return [{ name: "default", node: statement }]
  if (ts.isExportDeclaration(statement)) {
    return statement.moduleSpecifier === undefined && statement.exportClause &&
        ts.isNamedExports(statement.exportClause)
      ? statement.exportClause.elements.map((node) => ({ name: node.name.text, node }))
      : []
  }
  if (!isExported(statement)) return []
  if (ts.isVariableStatement(statement)) {
    return [{
      name: statement.declarationList.declarations.map(({ name }) => name.getText()).join(", "),
      node: statement
    }]
  }
  return ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement) ||
      ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement)
    ? [{ name: statement.name?.text ?? "default", node: statement }]
    : []
}

/** What is missing in the last doc comment before a node. */
const missing = (node: ts.Node): ReadonlyArray<string> => {
  const comment = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc).at(-1)
  if (comment === undefined) return ["a doc comment"]
  const tags = (comment.tags ?? []).map((tag) => tag.tagName.text)
  const count = (name: string) => tags.filter((tag) => tag === name).length
  const description = ts.getTextOfJSDocComment(comment.comment)?.trim() ?? ""
  return [
    ...(description === "" ? ["a description"] : []),
    // What is stripped from the declarations has no place in the reference, and so neither version nor category.
    ...(count("internal") === 1
      ? []
      : ["since", "category"].filter((tag) => count(tag) !== 1).map((tag) => `one @${tag}`))
  ]
}

/** The members of the interface written inline in `class X extends Context.Tag("…")<X, { … }>() {}`. */
const serviceMembers = (statement: ts.Statement): ReadonlyArray<ts.TypeElement> =>
  ts.isClassDeclaration(statement)
    ? (statement.heritageClauses ?? []).flatMap((clause) => clause.types).flatMap(({ expression }) =>
      ts.isCallExpression(expression)
        ? (expression.typeArguments ?? []).flatMap((type) => ts.isTypeLiteralNode(type) ? type.members : [])
        : []
    )
    : []

/** The findings in the text of one module. */
export const findUndocumented = (
  file: string,
  text: string
): { readonly exports: number; readonly findings: ReadonlyArray<Finding> } => {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const lineOf = (node: ts.Node) => source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1
  const overloaded = new Set<string>()
  const findings: Array<Finding> = []
  let exports = 0
  for (const statement of source.statements) {
    for (const { name, node } of exportsOf(statement)) {
      // The doc comment of an overloaded function stands on its first signature.
      if (ts.isFunctionDeclaration(node) && overloaded.has(name)) continue
      if (ts.isFunctionDeclaration(node)) overloaded.add(name)
      exports += 1
      for (const what of missing(node)) findings.push({ file, line: lineOf(node), message: `${name} lacks ${what}` })
    }
    for (const member of serviceMembers(statement)) {
      if (ts.getJSDocCommentsAndTags(member).length > 0) continue
      findings.push({
        file,
        line: lineOf(member),
        message: `${member.name?.getText()} of a service lacks a doc comment`
      })
    }
  }
  return { exports, findings }
}

/**
 * Every export of `src` has a doc comment with a description, one `@since` and one `@category` (or `@internal`), and every
 * member of a service says what it does.
 */
export const documentation: Check = async (root) => {
  const modules = projectFiles(root)
    .filter((file) => /^src\/.*\.ts$/.test(file))
    .map((file) => findUndocumented(file, read(root, file)))
  return {
    examined: modules.reduce((sum, module) => sum + module.exports, 0),
    unit: "exports",
    findings: modules.flatMap((module) => module.findings)
  }
}
