"""Reasons for the failure of a video, and notes on the others, each with advice or an explanation.

A text is worded as in the source, with `...` for the parts that vary between videos. A test checks these tables
against the source, and the page on failures is generated from them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from wtal.data.store import FeatureStore

KILLED = "its process was killed (out of memory?)"
ANOTHER_FILE = "the store holds another file under this id; rename {} or use another store"
UNREADABLE = "the file cannot be read any more: {}"
DAMAGED = "its stored features were damaged, and were dropped; repeat the command that wrote them"


@dataclass(frozen=True, slots=True)
class Reason:
    """A text containing `...`, its remedy or meaning, and for notes a plural name for the videos concerned."""

    text: str
    advice: str
    kind: str = ""


_CLEAR = "self-explanatory"

REASONS: Mapping[str, tuple[Reason, ...]] = {
    "The file is not a video": (
        Reason(
            "the file does not exist",
            "It existed when the folder was listed: it was moved or deleted since, or it is a broken link.",
        ),
        Reason("a folder, not a video file", "Name the folder itself; it is searched for videos."),
        Reason("not a regular file: copy it to one first", "A pipe or a device."),
        Reason("the file is empty (0 bytes)", "An interrupted copy or download; fetch it again."),
        Reason("the file cannot be opened: ...", "The system's own reason follows, for instance a missing permission."),
        Reason(
            "not a video that ffmpeg can open: ...",
            "Another kind of file, or one without its header. An MP4 from an interrupted download often lacks its "
            "index and cannot be repaired; fetch it again.",
        ),
        Reason("no video stream: the file holds ...", "Sound only, perhaps with a cover picture."),
        Reason(
            "no decoder for its video stream: it is damaged, or this build of ffmpeg lacks its codec",
            "Convert it, or fetch it again.",
        ),
        Reason(
            "a picture or text, not a video (format ...)",
            "Also AVIF and HEIC. ffmpeg would show it as a video of one frame; remove it from the folder.",
        ),
    ),
    "The file cannot be decoded": (
        Reason(
            "no frame could be decoded: ...",
            "The container is readable, but its content is not: it is damaged, or this build of ffmpeg lacks its "
            "codec. Convert it, or fetch it again.",
        ),
        Reason("no frame could be decoded", "The same; every packet was skipped."),
        Reason("no frame could be decoded by opencv", "Try `--reader pyav`."),
        Reason(
            "the colours of the frames cannot be converted: ...",
            "Colours that ffmpeg's scaler does not support, such as YCgCo; convert the file.",
        ),
        Reason(
            "... gave no frame for ... s",
            "The reader hung and was stopped (`the reader process`, where it hung before a reader was chosen). On a "
            "slow disk or network, give `--time-limit` more seconds; otherwise the file is damaged.",
        ),
        Reason(
            "... was killed by ...",
            "SIGKILL: the system ended the reader; fewer `--jobs` take less memory. SIGSEGV or another signal: the "
            "library crashed on this file; try another `--reader`.",
        ),
        Reason(
            "... ended with exit code ...: ...",
            "The reader stopped with the message that follows. Try another `--reader`, and report it.",
        ),
        Reason(KILLED, "The system ended the whole worker twice; fewer `--jobs` take less memory."),
        Reason(UNREADABLE.format("..."), "It was moved, deleted or locked during extraction; run the command again."),
        Reason(
            "the times of its frames cannot be read: ...",
            "From `wtal export`, `wtal report` and `wtal clips`: the file is damaged after its first frame; ffmpeg's "
            "reason follows.",
        ),
        Reason(
            "no picture could be decoded: ...",
            "From `wtal report`: the file opens, but nothing in it decodes; its timelines are shown anyway.",
        ),
        Reason("no picture could be decoded", "The same; every packet was skipped."),
        Reason(
            "no copy for browsers could be made: ...",
            "From `wtal report`: the encoder refused the picture; the video is shown as a filmstrip.",
        ),
        Reason(
            "it cannot be copied, no preceding keyframe has a time: cut it with --reencode",
            "From `wtal clips`: the file was cut between keyframes, or its packets have no times of their own.",
        ),
        Reason(
            "it cannot be copied, its timestamps jump or run backwards: cut it with --reencode",
            "From `wtal clips`: only pictures that are encoded again get repaired times.",
        ),
        Reason(
            "no clip could be copied: ... pictures are missing where it was read",
            "From `wtal clips`: the file is damaged there; try `--reencode`.",
        ),
        Reason("no clip could be copied: ...", "From `wtal clips`: ffmpeg's reason follows; try `--reencode`."),
        Reason("no clip could be encoded: ...", "From `wtal clips`: the encoder refused the picture or the sound."),
        Reason("no picture of the clip could be decoded", "From `wtal clips`: the file is damaged there."),
        Reason("no reel could be encoded: ...", "From `wtal clips`: the encoder refused the pictures or the sound."),
        Reason(
            "files like ... cannot hold chapters, ... can: use the ffmetadata file",
            "From `wtal export --to chapters --into-copies`: convert the video, or use the ffmetadata file.",
        ),
        Reason("it cannot be copied: ...", "The same: ffmpeg's reason follows."),
        Reason(
            "it cannot be copied: its picture codec cannot be written",
            "The same: no muxer supports this codec; re-encode the video.",
        ),
        Reason(
            "its container accepted ... of ... chapters; the ffmetadata file has them all",
            "The same: some players' formats limit their number.",
        ),
    ),
    "The file claims too much time": (
        Reason(
            "the picture at second ... would stay for ... s, but ... s is the maximum: its clock is wrong; repair "
            "the timestamps, or cut the file there",
            "A timestamp or a duration is wrong, or recordings of different days were joined into one file. `ffmpeg "
            "-i IN -c copy -fflags +genpts OUT`, or cut the file at that second.",
        ),
        Reason(
            "pictures that stay for more than ... s take more than ... h in total: cut the file into shorter ones",
            _CLEAR,
        ),
    ),
    "The requested reader is unsuitable": (
        Reason(
            "... is not reliable on ...: use --reader pyav",
            "Interlaced video, `pixels of the format yuv420p10le` (more than 8 bits), `colours of BT.2020 or HDR`, "
            "`odd picture sides`, `B-frames in AVI`: the colours, the order or the times would be wrong.",
        ),
        Reason(
            "opencv is not reliable on interlaced video: use --reader pyav",
            "Detected after the first frame: the picture would be uninitialized memory.",
        ),
        Reason("decord is not reliable on ...: use --reader pyav", "`mpegts`, where it hangs; `mpeg2video`, `vc1`."),
        Reason(
            "opencv cannot choose among ... video streams: use --reader pyav",
            "OpenCV always takes the first one, which may be the wrong one.",
        ),
        Reason("opencv is not used on files whose timestamps repeat: use --reader pyav", _CLEAR),
        Reason(
            "opencv's timestamps are not those of the file: use --reader pyav",
            "A container whose frames have no times of their own, such as MPEG-PS.",
        ),
        Reason(
            "opencv skipped ... of ... frames: use --reader pyav",
            "Damaged; the reference uses what can be read, and notes it.",
        ),
        Reason("... is not used on files without timestamps: use --reader pyav", _CLEAR),
        Reason("... does not follow a change of the picture size: use --reader pyav", _CLEAR),
        Reason(
            "... does not repeat the last picture for empty packets: use --reader pyav",
            "Theora, among others, ends a file that way if its last pictures are equal; the reference shows them.",
        ),
        Reason("decord supports neither rotated files nor several video streams: use --reader pyav", _CLEAR),
        Reason("decord returns pictures of a wrong size for this file: use --reader pyav", _CLEAR),
        Reason(
            "decord cannot decode this file: use --reader pyav", "It is damaged, or decord does not support its codec."
        ),
        Reason(
            "... is not used on files whose timestamps jump: use --reader pyav",
            "The reference finds the [stray frames](#stray-frames).",
        ),
        Reason(
            "decord sees ... frames, but the file has ...: use --reader pyav",
            "An edit list, damage, or a container that decord misreads.",
        ),
        Reason("decord's timestamps are not those of the file: use --reader pyav", _CLEAR),
        Reason(
            "torchcodec is not reliable on ...: use --reader pyav",
            "`mpegts` and `mpeg`, where it skips frames; `mpeg2video`, `vc1`.",
        ),
        Reason("torchcodec does not mirror pictures: use --reader pyav", _CLEAR),
        Reason("torchcodec returns pictures of a wrong size for this file: use --reader pyav", _CLEAR),
        Reason(
            "torchcodec cannot decode this file: use --reader pyav",
            "It is damaged, or the system's FFmpeg lacks its codec.",
        ),
        Reason(
            "torchcodec sees ... frames, but the file has ...: use --reader pyav",
            "Damage, or a container that torchcodec misreads.",
        ),
        Reason(
            "torchcodec's timestamps are not those of the file: use --reader pyav",
            "It begins at a key frame, and skips the frames before the first one.",
        ),
        Reason("torchcodec:cuda does not support rotated files: use --reader pyav", _CLEAR),
        Reason(
            "the CUDA device does not decode this file: use --reader torchcodec or --reader pyav",
            "A codec, a size or a pixel format that the device's decoder lacks.",
        ),
        Reason("the packets of the file cannot be read: ...", "Damaged; `--reader pyav` uses what can be read."),
        Reason(
            "reader ... cannot be used here: ...",
            "Not installed on this machine, or without the libraries that it needs; `wtal doctor` lists what is. The "
            "command stops at once, with exit code 1.",
        ),
    ),
    "The features are wrong": (
        Reason(
            "... has features that are not finite; is the checkpoint sound?",
            "The named backbone produced NaN or infinity. Check the weights; half-precision overflow is another cause.",
        ),
        Reason(
            "... has ... snippets, but the grid has ...",
            "An error in the backbone: it returned fewer vectors than clips. Report it.",
        ),
        Reason("...: ...", "An error of a library used by the backbone, given by its class name. Report it."),
        Reason(
            ANOTHER_FILE.format("..."),
            "Two different files have the same name. This one is reported on stderr only: the stored video with that "
            "id is sound.",
        ),
        Reason(
            DAMAGED,
            "By `wtal verify --drop`: a disk or a copy changed them. Once they are written again, the reason is "
            "removed.",
        ),
    ),
    "Imported features cannot be used": (
        Reason("it has no rows of features", "The file is empty, or its video was too short."),
        Reason("... holds numbers that are not finite", "NaN or infinity; from a broken extraction."),
        Reason("it has ..., earlier videos ...", "Its streams, widths or types differ from the first video's."),
        Reason("its streams have ...", "Their lengths differ by more than a row."),
        Reason(
            "its rows cover ... s, its annotated duration is ... s: one is wrong, or belongs to another video; correct "
            "the duration or the rows",
            "By a factor of five or more, while most videos agree. Smaller differences are "
            "[reported](formats.md#lengths-that-differ).",
        ),
        Reason("it has ... rows, the exporter's note says ...", "The file was changed after `wtal export-features`."),
        Reason("it is not in the exporter's note; export the features again", _CLEAR),
        Reason("its duration is not in the annotations; give --fps and --stride", _CLEAR),
        Reason(
            "it is annotated as ... s, over which ... rows cannot be spread; correct the duration",
            "A row may last from a thousandth of a second to an hour.",
        ),
        Reason(
            "... has no ... file next to it; give --fps and --stride",
            "The clock consists of two files, and one is missing.",
        ),
        Reason("...: wanted a rate of up to ... frames per second; give --fps and --stride", _CLEAR),
        Reason("... has ... times for ... rows; give --fps and --stride", _CLEAR),
        Reason(
            "...: its times are not evenly spaced; give --fps and --stride",
            "The file has a variable frame rate, or is damaged: no single rate fits its rows.",
        ),
        Reason("...: wanted finite numbers, got an array ... of ...", _CLEAR),
    ),
}

NOTES: tuple[Reason, ...] = (
    Reason(
        "ends ... s before its declared end",
        "The file stops early, and is used as far as it goes; `shortfall` holds the seconds.",
        "videos that end before their declared end",
    ),
    Reason(
        "reading was interrupted after ... frames: ...",
        "Reading ended in an error; the frames before it are used.",
        "videos that could not be read to their end",
    ),
    Reason(
        "... of ... packets could not be decoded: ...",
        "They were skipped; the frame before each stays on screen longer, as in ffmpeg.",
        "videos with packets that could not be decoded",
    ),
    Reason(
        "the picture begins ... s after the start of the file, second 0 of players",
        "Sound or another stream begins first. Seconds are those of the file, as in players; `--zero picture` counts "
        "from the first frame.",
        "videos whose picture begins after the start of the file",
    ),
    Reason(
        "an edit list joins parts or changes their speed: players may show them differently",
        "Slow motion from a phone, or a cut without re-encoding. ffmpeg's order is used, at the recorded speed.",
        "videos whose edit list joins parts or changes their speed",
    ),
    Reason(
        "the picture size changes mid-stream: ... frames were scaled to the first size",
        _CLEAR,
        "videos whose picture size changes",
    ),
    Reason(
        "... timestamps run backwards: the frame replaced the previous one",
        "Timestamps were repaired by less than a second.",
        "videos whose timestamps run backwards",
    ),
    Reason(
        "... timestamps repeat the one before: the frame replaced the previous one",
        _CLEAR,
        "videos with equal timestamps",
    ),
    Reason(
        "... timestamps are far from their neighbours: the frames were moved between them",
        "Some frames are more than a second off, and the next ones return to the old clock; see [stray "
        "frames](#stray-frames).",
        "videos with stray timestamps",
    ),
    Reason(
        "the clock jumps ... times: the frames were joined without gaps",
        "Timestamps jumped permanently, back by more than a second or far beyond the end; the gap was closed, so "
        "seconds are those of the picture shown.",
        "videos whose clock jumps",
    ),
    Reason(
        "pictures stay for more than 10 s ... times, the longest for ... s",
        "Stills, slides or lost frames; nothing was changed.",
        "videos with pictures that stay for more than 10 s",
    ),
    Reason(
        "... frames carry no timestamp: they were placed after the previous frame",
        _CLEAR,
        "videos with frames without timestamp",
    ),
    Reason(
        "one stream had a row more than the other; it was cut",
        "In imported features: rgb and flow differ by a row in many published sets.",
        "videos with a row more in one stream",
    ),
    Reason(
        "its numbers differ from those that were exported",
        "In imported features: a program, a disk or a copy changed them after `wtal export-features`. The numbers of "
        "the files are used; if nobody meant to change them, export them again.",
        "videos whose numbers differ from those that were exported",
    ),
)


def kind_of(text: str, reasons: Iterable[Reason]) -> str:
    """Return the kind of a reason or a note; an unlisted text is its own kind."""
    return next((reason.kind or reason.text for reason in reasons if _pattern(reason.text).fullmatch(text)), text)


def oddities(store: FeatureStore, videos: Iterable[str]) -> dict[str, list[str]]:
    """Return kind of oddity -> the videos that have it, among those in the store."""
    kinds: dict[str, list[str]] = {}
    for video in videos:
        if video in store:
            info = store.info(video)
            for kind in dict.fromkeys(kind_of(note, NOTES) for note in info.get("notes", ())):
                kinds.setdefault(kind, []).append(video)
    return kinds


def failure_kinds(failures: Mapping[str, str], exact: bool = True) -> dict[str, list[str]]:
    """Return kind of reason -> the videos that failed for it; `failures` is video -> reason.

    With `exact`, the full reason replaces the kind if all videos of the kind share it.
    """
    every = [reason for reasons in REASONS.values() for reason in reasons if reason.text.strip(".: ")]
    kinds: dict[str, list[str]] = {}
    for video, reason in failures.items():
        kinds.setdefault(kind_of(reason, every), []).append(video)
    if not exact:
        return kinds
    alike = {kind: {failures[video] for video in videos} for kind, videos in kinds.items()}
    return {next(iter(alike[kind])) if len(alike[kind]) == 1 else kind: videos for kind, videos in kinds.items()}


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("..."))), re.DOTALL)
