#!/usr/bin/env bash
# ./dev fuzz [TARGET [SECONDS]]: libFuzzer on packager's parsers, with the stable toolchain.
#
# packager/fuzz has the layout of cargo-fuzz, but its targets are built by plain cargo: the coverage counters libFuzzer
# steers by are an LLVM pass that stable rustc passes through. There is no address sanitizer: packager forbids unsafe
# code, so what is hunted are panics, overflows, hangs and greed for memory.
#
# Finds are kept in packager/fuzz/artifacts/TARGET, the growing corpus in packager/fuzz/corpus/TARGET. To run one find
# again: ./dev fuzz TARGET packager/fuzz/artifacts/TARGET/FILE
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"

readonly fuzz=$root/packager/fuzz
readonly seconds_default=600
# A hang is an input that takes this long; honest ones of the sizes tried take milliseconds.
readonly timeout_s=10
# The targets bound their own heap to 256 MiB (packager/fuzz/src/memory.rs). libFuzzer's bound counts its corpus and
# coverage tables and the code itself too, and is only there should that allocator be passed by.
readonly rss_limit_mb=512

targets() {
  sed -n 's#^path = "fuzz_targets/\(.*\)\.rs"$#\1#p' "$fuzz/Cargo.toml"
}

# Builds every target; prints the folder they are in.
build() {
  local triple target coverage
  triple=$(rustc -vV | sed -n 's/^host: //p')
  target=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
  coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
  coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
  # --target keeps the flags away from build scripts and macros, which have no fuzzer to link with.
  RUSTFLAGS="$coverage --cfg fuzzing -Ccodegen-units=1" cargo build --release --bins --target "$triple" >&2 || return
  printf '%s/%s/release\n' "$target" "$triple"
}

# traits_of TARGET: the largest input that is tried, in bytes, and what to begin with: files by the ending of their name,
# and the first stream of a kind of any file, as ffmpeg's muxer after the colon writes it.
traits_of() {
  case $1 in
    audio) echo 16384 aac ac3 flac mp3 opus a:adts a:latm a:ac3 a:eac3 a:mp3 a:data ;;
    av1_vp9) echo 16384 v:obu v:data ;;
    avc) echo 16384 v:h264 ;;
    boxes) echo 262144 mp4 m4s m4a mov bmff ;;
    container) echo 65536 webm mkv aac ac3 flac mp3 ;;
    hevc) echo 16384 v:hevc ;;
    movie) echo 65536 mp4 m4s m4a mov bmff ;;
    mpegts) echo 65536 ts v:mpegts a:mpegts ;;
    ogg) echo 65536 ogg opus oga a:ogg ;;
    srt) echo 8192 srt ;;
    subsample) echo 16384 v:h264 v:hevc v:obu v:data ;;
    ttml) echo 8192 xml ttml ;;
    tx3g) echo 8192 ;;
    webvtt) echo 8192 vtt ;;
    *) echo 4096 ;;
  esac
}

# seed FOLDER SIZE_BYTES_MAX KIND…: puts real media of these kinds into the folder, nothing larger than an input may be.
seed() {
  local folder=$1 size_bytes_max=$2 media kind file name
  if find_media; then
    media=$HEADWATER_MEDIA
  else
    media=$work/media
    make_small_media "$media"
  fi
  for kind in "${@:3}"; do
    while IFS= read -r -d '' file; do
      name=$folder/$(sha256sum <"$file" | cut -c1-16).${kind#*:}
      if [[ $kind == *:* ]]; then
        # What holds no such stream, or one the muxer does not write, leaves nothing.
        ffmpeg -nostdin -v quiet -y -i "$file" -map "0:${kind%:*}:0" -c copy -t 0.2 -f "${kind#*:}" -fs "$size_bytes_max" \
          "$name" || rm -f "$name"
      else
        cp "$file" "$name"
      fi
    done < <(files_of "$media" "$kind" "$size_bytes_max")
  done
  find "$folder" -type f \( -empty -o -size "+${size_bytes_max}c" \) -delete
}

# files_of MEDIA KIND SIZE_BYTES_MAX: names of files, each ended by NUL.
files_of() {
  if [[ $2 == *:* ]]; then
    find "$1" -type f -size -8M \( -name '*.mp4' -o -name '*.mov' -o -name '*.webm' -o -name '*.mkv' -o -name '*.ts' \) -print0
  else
    find "$1" -type f -size "-$(($3 + 1))c" -name "*.$2" -print0
  fi
}

# make_small_media FOLDER: one second of everything ffmpeg can write for us, if that is all there is.
make_small_media() {
  if [[ -d $1 ]]; then
    return
  fi
  mkdir "$1"
  local picture=(-f lavfi -i "testsrc2=s=64x36:r=25:d=1") sound=(-f lavfi -i "sine=440:r=48000:d=1") make
  make=(ffmpeg -nostdin -v error)
  "${make[@]}" "${picture[@]}" "${sound[@]}" -c:v libx264 -g 12 -c:a aac "$1/avc.mp4"
  "${make[@]}" -i "$1/avc.mp4" -c copy -movflags frag_keyframe+empty_moov+default_base_moof "$1/fragmented.mp4"
  "${make[@]}" -i "$1/avc.mp4" -c copy "$1/avc.ts"
  "${make[@]}" -i "$1/avc.mp4" -c copy "$1/avc.mkv"
  "${make[@]}" -i "$1/avc.mp4" -c copy -vn "$1/aac.aac"
  "${make[@]}" "${picture[@]}" -c:v libx265 -x265-params log-level=none -tag:v hvc1 "$1/hevc.mp4"
  "${make[@]}" "${picture[@]}" "${sound[@]}" -c:v libvpx-vp9 -deadline realtime -c:a libopus "$1/vp9.webm"
  "${make[@]}" "${picture[@]}" "${sound[@]}" -c:v libaom-av1 -cpu-used 8 -c:a eac3 "$1/av1.mp4"
  "${make[@]}" "${sound[@]}" -c:a libopus "$1/opus.ogg"
  "${make[@]}" "${sound[@]}" "$1/flac.flac"
  "${make[@]}" "${sound[@]}" "$1/mp3.mp3"
  "${make[@]}" "${sound[@]}" "$1/ac3.ac3"
  printf '1\n00:00:00,000 --> 00:00:01,500\n<i>One</i>\n\n2\n00:00:02,000 --> 00:00:03,000\nTwo\n' >"$1/text.srt"
  "${make[@]}" -i "$1/text.srt" "$1/text.vtt"
  "${make[@]}" -i "$1/text.srt" "$1/text.ttml"
}

# fuzz_one TARGET SECONDS
fuzz_one() {
  local corpus=$fuzz/corpus/$1 artifacts=$fuzz/artifacts/$1 seeds=$work/seeds/$1
  local traits
  read -ra traits < <(traits_of "$1")
  mkdir -p "$corpus" "$artifacts" "$seeds"
  seed "$seeds" "${traits[@]}"
  say "== $1: $2 s, beginning with $(find "$seeds" "$corpus" -type f | wc -l) inputs"
  # The first folder receives what is found to be new; the lines left out tell of each single step.
  "$binaries/$1" "$corpus" "$seeds" "${options[@]}" -max_len="${traits[0]}" \
    -max_total_time="$2" -print_final_stats=1 -artifact_prefix="$artifacts/" 2>&1 |
    sed '/^#[0-9]*\t\(NEW\|REDUCE\|RELOAD\)/d; /NEW_FUNC/d; /^WARNING: Failed to find/d
      /^###### Recommended dictionary/,/^###### End of/d'
}

wanted=${1:-all}
if [[ $wanted == list ]]; then
  targets
  exit
fi
if [[ $wanted != all ]] && ! targets | grep -xF -- "$wanted" >/dev/null; then
  echo "dev: no fuzz target $wanted; there are: $(targets | tr '\n' ' ')" >&2
  exit 2
fi
seconds=${2:-$seconds_default}
if [[ ! $seconds =~ ^[1-9][0-9]*$ && ! -f $seconds ]]; then
  echo "dev: $seconds is neither a number of seconds nor a file" >&2
  exit 2
fi
if [[ -f $seconds ]]; then
  seconds=$(realpath "$seconds")
fi

need g++ g++
need ffmpeg ffmpeg
install_missing_and_rust

cd "$fuzz"
binaries=$(build)
options=(-timeout="$timeout_s" -rss_limit_mb="$rss_limit_mb")
if [[ -f $seconds ]]; then
  exec "$binaries/$wanted" "${options[@]}" "$seconds"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

failed=()
for target in $(targets); do
  if [[ $wanted == all || $wanted == "$target" ]]; then
    fuzz_one "$target" "$seconds" || failed+=("$target")
  fi
done
if ((${#failed[@]} > 0)); then
  echo "fuzz: finds in ${failed[*]}; see packager/fuzz/artifacts" >&2
  exit 1
fi
echo "fuzz: no finds"
