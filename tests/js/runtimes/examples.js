// The examples, run as their README says.
import { browserExample } from "../examples/browser.js";
import { denoExample, nodeExample, workerExample } from "../examples/programs.js";

import { readme } from "../examples/readme.js";
import { lend } from "./sdks.js";

export default [
  { name: "example-browser", run: browserExample },
  { name: "example-deno", run: denoExample },
  { name: "example-node", run: nodeExample },
  { name: "example-worker", run: workerExample },
  {
    name: "readme",
    async run(tools) {
      await lend(tools);
      return readme(tools);
    },
  },
];
