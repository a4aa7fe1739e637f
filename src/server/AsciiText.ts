/**
 * Text as the database reads it: blank is what ASCII calls blank.
 *
 * @since 0.1.0
 */

const blanks = " \t\n\v\f\r"

/**
 * The text without the blanks around it (values.md §4). Other white space of Unicode is no blank.
 *
 * @since 0.1.0
 * @category conversions
 */
export const strip = (text: string): string => {
  let start = 0
  let end = text.length
  while (start < end && blanks.includes(text.charAt(start))) start += 1
  while (end > start && blanks.includes(text.charAt(end - 1))) end -= 1
  return text.slice(start, end)
}
