// Other people's SDKs, through the gate.
import { cp, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const SDKS = ["@ai-sdk/deepseek", "@langchain/core", "@langchain/openai", "ai", "openai", "zod"];

/** Makes the SDKs as installed for these tests resolvable in the project. */
export async function lend({ project, modules }) {
  for (const name of SDKS) {
    await mkdir(dirname(join(project, "node_modules", name)), { recursive: true });
    await symlink(join(modules, name), join(project, "node_modules", name)).catch(({ code }) => {
      // Every project has some.
      if (code !== "EEXIST") throw new Error(`${name} can't be linked: ${code}`);
    });
  }
}

/** What remains of `code` once it is bundled, minified and gzipped. */
async function sized(project, contents) {
  const { outputFiles } = await build({
    absWorkingDir: project,
    stdin: { contents, resolveDir: project },
    bundle: true,
    minify: true,
    format: "esm",
    write: false,
    logLevel: "error",
  });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
}

export default [
  {
    name: "sdks",
    async run(tools) {
      const { execute, root, program, project } = tools;
      await lend(tools);
      await cp(join(root, "tests/js/sdks"), join(project, "sdks"), { recursive: true });
      const tests = (await readdir(join(project, "sdks"))).filter((file) => file.endsWith(".test.js"));
      const files = ["--unhandled-rejections=strict", "--test", "--test-reporter=tap", ...tests.map((file) => join("sdks", file))];
      const output = await execute(process.execPath, files, { env: { TIDEGATE_BIN: program, TIDEGATE_PACKAGE: undefined }, timeout: 300_000 });
      const passed = Number(/^# pass (\d+)$/m.exec(output)?.[1]);
      if (!(passed > 0)) throw new Error(`no test ran:\n${output}`);
      const compared = [...output.matchAll(/^ *# (bare: .*)$/gm)].map(([, said]) => said);
      return [`${passed} tests`, ...compared].join("; ");
    },
  },
  {
    name: "sdks-types",
    async run(tools) {
      const { execute, bin, root, project } = tools;
      await lend(tools);
      await cp(join(root, "tests/js/sdks/types.ts"), join(project, "types.ts"));
      // The SDKs' own declarations are not ours to check.
      const compilerOptions = { strict: true, noEmit: true, target: "ES2022", lib: ["ES2022", "DOM"], types: [], skipLibCheck: true };
      for (const module of ["nodenext", "esnext"]) {
        const how = { ...compilerOptions, module, ...(module === "esnext" && { moduleResolution: "bundler" }) };
        await writeFile(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions: how, files: ["types.ts"] }));
        await execute(join(bin, "tsc"), ["--project", "."]);
      }
    },
  },
  {
    name: "adapter-size",
    async run({ project }) {
      const main = 'export * from "tidegate";';
      const base = await sized(project, main);
      const sizes = {};
      for (const name of ["openai", "ai-sdk"]) sizes[name] = (await sized(project, `${main}export * from "tidegate/${name}";`)) - base;
      const said = Object.entries(sizes).map(([name, size]) => `tidegate/${name} adds ${size} bytes`).join(", ");
      if (Object.values(sizes).some((size) => size > 2000)) throw new Error(`more than 2,000 bytes, minified and gzipped: ${said}`);
      return said;
    },
  },
];
