"""The queue before the device: who shares a run, who does not, and who is told to come back."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from conftest import example

from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.model import load
from arsenal_serving.refused import Refused
from arsenal_serving.repository.engine import Engine, Expired, Full, Gone, Statistics

X = np.tile(example(), (4, 1, 1))


@pytest.fixture(scope="module")
def warm(folder):
    model = load(folder, max_batch=8, max_rows=100)
    model.warm()
    return model


@pytest.fixture
def held(warm, monkeypatch):
    """The model as a slow one, the sizes of its runs, and an event that lets them go on."""
    runs, go, run = [], threading.Event(), warm.run

    def slow(loaded, arrays):
        runs.append((loaded.name, arrays[0].shape[0]))
        assert go.wait(20)
        return run(loaded, arrays)

    monkeypatch.setattr(warm, "quick", lambda *_: False)
    monkeypatch.setattr(warm, "run", slow)
    return runs, go


async def asked(engine, model, counted, method, inputs, **more):
    task = asyncio.create_task(engine.infer(model, method, inputs, counted, **more))
    await asyncio.sleep(0)
    return task


def test_what_waits_goes_next_up_to_the_largest_size(warm, held):
    runs, go = held
    parts = [X[i : i + n] for i, n in enumerate((1, 3, 4, 2, 8, 5))]

    async def work():
        engine, counted = Engine(), Statistics()
        tasks = [await asked(engine, warm, counted, "predict", {"x": part}) for part in parts]
        assert engine.rows == 22
        go.set()
        return await asyncio.gather(*tasks), counted, engine

    answers, counted, engine = asyncio.run(work())
    assert runs == [("predict", 1), ("predict", 7), ("predict", 2), ("predict", 8), ("predict", 5)]
    assert (engine.rows, engine.bytes, counted.runs, counted.rows) == (0, 0, 5, 23)
    whole = warm.infer("predict", {"x": X[:8]})["predict"]
    for part, answer, start in zip(parts, answers, range(6), strict=True):
        np.testing.assert_allclose(answer["predict"][:1], whole[start : start + 1], rtol=1e-6)
        assert len(answer["predict"]) == len(part)


def test_a_row_in_a_crowd_has_the_bits_it_has_beside_others(warm, held):
    _, go = held

    async def work(first, second):
        engine, counted = Engine(), Statistics()
        tasks = [await asked(engine, warm, counted, "predict", {"x": part}) for part in (X[:1], first, second)]
        go.set()
        return (await asyncio.gather(*tasks))[1]["predict"]

    assert same_bits(asyncio.run(work(X[3:6], X[:4])), asyncio.run(work(X[3:6], -9 * X[:5])))


def test_what_is_too_large_is_split_and_others_come_between(warm, held):
    runs, go = held

    async def work():
        engine, counted = Engine(), Statistics()
        tasks = [await asked(engine, warm, counted, "predict", {"x": X})]
        tasks.append(await asked(engine, warm, counted, "label", {"x": X[:2]}))
        go.set()
        return await asyncio.gather(*tasks)

    large, small = asyncio.run(work())
    assert runs == [("predict", 8), ("label", 2), ("predict", 8), ("predict", 4)] or runs == [
        ("predict", 8), ("predict", 8), ("label", 2), ("predict", 4)
    ]  # fmt: skip
    assert same_bits(large["predict"], warm.infer("predict", {"x": X})["predict"])
    assert small["label"].shape == (2,)


def test_rows_that_influence_each_other_and_other_shapes_stay_apart(warm, held):
    runs, go = held
    ones = np.ones((2, 4), np.float32)

    async def work():
        engine, counted = Engine(), Statistics()
        pairs = [("centre", {"x": X[:3, 0, :2].copy()}), ("centre", {"x": X[3:8, 0, :2].copy()})]
        pairs += [("lengths", {"x": ones[:, :n], "y": ones[:, :n]}) for n in (4, 3, 4)]
        tasks = [await asked(engine, warm, counted, "predict", {"x": X[:1]})]
        tasks += [await asked(engine, warm, counted, *pair) for pair in pairs]
        go.set()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(work())
    assert sorted(runs[1:]) == [("centre", 3), ("centre", 5), ("lengths", 2), ("lengths", 4)]
    np.testing.assert_allclose(answers[2]["centre"], X[3:8, 0, :2] - X[3:8, 0, :2].mean(0), atol=1e-6)
    assert [answer["sum"].tolist() for answer in answers[3:]] == [[8.0, 8.0], [6.0, 6.0], [8.0, 8.0]]


def test_who_is_gone_or_late_is_dropped_and_nobody_else(warm, held):
    runs, go = held

    async def work():
        engine, counted, left = Engine(), Statistics(), asyncio.Event()
        first = await asked(engine, warm, counted, "predict", {"x": X[:1]})
        cancelled = await asked(engine, warm, counted, "predict", {"x": X[:2]})
        gone = await asked(engine, warm, counted, "predict", {"x": X[:2]}, gone=left.wait)
        late = await asked(engine, warm, counted, "predict", {"x": X[:2]}, seconds=0.02)
        last = await asked(engine, warm, counted, "predict", {"x": X[:3]}, seconds=20, gone=asyncio.Event().wait)
        cancelled.cancel()
        left.set()
        results = await asyncio.gather(cancelled, gone, late, return_exceptions=True)
        go.set()
        return results, await first, await last, engine.rows, counted.parts["fail"][0]

    results, first, last, waiting, failed = asyncio.run(work())
    assert [type(result) for result in results] == [asyncio.CancelledError, Gone, Expired]
    assert runs == [("predict", 1), ("predict", 3)]
    assert (len(first["predict"]), len(last["predict"]), waiting, failed) == (1, 3, 0, 3)


def test_the_queue_is_bounded_in_rows_and_bytes(warm, held):
    _, go = held

    async def work(engine):
        counted = Statistics()
        tasks = [await asked(engine, warm, counted, "predict", {"x": X[:1]})]
        tasks.append(await asked(engine, warm, counted, "predict", {"x": X[:8]}))  # none waits: it is let in
        with pytest.raises(Full) as full:
            await engine.infer(warm, "predict", {"x": X[:3]}, counted)
        go.set()
        await asyncio.gather(*tasks)
        await engine.infer(warm, "predict", {"x": X[:3]}, counted)
        return full.value.seconds

    assert asyncio.run(work(Engine(max_rows=10))) >= 1
    go.clear()
    assert asyncio.run(work(Engine(max_bytes=2500))) >= 1


def test_small_ones_that_arrive_together_share_a_run_and_one_alone_does_not_wait(warm):
    async def work():
        engine, counted = Engine(), Statistics()
        for _ in range(3):
            await engine.infer(warm, "predict", {"x": X[:1]}, counted)
        alone = dict(counted.batches)
        answers = await asyncio.gather(*(engine.infer(warm, "predict", {"x": X[i : i + 1]}, counted) for i in range(17)))
        return alone, counted, answers

    alone, counted, answers = asyncio.run(work())
    assert alone.keys() == {1}
    assert (counted.rows, counted.runs, sorted(counted.batches)) == (20, 3 + 1 + 2, [1, 8])
    wanted = warm.infer("predict", {"x": X[1:9]})["predict"]
    assert same_bits(np.concatenate([answer["predict"] for answer in answers[1:9]]), wanted)


def test_an_error_reaches_everybody_who_shared_the_run_and_the_next_goes_on(warm, held, monkeypatch):
    _, go = held
    run = warm.run

    def fails(loaded, arrays):
        if arrays[0].shape[0] > 1:
            raise Refused("no")
        return run(loaded, arrays)

    monkeypatch.setattr(warm, "run", fails)

    async def work():
        engine, counted = Engine(), Statistics()
        tasks = [await asked(engine, warm, counted, "predict", {"x": X[:n]}) for n in (1, 2, 3)]
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return results, await engine.infer(warm, "predict", {"x": X[:1]}, counted)

    results, after = asyncio.run(work())
    assert [isinstance(result, Refused) for result in results] == [False, True, True]
    assert after["predict"].shape == (1, 3)


def test_compiles_after_ready_are_counted(warm):
    before = warm.late_compiles
    warm.infer("predict", {"x": X[:7]})
    assert warm.late_compiles == before
    warm.infer("centre", {"x": np.ones((17, 2), np.float32)})
    assert warm.late_compiles == before + 1
