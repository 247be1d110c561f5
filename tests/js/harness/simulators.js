// `tidegate sim`, as often as there are cases at the same time.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Simulated providers of the program at `program`, each lent to one case at a time. */
export function simulators(program) {
  const children = [];
  const idle = [];

  async function start() {
    const args = ["sim", "--scenario", "steady", "--listen", "127.0.0.1:0"];
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    children.push(child);
    let seen = "";
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", () => reject(new Error(`the simulator ended:\n${seen}`)));
      createInterface(child.stderr).on("line", (line) => {
        if (seen.length < 1e4) seen += `${line}\n`;
        const found = /https?:\/\/127\.0\.0\.1:\d+/.exec(line);
        if (found) resolve(found[0]);
      });
    });
  }

  return {
    /** The address of one that plays `scenario`, its clock and its tally at zero. */
    async lend(scenario) {
      const url = idle.pop() ?? (await start());
      const told = await fetch(`${url}/__sim/scenario`, { method: "POST", body: JSON.stringify(scenario) });
      if (!told.ok) throw new Error(`the simulator: ${await told.text()}`);
      return url;
    },
    takeBack: (url) => void idle.push(url),
    stop: () => children.forEach((child) => child.kill()),
  };
}
