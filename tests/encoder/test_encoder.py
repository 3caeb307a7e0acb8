"""Encoders of every kind, and the stores of what they read."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from attend import config
from attend.data.examples import Caption, Example, Source
from attend.data.prepared import Prepared, write_prepared
from attend.data.stores import Store
from attend.encoder import features as prepare
from attend.encoder import hub
from attend.encoder.encoder import Encoder
from attend.encoder.features import compute_features, ensure_store, read_square, to_half
from attend.encoder.weights import PYPI_WEIGHTS, _packaged
from attend.geometry import Geometry

NETS = {  # name -> D and the pixels of a cell of the last map, and D at stride 16
    "resnet18": (512, 32, 256),
    "vgg11": (512, 32, 512),
    "vit_tiny_patch16_224": (192, 16, 192),
    "swin_tiny_patch4_window7_224": (768, 32, 384),
    "mobilenetv3_small_050": (288, 32, 24),
    "tf_efficientnet_lite0": (1280, 32, 112),
}
SIZE = 96


def encoder(name: str = "resnet18", **settings) -> Encoder:
    return Encoder(config.Encoder(name=name, **{"weights": "random", "size": SIZE} | settings))


def images(count: int = 2, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed)).byte()


@pytest.fixture(scope="module", params=NETS)
def net(request):
    return request.param, encoder(request.param)


@torch.no_grad()
def test_features_are_the_cells_row_by_row(net):
    name, one = net
    width, stride, _ = NETS[name]
    rows, columns = one.grid
    batch = images(2)
    features = one(batch)
    assert one.grid == (SIZE // stride, SIZE // stride) and one.width == width
    assert features.shape == (2, rows * columns, width)

    maps = one.backbone.forward_features((batch.float() / 255 - one.mean / 255) / (one.std / 255))
    channels_last = {3: lambda m: m[:, -rows * columns :].unflatten(1, one.grid), 4: lambda m: m}[maps.ndim](maps)
    if maps.ndim == 4 and maps.shape[1] == width:
        channels_last = maps.permute(0, 2, 3, 1)
    for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0)):
        assert torch.allclose(features[:, row * columns + column], channels_last[:, row, column], atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module", params=NETS)
def fine(request):
    return request.param, encoder(request.param, stride=16)


@torch.no_grad()
def test_a_stride_takes_an_earlier_map(fine):
    name, one = fine
    assert one.grid == (6, 6) and one(images(1)).shape == (1, 36, NETS[name][2]) and one.width == NETS[name][2]


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_stages_are_the_same_where_timm_does_not_hand_them_out(name, monkeypatch):
    one = encoder(name, stride=16)
    before = one(images())
    monkeypatch.delattr(type(one.backbone), "forward_intermediates", raising=False)
    one.stage, _ = one._stage_of(16, torch.zeros(1, 3, SIZE, SIZE))
    assert torch.equal(one(images()), before)
    monkeypatch.setattr(one.backbone, "feature_info", [])
    with pytest.raises(ValueError, match=f"encoder.stride: {name} gives only its last map"):
        one(images())


@torch.no_grad()
@pytest.mark.parametrize("down, right", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_quarter_that_changes_is_where_features_move_most(fine, down, right):
    _, one = fine
    before = torch.full((1, 3, SIZE, SIZE), 128, dtype=torch.uint8)
    after, half = before.clone(), SIZE // 2
    after[..., down * half : down * half + half, right * half : right * half + half] = images(1, half)
    moved = (one(after) - one(before))[0].norm(dim=-1)
    quarters = moved.view(2, 3, 2, 3).sum((1, 3)).flatten()
    assert int(quarters.argmax()) == 2 * down + right


@torch.no_grad()
def test_a_grid_pools_the_map(net):
    name, whole = net
    if name == "resnet18":
        assert encoder(name, grid=(2, 3)).grid == (2, 3) and encoder(name, grid=(2, 3))(images()).shape[1] == 6
    one = encoder(name, grid=(1, 1))
    assert torch.allclose(one(images()), whole(images()).mean(1, keepdim=True), atol=1e-4)


def test_pixels_are_normalised_as_timm_does(net):
    _, one = net
    pixels = images(1)[0]
    data = timm.data.resolve_model_data_config(one.backbone) | {"input_size": (3, SIZE, SIZE), "crop_pct": 1.0}
    theirs = timm.data.create_transform(**data, is_training=False)(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    assert torch.allclose((pixels - one.mean) / one.std, theirs, atol=1e-5)
    assert one.interpolation == data["interpolation"]


@pytest.mark.parametrize(
    "name", [name for name in NETS if name != "vgg11"]
)  # it has no statistics, and is slow to draw
def test_only_the_last_blocks_learn_and_statistics_stand_still(name):
    one, more = encoder(name, tune_blocks=1).train(), encoder(name, tune_blocks=2)
    last, two = ({n for n, p in each.named_parameters() if p.requires_grad} for each in (one, more))
    assert set() < last < two < dict(one.named_parameters()).keys()
    assert next(iter(dict(one.named_parameters()))) not in two  # it is the first layer's
    assert not any(module.training for module in one.modules())
    before = {n: t.clone() for n, t in one.state_dict().items()}
    optimiser = torch.optim.SGD(one.tuned(), lr=1.0)
    one(images()).square().mean().backward()
    assert {n for n, p in one.named_parameters() if p.grad is not None} == last
    optimiser.step()
    changed = {n for n, t in one.state_dict().items() if not torch.equal(t, before[n])}
    assert changed and changed <= last


def test_a_frozen_encoder_has_no_gradients(net):
    assert not net[1].tuned() and not net[1](images(1)).requires_grad


def test_too_many_blocks_are_refused():
    with pytest.raises(ValueError, match=r"encoder.tune_blocks is 99, but resnet18 has \d+ blocks"):
        encoder(tune_blocks=99)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"name": "resnt18"}, "'resnt18' is no timm backbone; did you mean resnet18"),
        ({"name": "qqqqqq"}, "lists all"),
        ({"name": "resnet18.nowhere"}, "cannot be built .*nowhere"),
        ({"stride": 5}, "encoder.stride is 5, but resnet18 at 96 px has 2, 4, 8, 16, 32: choose one"),
        ({"name": "vit_tiny_patch16_224", "size": 8}, "cannot read images of 8 px"),
        ({"weights": "nowhere.pth"}, "'nowhere.pth' is no file"),
        (
            {"weights": "pypi"},
            "'pypi' has packages for tf_efficientnet_lite0, .*, not resnet18: use 'pretrained' or a file",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        encoder(**settings)
    assert "\n" not in str(refused.value)


def test_weights_that_cannot_be_downloaded_say_the_ways_out(monkeypatch):
    def offline(*_, **__):
        raise OSError("We couldn't connect to the hub\nmany lines more")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(hub, "unreachable", lambda _: None)
    with pytest.raises(ValueError, match=r"resnet18 could not be downloaded .*hub.*: give a file .*lite0") as refused:
        encoder(weights="pretrained")
    assert "\n" not in str(refused.value)


def test_a_download_that_fails_does_not_tell_of_each_try(monkeypatch):
    logger = logging.getLogger("huggingface_hub.utils")
    told, before = [], logger.getEffectiveLevel()

    def fail(*_, **__):
        told.append(logger.isEnabledFor(logging.WARNING))
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(hub, "unreachable", lambda _: None)
    with pytest.raises(ValueError, match="no network"):
        encoder(weights="pretrained")
    assert told == [False] and logger.getEffectiveLevel() == before


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert encoder().fingerprint() == encoder().fingerprint() != encoder("resnet10t").fingerprint()
    assert torch.equal(torch.get_rng_state(), state)


def other_weights() -> dict[str, torch.Tensor]:
    """Weights of a resnet18 that are not the random ones."""
    return {name: tensor + tensor.dtype.is_floating_point for name, tensor in encoder().backbone.state_dict().items()}


@pytest.mark.parametrize("kind", ["safetensors", "pth", "state_dict", "old", "classifier"])
def test_a_file_of_weights_is_loaded(tmp_path, kind):
    state = other_weights()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        old = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
        torch.save(
            {"state_dict": {"state_dict": state}, "old": old, "classifier": state | {"fc.bias": torch.ones(9)}}.get(
                kind, state
            ),
            path,
        )
    loaded = encoder(weights=str(path)).backbone.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items() if "num_batches" not in name)


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_of_weights_with_code_in_it_is_refused_and_not_run(tmp_path):
    torch.save({"conv1.weight": Trap(tmp_path / "sprung")}, tmp_path / "new.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("new.pth", "plain.pth"):
        with pytest.raises(ValueError, match="holds no weights that can be read safely"):
            encoder(weights=str(tmp_path / name))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [{}, {"state_dict": 3}, {"conv1.weight": 3}, [1], {"conv1.weight": torch.ones(2)}])
def test_a_file_of_other_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"does not fit the backbone: .*the first is conv1.weight"):
        encoder(weights=str(tmp_path / "w.pth"))


def test_a_damaged_file_of_weights_is_refused(tmp_path):
    for name in ("w.safetensors", "w.pth"):
        (tmp_path / name).write_bytes(b"\x80\x02 not weights")
        with pytest.raises(ValueError, match="holds no weights"):
            encoder(weights=str(tmp_path / name))


@pytest.mark.parametrize("name", PYPI_WEIGHTS)
def test_packaged_weights_are_the_package_s_tensor_by_tensor(name):
    theirs = list(torch.load(_packaged(name), map_location="cpu", weights_only=True).items())
    whole = timm.create_model(name, pretrained=False).state_dict()
    ours = encoder(name, weights="pypi").backbone.state_dict()
    assert len(theirs) == len(whole) == len(ours) + 2
    for (their_name, their), (our_name, our) in zip(theirs, ours.items(), strict=False):
        assert torch.equal(their, our) and their_name.split(".")[-1] == our_name.split(".")[-1]


def test_features_that_fp16_cannot_hold_are_refused():
    assert to_half(torch.tensor([[65504.0]])).dtype == np.float16
    for value in (65600.0, float("nan"), float("-inf")):
        with pytest.raises(ValueError, match="not finite in fp16"):
            to_half(torch.tensor([[value]]))


@pytest.fixture
def dataset(tmp_path) -> Prepared:
    """Five pictures of different size."""
    root, chance = tmp_path / "out" / "images", np.random.default_rng(0)
    root.mkdir(parents=True)
    for i in range(5):
        pixels = chance.integers(0, 256, (40 + 9 * i, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    one = (Caption(raw="a dog", tokens=("a", "dog")),)
    examples = [Example(image=f"{i}.png", split="train", captions=one) for i in range(5)]
    return write_prepared(Source(name="five", root=root, examples=examples), tmp_path / "out", 1)


SMALL = {"name": "test_resnet", "size": 32, "stride": 8, "grid": (2, 2)}


@pytest.mark.parametrize("transform", ["squash", "crop"])
def test_a_store_holds_what_the_encoder_gives(dataset, transform):
    one = encoder(**SMALL, transform=transform)
    store = ensure_store(dataset, one)
    for row in range(5):
        square, size = read_square(dataset.image(row), one)
        truth = one(torch.from_numpy(square.copy())[None])[0].detach().numpy()
        assert np.allclose(store.read("inputs", [row])[0], truth, rtol=2e-3, atol=1e-3)
        assert tuple(store.read("size", [row])[0]) == size == (60, 40 + 9 * row)
        assert np.allclose(store.read("affine", [row])[0], Geometry.of(transform, size, (2, 2)).affine)
    assert store.read("inputs", [0]).dtype == np.float16
    assert store.provenance["versions"].keys() == {"torch", "timm", "pillow"}


def test_features_in_bf16_are_those_in_fp32_to_eight_bits(dataset):
    squares = np.stack([read_square(dataset.image(row), encoder(**SMALL))[0] for row in range(2)])
    exact, rounded = (compute_features(encoder(**SMALL, precision=p), squares, "cpu") for p in ("fp32", "bf16"))
    assert exact.dtype == rounded.dtype == np.float16
    scale = np.abs(exact).max()
    assert 0 < np.abs(exact.astype(float) - rounded).max() < 0.1 * scale
    assert np.abs(exact.astype(float) - rounded).mean() < 0.01 * scale


def test_a_store_is_made_in_chunks(dataset, monkeypatch):
    computed = []
    monkeypatch.setattr(prepare, "compute_features", lambda *a: computed.append(len(a[1])) or compute_features(*a))
    monkeypatch.setitem(prepare.CHUNK, "cpu", 2)
    store = ensure_store(dataset, encoder(**SMALL))
    assert computed == [2, 2, 1]
    squares = np.stack([read_square(dataset.image(row), encoder(**SMALL))[0] for row in range(5)])
    whole = compute_features(encoder(**SMALL), squares, "cpu")
    assert np.allclose(store.read("inputs", range(5)), whole, rtol=2e-3, atol=1e-3)


def test_a_store_is_made_once(dataset, monkeypatch):
    first = ensure_store(dataset, encoder(**SMALL))
    shutil.rmtree(dataset.folder / "images")
    monkeypatch.setattr(prepare, "compute_features", None)
    assert ensure_store(dataset, encoder(**SMALL)).folder == first.folder
    assert ensure_store(dataset, encoder(**SMALL, normalise="layer")).folder == first.folder


def test_a_tuned_encoder_reads_pixels(dataset):
    one = encoder(**SMALL, tune_blocks=1)
    store = ensure_store(dataset, one)
    squares = np.stack([read_square(dataset.image(row), one)[0] for row in range(5)])
    assert np.array_equal(store.read("inputs", range(5)), squares) and squares.dtype == np.uint8
    assert ensure_store(dataset, encoder(**SMALL, tune_blocks=2)).folder == store.folder


def test_other_weights_or_settings_have_another_store(dataset, tmp_path):
    state = {n: t * 0.9 for n, t in encoder(**SMALL).backbone.state_dict().items() if "num_batches" not in n}
    save_file(state, tmp_path / "w.safetensors")
    changes = [
        {},
        {"weights": str(tmp_path / "w.safetensors")},
        {"size": 40},
        {"grid": (1, 2)},
        {"transform": "crop"},
        {"precision": "bf16"},
        {"tune_blocks": 1},
    ]
    stores = [ensure_store(dataset, encoder(**SMALL | change)) for change in changes]
    assert len({store.folder for store in stores}) == len(changes)
    save_file({n: t * 0.9 for n, t in state.items()}, tmp_path / "w.safetensors")  # another file of the same name
    assert ensure_store(dataset, encoder(**SMALL | changes[1])).folder not in {store.folder for store in stores}


@pytest.mark.slow
def test_an_extraction_that_is_killed_resumes(dataset, monkeypatch):
    code = """if True:
        import functools, os, signal, sys
        from attend.data.prepared import Prepared
        from attend.encoder import features
        from tests.encoder.test_encoder import SMALL, encoder
        features.fill_store = functools.partial(features.fill_store, shard=2)
        work = features.compute_features
        left = iter([True, False])
        features.compute_features = lambda *a: work(*a) if next(left) else os.kill(os.getpid(), signal.SIGKILL)
        features.ensure_store(Prepared(sys.argv[1]), encoder(**SMALL))"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(dataset.folder)], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -signal.SIGKILL
    (folder,) = dataset.folder.glob("features-*")
    with pytest.raises(ValueError, match="lacks 2 of its shards"):
        Store(folder)

    computed, fill = [], prepare.fill_store
    monkeypatch.setattr(prepare, "fill_store", lambda *a, **how: fill(*a, shard=2, **how))
    monkeypatch.setattr(prepare, "compute_features", lambda *a: computed.append(len(a[1])) or compute_features(*a))
    one = encoder(**SMALL)
    store = ensure_store(dataset, one)
    assert store.folder == folder and computed == [2, 1]
    squares = np.stack([read_square(dataset.image(row), one)[0] for row in range(5)])
    assert np.allclose(store.read("inputs", range(5)), compute_features(one, squares, "cpu"), rtol=2e-3, atol=1e-3)


def test_an_image_that_cannot_be_read_is_named(dataset):
    dataset.image(3).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{dataset.image(3)} is an empty file"):
        ensure_store(dataset, encoder(**SMALL))
