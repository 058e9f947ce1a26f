#!/usr/bin/env bash
# What encryption costs against OpenSSL: the same cipher on one core in turns, as ratios of bytes in a second of CPU time.
# Called by ./dev bench; alone: dev.d/bench-ciphers.sh [ROUNDS] [SECONDS]
#
# Targets: cenc 0.8 of AES-128-CTR; cbcs 0.8 of what AES-128-CBC reaches where its blocks do not depend on each other
# (decryption); whole segments, eight side by side, 0.95 of AES-128-CBC.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"

rounds=${1:-5}
seconds=${2:-0.5}
need openssl openssl
install_missing_and_rust
cd "$root"
built=$(cargo bench --no-run --bench ciphers --message-format json |
  sed -n 's/.*"name":"ciphers".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
[[ -x $built ]] || die "the bench was not built"
folder=$(target_dir)/bench-ciphers
rm -rf "$folder"
mkdir -p "$folder"

# openssl_speed CIPHER [-decrypt]: bytes in a second, 16 KiB at once.
openssl_speed() {
  openssl speed -evp "$1" "${@:2}" -bytes 16384 -seconds 1 2>/dev/null |
    sed -n 's/^AES.* \([0-9.]*\)k$/\1/p' | awk '{ printf "%.0f\n", $1 * 1000 }'
}

for ((round = 0; round < rounds; round++)); do
  openssl_speed aes-128-ctr >>"$folder/openssl-ctr"
  openssl_speed aes-128-cbc >>"$folder/openssl-cbc"
  openssl_speed aes-128-cbc -decrypt >>"$folder/openssl-cbc-parallel"
  taskset --cpu-list 0 "$built" "$seconds" | while read -r name rate; do
    echo "$rate" >>"$folder/$name"
  done
done

# row WHAT NAME SHARE AGAINST TARGET: SHARE is the part of the bytes that is encrypted.
row() {
  paste <(sort -g "$folder/$2") <(sort -g "$folder/$4") | awk -v what="$1" -v share="$3" -v against="$4" -v target="$5" '
    { ours[NR] = $1 / 1e9; theirs[NR] = $2 / 1e9 }
    END {
      middle = int((NR + 1) / 2)
      printf "| %s | %.2f (%.2f–%.2f) | %s %.2f (%.2f–%.2f) | %.2f | %s |\n", what, ours[middle], ours[1], ours[NR],
        against, theirs[middle], theirs[1], theirs[NR], ours[middle] * share / theirs[middle], target
    }'
}
cat <<HEAD
$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1), $(openssl version | cut -d' ' -f1-2), $rounds rounds.
GB of media in a second of CPU time, median (least–most). The ratio compares encrypted bytes: of cbcs 1:9 a tenth.

| form | headwater | OpenSSL | ratio | wanted |
|---|---|---|---|---|
HEAD
row cenc cenc 1 openssl-ctr 0.80
row 'cbcs 1:9' cbcs-1:9 0.1 openssl-cbc-parallel 0.80
row 'cbcs, all blocks' cbcs-all 1 openssl-cbc-parallel 0.80
row 'AES-128, one segment' aes128-1 1 openssl-cbc 0.95
row 'AES-128, two side by side' aes128-2 1 openssl-cbc 0.95
row 'AES-128, four' aes128-4 1 openssl-cbc 0.95
row 'AES-128, eight' aes128-8 1 openssl-cbc 0.95
