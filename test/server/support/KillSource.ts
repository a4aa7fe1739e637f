/** A source of the kill test: it pushes bundles until the connection breaks, and goes on after a restart where it was. */
import { Utils } from "effect"
import { isMembers } from "./Device.js"
import type { Row } from "./Device.js"
import { outcomeOf, rawDevice } from "./RawClient.js"
import type { RawAnswer, RawDevice } from "./RawClient.js"

export const schema = "app"
export const table = "notes"

/** Few enough keys that the sources of a scope meet on them. */
const keys = 600

const rowsPerChunk = 4

/** What the source knows of a row. */
interface Known {
  readonly version: number
  readonly live: boolean
}

/** What the server has acknowledged of a bundle. */
export interface Acknowledged {
  readonly bundleSeq: number
  readonly bundleHash: string
  readonly rowCount: number
}

/** A bundle on its way. What was asked last and not answered is in doubt. */
interface Outgoing {
  readonly id: number
  readonly rows: ReadonlyArray<Row>
  pushId: unknown
  staged: number
  asked: "create" | "chunk" | "commit" | undefined
  /** Whether a commit was sent that may have been carried out. */
  inDoubt: boolean
}

export interface Counts {
  acknowledged: number
  conflicts: number
  committedUnseen: number
  lostUnseen: number
  resumedSessions: number
}

export const noCounts = (): Counts => ({
  acknowledged: 0,
  conflicts: 0,
  committedUnseen: 0,
  lostUnseen: 0,
  resumedSessions: 0
})

const keyOf = (number: number) => `note-${number}`

export class KillSource {
  readonly user: string
  readonly id: string
  /** Content of every bundle that was or may have been committed, by its number; the last text that was sent. */
  readonly sent = new Map<number, ReadonlyArray<Row>>()
  readonly acknowledged = new Map<number, Acknowledged>()
  readonly counts: Counts
  readonly #random: Utils.PCGRandom
  readonly #known = new Map<string, Known>()
  readonly #violations: Array<string>
  #outgoing: Outgoing | undefined
  #hears = () => true
  /** What a verification found out about the bundle in doubt. */
  #expected: "already_committed" | "staging" | undefined

  constructor(user: string, id: string, seed: number, counts: Counts, violations: Array<string>) {
    this.user = user
    this.id = id
    this.counts = counts
    this.#random = new Utils.PCGRandom(seed)
    this.#violations = violations
  }

  /** The number of the bundle whose commit was sent and never answered. */
  get inDoubt(): number | undefined {
    return this.#outgoing?.inDoubt === true ? this.#outgoing.id : undefined
  }

  /** Tells what a verification has seen of the bundle in doubt. */
  expect(committed: boolean): void {
    this.#expected = committed ? "already_committed" : "staging"
  }

  /**
   * Pushes until told to stop, which ends between two bundles, or until the connection breaks, which is no error. `hears`
   * says of each commit that was answered 200 whether the answer arrives; the connection is broken if not.
   */
  async run(
    connection: { readonly url: string; readonly token: string },
    { hears, stop }: { readonly hears: () => boolean; readonly stop: () => boolean }
  ): Promise<void> {
    this.#hears = hears
    const device = rawDevice({ ...connection, source: this.id })
    try {
      while (!stop() || this.#outgoing !== undefined) {
        this.#outgoing ??= this.#next()
        await this.#push(device, this.#outgoing)
      }
    } catch (error) {
      if (!(error instanceof Error) || !("code" in error)) throw error
    } finally {
      device.close()
    }
  }

  #violation(what: string): void {
    this.#violations.push(`${this.user}/${this.id} bundle ${this.#outgoing?.id}: ${what}`)
  }

  #next(): Outgoing {
    const chosen = new Set<number>()
    const count = 1 + this.#random.integer(10)
    while (chosen.size < count) chosen.add(this.#random.integer(keys))
    const id = this.acknowledged.size + 1
    const rows = Array.from(chosen, (number): Row => {
      const known = this.#known.get(keyOf(number)) ?? { version: 0, live: false }
      const head = { schema, table, key: { id: keyOf(number) }, base_row_version: known.version }
      if (known.live && this.#random.integer(4) === 0) return { ...head, op: "DELETE" }
      const payload = { id: keyOf(number), text: `${this.id} ${id}`, size: this.#random.integer(1_000_000) }
      return { ...head, op: known.live ? "UPDATE" : "INSERT", payload }
    })
    return { id, rows, pushId: undefined, staged: 0, asked: undefined, inDoubt: false }
  }

  async #push(device: RawDevice, outgoing: Outgoing): Promise<void> {
    if (outgoing.asked !== undefined) await this.#resume(device, outgoing)
    if (this.#outgoing !== outgoing) return
    if (outgoing.pushId === undefined) await this.#create(device, outgoing)
    if (this.#outgoing !== outgoing) return
    while (outgoing.staged < outgoing.rows.length) {
      const rows = outgoing.rows.slice(outgoing.staged, outgoing.staged + rowsPerChunk)
      outgoing.asked = "chunk"
      const answer = await device.chunk(outgoing.pushId, outgoing.staged, rows)
      outgoing.asked = undefined
      if (answer.status !== 200) return this.#restart(outgoing, `chunk: ${outcomeOf(answer)}`)
      outgoing.staged += rows.length
    }
    this.sent.set(outgoing.id, outgoing.rows)
    this.#committed(outgoing, await this.#commit(device, outgoing))
  }

  async #commit(device: RawDevice, outgoing: Outgoing): Promise<RawAnswer> {
    outgoing.asked = "commit"
    outgoing.inDoubt = true
    const answer = await device.commit(outgoing.pushId)
    if (answer.status === 200 && !this.#hears()) throw Object.assign(new Error("the answer is lost"), { code: "LOST" })
    outgoing.asked = undefined
    return answer
  }

  async #create(device: RawDevice, outgoing: Outgoing): Promise<void> {
    outgoing.asked = "create"
    const answer = await device.create(outgoing.id, outgoing.rows.length)
    outgoing.asked = undefined
    const status = String(answer.body["status"] ?? outcomeOf(answer))
    if (this.#expected !== undefined && status !== this.#expected) {
      this.#violation(`create answered ${status}, and the history says ${this.#expected}`)
    }
    if (outgoing.inDoubt && status === "already_committed") this.counts.committedUnseen += 1
    if (outgoing.inDoubt && status === "staging") this.counts.lostUnseen += 1
    this.#expected = undefined
    if (status === "already_committed" && outgoing.inDoubt) return this.#acknowledge(outgoing, answer)
    outgoing.inDoubt = false
    this.sent.delete(outgoing.id)
    if (status !== "staging") return this.#restart(outgoing, `create: ${status}`)
    outgoing.pushId = answer.body["push_id"]
    outgoing.staged = 0
  }

  /** After a restart: what was in doubt is asked again, or the session is used further as if nothing had happened. */
  async #resume(device: RawDevice, outgoing: Outgoing): Promise<void> {
    const { asked } = outgoing
    outgoing.asked = undefined
    if (asked === "commit" && this.#random.integer(2) === 0) {
      const answer = await this.#commit(device, outgoing)
      const done = answer.status === 404
      if (this.#expected === "already_committed" && !done) {
        this.#violation(`a repeated commit answered ${outcomeOf(answer)} although the bundle is in the history`)
      }
      if (!done) {
        this.counts.lostUnseen += 1
        this.#expected = undefined
        return this.#committed(outgoing, answer)
      }
    } else if (asked === "chunk" && this.#random.integer(2) === 0) {
      const rows = outgoing.rows.slice(outgoing.staged, outgoing.staged + rowsPerChunk)
      outgoing.asked = "chunk"
      const answer = await device.chunk(outgoing.pushId, outgoing.staged, rows)
      outgoing.asked = undefined
      this.counts.resumedSessions += 1
      if (answer.status === 200) {
        outgoing.staged += rows.length
        return
      }
      // Stored before the kill; its answer was lost.
      if (answer.body["error"] !== "push_chunk_out_of_order") this.#violation(`a staged session: ${outcomeOf(answer)}`)
    }
    outgoing.pushId = undefined
  }

  #committed(outgoing: Outgoing, answer: RawAnswer): void {
    if (answer.status === 200) return this.#acknowledge(outgoing, answer)
    outgoing.inDoubt = false
    this.sent.delete(outgoing.id)
    const conflicts = answer.body["conflicts"]
    if (answer.body["error"] !== "push_conflict" || !Array.isArray(conflicts)) {
      return this.#restart(outgoing, `commit: ${outcomeOf(answer)}`)
    }
    this.counts.conflicts += 1
    for (const conflict of conflicts.filter(isMembers)) {
      const key = isMembers(conflict["key"]) ? String(conflict["key"]["id"]) : ""
      const version = Number(conflict["server_row_version"])
      this.#known.set(key, { version, live: version > 0 && conflict["server_row_deleted"] !== true })
    }
    this.#outgoing = undefined
  }

  #acknowledge(outgoing: Outgoing, answer: RawAnswer): void {
    const bundleSeq = Number(answer.body["bundle_seq"])
    this.acknowledged.set(outgoing.id, {
      bundleSeq,
      bundleHash: String(answer.body["bundle_hash"]),
      rowCount: Number(answer.body["row_count"])
    })
    this.counts.acknowledged += 1
    for (const row of outgoing.rows) {
      this.#known.set(String(row.key["id"]), { version: bundleSeq, live: row.op !== "DELETE" })
    }
    this.#outgoing = undefined
  }

  /** An answer that should not have come. */
  #restart(outgoing: Outgoing, what: string): void {
    this.#violation(what)
    outgoing.inDoubt = false
    this.#outgoing = undefined
  }
}
