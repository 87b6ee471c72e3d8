"""Hostile pickles: refused with a reason, without running code or taking memory."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import pytest
from river import linear_model, neighbors

from everloop_models import ArtifactCorrupt, build, save, verify_and_load
from everloop_models.errors import ModelSpecInvalid
from everloop_models.formats.river.allow_list import ALLOWED
from everloop_models.formats.river.estimators import PRESETS
from everloop_models.formats.river.model import RiverModel
from everloop_models.formats.river.survey import SPECS, TASKS, models, seen
from everloop_models.opcodes import uses
from everloop_models.pickling import unpickled
from everloop_models.store import ArtifactStore
from everloop_models.trial import check_models
from everloop_schemas.loop_parts import ModelSpec

START, END = b"\x80\x05", b"."
GIB = 2**30


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def ask(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def number(value: int) -> bytes:
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return ask(module, name) + b"(" + b"".join(arguments) + b"tR"


OURS = "everloop_models.formats.river.model"
MODEL = ask(OURS, "RiverModel")
NDARRAY = ask("numpy", "ndarray")
LOGISTIC = ask("river.linear_model.log_reg", "LogisticRegression")
EMPTY = b")"
BOMB = number(50 * GIB)
TEXT = text("open('/tmp/never','w')")

ATTACKS = {
    "a function of numpy that leads to exec": call("numpy.testing", "_private.utils.runstring", TEXT, b"}"),
    "a function of numpy by a class": call("numpy.testing._private.utils", "runstring", TEXT, b"}"),
    "numpy's loader": call("numpy", "load", TEXT),
    "numpy's memory map": call("numpy", "memmap", TEXT),
    "numpy's own getattr": call("numpy._core.records", "fromfile", TEXT),
    "scipy's files": call("scipy.io", "loadmat", TEXT),
    "scipy's lazy import": call("scipy._lib._ccallback", "LowLevelCallable", TEXT),
    "a download of river's": call("river.datasets", "Phishing"),
    "a file of river's": call("river.stream", "iter_csv", TEXT),
    "river's utilities": call("river.utils.pretty", "print_table", TEXT),
    "eval": call("builtins", "eval", TEXT),
    "exec through a name with dots": call(
        "everloop_models.formats.river.model", "RiverModel.__init__.__globals__.get", text("x")
    ),
    "a module of ours as a name": call("everloop_models", "store.write_atomically", TEXT, TEXT),
    "a class's subclasses": call(OURS, "RiverModel.__subclasses__"),
    "what a method is wrapped around": call("river.base", "Base.clone", TEXT),
    "an import": call("importlib", "import_module", text("os")),
    "the codecs": call("_codecs", "encode", TEXT, text("utf-8")),
    "an operator": call("operator", "attrgetter", text("__class__")),
    "a constructor of a listed class": call(
        "river.forest.aggregated_mondrian_forest", "AMFClassifier", number(300_000)
    ),
    "arguments to a listed class": LOGISTIC + b"(" + number(3) + b"t\x81",
    "an instance with arguments by name": LOGISTIC + EMPTY + b"}\x92",
    "a bytearray of 50 GiB": call("builtins", "bytearray", BOMB),
    "bytes of 50 GiB": call("builtins", "bytes", BOMB),
    "a list of a range": call("builtins", "list", call("builtins", "range", BOMB)),
    "a text of many": call("builtins", "str.__mul__", text("x"), BOMB),
    "an array of 50 GiB": call("numpy._core.multiarray", "_reconstruct", NDARRAY, b"(" + BOMB + b"t", text("b")),
    "an array by its class": call("numpy", "ndarray", b"(" + BOMB + b"t"),
    "zeros of 50 GiB": call("numpy", "zeros", BOMB),
    "an array of objects": call(
        "numpy._core.numeric",
        "_frombuffer",
        b"C\x08AAAAAAAA",
        call("numpy", "dtype", text("O8"), b"\x89", b"\x88"),
        b"(" + number(1) + b"t",
        text("C"),
    ),
    "numbers with parts": call(
        "numpy._core.multiarray", "scalar", call("numpy", "dtype", text("V8"), b"\x89", b"\x88"), b"C\x08AAAAAAAA"
    ),
    "an array larger than its bytes": call(
        "numpy._core.numeric",
        "_frombuffer",
        b"C\x08AAAAAAAA",
        call("numpy", "dtype", text("f8"), b"\x89", b"\x88"),
        b"(" + BOMB + b"t",
        text("C"),
    ),
    "a number of 2 GB": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01",
    "a text that is longer than the pickle": b"\x8d" + struct.pack("<Q", 50 * GIB) + b"x",
    "bytes that are longer than the pickle": b"\x8e" + struct.pack("<Q", 50 * GIB) + b"x",
    "a bytearray that is longer than the pickle": b"\x96" + struct.pack("<Q", 50 * GIB) + b"x",
    "a memo of 4 billion entries": b"Nr" + struct.pack("<I", 2**32 - 1),
    "an extension": b"\x82\x01",
    "a persistent id": text("x") + b"Q",
    "a persistent id as a line": b"Px\n",
    "an instance by name": b"(ios\nsystem\n",
    "an object by mark": b"(" + LOGISTIC + b"o",
    "a global as a line": b"cos\nsystem\n",
    "a text as a line": b"V\\u0041\n",
    "a float as a line": b"F1.5\n",
    "a duplicate": LOGISTIC + b"2",
    "a next buffer": b"\x97",
    "an attribute of a class set": MODEL + b"N}" + text("predict") + MODEL + b"s\x86b",
    "an attribute of a function set": ask("copy", "deepcopy") + b"}" + text("__defaults__") + b"Nsb",
    "an attribute of a class set by a dict": LOGISTIC + b"}" + text("predict_one") + MODEL + b"sb",
    "items put into a class": MODEL + b"(" + text("a") + text("b") + b"u",
    "items put into a text": text("a") + b"(" + text("a") + text("b") + b"u",
    "elements put into a class": MODEL + b"(" + text("a") + b"e",
    "a state that is no dict": MODEL + EMPTY + b"\x81" + text("x") + b"b",
    "a call of what was made": MODEL + EMPTY + b"\x81" + EMPTY + b"R",
    "a call of a text": text("x") + EMPTY + b"R",
    "a method that is not listed": call("builtins", "getattr", MODEL + EMPTY + b"\x81", text("learn")),
    "a method of dunder": call("builtins", "getattr", LOGISTIC + EMPTY + b"\x81", text("__init__")),
    "a method without a name": call("builtins", "getattr", LOGISTIC + EMPTY + b"\x81", LOGISTIC),
    "a listed method of a class": call("builtins", "getattr", MODEL, text("_scale")),
    "a listed method of a text": call("builtins", "getattr", text("x"), text("_scale")),
    "a pickle of a pickle": call("pickle", "loads", b"C\x01."),
    "a name without a text": MODEL + MODEL + b"\x93",
    "a model's class in place of a model": MODEL,
    "a text in place of a model": text("model"),
    "many lists in each other": b"]" * 100_000 + b"a" * 99_999,
    "many tuples in each other": b")" + b"\x85" * 100_000,
    "nothing at all": b"",
    "a stack that is empty": b"0",
    "a mark that nobody made": b"u",
    "a memo that nobody made": b"h\x05",
    "two things": b"NN",
    "a text that is no text": b"\x8c\x02\xff\xfe",
}


def refusal(data: bytes) -> str:
    with pytest.raises(ArtifactCorrupt) as refused:
        verify_and_load(data, sha256(data).hexdigest())
    return refused.value.detail


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_with_a_reason_and_in_little_memory(name: str) -> None:
    data = START + ATTACKS[name] + END
    tracemalloc.start()
    try:
        reason = refusal(data)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert 10 < len(reason) <= 500
    assert most < (20_000_000 if name.startswith("many") else 1_000_000)


@pytest.mark.parametrize(
    "data", [b"", b"\x80", START, START + b"N", START + b"N.N.", b"\x80\x02N.", b"\x80\x04N.", b"N."]
)
def test_an_incomplete_or_foreign_pickle_is_refused(data: bytes) -> None:
    assert refusal(data)


def test_a_genuine_model_with_one_call_before_it_is_refused_without_running_the_call(tmp_path: Path) -> None:
    marker, spec = tmp_path / "marker", SPECS["binary"]
    genuine = save(build(spec.models[0], spec)).data
    code = f"open({str(marker)!r}, 'w').write('x')".encode()
    run = ask("numpy.testing", "_private.utils.runstring") + b"(X" + struct.pack("<I", len(code)) + code + b"}tR0"

    reason = refusal(START + run + genuine[2:])

    assert "numpy.testing" in reason
    assert not marker.exists()


def test_the_unpickler_itself_finds_no_name_outside_the_list() -> None:
    for attack in ("eval", "numpy's loader", "a bytearray of 50 GiB", "an array by its class"):
        with pytest.raises(ArtifactCorrupt, match="no model is made of"):
            unpickled(START + ATTACKS[attack] + END, ALLOWED)


def test_a_numpy_type_stays_plain_whatever_state_a_pickle_gives_it() -> None:
    hostile = (
        b"(" + number(3) + text("|") + b"N" + b"(" + text("f") + b"t}" + number(10**6) + number(1) + number(0) + b"tb"
    )
    data = START + call("numpy", "dtype", text("f8"), b"\x89", b"\x88") + hostile + END

    found = unpickled(data, ALLOWED)

    assert found is np.dtype("f8")
    assert (found.itemsize, found.names, found.hasobject) == (8, None, False)


def test_a_random_generator_outside_its_own_numbers_is_refused() -> None:
    generator = np.random.RandomState(1)
    kept = generator.get_state(legacy=False)
    good = pickle.dumps(generator, protocol=5)
    assert unpickled(good, ALLOWED).rand() == generator.rand()
    kept["state"]["pos"] = 100_000
    data = pickle.dumps(_Standing(kept), protocol=5)

    with pytest.raises(ArtifactCorrupt, match=r"outside its own numbers|state position must be"):
        unpickled(data, ALLOWED)


class _Standing:
    """A generator with this state."""

    def __init__(self, state: dict[str, object]) -> None:
        self.state = state

    def __reduce__(self) -> tuple[object, ...]:
        made = np.random.RandomState(1).__reduce__()
        return made[0], made[1], self.state


def mutated(data: bytes, random: Random) -> Iterator[bytes]:
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(random.randrange(1, 4)):
            changed[random.randrange(2, len(changed))] = random.randrange(256)
        yield bytes(changed)


def test_a_model_with_bytes_changed_is_a_model_or_refused_and_never_anything_else() -> None:
    spec = SPECS["binary"]
    model = build(ModelSpec(preset="logistic"), spec)
    for i in range(30):
        model.learn({"a": i / 30, "n": 1, "s": "u"}, i % 2 == 0)

    for data in mutated(save(model).data, Random(3)):
        try:
            loaded = verify_and_load(data, sha256(data).hexdigest())
        except ArtifactCorrupt:
            continue
        assert isinstance(loaded, RiverModel)


def test_the_reader_reports_that_a_class_is_only_instantiated_and_given_its_state() -> None:
    spec = SPECS["binary"]

    found = uses(save(build(ModelSpec(preset="logistic"), spec)).data)

    logistic = {use.how for use in found if use.name == linear_model.LogisticRegression.__name__}
    assert logistic == {"name", "new 0", "state dict"}
    assert found <= ALLOWED.uses


def test_of_numpy_and_scipy_only_numbers_arrays_and_generators_are_allowed() -> None:
    theirs = {(module, name) for module, name in ALLOWED.names if module.partition(".")[0] in ("numpy", "scipy")}

    assert theirs == {
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.random._mt19937", "MT19937"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("numpy.random._pickle", "__randomstate_ctor"),
    }


def test_of_python_itself_only_containers_and_values_are_allowed() -> None:
    ours = {f"{m}.{n}" for m, n in ALLOWED.names if m.partition(".")[0] not in ("river", "numpy", "everloop_models")}

    assert ours == {
        "builtins.dict",
        "builtins.float",
        "builtins.getattr",
        "builtins.int",
        "collections.Counter",
        "collections.defaultdict",
        "collections.deque",
        "copy.deepcopy",
        "functools.partial",
        "random.Random",
        "statistics.NormalDist",
    }


@pytest.mark.parametrize(
    ("preset", "task"),
    [(p, t) for p, kinds in PRESETS.items() for t in TASKS if (t == "regression") in kinds],
)
def test_every_preset_does_only_what_the_list_allows(preset: str, task: str) -> None:
    assert seen(ModelSpec(preset=preset), task) <= ALLOWED.uses


def test_a_model_whose_artifact_needs_more_is_refused_when_the_loop_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors.KNNClassifier, "__getstate__", lambda self: {**vars(self), "reader": np.load})
    spec = SPECS["binary"].model_copy(update={"models": (ModelSpec(estimator="river.neighbors.KNNClassifier"),)})

    with pytest.raises(ModelSpecInvalid, match=r"models\.0.*numpy"):
        check_models(spec)


@pytest.mark.process
@pytest.mark.timeout(600)
def test_the_committed_list_is_that_of_every_preset_and_every_estimator_of_river() -> None:
    assert sum(1 for task in TASKS for _ in models(task)) > 100

    done = subprocess.run(
        [sys.executable, "-m", "everloop_models.formats.river.survey", "--check"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_a_stored_artifact_loads(tmp_path: Path) -> None:
    spec, store = SPECS["binary"], ArtifactStore(tmp_path.as_uri())
    artifact = save(build(spec.models[0], spec))

    name = store.name("market", "line-0@29", artifact.sha256)
    store.put(name, artifact.data)

    assert isinstance(verify_and_load(store.get(name, artifact.size), artifact.sha256), RiverModel)
