import { projectFiles, read } from "../project.js"
import type { Check, Finding } from "./Check.js"

/**
 * What ties a file to the machine it was written on. One letter of each word stands in brackets, so that this file does
 * not match itself.
 */
const forbidden: ReadonlyArray<readonly [pattern: RegExp, what: string]> = [
  [/\/(?:w[o]rk|f[a]rm|r[o]ot|t[m]p)\//, "a path of one machine"],
  [/registry\.(?:n[p]mjs|n[p]mmirror|y[a]rnpkg)|deb\.d[e]bian|pypi\.p[y]thon/, "the host of a package registry"]
]

/** The findings in one text. */
export const findWords = (file: string, text: string): ReadonlyArray<Finding> =>
  text.split("\n").flatMap((line, index) =>
    forbidden.filter(([pattern]) => pattern.test(line)).map(([, what]) => ({
      file,
      line: index + 1,
      message: `names ${what}`
    }))
  )

/** No file of the project may name a path of one machine or the host of a registry. */
export const words: Check = async (root) => {
  const files = projectFiles(root)
  const findings = files.flatMap((file) => {
    const text = read(root, file)
    return text.includes("\0") ? [] : findWords(file, text)
  })
  return { examined: files.length, unit: "files", findings }
}
