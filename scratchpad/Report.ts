/** What a run shows while it works, and the table at its end. */
import { Duration, Effect, Stream } from "effect"
import type { Progress } from "oversqlite"

interface Step {
  readonly name: string
  readonly rows: number
  readonly milliseconds: number
}

const count = new Intl.NumberFormat("en-GB")
const decimal = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1, minimumFractionDigits: 1 })

const perRow = ({ milliseconds, rows }: Step): string => rows === 0 ? "" : decimal.format(milliseconds * 1000 / rows)

/** Cells in columns: the first to the left, the others to the right. */
export const table = (lines: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)))
  return lines
    .map((cells) =>
      cells.map((cell, column) => column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))
        .join("  ")
    )
    .join("\n")
}

/** On a terminal one line that is written over and over, elsewhere a line for each finished step. */
export const make = () => {
  const steps: Array<Step> = []
  const terminal = process.stdout.isTTY
  const show = (text: string) => {
    if (terminal) process.stdout.write(`\r\u001b[2K${text.slice(0, process.stdout.columns - 1)}`)
  }
  const finish = (step: Step) => {
    steps.push(step)
    const text = `${step.name}: ${count.format(step.rows)} rows, ${count.format(Math.round(step.milliseconds))} ms`
    if (terminal) show(text)
    else console.log(text)
  }
  return {
    /** Runs one step of the job and measures it; `rows` says how many rows it stands for. */
    step: <A, E, R>(
      name: string,
      work: Effect.Effect<A, E, R>,
      rows: number | ((result: A) => number)
    ): Effect.Effect<A, E, R> =>
      Effect.gen(function*() {
        show(`${name} …`)
        const [duration, result] = yield* Effect.timed(work)
        finish({
          name,
          rows: typeof rows === "number" ? rows : rows(result),
          milliseconds: Duration.toMillis(duration)
        })
        return result
      }),

    /** Shows the steps of a client's operations until the scope ends. */
    follow: (device: string, progress: Stream.Stream<Progress>) =>
      progress.pipe(
        Stream.runForEach(({ done, operation, phase, total }) =>
          Effect.sync(() =>
            show(
              `${device}: ${operation}, ${phase} ${count.format(done)}${total > 0 ? ` of ${count.format(total)}` : ""}`
            )
          )
        ),
        Effect.forkScoped
      ),

    /** Shows how far a step of the application has come. */
    advance: (text: string) => Effect.sync(() => show(text)),

    /** The table of all steps. */
    finish: Effect.sync(() => {
      show("")
      console.log(table([
        ["step", "rows", "ms", "µs a row"],
        ...steps.map((step) => [
          step.name,
          count.format(step.rows),
          count.format(Math.round(step.milliseconds)),
          perRow(step)
        ])
      ]))
    })
  }
}

export type Report = ReturnType<typeof make>
