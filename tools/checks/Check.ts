/** Something that must not be there. `line` is 1-based. */
export interface Finding {
  readonly file: string
  readonly line?: number | undefined
  readonly message: string
}

/** What a check has looked at and what it found. `examined` of 0 counts as a failure. */
export interface Outcome {
  readonly examined: number
  readonly unit: string
  readonly findings: ReadonlyArray<Finding>
}

/** A check of the project that stands in the folder `root`. */
export type Check = (root: string) => Promise<Outcome>
