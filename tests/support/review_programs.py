"""Programs to correct exports: each saves a video's segments in the program's own format.

A change receives the segments of a video, [start, end, label] in seconds, and returns the corrected ones.
"""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path


def llc(path, change, rate):
    """LosslessCut: the project of one video, saved as JSON5 with bare keys, single quotes and commas at the end."""
    project = json.loads(path.read_text())
    cuts = change([[cut["start"], cut["end"], cut["name"]] for cut in project["cutSegments"]])
    lines = [
        f"    {{\n      start: {start!r},\n      end: {end!r},\n      name: {single(label)},\n    }},"
        for start, end, label in cuts
    ]
    head = f"{{\n  version: 2,\n  mediaFileName: {single(project['mediaFileName'])},\n  cutSegments: [\n"
    path.write_text(head + "\n".join([*lines, "  ],\n}\n"]))


def single(text):
    return "'" + json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def losslesscut_csv(path, change, rate):
    """LosslessCut: its table of segments, without a header."""
    _, *rows = csv.reader(io.StringIO(path.read_text()))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows(change([[float(start), float(end), name] for start, end, name, _ in rows]))
    path.write_bytes(text.getvalue().encode())


def label_studio(path, change, rate):
    """Label Studio: submit the first task, leave the others alone."""
    tasks = json.loads(path.read_text())
    for task in tasks:
        task |= {"id": 7, "annotations": []}
    regions = tasks[0]["predictions"][0]["result"]
    cuts = change([[*seconds(region["value"]["ranges"][0], rate), *region["value"][KIND]] for region in regions])
    tasks[0]["annotations"] = [
        {"was_cancelled": True, "result": []},
        {"was_cancelled": False, "result": [region_of(k, cut, rate) for k, cut in enumerate(cuts)]},
    ]
    path.write_text(json.dumps(tasks))


KIND = "timelinelabels"


def seconds(span, rate):
    return (span["start"] - 1) / float(rate), span["end"] / float(rate)


def region_of(number, cut, rate):
    start, end, label = cut
    span = {"start": round(start * float(rate)) + 1, "end": round(end * float(rate))}
    return {"id": f"r{number}", "type": KIND, "from_name": "label", "value": {"ranges": [span], KIND: [label]}}


def fiftyone(path, change, rate):
    """FiftyOne: frames from 1, both ends included."""
    content = json.loads(path.read_text())
    key = next(iter(content["labels"]))
    own = [
        [(d["support"][0] - 1) / float(rate), d["support"][1] / float(rate), content["classes"][d["label"]]]
        for d in content["labels"][key]
    ]
    cuts = change(own)
    content["classes"] = sorted({*content["classes"], *(label for *_, label in cuts)})
    content["labels"][key] = [
        {
            "label": content["classes"].index(label),
            "support": [round(start * float(rate)) + 1, round(end * float(rate))],
        }
        for start, end, label in cuts
    ]
    path.write_text(json.dumps(content))


def states_of(observation):
    open_at, states = {}, []
    for time, _, code, *_ in observation["events"]:
        if code in open_at:
            states.append([open_at.pop(code), time, code])
        else:
            open_at[code] = time
    return states


def boris(path, change, rate):
    """BORIS: the project's first observation."""
    project = json.loads(path.read_text())
    observation = next(iter(project["observations"].values()))
    cuts = change(states_of(observation))
    observation["events"] = sorted([time, "", label, "", "", "NA"] for *times, label in cuts for time in times)
    path.write_text(json.dumps(project))


BORIS_COLUMNS = (
    "Observation id",
    "Media file name",
    "FPS (frame/s)",
    "Media duration (s)",
    "Subject",
    "Behavior",
    "Behavioral category",
    "Behavior type",
    "Start (s)",
    "Stop (s)",
    "Duration (s)",
)


def boris_table(path, change, rate):
    """BORIS: the aggregated events of its first observation, in place of the project."""
    project = json.loads(path.read_text())
    name, observation = next(iter(project["observations"].items()))
    (media,) = observation["file"]["1"]
    rows = [
        [name, media, "25.0", "4.0", "", label, "", "STATE", start, end, end - start]
        for start, end, label in change(states_of(observation))
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(BORIS_COLUMNS)
    writer.writerows(rows)
    path.unlink()
    path.with_suffix(".csv").write_text(text.getvalue())


def elan(path, change, rate):
    """ELAN: a slot for each time, annotations in the tiers of their classes."""
    root = ET.fromstring(path.read_text())
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    tiers = {tier.get("TIER_ID"): tier for tier in root.iter("TIER")}
    own = [
        [slots[entry.get("TIME_SLOT_REF1")] / 1000, slots[entry.get("TIME_SLOT_REF2")] / 1000, label]
        for label, tier in tiers.items()
        for entry in tier.iter("ALIGNABLE_ANNOTATION")
    ]
    order = root.find("TIME_ORDER")
    for element in (order, *tiers.values()):
        element[:] = []
    for number, (start, end, label) in enumerate(change(own)):
        for name, time in (("s", start), ("e", end)):
            ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"{name}{number}", TIME_VALUE=str(round(time * 1000)))
        if label not in tiers:
            tiers[label] = ET.SubElement(root, "TIER", TIER_ID=label)
        ET.SubElement(
            ET.SubElement(tiers[label], "ANNOTATION"),
            "ALIGNABLE_ANNOTATION",
            ANNOTATION_ID=f"a{number}",
            TIME_SLOT_REF1=f"s{number}",
            TIME_SLOT_REF2=f"e{number}",
        )
    path.write_text(ET.tostring(root, "unicode"))


PROGRAMS = {
    "llc": llc,
    "losslesscut-csv": losslesscut_csv,
    "label-studio": label_studio,
    "fiftyone": fiftyone,
    "boris": boris,
    "boris-table": boris_table,
    "elan": elan,
}
"""Programs by the name of the format; `boris-table` reads a project and saves a table."""


def corrected(name, folder: Path, change, rate) -> list[Path]:
    """Correct the export of the first video in a folder, and return the files saved by the program."""
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    PROGRAMS[name](before[0], change, rate)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def format_of(name):
    return re.sub("-table$", "", name)
