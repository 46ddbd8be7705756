"""Which photographs are taken for one."""

import io

import numpy as np
import pytest
from PIL import Image

from attrloop.components.gold.fingerprint import alike, as_array, fingerprint, near
from tests.photographs import COPIES, photograph, recoloured

MANY = 60


def prints(images: list[Image.Image]) -> np.ndarray:
    return as_array([fingerprint(image) for image in images])


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    return [photograph(number) for number in range(MANY)]


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_in_another_size_format_or_quality_is_the_same_photograph(originals, copy):
    copies = [Image.open(io.BytesIO(COPIES[copy](image))).convert("RGB") for image in originals]
    found = alike(prints(originals), prints(copies))
    assert found.sum() >= 0.95 * MANY


def test_other_photographs_are_not(originals):
    assert not len(near(prints(originals)))


def test_the_same_thing_in_another_colour_is_another_photograph(originals):
    assert not alike(prints(originals), prints([recoloured(image) for image in originals])).any()


def test_pictures_without_detail_are_never_alike():
    blank = [Image.new("RGB", (50, 50), (shade, shade, shade)) for shade in (254, 255, 255)]
    assert not len(near(prints(blank)))


def test_the_search_finds_what_comparing_all_with_all_finds(originals):
    copies = [Image.open(io.BytesIO(change(image))).convert("RGB") for change in COPIES.values() for image in originals]
    every = prints([*originals, *copies])
    one, other = np.triu_indices(len(every), 1)
    all_pairs = np.stack([one, other], 1)[alike(every[one], every[other])]
    found = {tuple(pair) for pair in near(every).tolist()}
    missed = {tuple(pair) for pair in all_pairs.tolist()} - found
    assert found <= {tuple(pair) for pair in all_pairs.tolist()}
    assert len(missed) <= 0.01 * len(all_pairs)


def test_of_very_many_copies_each_is_found_with_some_other(originals):
    crowd = prints([originals[0]]).repeat(500, axis=0)
    assert len(set(near(crowd).ravel().tolist())) == 500


def test_nothing_is_near_in_nothing():
    assert near(as_array([])).shape == (0, 2)
