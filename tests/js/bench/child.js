// One client on one scenario, in a process of its own: `child.js '{"name": …, "url": …, …}'` prints what it came to.
import { race } from "./clients.js";

const { name, url, ...work } = JSON.parse(process.argv[2]);
const begin = async () => {
  const started = await fetch(`${url}/__sim/reset`, { method: "POST" });
  if (!started.ok) throw new Error(`the simulator: ${started.status}`);
};
const result = await race(name, { url, ...work, begin });
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());
