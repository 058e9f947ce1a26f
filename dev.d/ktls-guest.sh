#!/bin/sh
# The first process of the emulated machine of dev.d/ktls.sh: does what the kernel's command line says, and powers off.
# Behind what the firmware leaves on the line.
echo
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
ip link set lo up
for module in ghash-generic gcm ctr ghash_clmulni_intel aesni_intel chacha20poly1305 tls virtio_pci virtio_blk ext4; do
  /sbin/modprobe "$module" || echo "no module $module"
done
mount -t ext4 /dev/vda /disk
chmod 600 /lab/tls.key

# until_ready URL
until_ready() {
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    curl -fsS --cacert /lab/tls.pem "$1" >/dev/null 2>&1 && return
    sleep 1
  done
  echo "$1 does not answer"
}

# busy PID: nanoseconds of processor time, which are instructions here.
busy() {
  sum=0
  for file in /proc/"$1"/task/*/schedstat; do
    read -r ran _ <"$file"
    sum=$((sum + ran))
  done
  echo "$sum"
}

# measure NAME PID: asks for what /tmp/urls says, twice, and tells what the second time cost.
measure() {
  for turn in 1 2; do
    before=$(busy "$2")
    size=0
    for part in $(curl -sS --http1.1 --cacert /lab/tls.pem --tls13-ciphers TLS_AES_128_GCM_SHA256 \
      -w '%{size_download}\n' -K /tmp/urls); do
      size=$((size + part))
    done
    after=$(busy "$2")
  done
  [ "$size" -gt 1000000 ] && echo "measured $1: $(((after - before) / (size / 1000) )) ($size bytes)"
}

# urls BASE: of each line of /tmp/names a file below BASE.
urls() {
  sed "s#.*#url = \"$1/&\"\noutput = \"/dev/null\"#" /tmp/names >/tmp/urls
}

measure_all() {
  for kernel in true false; do
    printf '[origin]\nthreads = 1\n[origin.tls]\nlisten = "127.0.0.1:8443"\ncertificate = "/lab/tls.pem"\nkey = "/lab/tls.key"\nkernel = %s\n' \
      "$kernel" >/tmp/tls.toml
    mkdir -p /tmp/player
    headwater origin --library /disk/library --listen 127.0.0.1:8080 --player /tmp/player --config /tmp/tls.toml >/tmp/log 2>&1 &
    pid=$!
    until_ready http://127.0.0.1:8080/healthz
    master=$(headwater library /disk/library --json | sed -n 's/.*"hls":"\([^"]*\)".*/\1/p')
    for form in cmaf ts; do
      folder=$(dirname "$master")
      [ $form = cmaf ] || folder=$folder/ts
      media=$(curl -sS "http://127.0.0.1:8080$folder/master.m3u8" | grep -v '^#' | head -n 1)
      case $media in /*) ;; *) media=$folder/$media ;; esac
      base=$(dirname "$media")
      curl -sS "http://127.0.0.1:8080$media" | grep -v '^#' | head -n 50 >/tmp/names
      urls "https://127.0.0.1:8443$base"
      measure "headwater $form, sealed by $([ $kernel = true ] && echo the kernel || echo headwater)" "$pid"
      # nginx serves the same bytes.
      if [ $kernel = true ] && [ $form = cmaf ]; then
        mkdir -p /disk/static
        while read -r name; do
          curl -sS "http://127.0.0.1:8080$base/$name" >"/disk/static/$name"
        done </tmp/names
        cat /tmp/names >/tmp/static.names
      fi
    done
    kill "$pid"
    wait "$pid"
  done
  for kernel in KTLS -KTLS; do
    cat >/tmp/nginx.conf <<CONF
daemon off;
master_process off;
pid /tmp/nginx.pid;
error_log /tmp/nginx.log;
events { worker_connections 64; }
http {
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000;
  client_body_temp_path /tmp/n1; proxy_temp_path /tmp/n2; fastcgi_temp_path /tmp/n3; uwsgi_temp_path /tmp/n4; scgi_temp_path /tmp/n5;
  open_file_cache max=10000 inactive=60s; open_file_cache_valid 30s;
  server {
    listen 127.0.0.1:8444 ssl; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_conf_command Options $kernel;
    ssl_certificate /lab/tls.pem; ssl_certificate_key /lab/tls.key; location / { root /disk/static; }
  }
}
CONF
    nginx -c /tmp/nginx.conf >/tmp/log 2>&1 &
    pid=$!
    cat /tmp/static.names >/tmp/names
    until_ready "https://127.0.0.1:8444/$(head -n 1 /tmp/names)"
    urls https://127.0.0.1:8444
    measure "nginx, the same bytes of cmaf as files, sealed by $([ $kernel = KTLS ] && echo the kernel || echo OpenSSL)" "$pid"
    kill "$pid"
    wait "$pid"
  done
}

if grep -q 'what=tests' /proc/cmdline; then
  export RUST_BACKTRACE=1
  origin-tests tls --nocapture --test-threads 1
  # This kernel has no cachestat.
  origin-tests read:: --nocapture --test-threads 1
  tls-tests --nocapture --test-threads 1
else
  measure_all
fi
poweroff -f
