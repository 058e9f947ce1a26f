"""Thumbnails made at import, held against ffmpeg's pictures of the same times."""
import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Two scalers and a JPEG lie between: the same picture is above, one a second away below (the timecode is burnt in).
PSNR_MIN_DB = 25


def pixels(*arguments):
    """A picture as RGB, whatever comes out of ffmpeg."""
    command = ['ffmpeg', '-nostdin', '-v', 'error', *map(str, arguments), '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-']
    return subprocess.run(command, check=True, capture_output=True).stdout


def psnr_db(left, right):
    """Peak signal-to-noise ratio of two pictures of the same size."""
    if len(left) != len(right) or not left:
        return 0.0
    error = sum((a - b) ** 2 for a, b in zip(left, right)) / len(left)
    return 99.0 if error == 0 else 10 * math.log10(255 ** 2 / error)


def check_sheets(folder, video, duration_s):
    """Every claim of thumbnails.json, and the pictures; yields what is wrong."""
    told = json.loads((folder / 'thumbnails.json').read_text())
    width, height, columns, rows = (told[key] for key in ('tile_width', 'tile_height', 'columns', 'rows'))
    interval_s, count = told['interval_ms'] / 1000, told['count']
    if count != math.ceil(round(duration_s, 6) / interval_s):
        yield f'{count} tiles of {interval_s} s in {duration_s} s'
    if len(told['sheets']) != math.ceil(count / (columns * rows)):
        yield f'{len(told["sheets"])} sheets for {count} tiles'
    named = [(f'{number}.jpg', sheet) for number, sheet in enumerate(told['sheets'], 1)]
    for name, file in [*named, ('poster.jpg', told['poster']['file'])]:
        data = (folder / name).read_bytes()
        if len(data) != file['size_bytes'] or hashlib.sha256(data).hexdigest() != file['sha256']:
            yield f'{name} is not what is said of it'
    worst, wrong_time = 99.0, -99.0
    for tile in sorted({0, 1, count // 3, count // 2 + 1, count - 2, count - 1} & set(range(count))):
        sheet, place = divmod(tile, columns * rows)
        x, y = place % columns * width, place // columns * height
        found = pixels('-i', folder / f'{sheet + 1}.jpg', '-vf', f'crop={width}:{height}:{x}:{y}')
        at = lambda time_s: pixels('-ss', f'{time_s:.3f}', '-i', video, '-frames:v', 1, '-vf',
                                   f'scale={width}:{height}:flags=area')
        likeness = psnr_db(found, at(tile * interval_s))
        worst = min(worst, likeness)
        if likeness < PSNR_MIN_DB:
            yield f'tile {tile} is not the picture at {tile * interval_s} s: {likeness:.1f} dB'
        other = tile + 1 if tile + 1 < count else tile - 1
        if other >= 0:
            wrong_time = max(wrong_time, psnr_db(found, at(other * interval_s)) - likeness)
    if wrong_time >= 0:
        yield f'a tile is like another time as much as like its own ({wrong_time:+.1f} dB)'
    print(f'thumbnails: {count} tiles on {len(told["sheets"])} sheets, the least like ffmpeg\'s by {worst:.1f} dB')


def run(headwater, *arguments):
    """What headwater says on standard error; raises when it fails."""
    done = subprocess.run([headwater, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f'headwater {arguments[0]} failed: {done.stderr}')
    return done.stderr


def damaged(source, target):
    """The film with every picture's data overwritten, its tables whole."""
    shutil.copy(source, target)
    data = bytearray(target.read_bytes())
    begin = data.index(b'mdat') + 4
    size = int.from_bytes(data[begin - 8:begin - 4], 'big')
    for at in range(begin + 16, begin - 8 + size):
        data[at] = (at * 2654435761 >> 7) & 255
    target.write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--headwater', required=True)
    parser.add_argument('--film', required=True, type=Path)
    arguments = parser.parse_args()
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        said = run(arguments.headwater, 'import', arguments.film / 'video-540p.mp4', '-o', folder / 'film')
        if 'no thumbnails' in said:
            faults.append(said)
        else:
            stored = folder / 'film' / 'video-540p'
            duration = subprocess.run(['ffprobe', '-v', 'error', '-show_entries', 'stream=duration', '-of', 'csv=p=0',
                                       stored / 'v1.mp4'], check=True, capture_output=True, text=True).stdout
            faults += check_sheets(stored / 'thumbnails', stored / 'v1.mp4', float(duration))
        run(arguments.headwater, 'import', '--no-thumbnails', arguments.film / 'video-240p.mp4', '-o', folder / 'none')
        if (folder / 'none' / 'video-240p' / 'thumbnails').exists():
            faults.append('thumbnails in spite of --no-thumbnails')
        broken = folder / 'broken.mp4'
        damaged(arguments.film / 'video-240p.mp4', broken)
        said = run(arguments.headwater, 'import', broken, '-o', folder / 'broken')
        stored = folder / 'broken' / 'broken'
        if not (stored / 'presentation.json').exists():
            faults.append('a film that can not be decoded was not imported')
        if not (stored / 'thumbnails').exists() and 'no thumbnails' not in said:
            faults.append('thumbnails are missing and nothing was said')
        left = [name for name in os.listdir(folder / 'broken') if name.startswith('.')]
        if left:
            faults.append(f'left behind: {left}')
    for fault in faults:
        print(f'thumbnails: {fault}', file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == '__main__':
    main()
