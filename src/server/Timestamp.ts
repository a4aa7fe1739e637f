/**
 * Points in time as the protocol spells them: `timestamptz` column values in UTC with microseconds (values.md §6) and the
 * RFC 3339 times of the envelopes (wire.md §1.5).
 *
 * @since 0.1.0
 */
import * as AsciiText from "./AsciiText.js"

/**
 * A `timestamptz` value: whole days since 1970-01-01 and the microsecond of that day. Two numbers, because the
 * microseconds of the whole range do not fit a double.
 */
interface Instant {
  readonly day: number
  readonly microsecond: number
}

const microsecondsPerDay = 86_400_000_000

// Civil calendar arithmetic in whole days; `Date` ends at the year 275760 and has no BC parsing.
const daysFromCivil = (year: number, month: number, day: number): number => {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  return era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719_468
}

const civilFromDays = (days: number): readonly [year: number, month: number, day: number] => {
  const shifted = days + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153)
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
  return [
    yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1
  ]
}

const earliestDay = daysFromCivil(-4713, 11, 24)
const latestDay = daysFromCivil(294_276, 12, 31)

const two = (value: number) => String(value).padStart(2, "0")

const format = ({ day, microsecond }: Instant): string => {
  const [year, month, dayOfMonth] = civilFromDays(day)
  const seconds = Math.floor(microsecond / 1_000_000)
  const fraction = String(microsecond % 1_000_000).padStart(6, "0").replace(/0+$/, "")
  // There is no year 0: 1 BC precedes 1 AD.
  const spelledYear = String(year > 0 ? year : 1 - year).padStart(4, "0")
  return `${spelledYear}-${two(month)}-${two(dayOfMonth)}T${two(Math.floor(seconds / 3600))}:` +
    `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}${fraction === "" ? "" : "." + fraction}+00:00` +
    (year > 0 ? "" : " BC")
}

const datePart = "(\\d{4,6})-(\\d{1,2})-(\\d{1,2})|(\\d{4})(\\d{2})(\\d{2})|(\\d{4})-(\\d{3})"
const timePart = "(\\d{1,2}):(\\d{2})(?::(\\d{2})(\\.\\d*)?)?|(\\d{2})(\\d{2})(\\d{2})(\\.\\d*)?"
const zonePart = "(z|utc|gmt)|([+-])(\\d{1,2})(?::?(\\d{2})(?::?(\\d{2}))?)?"
const blanks = "[ \\t\\n\\v\\f\\r]*"
const pattern = new RegExp(
  `^(?:${datePart})(?:[t ]${blanks}(?:${timePart})${blanks}(?:${zonePart})?)?(${blanks}bc)?$`,
  "i"
)

const whole = (text: string | undefined) => text === undefined ? 0 : Number(text)

const daysInMonth = (year: number, month: number) =>
  month === 2
    ? ((year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28)
    : [4, 6, 9, 11].includes(month)
    ? 30
    : 31

/** Ties to even, as the reference rounds beyond microseconds. */
const microsecondsOf = (fraction: string | undefined): number => {
  const digits = (fraction ?? ".").slice(1)
  const kept = Number(digits.slice(0, 6).padEnd(6, "0"))
  const rest = digits.slice(6)
  if (rest === "" || rest < "5") return kept
  const tie = /^50*$/.test(rest)
  return tie && kept % 2 === 0 ? kept : kept + 1
}

const dayOf = (match: RegExpExecArray): number | undefined => {
  const digits = match[1] ?? match[4] ?? match[7]
  const written = whole(digits)
  if (written === 0) return undefined
  const year = match[22] === undefined ? written : 1 - written
  if (match[8] !== undefined) {
    const dayOfYear = Number(match[8])
    const length = daysInMonth(year, 2) === 29 ? 366 : 365
    return dayOfYear < 1 || dayOfYear > length ? undefined : daysFromCivil(year, 1, 1) + dayOfYear - 1
  }
  const month = whole(match[2] ?? match[5])
  const day = whole(match[3] ?? match[6])
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return undefined
  return daysFromCivil(year, month, day)
}

const secondOfDay = (match: RegExpExecArray): number | undefined => {
  const hour = whole(match[9] ?? match[13])
  const minute = whole(match[10] ?? match[14])
  const second = whole(match[11] ?? match[15])
  const microseconds = microsecondsOf(match[12] ?? match[16])
  const beyond = hour === 24 ? minute + second + microseconds > 0 : hour > 24
  return beyond || minute > 59 || second > 60 ? undefined : hour * 3600 + minute * 60 + second
}

const offsetSeconds = (match: RegExpExecArray): number | undefined => {
  const hours = whole(match[19])
  const minutes = whole(match[20])
  const seconds = whole(match[21])
  if (hours > 15 || minutes > 59 || seconds > 59) return undefined
  return (match[18] === "-" ? -1 : 1) * (hours * 3600 + minutes * 60 + seconds)
}

/**
 * The stored spelling of a `timestamptz`, in UTC, or `undefined` where the text is none. Read are ISO 8601 calendar and
 * ordinal dates, with or without time and offset (none means UTC), the basic form without separators, `BC`, `infinity`
 * and `-infinity`; microseconds, ties to even (values.md §6). Month names, zone names and `now` are not.
 *
 * @since 0.1.0
 * @category conversions
 */
export const timestamptz = (text: string): string | undefined => {
  const trimmed = AsciiText.strip(text)
  if (/^[+-]?infinity$/i.test(trimmed)) return trimmed.startsWith("-") ? "-infinity" : "infinity"
  const match = pattern.exec(trimmed)
  if (match === null) return undefined
  const day = dayOf(match)
  const second = secondOfDay(match)
  const offset = offsetSeconds(match)
  if (day === undefined || second === undefined || offset === undefined) return undefined
  const total = (second - offset) * 1_000_000 + microsecondsOf(match[12] ?? match[16])
  const carried = Math.floor(total / microsecondsPerDay)
  const instant = { day: day + carried, microsecond: total - carried * microsecondsPerDay }
  return instant.day < earliestDay || instant.day > latestDay ? undefined : format(instant)
}

/**
 * A clock reading as the value of a `timestamptz` column.
 *
 * @since 0.1.0
 * @category conversions
 */
export const fromMillis = (millis: number): string => {
  const day = Math.floor(millis / 86_400_000)
  return format({ day, microsecond: (millis - day * 86_400_000) * 1000 })
}

/**
 * A clock reading as RFC 3339 with `Z` and without trailing zeros, as envelopes carry it (wire.md §1.5).
 *
 * @since 0.1.0
 * @category conversions
 */
export const rfc3339 = (millis: number): string => fromMillis(millis).replace("+00:00", "Z")
