/**
 * The event stream of the server (wire.md §4.8, retry-and-loops.md §5.3).
 *
 * @since 0.1.0
 */
import * as Sse from "@effect/experimental/Sse"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ProtocolError } from "../contract/SyncError.js"
import { TransportError } from "../contract/SyncError.js"
import { raise } from "../contract/SyncOperation.js"
import * as Wire from "../protocol/Wire.js"
import { decodeJson, protocolError } from "./Answer.js"

const request = "bundle_change_watch"
const maxEventSize = 1024 * 1024

/**
 * A carriage return at the end of a piece of text may be half of a line ending; the parser must see both halves at
 * once, or it takes them for two line endings and forgets the event's name.
 */
const wholeLineEndings = <E, R>(text: Stream.Stream<string, E, R>): Stream.Stream<string, E, R> =>
  Stream.mapAccum(text, "", (held, piece) => {
    const all = held + piece
    return all.endsWith("\r") ? ["\r", all.slice(0, -1)] as const : ["", all] as const
  })

const decodeChange = decodeJson(Wire.ChangeEvent)

const toChange = (data: string): Effect.Effect<Wire.ChangeEvent, ProtocolError> =>
  Effect.filterOrElse(
    decodeChange(request, data),
    (event) => event.bundle_seq > 0,
    () => protocolError(request, "field_invalid", "a positive bundle_seq")
  )

/**
 * The changes that a stream of server-sent events announces. Only events named `bundle` count; comments (heartbeats),
 * other fields and other events are skipped. Events without a JSON object with a positive `bundle_seq`:
 * `ProtocolError`; an event beyond 1 MiB: `TransportError(response_too_large)`.
 *
 * @since 0.1.0
 * @category decoding
 */
export const decode = <E, R>(
  bytes: Stream.Stream<Uint8Array, E, R>
): Stream.Stream<Wire.ChangeEvent, E | TransportError | ProtocolError, R> =>
  Stream.suspend(() => {
    let parsed: Array<Sse.Event> = []
    const parser = Sse.makeParser((event) => {
      if (event._tag === "Event") parsed.push(event)
    }, { maxEventSize })
    return bytes.pipe(
      Stream.decodeText(),
      wholeLineEndings,
      Stream.mapEffect((text) =>
        Effect.suspend(() => {
          parsed = []
          const failure = parser.feed(text)
          return failure === undefined
            ? Effect.succeed(Chunk.unsafeFromArray(parsed))
            : raise((operation) => new TransportError({ operation, request, code: "response_too_large" }))
        })
      ),
      Stream.flattenChunks,
      Stream.filter((event) => event.event === "bundle"),
      Stream.mapEffect((event) => toChange(event.data))
    )
  })
