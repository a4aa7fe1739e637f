import type { TableDeclaration } from "oversqlite/server"

/** The reference server's business tables (wire.md §8). */
export const businessTables: ReadonlyArray<TableDeclaration> = [
  {
    schema: "business",
    table: "users",
    key: { column: "id", kind: "uuid" },
    columns: {
      name: "text",
      email: "text",
      created_at: { kind: "timestamptz", default: "now()" },
      updated_at: { kind: "timestamptz", default: "now()" }
    }
  },
  {
    schema: "business",
    table: "posts",
    key: { column: "id", kind: "uuid" },
    columns: {
      title: "text",
      content: "text",
      author_id: "uuid",
      created_at: { kind: "timestamptz", default: "now()" },
      updated_at: { kind: "timestamptz", default: "now()" }
    },
    references: [{ column: "author_id", table: "users" }]
  },
  {
    schema: "business",
    table: "categories",
    key: { column: "id", kind: "uuid" },
    columns: { name: "text", parent_id: "uuid" },
    references: [{ column: "parent_id", table: "categories", onDelete: "cascade" }]
  },
  {
    schema: "business",
    table: "teams",
    key: { column: "id", kind: "uuid" },
    columns: { name: "text", captain_member_id: "uuid" },
    references: [{ column: "captain_member_id", table: "team_members" }]
  },
  {
    schema: "business",
    table: "team_members",
    key: { column: "id", kind: "uuid" },
    columns: { name: "text", team_id: "uuid" },
    references: [{ column: "team_id", table: "teams", onDelete: "cascade" }]
  },
  {
    schema: "business",
    table: "files",
    key: { column: "id", kind: "uuid" },
    columns: { name: "text", data: { kind: "bytea", notNull: true } }
  },
  {
    schema: "business",
    table: "file_reviews",
    key: { column: "id", kind: "uuid" },
    columns: { review: "text", file_id: "uuid" },
    references: [{ column: "file_id", table: "files", onDelete: "cascade" }]
  },
  {
    schema: "business",
    table: "typed_rows",
    key: { column: "id", kind: "uuid" },
    columns: {
      name: "text",
      note: "text",
      count_value: "bigint",
      enabled_flag: { kind: "bigint", notNull: true },
      rating: "double precision",
      data: "bytea",
      created_at: "timestamptz"
    }
  }
]
