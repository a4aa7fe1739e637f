import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import ts from "typescript"

const notOurs = new Set([".git", "coverage", "dist", "node_modules"])

const walk = (root: string, folder: string): ReadonlyArray<string> =>
  fs.readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const file = path.posix.join(folder, entry.name)
    if (notOurs.has(entry.name)) return []
    return entry.isDirectory() ? walk(root, file) : entry.isFile() ? [file] : []
  })

/**
 * The project's own files, relative to `root`: what git tracks or would add, or, for an unpacked copy without git, every
 * file outside the folders of tools.
 */
export const projectFiles = (root: string): ReadonlyArray<string> => {
  if (!fs.existsSync(path.join(root, ".git"))) return walk(root, "")
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024
  })
  return listed.split("\0").filter((file) => file !== "" && fs.existsSync(path.join(root, file)))
}

/** The text of a file of the project. */
export const read = (root: string, file: string): string => fs.readFileSync(path.join(root, file), "utf8")

/** The files and options of the project's `tsconfig.json`. */
export const readTypeScriptConfig = (root: string, name = "tsconfig.json"): ts.ParsedCommandLine => {
  const parsed = ts.getParsedCommandLineOfConfigFile(path.join(root, name), {}, {
    ...ts.sys,
    getCurrentDirectory: () => root,
    onUnRecoverableConfigFileDiagnostic: (diagnostic) => {
      throw new Error(ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n"))
    }
  })
  if (parsed === undefined) throw new Error(`${name} cannot be read`)
  return parsed
}
