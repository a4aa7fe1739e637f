import { Effect } from "effect"
import { ExactJson } from "oversqlite/protocol"
import { ask } from "./TestServer.js"
import type { Answered } from "./TestServer.js"

export type Members = Readonly<Record<string, unknown>>

export const isMembers = (value: unknown): value is Members =>
  typeof value === "object" && value !== null && !Array.isArray(value)

export const parsed = (answer: Answered): Members => {
  const value = answer.text === "" ? {} : ExactJson.parse(answer.text)
  return isMembers(value) ? value : {}
}

export interface Row {
  readonly schema?: string
  readonly table: string
  readonly key: Members
  readonly op: string
  readonly base_row_version?: number
  readonly payload?: unknown
}

export interface Reply {
  readonly status: number
  readonly body: Members
}

/** An answer as status and code: `200`, or `409 scope_uninitialized`. */
export const outcome = (reply: Reply): string =>
  reply.status < 300 ? String(reply.status) : `${reply.status} ${String(reply.body["error"])}`

/** A device: one source of one user, speaking the protocol request by request. */
export const device = (source: string, user = "user-1") => {
  const request = (
    path: string,
    options: { readonly method?: "GET" | "POST" | "DELETE"; readonly body?: unknown } = {}
  ) =>
    Effect.map(
      ask(path, {
        source,
        user,
        method: options.method ?? (options.body === undefined ? "GET" : "POST"),
        body: options.body === undefined ? undefined : ExactJson.stringify(options.body)
      }),
      (answer): Reply => ({ status: answer.status, body: parsed(answer) })
    )

  const create = (sourceBundleId: number, rowCount: number, initializationId?: string) =>
    request("/sync/push-sessions", {
      body: {
        source_bundle_id: sourceBundleId,
        planned_row_count: rowCount,
        ...(initializationId === undefined ? {} : { initialization_id: initializationId })
      }
    })

  const chunk = (pushId: unknown, start: number, rows: ReadonlyArray<Row>) =>
    request(`/sync/push-sessions/${String(pushId)}/chunks`, {
      body: { start_row_ordinal: start, rows: rows.map((row) => ({ schema: "business", ...row })) }
    })

  const commit = (pushId: unknown) => request(`/sync/push-sessions/${String(pushId)}/commit`, { method: "POST" })

  /** Create, upload in one chunk and commit; stops at the first answer that is no success. */
  const push = Effect.fnUntraced(
    function*(sourceBundleId: number, rows: ReadonlyArray<Row>, initializationId?: string) {
      const created = yield* create(sourceBundleId, rows.length, initializationId)
      if (created.status !== 200 || created.body["status"] !== "staging") return created
      const uploaded = yield* chunk(created.body["push_id"], 0, rows)
      return uploaded.status === 200 ? yield* commit(created.body["push_id"]) : uploaded
    }
  )

  return {
    source,
    user,
    request,
    create,
    chunk,
    commit,
    push,
    connect: (pending = false) => request("/sync/connect", { body: { has_local_pending_rows: pending } }),
    dropPush: (pushId: unknown) => request(`/sync/push-sessions/${String(pushId)}`, { method: "DELETE" }),
    rows: (bundleSeq: number, query = "") => request(`/sync/committed-bundles/${bundleSeq}/rows${query}`),
    pull: (after: number, query = "") => request(`/sync/pull?after_bundle_seq=${after}${query}`),
    snapshot: (body?: unknown) => request("/sync/snapshot-sessions", { method: "POST", body }),
    rotate: (newSource: string, reason = "history_pruned", previous = source) =>
      request("/sync/snapshot-sessions", {
        body: { source_replacement: { previous_source_id: previous, new_source_id: newSource, reason } }
      }),
    snapshotChunk: (id: unknown, query = "") => request(`/sync/snapshot-sessions/${String(id)}${query}`),
    dropSnapshot: (id: unknown) => request(`/sync/snapshot-sessions/${String(id)}`, { method: "DELETE" })
  }
}

export type Device = ReturnType<typeof device>

export const id = (number: number): string => `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`

export const insert = (table: string, number: number, payload: Members, base = 0): Row => ({
  table,
  key: { id: id(number) },
  op: "INSERT",
  base_row_version: base,
  payload: { id: id(number), ...payload }
})

export const update = (table: string, number: number, base: number, payload: Members): Row => ({
  table,
  key: { id: id(number) },
  op: "UPDATE",
  base_row_version: base,
  payload: { id: id(number), ...payload }
})

export const remove = (table: string, number: number, base: number): Row => ({
  table,
  key: { id: id(number) },
  op: "DELETE",
  base_row_version: base
})

export const user = (number: number, base = 0): Row =>
  insert("users", number, { name: `User ${number}`, email: `u${number}@example.com` }, base)

/** Rows of an answer as `OP table number`. */
export const effects = (reply: Reply): ReadonlyArray<string> => {
  const rows = reply.body["rows"]
  return Array.isArray(rows)
    ? rows.filter(isMembers).map((row) => {
      const key = isMembers(row["key"]) ? String(row["key"]["id"]) : ""
      return `${String(row["op"] ?? "ROW")} ${String(row["table"])} ${Number(key.slice(-12))}`
    })
    : []
}

/** Payloads of an answer's rows. */
export const payloads = (reply: Reply): ReadonlyArray<Members> => {
  const rows = reply.body["rows"]
  return Array.isArray(rows)
    ? rows.filter(isMembers).map((row) => isMembers(row["payload"]) ? row["payload"] : {})
    : []
}
