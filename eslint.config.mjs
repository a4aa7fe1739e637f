import effect from "@effect/eslint-plugin"
import tseslint from "typescript-eslint"

export default tseslint.config(
  { ignores: ["dist/**", "node_modules/**"] },
  ...effect.configs.dprint,
  {
    files: ["**/*.ts", "**/*.mts"],
    languageOptions: { parser: tseslint.parser },
    plugins: { "@typescript-eslint": tseslint.plugin },
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
      "@typescript-eslint/array-type": ["error", { default: "generic", readonly: "generic" }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-non-null-assertion": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "no-console": "error",
      "object-shorthand": "error",
      "prefer-const": "error"
    }
  },
  {
    files: ["src/**/*.ts"],
    rules: {
      "no-restricted-globals": ["error", "setTimeout", "setInterval", "setImmediate", "fetch", "process"],
      "no-restricted-syntax": [
        "error",
        { selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']", message: "use Random" },
        { selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']", message: "use Clock" },
        { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: "use Clock" },
        {
          selector: "ImportDeclaration[source.value=/^(effect|@effect\\/(platform|sql|platform-node))$/]:not([importKind='type'])",
          message: "import the module, not the barrel"
        },
        { selector: "MemberExpression[property.name='forkDaemon']", message: "a fiber needs an owner" }
      ]
    }
  },
  {
    files: ["scratchpad/**", "bench/**", "tools/**"],
    rules: { "no-console": "off" }
  }
)
