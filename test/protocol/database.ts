import * as Reactivity from "@effect/experimental/Reactivity"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect } from "effect"

/** A fresh SQLite database in memory, closed with the scope. */
export const database = SqliteClient.make({ filename: ":memory:" }).pipe(Effect.provide(Reactivity.layer))
