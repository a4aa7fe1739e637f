/**
 * What hosts were promised, and whether it was kept. A model of its own: it knows writes and decisions, and nothing about
 * uploads, versions or conflicts.
 *
 * Every write of a host has a name (its stamp). The ledger notes which write was made on top of which, and which write
 * gave way to which by a decision of a conflict resolver. At the end, from every write that was acknowledged (whose
 * transaction committed) the notes must lead to what everybody sees: to the stamp of the row, or, if there is no row, to a
 * deletion. A write from which nothing leads there has been lost silently.
 *
 * @since 0.1.0
 */
import type { StampedRow } from "./SimulatedSchema.js"

/**
 * The rows of a database: `table key` → stamp.
 *
 * @since 0.1.0
 * @category models
 */
export type StampedRows = ReadonlyMap<string, StampedRow>

/**
 * A write of a host.
 *
 * @since 0.1.0
 * @category models
 */
export interface Write {
  readonly row: string
  readonly device: string
  readonly deletes: boolean
  readonly owners: ReadonlyArray<string>
  /** There was no such row where it was written. */
  readonly anew: boolean
  /** Whose data it is; unknown while the device belongs to nobody. */
  user: string | undefined
  /** Why it may be missing: the machine that had it was rolled back, for example. */
  excuse: string | undefined
}

/**
 * Everything that a ledger has noted.
 *
 * @since 0.1.0
 * @category models
 */
export interface Notes {
  readonly writes: ReadonlyArray<readonly [name: string, write: Write]>
  readonly next: ReadonlyArray<readonly [from: string, to: ReadonlyArray<string>]>
  readonly ofTwins: ReadonlyArray<string>
  readonly wentBack: ReadonlyArray<readonly [user: string, rows: StampedRows]>
  readonly deletions: number
}

/**
 * The notes of one simulation.
 *
 * @since 0.1.0
 * @category models
 */
export interface Ledger {
  /** A host's transaction has committed. */
  readonly wrote: (device: string, transaction: {
    readonly user: string | undefined
    readonly before: StampedRows
    readonly after: StampedRows
    /** Rows that the server has or may have: to delete another one leaves nothing to tell. */
    readonly known: ReadonlySet<string>
  }) => void
  /** A resolver has decided between two states of a row; `undefined` is "no row". */
  readonly decided: (decision: {
    readonly row: string
    readonly loser: string | undefined
    readonly winner: string | undefined
  }) => void
  /** Decisions between a write and one that it had been made on top of. */
  readonly needless: () => ReadonlyArray<{ readonly row: string; readonly earlier: string; readonly later: string }>
  /** What a device wrote while it belonged to nobody belongs to this user. */
  readonly attached: (device: string, user: string) => void
  /** The writes of a device that was rolled back: those to `pending` rows are gone unless they are in `kept`. */
  readonly rolledBack: (device: string, pending: ReadonlySet<string>, kept: StampedRows) => void
  /**
   * A device has gone back to a state with the rows `kept`, of which some are `pending`. What it has written since is on the
   * server under numbers that it will use again: where it then sends another content of the row, that is based on the
   * earlier one (push.md §8.1), and no resolver is asked.
   */
  readonly forgets: (device: string, kept: StampedRows, pending: ReadonlySet<string>) => void
  /** An attach with `localRows: "replace"` has thrown away what the device wrote while it belonged to nobody. */
  readonly discarded: (device: string, kept: StampedRows) => void
  /** The engine was uninstalled: that the rows in `deletes` were deleted is forgotten (lifecycle.md §8). */
  readonly uninstalled: (device: string, deletes: ReadonlySet<string>) => void
  /** A write that was not acknowledged: it may have happened, and then counts as later than what was there. */
  readonly tried: (write: {
    readonly row: string
    readonly before: string | undefined
    readonly stamp: string
    readonly deletes: boolean
    readonly user: string
  }) => void
  /**
   * The rows were waiting for the server in a database that now exists twice, or again. If both send different contents
   * under one number, the later one is based on the earlier (push.md §8.1), and no resolver is asked.
   */
  readonly twins: (pending: ReadonlySet<string>) => void
  /** The server went back to `restored`; the devices still have `held`. */
  readonly serverWentBack: (user: string, restored: StampedRows, held: ReadonlyArray<StampedRows>) => void
  /** A device that held rows of the user, or of any, has given them up since the server went back. */
  readonly gaveUp: (user?: string) => void
  /** Number of acknowledged writes. */
  readonly size: () => number
  /** What is noted now. */
  readonly notes: () => Notes
  /** Goes on from notes made before, in place of its own. */
  readonly adopt: (notes: Notes) => void
  /** Writes that everybody has lost: one line each. */
  readonly lost: (user: string, rows: StampedRows) => ReadonlyArray<string>
}

/**
 * An empty ledger.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (): Ledger => {
  const writes = new Map<string, Write>()
  const next = new Map<string, Set<string>>()
  const ofTwins = new Set<string>()
  const wentBack = new Map<string, StampedRows>()
  const onTopOf = new Map<string, string>()
  const needless: Array<{ readonly row: string; readonly earlier: string; readonly later: string }> = []
  let deletions = 0

  /** Writes that a device has forgotten, by device and row. */
  const forgotten = new Map<string, Map<string, Array<string>>>()

  const link = (from: string, to: string) => {
    if (from === to) return
    const known = next.get(from)
    if (known === undefined) next.set(from, new Set([to]))
    else known.add(to)
  }

  const deletionsOf = (row: string) =>
    Array.from(writes).filter(([, write]) => write.deletes && write.row === row).map(([name]) => name)

  const note = (name: string, write: Omit<Write, "excuse">) => {
    writes.set(name, { ...write, excuse: undefined })
  }

  const deletion = (row: string, device: string, user: string | undefined) => {
    const name = `deletion ${++deletions}`
    note(name, { row, device, user, deletes: true, owners: [], anew: false })
    return name
  }

  /** All writes that the notes lead to. */
  const reached = (from: string): ReadonlySet<string> => {
    const seen = new Set([from])
    for (const name of seen) for (const following of next.get(name) ?? []) seen.add(following)
    return seen
  }

  const isOnTop = (later: string, earlier: string): boolean => {
    for (let name = onTopOf.get(later); name !== undefined; name = onTopOf.get(name)) if (name === earlier) return true
    return false
  }

  const writesOf = (row: string) => Array.from(writes).filter(([, write]) => write.row === row).map(([name]) => name)

  /** The row is gone because a row that it belonged to is gone. */
  const wentAlong = (names: Iterable<string>): boolean =>
    Array.from(names).some((name) => (writes.get(name)?.owners ?? []).some((owner) => deletionsOf(owner).length > 0))

  /** Later than a write, the row was made anew, and that leads to what is seen now. */
  const madeAnew = (name: string, row: string, now: string): boolean => {
    const order = Array.from(writes)
    const at = order.findIndex(([other]) => other === name)
    return order.slice(at + 1).some(([other, write]) => write.anew && write.row === row && reached(other).has(now))
  }

  return {
    wrote: (device, { after, before, known, user }) => {
      for (const [row, { owners, stamp }] of after) {
        const old = before.get(row)?.stamp
        if (old === stamp) continue
        if (!writes.has(stamp)) {
          note(stamp, { row, device, user, deletes: false, owners, anew: old === undefined })
          if (old !== undefined) onTopOf.set(stamp, old)
        }
        for (const name of forgotten.get(device)?.get(row) ?? []) link(name, stamp)
        if (old !== undefined) link(old, stamp)
        else for (const name of deletionsOf(row)) link(name, stamp)
      }
      for (const [row, { stamp }] of before) {
        if (after.has(row)) continue
        const name = deletion(row, device, user)
        link(stamp, name)
        for (const forgot of forgotten.get(device)?.get(row) ?? []) link(forgot, name)
        const write = writes.get(name)
        if (write !== undefined && !known.has(row)) write.excuse = "the server never had the row"
      }
    },
    decided: ({ loser, row, winner }) => {
      for (const [earlier, later] of [[loser, winner], [winner, loser]]) {
        if (earlier !== undefined && later !== undefined && isOnTop(later, earlier)) {
          needless.push({ row, earlier, later })
        }
      }
      const of = (stamp: string | undefined) => {
        if (stamp !== undefined) return [stamp]
        const known = deletionsOf(row)
        return known.length > 0 ? known : [deletion(row, "server", undefined)]
      }
      for (const from of of(loser)) for (const to of of(winner)) link(from, to)
    },
    needless: () => needless,
    attached: (device, user) => {
      for (const write of writes.values()) {
        if (write.device === device && write.user === undefined) write.user = user
      }
    },
    forgets: (device, kept, pending) => {
      const rows = forgotten.get(device) ?? new Map<string, Array<string>>()
      forgotten.set(device, rows)
      for (const [name, { device: writer, row }] of writes) {
        const stamp = kept.get(row)?.stamp
        if (writer !== device || stamp === name || (stamp !== undefined && reached(name).has(stamp))) continue
        rows.set(row, [...rows.get(row) ?? [], name])
        if (stamp !== undefined && pending.has(row)) link(name, stamp)
      }
    },
    rolledBack: (device, pending, kept) => {
      for (const [name, write] of writes) {
        if (write.device === device && pending.has(write.row) && kept.get(write.row)?.stamp !== name) {
          write.excuse = "its device was rolled back"
        }
      }
    },
    discarded: (device, kept) => {
      for (const [name, write] of writes) {
        if (write.device === device && write.user === undefined && kept.get(write.row)?.stamp !== name) {
          write.excuse = "thrown away by an attach that replaces local rows"
        }
      }
    },
    uninstalled: (device, deletes) => {
      for (const write of writes.values()) {
        if (write.device === device && write.deletes && deletes.has(write.row)) {
          write.excuse = "the engine was uninstalled before the delete was sent"
        }
      }
    },
    tried: ({ before, deletes, row, stamp, user }) => {
      const name = deletes ? deletion(row, "the backend", user) : stamp
      const write = writes.get(name)
      if (write !== undefined) write.excuse = "never acknowledged"
      if (before !== undefined) link(before, name)
    },
    twins: (pending) => {
      for (const row of pending) ofTwins.add(row)
    },
    serverWentBack: (user, restored, held) => {
      const stamps = new Set(held.flatMap((rows) => Array.from(rows.values(), ({ stamp }) => stamp)))
      wentBack.set(user, restored)
      for (const [name, write] of writes) {
        if (write.user === user && !stamps.has(name)) write.excuse = "the server was rolled back, and no device had it"
      }
    },
    gaveUp: (user) => {
      for (const write of writes.values()) {
        if (write.user === undefined || !wentBack.has(write.user) || write.user !== (user ?? write.user)) continue
        write.excuse = "the server was rolled back, and a device that had it gave it up"
      }
    },
    size: () => writes.size,
    notes: () => ({
      writes: Array.from(writes, ([name, write]) => [name, { ...write }] as const),
      next: Array.from(next, ([from, to]) => [from, Array.from(to)] as const),
      ofTwins: Array.from(ofTwins),
      wentBack: Array.from(wentBack),
      deletions
    }),
    adopt: (notes) => {
      for (const all of [writes, next, ofTwins, wentBack]) all.clear()
      for (const [name, write] of notes.writes) writes.set(name, { ...write })
      for (const [from, to] of notes.next) next.set(from, new Set(to))
      for (const row of notes.ofTwins) ofTwins.add(row)
      for (const [user, restored] of notes.wentBack) wentBack.set(user, restored)
      deletions = notes.deletions
    },
    lost: (user, rows) => {
      const lines: Array<string> = []
      const restored = wentBack.get(user)
      for (const [name, write] of writes) {
        if (write.user !== user || write.excuse !== undefined || ofTwins.has(write.row)) continue
        const now = rows.get(write.row)?.stamp
        const following = reached(name)
        if (now !== undefined && following.has(now)) continue
        if (Array.from(following).some((other) => writes.get(other)?.excuse !== undefined)) continue
        if (now === undefined) {
          if (Array.from(following).some((other) => writes.get(other)?.deletes === true)) continue
          if (wentAlong(following)) continue
        } else if (wentAlong(following) && madeAnew(name, write.row, now)) continue
        // After a restored backup, what was written to the row since counts as later (pull.md §6.4).
        if (restored !== undefined && restored.get(write.row)?.stamp !== now) continue
        // A delete that the restored server had lost, of the row or of one that it belonged to, is brought back over what
        // has a lower number in the new history.
        const deleted = deletionsOf(write.row).length > 0 || wentAlong(writesOf(write.row))
        if (restored !== undefined && now === undefined && deleted) continue
        lines.push(`${name} of ${write.device} (${write.row}) is lost: everybody sees ${now ?? "no row"}`)
      }
      return lines
    }
  }
}
