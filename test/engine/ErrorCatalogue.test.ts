/** Every error of the catalogue (errors.md §1, `SyncError`) really occurs, and no other one escapes. */
import { assert, describe, it } from "@effect/vitest"
import type { Schema, Stream } from "effect"
import { Effect } from "effect"
import * as SchemaAST from "effect/SchemaAST"
import type { make, SyncClient, SyncError } from "oversqlite"
import * as Catalogue from "../../src/contract/SyncError.js"
import { scenarios } from "./support/Catalogue.js"
import type { Scenario } from "./support/Provoking.js"
import { declared } from "./support/Provoking.js"
import { makeWorld } from "./support/World.js"

interface ErrorClass {
  readonly _tag: string
  readonly fields: Schema.Struct.Fields
}

const isErrorClass = (value: unknown): value is ErrorClass =>
  typeof value === "function" && "_tag" in value && "fields" in value

const classes: ReadonlyArray<ErrorClass> = Object.values<unknown>(Catalogue).filter(isErrorClass)

/** Members by which an error says more than its tag; their literals are the rows of errors.md §1.4–1.7. */
const distinguishing = ["code", "reason", "rule", "argument"]

const literalsOf = (ast: SchemaAST.AST): ReadonlyArray<string> =>
  SchemaAST.isUnion(ast) ? ast.types.flatMap(literalsOf) : SchemaAST.isLiteral(ast) ? [String(ast.literal)] : []

const hasAst = (field: unknown): field is { readonly ast: SchemaAST.AST } =>
  (typeof field === "function" || typeof field === "object") && field !== null && "ast" in field

/** What the schemas say can occur: the tag, or the tag with each of its literals. */
const promised: ReadonlyArray<string> = classes.flatMap(({ _tag, fields }) => {
  const literals = distinguishing.flatMap((name) => {
    const field: unknown = fields[name]
    return hasAst(field) ? literalsOf(field.ast) : []
  })
  return literals.length === 0 ? [_tag] : literals.map((literal) => `${_tag} ${literal}`)
})

/** Literals that no caller can meet, each with its reason. */
const neverMet: Readonly<Record<string, string>> = {}

/** Values of rows, the token, the server's own words, SQLite's text. */
const secrets = ["SECRET", "free text", "SQLITE", "0011"]

/** What no form of an error may hold: a token, and values of rows. */
const hidden = ["SECRET", "Bearer"]

const caught = ({ provoke }: Scenario) =>
  Effect.gen(function*() {
    const world = yield* makeWorld({ declared })
    return yield* Effect.flip(provoke(world))
  })

const nameOf = (error: SyncError): string => {
  const told = distinguishing.flatMap((name) => {
    const value: unknown = Reflect.get(error, name)
    return promised.includes(`${error._tag} ${String(value)}`) ? [String(value)] : []
  })
  return [error._tag, ...told].join(" ")
}

const isSyncError = (error: unknown): error is SyncError =>
  classes.some((one) => typeof one === "function" && error instanceof one)

describe("the catalogue of errors [errors.md §1]", () => {
  it("has a scenario for every tag and every literal, and no other one", () => {
    assert.deepStrictEqual([...Object.keys(scenarios), ...Object.keys(neverMet)].sort(), [...promised].sort())
  })

  it("has 31 tags [§1.2]", () => {
    assert.lengthOf(classes, 31)
  })

  for (const [name, scenario] of Object.entries(scenarios)) {
    const { action, operation, retryable } = scenario
    it.scoped(`${name}: ${action}${retryable ? ", or the same call later" : ""}`, () =>
      Effect.gen(function*() {
        const error = yield* caught(scenario)
        if (!isSyncError(error)) return assert.fail(`no error of the catalogue: ${String(error)}`)
        assert.strictEqual(nameOf(error), name, String(error))
        assert.deepInclude(
          { operation: error.operation, retryable: error.retryable, action: error.action },
          { operation, retryable, action }
        )
        assert.match(error.code, /^[a-z][a-z_]*$/)
        assert.match(error.message, new RegExp(`^${operation}: .+; the same call .+; .+`))
        for (const secret of secrets) assert.notInclude(error.message, secret)
        const json = JSON.stringify(error)
        for (const secret of hidden) assert.notInclude(json, secret)
        const { _tag, code, message } = error
        assert.deepInclude(JSON.parse(json), { _tag, code, message, operation, retryable, action })
      }))
  }
})

/** The error of every operation, stream and constructor of the client. */
type ErrorOf<Member> = Member extends Effect.Effect<infer _A, infer E, infer _R> ? E
  : Member extends Stream.Stream<infer _A, infer E, infer _R> ? E
  : Member extends (...args: infer _Args) => infer Result ? ErrorOf<Result>
  : never

type Members = SyncClient["Type"]

describe("no other error escapes [errors.md rule 2]", () => {
  it("by the types of all members of the client and of its constructor", () => {
    const isOfCatalogue = (
      error: { [Name in keyof Members]: ErrorOf<Members[Name]> }[keyof Members] | ErrorOf<ReturnType<typeof make>>
    ): SyncError => error
    assert.isFunction(isOfCatalogue)
  })
})
