"""What looks the same is found, what does not is left alone, and groups join by reachability."""

import hashlib
import io
import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from sklearn.metrics import pairwise_distances

from histo_mlflow.data import leaks as auditing
from histo_mlflow.data._leak_candidates import PER_IMAGE, SURE_BITS, candidates, hashes
from histo_mlflow.data._leak_groups import bounded_groups, united
from histo_mlflow.data._leak_marks import make_marks, turned, turned_cosines
from histo_mlflow.data.leaks import alike_pixels, find_alike, find_leaks, joined_groups
from histo_mlflow.data.pack import Item, pack_images
from histo_mlflow.errors import DataError
from histo_mlflow.vision.decode import DecodeRule

PX = 96


def scene(seed: int, px: int = PX) -> np.ndarray:
    """A blob on a background with texture of several sizes: nothing in it is repeated."""
    rng = np.random.default_rng([7, seed])
    grey = sum(
        np.asarray(
            Image.fromarray(rng.normal(0, 1, (n, n)).astype(np.float32)).resize(
                (px, px), Image.Resampling.BICUBIC
            )
        )
        * (40 / n**0.5)
        for n in (4, 8, 16, 32)
    )
    return (140 + grey[..., None] + np.array([30, 0, 10])).clip(0, 255).astype(np.uint8)


def recompressed(image: np.ndarray, quality: int = 60) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def brightened(image: np.ndarray) -> np.ndarray:
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(1.15))


def recoloured(image: np.ndarray) -> np.ndarray:
    return (image * np.array([0.8, 1.0, 0.9])).astype(np.uint8)


def cropped(image: np.ndarray, pixels: int = 3) -> np.ndarray:
    px = image.shape[0]
    box = (pixels, pixels, px - pixels, px - pixels)
    return np.asarray(Image.fromarray(image).crop(box).resize((px, px), Image.Resampling.BILINEAR))


def stacked(*images: np.ndarray) -> np.ndarray:
    """These images among 30 others."""
    return np.stack([*images, *(scene(1_000 + i) for i in range(30))])


def found(pixels: np.ndarray) -> set[tuple[int, int, str]]:
    pairs = find_alike(pixels, progress=False).pairs
    return set(zip(pairs["a"], pairs["b"], pairs["kind"], strict=True))


def packed(pixels, folder, name="pack"):
    """A real pack whose rows are exactly these pixels."""
    items = []
    for i, image in enumerate(pixels):
        path = folder / f"{name}_{i:03d}.png"
        Image.fromarray(image).save(path)
        items.append(Item(f"{name}_{i:03d}", path))
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    rule = DecodeRule(image_px=pixels.shape[1])
    return pack_images(items, digests, rule, folder / "cache", progress=False)


def test_different_images_are_not_linked():
    assert found(np.stack([scene(i) for i in range(150)])) == set()


@pytest.mark.parametrize("turn", range(8))
def test_equal_pixels_are_found_in_every_turn(turn):
    original = scene(0)
    pairs = find_alike(stacked(original, turned(original[None], turn)[0]), progress=False).pairs

    assert pairs[["a", "b", "kind", "distance"]].to_numpy().tolist() == [[0, 1, "equal", 0.0]]
    copy = turned(original[None], turn)
    assert np.array_equal(turned(copy, int(pairs["turn"][0]))[0], original)


@pytest.mark.parametrize(
    "change", [recompressed, brightened, recoloured, cropped], ids=lambda change: change.__name__
)
@pytest.mark.parametrize("turn", [0, 1, 6])
def test_a_changed_copy_is_a_near_duplicate_also_turned(change, turn):
    original = scene(1)
    assert found(stacked(original, turned(change(original)[None], turn)[0])) == {(0, 1, "near")}


@pytest.mark.parametrize("px", [16, 32, 224])
def test_small_and_large_packs_are_searched_alike(px):
    original = scene(2, px)
    others = [scene(1_000 + i, px) for i in range(30)]

    assert found(np.stack([original, brightened(original), *others])) == {(0, 1, "near")}


def test_many_copies_give_one_pair_less_than_there_are_copies():
    assert len(found(stacked(*[scene(3)] * 6))) == 5


def barred(image: np.ndarray) -> np.ndarray:
    """A strip between black bars, as of a wide photograph."""
    bar = image.shape[0] // 3
    framed = np.zeros_like(image)
    framed[bar:-bar] = image[bar:-bar]
    return framed


def round_framed(image: np.ndarray) -> np.ndarray:
    """Black outside a circle, as under a dermatoscope."""
    at = np.arange(image.shape[0]) - (image.shape[0] - 1) / 2
    inside = np.hypot(at, at[:, None]) < 0.3 * image.shape[0]
    return (image * inside[..., None]).astype(np.uint8)


def captioned(image: np.ndarray) -> np.ndarray:
    """With a ruler at the lower border."""
    marked = image.copy()
    marked[-14:, ::4] = 20
    marked[4:12, 4:60:3] = 255
    return marked


@pytest.mark.parametrize("frame", [barred, round_framed, captioned], ids=lambda f: f.__name__)
def test_what_all_images_have_in_common_links_none_and_hides_none(frame):
    """Black bars, a round frame or a ruler are most of the detail that such images have."""
    others = [frame(scene(i)) for i in range(150)]
    copies = [frame(recompressed(scene(i), quality=40)) for i in range(10)]

    got = found(np.stack([*others, *copies]))

    assert got == {(i, 150 + i, "near") for i in range(10)}


@pytest.mark.parametrize("n", [2, 3, 10, 50])
def test_a_pair_is_found_in_a_set_of_any_size(n):
    """In a small one the mean is mostly the pair itself, and must not be taken away."""
    others = [scene(1_000 + i) for i in range(n - 2)]

    assert found(np.stack([scene(0), recompressed(scene(0)), *others])) == {(0, 1, "near")}


@pytest.mark.parametrize(("copies", "others"), [(10, 0), (40, 10), (190, 10)])
def test_a_photograph_that_is_most_of_the_set_is_not_taken_for_a_common_pattern(copies, others):
    altered = [
        recompressed((scene(0) * (1 - 0.2 * i / copies)).astype(np.uint8), 40 + i % 50)
        for i in range(copies)
    ]
    pixels = np.stack([*altered, *(scene(1_000 + i) for i in range(others))])
    rows = find_alike(pixels, progress=False).pairs[["a", "b"]].to_numpy(np.int64)

    assert united(len(pixels), rows.tolist()).tolist() == [0] * copies + list(
        range(copies, copies + others)
    )


def test_flat_images_are_linked_to_nothing():
    """Blank patches are equal, or nearly; joining them would chain all slides."""
    rng = np.random.default_rng(0)
    blank = [np.full((PX, PX, 3), 240, np.uint8)] * 20
    noisy = [np.clip(240 + rng.normal(0, 0.4, (PX, PX, 3)), 0, 255).astype(np.uint8)] * 20
    alike = find_alike(stacked(*blank, *noisy), progress=False)

    assert alike.flat == 40
    assert alike.pairs.empty


def test_a_data_set_of_blank_images_only_has_no_pairs():
    assert find_alike(np.zeros((5, PX, PX, 3), np.uint8), progress=False).pairs.empty


def test_one_image_has_no_pairs():
    assert found(scene(0)[None]) == set()


def test_turned_cosines_are_those_of_the_turned_image():
    images = np.stack([scene(i) for i in range(4)])
    plain = make_marks(images, lambda n: None).cosines
    for turn in range(8):
        of_turned = make_marks(np.ascontiguousarray(turned(images, turn)), lambda n: None).cosines
        np.testing.assert_allclose(turned_cosines(plain, turn), of_turned, atol=1e-4)


def test_turns_are_those_of_pillow():
    image = scene(0)
    pillow = Image.fromarray(image)
    assert np.array_equal(
        turned(image[None], 1)[0], np.asarray(pillow.transpose(Image.Transpose.ROTATE_90))
    )
    assert np.array_equal(
        turned(image[None], 4)[0], np.asarray(pillow.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )


def test_no_pair_within_the_sure_bits_is_missed():
    """Against all pairs of 200 images in all turns, by scikit-learn's Hamming distance."""
    base = [scene(i) for i in range(100)]
    images = np.stack([*base, *(cropped(brightened(image), 2) for image in base)])
    of_turns = hashes(make_marks(images, lambda n: None).cosines)
    bits = [np.unpackbits(h.view(np.uint8).reshape(-1, 8), axis=1) for h in of_turns]
    expected = set()
    for turn in range(8):
        distance = np.rint(64 * pairwise_distances(bits[0] > 0, bits[turn] > 0, metric="hamming"))
        a, b = np.nonzero(distance <= SURE_BITS)
        expected |= {(i, j, turn, int(distance[i, j])) for i, j in zip(a, b, strict=True) if i < j}

    got = {tuple(map(int, row)) for row in candidates(of_turns, np.zeros(200, bool))}

    assert len(expected) > 80
    assert expected <= got


def test_candidates_stay_few_where_all_images_hash_alike():
    same = [np.zeros(5_000, np.uint64) for _ in range(8)]
    assert len(candidates(same, np.zeros(5_000, bool))) <= 2 * PER_IMAGE * 5_000


@pytest.mark.parametrize("seed", range(5))
def test_union_find_agrees_with_walking_the_links(seed):
    rng = np.random.default_rng(seed)
    links = rng.integers(0, 40, (25, 2)).tolist()
    reach = np.eye(40, dtype=bool)
    for a, b in links:
        reach[a, b] = reach[b, a] = True
    for _ in range(40):
        reach = reach @ reach
    assert united(40, links).tolist() == reach.argmax(axis=1).tolist()


def test_groups_join_through_a_third_and_are_called_after_the_first_name():
    groups = ["d", "c", "b", "a", "c"]
    links = np.array([(0, 1), (4, 2)])  # d - c and c - b: d, c and b are one

    assert joined_groups(groups, links) == ("b", "b", "b", "a", "b")
    assert joined_groups(groups, np.empty((0, 2), np.int64)) == tuple(groups)


def test_the_audit_names_groups_labels_and_conflicts(tmp_path):
    images = np.stack([scene(0), scene(0), brightened(scene(0)), scene(5), scene(6)])
    audit = find_leaks(
        packed(images, tmp_path),
        ["g1", "g1", "g2", "g3", "g4"],
        ["x", "x", "y", "x", "y"],
        tmp_path,
        progress=False,
    )
    facts = audit.summary()

    assert audit.groups == ("g1", "g1", "g1", "g3", "g4")
    assert (facts["equal_pairs_within_groups"], facts["near_pairs_across_groups"]) == (1, 2)
    assert facts["pairs_with_different_labels"] == 2
    assert (facts["declared_groups"], facts["leak_groups"]) == (4, 3)
    assert audit.crossing(["train", "train", "test", "val", "test"]) == 3
    assert audit.crossing(["train", "train", "train", "val", "test"]) == 0


def test_a_pack_is_looked_through_once_and_groups_are_laid_over_it_anew(tmp_path, monkeypatch):
    pack = packed(stacked(scene(0), brightened(scene(0))), tmp_path)
    labels = ["x"] * pack.n
    first = find_leaks(pack, list(pack.ids), labels, tmp_path, progress=False)
    monkeypatch.setattr(auditing, "find_alike", lambda *_, **__: pytest.fail("searched again"))
    second = find_leaks(pack, list(pack.ids), labels, tmp_path, progress=False)

    assert second.groups == first.groups
    assert second.summary() == first.summary()
    pd.testing.assert_frame_equal(second.pairs, first.pairs)
    one_group = find_leaks(pack, ["g"] * pack.n, labels, tmp_path, progress=False)
    assert one_group.summary()["near_pairs_within_groups"] == 1


def test_a_damaged_cache_is_made_anew(tmp_path):
    pack = packed(stacked(scene(0), brightened(scene(0))), tmp_path)
    first = alike_pixels(pack, tmp_path, progress=False)
    (kept,) = (tmp_path / "leaks").iterdir()
    whole = kept.read_text()
    facts = json.loads(whole)
    pairs = facts["pairs"]
    others = (
        facts | {"pairs": pairs | {"b": [1_000_000]}},
        facts | {"pairs": pairs | {"b": [-1]}},
        facts | {"pairs": pairs | {"kind": ["other"]}},
        facts | {"pairs": None},
        facts | {"threshold": "x"},
        facts | {"flat": None},
        facts | {"more": 1},
    )
    texts = ("", "{", "[]", "5", "null", '{"format": 1}', "[" * 100_000, whole[: len(whole) // 2])
    for damage in (*texts, *map(json.dumps, others)):
        assert damage != whole
        kept.write_text(damage)
        pd.testing.assert_frame_equal(
            alike_pixels(pack, tmp_path, progress=False).pairs, first.pairs
        )
        assert json.loads(kept.read_text())["pairs"] == pairs


def test_the_search_is_deterministic():
    pixels = stacked(scene(0), cropped(scene(0)), recompressed(scene(0)))
    first, second = (find_alike(pixels, progress=False) for _ in range(2))

    pd.testing.assert_frame_equal(first.pairs, second.pairs)
    assert first.threshold == second.threshold


def test_near_duplicates_that_would_chain_the_data_set_are_told_and_not_joined(tmp_path):
    copies = [(scene(0) * (1 - 0.01 * i)).astype(np.uint8) for i in range(25)]
    pixels = stacked(*copies, copies[0])
    audit = find_leaks(
        packed(pixels, tmp_path),
        [f"g{i:02d}" for i in range(len(pixels))],
        ["x"] * len(pixels),
        tmp_path,
        progress=False,
    )

    assert audit.held_back
    assert audit.largest == 26
    assert len(set(audit.groups)) == len(pixels) - 1  # the equal pair is joined all the same
    assert audit.summary()["near_pairs_across_groups"] >= 24


def test_a_crowd_of_copies_is_joined_and_leaves_all_other_pairs_alone(tmp_path):
    """30 copies of one photograph, 20 pairs, and 60 images of which there is one each."""
    copies = [recompressed(turned(cropped(scene(0), i % 5)[None], i % 8)[0]) for i in range(30)]
    pairs = [image for i in range(1, 21) for image in (scene(i), brightened(scene(i)))]
    pixels = np.stack([*copies, *pairs, *(scene(1_000 + i) for i in range(60))])
    names = [f"g{i:03d}" for i in range(len(pixels))]
    audit = find_leaks(
        packed(pixels, tmp_path), names, ["x"] * len(names), tmp_path, progress=False
    )

    expected = ["g000"] * 30 + [names[30 + 2 * (i // 2)] for i in range(40)] + names[70:]
    assert list(audit.groups) == expected
    assert audit.held_back == 0


def test_a_crowd_too_large_to_split_is_held_back_and_other_pairs_are_joined(tmp_path):
    copies = [(scene(0) * (1 - 0.01 * i)).astype(np.uint8) for i in range(25)]
    pixels = stacked(*copies, scene(1), brightened(scene(1)))
    names = [f"g{i:02d}" for i in range(len(pixels))]
    audit = find_leaks(
        packed(pixels, tmp_path), names, ["x"] * len(names), tmp_path, progress=False
    )

    assert list(audit.groups) == [*names[:26], "g25", *names[27:]]
    assert audit.held_back == audit.summary()["near_pairs_held_back"] == len(audit.pairs) - 1
    splits = ["train", "test"] * len(names)
    assert audit.crossing(splits[: len(names)]) == 27


def names_of(n: int) -> list[str]:
    return [f"{i:03d}" for i in range(n)]


def sizes(groups: tuple[str, ...]) -> list[int]:
    return sorted(pd.Series(groups).value_counts().tolist(), reverse=True)


def test_a_chain_falls_into_small_groups_and_a_pair_beside_it_is_joined():
    links = np.array([*((i, i + 1) for i in range(99)), (100, 101)])
    groups = bounded_groups(names_of(120), links, allowed=20, most=30)

    assert groups[100] == groups[101]
    assert max(sizes(groups)) <= 4
    assert len(set(groups[102:])) == 18


def test_two_crowds_linked_by_one_coincidence_are_two_groups():
    crowds = [*combinations(range(40), 2), *combinations(range(40, 80), 2), (39, 40)]
    groups = bounded_groups(names_of(200), np.array(crowds), allowed=20, most=50)

    assert sizes(groups)[:3] == [40, 40, 1]
    assert len(set(groups[:40])) == len(set(groups[40:80])) == 1


def test_a_crowd_takes_those_with_it_that_its_hub_does_not_reach():
    star = [(0, i) for i in range(1, 25)]
    groups = bounded_groups(
        names_of(120), np.array([*star, (24, 25), (25, 26)]), allowed=20, most=30
    )

    assert sizes(groups)[0] == 27


@pytest.mark.parametrize("seed", range(3))
def test_groups_below_the_bound_are_those_of_plain_joining(seed):
    rng = np.random.default_rng(seed)
    names = [f"g{i // 2}" for i in range(60)]
    links = rng.integers(0, 60, (15, 2))

    assert bounded_groups(names, links, 60, 60) == joined_groups(names, links)


def test_large_groups_are_chained_no_further_than_allowed():
    """Six slides of 100 patches, each linked with the next by one patch."""
    names = [f"slide{i // 100}" for i in range(600)]
    links = np.array([(i - 1, i) for i in range(100, 600, 100)])

    assert sizes(bounded_groups(names, links, allowed=200, most=300)) == [300, 300]
    assert sizes(bounded_groups(names, links, allowed=200, most=200)) == [100] * 6


def test_a_large_declared_group_is_no_reason_to_hold_back(tmp_path):
    pixels = stacked(scene(0), brightened(scene(0)))
    audit = find_leaks(
        packed(pixels, tmp_path), ["a"] + ["b"] * 31, ["x"] * 32, tmp_path, progress=False
    )

    assert not audit.held_back
    assert set(audit.groups) == {"a"}


def test_groups_that_do_not_fit_the_pack_are_refused(tmp_path):
    pack = packed(stacked(), tmp_path)
    with pytest.raises(DataError, match="30 packed images needs a group and a label: got 1 groups"):
        find_leaks(pack, ["g"], ["x"] * 30, tmp_path, progress=False)


def test_the_byte_identical_pairs_of_ham10000_are_found_among_others(realdata, tmp_path):
    """And the photograph that stands under two lesions in two white balances."""
    root = realdata / "ham10000_all_200x150"
    table = pd.read_csv(root / "HAM10000_metadata.csv")
    equal = [("ISIC_0029861", "ISIC_0024366"), ("ISIC_0029938", "ISIC_0024777")]
    near = ("ISIC_0030074", "ISIC_0025226")
    named = [*equal[0], *equal[1], *near]
    others = table[~table["image_id"].isin(named)].drop_duplicates("lesion_id")["image_id"]
    ids = [*named, *others.sample(300, random_state=0)]
    paths = {path.stem: path for path in root.glob("*_part_*/*.jpg")}
    items = [Item(name, paths[name]) for name in ids]
    rule = DecodeRule(image_px=96, fit="squash")
    pack = pack_images(items, ids, rule, tmp_path, progress=False)
    lesions = table.set_index("image_id")["lesion_id"][ids].tolist()
    audit = find_leaks(pack, lesions, ["x"] * len(ids), tmp_path, progress=False)

    of_kind = {
        kind: {frozenset(pair) for pair in rows[["id_a", "id_b"]].to_numpy().tolist()}
        for kind, rows in audit.pairs.groupby("kind")
    }
    assert of_kind["equal"] == {frozenset(pair) for pair in equal}
    across = audit.pairs[audit.pairs["across"]]
    assert across[["id_a", "id_b"]].to_numpy().tolist() == [list(near)]


def test_pairs_are_ordered_rows():
    pixels = stacked(*(cropped(scene(0), k) for k in range(3)))
    pairs = find_alike(pixels, progress=False).pairs
    assert set(zip(pairs["a"], pairs["b"], strict=True)) == set(combinations(range(3), 2))
