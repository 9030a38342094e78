// One turn of the event loop. A message port yields a macrotask without the 4 ms that nested timers are held back for, so
// that messages to a worker (`cancel`) are heard between two steps.
const { port1, port2 } = new MessageChannel();
const waiting = [];
port1.onmessage = () => waiting.shift()?.();

export function turn() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    port2.postMessage(null);
  });
}
