import { join } from "node:path";
import { expectWorks } from "../works.js";

export default [
  {
    name: "bun-import",
    async run({ execute, modules }) {
      expectWorks(await execute(join(modules, "@oven/bun-linux-x64/bin/bun"), ["run", "main.js"]));
    },
  },
  {
    name: "bun-require",
    async run({ execute, modules }) {
      expectWorks(await execute(join(modules, "@oven/bun-linux-x64/bin/bun"), ["run", "main.cjs"]));
    },
  },
];
