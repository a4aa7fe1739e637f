/** The server is killed at random moments under load, and has to prove after every restart that nothing was lost. */
import Database from "better-sqlite3"
import { Effect, Redacted, Utils } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { Authentication } from "oversqlite/server"
import type { TableDeclaration } from "oversqlite/server"
import { startProcess } from "../../cli/support/Process.js"
import type { Process } from "../../cli/support/Process.js"
import { verifyScope } from "./KillModel.js"
import { KillSource, noCounts, schema, table } from "./KillSource.js"
import type { Counts } from "./KillSource.js"
import { rawDevice } from "./RawClient.js"

export interface KillOptions {
  readonly kills: number
  readonly seed: number
  /** An empty directory. */
  readonly directory: string
  readonly scopes?: number
  readonly sourcesPerScope?: number
  /** Called after each restart. */
  readonly report?: (line: string) => void
}

export interface KillReport extends Counts {
  readonly kills: number
  /** How many of the kills came before the server listened. */
  readonly killsDuringStart: number
  readonly bundles: number
  readonly rows: number
  /** What was wrong. */
  readonly violations: ReadonlyArray<string>
}

const secret = "a secret of the kill test, long enough to sign with"

export const tables: ReadonlyArray<TableDeclaration> = [
  { schema, table, key: { column: "id", kind: "text" }, columns: { text: "text", size: "integer" } }
]

/** Longest life of a loaded server whose death does not depend on what it does, in milliseconds. */
const longestLoad = 800

/** Otherwise it dies at or after so many commits. */
const mostCommits = 60
const shortLife = 30
const longestWait = 10_000

interface Kill {
  readonly what: string
  /** Whether the answer of a commit still reaches its source. */
  readonly hears: () => boolean
  readonly carriedOut: Promise<unknown>
}

/** One kill in so many comes while the server starts. */
const killsPerStartKill = 5

export const killRun = async (
  { directory, kills, report = () => {}, scopes = 2, seed, sourcesPerScope = 4 }: KillOptions
): Promise<KillReport> => {
  const random = new Utils.PCGRandom(seed)
  const file = (name: string) => path.join(directory, name)
  fs.writeFileSync(file("secret"), secret)
  fs.writeFileSync(file("tables.json"), JSON.stringify(tables))
  const start = () =>
    startProcess([
      ...["serve", "--data", file("data"), "--port", "0"],
      ...["--tables", file("tables.json"), "--jwt-secret-file", file("secret")]
    ])
  const violations: Array<string> = []
  const counts = noCounts()
  const users = await Promise.all(Array.from({ length: scopes }, async (_, index) => ({
    user: `user-${index}`,
    token: Redacted.value(
      await Effect.runPromise(Authentication.issueToken({ secret: Redacted.make(secret), userId: `user-${index}` }))
    ),
    sources: Array.from(
      { length: sourcesPerScope },
      (_, source) => new KillSource(`user-${index}`, `source-${source}`, random.integer(2 ** 31), counts, violations)
    )
  })))

  /** Starts a server; the value is its address, or nothing if it was killed before it listened. */
  const started = async (server: Process, killAfter: number | undefined): Promise<string | undefined> => {
    const listening = server.listening()
    if (killAfter === undefined) return listening
    const timer = pause(killAfter).then(() => undefined)
    const url = await Promise.race([listening.catch(() => undefined), timer])
    if (url !== undefined) return url
    server.kill("SIGKILL")
    await server.ended
    return undefined
  }

  let history = { bundles: 0, rows: 0 }
  const verify = async (url: string) => {
    const found = await Promise.all(users.map(({ sources, token, user }) => verifyScope(user, sources, { url, token })))
    for (const { problems } of found) violations.push(...problems)
    history = {
      bundles: found.reduce((sum, { bundles }) => sum + bundles, 0),
      rows: found.reduce((sum, { rows }) => sum + rows, 0)
    }
  }

  /** All sources push until the server is killed or, without a kill, until each has finished what it was at. */
  const load = async (url: string, kill?: Kill) => {
    const working = Promise.all(
      users.flatMap(({ sources, token }) =>
        sources.map((source) =>
          source.run({ url, token }, { hears: kill?.hears ?? (() => true), stop: () => kill === undefined })
        )
      )
    )
    await kill?.carriedOut
    await working
  }

  /** Kills a server at a moment of one of three kinds, and says of which. */
  const killing = (server: Process): Kill => {
    const end = () => {
      server.kill("SIGKILL")
      return server.ended
    }
    const life = random.integer(longestLoad)
    const commits = 1 + random.integer(mostCommits)
    switch (random.integer(3)) {
      case 0:
        return { what: `${life} ms after the first request`, hears: () => true, carriedOut: pause(life).then(end) }
      case 1: {
        const until = counts.acknowledged + commits
        const carriedOut = (async () => {
          for (let waited = 0; counts.acknowledged < until && waited < longestWait; waited++) await pause(1)
          await pause(random.integer(shortLife))
          await end()
        })()
        return { what: `soon after ${commits} commits`, hears: () => true, carriedOut }
      }
      default: {
        let left = commits
        const hears = () => {
          if (--left === 0) void end()
          return left > 0
        }
        const carriedOut = Promise.race([server.ended, pause(longestWait, undefined, { ref: false }).then(end)])
        return { what: `at the answer of commit ${commits}, unheard`, hears, carriedOut }
      }
    }
  }

  let killsDuringStart = 0
  let connected = false
  // Of the last server that could start; a machine under load takes a multiple of what an idle one takes.
  let startTime = 0
  for (let kill = 1; kill <= kills;) {
    const began = performance.now()
    const server = start()
    const early = random.integer(killsPerStartKill) === 0
    const url = await started(server, early && startTime > 0 ? random.number() * startTime : undefined)
    if (url === undefined) {
      killsDuringStart += 1
      report(`kill ${kill++}: while starting`)
      continue
    }
    startTime = performance.now() - began
    if (connected) await verify(url)
    for (const { token } of users) await rawDevice({ url, token, source: "reader" }).connect()
    connected = true
    const moment = killing(server)
    await load(url, moment)
    report(
      `kill ${kill++}: ${moment.what}; ${counts.acknowledged} commits acknowledged, ${history.bundles} verified, ` +
        `${violations.length} violations`
    )
  }

  const server = start()
  const url = await server.listening()
  await verify(url)
  await load(url)
  await verify(url)
  server.kill("SIGTERM")
  const { code } = await server.ended
  if (code !== 0) violations.push(`the last server ended with ${code}`)
  if (server.printed.stderr !== "") violations.push(`the last server complained: ${server.printed.stderr}`)
  const database = new Database(path.join(directory, "data", "oversqlite.db"), { readonly: true })
  const integrity = database.pragma("integrity_check", { simple: true })
  if (integrity !== "ok") violations.push(`integrity_check: ${String(integrity)}`)
  database.close()
  return { kills, killsDuringStart, ...history, ...counts, violations }
}
