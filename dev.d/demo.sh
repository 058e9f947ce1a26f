#!/usr/bin/env bash
# ./dev demo: an origin on loopback with the films named, or with the test film, until Ctrl-C.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"
# shellcheck source=origin.sh
source "$root/dev.d/origin.sh"
# shellcheck source=fetch.sh
source "$root/dev.d/fetch.sh"

work=

finish() {
  stop_origin
  if [[ -n $work ]]; then
    rm -rf "$work"
  fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Absolute paths, so that a film may itself be a symbolic link.
films_named() {
  local file
  for file in "$@"; do
    [[ $file != -* ]] || { echo "dev: demo has no option $file; see ./dev help" >&2; exit 2; }
    [[ -e $file ]] || die "there is no file $file"
    [[ -r $file ]] || die "$file cannot be read"
    [[ ! -d $file || -f $file/ladder.toml ]] || die "$file is a folder without a ladder.toml"
    [[ -d $file || -f $file ]] || die "$file is neither a file nor a folder"
    films+=("$(realpath "$file")")
  done
}

install_needs() {
  need curl curl ca-certificates
  need jq jq
  need npm nodejs npm
  if ((${#films[@]} == 0)); then
    need ffmpeg ffmpeg
    need_file /usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf fonts-dejavu-core
  fi
  need_gstreamer
  install_missing_and_rust
}

# add_film FILM LIBRARY: as a hard link, or as a copy where there can be none; the origin does not follow symbolic links.
add_film() {
  local name stem n=2
  name=$(basename "$1")
  stem=$name
  while [[ -e $2/$name ]]; do
    name=$n-$stem
    n=$((n + 1))
  done
  cp --recursive --link "$1" "$2/$name" 2>/dev/null || {
    rm -rf "${2:?}/$name"
    cp --recursive --dereference --reflink=auto "$1" "$2/$name"
  }
}

# Prints one title's URLs and asks each of them; fails if one does not answer 200.
show_title() {
  local title=$1 name path status failed=0
  printf '\n  %s\n' "$(jq -r '.path' <<<"$title")"
  while read -r name path; do
    if [[ -n $grant_key && $(status_of "$path") != 401 ]]; then
      printf '            answers without a grant\n'
      failed=1
    fi
    path=$(with_grant "$path")
    status=$(status_of "$path")
    printf '    %-7s %s%s\n' "$(label_of "$name")" "$origin_base" "$path"
    if [[ $status != 200 ]]; then
      printf '            answers %s\n' "$status"
      failed=1
    fi
  done < <(jq -r '.entries as $e | ["page", "hls", "hls_ts", "dash"][] | select($e[.] != null) | "\(.) \($e[.])"' <<<"$title")
  return "$failed"
}

label_of() {
  case $1 in
    page) echo "page" ;;
    hls) echo "HLS" ;;
    hls_ts) echo "HLS-TS" ;;
    dash) echo "DASH" ;;
  esac
}

show_refusals() {
  jq -r '.refused[]? | "    left out \(.what): \(.why)"' <<<"$1"
}

# Names what was asked for and is no title: text files without a film.
show_missing() {
  local name
  for name in "$library"/*; do
    name=$(basename "$name")
    if ! jq -e -s --arg name "$name" 'any(.[]; .path == $name)' <<<"$titles" >/dev/null; then
      printf '\n  %s is not a film; text is served with the film whose name it shares\n' "$name"
    fi
  done
}

# protect_library LIBRARY: keys for every title, a key for grants, and the configuration that makes use of them.
protect_library() {
  local vault=$work/vault
  grant_key=$work/grant.key
  "$headwater" keys init "$vault" && "$headwater" keys create "$vault" --library "$1" --all &&
    "$headwater" grant new-key "$grant_key" >/dev/null || die "the keys could not be made"
  origin_arguments=(--config "$work/headwater.toml")
  cat >"$work/headwater.toml" <<TOML
[origin.protection]
vault = "$vault"
kek = "$vault.kek"
[origin.protection.systems.clear_key]
[origin.access]
grant_keys = "$grant_key"
TOML
}

# with_grant PATH: PATH as the holder of a fresh grant asks for it.
with_grant() {
  local root media rest token
  if [[ -z $grant_key ]]; then
    printf '%s\n' "$1"
    return
  fi
  IFS=/ read -r _ root media rest <<<"$1"
  token=$("$headwater" grant "$media" --key-file "$grant_key" --expires 12h | sed -n 's/^token *//p')
  printf '/%s/%s/~%s/%s\n' "$root" "$media" "$token" "$rest"
}

protect='' transcode='' grant_key='' origin_arguments=()
while [[ ${1:-} == --protect || ${1:-} == --transcode ]]; do
  case $1 in
    --protect) protect=1 ;;
    --transcode) transcode=1 ;;
  esac
  shift
done
films=()
films_named "$@"
install_needs
cd "$root"
target=$(target_dir)

say "Building headwater"
cargo build --release -p headwater
headwater=$target/release/headwater
assemble_player "$target"
if ((${#films[@]} == 0)); then
  films=("$(test_film "$target")")
fi

work=$(mktemp -d "$target/demo.XXXXXX")
library=$work/library
mkdir "$library"
for film in "${films[@]}"; do
  if [[ -n $transcode && -f $film ]]; then
    say "Transcoding $film"
    "$headwater" transcode "$film" --output "$library" >/dev/null || die "$film could not be transcoded"
  else
    add_film "$film" "$library"
  fi
done

if [[ -n $protect ]]; then
  protect_library "$library"
fi
start_origin "$headwater" "$library" "$target/player" "$work/origin.log" "${origin_arguments[@]}"
titles=$("$headwater" library "$library" --json) || die "headwater library failed on $library"

playable=0 broken=0
while read -r title; do
  if [[ $(jq -r '.playable' <<<"$title") == true ]]; then
    playable=$((playable + 1))
    show_title "$title" || broken=1
    show_refusals "$title"
  else
    printf '\n  %s cannot be played\n' "$(jq -r '.path' <<<"$title")"
    jq -r '.refused[]? | "    \(.what): \(.why)"' <<<"$title"
  fi
done < <(printf '%s\n' "$titles" | sed '/^$/d')
show_missing
((playable > 0)) || die "nothing here can be played"
((broken == 0)) || die "the origin did not answer 200 everywhere; its log: $(tail -n 5 "$origin_log")"

printf '\nEvery address answers 200. Ctrl-C ends the demo.\n'
if [[ -n $protect ]]; then
  printf 'Media is encrypted (cbcs; cenc with ?scheme=cenc; AES-128 in HLS-TS) and opens with the grant in these addresses alone.\n'
fi
# From here on, being told to stop is the ordinary end.
trap 'say; say "Stopped."; exit 0' INT TERM HUP
status=0
wait "$origin_pid" || status=$?
tail -n 20 "$origin_log" >&2
die "the origin ended by itself with status $status"
