"""Checkpoints in fairseq's layout, written here by hand: its names, its configuration objects, its classes."""

import argparse
import io
import os
import sys
import types
from collections import OrderedDict
from enum import Enum

import pytest
import torch

from icefall_ext.encoders import pickles
from icefall_ext.encoders.fairseq import _layer_list
from icefall_ext.encoders.load import build_encoder
from icefall_ext.encoders.pickles import Inert, plain, read_pickled
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError, UserError
from tests.encoder_toys import GROUP_NORM, LAYER_NORM, ragged_batch, toy_encoder


def fairseq_names(encoder):
    """(our name, fairseq's) for every tensor, spelled out part by part."""
    config, pairs = encoder.architecture.config, [("masked_spec_embed", "mask_emb")]
    layer_norm = config["feat_extract_norm"] == "layer"
    for i in range(7):
        ours, theirs = f"feature_extractor.conv_layers.{i}", f"feature_extractor.conv_layers.{i}"
        pairs += [(f"{ours}.conv.weight", f"{theirs}.0.weight")]
        pairs += [(f"{ours}.conv.bias", f"{theirs}.0.bias")] if config["conv_bias"] else []
        norm = f"{theirs}.2.1" if layer_norm else f"{theirs}.2"
        if layer_norm or i == 0:
            pairs += [(f"{ours}.layer_norm.{part}", f"{norm}.{part}") for part in ("weight", "bias")]
    for part in ("weight", "bias"):
        pairs += [(f"feature_projection.layer_norm.{part}", f"layer_norm.{part}")]
        pairs += [(f"feature_projection.projection.{part}", f"post_extract_proj.{part}")]
        pairs += [(f"encoder.layer_norm.{part}", f"encoder.layer_norm.{part}")]
    pairs += [(f"encoder.pos_conv_embed.conv.{p}", f"encoder.pos_conv.0.{p}") for p in ("bias", "weight_g", "weight_v")]
    for i in range(2):
        layer = f"encoder.layers.{i}"
        for part in ("weight", "bias"):
            pairs += [(f"{layer}.attention.{x}_proj.{part}", f"{layer}.self_attn.{x}_proj.{part}") for x in "kvq"]
            pairs += [(f"{layer}.attention.out_proj.{part}", f"{layer}.self_attn.out_proj.{part}")]
            pairs += [(f"{layer}.layer_norm.{part}", f"{layer}.self_attn_layer_norm.{part}")]
            pairs += [(f"{layer}.feed_forward.intermediate_dense.{part}", f"{layer}.fc1.{part}")]
            pairs += [(f"{layer}.feed_forward.output_dense.{part}", f"{layer}.fc2.{part}")]
            pairs += [(f"{layer}.final_layer_norm.{part}", f"{layer}.final_layer_norm.{part}")]
    return pairs


def fairseq_tensors(encoder, wrapper=""):
    ours = encoder.backbone.state_dict()
    pairs = fairseq_names(encoder)
    assert sorted(name for name, _ in pairs) == sorted(ours)
    return OrderedDict((wrapper + theirs, ours[name].clone()) for name, theirs in pairs)


def model_settings(encoder, name):
    config = encoder.architecture.config
    return {
        "_name": name,
        "extractor_mode": "layer_norm" if config["feat_extract_norm"] == "layer" else "default",
        "encoder_layers": 2,
        "encoder_embed_dim": 32,
        "encoder_attention_heads": 2,
        "activation_fn": "gelu",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "dropout_input": 0.1,
        "layer_norm_first": config["do_stable_layer_norm"],
        "conv_feature_layers": "[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2",
        "conv_bias": config["conv_bias"],
        "conv_pos": 16,
        "conv_pos_groups": 4,
    }


HEADS = {
    "label_embs_concat": torch.ones(5, 8),
    "final_proj.weight": torch.ones(8, 32),
    "final_proj.bias": torch.ones(8),
}


def hubert_checkpoint(normalize=False):
    encoder = toy_encoder(GROUP_NORM)
    cfg = {"model": model_settings(encoder, "hubert"), "task": {"_name": "hubert_pretraining", "normalize": normalize}}
    tensors = {**fairseq_tensors(encoder), **HEADS}
    return encoder, {"args": None, "cfg": cfg, "model": tensors, "extra_state": {"epoch": 3}}


def wav2vec_checkpoint():
    encoder = toy_encoder(LAYER_NORM)
    heads = {name: torch.ones(2, 2) for name in ("quantizer.vars", "project_q.weight", "final_proj.weight")}
    cfg = {"model": model_settings(encoder, "wav2vec2"), "task": {"normalize": True}}
    return encoder, {"cfg": cfg, "model": {**fairseq_tensors(encoder), **heads}}


def read(path, checkpoint, **options):
    torch.save(checkpoint, path)
    return build_encoder(EncoderConfig(source=str(path), **options)).eval()


def same(encoder, other):
    batch = ragged_batch([6000, 3000])
    mine, theirs = encoder.architecture, other.architecture
    assert mine.normalize == theirs.normalize and mine.model_type == theirs.model_type
    return torch.equal(encoder(*batch)[0], other(*batch)[0])


def test_hubert_and_wav2vec_checkpoints_give_the_frames_of_the_model_they_hold(tmp_path, capsys):
    for encoder, checkpoint in (hubert_checkpoint(), wav2vec_checkpoint()):
        assert same(encoder, read(tmp_path / "model.pt", checkpoint))
        heads = [name for name in checkpoint["model"] if name.startswith(("label", "final", "quantizer", "project_q"))]
        out = capsys.readouterr().out
        assert f"{len(encoder.backbone.state_dict())} tensors loaded; left out: {', '.join(heads)}" in out


def test_a_fine_tuned_checkpoint_is_read_through_its_wrapper(tmp_path):
    encoder, checkpoint = wav2vec_checkpoint()
    inner = {"model": checkpoint["cfg"]["model"], "task": {"normalize": True}}
    cfg = {"model": {"_name": "wav2vec_ctc", "w2v_args": inner}, "task": {"normalize": True}}
    tensors = {**fairseq_tensors(encoder, "w2v_encoder.w2v_model."), "w2v_encoder.proj.weight": torch.ones(4, 32)}
    assert same(encoder, read(tmp_path / "ft.pt", {"cfg": cfg, "model": tensors}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("new_zip", [True, False])
def test_configurations_of_every_era_are_read_as_data(tmp_path, new_zip):
    """A dict; an argparse namespace; an omegaconf tree; and in each an enum and a class that exists only in fairseq."""
    from omegaconf import OmegaConf

    fairseq = types.ModuleType("fairseq_stand_in")
    fairseq.Dictionary = type("Dictionary", (), {"__module__": "fairseq_stand_in"})
    fairseq.Mode = Enum("Mode", {"default": "default"}, module="fairseq_stand_in")
    sys.modules["fairseq_stand_in"] = fairseq
    try:
        encoder, checkpoint = hubert_checkpoint(normalize=False)
        dictionary = fairseq.Dictionary()
        dictionary.symbols = ["a", "b"]
        flat = {**checkpoint["cfg"]["model"], "normalize": False, "extractor_mode": fairseq.Mode.default}
        versions = {
            "dict": {"cfg": checkpoint["cfg"]},
            "namespace": {"args": argparse.Namespace(**flat), "cfg": None},
            "omegaconf": {"args": None, "cfg": OmegaConf.create(checkpoint["cfg"])},
        }
        for name, version in versions.items():
            path = tmp_path / f"{name}.pt"
            torch.save({**version, "model": checkpoint["model"], "task_state": {"dictionaries": [dictionary]}}, path,
                       _use_new_zipfile_serialization=new_zip)
    finally:
        del sys.modules["fairseq_stand_in"]
    for name in versions:
        assert same(encoder, build_encoder(EncoderConfig(source=str(tmp_path / f"{name}.pt"))).eval()), name


def test_the_configuration_beside_a_checkpoint_goes_before_its_own(tmp_path):
    from icefall_ext.encoders.load import save_encoder

    encoder, checkpoint = hubert_checkpoint()
    del checkpoint["cfg"]
    with pytest.raises(UserError, match="lacks conv_feature_layers; put the model's config.json beside it"):
        read(tmp_path / "model.pt", checkpoint)
    save_encoder(encoder, tmp_path / "saved")
    (tmp_path / "saved" / "config.json").rename(tmp_path / "config.json")
    assert same(encoder, read(tmp_path / "model.pt", checkpoint))


def test_each_fairseq_tensor_is_needed(tmp_path):
    encoder, checkpoint = hubert_checkpoint()
    for _, theirs in fairseq_names(encoder):
        if theirs in ("mask_emb", "post_extract_proj.weight"):
            continue
        fewer = {**checkpoint, "model": {k: v for k, v in checkpoint["model"].items() if k != theirs}}
        with pytest.raises(UserError):
            read(tmp_path / "model.pt", fewer)


def test_tensors_of_another_kind_of_encoder_are_an_error_not_left_out(tmp_path):
    encoder, checkpoint = hubert_checkpoint()
    checkpoint["model"]["encoder.layers.0.self_attn.grep_a"] = torch.ones(1)  # as in WavLM
    with pytest.raises(UserError, match="self_attn.grep_a .* no place"):
        read(tmp_path / "model.pt", checkpoint)


def test_normalisation_comes_from_the_task_or_has_to_be_given(tmp_path):
    assert read(tmp_path / "a.pt", hubert_checkpoint(normalize=True)[1]).architecture.normalize
    _, checkpoint = hubert_checkpoint()
    del checkpoint["cfg"]["task"]
    with pytest.raises(UsageError, match="set normalize true or false"):
        read(tmp_path / "b.pt", checkpoint)
    assert not read(tmp_path / "b.pt", checkpoint, normalize="false").architecture.normalize


# ------------------------------------------------------------------ safety


class Touch:
    """What an attacker writes: unpickling it runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Evaluate:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('evaluated').touch()",)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("new_zip", [True, False])
@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_nothing_in_a_checkpoint_is_run(tmp_path, monkeypatch, suffix, new_zip):
    monkeypatch.chdir(tmp_path)
    path, mark = tmp_path / f"model{suffix}", tmp_path / "touched"
    encoder, checkpoint = hubert_checkpoint()
    checkpoint["cfg"]["evil"] = [Touch(mark), Evaluate()]
    torch.save(checkpoint, path, _use_new_zipfile_serialization=new_zip)
    assert same(encoder, build_encoder(EncoderConfig(source=str(path))).eval())
    assert not mark.exists() and not (tmp_path / "evaluated").exists()
    torch.load(path, **({"weights_only": False} if torch.__version__ >= "2" else {}))
    assert mark.exists(), "the attack works where it is not stopped"


def test_a_checkpoint_changes_nothing_in_torch():
    """BUILD on a named function sets its attributes: a pickle that asks for it by opcode gets a stand-in."""
    before = torch._utils._rebuild_tensor_v2.__doc__
    program = b"ctorch._utils\n_rebuild_tensor_v2\n(N(dV__doc__\nVchanged\nstb."  # state (None, {"__doc__": "changed"})
    assert pickles._Unpickler(io.BytesIO(program)).load().__doc__ == "changed"
    assert torch._utils._rebuild_tensor_v2.__doc__ == before


@pytest.mark.filterwarnings("ignore")
def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path):
    class Wide:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (torch.ones(2).storage(), 0, (5,), (1,), False, OrderedDict())

    torch.save({"a": Wide()}, tmp_path / "wide.pt")
    with pytest.raises(UserError, match="not a checkpoint that can be read safely"):
        read_pickled(tmp_path / "wide.pt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("new_zip", [True, False])
def test_tensors_of_every_type_and_shape_are_read_as_torch_reads_them(tmp_path, new_zip):
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "views": [base, base.t(), base[1:3, ::2], base[2]],
        "types": [base.double(), base.half(), base.bfloat16(), base.long(), base.byte(), base.bool()],
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": {"a": [1, 2.5, "x", None, True], "b": (b"bytes".decode(), {3})},
    }
    torch.save(content, tmp_path / "all.pt", _use_new_zipfile_serialization=new_zip)
    read_back = read_pickled(tmp_path / "all.pt")
    for key in ("views", "types"):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(read_back[key], content[key]))
    for key in ("empty", "scalar", "parameter"):
        assert torch.equal(read_back[key], content[key]) and read_back[key].shape == content[key].shape
    assert read_back["plain"] == content["plain"]
    assert read_back["views"][0].data_ptr() == read_back["views"][1].data_ptr(), "shared memory stays shared"


def test_a_cut_or_damaged_file_is_refused(tmp_path):
    for new_zip in (True, False):
        torch.save({"a": torch.arange(5000.0)}, tmp_path / "a.pt", _use_new_zipfile_serialization=new_zip)
        content = (tmp_path / "a.pt").read_bytes()
        (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match="cut.pt"):
            read_pickled(tmp_path / "cut.pt")
    torch.save({"a": torch.arange(5000.0)}, tmp_path / "a.pt")
    damaged = bytearray((tmp_path / "a.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "a.pt").write_bytes(damaged)
    with pytest.raises(UserError, match="CRC"):
        read_pickled(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_and_tar_files_are_not_opened(tmp_path):
    import tarfile

    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    with tarfile.open(tmp_path / "old.pt", "w") as archive:
        archive.add(__file__, "pickle")
    for name, message in (("script.pt", "TorchScript code"), ("old.pt", "a tar archive")):
        with pytest.raises(UserError, match=message):
            build_encoder(EncoderConfig(source=str(tmp_path / name)))


def test_foreign_objects_come_out_as_plain_data(tmp_path):
    assert plain({"a": (1, "red"), "b": OrderedDict(c=None)}) == {"a": [1, "red"], "b": {"c": None}}
    torch.save({"n": argparse.Namespace(x=1, y=[argparse.Namespace(z="q")])}, tmp_path / "n.pt")
    content = read_pickled(tmp_path / "n.pt")
    assert isinstance(content["n"], Inert) and plain(content) == {"n": {"x": 1, "y": [{"z": "q"}]}}


def test_layer_lists_are_read_without_running_them():
    assert _layer_list("[(512,10,5)] + [(512,3,2)] * 2 + [(8,2,2)]") == [(512, 10, 5), *[(512, 3, 2)] * 2, (8, 2, 2)]
    for text in ("__import__('os').system('true')", "[(1,2,3)] * 10**9", "[(1,2,3)] * 1000", "open", "[(1,2,3)] * 'a'"):
        with pytest.raises((ValueError, TypeError)):
            _layer_list(text)
