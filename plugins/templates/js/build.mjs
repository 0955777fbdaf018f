// Builds my-plugin.wasm; `--stub-wasi` makes one that imports nothing of WASI. The first time it also installs the build tool, into node_modules here.
import { execSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL(".", import.meta.url)));
if (!existsSync("node_modules/componentize-qjs")) {
  execSync("npm ci --no-audit --no-fund", { stdio: "inherit" });
}
const { componentize } = await import("componentize-qjs");

const entry = "src/channel.js";
const { component } = await componentize({
  // Beside this file; in the gateway's own repository at its root.
  witPath: existsSync("wit") ? "wit" : "../../../wit",
  world: "channel-plugin",
  jsSource: await readFile(entry, "utf8"),
  jsPath: entry,
  moduleRoot: "src",
  // With stubs for what an engine asks of its surroundings, it could not tell what was thrown; the gateway's log does.
  stubWasi: process.argv.includes("--stub-wasi"),
  // The gateway calls plugins without the component model's asynchronous calls.
  sync: true,
});
await writeFile("my-plugin.wasm", component);
console.log(`my-plugin.wasm: ${component.length} bytes`);
