/**
 * Instants of RFC 3339 texts, read exactly as the reference reads them where it compares values (payload-codec.md §6.2).
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"

/**
 * A point in time: whole seconds since 1970-01-01T00:00:00Z, and the nanoseconds of that second.
 *
 * @category models
 * @since 0.1.0
 */
export interface Instant {
  readonly seconds: number
  readonly nanoseconds: number
}

const form = /^(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$/

const isLeap = (year: number) => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
const monthLengths: ReadonlyArray<number> = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

const daysInMonth = (year: number, month: number) => month === 2 && isLeap(year) ? 29 : monthLengths[month - 1] ?? 0

/** Days from 1970-01-01 in the proleptic Gregorian calendar; years start in March, so that leap days come last. */
const daysFromEpoch = (year: number, month: number, day: number): number => {
  const shifted = month <= 2 ? year - 1 : year
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  return 365 * shifted + Math.floor(shifted / 4) - Math.floor(shifted / 100) + Math.floor(shifted / 400) + dayOfYear -
    719_468
}

/**
 * The instant of an RFC 3339 text with a zone, none for every other text (payload-codec.md §6.2).
 *
 * Taken: upper-case `T` and `Z`, four-digit years, hours of one or two digits 0–23, minutes and seconds 00–59, a fraction
 * after `.` or `,` of which nine digits count, offsets `±hh:mm` with hh 00–24 and mm 00–60, dates that exist.
 *
 * @example
 * ```ts
 * import { Timestamp } from "oversqlite/protocol"
 *
 * Timestamp.parse("2026-03-24T18:42:11Z") // Option.some({ seconds: 1774377731, nanoseconds: 0 })
 * Timestamp.parse("2026-03-24 18:42:11Z") // Option.none()
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const parse = (text: string): Option.Option<Instant> => {
  const match = form.exec(text)
  if (match === null) return Option.none()
  const part = (index: number) => Number(match[index] ?? "0")
  const [year, month, day, hour, minute, second] = [part(1), part(2), part(3), part(4), part(5), part(6)]
  const [offsetHours, offsetMinutes] = [part(9), part(10)]
  const exists = month >= 1 && month <= 12 && day >= 1 && day <= daysInMonth(year, month) &&
    hour <= 23 && minute <= 59 && second <= 59 && offsetHours <= 24 && offsetMinutes <= 60
  if (!exists) return Option.none()
  const offset = (offsetHours * 60 + offsetMinutes) * 60 * (match[8] === "-" ? -1 : 1)
  return Option.some({
    seconds: daysFromEpoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset,
    nanoseconds: Number((match[7] ?? "").slice(0, 9).padEnd(9, "0"))
  })
}

/**
 * Whether both texts are RFC 3339 timestamps with a zone and denote the same instant (payload-codec.md §6.2).
 *
 * @category comparing
 * @since 0.1.0
 */
export const sameInstant = (left: string, right: string): boolean => {
  // Most texts are no timestamps, and this is asked of every pair of texts that differ.
  if (left[10] !== "T" || right[10] !== "T") return false
  const first = parse(left)
  if (Option.isNone(first)) return false
  const second = parse(right)
  return Option.isSome(second) && first.value.seconds === second.value.seconds &&
    first.value.nanoseconds === second.value.nanoseconds
}
