import { Effect, Tracer } from "effect"

/** Runs an effect and returns the spans it has begun, in order. */
export const spansOf = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const native = yield* Effect.tracer
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (...parameters) => {
      const span = native.span(...parameters)
      spans.push(span)
      return span
    },
    context: (run, fiber) => native.context(run, fiber)
  })
  yield* Effect.withTracer(effect, tracer)
  return spans
})

/** The texts of the SQL statements an effect runs, in order. */
export const statementsOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(
    spansOf(effect),
    (spans) =>
      spans.filter((span) => span.name === "sql.execute").map((span) =>
        String(span.attributes.get("db.query.text") ?? "").replace(/\s+/g, " ")
      )
  )
