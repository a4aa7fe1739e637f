import { readdirSync, readFileSync } from "node:fs"

/** One recorded exchange; bodies are the texts as sent and received. */
export interface Step {
  readonly note?: string
  readonly request: {
    readonly method: string
    readonly path: string
    readonly source: string | null
    readonly body: string | null
  }
  readonly response: { readonly status: number; readonly contentType: string | null; readonly body: string }
}

/** A recorded scenario. */
export interface Scenario {
  readonly name: string
  readonly steps: ReadonlyArray<Step>
}

const directory = new URL("../fixtures/wire/", import.meta.url)

/** All recorded scenarios, by file name. */
export const scenarios: ReadonlyArray<Scenario> = readdirSync(directory)
  .filter((file) => file.endsWith(".json"))
  .sort()
  .map((file) => JSON.parse(readFileSync(new URL(file, directory), "utf8")))
