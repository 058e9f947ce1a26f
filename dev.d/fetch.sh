# shellcheck shell=bash
# Sourced: what is fetched or made once and kept in the target folder: the player library and the test film.

: "${root:?is set by the script that sources this: the top of the checkout}"

# fetch_player DIR: the player library's files, with the versions origin/player/package.json pins.
fetch_player() {
  local dir=$1 manifest=$root/origin/player/package.json npm_dir file want
  want=$(cat "$root"/origin/player/package*.json | sha256sum)
  if [[ -f $dir/.fetched && $(<"$dir/.fetched") == "$want" ]]; then
    return
  fi
  say "Fetching the player library from npm"
  rm -rf "$dir"
  mkdir -p "$dir"
  npm_dir=$(mktemp -d "$dir.npm.XXXXXX")
  cp "$root"/origin/player/package*.json "$npm_dir"
  if ! npm_install "$npm_dir" >"$npm_dir/npm.log" 2>&1; then
    tail -n 20 "$npm_dir/npm.log" >&2
    rm -rf "$npm_dir"
    die "npm could not fetch the player library; its last words are above"
  fi
  while read -r file; do
    cp "$npm_dir/node_modules/${file#node_modules/}" "$dir/" ||
      die "the npm packages hold no $file, which $manifest names"
  done < <(jq -r '.headwater.files[]' "$manifest")
  rm -rf "$npm_dir"
  printf '%s\n' "$want" >"$dir/.fetched"
}

# npm_install DIR: what DIR/package.json asks for; exactly the locked versions if there is a lock file.
npm_install() {
  local how=install
  if [[ -f $1/package-lock.json ]]; then
    how=ci
  fi
  npm "$how" --prefix "$1" --ignore-scripts --no-audit --no-fund --no-progress
}

# test_film TARGET_DIR: prints the folder of the test film; makes it at first, and again when its maker has changed.
test_film() {
  local maker=$root/tests/make-film.sh made film
  made=$(sha256sum <"$maker")
  film=$1/test-film/${made:0:12}/headwater-test-film
  if [[ ! -d $film ]]; then
    say "Making the test film (half a minute, once)" >&2
    "$maker" "$film" >&2
  fi
  printf '%s\n' "$film"
}
