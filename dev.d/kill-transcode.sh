#!/usr/bin/env bash
# dev.d/kill-transcode.sh [COUNT]: kills a transcoding job, or one of its workers, COUNT times (100) at random moments, and runs
# it again until it is done, over and over. HEADWATER names a built binary. Reports what was lost, made twice or left: nothing.
set -euo pipefail
kill_count=${1:-100}
work=$(mktemp -d)
job=''
trap '[[ -z $job ]] || kill -9 "$job" 2>/dev/null || true; rm -rf "$work"' EXIT
fail() { printf 'kill-transcode: %s\n' "$*" >&2; exit 1; }
RANDOM=${SEED:-$$}

ffmpeg -v error -f lavfi -i testsrc2=s=320x180:r=25:d=16 -f lavfi -i sine=d=16 -c:v libx264 -preset ultrafast -c:a aac "$work/film.mp4"
cat >"$work/headwater.toml" <<'TOML'
[transcode.ladders.small]
step = [{ height = 180, bitrate_kbps = 300, preset = "veryfast" }, { height = 90, bitrate_kbps = 100, preset = "veryfast" }]
TOML
library=$work/library

# When each sample is shown, and which are key frames.
times() { ffprobe -v error -show_entries packet=pts_time,flags -of csv=p=0 "$1"; }

start() {
  "$HEADWATER" transcode "$work/film.mp4" --config "$work/headwater.toml" --ladder small --chunk 4 --device cpu \
    --output "$library" >"$work/log" 2>&1 &
  job=$!
}

# How long it takes when it is left alone, in milliseconds.
begun=$(date +%s%3N)
start
wait "$job" || { cat "$work/log" >&2; fail "the job fails when it is left alone"; }
whole=$(($(date +%s%3N) - begun))
cp -r "$library/film" "$work/expected"
rm -rf "$library"

jobs=0 runs=0 resumed=0 of_job=0 of_worker=0 failed=0 killed=0
while ((killed < kill_count)); do
  start
  runs=$((runs + 1))
  # Moments are spread over the whole of a job, whatever an earlier run has left of it to do.
  sleep "$(printf '0.%03d' $((RANDOM % whole % 1000)))" $((RANDOM % whole / 1000))
  mapfile -t workers < <(pgrep -P "$job" || true)
  if ((RANDOM % 2)) && ((${#workers[@]} > 0)); then
    if kill -9 "${workers[RANDOM % ${#workers[@]}]}" 2>/dev/null; then of_worker=$((of_worker + 1)) killed=$((killed + 1)); fi
  elif kill -9 "$job" 2>/dev/null; then
    of_job=$((of_job + 1)) killed=$((killed + 1))
  fi
  status=0
  wait "$job" 2>/dev/null || status=$?
  job=''
  if grep -q 'pieces of an earlier run' "$work/log"; then resumed=$((resumed + 1)); fi
  if [[ -e $library/film ]]; then
    # However it ended: what is published is whole, and nothing lies beside it once the job is run again.
    if ((status != 0)); then
      start
      wait "$job" 2>/dev/null && fail "it is published twice"
      grep -q 'exists already' "$work/log" || fail "a second run says $(<"$work/log")"
    fi
    left=$(find "$library" -mindepth 1 -maxdepth 1 ! -name film)
    [[ -z $left ]] || fail "debris: $left"
    for file in v1.mp4 v2.mp4 a1.mp4; do
      [[ $(times "$library/film/$file") == "$(times "$work/expected/$file")" ]] || fail "$file has other samples"
    done
    jobs=$((jobs + 1))
    rm -rf "$library"
  elif ((status != 0 && status != 137)); then
    failed=$((failed + 1))
    grep -q 'signal: 9' "$work/log" || fail "a job ended with $status: $(<"$work/log")"
  fi
done
printf 'kill-transcode: %d kills (%d of the job, %d of a worker) in %d runs of %d ms; %d went on where they were; ' \
  "$killed" "$of_job" "$of_worker" "$runs" "$whole" "$resumed"
printf '%d films published, each once and whole; %d runs failed and said why; nothing left behind\n' "$jobs" "$failed"
