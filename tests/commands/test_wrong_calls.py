"""Wrong calls: whatever a call names that is not there, or says that does not go together, exits with 2 in one line."""

import json
import shlex

import pytest
from click.testing import CliRunner

from wtal.cli import COMMANDS, main

CALLS = """
clips d.json --videos empty --out o --pad 1:2:3:4
clips nowhere --videos empty --out o
clips d.json --videos empty --out file.txt
clips d.json --videos nowhere --out o
clips d.json --videos empty
clips d.json --videos empty --out o --reel 0
compare kth/basnet --annotations nowhere
compare kth/basnet --ablation nonsense
compare kth/basnet --store nowhere --annotations a.json
compare kth/basnet kth/basnet --annotations a.json --store empty
compare nowhere.toml
compare kth/basnet --ambiguous x
compare kth/basnet --protocol x
compare nonsense
completion csh
completion
demo --seeds x
demo --out file.txt
demo --device cuda:9
detect empty --watch nowhere
detect --interval 5
detect empty nowhere.mp4
detect empty v.mp4 --watch empty
detect
detect --out x
detect nowhere v.mp4
detect --stage -1
detect empty --watch empty --interval 1:99
detect empty --settle 3
detect file.txt
detect d.json
detect nowhere
detect empty
detect nowhere --set train.steps=3
diagnose d.json --annotations a.json --out file.txt
diagnose d.json --annotations a.json --videos a
diagnose d.json --annotations a.json --buckets x
diagnose d.json --annotations nowhere
diagnose d.json --annotations a.json --at 0.55
diagnose d.json --annotations a.json --videos a --errors-only
diagnose nowhere
doctor --nonsense
ensemble nowhere nowhere2 --weights x
ensemble nowhere nowhere2 --weights 1
ensemble empty empty
ensemble empty
ensemble nowhere
evaluate d.json --annotations a.json --streams x
evaluate d.json --annotations a.json --task proposals --against d.json
evaluate d.json --annotations a.json --ambiguous nowhere
evaluate d.json --annotations a.json --plots x --against d.json
evaluate d.json --annotations a.json --against nowhere
evaluate d.json --annotations a.json --stage 1
evaluate d.json --annotations labels.csv
evaluate d.json --annotations a.json --seed 5
evaluate d.json --annotations a.json --protocol x
evaluate d.json --annotations a.json --ties x
evaluate d.json --annotations a.json --plots x --task classification
evaluate empty
evaluate d.json --annotations a.json --draws 5
evaluate nowhere
evaluate d.json --annotations a.json --tiou x
evaluate d.json --annotations a.json --draws 0
evaluate d.json --annotations a.json --plots file.txt
evaluate file.txt
evaluate d.json --annotations nowhere
evaluate d.json --annotations a.json --tiou 2
evaluate d.json
evaluate d.json --annotations a.json --subset nonsense
evaluate d.json --annotations a.json --task x
export d.json --to nonsense
export d.json --to csv --pad x
export nowhere --to csv
export d.json --to csv --top 0
export d.json --to csv --min-score nan
export d.json --to csv --merge 1:99
export d.json --to csv --out file.txt
export d.json --to csv --into-copies
export d.json --to csv --videos nowhere
export d.json --to ,
export d.json --to csv --classes nonsense
export d.json --to csv --pad -1
export-features empty out --layout nonsense
export-features empty out --layout hacs-official
export-features nowhere out --layout hacs-official
extract empty --profile nowhere/x.json
extract empty --backbone i3d --backbone i3d
extract empty --out file.txt
extract empty --reader nonsense
extract empty --time-limit 1:0x
extract nowhere
extract empty --jobs 0
extract empty --stride -1
extract empty --flow nonsense
extract empty --cluster x:1
extract empty --profile empty
extract empty --dry-run --profile x.json
extract empty --engine dask
extract empty --weights nowhere.pt
extract empty --backbone nonsense
extract empty
extract empty --streams nonsense
extract empty --streams rgb,rgb
import-checkpoint file.txt --head basnet --stream rgb=x
import-checkpoint --head basnet
import-checkpoint nowhere.pt --head basnet
import-checkpoint file.txt --head basnet --store nowhere --annotations labels.csv
import-checkpoint file.txt --head nonsense
import-features empty
import-features empty --dims x
import-features empty --annotations nowhere
import-features empty --stride 0
import-features nowhere
import-features empty --layout nonsense
import-features file.txt
import-features empty --fps x
list nonsense
list
merge empty
merge nowhere nowhere2
merge empty empty --grid 3
nonsense
pack empty m.wtal
pack d.json m.wtal
pack nowhere m.wtal
refine
refine nowhere
refine file.txt
refine empty
refine --set train.steps=4
report d.json --port 5000
report d.json --videos nowhere
report d.json --out file.txt
report nowhere
report d.json --annotations nowhere
report d.json --port 99999
report empty
reproduce thumos14 --annotations a.json --features empty
reproduce thumos14 --annotations a.json --features empty --methods ,
reproduce thumos14 --annotations a.json
reproduce thumos14 --annotations a.json --features empty --methods nonsense
reproduce thumos14 --annotations nowhere --features empty
reproduce nonsense --annotations a.json
reproduce thumos14 --annotations a.json --features nowhere
review --next 0
review nonsense
review next --count 0
review show d.json --annotations nowhere
review annotations out.json --source nowhere
review import d.json file.txt --from nonsense
review import d.json nowhere
review next nowhere
review annotations out.json
review import d.json file.txt --videos nowhere
review show nowhere
review import d.json file.txt
review next
review import nowhere file.txt
run empty --labels labels.csv --annotations a.json
run empty --labels labels.csv --device cuda:7
run empty --labels labels.csv --recipe nonsense
run empty --labels labels.csv --device x
run empty --labels nowhere.csv
run empty --labels labels.csv --backbone nonsense
run empty --labels labels.csv --recipe nowhere.toml
run empty --labels labels.csv --head nonsense
run nowhere --labels labels.csv
run empty --labels labels.csv --challenge x
run empty
run empty --labels labels.csv --weights rgb=nowhere.pt
run empty --labels labels.csv
show nowhere
show empty
show file.txt
submit d.json --challenge hacs --out empty
submit --check nowhere
submit d.json --challenge hacs --annotations nowhere
submit nowhere --challenge hacs
submit --check d.json --challenge x
submit d.json --challenge hacs --annotations a.json --subset nonsense
submit d.json
submit --challenge hacs
submit --check d.json --out x
train --annotations nowhere
train --seeds 0,0
train --check --seeds x
train --store nowhere --annotations labels.csv
train --device x
train --set x
train file.txt
train --check --check --store nowhere
train nowhere.toml
train --set train.steps=x
train --store empty --annotations labels.csv
train nonsense
tune empty
tune
tune nowhere
tune --tiou x
tune --over nonsense
tune --method x
tune --over nms_tiou=x
tune --over nms_tiou=7
verify
verify --drop
verify nowhere
verify empty
verify file.txt
verify empty nowhere --json
weights fetch nonsense:x
weights check i3d:nonsense
weights nonsense x
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a file of each kind that wrong calls name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WTAL_WORKSPACE", "workspace")
    segments = [{"label": "x", "segment": [0, 1]}]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "labels.csv").write_text("video,label\na,x\n")
    (tmp_path / "d.json").write_text(json.dumps({"results": {"a": [{**segments[0], "score": 0.5}]}}))
    (tmp_path / "a.json").write_text(json.dumps({"database": {"a": {"subset": "validation", "annotations": segments}}}))
    return tmp_path


@pytest.mark.parametrize("call", CALLS.strip().splitlines())
def test_a_wrong_call_exits_with_2(call, here):
    before = sorted(here.rglob("*"))
    ended = CliRunner().invoke(main, shlex.split(call), prog_name="wtal")
    assert ended.exit_code == 2, f"{ended.output}{ended.exception!r}"
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert [line for line in lines if line.startswith("wtal: ")] == lines[-1:]
    assert "Usage:" not in ended.stderr
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("--foo", "there is no option '--foo'; see wtal --help"),
        ("train --seds 1", "there is no option '--seds'; did you mean '--seeds'? see wtal train --help"),
        ("train --seds 1 --debug", "there is no option '--seds'; did you mean '--seeds'? see wtal train --help"),
        ("train a b c", "got unexpected extra arguments (b c); see wtal train --help"),
        ("export d.json --out", "option '--out' requires an argument; see wtal export --help"),
        ("run --quick=3", "option '--quick' does not take a value; see wtal run --help"),
        ("run", "VIDEOS... is missing; see wtal run --help"),
        ("completion", "SHELL is missing; choices: bash, zsh, fish; see wtal completion --help"),
        ("completion x", "SHELL: there is no 'x'; choices: bash, fish, zsh; see wtal completion --help"),
        ("export d.json", "--to is missing; see wtal export --help"),
        ("export d.json --to csv --top 0", "--top: 0 is not in the range x>=1; see wtal export --help"),
        ("export d.json --to csv --top x", "--top: 'x' is not a whole number; see wtal export --help"),
        ("export d.json --to csv --out d.json", "--out: directory 'd.json' is a file; see wtal export --help"),
        ("review import", "RUN|DETECTIONS is missing; see wtal review import --help"),
    ],
)
def test_a_call_that_cannot_be_parsed_is_refused_in_one_line_of_our_own(call, line, here):
    ended = CliRunner().invoke(main, shlex.split(call), prog_name="wtal")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (2, "", f"wtal: {line}\n")


def test_without_a_command_the_help_is_printed():
    ended = CliRunner().invoke(main, [], prog_name="wtal")
    assert ended.output.startswith("Usage: wtal [OPTIONS] COMMAND")


def test_every_command_has_wrong_calls():
    assert {call.split()[0] for call in CALLS.strip().splitlines()} >= set(COMMANDS)


@pytest.mark.parametrize(
    ("call", "near"),
    [
        ("trian", "train"),
        ("train --seds 1", "--seeds"),
        ("run empty --labels labels.csv --head basnett", "basnet"),
        ("run empty --labels labels.csv --recipe colection", "collection"),
        ("run empty --labels labels.csv --challenge hcas", "hacs"),
        ("run empty --annotations a.json --train-subset validatoin", "validation"),
        ("run empty --labels labels.csv --dry-run --backbone motio", "motion"),
        ("extract nowhere --backbone i3", "i3d"),
        ("import-checkpoint empty --head rskpp", "rskp"),
        ("extract nowhere --flow tvl", "tvl1"),
        ("extract nowhere --reader pyva", "pyav"),
        ("extract nowhere --streams rgbb", "rgb"),
        ("extract empty --tail dropp", "drop"),
        ("extract empty --dtype float23", "float32"),
        ("extract empty --engine rai", "ray"),
        ("import-features empty --layout npy-per-vido", "npy-per-video"),
        ("train kth/basnte", "kth/basnet"),
        ("train --set localize.preset=basnte", "basnet"),
        ("evaluate d.json --annotations a.json --subset validaton", "validation"),
        ("evaluate d.json --annotations a.json --protocol activitynt", "activitynet"),
        ("evaluate d.json --annotations a.json --task proposal", "proposals"),
        ("evaluate d.json --annotations a.json --format makdown", "markdown"),
        ("diagnose d.json --annotations a.json --buckets fiths", "fifths"),
        ("compare kth/basnet --ablation lgbm.globl", "lgbm.global"),
        ("reproduce thumos --annotations a.json", "thumos14"),
        ("reproduce thumos14 --annotations a.json --methods rskpp", "rskp"),
        ("submit d.json --challenge hcas", "hacs"),
        ("export d.json --to cvs", "csv"),
        ("export d.json --to csv --classes xx", "x"),
        ("report d.json --proxies need", "needed"),
        ("tune --method gird", "grid"),
        ("tune --over nms_tio", "nms_tiou"),
        ("review nxet", "next"),
        ("review import d.json file.txt --from bors", "boris"),
        ("list hedas", "heads"),
        ("weights fetcch i3d:x", "fetch"),
        ("weights check i3d:rgb_imagenett", "rgb_imagenet"),
        ("completion bahs", "bash"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(call, near, here):
    ended = CliRunner().invoke(main, shlex.split(call), prog_name="wtal")
    assert ended.exit_code == 2, f"{ended.output}{ended.exception!r}"
    assert f"did you mean '{near}'?" in ended.stderr or f":{near}'?" in ended.stderr


@pytest.mark.parametrize("command", ["train", "compare kth/basnet"])
def test_a_head_is_chosen_with_set(command):
    ended = CliRunner().invoke(main, [*command.split(), "--head", "basnet"], prog_name="wtal")
    assert ended.exit_code == 2
    assert "there is no option '--head'; use --set head.name=NAME" in ended.stderr
