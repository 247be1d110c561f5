import { join } from "node:path";
import { expectWorks } from "../works.js";

export default [
  {
    name: "deno",
    async run({ execute, modules, provider }) {
      const permissions = ["--no-prompt", "--no-remote", `--allow-net=${new URL(provider).host}`];
      expectWorks(await execute(join(modules, "@deno/linux-x64-glibc/deno"), ["run", ...permissions, "--node-modules-dir=manual", "main.js"]));
    },
  },
];
