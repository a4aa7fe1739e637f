import { assert, describe, it } from "@effect/vitest"
import { FastCheck, Option } from "effect"
import { Timestamp } from "oversqlite/protocol"
import { seeded } from "./arbitraries.js"

const at = (iso: string, nanoseconds = 0) =>
  Option.some({ seconds: Math.floor(new Date(iso).getTime() / 1000), nanoseconds })

describe("Timestamp", () => {
  it.each<readonly [string, string, number]>([
    ["2026-03-24T18:42:11Z", "2026-03-24T18:42:11Z", 0],
    ["2026-03-24T18:42:11+00:00", "2026-03-24T18:42:11Z", 0],
    ["2026-03-24T18:42:11-00:00", "2026-03-24T18:42:11Z", 0],
    ["2026-03-24T14:42:11-04:00", "2026-03-24T18:42:11Z", 0],
    ["2026-03-25T00:12:11+05:30", "2026-03-24T18:42:11Z", 0],
    ["2026-03-24T18:42:11.1Z", "2026-03-24T18:42:11Z", 100_000_000],
    ["2026-03-24T18:42:11.120Z", "2026-03-24T18:42:11Z", 120_000_000],
    ["2026-03-24T18:42:11,25Z", "2026-03-24T18:42:11Z", 250_000_000],
    ["2026-03-24T18:42:11.123456789Z", "2026-03-24T18:42:11Z", 123_456_789],
    ["2026-03-24T18:42:11.1234567899999Z", "2026-03-24T18:42:11Z", 123_456_789],
    ["2026-03-24T8:42:11Z", "2026-03-24T08:42:11Z", 0],
    ["2026-03-24T0:00:00Z", "2026-03-24T00:00:00Z", 0],
    ["2026-03-24T23:59:59Z", "2026-03-24T23:59:59Z", 0],
    ["2026-03-24T18:42:11+24:00", "2026-03-23T18:42:11Z", 0],
    ["2026-03-24T18:42:11-23:60", "2026-03-25T18:42:11Z", 0],
    ["2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z", 0],
    ["2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z", 0],
    ["1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z", 500_000_000],
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 0],
    ["0000-02-29T00:00:00Z", "0000-02-29T00:00:00Z", 0],
    ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", 0]
  ])("reads %s [payload-codec.md §6.2]", (text, iso, nanoseconds) => {
    assert.deepStrictEqual(Timestamp.parse(text), at(iso, nanoseconds))
  })

  it.each([
    "",
    "2026-03-24",
    "2026-03-24T18:42:11",
    "2026-03-24t18:42:11Z",
    "2026-03-24T18:42:11z",
    "2026-03-24 18:42:11Z",
    "2026-03-24T18:42Z",
    "2026-03-24T18:42:11+0530",
    "2026-03-24T18:42:11+05",
    "2026-03-24T18:42:11+5:30",
    "2026-03-24T18:42:11+05:30:15",
    "2026-03-24T18:42:11+25:00",
    "2026-03-24T18:42:11+00:61",
    "2026-03-24T24:00:00Z",
    "2026-03-24T18:60:11Z",
    "2026-03-24T23:59:60Z",
    "2026-03-24T18:2:11Z",
    "2026-03-24T18:42:1Z",
    "2026-03-24T018:42:11Z",
    "2026-03-24T18:42:11.Z",
    "2026-03-24T18:42:11.-5Z",
    "2026-3-24T18:42:11Z",
    "2026-03-4T18:42:11Z",
    "2026-00-24T18:42:11Z",
    "2026-13-24T18:42:11Z",
    "2026-03-00T18:42:11Z",
    "2026-03-32T18:42:11Z",
    "2026-04-31T18:42:11Z",
    "2026-02-29T18:42:11Z",
    "1900-02-29T18:42:11Z",
    "12026-03-24T18:42:11Z",
    "+2026-03-24T18:42:11Z",
    "26-03-24T18:42:11Z",
    " 2026-03-24T18:42:11Z",
    "2026-03-24T18:42:11Z ",
    "2026-03-24T18:42:11Z\n",
    "2026-03-24T18:42:11 Z",
    "2026-03-24T18:42:11 America/New_York",
    "2026-03-24T18:42:11\u0660Z",
    "\u0662026-03-24T18:42:11Z",
    "infinity"
  ])("does not read %j [payload-codec.md §6.2]", (text) => {
    assert.deepStrictEqual(Timestamp.parse(text), Option.none())
  })

  it("agrees with the calendar for every second of four-digit years [payload-codec.md §6.2]", () => {
    const seconds = FastCheck.integer({ min: -62_135_596_800, max: 253_402_300_799 })
    const offset = FastCheck.integer({ min: -23 * 60, max: 23 * 60 })
    FastCheck.assert(
      FastCheck.property(seconds, offset, (instant, minutes) => {
        const shifted = new Date((instant + minutes * 60) * 1000)
        FastCheck.pre(shifted.getUTCFullYear() >= 0 && shifted.getUTCFullYear() <= 9999)
        const zone = [Math.abs(minutes) / 60 | 0, Math.abs(minutes) % 60].map((part) => String(part).padStart(2, "0"))
        const text = `${shifted.toISOString().slice(0, 19)}${minutes < 0 ? "-" : "+"}${zone.join(":")}`
        assert.deepStrictEqual(Timestamp.parse(text), Option.some({ seconds: instant, nanoseconds: 0 }))
        assert.isTrue(Timestamp.sameInstant(text, `${new Date(instant * 1000).toISOString().slice(0, 19)}Z`))
        assert.isFalse(Timestamp.sameInstant(text, `${new Date(instant * 1000).toISOString().slice(0, 19)}.000000001Z`))
      }),
      seeded
    )
  })
})
