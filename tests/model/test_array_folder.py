import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.array_folder import DTYPES, HEADER, ArraysUnusable, ArrayWriter, map_arrays, open_arrays, touch
from tests.model.test_bundle import disk_with_room_for

FACTS = {"version": "v1", "sequence": 7}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two arrays, `a` of 5 rows in two chunks and `b` of 2."""
    with ArrayWriter(tmp_path / "t") as writer:
        writer.append("a", torch.arange(6.0).view(3, 2))
        writer.append("b", np.array([1, -2]))
        writer.append("a", torch.arange(6.0, 10.0).view(2, 2))
        writer.close(FACTS)
    return tmp_path / "t"


def test_arrays_written_in_chunks_are_opened_whole_with_their_facts(folder: Path) -> None:
    arrays, facts = open_arrays(folder)

    assert facts == FACTS
    assert torch.equal(arrays["a"], torch.arange(10.0).view(5, 2))
    assert arrays["b"].tolist() == [1, -2]


@pytest.mark.parametrize("count", [0, 1])
def test_none_or_one_number_is_written_whatever_its_stride(count: int, tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "t") as writer:
        writer.append("x", torch.tensor([3]).as_strided((count,), (0,)))
        writer.close({})

    assert open_arrays(tmp_path / "t")[0]["x"].tolist() == [3] * count


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(4, 3), (0, 3), (4,), (4, 0)])
def test_every_type_and_shape_comes_back_as_it_was(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = torch.arange(int(np.prod(shape))).view(shape).to(DTYPES[name])
    with ArrayWriter(tmp_path / "t") as writer:
        writer.append("x", array)
        writer.close({})

    (opened,) = open_arrays(tmp_path / "t")[0].values()

    assert (opened.dtype, opened.shape) == (array.dtype, array.shape)
    assert opened.tolist() == array.tolist()


def test_what_is_written_to_an_opened_array_stays_in_this_process(folder: Path) -> None:
    open_arrays(folder)[0]["a"].fill_(0)

    assert open_arrays(folder)[0]["a"].sum() == 45


def test_pages_are_let_go_in_steps_and_mapped_again_where_they_are_read(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "t") as writer:
        writer.append("big", torch.ones((2 << 20) + 1, dtype=torch.uint8))
        writer.append("none", torch.ones(0, 2))
        writer.append("small", torch.ones(3))
        writer.close({})
    mapped, pauses = map_arrays(tmp_path / "t"), list[None]()
    for name in ("big", "small"):
        mapped.arrays[name].fill_(7)  # which is gone with its page

    mapped.pages.let_go(lambda: pauses.append(None))

    assert len(pauses) == 4
    assert all(bool((array == 1).all()) for array in mapped.arrays.values())


def test_an_opened_array_outlives_its_folder(folder: Path) -> None:
    arrays, _ = open_arrays(folder)
    with ArrayWriter(folder) as writer:
        writer.append("a", torch.zeros(1))
        writer.close({})

    assert arrays["a"].sum() == 45
    assert list(open_arrays(folder)[0]) == ["a"]


def test_touching_reads_in_steps_with_a_pause_after_each(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "t") as writer:
        writer.append("big", torch.ones(9 << 20, dtype=torch.uint8))
        writer.append("none", torch.ones(0, 2))
        writer.close({})
    pauses: list[None] = []

    touch(open_arrays(tmp_path / "t")[0].values(), lambda: pauses.append(None))

    assert len(pauses) == 3


def test_nothing_stands_there_until_it_is_closed(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "t") as writer:
        writer.append("a", torch.ones(2))
        assert not (tmp_path / "t").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    def write() -> None:
        with ArrayWriter(tmp_path / "t") as writer:
            for _ in range(1000):
                writer.append("a", torch.ones(100))
                writer.append("b", torch.ones(100))

    with disk_with_room_for(50_000), pytest.raises(OSError, match="File too large"):
        write()

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".t.partial").mkdir()
    (tmp_path / ".t.partial" / "b").write_bytes(b"half")

    with ArrayWriter(tmp_path / "t") as writer:
        writer.append("b", torch.ones(2))
        writer.close({})

    assert open_arrays(tmp_path / "t")[0]["b"].tolist() == [1, 1]


def test_a_chunk_unlike_those_before_it_is_refused(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "t") as writer:
        writer.append("a", torch.ones(2, 3))
        with pytest.raises(ValueError, match=r"'a'.*float32.*\(3,\)"):
            writer.append("a", torch.ones(2, 4))
        with pytest.raises(ValueError, match="float64"):
            writer.append("a", torch.ones(2, 3).double())
        with pytest.raises(ValueError, match=r"'flags' is of torch\.bool"):
            writer.append("flags", torch.ones(2, dtype=torch.bool))


def changed(place: Path, change: Callable[[bytes], bytes]) -> None:
    place.write_bytes(change(place.read_bytes()))


def test_a_truncated_file_is_refused_naming_it_what_it_has_and_what_was_written(folder: Path) -> None:
    changed(folder / "a", lambda content: content[:-1])
    with pytest.raises(ArraysUnusable, match=r"t/a has 39 bytes where 40 were written; remove"):
        open_arrays(folder)


def test_a_file_with_more_in_it_is_refused(folder: Path) -> None:
    changed(folder / "b", lambda content: content + b"\0")
    with pytest.raises(ArraysUnusable, match=r"t/b has 17 bytes where 16"):
        open_arrays(folder)


def test_a_missing_array_is_refused_naming_it(folder: Path) -> None:
    (folder / "b").unlink()
    with pytest.raises(ArraysUnusable, match=r"t/b cannot be read \(No such file"):
        open_arrays(folder)


def test_no_header_is_no_folder_of_arrays(folder: Path, tmp_path: Path) -> None:
    (folder / HEADER).unlink()
    for place in (folder, tmp_path / "never"):
        with pytest.raises(ArraysUnusable, match=r"arrays\.json cannot be read .*No such file"):
            open_arrays(place)


def test_any_flipped_byte_of_the_header_is_refused(folder: Path) -> None:
    whole = (folder / HEADER).read_bytes()
    for place in range(len(whole)):
        flipped = bytes([*whole[:place], whole[place] ^ 1, *whole[place + 1 :]])
        if _values(flipped) != _values(whole):  # white space may change
            (folder / HEADER).write_bytes(flipped)
            with pytest.raises(ArraysUnusable, match=r"arrays\.json"):
                open_arrays(folder)


def _values(header: bytes) -> object:
    try:
        return json.loads(header)
    except ValueError:
        return None


@pytest.mark.parametrize("text", ["", "[]", "7", "null", "{}", "\\xff", '{"format": 1, "facts": {}, "arrays": {}}'])
def test_another_file_is_no_header(text: str, folder: Path) -> None:
    (folder / HEADER).write_text(text)
    with pytest.raises(ArraysUnusable, match=r"arrays\.json"):
        open_arrays(folder)


def test_another_format_is_refused_naming_both(folder: Path) -> None:
    changed(folder / HEADER, lambda text: text.replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(ArraysUnusable, match="format 2 where 1 is read"):
        open_arrays(folder)
