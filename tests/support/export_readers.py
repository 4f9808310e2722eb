"""Readers of exported files by the rules of the formats: text -> (start, end, label) in seconds, of one video.

Each refuses the same files as its program. A label is followed by its score if the format has no field for scores.
"""

import csv
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlparse

CLOCK = r"(\d{2,}):(\d\d):(\d\d)[.,](\d{3})"


def seconds(text):
    hours, minutes, whole, thousandths = map(int, re.fullmatch(CLOCK, text).groups())
    return 3600 * hours + 60 * minutes + whole + thousandths / 1000


def without_score(text):
    return re.fullmatch(r"(.*) -?[\d.e+-]+", text).group(1)


def llc(text, video):
    project = json.loads(text)
    assert project["version"] == 2
    assert project["mediaFileName"] == video.file.name
    assert all(isinstance(value, str) for cut in project["cutSegments"] for value in cut["tags"].values())
    return [(cut["start"], cut["end"], cut["name"]) for cut in project["cutSegments"]]


def losslesscut_csv(text, video):
    header, *rows = csv.reader(io.StringIO(text))
    assert header[:3] == ["Start", "End", "Name"]
    return [(float(start), float(end), name.removeprefix("'")) for start, end, name, _ in rows]


def vtt(text, video):
    head, *cues = text.rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    return [cue_of(cue.split("\n"), ".", html.unescape) for cue in cues]


def srt(text, video):
    assert "\n" not in text.replace("\r\n", "")
    cues = [cue.split("\r\n") for cue in text.removesuffix("\r\n\r\n").split("\r\n\r\n") if cue]
    assert [cue[0] for cue in cues] == [str(number) for number in range(1, len(cues) + 1)]
    return [cue_of(cue[1:], ",", str) for cue in cues]


def cue_of(lines, mark, unescape):
    times, words = lines
    start, end = times.split(" --> ")
    assert times.count(mark) == 2
    assert "-->" not in words
    return seconds(start), seconds(end), without_score(unescape(words))


def chapters(text, video):
    head, *parts = text.split("[CHAPTER]\n")
    assert head == ";FFMETADATA1\n"
    cuts = []
    for part in parts:
        fields = dict(re.split(r"(?<!\\)=", line, maxsplit=1) for line in part.strip("\n").split("\n"))
        unit = Fraction(fields["TIMEBASE"])
        label = re.sub(r"\\(.)", r"\1", fields["title"])
        cuts.append((int(fields["START"]) * unit, int(fields["END"]) * unit, label))
    return cuts


def mpv_edl(text, video):
    header, rest = text.encode("utf-8", "surrogateescape").split(b"\n", 1)
    assert header == b"# mpv EDL v0"
    cuts = []
    while rest:
        name, rest = quoted(rest)
        assert name.decode("utf-8", "surrogateescape") == str(video.file)
        start, length, rest = rest.removeprefix(b",").split(b",", 2)
        title, rest = quoted(rest.removeprefix(b"title="))
        rest = rest.removeprefix(b"\n")
        begin = float(start) - float(video.file_start)
        cuts.append((begin, begin + float(length), without_score(title.decode())))
    return cuts


def quoted(data):
    size, data = data.removeprefix(b"%").split(b"%", 1)
    return data[: int(size)], data[int(size) :]


def m3u8(text, video):
    header, *lines = text.rstrip("\n").split("\n")
    assert header == "#EXTM3U"
    cuts = []
    for start, stop, info, path in zip(*(lines[number::4] for number in range(4)), strict=True):
        assert path == str(video.file)
        label = without_score(info.removeprefix("#EXTINF:-1,").removesuffix(f" - {video.name}"))
        begin, end = (line.removeprefix("#EXTVLCOPT:").split("=")[1] for line in (start, stop))
        cuts.append((float(begin), float(end), label))
    return cuts


def frames_of(timecode, nominal):
    hours, minutes, whole, frame = map(int, re.fullmatch(r"(\d\d):(\d\d):(\d\d):(\d\d+)", timecode).groups())
    assert frame < nominal
    return ((hours * 60 + minutes) * 60 + whole) * nominal + frame


def resolve_markers(text, video):
    assert text.startswith("TITLE: ")
    assert text.split("\n")[1] == "FCM: NON-DROP FRAME"
    nominal = round(video.rate)
    markers = re.findall(
        r"^\d{3,}  001      V     C        (\S+) .*\n \|C:ResolveColor\w+ \|M:(.*) \|D:(\d+)$", text, re.M
    )
    starts = [frames_of(code, nominal) - 3600 * nominal for code, _, _ in markers]
    assert len(set(starts)) == len(starts)
    return [
        (start / video.rate, (start + int(length)) / video.rate, without_score(label))
        for start, (_, label, length) in zip(starts, markers, strict=True)
    ]


def cmx3600(text, video):
    assert text.startswith("TITLE: ")
    nominal = round(video.rate)
    events = re.findall(r"^\d{3}  AX       V     C        (\S+) (\S+) (\S+) (\S+)\n.*\n\* COMMENT: (.*)$", text, re.M)
    record, cuts = 3600 * nominal, []
    for *codes, label in events:
        first, after, begin, end = (frames_of(code, nominal) for code in codes)
        assert (begin, end) == (record, record + after - first)
        record = end
        cuts.append((first / video.rate, after / video.rate, without_score(label)))
    return cuts


def path_of(uri):
    return Path(unquote(urlparse(uri).path))


def fcpxml(text, video):
    root = ET.fromstring(text)
    assert root.get("version") == "1.9"
    assert path_of(root.find("resources/asset/media-rep").get("src")) == video.file
    assert fraction(root.find("resources/format").get("frameDuration")) == 1 / video.rate
    clips, record, cuts = root.findall("library/event/project/sequence/spine/asset-clip"), 0, []
    for clip in clips:
        offset, start, length = (fraction(clip.get(name)) for name in ("offset", "start", "duration"))
        assert offset == record
        assert (start * video.rate).denominator == (length * video.rate).denominator == 1
        record += length
        cuts.append((start, start + length, without_score(clip.get("name"))))
    return cuts


def fraction(text):
    return Fraction(re.fullmatch(r"\d+/\d+s", text).group().removesuffix("s"))


def fcp7xml(text, video):
    root = ET.fromstring(text)
    cuts, files = [], root.findall(".//clipitem/file")
    assert not files or int(files[0].find("duration").text) > 0
    for item in root.iter("clipitem"):
        rate = Fraction(int(item.find("rate/timebase").text))
        rate = rate * 1000 / 1001 if item.find("rate/ntsc").text == "TRUE" else rate
        start, end = (int(item.find(name).text) / rate for name in ("in", "out"))
        assert int(item.find("end").text) - int(item.find("start").text) == (end - start) * rate
        cuts.append((start, end, without_score(item.find("name").text)))
    return cuts


def otio(text, video):
    timeline = json.loads(text)
    (track,) = timeline["tracks"]["children"]
    assert {child["OTIO_SCHEMA"] for child in track["children"]} <= {"Clip.2"}
    cuts = []
    for clip in track["children"]:
        start, length = (clip["source_range"][name] for name in ("start_time", "duration"))
        media = clip["media_references"][clip["active_media_reference_key"]]
        assert path_of(media["target_url"]) == video.file
        available = media["available_range"]["duration"]
        assert start["value"] + length["value"] <= available["value"] + 1
        begin = start["value"] / start["rate"]
        cuts.append((begin, begin + length["value"] / length["rate"], without_score(clip["name"])))
    return cuts


def fiftyone(text, video):
    content = json.loads(text)
    ((_, entries),) = content["labels"].items()
    spans = [entry.get("timestamps") or frame_times(entry["support"], video.rate) for entry in entries]
    return [(*span, content["classes"][entry["label"]]) for span, entry in zip(spans, entries, strict=True)]


def frame_times(span, rate):
    """Convert (first, last), counted from 1 and both included, to seconds."""
    assert 1 <= span[0] <= span[1]
    return (span[0] - 1) / rate, span[1] / rate


def label_studio(text, video):
    (task,) = json.loads(text)
    cuts = []
    for region in task["predictions"][0]["result"]:
        ((span,), (label,)) = region["value"]["ranges"], region["value"]["timelinelabels"]
        cuts.append((*frame_times((span["start"], span["end"]), task["data"]["fps"]), label))
    return cuts


def elan(text, video):
    root = ET.fromstring(text)
    assert path_of(root.find("HEADER/MEDIA_DESCRIPTOR").get("MEDIA_URL")) == video.file
    times = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    assert list(times.values()) == sorted(times.values())
    cuts = []
    for tier in root.iter("TIER"):
        entries = tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION")
        spans = [(times[entry.get("TIME_SLOT_REF1")], times[entry.get("TIME_SLOT_REF2")]) for entry in entries]
        disjoint(spans)
        cuts += [(start / 1000, end / 1000, tier.get("TIER_ID")) for start, end in spans]
    return cuts


def disjoint(spans):
    spans = sorted(spans)
    assert all(start < end for start, end in spans)
    assert all(former[1] <= latter[0] for former, latter in pairwise(spans))


def boris(text, video):
    project = json.loads(text)
    ((_, observation),) = project["observations"].items()
    assert observation["file"]["1"] == [str(video.file)]
    codes = [behaviour["code"] for behaviour in project["behaviors_conf"].values()]
    assert len(set(codes)) == len(codes)
    events = observation["events"]
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    cuts = []
    for code in codes:
        times = [event[0] for event in events if event[2] == code]
        spans = list(zip(times[::2], times[1::2], strict=True))
        disjoint(spans)
        cuts += [(start, end, code) for start, end in spans]
    return cuts


def runs_of(rows, rate):
    """Convert a set of labels per frame to (start, end, label) in seconds."""
    cuts, begun = [], {}
    for number, labels in enumerate([*rows, set()]):
        for label in set(begun) - labels:
            cuts.append((begun.pop(label) / rate, number / rate, label))
        begun.update(dict.fromkeys(labels - set(begun), number))
    return cuts


def feral(text, video):
    content = json.loads(text)
    ((name, frames),) = content["labels"].items()
    assert [name] == content["splits"]["inference"]
    assert len(frames) == video.frames
    names = content["class_names"]
    assert names["0"] == "other"
    assert len(set(names.values())) == len(names)
    return runs_of([{names[str(frame)]} - {"other"} for frame in frames], video.rate)


def deepethogram(text, video):
    header, *rows = csv.reader(io.StringIO(text))
    assert header[:2] == ["", "background"]
    assert len(set(header)) == len(header)
    assert [int(row[0]) for row in rows] == list(range(video.frames))
    labels = [label.removeprefix("'") for label in header[2:]]
    assert all(set(row[1:]) == {"-1"} or "1" in row[2:] for row in rows)
    return runs_of(
        [{label for label, cell in zip(labels, row[2:], strict=True) if cell == "1"} for row in rows], video.rate
    )


def csv_table(text, video):
    rows = csv.DictReader(io.StringIO(text))
    return [(float(row["start (s)"]), float(row["end (s)"]), row["label"].removeprefix("'")) for row in rows]


def activitynet(text, video):
    ((_, entries),) = json.loads(text)["results"].items()
    return [(*entry["segment"], entry["label"]) for entry in entries]


READERS = {
    "llc": llc,
    "losslesscut-csv": losslesscut_csv,
    "vtt": vtt,
    "srt": srt,
    "chapters": chapters,
    "mpv-edl": mpv_edl,
    "m3u8": m3u8,
    "resolve-markers": resolve_markers,
    "cmx3600": cmx3600,
    "fcpxml": fcpxml,
    "fcp7xml": fcp7xml,
    "otio": otio,
    "fiftyone": fiftyone,
    "label-studio": label_studio,
    "elan": elan,
    "boris": boris,
    "feral": feral,
    "deepethogram": deepethogram,
    "csv": csv_table,
    "activitynet": activitynet,
}
"""Readers by the name of the format, without YouTube and Kodi, which only keep starts and have separate tests."""
