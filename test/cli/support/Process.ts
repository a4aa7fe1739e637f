/** The command as a process of its own, run from its sources. */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../../", import.meta.url))

const script = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A started process: what it has printed, and its end. */
export const startProcess = (args: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, ["--import", "tsx", script, ...args], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"]
  })
  const printed = { stdout: "", stderr: "" }
  let told: Array<() => void> = []
  const tell = () => {
    for (const wake of told.splice(0)) wake()
  }
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    printed.stdout += text
    tell()
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    printed.stderr += text
    tell()
  })
  let end: Ended | undefined
  const ended = new Promise<Ended>((resolve) =>
    child.on("close", (code, signal) => {
      end = { code, signal }
      resolve(end)
      tell()
    })
  )
  /** The first match in what is printed to `stdout`; fails if the process ends without. */
  const waitFor = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (;;) {
      const match = pattern.exec(printed.stdout)
      if (match !== null) return match
      if (end !== undefined) throw new Error(`ended without ${pattern}: ${printed.stdout}${printed.stderr}`)
      await new Promise<void>((resolve) => told = [...told, resolve])
    }
  }
  return {
    printed,
    ended,
    waitFor,
    /** The address it listens on, once it does. */
    listening: async () => (await waitFor(/^listening on (http:\S+)$/m))[1] ?? "",
    kill: (signal: NodeJS.Signals) => child.kill(signal)
  }
}

export type Process = ReturnType<typeof startProcess>

/** A process that does not outlive the scope. */
export const processOf = (...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => startProcess(args)),
    (started) =>
      Effect.promise(() => {
        started.kill("SIGKILL")
        return started.ended
      })
  )

/** What a process that ends by itself has printed, and how it ended. */
export const completed = (...args: ReadonlyArray<string>) =>
  Effect.scoped(Effect.gen(function*() {
    const started = yield* processOf(...args)
    const { code } = yield* Effect.promise(() => started.ended)
    return { code, ...started.printed }
  }))
