import json
import shutil
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from icefall_ext.encoders import sources
from icefall_ext.encoders.load import build_encoder, load_tensors, save_encoder
from icefall_ext.encoders.spec import KNOWN, EncoderConfig
from icefall_ext.errors import UsageError, UserError
from tests.encoder_toys import GROUP_NORM, KINDS, LAYER_NORM, ragged_batch, toy_encoder

POSITION = "encoder.pos_conv_embed.conv"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))


def saved(tmp_path, kind=GROUP_NORM, name="model"):
    encoder = toy_encoder(kind)
    save_encoder(encoder, tmp_path / name)
    return encoder, tmp_path / name


def built(source, **options):
    return build_encoder(EncoderConfig(source=str(source), **options)).eval()


def assert_equal(encoder, other):
    batch = ragged_batch([6000, 3000])
    assert torch.equal(encoder(*batch)[0], other(*batch)[0])
    for (name, mine), (other_name, theirs) in zip(encoder.state_dict().items(), other.state_dict().items()):
        assert name == other_name and torch.equal(mine, theirs), name


# ------------------------------------------------------------------ sources


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_gives_the_same_encoder_and_normalisation(kind, tmp_path, capsys):
    encoder, folder = saved(tmp_path, kind)
    again = built(folder)
    assert_equal(encoder, again)
    assert again.architecture == encoder.architecture
    assert f"{len(encoder.backbone.state_dict())} tensors loaded" in capsys.readouterr().out


def test_every_kind_of_file_gives_the_same_encoder(tmp_path):
    encoder, folder = saved(tmp_path, LAYER_NORM)
    tensors = load_file(str(folder / "model.safetensors"))
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    shutil.copy(folder / "config.json", tmp_path)
    assert_equal(encoder, built(folder / "model.safetensors"))
    assert_equal(encoder, built(tmp_path / "pytorch_model.bin"))
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    shutil.copy(folder / "config.json", sharded)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, members in parts.items():
        save_file({name: tensors[name] for name in members}, str(sharded / file))
    index = {"weight_map": {name: file for file, members in parts.items() for name in members}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_equal(encoder, built(sharded))
    (sharded / "b.safetensors").unlink()
    with pytest.raises(UserError, match="b.safetensors"):
        built(sharded)


def test_a_model_with_a_head_is_read_and_the_head_is_named_as_left_out(tmp_path, capsys):
    encoder, folder = saved(tmp_path)
    tensors = {f"hubert.{name}": tensor for name, tensor in load_file(str(folder / "model.safetensors")).items()}
    save_file({**tensors, "lm_head.weight": torch.ones(3, 32)}, str(folder / "model.safetensors"))
    assert_equal(encoder, built(folder))
    assert "left out: lm_head.weight" in capsys.readouterr().out


def test_a_name_is_looked_up_in_the_weights_folder(tmp_path, monkeypatch):
    encoder, folder = saved(tmp_path, name="owner/toy")
    assert_equal(encoder, built("owner/toy", weights_dir=tmp_path))
    folder.rename(tmp_path / "toy")
    assert_equal(encoder, built("owner/toy", weights_dir=tmp_path))


def test_a_published_name_is_not_given_to_another_model(tmp_path):
    saved(tmp_path, name="chinese-hubert-base")
    with pytest.raises(UserError, match=r"not chinese-hubert-base \(12 x 768, group norm\), but HuBERT, 2 x 32"):
        built("chinese-hubert-base", weights_dir=tmp_path)
    built(tmp_path / "chinese-hubert-base")  # as a path it may be called what it likes


def test_published_models_say_what_they_are(tmp_path, capsys, monkeypatch):
    from dataclasses import replace

    encoder, folder = saved(tmp_path, name="hubert-base-ls960")
    monkeypatch.setitem(KNOWN, "hubert-base-ls960", replace(KNOWN["hubert-base-ls960"], layers=2, width=32))
    config = json.loads((folder / "config.json").read_text())
    del config["normalize"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')  # what the hub's file says, wrongly
    assert not built("hubert-base-ls960", weights_dir=tmp_path).architecture.normalize
    out = capsys.readouterr().out
    assert "2 x 32, group norm, input not normalised, as published; hubert-base-ls960, licence Apache-2.0" in out
    assert built("facebook/hubert-base-ls960", weights_dir=tmp_path, normalize="true").architecture.normalize
    assert "was trained with normalize false" in capsys.readouterr().out


@pytest.mark.parametrize("name", KNOWN)
def test_missing_weights_name_the_files_to_fetch_and_their_place(name, tmp_path):
    with pytest.raises(UserError) as error:
        built(name, weights_dir=tmp_path / "encoders")
    message = str(error.value)
    assert "HF_HUB_OFFLINE is set" in message and "\n" not in message
    assert f"fetch config.json and {KNOWN[name].weights} of {KNOWN[name].hub}" in message
    assert f"into {tmp_path}/encoders/{name}/" in message


def test_an_unreachable_hub_is_given_up_in_time(tmp_path, monkeypatch):
    """A listener that never answers is what a firewall looks like."""
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(sources, "_HUB_TIMEOUT_S", 0.5)
        start = time.monotonic()
        with pytest.raises(UserError, match="the model hub cannot be reached .*fetch config.json"):
            built("mHuBERT-147", weights_dir=tmp_path)
        assert time.monotonic() - start < 10


def test_random_weights_come_in_named_sizes(capsys):
    assert built("random:tiny").architecture.normalize is False
    assert built("random:tiny", normalize="true").architecture.normalize is True
    assert "untrained" in capsys.readouterr().out
    with pytest.raises(UsageError, match="random:huge: no such size; there are hubert-base, xls-r-300m"):
        built("random:huge")


# ------------------------------------------------------------------ every tensor


@pytest.mark.parametrize("kind", KINDS)
def test_no_tensor_can_be_missed_in_silence(kind, tmp_path):
    """Leave out each tensor in turn: an error that names it, but for the mask vector, which is reported as new."""
    encoder, folder = saved(tmp_path, kind)
    tensors = load_file(str(folder / "model.safetensors"))
    assert set(tensors) == set(encoder.backbone.state_dict())
    for name in tensors:
        fewer = {other: tensor for other, tensor in tensors.items() if other != name}
        if name == "masked_spec_embed":
            assert load_tensors(encoder.backbone, fewer, folder).new == [name]
        else:
            with pytest.raises(UserError, match=name.replace(".", r"\.") + " missing"):
                load_tensors(encoder.backbone, fewer, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_takes_the_value_of_the_file(kind, tmp_path):
    """The numeric side: each tensor is filled with a number of its own, and found where it belongs."""
    encoder, folder = saved(tmp_path, kind)
    own = encoder.backbone.state_dict()
    numbered = {name: torch.full_like(tensor, 1.0 + index) for index, (name, tensor) in enumerate(own.items())}
    report = load_tensors(encoder.backbone, numbered, folder)
    assert len(report.loaded) == len(numbered) and not report.left_out and not report.new
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(tensor, numbered[name]), name


def naming(tensors, kind):
    g, v = tensors.pop(f"{POSITION}.weight_g"), tensors.pop(f"{POSITION}.weight_v")
    if kind == "old":
        return {**tensors, f"{POSITION}.weight_g": g, f"{POSITION}.weight_v": v}
    if kind == "new":
        prefix = f"{POSITION}.parametrizations.weight.original"
        return {**tensors, f"{prefix}0": g, f"{prefix}1": v}
    return {**tensors, f"{POSITION}.weight": torch._weight_norm(v, g, 2)}


@pytest.mark.parametrize("kind", ["old", "new", "whole"])
def test_the_three_namings_of_the_positional_kernel_give_the_same_frames(kind, tmp_path):
    encoder, folder = saved(tmp_path)
    tensors = naming(load_file(str(folder / "model.safetensors")), kind)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(folder / "model.safetensors"))
    batch = ragged_batch([6000, 3000])
    torch.testing.assert_close(built(folder)(*batch)[0], encoder(*batch)[0])


def test_a_file_for_another_shape_of_model_is_refused(tmp_path):
    encoder, folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"num_hidden_layers": 1}, r"encoder\.layers\.1\..* have no place"),
        ({"num_hidden_layers": 3}, r"encoder\.layers\.2\..* missing"),
        ({"intermediate_size": 65}, r"feed_forward\.intermediate_dense\.weight has shape \(64, 32\), .* \(65, 32\)"),
        ({"model_type": "wavlm"}, "model_type wavlm is not one of hubert, wav2vec2"),
        ({"add_adapter": True}, "add_adapter True is not supported"),
        ({"num_attention_heads": 5}, "hidden_size 32 is not a multiple"),
        ({"conv_dim": [16]}, "differ in length"),
        ({"num_conv_pos_embedding_groups": 5}, "transformers cannot build"),
        ({"hidden_act": "sinus"}, "transformers cannot build"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=message) as error:
            built(folder)
        assert str(folder) in str(error.value)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    encoder, folder = saved(tmp_path)
    tensors = load_file(str(folder / "model.safetensors"))
    tensors["feature_projection.projection.bias"][3] = float("nan")
    save_file(tensors, str(folder / "model.safetensors"))
    with pytest.raises(UserError, match="feature_projection.projection.bias holds values that are not finite"):
        built(folder)


# ------------------------------------------------------------------ files that are not encoders


def test_a_file_that_is_no_encoder_gets_one_line(tmp_path):
    encoder, folder = saved(tmp_path)
    config = (folder / "config.json").read_text()
    cases = {
        "text.bin": (b"hello", "not a checkpoint"),
        "empty.pt": (b"", "not a checkpoint"),
        "text.safetensors": (b"hello world, long enough", "not a safetensors file"),
        "pointer.bin": (b"version https://git-lfs and so on", "Git LFS pointer"),
        "cut.safetensors": ((folder / "model.safetensors").read_bytes()[:-100], "not a safetensors file"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(UserError, match=message) as error:
            built(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
    torch.save([1, 2], tmp_path / "list.bin")
    torch.save({"a": 1}, tmp_path / "none.bin")
    for name, message in (("list.bin", "holds a list"), ("none.bin", "holds no tensors")):
        with pytest.raises(UserError, match=message):
            built(tmp_path / name)


def test_a_path_that_leads_nowhere_is_said_to(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    for source, message in (
        (tmp_path / "absent.pt", "no such file or folder"),
        ("hubert", r"no known model \(chinese-hubert-base, "),
        (tmp_path / "empty", "no encoder in it; .* found nothing"),
        (tmp_path / "notes.txt", "an encoder is a .safetensors, .bin, .pt file or a folder"),
    ):
        with pytest.raises(UserError, match=message):
            built(source)


def test_weights_without_a_configuration_ask_for_it(tmp_path):
    encoder, folder = saved(tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="needs its config.json beside it"):
        built(folder / "model.safetensors")


def test_normalisation_is_never_guessed(tmp_path):
    encoder, folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["normalize"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')
    assert built(folder).architecture.normalize is True
    assert built(folder, normalize="false").architecture.normalize is False
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match="nothing says whether its input is normalised; set normalize true or false"):
        built(folder)


def test_an_encoder_knows_the_files_of_its_weights(tmp_path):
    _, folder = saved(tmp_path)
    assert built(folder).read_from == (folder / "model.safetensors",)
    assert built("random:tiny").read_from == ()


def test_saving_overwrites_nothing(tmp_path):
    encoder, folder = saved(tmp_path)
    with pytest.raises(UserError, match="not empty"):
        save_encoder(encoder, folder)


def test_settings_are_read_without_torch_or_transformers():
    code = "import sys, icefall_ext.encoders.spec; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
