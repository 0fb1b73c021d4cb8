/** A signal that aborts when this process gets one of these signals, with its name as the reason. The process goes on. */
export function cancelOn(...names: NodeJS.Signals[]): AbortSignal {
  const controller = new AbortController()
  for (const name of names) process.on(name, () => controller.abort(name))
  return controller.signal
}
