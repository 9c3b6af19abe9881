"""Items shared by threads: all of them at once, in order, with linear algebra on one thread and put back after."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Barrier, Event, get_ident
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from cryoscale import threads
from cryoscale.fit import Surface, evaluate, fit_surfaces, fitting, patches, prepare, solve
from cryoscale.threads import in_threads, on_one_thread


def _blas() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("count", [2, 3])
def test_as_many_at_once_as_linear_algebra_may_have(count: int) -> None:
    together = Barrier(count)

    def item(number: int) -> tuple[int, set[int]]:
        together.wait(20)
        return number * 10, _blas()

    with threadpool_limits(count):
        found = in_threads(item, range(2 * count))
        assert _blas() == {count}
    assert [value for value, _ in found] == [10 * number for number in range(2 * count)]
    assert all(inside == {1} for _, inside in found)


@pytest.mark.parametrize(("count", "items"), [(1, 5), (4, 1), (4, 0)])
def test_no_thread_where_there_is_nothing_to_share(count: int, items: int) -> None:
    with threadpool_limits(count):
        found = in_threads(lambda _: (get_ident(), _blas()), range(items))
        assert _blas() == {count}
    assert found == [(get_ident(), {1})] * items


@pytest.mark.parametrize(("each_bytes", "most"), [(0, 4), (100, 4), (250, 2), (501, 1)])
def test_no_more_at_once_than_memory_has_room_for(each_bytes: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "machine_bytes", lambda: 1000)
    together = Barrier(most)
    with threadpool_limits(4):
        found = in_threads(lambda _: (together.wait(20), get_ident())[1], range(4), each_bytes=each_bytes)
    assert len(set(found)) == most


def test_what_one_item_raises_is_raised() -> None:
    def item(number: int) -> int:
        if number == 2:
            raise KeyError(number)
        return number

    for count in (1, 2):
        with threadpool_limits(count):
            with pytest.raises(KeyError, match="2"):
                in_threads(item, range(6))
            assert _blas() == {count}


def _entering(inside: Event, leave: Event) -> int:
    with on_one_thread() as before:
        inside.set()
        assert leave.wait(20)
    return before


def test_the_error_is_that_of_a_loop_and_nothing_is_begun_after_it() -> None:
    begun, later = [], Event()

    def item(number: int) -> None:
        begun.append(number)
        if number == 0:
            # Another thread fails meanwhile, on an item that a loop would not have come to.
            assert later.wait(20)
            raise KeyError(number)
        later.set()
        raise ValueError(number)

    with threadpool_limits(2), pytest.raises(KeyError, match="0"):
        in_threads(item, range(50))
    assert sorted(begun) == [0, 1]


def test_threads_are_put_back_when_the_last_caller_leaves_whichever_it_is() -> None:
    inside, leave = Event(), Event()
    with threadpool_limits(3), ThreadPoolExecutor(1) as pool:
        running = pool.submit(_entering, inside, leave)
        assert inside.wait(20)
        with on_one_thread() as before:
            assert before == 1
            leave.set()
            assert running.result() == 3
            # The first has left, and its sums would be grouped otherwise from here on.
            assert _blas() == {1}
        assert _blas() == {3}


def test_a_thread_that_set_a_limit_does_not_keep_others_from_one() -> None:
    limit = threadpool_limits(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: in_threads(lambda _: _blas(), [0])).result() == [{1}]
        assert _blas() == {2}
    finally:
        limit.restore_original_limits()


def test_libraries_with_other_numbers_of_threads_all_keep_to_one() -> None:
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    if len(libraries) < 2:
        pytest.skip("NumPy and SciPy share a library here")
    with threadpool_limits(1):
        libraries[0].set_num_threads(2)
        with on_one_thread() as before:
            assert before == 1
            assert _blas() == {1}
        assert [library.num_threads for library in libraries] == [2, *[1] * (len(libraries) - 1)]


def _clouds() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    normals = [n / np.linalg.norm(n, axis=1, keepdims=True) for n in rng.normal(size=(3, 900, 3))]
    return [
        radius * n + rng.normal(scale=0.4, size=n.shape) + 60 for radius, n in zip((15, 18, 20), normals, strict=True)
    ]


@pytest.mark.parametrize("patched", [False, True])
def test_surfaces_have_the_same_bits_with_any_number_of_threads(patched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if patched:
        monkeypatch.setattr(prepare, "LARGE", 60)
        monkeypatch.setattr(patches, "CORE_POINTS", 40)
        monkeypatch.setattr(patches, "MOST_CONSTRAINTS", 0)
    found = []
    for count in (1, 2, 3):
        with threadpool_limits(count):
            surfaces = fit_surfaces(_clouds(), spacing=1.0)
            assert all((len(surface.model.patches) > 1) == patched for surface in surfaces)
            found.append([_bits(surface) for surface in surfaces])
    assert found[0] == found[1] == found[2]


def _bits(surface: Surface) -> dict[str, bytes]:
    """All that may be asked of a surface."""
    vertices = surface.mesh(1.0)[0]
    # More places than a thread takes at once.
    assert len(vertices) > evaluate.SHARE
    errors = surface.curvature_errors(vertices[::40])
    return {
        "scale": np.float64(surface.model.scale).tobytes(),
        "alpha": surface.model.patches[0].alpha.tobytes(),
        "vertices": vertices.tobytes(),
        "distance": surface.distance(vertices).tobytes(),
        "distance_sd": surface.distance_sd(vertices).tobytes(),
        "band": surface.band(2.0).sd.tobytes(),
        "curvature": surface.mean_curvature(vertices).tobytes(),
        "errors": errors.mean.tobytes(),
        "joint": surface.model.patches[0].joint_covariance(vertices[::40]).tobytes(),
    }


@pytest.mark.parametrize("held", [True, pytest.param(False, marks=pytest.mark.xfail(strict=True))])
def test_linear_algebra_of_a_fit_keeps_to_one_thread(held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not held:
        monkeypatch.setattr(threads, "on_one_thread", lambda: nullcontext(1))
    counts: dict[str, set[int]] = {}

    def noting(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **more: Any) -> Any:
            counts.setdefault(name, set()).update(_blas())
            return step(*arguments, **more)

        return noted

    steps = [(solve, "solve_on_host")] + [(fitting, name) for name in ("prepare", "_student", "_scale", "_finish")]
    for module, name in steps:
        monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    with threadpool_limits(2):
        fit_surfaces(_clouds()[:1], spacing=1.0)
    assert counts == {name: {1} for _, name in steps}
