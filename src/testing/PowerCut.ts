/**
 * What a power cut leaves of a SQLite database in WAL mode: the main file, and of the write-ahead log a part that begins at
 * its start, ends with a commit and holds at least what was flushed.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as fs from "node:fs"
import type * as Prng from "./Prng.js"

const logHeader = 32
const frameHeader = 24

/**
 * How far a write-ahead log has come: the number of frames that belong to finished transactions, of those the ones that
 * are in the main file (and so were flushed, log and file), and the salts that change when the log starts anew.
 *
 * @since 0.1.0
 * @category models
 */
export interface LogPosition {
  readonly frames: number
  readonly checkpointed: number
  readonly salts: string
}

/** The index beside the log: two copies of a header of 48 bytes, then how much was checkpointed. */
const indexPart = 100

/**
 * Reads how far the log of an open database has come; `undefined` while there is none.
 *
 * @since 0.1.0
 * @category reading
 */
export const position = (filename: string): LogPosition | undefined => {
  const index = `${filename}-shm`
  if (!fs.existsSync(index)) return undefined
  const bytes = Buffer.alloc(indexPart)
  const file = fs.openSync(index, "r")
  try {
    if (fs.readSync(file, bytes, 0, indexPart, 0) < indexPart) return undefined
  } finally {
    fs.closeSync(file)
  }
  // The index is in the machine's own order of bytes, the salts as they stand in the log.
  const littleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1
  const number = (at: number) => littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at)
  return { frames: number(16), checkpointed: number(96), salts: bytes.subarray(32, 40).toString("hex") }
}

/** Numbers (1-based) of the frames that end a transaction, of those up to `frames`. */
const commits = (log: Buffer, frameSize: number, frames: number): ReadonlyArray<number> => {
  const found: Array<number> = []
  for (let frame = 1; frame <= frames; frame++) {
    const at = logHeader + (frame - 1) * frameSize
    // The size of the database after the commit, 0 within a transaction.
    if (at + frameHeader <= log.length && log.readUInt32BE(at + 4) !== 0) found.push(frame)
  }
  return found
}

/**
 * Copies a database that may be open as it is after a power cut. `flushed` is the position up to which commits were
 * flushed one by one; without it only what was checkpointed is sure. The value is the number of commits that are gone.
 *
 * @since 0.1.0
 * @category copying
 */
export const copy = (
  filename: string,
  target: string,
  prng: Prng.Prng,
  flushed?: LogPosition | undefined
): number => {
  const now = position(filename)
  fs.copyFileSync(filename, target)
  const logFile = `${filename}-wal`
  if (now === undefined || now.frames === 0 || !fs.existsSync(logFile)) return 0
  const log = fs.readFileSync(logFile)
  const frameSize = frameHeader + log.readUInt32BE(8)
  // What was flushed before the log started anew is in the main file by now.
  const sure = Math.max(now.checkpointed, flushed?.salts === now.salts ? flushed.frames : 0)
  const ends = commits(log, frameSize, now.frames)
  const possible = [sure, ...ends.filter((frame) => frame > sure)]
  // The last commits are the likeliest to be lost; half the time only few are.
  const few = prng.chance(0.5) ? possible.slice(-4) : possible
  const kept = prng.pick(few) ?? sure
  if (kept > 0) fs.writeFileSync(`${target}-wal`, log.subarray(0, logHeader + kept * frameSize))
  return ends.filter((frame) => frame > kept).length
}
