#!/usr/bin/env bash
# TLS that the kernel seals, on Debian's kernel under emulation: the tests that need it, then what a server executes for each
# MB that it sends, headwater and nginx, sealed by the kernel and by themselves. Called by ./dev bench; takes five minutes.
#
# Instructions are counted, not seconds: the emulated machine's clock goes by them (qemu -icount), so that processor time is
# their number.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"

if [[ $(uname -m) != x86_64 ]]; then
  say "SKIPPED: dev.d/ktls.sh emulates x86-64 alone"
  exit 0
fi
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
need curl curl ca-certificates
need ffmpeg ffmpeg
need openssl openssl
[[ -x /usr/sbin/nginx ]] || missing_packages+=(nginx-light)
[[ -x /sbin/mke2fs ]] || missing_packages+=(e2fsprogs)
[[ -x /usr/sbin/depmod ]] || missing_packages+=(kmod)
need_gstreamer
install_missing_and_rust
cd "$root"
folder=$(target_dir)/ktls
mkdir -p "$folder"

# The kernel that Debian installs, with its modules.
if [[ ! -d $folder/kernel ]]; then
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
  [[ -n $package ]] || die "apt-get offers no linux-image-amd64"
  (cd "$folder" && apt-get download "$package")
  dpkg-deb --extract "$folder/$package"_*.deb "$folder/kernel.part"
  mv "$folder/kernel.part" "$folder/kernel"
fi
release=$(basename "$folder"/kernel/lib/modules/*)

cargo build --release -p headwater
cargo test -p origin --no-run 2>"$folder/build.log" || { cat "$folder/build.log" >&2 && exit 1; }
executable() { sed -n "s#.*Executable.* $1 (\(.*\))#\1#p" "$folder/build.log"; }
# Tests make their film where they are built.
test_film=$(target_dir)/tmp/tls-film.mp4
[[ -s $test_film ]] || cargo test -q -p origin --test tls

if [[ ! -s $folder/film.mp4 ]]; then
  ffmpeg -v error -y -f lavfi -i "testsrc2=size=854x480:rate=30:duration=20,noise=alls=20:allf=t" -c:v libx264 \
    -preset ultrafast -b:v 1400k -maxrate 1400k -bufsize 1400k -g 60 -keyint_min 60 -sc_threshold 0 "$folder/clip.mp4"
  ffmpeg -v error -y -stream_loop 11 -i "$folder/clip.mp4" -c copy "$folder/film.part.mp4"
  mv "$folder/film.part.mp4" "$folder/film.mp4"
fi

# The guest: programs in memory, media on a disk.
guest=$folder/guest
rm -rf "$guest"
mkdir -p "$guest"/{bin,sbin,proc,sys,dev,disk,tmp,etc,lab,var/log/nginx,var/lib/nginx} "$guest/$(target_dir)/tmp"
cp "$(command -v busybox)" "$guest/bin/busybox"
for name in sh mount ip poweroff cat sed grep head dirname chmod mkdir sleep cut stat; do
  ln -s busybox "$guest/bin/$name"
done
ln -s /bin/busybox "$guest/sbin/modprobe"
modules=lib/modules/$release
for part in crypto arch/x86/crypto lib net/tls fs/ext4 fs/jbd2 fs/mbcache.ko drivers/block/virtio_blk.ko drivers/virtio; do
  mkdir -p "$guest/$modules/kernel/${part%/*}"
  cp -r "$folder/kernel/$modules/kernel/$part" "$guest/$modules/kernel/${part%/*}/"
done
cp "$folder/kernel/$modules"/modules.{order,builtin,builtin.modinfo} "$guest/$modules/"
/usr/sbin/depmod -b "$guest" "$release"
# program NAME FILE: with the libraries that it is linked to.
program() {
  local library
  strip -o "$guest/bin/$1" "$2"
  while read -r library; do
    mkdir -p "$guest${library%/*}"
    cp -L "$library" "$guest$library"
  done < <(ldd "$2" | grep -o '/[^ ]*')
}
program headwater "$(target_dir)/release/headwater"
program origin-tests "$(executable 'unittests src/lib.rs')"
program tls-tests "$(executable tests/tls.rs)"
program curl "$(command -v curl)"
program nginx /usr/sbin/nginx
cp "$test_film" "$guest/$test_film"
mkdir -p "$folder/disk/library"
ln -f "$folder/film.mp4" "$folder/disk/library/film.mp4"
rm -f "$folder/disk.img"
/sbin/mke2fs -q -t ext4 -d "$folder/disk" "$folder/disk.img" 512M >"$folder/disk.log"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=lab \
  -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
  -keyout "$guest/lab/tls.key" -out "$guest/lab/tls.pem" 2>/dev/null
printf '127.0.0.1 localhost\n' >"$guest/etc/hosts"
printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$guest/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$guest/etc/group"
install -m 755 "$root/dev.d/ktls-guest.sh" "$guest/init"
(cd "$guest" && find . | cpio --create --format=newc --quiet | gzip -1) >"$folder/initrd.gz"

# boot WHAT [ARGUMENT…]: lets the guest do WHAT; its words are left in WHAT.log.
boot() {
  local what=$1
  shift
  timeout 900 qemu-system-x86_64 -nographic -no-reboot -m 6G -cpu max -kernel "$folder/kernel/boot/vmlinuz-$release" \
    -initrd "$folder/initrd.gz" -drive "file=$folder/disk.img,format=raw,if=virtio" -append "console=ttyS0 quiet panic=-1 what=$what" "$@" </dev/null >"$folder/$what.log" 2>&1 ||
    die "the emulated machine failed; its last words: $(tail -n 20 "$folder/$what.log")"
}
boot tests -smp 2
if grep -a -E 'SKIPPED|FAILED|panicked' "$folder/tests.log" || [[ $(grep -a -c 'test result: ok' "$folder/tests.log") != 3 ]]; then
  tail -n 60 "$folder/tests.log" >&2
  die "TLS sealed by the kernel failed on Linux $release"
fi
say "TLS sealed by the kernel, Linux $release: $(grep -a -c '^test .* ok' "$folder/tests.log") tests passed"
boot measure -smp 1 -icount shift=0,sleep=off
[[ $(grep -a -c '^measured ' "$folder/measure.log") == 6 ]] || die "$(tail -n 20 "$folder/measure.log")"
say "thousands of instructions for each MB sent over TLS 1.3 (AES-128-GCM), Linux $release, emulated:"
grep -a '^measured ' "$folder/measure.log" | cut -d ' ' -f 2- | tr -d '\r'
