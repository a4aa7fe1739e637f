/**
 * A server for the sync protocol, as layers: a store in one SQLite file, the operations, HTTP routes for one's own router,
 * and a client that reaches the server without a socket.
 *
 * @since 0.1.0
 */
export type { Actor } from "./Actor.js"
export { Authentication, Unauthenticated } from "./Authentication.js"
export type { IssueOptions } from "./Authentication.js"
export { Identifiers } from "./Identifiers.js"
export { improvements } from "./Improvements.js"
export type { Improvement } from "./Improvements.js"
export * as InProcess from "./InProcess.js"
export { ServerClosed } from "./Lifecycle.js"
export type { ServerOptions, ServerSettings, WatchOptions } from "./ServerSettings.js"
export * from "./ServerStorage.js"
export * as ServerStorageSqlite from "./ServerStorageSqlite.js"
export type { ServerBundle, ServerRow } from "./ServerWrite.js"
export { SyncRefused } from "./SyncRefused.js"
export * as SyncRoutes from "./SyncRoutes.js"
export { SyncServer } from "./SyncServer.js"
export type { ServerFailure, SyncServerOptions } from "./SyncServer.js"
export { InvalidTableDeclaration, TableDeclaration } from "./TableDeclaration.js"
