"""``evaluate particles``: files in, scores out, by every rule; what is wrong is said in words."""

import json
import math

import numpy as np
import pytest
from scipy.ndimage import generate_binary_structure, grey_dilation

from cryoscale import picking
from cryoscale.cli import main
from cryoscale.io.mrc import write_mrc
from cryoscale.picking import Radii, score_particles
from tests.evaluate.test_occupancy import PREDICTIONS, TRUTH, by_the_book
from tests.plans import traced_peak

SHAPE = (40, 24, 28)


def write_list(path, rows, tail=""):
    path.write_text("".join(f"{name} {x} {y} {z}{tail}\n" for name, x, y, z in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    """The hand-made volume of the rule's own test."""
    volume = np.zeros((12, 20, 20), np.int16)
    for number, (_, x, y, z) in enumerate(TRUTH, 1):
        volume[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = number
    volume[2:5, 2:5, 5:8] = 2
    write_mrc(tmp_path / "occupancy_mask.mrc", volume, 10.0)
    write_list(tmp_path / "particle_locations.txt", TRUTH, " 10 -20 30")
    write_list(tmp_path / "picks.txt", PREDICTIONS)
    return tmp_path


def evaluate(folder, capsys, *more):
    code = main(["evaluate", "particles", str(folder / "picks.txt"), "--truth", str(folder), *more])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_by_hand(folder, capsys):
    code, out, _ = evaluate(folder, capsys, "--rule", "shrec2021", "--json")
    scores = json.loads(out)
    assert code == 0
    expected, _ = by_the_book(TRUTH, grey_mask(folder), PREDICTIONS)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert (scores["recall"], scores["precision"], scores["outside"]) == (4 / 6, 4 / 10, 1)
    assert scores["confusion"]["1s3x"] == {"1s3x": 1, "3qm1": 1, "fiducial": 0, "background": 0}
    assert scores["classes"]["1s3x"]["f1"] == 0.5


def grey_mask(folder):
    source = picking.open_source(folder / "occupancy_mask.mrc")
    return source.read((0, 0, 0), source.shape)


@pytest.mark.parametrize("rule", ["shrec2021", "radius", "czii"])
def test_every_table_names_its_rules(folder, capsys, rule):
    more = [] if rule == "shrec2021" else ["--radius", "30"]
    code, out, _ = evaluate(folder, capsys, "--rule", rule, *more)
    assert code == 0
    assert f"rule {rule}\n  match: {picking._MATCH_RULES[rule]}\n  count: {picking._COUNT_RULES[rule]}" in out
    assert f"classes, rule {rule} as above" in out
    scores = json.loads(evaluate(folder, capsys, "--rule", rule, *more, "--json")[1])
    assert (scores["match_rule"], scores["count_rule"]) == (picking._MATCH_RULES[rule], picking._COUNT_RULES[rule])
    assert "match rule" not in out


def random_case(folder, seed):
    rng = np.random.default_rng(seed)
    names = np.array(["1bxn", "3cf3", "vesicle", "4V94", "fiducial"])
    centres = rng.integers(1, np.array(SHAPE) - 1, (60, 3))
    volume = np.zeros(SHAPE, np.float32)
    for number, centre in enumerate(centres, 1):
        volume[tuple(np.s_[c - 1 : c + 2] for c in centre)] = number
    truth = [(str(rng.choice(names)), *map(int, c[::-1])) for c in centres]
    near = centres[rng.integers(0, 60, 90)] + rng.normal(0, 1.5, (90, 3))
    picks = [(str(rng.choice(names)), *np.round(c[::-1], 3).tolist()) for c in near]
    write_mrc(folder / "occupancy_mask.mrc", volume, 10.0)
    write_list(folder / "particle_locations.txt", truth)
    write_list(folder / "picks.txt", picks)
    return truth, volume.astype(int), picks


@pytest.mark.parametrize("slices", [1, 3, 16, 64])
def test_slabs_do_not_matter(tmp_path, monkeypatch, slices):
    monkeypatch.setattr(picking, "_SLAB_SLICES", slices)
    truth, mask, picks = random_case(tmp_path, 3)
    expected, classes = by_the_book(truth, mask, picks)
    scores = score_particles(tmp_path / "picks.txt", tmp_path)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    for name, counts in scores["classes"].items():
        three = tuple(counts[key] for key in ("true_positive", "false_positive", "false_negative"))
        assert three == classes[name.upper()]


def test_a_slab_without_its_neighbours_differs(tmp_path, monkeypatch):
    truth, mask, _ = random_case(tmp_path, 3)
    everywhere = np.argwhere(np.ones(mask.shape, bool))
    source = picking.open_source(tmp_path / "occupancy_mask.mrc")
    dilated = grey_dilation(mask, footprint=generate_binary_structure(3, 1), mode="constant", cval=0).ravel()
    monkeypatch.setattr(picking, "_SLAB_SLICES", 7)
    np.testing.assert_array_equal(picking._look_up(source, everywhere, len(truth)), dilated)
    cut = [picking.dilated_at(mask[low : low + 7], np.argwhere(mask[low : low + 7] >= 0)) for low in range(0, 40, 7)]
    assert (np.concatenate(cut) != dilated).any()


def test_memory_is_a_slabs(tmp_path):
    volume = np.zeros((320, 128, 128), np.int16)
    volume[80, 60, 60] = 1
    write_mrc(tmp_path / "occupancy_mask.mrc", volume, 10.0)
    write_list(tmp_path / "particle_locations.txt", [("a", 60, 60, 80)])
    write_list(tmp_path / "picks.txt", [("a", 61, 60, 80)])
    scores, peak = traced_peak(lambda: score_particles(tmp_path / "picks.txt", tmp_path))
    assert scores["f1"] == 1.0
    assert peak < volume.nbytes / 4 < 5 * (picking._SLAB_SLICES + 2) * 2 * 128**2


def test_by_radius(tmp_path):
    truth = [("a", 10, 10, 10), ("a", 14, 10, 10), ("b", 30, 10, 10)]
    picks = [("a", 13, 10, 10), ("a", 8, 10, 10), ("b", 14.5, 10, 10), ("b", 31, 10, 10), ("c", 1, 1, 1)]
    write_list(tmp_path / "particle_locations.txt", truth)
    write_list(tmp_path / "picks.txt", picks)
    scores = score_particles(tmp_path / "picks.txt", tmp_path, rule="radius", radii=Radii(angstrom=30.0, apix=10.0))
    assert (scores["true_positive"], scores["false_positive"], scores["false_negative"]) == (3, 2, 0)
    assert scores["mean_distance_angstrom"] == pytest.approx((20 + 5 + 10) / 3)
    assert scores["classes"]["a"]["f1"] == 1.0 and scores["classes"]["b"]["precision"] == 0.5
    (tmp_path / "radii.txt").write_text("a 15\nb 5\n")
    listed = Radii(str(tmp_path / "radii.txt"), apix=10.0)
    scores = score_particles(tmp_path / "picks.txt", tmp_path, rule="radius", radii=listed)
    assert scores["true_positive"] == 1 and scores["classes"]["b"]["true_positive"] == 0


def test_by_the_rule_of_czii(tmp_path):
    truth = [
        ("ribosome", 10, 10, 10),
        ("ribosome", 40, 10, 10),
        ("beta-amylase", 30, 10, 10),
        ("thyroglobulin", 5, 5, 5),
    ]
    picks = [
        ("ribosome", 17.5, 10, 10),  # exactly half the radius of 150 Å
        ("ribosome", 11, 10, 10),  # the same particle again
        ("ribosome", 47.6, 10, 10),  # just too far
        ("thyroglobulin", 5, 5, 5),
        ("apo-ferritin", 5, 5, 5),  # no such class in the truth: out of the score, as the challenge has it
    ]
    write_list(tmp_path / "particle_locations.txt", truth)
    write_list(tmp_path / "picks.txt", picks)
    scores = score_particles(tmp_path / "picks.txt", tmp_path, rule="czii", radii=Radii(apix=10.0))
    ribosome = scores["classes"]["ribosome"]
    assert (ribosome["true_positive"], ribosome["false_positive"], ribosome["false_negative"]) == (1, 2, 1)
    assert ribosome["f_beta"] == pytest.approx(17 / (17 + 16 + 2))
    # Weights 1, 0 and 2.
    assert scores["f_beta"] == pytest.approx((17 / 35 + 2) / 3)
    assert scores["of_other_classes"] == 1


def test_voxel_size_comes_from_the_mask_or_is_asked_for(folder, capsys):
    code, out, _ = evaluate(folder, capsys, "--rule", "radius", "--radius", "30", "--json")
    stated = evaluate(folder, capsys, "--rule", "radius", "--radius", "30", "--json", "--apix", "10")[1]
    assert code == 0 and out == stated
    (folder / "occupancy_mask.mrc").unlink()
    code, _, err = evaluate(folder, capsys, "--rule", "radius", "--radius", "30")
    assert code != 0 and "--apix" in err


def broken():
    yield "truth missing", lambda f: (f / "particle_locations.txt").unlink(), "particle_locations.txt: cannot be opened"
    yield "mask missing", lambda f: (f / "occupancy_mask.mrc").unlink(), "occupancy_mask.mrc: cannot be opened"
    yield "picks missing", lambda f: (f / "picks.txt").unlink(), "picks.txt: cannot be opened"
    yield "picks malformed", lambda f: (f / "picks.txt").write_text("a 1 2 3\na 1 2\n"), "picks.txt line 2"
    yield "picks not numbers", lambda f: (f / "picks.txt").write_text("a nan 2 3\n"), "picks.txt line 1"
    yield "truth empty", lambda f: (f / "particle_locations.txt").write_text(""), "no particles to find"
    yield "mask of another shape", lambda f: mask(f, np.zeros((20, 20, 9), np.int16)), "lies outside the occupancy mask"
    yield "number beyond the list", lambda f: mask(f, np.full((12, 20, 20), 8, np.int16)), "numbers 8 to 8; allowed: 0"
    yield "negative number", lambda f: mask(f, np.full((12, 20, 20), -1, np.int16)), "not in the list"
    yield "halves", lambda f: mask(f, np.full((12, 20, 20), 0.5, np.float32)), "whole numbers"
    yield "not a mask", lambda f: (f / "occupancy_mask.mrc").write_bytes(b"no"), "occupancy_mask.mrc"


def mask(folder, volume):
    write_mrc(folder / "occupancy_mask.mrc", volume, 10.0)


@pytest.mark.parametrize(("what", "do", "said"), list(broken()), ids=[case[0] for case in broken()])
def test_bad_input_is_named(folder, capsys, what, do, said):
    do(folder)
    code, out, err = evaluate(folder, capsys)
    assert code in (2, 3) and out == "" and said in err, what


def test_a_mask_with_nan_is_refused(folder, capsys):
    volume = np.zeros((12, 20, 20), np.float32)
    mask(folder, volume)
    content = bytearray((folder / "occupancy_mask.mrc").read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    (folder / "occupancy_mask.mrc").write_bytes(content)
    code, _, err = evaluate(folder, capsys)
    assert code == 2 and "numbers nan to nan" in err


def test_radii_that_are_not_known(folder, capsys):
    code, _, err = evaluate(folder, capsys, "--rule", "radius")
    assert code == 2 and "class 1s3x: radius not known" in err
    code, _, err = evaluate(folder, capsys, "--rule", "radius", "--radius", "-1")
    assert code == 2 and "--radius" in err
    code, _, err = evaluate(folder, capsys, "--rule", "shrec2021", "--radius", "5")
    assert code == 2 and "about distances" in err


def test_json_has_no_nan(folder, capsys):
    (folder / "picks.txt").write_text("")
    for rule, more in (("shrec2021", []), ("radius", ["--radius", "9"]), ("czii", ["--radius", "9"])):
        out = evaluate(folder, capsys, "--rule", rule, *more, "--json")[1]
        scores = json.loads(out, parse_constant=lambda name: pytest.fail(name))
        assert scores["reported"] == 0
        assert all(v is None or isinstance(v, (int, str, dict)) or math.isfinite(v) for v in scores.values())


def test_another_rule_is_refused():
    assert set(picking._MATCH_RULES) == set(picking._COUNT_RULES)
    with pytest.raises(SystemExit):
        main(["evaluate", "particles", "p.txt", "--truth", "t", "--rule", "best"])
