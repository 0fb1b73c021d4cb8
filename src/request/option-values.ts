import {
  type Choice,
  type ChoiceName,
  choicesOf,
  OPTIONS,
  type OptionName,
  type RawOptions,
} from './options.js'
import { parseBoolean, parseChoice } from './values.js'

/** Reads options by name: what was set, else the default of the table. An empty value counts as not set. */
export class OptionValues {
  constructor(private readonly raw: RawOptions) {}

  /** The text as it was set, which may be empty; undefined if the option was not set. */
  text(name: OptionName): string | undefined {
    const value = this.raw[name]
    return typeof value === 'string' ? value : undefined
  }

  /** The text as it was set; undefined if it is absent or empty. */
  given(name: OptionName): string | undefined {
    return this.text(name) || undefined
  }

  /** What was set, else the default. */
  value(name: OptionName): string {
    const value = this.given(name) ?? OPTIONS.find(option => option.name === name)?.default
    if (value === undefined) throw new Error(`option ${name} has no default`)
    return value
  }

  /** All values of an option that can be repeated. */
  list(name: OptionName): readonly string[] {
    const value = this.raw[name]
    return typeof value === 'string' ? [value] : (value ?? [])
  }

  /** The parsed value of an option without a default; undefined if it was not set. */
  optional<T>(name: OptionName, parse: (text: string) => T): T | undefined {
    const text = this.given(name)
    return text === undefined ? undefined : parse(text)
  }

  /** True or false. Throws InputError. */
  boolean(name: OptionName): boolean {
    return parseBoolean(name, this.value(name))
  }

  /** One of the values that the table lists. Throws InputError. */
  choice<N extends ChoiceName>(name: N): Choice<N> {
    return parseChoice(name, this.value(name), choicesOf(name))
  }
}
