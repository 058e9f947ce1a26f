#!/usr/bin/env bash
# Makes the test film: one ladder folder with three pictures, two languages of sound and two of subtitles.
#
#   tests/make-film.sh DIR [SECONDS]
#
# DIR must not exist yet; it appears only when the film is complete. Everything in it can be checked by eye and ear:
# the timecode is burnt in, each rendition names itself, a bar flashes while the beep of a second sounds, and the
# subtitle says which second it belongs to. English beeps once a second, German twice, an octave apart in the left and
# right ear.
set -euo pipefail

readonly rate=25 gop_s=2 sample_rate=48000
readonly font=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf

if (($# < 1 || $# > 2)); then
  echo "usage: tests/make-film.sh DIR [SECONDS]" >&2
  exit 2
fi
readonly film=$1 duration_s=${2:-60}
if [[ -e $film ]]; then
  echo "make-film: $film is there already" >&2
  exit 1
fi
if [[ ! -r $font ]]; then
  echo "make-film: $font is missing (Debian package fonts-dejavu-core)" >&2
  exit 1
fi

mkdir -p "$(dirname "$film")"
unfinished=$(mktemp -d "$film.XXXXXX")
trap 'rm -rf "$unfinished"' EXIT

# label HEIGHT KBPS: what a rendition says about itself, in the upper right corner.
label() {
  printf "drawtext=fontfile=%s:text='%dp  %d kb/s':fontsize=h/16:fontcolor=white:x=w-tw-h/24:y=h/24" "$font" "$1" "$2"
}

# video_options KBPS: closed GOPs of exactly gop_s, so that every rendition can be cut at the same times; B-frames, so
# that presentation order differs from decode order.
video_options() {
  printf '%s\n' -c:v libx264 -preset superfast -profile:v high -pix_fmt yuv420p -bf 2 \
    -g $((rate * gop_s)) -keyint_min $((rate * gop_s)) -sc_threshold 0 -flags +cgop+bitexact \
    -b:v "${1}k" -maxrate "${1}k" -bufsize "$((2 * $1))k" \
    -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv \
    -fflags +bitexact -movflags +faststart
}

make_video() {
  local picture options_540 options_360 options_240
  mapfile -t options_540 < <(video_options 1400)
  mapfile -t options_360 < <(video_options 700)
  mapfile -t options_240 < <(video_options 350)

  # The water is drawn small and scaled up: its colours cost more than the encoder otherwise.
  picture="gradients=s=120x68:r=$rate:d=$duration_s:n=3:c0=0x0b3954:c1=0x087e8b:c2=0x3c1642:seed=7:speed=0.012,"
  picture+="format=yuv420p,scale=960:540[water];"
  picture+="testsrc2=s=240x136:r=$rate:d=${duration_s}[raft];"
  picture+="color=white:s=960x16:r=$rate:d=${duration_s}[bar];"
  picture+="[water][raft]overlay=x='(W-w)/2*(1+sin(t*PI/4))':y=366[floating];"
  picture+="[floating][bar]overlay=y=H-h:enable='lt(mod(t,1),0.1)',"
  picture+="drawtext=fontfile=$font:text='headwater test film':fontsize=32:fontcolor=white:x=(w-tw)/2:y=86,"
  picture+="drawtext=fontfile=$font:timecode='00\\:00\\:00\\:00':r=$rate:fontsize=84:fontcolor=white:x=(w-tw)/2:y=156,"
  picture+="drawtext=fontfile=$font:text='frame %{frame_num}':fontsize=32:fontcolor=white:x=(w-tw)/2:y=268,"
  picture+="setsar=1,split=3[a][b][c];"
  picture+="[a]$(label 540 1400)[p540];"
  picture+="[b]scale=640:360,$(label 360 700)[p360];"
  picture+="[c]scale=426:240,setsar=1,$(label 240 350)[p240]"

  ffmpeg -nostdin -v error -filter_complex "$picture" \
    -map '[p540]' "${options_540[@]}" "$unfinished/video-540p.mp4" \
    -map '[p360]' "${options_360[@]}" "$unfinished/video-360p.mp4" \
    -map '[p240]' "${options_240[@]}" "$unfinished/video-240p.mp4"
}

# make_audio LANGUAGE ISO_639_2 SOUND: SOUND is an expression of the time t, for each of two channels.
make_audio() {
  ffmpeg -nostdin -v error -f lavfi -i "aevalsrc=$3:s=$sample_rate:d=$duration_s" \
    -c:a aac -b:a 96k -metadata:s:a:0 language="$2" -flags +bitexact -fflags +bitexact -movflags +faststart \
    "$unfinished/audio-$1.mp4"
}

# make_subtitles LANGUAGE WORDS…: one cue every two seconds; the words are a printf format for the second.
make_subtitles() {
  local second from till
  {
    printf 'WEBVTT\n'
    for ((second = 0; second + 2 <= duration_s; second += 2)); do
      printf -v from '%02d:%02d:%02d.000' $((second / 3600)) $((second / 60 % 60)) $((second % 60))
      printf -v till '%02d:%02d:%02d.900' $((second / 3600)) $(((second + 1) / 60 % 60)) $(((second + 1) % 60))
      # shellcheck disable=SC2059 # the words are the format
      printf "\n%d\n%s --> %s\n$2\n" $((second / 2 + 1)) "$from" "$till" "$second"
    done
  } >"$unfinished/subs-$1.vtt"
}

write_ladder() {
  cat >"$unfinished/ladder.toml" <<'TOML'
title = "headwater test film"

[[track]]
file = "video-540p.mp4"

[[track]]
file = "video-360p.mp4"

[[track]]
file = "video-240p.mp4"

[[track]]
file = "audio-en.mp4"
language = "en"
label = "English"
role = "main"
default = true

[[track]]
file = "audio-de.mp4"
language = "de"
label = "Deutsch"
role = "dub"

[[track]]
file = "subs-en.vtt"
language = "en"
label = "English"

[[track]]
file = "subs-de.vtt"
language = "de"
label = "Deutsch"
TOML
}

make_video
make_audio en eng "0.4*sin(880*2*PI*t)*lt(mod(t\,1)\,0.1)|0.4*sin(440*2*PI*t)*lt(mod(t\,1)\,0.1)"
make_audio de deu "0.4*sin(660*2*PI*t)*lt(mod(t\,0.5)\,0.1)|0.4*sin(330*2*PI*t)*lt(mod(t\,0.5)\,0.1)"
make_subtitles en '<i>English</i>: this is second %d'
make_subtitles de '<i>Deutsch</i>: dies ist Sekunde %d – schön grün'
write_ladder

chmod 755 "$unfinished"
mv -T "$unfinished" "$film"
trap - EXIT
