"""HLS playlists and MPDs, as far as their segments go."""

import posixpath
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from fractions import Fraction

NAMESPACE = "{urn:mpeg:dash:schema:mpd:2011}"


@dataclass
class MediaPlaylist:
    target_duration: int
    durations: list  # EXTINF as written, exact decimals
    uris: list
    map_uri: str | None  # the last one
    ended: bool
    headers: list = field(default_factory=list)  # the one that is in force at each segment


def read_media_playlist(text):
    target, durations, uris, map_uri, ended, headers = None, [], [], None, False, []
    for line in text.splitlines():
        if line.startswith("#EXT-X-TARGETDURATION:"):
            target = int(line.split(":", 1)[1])
        elif line.startswith("#EXTINF:"):
            durations.append(Fraction(line[8:].split(",", 1)[0]))
        elif line.startswith("#EXT-X-MAP:"):
            map_uri = re.search(r'URI="([^"]*)"', line).group(1)
        elif line == "#EXT-X-ENDLIST":
            ended = True
        elif line and not line.startswith("#"):
            uris.append(line)
            headers.append(map_uri)
    return MediaPlaylist(target, durations, uris, map_uri, ended, headers)


def uris_of_multivariant(text):
    """Every playlist a multivariant playlist names."""
    named = [line for line in text.splitlines() if line and not line.startswith("#")]
    return named + re.findall(r'[:,]URI="([^"]*)"', text)


@dataclass
class DashRepresentation:
    id: str
    adaptation: int
    timescale: int = 0
    offset: int = 0
    initialization: str | None = None
    media: list = field(default_factory=list)
    segments: list = field(default_factory=list)  # (start, duration) in ticks, of a timeline
    nominal_duration: int | None = None
    base_url: str | None = None
    index_range: tuple | None = None
    initialization_range: tuple | None = None


def seconds(text):
    """An xs:duration as written here."""
    match = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?", text)
    hours, minutes, rest = (Fraction(group or 0) for group in match.groups())
    return hours * 3600 + minutes * 60 + rest


def read_mpd(text):
    """(presentation duration, representations)."""
    root = ElementTree.fromstring(text)
    duration = seconds(root.get("mediaPresentationDuration"))
    found = []
    for number, adaptation in enumerate(root.iter(NAMESPACE + "AdaptationSet")):
        for element in adaptation.iter(NAMESPACE + "Representation"):
            found.append(read_representation(element, adaptation, number, duration))
    return duration, found


def read_representation(element, adaptation, number, duration):
    representation = DashRepresentation(element.get("id"), number)
    base = element.find(NAMESPACE + "BaseURL")
    representation.base_url = base.text if base is not None else None
    template = element.find(NAMESPACE + "SegmentTemplate")
    if template is None:
        template = adaptation.find(NAMESPACE + "SegmentTemplate")
    if template is not None:
        read_template(representation, template, duration)
    index = element.find(NAMESPACE + "SegmentBase")
    if index is not None:
        representation.timescale = int(index.get("timescale", 1))
        representation.offset = int(index.get("presentationTimeOffset", 0))
        representation.index_range = span(index.get("indexRange"))
        representation.initialization_range = span(index.find(NAMESPACE + "Initialization").get("range"))
    return representation


def span(text):
    first, last = text.split("-")
    return int(first), int(last)


def read_template(representation, template, duration):
    representation.timescale = int(template.get("timescale", 1))
    representation.offset = int(template.get("presentationTimeOffset", 0))
    representation.initialization = template.get("initialization", "").replace("$RepresentationID$", representation.id)
    media = template.get("media").replace("$RepresentationID$", representation.id)
    start_number = int(template.get("startNumber", 1))
    timeline = template.find(NAMESPACE + "SegmentTimeline")
    if timeline is None:
        each = int(template.get("duration"))
        representation.nominal_duration = each
        count = -((-duration * representation.timescale) // each)
        last = template.get("endNumber")
        count = int(last) - start_number + 1 if last else int(count)
        representation.media = [media.replace("$Number$", str(start_number + at)) for at in range(count)]
        return
    at = 0
    for element in timeline:
        at = int(element.get("t", at))
        for _ in range(int(element.get("r", 0)) + 1):
            representation.segments.append((at, int(element.get("d"))))
            at += int(element.get("d"))
    for position, (start, _) in enumerate(representation.segments):
        name = media.replace("$Number$", str(start_number + position)).replace("$Time$", str(start))
        representation.media.append(name)


def links(path, text):
    """Paths of everything that the playlist or MPD at `path` names."""
    if path.endswith(".mpd"):
        uris = []
        for representation in read_mpd(text)[1]:
            uris += [representation.initialization, representation.base_url, *representation.media]
    elif "#EXT-X-STREAM-INF" in text or "#EXT-X-MEDIA:" in text:
        uris = uris_of_multivariant(text)
    else:
        playlist = read_media_playlist(text)
        uris = [*playlist.headers, playlist.map_uri, *playlist.uris]
    return [posixpath.normpath(posixpath.join(posixpath.dirname(path), uri)) for uri in uris if uri]
