// Bundles that run in Node.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import * as vite from "vite";
import webpack from "webpack";
import { runProgram, strictly } from "./programs.js";

/** The suite in a bundle, run away from node_modules, so that whatever was left out of it is missed. */
function bundled(name, file, bundle) {
  return {
    name,
    suite: {},
    async run(tools) {
      const out = join(tools.project, "out");
      await bundle(tools.project, out);
      await runProgram(tools, process.execPath, [...strictly, file], { cwd: out });
    },
  };
}

function withEsbuild(name, file, options) {
  return bundled(name, file, async (project, out) => {
    const common = { absWorkingDir: project, entryPoints: ["main.js"], bundle: true, logLevel: "error", outfile: join(out, file) };
    const { warnings } = await build({ ...common, ...options });
    if (warnings.length > 0) throw new Error(`esbuild warns: ${warnings.map(({ text }) => text).join("; ")}`);
  });
}

export default [
  withEsbuild("esbuild-esm", "bundle.mjs", { platform: "node", format: "esm" }),
  withEsbuild("esbuild-iife", "bundle.cjs", { platform: "browser", format: "iife", minify: true, keepNames: true }),
  bundled("vite-node", "bundle.mjs", (project, outDir) =>
    vite.build({
      root: project,
      configFile: false,
      logLevel: "warn",
      ssr: { noExternal: true },
      build: { ssr: "main.js", outDir, rollupOptions: { output: { entryFileNames: "bundle.mjs" } } },
    }),
  ),
  bundled("webpack", "bundle.cjs", async (project, path) => {
    const output = { path, filename: "bundle.cjs" };
    const stats = await promisify(webpack)({ context: project, mode: "production", target: "node", entry: "./main.js", output });
    if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString({ colors: false }));
  }),
  {
    // An application that imports the package and uses nothing of it must not carry it along.
    name: "tree-shaking",
    async run({ project }) {
      await mkdir(join(project, "shaken"));
      await writeFile(join(project, "shaken/main.js"), 'import { setCoreModule } from "tidegate";\nconsole.log(1);\n');
      const { outputFiles } = await build({
        absWorkingDir: project,
        entryPoints: ["shaken/main.js"],
        bundle: true,
        format: "esm",
        write: false,
      });
      const size = outputFiles[0].contents.length;
      if (size > 200) throw new Error(`${size} bytes are left of an import that is not used`);
    },
  },
];
