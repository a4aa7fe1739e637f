/**
 * What is wrong with a JSON value, member by member, in words for people.
 *
 * @since 0.1.0
 */
import type * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import type * as SchemaAST from "effect/SchemaAST"

/**
 * A member and what is wrong with it. `path` is spelled `[0].key.kind`, and empty for the value itself.
 *
 * @since 0.1.0
 * @category models
 */
export interface MemberProblem {
  readonly path: string
  readonly problem: string
}

const longest = 60

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? "nothing"
  return text.length > longest ? `${text.slice(0, longest)}…` : text
}

/** What may stand there. A union of literals names them all; what may be left out is not worth a word. */
const expected = (ast: SchemaAST.AST): ReadonlyArray<string> => {
  switch (ast._tag) {
    case "Literal":
      return [JSON.stringify(ast.literal)]
    case "Union":
      return ast.types.flatMap(expected)
    case "TupleType":
      return ["an array"]
    case "TypeLiteral":
      return ["an object"]
    case "StringKeyword":
      return ["a text"]
    case "BooleanKeyword":
      return ["true or false"]
    case "UndefinedKeyword":
      return []
    default:
      return [String(ast)]
  }
}

const issuesOf = (
  issues: ParseResult.SingleOrNonEmpty<ParseResult.ParseIssue>
): ReadonlyArray<ParseResult.ParseIssue> => "_tag" in issues ? [issues] : issues

const keysOf = (path: ParseResult.Path): string =>
  (Array.isArray(path) ? path : [path]).map((key) => Predicate.isNumber(key) ? `[${key}]` : `.${String(key)}`).join("")

const mismatch = (path: string, ast: SchemaAST.AST, actual: unknown): MemberProblem => ({
  path,
  problem: `must be ${expected(ast).join(" or ")}, not ${shown(actual)}`
})

/**
 * The problems of a failed decoding, in the order of the value. Of a union only the alternative is reported that the value
 * seems to have been meant for.
 *
 * @since 0.1.0
 * @category formatting
 */
export const memberProblems = (issue: ParseResult.ParseIssue, path = ""): ReadonlyArray<MemberProblem> => {
  switch (issue._tag) {
    case "Pointer":
      return memberProblems(issue.issue, path + keysOf(issue.path))
    case "Missing":
      return [{ path, problem: "is missing" }]
    case "Unexpected":
      return [{ path, problem: "is unknown" }]
    case "Type":
      return [mismatch(path, issue.ast, issue.actual)]
    case "Refinement":
    case "Transformation":
      return memberProblems(issue.issue, path)
    case "Forbidden":
      return [{ path, problem: "cannot be decoded" }]
    case "Composite": {
      const inner = issuesOf(issue.issues)
      if (issue.ast._tag !== "Union") return inner.flatMap((each) => memberProblems(each, path))
      const meant = inner.map((each) => memberProblems(each, path)).find((problems) =>
        problems.some((problem) => problem.path !== path)
      )
      return meant ?? [mismatch(path, issue.ast, issue.actual)]
    }
  }
}
