import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { onTestFinished } from "vitest"
import { projectRoot } from "../../tools/paths.js"

/** A folder outside the project that is removed when the test ends. */
export const temporaryFolder = (): string => {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "oversqlite-")))
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A project of these files alone, with the configuration and the installed packages of the real one. */
export const plantedProject = (files: Readonly<Record<string, string>>): string => {
  const root = temporaryFolder()
  for (const name of ["package.json", "tsconfig.base.json", "tsconfig.json"]) {
    fs.copyFileSync(path.join(projectRoot, name), path.join(root, name))
  }
  fs.symlinkSync(path.join(projectRoot, "node_modules"), path.join(root, "node_modules"), "dir")
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
    fs.writeFileSync(path.join(root, name), text)
  }
  return root
}
