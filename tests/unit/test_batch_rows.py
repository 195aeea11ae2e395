"""Requests of a batch, as they are read from a file."""

from pathlib import Path

import pytest

from sa_ray.cli.batch_manifest import BatchManifest
from sa_ray.cli.batch_rows import read_rows
from sa_ray.errors import InvalidRequestError


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def test_cells_are_fields_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "prompts.csv",
        "\ufeffprompt,duration,seed,loop,model,output\n"
        '"rain, heavy",2.5,7,TRUE,,wet/rain.wav\n'
        "42,,,,small-music,\n",
    )

    first, second = read_rows(file, {"model": "medium"})

    assert (first.line, first.output) == (2, "wet/rain.wav")
    assert first.request.model_dump(exclude_unset=True) == {
        "prompt": "rain, heavy", "duration": 2.5, "seed": 7, "loop": True, "model": "medium",
    }  # fmt: skip
    assert (second.request.prompt, second.request.model) == ("42", "small-music")
    assert second.output == "00003-42.wav"


def test_lines_of_json_may_have_lists_and_name_files(tmp_path: Path) -> None:
    (tmp_path / "in.wav").touch()
    file = written(
        tmp_path,
        "requests.jsonl",
        '{"prompt": "x", "inpaint_audio": "in.wav", "regions": [{"start": 0, "end": 1}]}\n\n'
        f'{{"prompt": "Ünïcödé / 雨", "init_audio": "{"a" * 64}", "format": "mp3"}}\n',
    )

    first, second = read_rows(file, {})

    assert first.sources == {"inpaint_audio": tmp_path / "in.wav"}
    assert (second.line, second.output) == (3, "00003-ünïcödé-雨.mp3")
    assert second.sources == {}
    assert second.request.init_audio == "a" * 64


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "prompt,duration\nrain,long\n", "line 2: duration: 'long' is no number"),
        ("a.csv", "prompt,duration\nrain,-1\n", "line 2: duration: .*greater than"),
        ("a.csv", "prompt\nrain,7\n", "line 2: it has more cells"),
        ("a.csv", "prompt,loudnes\nrain,7\n", "line 2: loudnes: "),
        ("a.csv", "text\nrain\n", "line 2: prompt: Field required"),
        ("a.csv", "prompt\n", "holds no requests"),
        ("a.jsonl", "", "holds no requests"),
        ("a.jsonl", "[1]", "line 1: each line must be one JSON object"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt', "line 2: "),
        ("a.jsonl", '{"prompt": "x", "output": "../x.wav"}', "line 1: output: .*inside"),
        ("a.jsonl", '{"prompt": "x", "output": "/x.wav"}', "line 1: output: .*inside"),
        ("a.jsonl", '{"prompt": "x", "output": "x.mp3"}', "line 1: output: .*end in .wav"),
        ("a.jsonl", '{"prompt": "x", "output": "x.wav"}\n' * 2, "line 2: output: line 1 writes"),
        ("a.jsonl", '{"prompt": "x", "init_audio": "none.wav"}', "init_audio: there is no file"),
    ],
)
def test_what_cannot_be_used_is_told_by_its_line(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"(?s)nothing was sent.*{told}"):
        read_rows(written(tmp_path, name, text), {})


def test_only_the_first_faults_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"line 10: (?s:.*)and 15 more$") as refused:
        read_rows(written(tmp_path, "a.jsonl", "1\n" * 25), {})

    assert "line 11" not in refused.value.message


def test_a_folder_with_another_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"files": []}\n')

    with pytest.raises(InvalidRequestError, match="no manifest of a batch"):
        BatchManifest(tmp_path)


def test_a_line_that_was_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    [row] = read_rows(written(tmp_path, "a.jsonl", '{"prompt": "x"}'), {})
    manifest = BatchManifest(tmp_path / "out")
    key = manifest.key(row)
    manifest.failed(row, "no room", "a job")
    manifest.close()
    file = tmp_path / "out" / "manifest.jsonl"
    file.write_text(file.read_text()[:-10])

    again = BatchManifest(tmp_path / "out")

    assert again.key(row) == key
    again.failed(row, "no room\x85\u2028", "a job")
    again.close()
    assert BatchManifest(tmp_path / "out").key(row) == again.key(row) != key


def test_runs_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    first = BatchManifest(tmp_path)

    with pytest.raises(InvalidRequestError, match="Another run writes into"):
        BatchManifest(tmp_path)

    first.close()
    BatchManifest(tmp_path).close()


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.csv", "prompt\nBächlein\n".encode("latin-1"), "not in UTF-8"),
        ("a.jsonl", '{"prompt": "Bächlein"}\n'.encode("utf-16"), "not in UTF-8"),
        ("a.csv", b"prompt\n" + b"x" * 200_000, "is no CSV.*field"),
    ],
    ids=["latin-1", "utf-16", "long"],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, data: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(data)

    with pytest.raises(InvalidRequestError, match=f"{name} .*{told}"):
        read_rows(tmp_path / name, {})
