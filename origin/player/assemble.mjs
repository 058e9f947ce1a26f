// The player folder: copies our files and the library's into one folder that the origin serves.
//
//   npm install --prefix origin/player --ignore-scripts --no-audit --no-fund
//   node origin/player/assemble.mjs OUT
//
// OUT/{page,embed}.html are templates the origin fills in; every other file is served as it is. The library's style sheet
// names a font on another host; that rule is left out, so that nothing here ever asks one.
import {copyFile, mkdir, readFile, writeFile} from 'node:fs/promises';
import {basename, dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** Files to copy: [{from, to}]; `library` is the folder of the installed npm package. */
export async function plan(library) {
  const {headwater} = JSON.parse(await readFile(join(here, 'package.json'), 'utf8'));
  const own = [...headwater.templates, ...headwater.own].map((name) => ({from: join(here, name), to: name}));
  const theirs = headwater.files.map((name) => ({
    from: join(library, name),
    to: name === 'LICENSE' ? `${headwater.package}.LICENSE` : basename(name),
  }));
  return [...own, ...theirs];
}

/** Copies everything into `out`, made if absent. Refuses a library of another version than the one named. */
export async function assemble(out, library = join(here, 'node_modules', 'shaka-player')) {
  const {dependencies, headwater} = JSON.parse(await readFile(join(here, 'package.json'), 'utf8'));
  const wanted = dependencies[headwater.package];
  const {version} = JSON.parse(await readFile(join(library, 'package.json'), 'utf8'));
  if (version !== wanted) throw new Error(`${headwater.package} is ${version}, wants ${wanted}`);
  await mkdir(out, {recursive: true});
  for (const {from, to} of await plan(library)) {
    if (to.endsWith('.css')) await writeFile(join(out, to), withoutFonts(await readFile(from, 'utf8')));
    else await copyFile(from, join(out, to));
  }
}

function withoutFonts(css) {
  const kept = css.replace(/@font-face\s*\{[^}]*\}/g, '').replace(/\/\*# sourceMappingURL=[^*]*\*\//g, '');
  const outside = /url\(\s*["']?(?:https?:)?\/\/[^)]*\)/.exec(kept);
  if (outside) throw new Error(`a style sheet still names another host: ${outside[0]}`);
  return kept;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [out, library] = process.argv.slice(2);
  if (!out) {
    console.error('usage: node assemble.mjs OUT [LIBRARY]');
    process.exit(2);
  }
  await assemble(out, library);
}
