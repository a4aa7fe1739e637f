/**
 * Runs effects for callers who know promises only: errors come as they are, what is interrupted rejects with an
 * `AbortError`, and disposal interrupts what runs, waits for it and then releases.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/**
 * What every call may be given.
 *
 * @since 0.1.0
 * @category models
 */
export interface CallOptions {
  /** Interrupts the call, waiting or running; it then rejects with an `AbortError` as soon as nothing of it runs. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Runs effects of one service.
 *
 * @since 0.1.0
 * @category models
 */
export interface PromiseRuntime<Service> {
  readonly service: Service
  readonly isDisposed: () => boolean
  /** Rejects with the error itself, with a defect as it is, or with an `AbortError`. */
  readonly run: <A, E>(effect: Effect.Effect<A, E>, options?: CallOptions) => Promise<A>
  /** The same for what ends by interruption only: that is no failure. Resolves at once after the disposal. */
  readonly runUntilInterrupted: (effect: Effect.Effect<void>, options?: CallOptions) => Promise<void>
  /** The values of a stream from now on; ends when the runtime is disposed. */
  readonly iterate: <A>(stream: Stream.Stream<A>, options?: CallOptions) => AsyncIterableIterator<A>
  /** Idempotent: interrupts, waits, releases. */
  readonly dispose: () => Promise<void>
}

/**
 * The error of a call that was interrupted by its signal or by the disposal. Its cause is the signal's reason.
 *
 * @since 0.1.0
 * @category errors
 */
export const abortError = (signal: AbortSignal | undefined): DOMException =>
  new DOMException("the operation was aborted", {
    name: "AbortError",
    ...(signal?.aborted === true ? { cause: signal.reason } : {})
  })

type Fork = <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>

class Forks extends Context.Tag("oversqlite/PromiseRuntime/Forks")<Forks, Fork>() {}

const exitOf = <A, E>(
  fork: Fork,
  effect: Effect.Effect<A, E>,
  signal: AbortSignal | undefined
): Promise<Exit.Exit<A, E>> =>
  new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve(Exit.interrupt(FiberId.none))
      return
    }
    const fiber = fork(effect)
    const abort = () => fiber.unsafeInterruptAsFork(FiberId.none)
    signal?.addEventListener("abort", abort, { once: true })
    fiber.addObserver((exit) => {
      signal?.removeEventListener("abort", abort)
      resolve(exit)
    })
  })

const rejectionOf = <E>(cause: Cause.Cause<E>, signal: AbortSignal | undefined): unknown =>
  Cause.isInterruptedOnly(cause) ? abortError(signal) : Cause.squash(cause)

/** The values of a stream, one chunk read ahead so that listening begins now. */
const iterator = <A>(
  fork: Fork,
  isDisposed: () => boolean,
  stream: Stream.Stream<A>,
  signal: AbortSignal | undefined
): AsyncIterableIterator<A> => {
  const done: IteratorResult<A> = { done: true, value: undefined }
  const scope = Effect.runSync(Scope.make())
  const pull = Effect.runSync(Scope.extend(Stream.toPull(stream), scope))
  // The only failure of this pull is the end.
  const chunk = () =>
    exitOf(fork, Effect.match(pull, { onFailure: () => undefined, onSuccess: (values) => values }), signal)
  let ahead: ReturnType<typeof chunk> | undefined = chunk()
  let buffered: Iterator<A> = Chunk.empty<A>()[Symbol.iterator]()
  let ended = false

  const end = async (): Promise<IteratorResult<A>> => {
    if (!ended) {
      ended = true
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
    return done
  }

  const step = async (): Promise<IteratorResult<A>> => {
    while (!ended) {
      const next = buffered.next()
      if (next.done !== true) return next
      const pulled = ahead ?? chunk()
      ahead = undefined
      const exit = await pulled
      if (ended) return done
      if (Exit.isFailure(exit)) {
        await end()
        if (isDisposed()) return done
        throw rejectionOf(exit.cause, signal)
      }
      if (exit.value === undefined) return end()
      buffered = exit.value[Symbol.iterator]()
    }
    return done
  }

  let last: Promise<unknown> = Promise.resolve()
  const inTurn = (next: () => Promise<IteratorResult<A>>): Promise<IteratorResult<A>> => {
    const result = last.then(next)
    last = result.catch(() => undefined)
    return result
  }

  return {
    next: () => inTurn(step),
    return: () => end(),
    [Symbol.asyncIterator]() {
      return this
    }
  }
}

/**
 * Builds a layer and runs the effects of its service. Rejects with the layer's error as it is; nothing is left behind
 * then.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = async <Self, Service, E>(
  tag: Context.Tag<Self, Service>,
  layer: Layer.Layer<Self, E>
): Promise<PromiseRuntime<Service>> => {
  // The fibers end before what they use is released: they are the last thing that is built.
  const runtime = ManagedRuntime.make(
    Layer.scoped(Forks, FiberSet.makeRuntime()).pipe(Layer.provideMerge(layer))
  )
  const built = await runtime.runPromiseExit(Effect.all([tag, Forks]))
  if (Exit.isFailure(built)) {
    await runtime.dispose()
    throw Cause.squash(built.cause)
  }
  const [service, fork] = built.value
  let disposal: Promise<void> | undefined
  const isDisposed = () => disposal !== undefined
  return {
    service,
    isDisposed,
    run: async (effect, options) => {
      const exit = await exitOf(fork, effect, options?.signal)
      if (Exit.isSuccess(exit)) return exit.value
      throw rejectionOf(exit.cause, options?.signal)
    },
    runUntilInterrupted: async (effect, options) => {
      const exit = await exitOf(fork, effect, options?.signal)
      if (Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)) throw Cause.squash(exit.cause)
    },
    iterate: (stream, options) => iterator(fork, isDisposed, stream, options?.signal),
    dispose: () => {
      disposal ??= runtime.dispose()
      return disposal
    }
  }
}
