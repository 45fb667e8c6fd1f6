"""Where rows come from, how they are divided, and what is said where they cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from everyformer.data import find_task
from everyformer.data.sources import Where, read_rows
from everyformer.data.splits import divide, places
from everyformer.errors import BadInput, EveryformerError, UnknownName
from support.tiny_data import pictures, table, texts

ROWS = [{"text": f"t{i}", "label": "ab"[i % 2]} for i in range(20)]


@pytest.fixture(autouse=True)
def _no_shared_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERYFORMER_DATA", raising=False)


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_a_table_of_any_kind_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    import pandas

    path = tmp_path / f"mine.{kind}"
    frame = pandas.DataFrame(ROWS)
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    else:
        path.write_text(json.dumps(ROWS) if kind == "json" else "\n".join(json.dumps(r) for r in ROWS))
    rows = read_rows(Where(path=str(path)))["train"]
    assert rows.column("text") == [r["text"] for r in ROWS]
    assert rows.column("label") == [r["label"] for r in ROWS]


def test_a_folder_of_tables_has_the_parts_that_its_files_are_called(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        table(tmp_path / f"{name}.csv", ROWS[: len(name)])
    rows = read_rows(Where(path=str(tmp_path)))
    assert {split: len(part) for split, part in rows.items()} == {"train": 5, "valid": 10, "test": 4}
    named = read_rows(Where(path=str(tmp_path), train="test.csv", test="train.csv"))
    assert {split: len(part) for split, part in named.items()} == {"train": 4, "test": 5}


def test_a_folder_of_classes_is_found_with_parts_or_without(tmp_path: Path) -> None:
    pictures(tmp_path / "both", count=2)
    rows = read_rows(Where(path=str(tmp_path / "both")))
    assert {split: len(part) for split, part in rows.items()} == {"train": 4, "test": 4}
    assert rows["train"].classes["label"] == ["cat", "dog"]
    assert read_rows(Where(path=str(tmp_path / "both" / "train")))["train"].column("label") == [0, 0, 1, 1]


def test_a_named_set_is_found_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts(tmp_path / "mine")
    with pytest.raises(EveryformerError, match="data 'mine' is not at hand: EVERYFORMER_DATA is not set; set EVERY"):
        read_rows(Where(source="mine"))
    monkeypatch.setenv("EVERYFORMER_DATA", str(tmp_path))
    assert len(read_rows(Where(source="mine"))["train"]) == 24
    assert len(read_rows(Where(source=["mine", "owner/mine"]))["train"]) == 24
    assert len(read_rows(Where(source="mine/test.csv"))["train"]) == 13
    with pytest.raises(EveryformerError, match=r"\(EVERYFORMER_DATA\) has no 'other'"):
        read_rows(Where(source="other"))


def test_a_hub_set_is_read_where_the_named_one_is_not_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(name: str, config: str | None = None) -> datasets.DatasetDict:
        asked.append((name, config))
        part = datasets.Dataset.from_list(ROWS)
        return datasets.DatasetDict({"train": part, "validation": part.select(range(3)), "extra": part})

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = read_rows(Where(source=["absent", "owner/absent"], config="small"))
    assert asked == [("owner/absent", "small")]
    assert {split: len(part) for split, part in rows.items()} == {"train": 20, "valid": 3}
    assert len(read_rows(Where(source="owner/absent", train="extra"))["train"]) == 20
    with pytest.raises(UnknownName, match=r"split of 'owner/absent' \(data.train\) 'extr'; did you mean 'extra'"):
        read_rows(Where(source="owner/absent", train="extr"))


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(*_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(EveryformerError, match=r"'owner/absent' cannot be fetched.*no route.*set EVERYFORMER_DATA"):
        read_rows(Where(source=["absent", "owner/absent"]))


def test_built_in_sets_need_nothing() -> None:
    digits = read_rows(Where(source="digits"))
    assert {split: len(part) for split, part in digits.items()} == {"train": 1258, "valid": 180, "test": 359}
    for part in digits.values():
        counts = [part.column("label").count(i) / len(part) for i in range(10)]
        assert max(counts) - min(counts) < 0.02, "every part has its share of every digit"
    library = read_rows(Where(source="python"))["train"]
    assert len(library) > 300
    assert any("class OrderedDict" in text for text in library.column("text"))


def file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent.csv", r"no file or folder at '.*absent.csv' \(data.path\)"),
        (lambda p: file(p / "e.csv", b""), r"'.*e.csv' is empty \(0 bytes\)"),
        (lambda p: file(p / "h.csv", b"text,label\n"), "h.csv' cannot be read as csv: .* no data"),
        (lambda p: file(p / "b.json", b"{nonsense"), "cannot be read as json"),
        (lambda p: file(p / "x.docx", b"hello"), r"'x.docx' is of a kind that is not read"),
        (lambda p: file(p / "l.txt", b"caf\xe9"), r"not UTF-8 text \(byte 3 is 0xe9\)"),
        (lambda p: p, "holds neither data files .* nor a folder for each class"),
        (lambda p: (p / "cat").mkdir() or p, "the folder '.*cat' has no picture or sound"),
        (lambda p: [table(p / f"{n}.csv", ROWS) for n in "ab"] and p, r"none is called train; name the files: data.tr"),
    ],
)
def test_files_that_cannot_be_used_are_named(make, message: str, tmp_path: Path) -> None:
    with pytest.raises(EveryformerError, match=message):
        read_rows(Where(path=str(make(tmp_path))))


def test_options_are_checked_before_data_is_read() -> None:
    task = find_task("text-classification")
    with pytest.raises(EveryformerError, match=r"unknown key 'data.pahts'; did you mean 'path'"):
        task.open(pahts="nowhere.csv")
    with pytest.raises(EveryformerError, match=r"data.length takes int; given 'long'"):
        task.open(path="nowhere.csv", length="long")
    with pytest.raises(EveryformerError, match=r"data.tokens takes 'characters' or .* or 'bpe'; given 'sounds'"):
        task.open(path="nowhere.csv", tokens="sounds")
    with pytest.raises(EveryformerError, match="a list of float"):
        task.open(path="nowhere.csv", fractions=[0.8, "rest"])
    with pytest.raises(EveryformerError, match="the recipe names no data"):
        task.open()
    with pytest.raises(UnknownName, match="unknown task 'image-classificaton'; did you mean 'image-classification'"):
        find_task("image-classificaton")


def test_missing_parts_are_taken_from_the_training_part_alone(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", ROWS)
    table(tmp_path / "test.csv", ROWS[:4])
    where = Where(path=str(tmp_path), fractions=[0.8, 0.2, 0.0])
    parts = divide(read_rows(where), where, "label")
    assert {split: len(part) for split, part in parts.items()} == {"train": 16, "valid": 4, "test": 4}
    assert sorted(parts["train"].column("text") + parts["valid"].column("text")) == sorted(r["text"] for r in ROWS)
    assert sorted(parts["valid"].column("label")) == ["a", "a", "b", "b"]
    again = divide(read_rows(where), where, "label")
    assert again["valid"].column("text") == parts["valid"].column("text")
    limited = divide(read_rows(where), Where(fractions=[0.8, 0.2, 0.0], limit=3), "label")
    assert [len(part) for part in limited.values()] == [3, 3, 3]


def test_shares_must_be_shares(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ROWS)
    for wrong in ([0.5, 0.5], [0.9, 0.2, 0.1], [0.0, 0.5, 0.5], [1.1, -0.1, 0.0]):
        where = Where(path=str(path), fractions=wrong)
        with pytest.raises(EveryformerError, match=r"data.fractions takes the shares"):
            divide(read_rows(where), where)
    where = Where(path=str(table(tmp_path / "b.csv", ROWS[:3])))
    with pytest.raises(EveryformerError, match=r"10% of the 3 rows of .* are none"):
        divide(read_rows(where), where)


def test_places_are_even_within_each_class() -> None:
    labels = [0] * 70 + [1] * 30
    place = places(100, seed=3, labels=labels)
    for share in (0.1, 0.5):
        assert (place[:70] < share).sum() == 70 * share
        assert (place[70:] < share).sum() == 30 * share
    np.testing.assert_allclose(np.diff(np.sort(places(10, seed=0))), 0.1)


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        (ROWS, {"label": "lable"}, UnknownName, r"column in .*data.label.* 'lable'; did you mean 'label'"),
        ([{"words": "a", "kind": 1}] * 9, {}, EveryformerError, r"has the columns words, kind; .* data.input=COLUMN"),
        ([{"text": "a", "label": "x"}] * 30, {}, BadInput, "has the one class 'x'"),
        ([{"text": f"{i}", "label": i} for i in range(60)], {}, BadInput, "a class of its own in each of"),
        ([{"text": "a", "label": i / 3 + 0.1} for i in range(30)], {}, BadInput, "is no class"),
        (
            [{"text": f"t {i}", "label": i % 3} for i in range(30)], {"classes": 2},
            BadInput, r"label 2 in row \d+ of .* is none of the 2 classes \(0 to 1\)",
        ),
        (
            ROWS, {"classes": ["a", "c"]}, BadInput, r"label 'b' in row \d+ of .* is none of the 2 classes",
        ),
        ([{"text": 7, "label": i % 2} for i in range(30)], {}, BadInput, r"row 0 of .* has 7 in the column 'text', which"),
    ],
)  # fmt: skip
def test_columns_and_labels_are_checked_once(rows, options, error, message: str, tmp_path: Path) -> None:
    path = table(tmp_path / "mine.jsonl", rows)
    with pytest.raises(error, match=message):
        find_task("text-classification").open(path=str(path), tokens="bytes", **options)


def test_a_label_that_training_never_saw_is_named(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", ROWS)
    table(tmp_path / "test.csv", [{"text": "x", "label": "c"}])
    with pytest.raises(BadInput, match=r"label 'c' in row 0 of .*test.csv' \('test'\) is none of the 2 classes"):
        find_task("text-classification").open(path=str(tmp_path), tokens="bytes")


def test_a_folder_that_holds_no_task_is_named(tmp_path: Path) -> None:
    from everyformer.data import load_task

    with pytest.raises(EveryformerError, match=r"no task in .*'task.json' is missing"):
        load_task(tmp_path)


def test_a_table_may_name_pictures_beside_it(tmp_path: Path) -> None:
    pictures(tmp_path / "all", count=6)
    rows = [{"image": f"all/train/{c}/{i}.png", "label": c} for c in ("cat", "dog") for i in range(6)]
    path = table(tmp_path / "list.csv", rows)
    task = find_task("image-classification").open(path=str(path), fractions=[1.0, 0.0, 0.0])
    assert task.size("train") == 12
    assert task.classes == ["cat", "dog"]


def test_a_file_of_the_world_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        asked = 0

        def do_GET(self) -> None:
            Quiet.asked += 1
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    table(tmp_path / "world" / "mine.csv", ROWS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "world"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/mine.csv"
        for _ in range(2):
            assert len(read_rows(Where(source=["mine.csv", url]))["train"]) == 20
        assert Quiet.asked == 1
        with pytest.raises(EveryformerError, match=r"absent.csv' cannot be fetched .*404.*give data.path"):
            read_rows(Where(source=url.replace("mine", "absent")))
        assert [p.suffix for p in (tmp_path / "cache" / "everyformer").iterdir()] == [".csv"]
    finally:
        server.shutdown()
        server.server_close()


def test_a_share_of_the_training_part_is_even_and_part_of_a_larger_one():
    given = {"source": "digits"}
    few, more, whole = (find_task("image-classification").open(**given, train_share=s) for s in (0.1, 0.4, 1.0))
    assert [each.size("test") for each in (few, more, whole)] == [whole.size("test")] * 3
    assert few.size("train") == pytest.approx(0.1 * whole.size("train"), abs=6)
    pictures = [{row.numpy().tobytes() for row in each.parts["train"][0]} for each in (few, more, whole)]
    assert pictures[0] < pictures[1] < pictures[2]
    counts = np.bincount(few.parts["train"][1])
    assert counts.max() - counts.min() <= 3
    with pytest.raises(EveryformerError, match="train_share is above 0 and at most 1; given 0"):
        find_task("image-classification").open(**given, train_share=0.0)
