"""Reasons for which a video fails, and notes on those that do not, each with what a person can do or should know.

A text is as the source words it, with `...` for what differs from video to video. A test holds these tables to the
source, and the page on failures is written from them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from wtal.data.store import FeatureStore

KILLED = "its process was killed (out of memory?)"
ANOTHER_FILE = "the store holds another file under this id; rename {} or use another store"
UNREADABLE = "the file cannot be read any more: {}"


@dataclass(frozen=True, slots=True)
class Reason:
    """A text with `...` in it, what to do or what it means, and for notes the videos of that kind, in the plural."""

    text: str
    advice: str
    kind: str = ""


_CLEAR = "as it says"
_TAKES_OVER = "Under `auto` the reference takes over."

REASONS: Mapping[str, tuple[Reason, ...]] = {
    "The file is no video": (
        Reason(
            "the file does not exist",
            "It was there when the folder was listed: it was moved or deleted, or a link leads nowhere.",
        ),
        Reason("a folder, not a video file", "Name the folder itself; it is searched for videos."),
        Reason("not a regular file: copy it to one first", "A pipe or a device."),
        Reason("the file is empty (0 bytes)", "An interrupted copy or download; fetch it again."),
        Reason("the file cannot be opened: ...", "The system's own reason follows, for instance a missing permission."),
        Reason(
            "not a video that ffmpeg can open: ...",
            "Another kind of file, or one without its head. An MP4 whose download broke off often has no index and "
            "cannot be saved; fetch it again.",
        ),
        Reason("no video stream: the file holds ...", "Sound only, perhaps with a cover picture."),
        Reason(
            "no decoder for its video stream: damaged, or of a codec that this build of ffmpeg lacks",
            "Convert it, or fetch it again.",
        ),
        Reason(
            "a picture or a text, not a video (format ...)",
            "Also AVIF and HEIC. ffmpeg would show it as a video of one frame; remove it from the folder.",
        ),
    ),
    "The file cannot be decoded": (
        Reason(
            "no frame could be decoded: ...",
            "The container is readable, its content is not: damaged, or of a codec that this build of ffmpeg lacks. "
            "Convert it, or fetch it again.",
        ),
        Reason("no frame could be decoded", "The same; every packet was passed over."),
        Reason("no frame could be decoded by opencv", "Try `--reader pyav`."),
        Reason(
            "the colours of the frames cannot be converted: ...",
            "Of a kind that ffmpeg's scaler lacks, such as YCgCo; convert the file.",
        ),
        Reason(
            "... gave no frame for ... s",
            "The reader hung and was stopped (`the reader process`, where it hung before a reader was chosen). On a "
            "slow disk or network, give `--time-limit` more seconds; else the file is damaged.",
        ),
        Reason(
            "... was killed by ...",
            "By SIGKILL: the system ended the reader; fewer `--jobs` take less memory. By SIGSEGV or another: the "
            "library crashed on this file; try another `--reader`.",
        ),
        Reason(
            "... ended with exit code ...: ...",
            "The reader stopped with the message that follows. Try another `--reader`, and report it.",
        ),
        Reason(KILLED, "The system ended the whole worker twice; fewer `--jobs` take less memory."),
        Reason(UNREADABLE.format("..."), "It was moved, deleted or locked while it was extracted; call again."),
        Reason(
            "the times of its frames cannot be read: ...",
            "Of `wtal export`, `wtal report` and `wtal clips`: the file is damaged behind its first frame; ffmpeg's "
            "reason follows.",
        ),
        Reason(
            "no picture could be decoded: ...",
            "Of `wtal report`: the file opens, and nothing in it decodes; its timelines are shown all the same.",
        ),
        Reason("no picture could be decoded", "The same; every packet was passed over."),
        Reason(
            "no copy for browsers could be made: ...",
            "Of `wtal report`: the encoder refused the picture; the video is shown as a filmstrip.",
        ),
        Reason(
            "it cannot be copied, no keyframe before has a time: cut it with --reencode",
            "Of `wtal clips`: the file was cut without care, or its packets have no times of their own.",
        ),
        Reason(
            "no clip could be copied: ... pictures are missing where it was read",
            "Of `wtal clips`: the file is damaged there; try `--reencode`.",
        ),
        Reason("no clip could be copied: ...", "Of `wtal clips`: ffmpeg's reason follows; try `--reencode`."),
        Reason("no clip could be encoded: ...", "Of `wtal clips`: the encoder refused the picture or the sound."),
        Reason("no picture of the clip could be decoded", "Of `wtal clips`: the file is damaged there."),
        Reason("no reel could be encoded: ...", "Of `wtal clips`: the encoder refused the pictures or the sound."),
        Reason(
            "files like ... hold no chapters, ... do: the ffmetadata file has them",
            "Of `wtal export --to chapters --into-copies`: convert the video, or take the ffmetadata file.",
        ),
        Reason("it cannot be copied: ...", "The same: ffmpeg's reason follows."),
        Reason(
            "it cannot be copied: its picture is of a kind that cannot be written",
            "The same: no muxer takes this codec; encode the video anew.",
        ),
        Reason(
            "its container took ... of ... chapters; the ffmetadata file has them all",
            "The same: some players' formats bound their number.",
        ),
    ),
    "The file claims too much time": (
        Reason(
            "the picture at second ... would stay for ... s, and ... s is the most: its clock is in error; mend the "
            "timestamps, or cut the file there",
            "A timestamp or a duration is wrong, or two recordings of a day were put into one file. `ffmpeg -i IN -c "
            "copy -fflags +genpts OUT`, or cut the file at that second.",
        ),
        Reason(
            "pictures that stay for more than ... s take more than ... h together: cut the file into shorter ones",
            _CLEAR,
        ),
    ),
    "The reader that was asked for does not fit": (
        Reason(
            "... is not right on ...: use --reader pyav",
            "Interlaced video, `pixels of the format yuv420p10le` (more than 8 bits), `colours of BT.2020 or HDR`, "
            "`odd picture sides`, `B-frames in AVI`: the colours, the order or the times would be others.",
        ),
        Reason(
            "opencv is not right on interlaced video: use --reader pyav",
            "Found behind the first frame: the picture would be one that nothing was written to.",
        ),
        Reason("decord is not right on ...: use --reader pyav", "`mpegts`, where it hangs; `mpeg2video`, `vc1`."),
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
            "opencv passed over ... of ... frames: use --reader pyav",
            "Damaged; the reference uses what can be read, and tells of it.",
        ),
        Reason("... is not used on files without timestamps: use --reader pyav", _CLEAR),
        Reason("... does not follow a change of the picture size: use --reader pyav", _CLEAR),
        Reason("decord takes neither rotated files nor several video streams: use --reader pyav", _CLEAR),
        Reason("decord gives pictures of a wrong size for this file: use --reader pyav", _CLEAR),
        Reason("decord cannot decode this file: use --reader pyav", "Damaged, or of a codec that decord lacks."),
        Reason(
            "decord is not used on files whose timestamps leap: use --reader pyav",
            "The reference finds the [stray frames](#stray-frames).",
        ),
        Reason(
            "decord sees ... frames, the file has ...: use --reader pyav",
            "An edit list, damage, or a container that decord misreads.",
        ),
        Reason("decord's timestamps are not those of the file: use --reader pyav", _CLEAR),
        Reason(
            "torchcodec is not right on ...: use --reader pyav",
            "`mpegts` and `mpeg`, of which it passes over frames; `mpeg2video`, `vc1`.",
        ),
        Reason("torchcodec does not mirror pictures: use --reader pyav", _CLEAR),
        Reason("torchcodec gives pictures of a wrong size for this file: use --reader pyav", _CLEAR),
        Reason(
            "torchcodec cannot decode this file: use --reader pyav",
            "Damaged, or of a codec that the FFmpeg of the system lacks.",
        ),
        Reason(
            "torchcodec is not used on files whose timestamps leap: use --reader pyav",
            "The reference finds the [stray frames](#stray-frames).",
        ),
        Reason(
            "torchcodec sees ... frames, the file has ...: use --reader pyav",
            "Damage, or a container that torchcodec misreads.",
        ),
        Reason(
            "torchcodec's timestamps are not those of the file: use --reader pyav",
            "It begins at a key frame: frames before the first one were passed over.",
        ),
        Reason("torchcodec:cuda takes no rotated files: use --reader pyav", _CLEAR),
        Reason(
            "the CUDA device does not decode this file: use --reader torchcodec or --reader pyav",
            "A codec, a size or a pixel format that the device's decoder lacks.",
        ),
        Reason("the packets of the file cannot be read: ...", "Damaged; `--reader pyav` uses what can be read."),
        Reason(
            "reader ... cannot be used here: ...",
            "Not installed on this machine, or without the libraries that it needs; `wtal doctor` says what is. The "
            "command stops at once, with exit code 1.",
        ),
        Reason("auto: the reference, after ... failed: ...", f"No failure: noted under `why`. {_TAKES_OVER}"),
        Reason("auto: the reference, after ...", f"The same, where the reader hung or crashed. {_TAKES_OVER}"),
    ),
    "The features are wrong": (
        Reason(
            "... has features that are not finite; is the checkpoint sound?",
            "NaN or infinity came out of the backbone that is named. Check the weights; a half-precision overflow "
            "shows here too.",
        ),
        Reason(
            "... has ... snippets, the grid ...",
            "An error in the backbone: it gave fewer vectors than clips. Report it.",
        ),
        Reason("...: ...", "An error of a library behind the backbone, by its name. Report it."),
        Reason(
            ANOTHER_FILE.format("..."),
            "Two different files of one name. This one is named on stderr alone: the video of that id in the store is "
            "a good one.",
        ),
    ),
    "Imported features cannot be used": (
        Reason("it has no row of features", "The file is empty, or of a video that was too short."),
        Reason("... holds numbers that are not finite", "NaN or infinity; made by a broken extraction."),
        Reason("it has ..., those before ...", "Other streams, widths or types than the first video has."),
        Reason("its streams have ...", "They are of different lengths, by more than a row."),
        Reason(
            "its rows cover ... s, and it is annotated as ... s: one of the two is wrong, or of another video; mend "
            "the duration, or the rows",
            "By a factor of five or more, where most videos agree. Smaller differences are "
            "[told](formats.md#lengths-that-differ).",
        ),
        Reason("it has ... rows, the exporter's note says ...", "The file was changed after `wtal export-features`."),
        Reason("the exporter's note does not know it; export the features again", _CLEAR),
        Reason("the annotations do not say how long it is; name --fps and --stride", _CLEAR),
        Reason(
            "it is annotated as ... s, which ... rows cannot be spread over; mend that",
            "A row is taken to last from a thousandth of a second to an hour.",
        ),
        Reason("... has no ... file beside it; name --fps and --stride", "Of a clock of two files one is missing."),
        Reason("...: wanted a rate of up to ... frames per second; name --fps and --stride", _CLEAR),
        Reason("... has ... times of ... rows; name --fps and --stride", _CLEAR),
        Reason(
            "...: its times are not evenly apart; name --fps and --stride",
            "Of a file of variable rate, or damaged: its rows are at no one rate.",
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
        "reading broke off after ... frames: ...",
        "Reading ended in an error; the frames before it are used.",
        "videos that could not be read to their end",
    ),
    Reason(
        "... of ... packets could not be decoded: ...",
        "They were passed over; the frame before each stays on screen longer, as in ffmpeg.",
        "videos with packets that could not be decoded",
    ),
    Reason(
        "the picture begins ... s after the file, where players have second 0",
        "Sound or another stream begins first. Seconds are those of the file, as in players; `--zero picture` counts "
        "from the first frame.",
        "videos whose picture begins after the file",
    ),
    Reason(
        "an edit list joins parts or changes their speed: players may show them otherwise",
        "Slow motion of a phone, or a cut without encoding anew. ffmpeg's order is taken, at the speed that was "
        "recorded.",
        "videos whose edit list joins parts or changes their speed",
    ),
    Reason(
        "the picture size changes in mid-stream: ... frames were scaled to the first one's",
        _CLEAR,
        "videos whose picture size changes",
    ),
    Reason(
        "... timestamps run backwards: the frame replaced the one before it",
        "Timestamps were repaired by less than a second.",
        "videos whose timestamps run backwards",
    ),
    Reason(
        "... timestamps are those of the frame before: the frame replaced it",
        _CLEAR,
        "videos with equal timestamps",
    ),
    Reason(
        "... timestamps are far from their neighbours': the frames were put between those",
        "Frames have a time more than a second off, and the next ones return to the old clock; see [stray "
        "frames](#stray-frames).",
        "videos with stray timestamps",
    ),
    Reason(
        "the clock jumps ... times: the frames were put one after the other",
        "Timestamps leapt for good, by more than a second back or far beyond the end; the gap was closed, so seconds "
        "are those of what is shown.",
        "videos whose clock jumps",
    ),
    Reason(
        "pictures stay for more than 10 s ... times, the longest for ... s",
        "Stills, slides, or frames that were lost: nothing was changed.",
        "videos with pictures that stay for more than 10 s",
    ),
    Reason(
        "... frames carry no timestamp: they were put behind the frame before them",
        _CLEAR,
        "videos with frames without timestamp",
    ),
    Reason(
        "a stream had a row more than the other; it was cut",
        "Of imported features: rgb and flow differ by a row in many published sets.",
        "videos with a row more in one stream",
    ),
)
_TAKEN_OVER = "videos that the reference read after the faster reader had failed"


def kind_of(text: str, reasons: Iterable[Reason]) -> str:
    """The kind of a reason or a note; a text that is none of them is a kind of its own."""
    return next((reason.kind or reason.text for reason in reasons if _pattern(reason.text).fullmatch(text)), text)


def oddities(store: FeatureStore, videos: Iterable[str]) -> dict[str, list[str]]:
    """Kind of what was odd -> those of the videos that it is true of, as far as the store holds them."""
    kinds: dict[str, list[str]] = {}
    for video in videos:
        if video in store:
            info = store.info(video)
            found = [kind_of(note, NOTES) for note in info.get("notes", ())]
            taken_over = str(info.get("why", "")).startswith("auto: the reference, after")
            for kind in dict.fromkeys([*found, *([_TAKEN_OVER] if taken_over else [])]):
                kinds.setdefault(kind, []).append(video)
    return kinds


def failure_kinds(failures: Mapping[str, str], exact: bool = True) -> dict[str, list[str]]:
    """Kind of a reason -> the videos that failed for it; `failures` is video -> reason.

    Where `exact`, the reason itself stands for a kind that all have of which the reason is the same.
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
