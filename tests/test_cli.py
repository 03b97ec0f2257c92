"""The command line: bad input ends with one line and status 2; what it writes can be opened and made again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import ExifTags
from PIL import Image as Pillow

from mmvae import cli
from mmvae.evaluation.evaluate import evaluate
from mmvae.samples import read_note
from mmvae.training import train

SMALL = [
    *("train.steps=4", "train.batch_size=8", "train.evaluate_every=4", "train.threads=1"),
    *("latent.dim=4", "data.limit=60", "prior.fitted=1"),
]
IMAGE = ["modalities.image.widths=[8]", *SMALL]
TEXT = ["modalities.text.hidden=8", "modalities.text.embedding=8", "modalities.text.vocabulary=400", *SMALL]
AUDIO = ["modalities.audio.widths=[4,4]", "modalities.audio.iterations=2", *SMALL]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: its status, output and errors."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmvae", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, errors = capsys.readouterr()
        return int(ended.value.code or 0), out, errors

    return call


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A barely trained model of each built-in modality."""
    base = tmp_path_factory.mktemp("models")
    train("image/digits", IMAGE, base / "image", progress=False)
    train("text/definitions", TEXT, base / "text", progress=False)
    train("audio/drums", AUDIO, base / "audio", progress=False)
    return {name: base / name for name in ("image", "text", "audio")}


def test_a_run_as_a_recipe_begins_anew_and_says_so(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    status, _, errors = run("train", models["image"], "train.steps=1", "--out", tmp_path / "again")
    assert status == 0
    assert f"the recipe of {models['image']}, from its first step" in errors
    status, _, errors = run("train", tmp_path / "again", "--resume")
    assert status == 0
    assert "first step" not in errors


# -- bad input ------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder full of things that a user may hand over by mistake."""
    monkeypatch.chdir(tmp_path)
    for name, target in models.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.docx").write_text("x")
    (tmp_path / "bad").mkdir()
    for name in "abcd":
        (tmp_path / "bad" / f"{name}.png").write_bytes(b"not a picture")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.txt").write_text("a\n")
    (tmp_path / "mixed" / "b.csv").write_text("text\nb\n")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "silent.wav", np.zeros((0, 1), np.float32), 16000)
    (tmp_path / "latin.txt").write_bytes("più\n".encode("latin-1"))
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "latin.toml").write_bytes('name = "x"\nabout = "più"\n'.encode("latin-1"))
    (tmp_path / "loop.toml").write_text('extends = "loop"\n')
    (tmp_path / "nameless.toml").write_text('[data]\npath = "digits"\n[modalities.image]\n')
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "header.csv").write_text("text\n")
    (tmp_path / "blank.txt").write_text("\n\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text("{")
    (tmp_path / "future").mkdir()
    (tmp_path / "future" / "config.json").write_text('{"format": 99, "mmvae": "9.0"}')
    cut = tmp_path / "cut"
    cut.mkdir()
    for file in models["image"].glob("*.json"):
        (cut / file.name).write_bytes(file.read_bytes())
    (cut / "model.safetensors").write_bytes((models["image"] / "model.safetensors").read_bytes()[:1000])
    return tmp_path


BAD: list[tuple[str, str]] = [
    ("train image/emojy", "did you mean 'image/emoji'?"),
    ("train missing.toml", "no recipe 'missing.toml'"),
    ("train broken.toml", "not a TOML file"),
    ("train latin.toml", "latin.toml, line 2, byte 12: not UTF-8 text: save the file as UTF-8"),
    ("recipes show latin.toml", "latin.toml, line 2, byte 12: not UTF-8 text"),
    ("train loop.toml", "extends itself"),
    ("train nameless.toml", "name: missing"),
    ("train image/digits train.stesp=3", "train.stesp: unknown key; did you mean 'steps'?"),
    ("train image/digits latent.dimm=3", "latent.dimm: unknown key; did you mean 'dim'?"),
    ("train image/digits modalities.image.with=3", "did you mean 'widths'?"),
    ("train image/digits optimizer.name=3", "optimizer: unknown key"),
    ("train image/digits train.steps=many", "train.steps: input should be a valid integer"),
    ("train image/digits train.learning_rate=nan", "finite number"),
    ("train image/digits train.steps=0", "greater than or equal to 1"),
    ("train image/digits train.steps=9 train.pretrain=9", "train.pretrain: 9 steps at KL weight 0 leave none of"),
    ("train image/digits data.validation=0.6 data.test=0.5 --out new", "leave nothing to train on; lower them"),
    ("train image/digits latent.kind=none prior.kind=none objective.kind=total-correlation", "latent.kind = gaussian"),
    ("train text/verses data.path=table.csv modalities.text.min_count=2", "min_count is for the tokenizers 'words'"),
    ("train image/digits kl.kind=liner", "unknown KL schedule 'liner': did you mean 'linear'?"),
    ("train image/digits prior.kind=wamp", "unknown prior 'wamp'"),
    ("train image/digits objective.kind=elbow", "did you mean 'elbo'?"),
    ("train image/digits modalities.image.kind=imag", "unknown modality 'imag': did you mean 'image'?"),
    ("train image/digits steps", "not of the form table.key=value"),
    ("train image/digits data.path=./nowhere", "no file or folder './nowhere'"),
    ("train image/digits data.path=empty", "it holds no files"),
    ("train image/digits data.path=notes", "it holds 1 .docx"),
    ("train image/digits data.path=bad", "not a readable image"),
    ("train audio/drums data.path=bad", "no file that audio reads"),
    ("train text/verses data.path=latin.txt", "latin.txt, line 1, byte 3: not UTF-8 text: save the file as UTF-8"),
    ("train image/digits data.path=table.csv", "which column of table.csv"),
    ("train image/digits modalities.image.column=pixels", "no column 'pixels'"),
    ("train image/digits data.path=nobody/nothing", "no data set 'nobody/nothing'"),
    ("train text/verses data.path=header.csv", "header.csv: could not be read as a data set: it has no rows"),
    (
        "train image/digits modalities.image.size=[32,0]",
        "image/digits: modalities.image.size.1: input should be greater",
    ),
    ("train image/digits train.learning-rate=1", "train.learning-rate: unknown key; did you mean 'learning_rate'?"),
    ("train image/digits latent.with_prior=false latent.min_rate=1", "set latent.with_prior to true"),
    ("train image/digits --out image", "holds a run already"),
    ("train image/digits --out new --resume", "nothing to resume in 'new'"),
    ("train image/digits data.validation=0 --out new", "training needs a validation split"),
    ("train audio/drums modalities.audio.hop=400", "hop = 400 must be at most half of fft"),
    ("generate nowhere", "no model folder 'nowhere'"),
    ("generate empty", "not a model folder"),
    ("generate image --set latent.dim=9", "does not fit the recipe"),
    ("generate image --set modalities.image.likelyhood=x", "did you mean 'likelihood'?"),
    ("generate config", "not the config of a model"),
    ("generate future", "saved in format 99 by mmvae 9.0"),
    ("generate cut", "not a readable safetensors file"),
    ("generate image -n 0", "-n"),
    ("generate image --prior fited", "fited"),
    ("generate image --sed 3", "No such option"),
    ("reconstruct image missing.png", "no file 'missing.png'"),
    ("reconstruct image broken.png", "broken.png: not a readable image"),
    ("reconstruct image empty", "it holds no files"),
    ("reconstruct image silent.wav", "silent.wav: not a file the model reads (.png, "),
    ("reconstruct audio broken.wav", "broken.wav: not a readable sound"),
    ("reconstruct audio silent.wav", "the file holds no samples"),
    ("reconstruct audio broken.png", "broken.png"),
    ("interpolate image broken.png", "between two inputs, not 1"),
    ("interpolate image --path spiral", "spiral"),
    ("evaluate image --split testing", "no split 'testing'"),
    ("evaluate image --out nowhere/x.json", "no folder 'nowhere' to write x.json to"),
    ("train image/digits train.seed=18446744073709551616", "train.seed: input should be less than 4294967296"),
    ("train image/digits --nproc 0", "--nproc"),
    ("reproduce broken.wav", "holds no note"),
    ("reproduce broken.png", "holds no note"),
    ("reproduce nowhere.png", "no file 'nowhere.png'"),
    ("generate image --temperature -1", "temperature"),
    ("train image/digits train.steps=true", "train.steps: true is no value for it"),
    ("train image/digits modalities.image.mixture=false", "modalities.image.mixture: false is no value"),
    ("train text/verses data.path=poems", "no file or folder 'poems', and no built-in set"),
    ("train empty --resume", "nothing to resume in 'empty': it has no config.json, nor is it a recipe"),
    ("train runs/nosuch --resume", "nothing to resume in 'runs/nosuch': there is no such folder"),
    ("train image/digits --out notes", "notes holds other files: name another folder"),
    (
        "train image/digits name=..",
        "name: a name begins with a letter or digit, and goes on with these, _, . or -, not '..'",
    ),
    ("generate image --out notes", "notes holds other files, such as a.docx: name another folder"),
    ("reconstruct image hello", "no file 'hello'; and as a value: an image is an array"),
    ("train text/names data.path=mixed", "mixed: tables of several kinds (.csv, .txt): give one of them"),
    ("train text/names data.path= ", "data.path is empty"),
    ("doctor nowhere/", "no file or folder 'nowhere/'"),
    ("doctor notes", "no modality reads it: as audio, notes: no file that audio reads"),
    ("doctor latin.txt", "no modality reads it: as audio or image or text, latin.txt, line 1, byte 3: not UTF-8"),
    ("doctor blank.txt", "blank.txt: no modality reads it: as audio or image or text, it has no rows"),
    ("recipes show image/digits train.steps=2", "overrides are shown with --json"),
    ("recipes copy image/digits nowhere/mine.toml", "no folder 'nowhere' to write mine.toml to"),
    ("recipes copy image/digits broken.toml", "broken.toml exists already"),
    ("doctor digits --modality smell", "unknown modality 'smell'"),
    ("recipes show text/names2", "did you mean 'text/names'?"),
    ("fly", "No such command"),
]


@pytest.mark.parametrize(("line", "says"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_ends_with_one_line_and_status_2(run: Run, world: Path, line: str, says: str) -> None:
    status, out, errors = run(*line.split())
    lines = errors.strip().splitlines()
    assert status == 2
    assert says in errors
    assert len(lines) == 1, errors
    assert lines[0].startswith("mmvae: ")
    assert out == ""


def test_a_real_process_ends_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "mmvae", "generate", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("mmvae: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "line", "says"),
    [
        ("audio", "generate {} --set modalities.text.top_p=0.9", "the model has no modality 'text'; it has audio"),
        ("audio", "resynthesize {} tone.wav --out out.wav --weight 0.2", "name it with --toward"),
        ("text", "generate {} --out taken.txt", "taken.txt is a file: name a folder"),
    ],
)
def test_what_does_not_go_with_a_model_is_said(
    run: Run, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, line: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.txt").write_text("mine\n")
    status, _, errors = run(*line.format(models[kind]).split())
    assert status == 2
    assert says in errors
    assert (tmp_path / "taken.txt").read_text() == "mine\n"


# -- what works -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "text", "audio"])
def test_generated_files_open_and_are_made_again(run: Run, models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    status, printed, _ = run("generate", models[kind], "-n", "3", "--seed", "4", "--out", out, "--json")
    files = [Path(name) for name in json.loads(printed)["files"]]
    assert status == 0
    assert len(files) == 3
    assert (out / "gallery.html").stat().st_size > 500
    assert list(out.glob("sheet.*"))
    for file in files:
        again = tmp_path / f"again-{file.name}"
        assert run("reproduce", file, "--out", again)[0] == 0
        assert again.read_bytes() == file.read_bytes()


def test_settings_change_what_is_generated_and_are_reproduced(
    run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    texts = {}
    for chosen in ([], ["--set", "modalities.text.top_k=1"], ["--set", "modalities.text.beam=3"]):
        run("generate", models["text"], "-n", "3", "--out", tmp_path / "out", *chosen)
        files = sorted((tmp_path / "out").glob("00?.txt"))
        texts[str(chosen)] = [file.read_text() for file in files]
        again = tmp_path / f"again-{len(texts)}.txt"
        assert run("reproduce", files[2], "--out", again)[0] == 0
        assert again.read_text() == texts[str(chosen)][2]
    free, greedy, _ = texts.values()
    assert free != greedy
    run("generate", models["text"], "-n", "3", "--out", tmp_path / "mode", "--temperature", "0")
    assert [(tmp_path / "mode" / f"00{i}.txt").read_text() for i in range(3)] == greedy


def test_reproducing_with_another_model_is_refused(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    run("generate", models["image"], "-n", "1", "--out", tmp_path)
    train("image/digits", [*IMAGE, "train.seed=9"], tmp_path / "other", progress=False)
    status, _, errors = run("reproduce", tmp_path / "000.png", "--model", tmp_path / "other")
    assert status == 2
    assert "is not the model that made the file" in errors


def test_reconstruct_takes_files_folders_tables_and_sentences(
    run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    run("generate", models["image"], "-n", "2", "--out", tmp_path / "pictures")
    for given, count in ((tmp_path / "pictures", 2), (tmp_path / "pictures" / "000.png", 1)):
        _, printed, _ = run("reconstruct", models["image"], given, "--out", tmp_path / "again", "--json")
        assert len(json.loads(printed)["files"]) == count
        assert json.loads(printed)["of"][0] == str(tmp_path / "pictures" / "000.png")
    assert f"0, {tmp_path / 'pictures' / '000.png'}" in (tmp_path / "again" / "gallery.html").read_text()
    lines = tmp_path / "lines.csv"
    lines.write_text("text\na small dog\nthe act of running\n")
    status, printed, _ = run(
        "reconstruct", models["text"], lines, "a third one " * 99, "--out", tmp_path / "text", "--json"
    )
    assert status == 0
    assert len(json.loads(printed)["files"]) == 3
    assert json.loads(printed)["of"] == ["lines.csv, row 1", "lines.csv, row 2", "a third one " * 99]


def test_a_table_is_read_by_the_recipes_column_and_its_bad_rows_are_named(
    run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    lines = tmp_path / "lines.csv"
    lines.write_text("word,text\na small dog,nothing of it\n,\n")
    table = ["name=titles", "train.steps=1", "latent.dim=2", "prior.fitted=0", "data.validation=0.5", "data.test=0"]
    data = tmp_path / "train.csv"
    data.write_text("text,word\n" + "".join(f"body {i},title {i}\n" for i in range(9)))
    train(
        "text/names",
        [*table, f"data.path={data}", "modalities.text.column=word", "train.threads=1", "modalities.text.hidden=8"],
        tmp_path / "run",
        progress=False,
    )
    status, _, errors = run("reconstruct", tmp_path / "run", lines, "--out", tmp_path / "out")
    assert status == 0
    assert "left out: lines.csv, row 2: there is nothing in it" in errors
    found = read_note(tmp_path / "out" / "000.txt")["z"]
    run("reconstruct", tmp_path / "run", "a small dog", "--out", tmp_path / "out")
    assert read_note(tmp_path / "out" / "000.txt")["z"] == found


def test_a_sentence_that_is_cut_is_mentioned(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    _, _, errors = run("reconstruct", models["text"], "the small dog " * 60, "--out", tmp_path / "out")
    assert "1 input longer than max_tokens" in errors


def test_samples_replace_earlier_samples_and_nothing_else(
    run: Run, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("generated", "generated-2"):
        run("generate", models["image"], "-n", "3")
        assert len(list((tmp_path / folder).glob("00?.png"))) == 3
    run("generate", models["image"], "-n", "1", "--out", "generated")
    assert [path.name for path in (tmp_path / "generated").glob("00?.png")] == ["000.png"]
    before = (tmp_path / "generated" / "000.png").read_bytes()
    status, _, errors = run("reconstruct", models["image"], "generated/000.png", "--out", "generated")
    assert status == 2
    assert "--out generated holds generated/000.png" in errors
    assert (tmp_path / "generated" / "000.png").read_bytes() == before


def test_what_was_written_to_a_relative_folder_is_read_from_it(
    run: Run, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("generate", models["text"], "-n", "3", "--out", "texts")
    _, printed, _ = run("reconstruct", models["text"], "texts", "--out", "again", "--json")
    assert len(json.loads(printed)["files"]) == 3
    assert json.loads(run("doctor", "texts", "--json")[1])["data"]["usable"] == 3


@pytest.mark.parametrize("wrong", ["train.stps=5: unknown key", "data.path=./nowhere: no file or folder './nowhere'"])
def test_bad_input_to_several_processes_ends_as_it_does_with_one(wrong: str, tmp_path: Path) -> None:
    change, _, why = wrong.partition(": ")
    line = [sys.executable, "-m", "mmvae", "train", "image/digits", change, "--nproc", "2"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(why) == 1
    assert "Traceback" not in done.stderr


def test_rows_of_text_are_never_taken_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poem").write_text("what the file holds")
    (tmp_path / "lines.txt").write_text("\n".join(["poem", "please open file0.txt", *map(str, range(20))] * 2))
    vae = train("text/names", ["data.path=lines.txt", "train.steps=2", "train.threads=1"], "run", progress=False)
    assert evaluate(vae, k=2)["rows"] == 4


def test_other_data_are_measured_whole(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    run("generate", models["image"], "-n", "20", "--temperature", "1", "--out", tmp_path / "new")
    (tmp_path / "new" / "bad.png").write_bytes(b"no")
    for split in ("test", "train"):
        _, printed, errors = run("evaluate", models["image"], "--data", tmp_path / "new", "--split", split, "--json")
        assert errors == ""
        figures = json.loads(printed)
        assert (figures["rows"], figures["rows that could not be used"]) == (20, 1)


SETTLED = ("weight=2", "size=[9, 9]", "channels=3", "likelihood='gaussian'")  # of a model's pictures


def test_what_is_trained_takes_no_settings_of_training(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    run("generate", models["image"], "-n", "2", "--temperature", "1", "--out", tmp_path / "new")
    (tmp_path / "new" / "bad.png").write_bytes(b"no")
    for command in (["evaluate", models["image"]], ["neighbours", models["image"], tmp_path / "new" / "000.png"]):
        given = [*command, "--data", tmp_path / "new", "--json"]
        status, _, errors = run(*given)
        assert status == 2
        assert "data.max_rejected = 5%" in errors
        status, printed, _ = run(*given, "--set", "data.max_rejected=0.5")
        assert status == 0
        assert json.loads(printed)
        assert run(*given, "--set", "data.max_rejected=0.5", "--set", "modalities.image.max_pixels=9999")[0] == 0
        for change, table in (
            *(("train.steps=3", "train"), ("train={steps=3}", "train"), ("kl.weight=2", "kl"), ("data.seed=1", "data")),
            *(("prior.fitted=3", "prior"), ("objective.free_bits=1", "objective")),
            *((f"modalities.image.{change}", f"modalities.image.{change.partition('=')[0]}") for change in SETTLED),
        ):
            status, _, errors = run(*given, "--set", change)
            assert status == 2
            assert errors.startswith(f"mmvae: {change}: of {table} nothing")


def test_a_measurement_is_written_beside_the_model_unless_it_is_of_something_else(
    run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    path = models["image"] / "evaluation-test.json"
    path.unlink(missing_ok=True)
    given = ["evaluate", models["image"], "--k", "2", "--json"]
    printed = run(*given, "--set", "data.max_rejected=0.5")[1]
    assert json.loads(printed)["settings"] == ["data.max_rejected=0.5"]
    run(*given, "--limit", "3")
    run(*given, "--out", tmp_path / "figures.json")
    assert not path.exists()
    printed = run(*given)[1]
    assert json.loads(path.read_text()) == json.loads(printed)


def test_interpolation_between_inputs_and_between_random_points(
    run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    for ends in ((), ("a small dog", "the act of running")):
        status, printed, _ = run("interpolate", models["text"], *ends, "--steps", "5", "--out", tmp_path, "--json")
        assert status == 0
        assert len(json.loads(printed)["files"]) == 5


@pytest.mark.parametrize("kind", ["image", "text", "audio"])
def test_evaluate_prints_and_writes_the_same_figures(
    run: Run, models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "figures.json"
    status, printed, errors = run("evaluate", models[kind], "--limit", "8", "--k", "4", "--out", path, "--json")
    figures: dict[str, Any] = json.loads(printed)
    assert status == 0
    assert json.loads(path.read_text()) == figures
    assert figures["rows"] == 8
    assert errors == "measured on 8 rows of test: figures of fewer than 20 say little\n"
    assert figures["-ELBO (nats)"] == pytest.approx(
        figures["rate (nats)"] + figures[f"distortion, {kind} (nats)"], rel=1e-6
    )
    assert 0 <= figures["mutual information, N = 8 (nats)"] + 0.5 <= np.log(8) + 0.5
    assert any(key.startswith("reconstruction") for key in figures)
    unit = {"image": "bits/dim", "text": "perplexity", "audio": None}[kind]
    assert unit is None or figures[unit] > 0


def test_info_doctor_and_lists(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    described = json.loads(run("info", models["image"], "--json")[1])
    assert described["data"] == "digits"
    assert described["parameters"] > 1000
    assert {item["name"] for item in json.loads(run("modalities", "--json")[1])} >= {"image", "text", "audio"}
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "b.wav", np.full(800, 0.1, np.float32), 8000)
    found = json.loads(run("doctor", tmp_path, "--modality", "audio", "--json")[1])
    assert found["bfloat16"]
    assert (found["data"]["rows"], found["data"]["usable"]) == (2, 1)
    assert "a.wav" in found["data"]["rejected"][0][0]
    assert found["data"]["files"] == {"seconds": "0.1 (1)", "Hz": "8,000 (1)", "channels": "1 (1)"}
    for path, kind in ((tmp_path, "audio"), ("digits", "image"), ("definitions", "text")):
        found = json.loads(run("doctor", path, "--json")[1])["data"]
        assert (found["modality"], found["others"]) == (kind, [])
    run("generate", models["image"], "-n", "2", "--out", tmp_path / "pictures")
    (tmp_path / "pictures" / "gallery.html").unlink()
    said = run("doctor", tmp_path)[1]
    assert f"1 of 2 rows of {tmp_path} can be used as audio" in said
    assert said.endswith("only audio was looked at; for what else there is: --modality image\n")
    assert f"3 of 3 rows of {tmp_path} can be used as image" in run("doctor", tmp_path, "--modality", "image")[1]


def test_doctor_tells_how_long_the_sounds_of_a_folder_are(run: Run, tmp_path: Path) -> None:
    for number in range(1, 6):
        soundfile.write(
            tmp_path / f"{number}.wav", np.full((800 * number, 2), 0.1, np.float32), 8000 * (1 + number % 2)
        )
    said = run("doctor", tmp_path)[1]
    assert "  seconds of files: 0.05 to 0.4, half of them at most 0.2\n" in said
    assert "  Hz of files: 16,000 (3), 8,000 (2)\n" in said
    assert "  channels of files: 2 (5)\n" in said


def test_doctor_tells_how_large_the_pictures_of_a_folder_are(
    run: Run, tmp_path: Path, picture_folder: Callable[..., Path]
) -> None:
    with Pillow.open(picture_folder(tmp_path, 5, height=8, width=12) / "000.png") as picture:
        exif = picture.getexif()
        exif[ExifTags.Base.Orientation] = 6  # as a telephone held upright says it
        picture.save(tmp_path / "000.png", exif=exif)
    said = run("doctor", tmp_path)[1]
    assert "  pixels across of files: 12 (4), 8 (1)\n" in said
    assert "  pixels down of files: 8 (4), 12 (1)\n" in said


def test_doctor_names_ten_rows_of_each_reason_and_in_json_all(run: Run, tmp_path: Path) -> None:
    for index in range(12):
        (tmp_path / f"{index:02}.png").write_bytes(b"no picture" if index else b"")
    said = run("doctor", tmp_path, "--modality", "image")[1].splitlines()
    assert f"0 of 12 rows of {tmp_path} can be used as image" in said
    assert sum("not a readable image" in line for line in said) == 11
    assert said[-1].startswith("  and 2 rows more: not a readable image")
    assert len(json.loads(run("doctor", tmp_path, "--modality", "image", "--json")[1])["data"]["rejected"]) == 12


def test_neighbours_say_where_they_were_looked_for(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    for given, said in (
        ([], "60 rows of the split train of definitions"),
        (["--split", "test"], "60 rows of the split test"),
    ):
        *near, last = run("neighbours", models["text"], "a small dog", "-n", "2", *given)[1].splitlines()
        assert len(near) == 2
        assert last.startswith(f"the nearest of {said}")
    *near, _ = run("neighbours", models["text"], "a small dog", "a cat", "-n", "2")[1].splitlines()
    assert (len(near), near[0], near[3]) == (6, "a small dog:", "a cat:")
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree\n")
    given = ["neighbours", models["text"], "a dog", "--data", tmp_path / "lines.txt"]
    assert run(*given)[1].endswith(f"the nearest of 3 rows of the split train of {tmp_path / 'lines.txt'}\n")
    ((near, *_),) = json.loads(run(*given, "--json")[1])
    assert (near["split"], near["rows"]) == ("train", 3)


def test_recipes_are_listed_shown_copied_and_validated(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = json.loads(run("recipes", "list", "--json")[1])
    assert "text/definitions" in names
    assert run("recipes", "copy", "text/definitions")[0] == 0
    assert run("recipes", "copy", "text/definitions")[0] == 2  # never overwritten
    assert run("recipes", "validate", "definitions.toml", "train.steps=3")[0] == 0
    shown = json.loads(run("recipes", "show", "definitions.toml", "train.steps=3", "--json")[1])
    assert shown["train"]["steps"] == 3


def test_help_and_version_need_no_torch() -> None:
    program = "import sys; sys.argv[1:] = ['--help']; from mmvae.cli import app; app(standalone_mode=False)"
    check = "; assert not {'torch', 'transformers', 'pydantic'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program + check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout


def benchmark_start_up() -> tuple[float, float]:
    """Seconds of `mmvae --help` and of bare Python: run this file to see them; a timing is no test."""
    times = []
    for command in ([sys.executable, "-m", "mmvae", "--help"], [sys.executable, "-c", "pass"]):
        start = time.perf_counter()
        for _ in range(5):
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - start) / 5)
    return times[0], times[1]


if __name__ == "__main__":
    print("mmvae --help {:.3f} s, bare Python {:.3f} s".format(*benchmark_start_up()))
