// Bundles the console into the Python package. Nothing of it is in git: `hatch_build.py` runs this for a wheel.

import { build } from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "../src/squareoff/apps/console/static");
const LIMIT_BYTES = 120 * 1024;
const THIRD_PARTY = ["preact", "lightweight-charts", "fancy-canvas"];

// The chart's logo, which its licence asks for, brings its rules in a <style> element. Our Content-Security-Policy
// refuses that, so the rules go into app.css, and the element becomes an empty one that nobody sees.
const LOGO_STYLE = /document\.createElement\("style"\),(this\.\w+)\.innerText="([^"]+)"/;
let logoRules = "";
const logoWithoutInlineStyle = {
  name: "logo-without-inline-style",
  setup(run) {
    run.onLoad({ filter: /lightweight-charts\.production\.mjs$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      const found = LOGO_STYLE.exec(text);
      if (found === null) throw new Error("lightweight-charts styles its logo in another way now: look at build.mjs");
      logoRules = found[2];
      return { contents: text.replace(LOGO_STYLE, 'document.createElement("template")'), loader: "js" };
    });
  },
};

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

await build({
  entryPoints: { app: join(here, "src/main.tsx") },
  outdir: out,
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  legalComments: "none",
  chunkNames: "[name]-[hash]",
  plugins: [logoWithoutInlineStyle],
  logLevel: "warning",
});
const styles = await build({
  stdin: { contents: readFileSync(join(here, "src/app.css"), "utf8") + logoRules, loader: "css" },
  write: false,
  minify: true,
});
writeFileSync(join(out, "app.css"), styles.outputFiles[0].contents);
copyFileSync(join(here, "icon.svg"), join(out, "icon.svg"));
writeFileSync(join(out, "THIRD_PARTY.txt"), thirdParty());

const sizes = readdirSync(out)
  .filter((name) => !name.endsWith(".txt"))
  .map((name) => [name, gzipSync(readFileSync(join(out, name)), { level: 9 }).length]);
const total = sizes.reduce((sum, [, size]) => sum + size, 0);
for (const [name, size] of sizes) console.log(`${String(size).padStart(7)} B gzipped  ${name}`);
console.log(`${String(total).padStart(7)} B gzipped  in all`);
if (total > LIMIT_BYTES) {
  console.error(`The console may have ${LIMIT_BYTES} B gzipped and has ${total}.`);
  process.exit(1);
}
// Last: a static folder with an index.html is a whole one (hatch_build.py looks at it).
copyFileSync(join(here, "index.html"), join(out, "index.html"));

function thirdParty() {
  const parts = THIRD_PARTY.map((name) => {
    const folder = join(here, "node_modules", name);
    const { version, license, author, homepage = "" } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const files = readdirSync(folder).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file));
    const texts = files.map((file) => readFileSync(join(folder, file), "utf8").trim());
    if (texts.length === 0) {
      const who = author?.name ?? author ?? "not named";
      texts.push(`The package brings no text of its licence. Its package.json says: ${license}; author: ${who}.`);
    }
    return `${name} ${version} (${license}) ${homepage}\n\n${texts.join("\n\n")}\n`;
  });
  const head = [
    "The console of squareoff contains the following software of others, minified.",
    "Changed: the rules for the logo of lightweight-charts stand in app.css instead of in a <style> element.",
  ];
  return `${head.join("\n")}\n\n${parts.join(`\n${"-".repeat(78)}\n\n`)}`;
}
