// Programs that the examples' tests start, and stop again.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

/** A port that is free now. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts a program and waits until it says where it listens; `stop` ends it and waits until it has. */
export async function start(command, args, options = {}) {
  const child = spawn(command, args, { ...options, env: { ...process.env, ...options.env }, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.on("close", resolve));
  let said = "";
  const url = await new Promise((resolve, reject) => {
    child.on("error", reject);
    void ended.then(() => reject(new Error(`${command} ${args.join(" ")} ended:\n${said}`)));
    const timer = setTimeout(() => (child.kill(), reject(new Error(`${command} does not start:\n${said}`))), 60_000);
    for (const stream of [child.stdout, child.stderr]) {
      createInterface(stream).on("line", (line) => {
        said += `${line}\n`;
        const found = /https?:\/\/(?:127\.0\.0\.1|localhost|0\.0\.0\.0):\d+/.exec(line.replaceAll(/\x1b\[\d*m/g, ""));
        if (!found) return;
        clearTimeout(timer);
        resolve(found[0]);
      });
    }
  });
  return { url, said: () => said, stop: () => (child.kill(), ended) };
}

/** A simulated provider of one's own. */
export async function simulate(program, scenario) {
  const sim = await start(program, ["sim", "--scenario", "steady", "--listen", "127.0.0.1:0"]);
  const tally = async () => (await fetch(`${sim.url}/__sim/tally`)).json();
  const play = async (scenario) => {
    const response = await fetch(`${sim.url}/__sim/scenario`, { method: "POST", body: JSON.stringify(scenario) });
    if (!response.ok) throw new Error(await response.text());
  };
  if (scenario !== undefined) await play(scenario);
  return { ...sim, tally, play };
}
