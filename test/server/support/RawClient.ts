/** The protocol spoken request by request over real sockets, without Effect: for load, for kills, for bad manners. */
import { Agent, request } from "node:http"
import { ExactJson } from "oversqlite/protocol"
import { isMembers } from "./Device.js"
import type { Members, Row } from "./Device.js"

export interface RawAnswer {
  readonly status: number
  readonly body: Members
}

export interface RawOptions {
  readonly url: string
  readonly token: string
  readonly source: string
}

/** An answer as status and code: `200`, or `409 scope_uninitialized`. */
export const outcomeOf = ({ body, status }: RawAnswer): string =>
  status < 300 ? String(status) : `${status} ${String(body["error"])}`

/** A device on one connection of its own, kept alive. A promise rejects when the connection breaks. */
export const rawDevice = ({ source, token, url }: RawOptions) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })

  const send = (method: string, path: string, body?: unknown): Promise<RawAnswer> =>
    new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : ExactJson.stringify(body)
      const sent = request(`${url}${path}`, {
        agent,
        method,
        headers: {
          authorization: `Bearer ${token}`,
          "oversync-source-id": source,
          ...(text === undefined
            ? {}
            : { "content-type": "application/json", "content-length": Buffer.byteLength(text) })
        }
      }, (response) => {
        const pieces: Array<Buffer> = []
        response.on("data", (piece: Buffer) => pieces.push(piece))
        response.on("error", reject)
        response.on("end", () => {
          const text = Buffer.concat(pieces).toString("utf8")
          const isJson = response.headers["content-type"] === "application/json"
          const value = isJson ? ExactJson.parse(text) : undefined
          resolve({ status: response.statusCode ?? 0, body: isMembers(value) ? value : { text } })
        })
      })
      sent.on("error", reject)
      sent.end(text)
    })

  const device = {
    source,
    send,
    close: () => agent.destroy(),
    connect: (pending = false) => send("POST", "/sync/connect", { has_local_pending_rows: pending }),
    create: (sourceBundleId: number, plannedRows: number) =>
      send("POST", "/sync/push-sessions", { source_bundle_id: sourceBundleId, planned_row_count: plannedRows }),
    chunk: (pushId: unknown, start: number, rows: ReadonlyArray<Row>) =>
      send("POST", `/sync/push-sessions/${String(pushId)}/chunks`, { start_row_ordinal: start, rows }),
    commit: (pushId: unknown) => send("POST", `/sync/push-sessions/${String(pushId)}/commit`),
    pull: (after: number, query = "") => send("GET", `/sync/pull?after_bundle_seq=${after}${query}`),
    /** Create, chunks and commit; the answer is the first that is not 200, else the commit's. */
    push: async (sourceBundleId: number, rows: ReadonlyArray<Row>, rowsPerChunk = 5000) => {
      const created = await device.create(sourceBundleId, rows.length)
      if (created.body["status"] !== "staging") return created
      const pushId = created.body["push_id"]
      for (let start = 0; start < rows.length; start += rowsPerChunk) {
        const uploaded = await device.chunk(pushId, start, rows.slice(start, start + rowsPerChunk))
        if (uploaded.status !== 200) return uploaded
      }
      return device.commit(pushId)
    }
  }
  return device
}

export type RawDevice = ReturnType<typeof rawDevice>
