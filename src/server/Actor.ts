/**
 * Who is asking (server.md §16.2).
 *
 * @since 0.1.0
 */

/**
 * Who is asking: the authenticated user, whose scope it is, and the source the device says it is (server.md §16.2).
 *
 * @since 0.1.0
 * @category models
 */
export interface Actor {
  readonly userId: string
  readonly sourceId: string
}
