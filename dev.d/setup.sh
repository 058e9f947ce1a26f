# shellcheck shell=bash
# Sourced: what a command needs before it can begin: Debian packages, Rust, the target folder, real media.
#
# Everything is looked for first; only what is missing is installed.

: "${root:?is set by the script that sources this: the top of the checkout}"

missing_packages=()
wished_packages=()

say() { printf '%s\n' "$*"; }

die() {
  printf 'dev: %s\n' "$*" >&2
  exit 1
}

# What a stage of ./dev test ends with that can not run here, as tests of automake's do.
readonly skip_status=77

# skip REASON: ends such a stage; ./dev test tells the reason and does not call it passed.
skip() {
  printf '%s: SKIPPED: %s\n' "$(basename "$0")" "$*" >&2
  exit "$skip_status"
}

# need COMMAND PACKAGE…: the packages are missing if the command is.
need() {
  local command=$1
  shift
  if ! command -v "$command" >/dev/null; then
    missing_packages+=("$@")
  fi
}

# wish COMMAND PACKAGE: as `need`, but where apt-get offers no such package it is done without.
wish() {
  if ! command -v "$1" >/dev/null; then
    wished_packages+=("$2")
  fi
}

# apt_offers PACKAGE, by the package lists there are.
apt_offers() {
  # Read to its end: whoever writes into a closed pipe fails.
  apt-cache policy "$1" 2>/dev/null | grep 'Candidate: [0-9]' >/dev/null
}

# Moves to what is missing those of the wished packages that apt-get offers.
grant_wishes() {
  local package left=()
  for package in "${wished_packages[@]}"; do
    if apt_offers "$package"; then
      missing_packages+=("$package")
    else
      left+=("$package")
    fi
  done
  wished_packages=("${left[@]}")
}

# need_file PATH PACKAGE…: the packages are missing if no such file can be read.
need_file() {
  local path=$1
  shift
  if [[ ! -r $path ]]; then
    missing_packages+=("$@")
  fi
}

# need_postgres: the server's binaries, which the embedded database is made of. The cluster that Debian's package would make
# and start is not wanted.
need_postgres() {
  local settings=/etc/postgresql-common/createcluster.conf
  if compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; then
    return
  fi
  if [[ ! -e $settings ]]; then
    as_root mkdir -p "${settings%/*}"
    echo 'create_main_cluster = false' | as_root tee "$settings" >/dev/null
  fi
  missing_packages+=(postgresql)
}

# need_gstreamer: what `headwater import` makes thumbnails with and `headwater transcode` ladders: to build against, and the
# plugins that read, decode and encode.
need_gstreamer() {
  local row name package
  need pkg-config pkg-config
  if ! pkg-config --exists 'gstreamer-app-1.0 >= 1.22' 'gstreamer-video-1.0 >= 1.22' 2>/dev/null; then
    missing_packages+=(libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev)
  fi
  for row in playback:base videoconvertscale:base audioresample:base audiorate:base isomp4:good matroska:good \
    deinterlace:good videofilter:good jpeg:good videoparsersbad:bad mpegtsdemux:bad x265:bad x264:ugly; do
    name=${row%:*} package=gstreamer1.0-plugins-${row#*:}
    if ! compgen -G "/usr/lib/*/gstreamer-1.0/libgst$name.so" >/dev/null; then
      missing_packages+=("$package")
    fi
  done
  if ! compgen -G "/usr/lib/*/gstreamer-1.0/libgstlibav.so" >/dev/null; then
    missing_packages+=(gstreamer1.0-libav)
  fi
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "these need root, and there is no sudo here: $*"
  fi
}

# Installs what `need` found missing, and of what `wish` did what there is.
install_missing() {
  grant_wishes
  # A fresh machine has no package lists, and offers nothing until it has.
  if ((${#missing_packages[@]} == 0)) &&
    { ((${#wished_packages[@]} == 0)) || compgen -G "/var/lib/apt/lists/*_Packages*" >/dev/null; }; then
    return
  fi
  if ! command -v apt-get >/dev/null; then
    ((${#missing_packages[@]} > 0)) || return 0
    die "there is no apt-get here; please install what Debian calls: ${missing_packages[*]}"
  fi
  apt_get update || say "apt-get update failed; going on with the package lists there are"
  grant_wishes
  wished_packages=()
  if ((${#missing_packages[@]} == 0)); then
    return
  fi
  say "Installing Debian packages: ${missing_packages[*]}"
  apt_get install -y --no-install-recommends "${missing_packages[@]}" ||
    die "apt-get could not install: ${missing_packages[*]}"
  missing_packages=()
  hash -r
}

apt_get() {
  # Another apt-get may be running: wait for its lock rather than fail.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# The oldest Rust that builds this workspace, from Cargo.toml.
rust_version_min() {
  sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml"
}

rust_is_new_enough() {
  local have
  have=$(cd "$root" && cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
  [[ -n $have ]] && printf '%s\n%s\n' "$(rust_version_min)" "$have" | sort --version-sort --check=quiet
}

# A Rust toolchain of headwater's own in the user's cache folder, fetched with rustup once, by a Python package that
# knows how to. Nothing outside that folder changes.
use_own_rust() {
  local folder=${XDG_CACHE_HOME:-$HOME/.cache}/headwater/rust
  if [[ ! -x $folder/cargo/bin/cargo ]]; then
    need_file /usr/share/doc/python3-venv/copyright python3-venv
    install_missing
    say "Fetching a Rust toolchain into $folder"
    mkdir -p "$folder"
    if ! { python3 -m venv "$folder/fetch" &&
      "$folder/fetch/bin/pip" install --quiet --disable-pip-version-check puccinialin &&
      "$folder/fetch/bin/python" -m puccinialin --location "$folder" --info-json "$folder/environment.json"; }; then
      say "That failed; see above."
      return
    fi
  fi
  export RUSTUP_HOME=$folder/rustup CARGO_HOME=$folder/cargo
  PATH=$folder/cargo/bin:$PATH
  hash -r
}

# Installs what is missing, a linker included, and makes sure of a cargo that is new enough; asks rustup if there is
# none.
install_missing_and_rust() {
  need cc gcc libc6-dev
  install_missing
  PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  if rust_is_new_enough; then
    return
  fi
  # Debian 12 carries neither a cargo that is new enough nor rustup; later releases have rustup.
  if ! command -v rustup >/dev/null && apt_offers rustup; then
    need rustup rustup
    install_missing
  fi
  if ! command -v rustup >/dev/null; then
    use_own_rust
    if rust_is_new_enough; then
      return
    fi
  fi
  if ! command -v rustup >/dev/null; then
    die "Rust $(rust_version_min) or newer is needed, and this machine has $(cargo --version 2>/dev/null || echo none).
     Please install rustup as the Rust project's web site describes under \"Install Rust\" (any way that puts cargo
     into PATH will do), then run this again."
  fi
  say "Asking rustup for the stable Rust toolchain"
  rustup toolchain install stable --profile minimal --component clippy,rustfmt
  export RUSTUP_TOOLCHAIN=stable
  rust_is_new_enough || die "the stable toolchain is older than $(rust_version_min); is rustup offline?"
}

# need_component SUBCOMMAND COMPONENT: a part of the toolchain that minimal toolchains lack.
need_component() {
  if ! (cd "$root" && cargo "$1" --version >/dev/null 2>&1); then
    command -v rustup >/dev/null || die "cargo $1 is missing; it is a part of the Rust toolchain"
    (cd "$root" && rustup component add "$2")
  fi
}

# Where cargo puts what it builds; honours CARGO_TARGET_DIR and cargo's configuration.
target_dir() {
  (cd "$root" && cargo metadata --no-deps --offline --format-version 1) |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}

# find_media: exports HEADWATER_MEDIA, the folder of real files, which are not ours to ship: the one it names, or shared/media
# beside the checkout. Fails where there is none; $no_media says so.
find_media() {
  local folder=${HEADWATER_MEDIA:-$root/../shared/media}
  if [[ ! -d $folder ]]; then
    no_media="there is no folder $folder; HEADWATER_MEDIA names the one with the real files"
    return 1
  fi
  # Test programs run in folders of their own.
  HEADWATER_MEDIA=$(realpath "$folder")
  export HEADWATER_MEDIA
}

# need_media: as `find_media`, for a stage that is nothing without.
need_media() {
  find_media || skip "$no_media"
}
