import effect from "@effect/eslint-plugin"
import tseslint from "typescript-eslint"

const banned = (selector, message) => ({ selector, message })

/** Holds in every TypeScript file. */
const everywhere = [
  banned(
    "TSAsExpression > TSAsExpression",
    "a double assertion switches the type checker off; decode or narrow instead"
  ),
  banned("TSAsExpression > TSNeverKeyword", "an assertion to never fits everywhere; narrow instead")
]

/** The tests that may not be switched off, and the assertions in use. */
const inTests = [
  banned(
    "MemberExpression[object.name=/^(describe|it|test)$/][property.name=/^(only|skip|todo|fails)$/]",
    "no test is switched off or expected to fail"
  ),
  banned(
    "MemberExpression[object.object.name='it'][property.name=/^(only|skip|todo|fails)$/]",
    "no test is switched off or expected to fail"
  )
]

/** The library takes clock, randomness and modules from Effect. */
const inSource = [
  banned("CallExpression[callee.object.name='Math'][callee.property.name='random']", "use Random"),
  banned("CallExpression[callee.object.name='Date'][callee.property.name='now']", "use Clock"),
  banned("NewExpression[callee.name='Date'][arguments.length=0]", "use Clock"),
  banned(
    ":matches(ImportDeclaration, ExportNamedDeclaration, ExportAllDeclaration)"
      + "[source.value=/^(effect|@effect\\/(cli|experimental|platform|platform-node|sql|sql-sqlite-node))$/]",
    "import the module, not the barrel"
  ),
  banned("MemberExpression[property.name='forkDaemon']", "a fiber needs an owner"),
  banned("MemberExpression[object.name='Effect'][property.name='Service']", "write a Context.Tag with its interface")
]

/** Effects are run at the edges only. */
const inLibraryRooms = [
  banned(
    "MemberExpression[object.name='Effect'][property.name=/^run(Promise|PromiseExit|Sync|SyncExit|Fork|Callback)$/]",
    "return the effect; promise and cli run it"
  )
]

/** Words are written out. */
const abbreviations =
  "arr buf cb cfg cnt conn ctx err evt idx msg num obj opts prev ptr req res resp stmt tbl tmp txn val"
    .split(" ")

const restricted = (...lists) => ({ "no-restricted-syntax": ["error", ...lists.flat()] })

export default tseslint.config(
  { ignores: ["dist/**", "node_modules/**"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  ...effect.configs.dprint,
  {
    rules: {
      "@effect/dprint": ["error", {
        config: {
          indentWidth: 2,
          lineWidth: 120,
          operatorPosition: "maintain",
          semiColons: "asi",
          quoteStyle: "alwaysDouble",
          trailingCommas: "never",
          "arrowFunction.useParentheses": "force"
        }
      }],
      "eqeqeq": "error",
      "no-console": "error",
      "no-var": "error",
      "no-warning-comments": ["error", { terms: ["todo", "fixme", "xxx"], location: "anywhere" }],
      "object-shorthand": "error",
      "prefer-const": "error"
    }
  },
  {
    files: ["**/*.ts", "**/*.mts"],
    languageOptions: { parser: tseslint.parser },
    plugins: { "@typescript-eslint": tseslint.plugin },
    rules: {
      "@typescript-eslint/array-type": ["error", { default: "generic", readonly: "generic" }],
      "@typescript-eslint/ban-ts-comment": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/naming-convention": [
        "error",
        { selector: "typeLike", format: ["PascalCase"] },
        { selector: "interface", format: ["PascalCase"], custom: { regex: "^I[A-Z][a-z]", match: false } },
        // Rows of SQLite and bodies of the wire are spelled as they are there.
        { selector: ["variable", "parameter"], modifiers: ["destructured"], format: null },
        { selector: "variable", format: ["camelCase", "PascalCase"], leadingUnderscore: "allow" },
        { selector: "function", format: ["camelCase", "PascalCase"] },
        { selector: "parameter", format: ["camelCase"], leadingUnderscore: "allow" }
      ],
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-non-null-assertion": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      ...restricted(everywhere)
    }
  },
  {
    files: ["src/**/*.ts"],
    rules: {
      "id-denylist": ["error", ...abbreviations],
      "max-lines": ["error", 450],
      "no-restricted-globals": ["error", "setTimeout", "setInterval", "setImmediate", "fetch", "process"],
      ...restricted(everywhere, inSource, inLibraryRooms)
    }
  },
  {
    files: ["src/promise/**/*.ts", "src/cli/**/*.ts"],
    rules: restricted(everywhere, inSource)
  },
  {
    files: ["src/cli/**/*.ts"],
    rules: { "no-restricted-globals": ["error", "setTimeout", "setInterval", "setImmediate", "fetch"] }
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      "no-restricted-imports": ["error", {
        paths: ["@effect/vitest", "vitest"].map((name) => ({
          name,
          importNames: ["expect"],
          message: "use assert"
        }))
      }],
      ...restricted(everywhere, inTests)
    }
  },
  {
    files: ["scratchpad/**", "bench/**", "tools/**"],
    rules: { "no-console": "off" }
  }
)
