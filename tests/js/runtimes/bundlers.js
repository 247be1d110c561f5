// Bundles that run in Node.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import * as vite from "vite";
import webpack from "webpack";
import { expectWorks } from "../works.js";

/** Runs a bundle away from node_modules, so that whatever was left out of it is missed. */
async function runAlone({ execute, project }, file) {
  expectWorks(await execute(process.execPath, ["--unhandled-rejections=strict", file], { cwd: join(project, "out") }));
}

function withEsbuild(name, options) {
  return {
    name,
    async run(tools) {
      const outfile = join(tools.project, "out", options.format === "esm" ? "bundle.mjs" : "bundle.cjs");
      const common = { absWorkingDir: tools.project, entryPoints: ["main.js"], bundle: true, logLevel: "error", outfile };
      const { warnings } = await build({ ...common, ...options });
      if (warnings.length > 0) throw new Error(`esbuild warns: ${warnings.map(({ text }) => text).join("; ")}`);
      await runAlone(tools, outfile);
    },
  };
}

export default [
  withEsbuild("esbuild-esm", { platform: "node", format: "esm" }),
  withEsbuild("esbuild-iife", { platform: "browser", format: "iife", minify: true }),
  {
    name: "vite-node",
    async run(tools) {
      await vite.build({
        root: tools.project,
        configFile: false,
        logLevel: "warn",
        ssr: { noExternal: true },
        build: { ssr: "main.js", outDir: "out", rollupOptions: { output: { entryFileNames: "bundle.mjs" } } },
      });
      await runAlone(tools, "bundle.mjs");
    },
  },
  {
    name: "webpack",
    async run(tools) {
      const stats = await promisify(webpack)({
        context: tools.project,
        mode: "production",
        target: "node",
        entry: "./main.js",
        output: { path: join(tools.project, "out"), filename: "bundle.cjs" },
      });
      if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString({ colors: false }));
      await runAlone(tools, "bundle.cjs");
    },
  },
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
