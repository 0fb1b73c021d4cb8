/** Aborts, with the signal's name as the reason, when one of these signals arrives; the process lives on to end in order. */
export function cancelOn(...names: NodeJS.Signals[]): AbortSignal {
  const controller = new AbortController()
  for (const name of names) process.on(name, () => controller.abort(name))
  return controller.signal
}
