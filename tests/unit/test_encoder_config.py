from dataclasses import dataclass

import pytest

from icefall_ext.cli import group, parse
from icefall_ext.encoders.spec import Architecture, EncoderConfig, freeze_depth, known_model, named_size
from icefall_ext.errors import UsageError


@dataclass
class Config:
    encoder: EncoderConfig = group(EncoderConfig, "the encoder")


def test_settings_come_from_a_command_line_and_a_yaml_file(tmp_path):
    (tmp_path / "c.yaml").write_text("encoder: {source: random:tiny, normalize: true, dropout: 0.2, padding: none}\n")
    options = ["--encoder.freeze", "layers:6", "--encoder.dropout", "none"]
    cfg = parse(Config, ["--config", str(tmp_path / "c.yaml"), *options])
    cfg.encoder.check()
    assert cfg.encoder.wants_normalized() is True and cfg.encoder.freeze == "layers:6" and cfg.encoder.dropout is None
    assert EncoderConfig().wants_normalized() is None and EncoderConfig(normalize="False").wants_normalized() is False


@pytest.mark.parametrize(
    "change",
    [
        {"mask_time_prob": 1.5},
        {"mask_feature_prob": -0.1},
        {"mask_time_length": 0},
        {"layer_drop": 2.0},
        {"dropout": 1.0},
        {"lr_scale": 0.0},
        {"layer_lr_decay": float("inf")},
        {"padding": "exactly"},
        {"subsampling": "4x"},
        {"normalize": "yes"},
        {"freeze": "layers:"},
        {"freeze": "front"},
    ],
)
def test_a_value_that_cannot_be_is_named_before_work_starts(change):
    (key, value), = change.items()
    with pytest.raises(UsageError, match=f"^{key} {value}: must"):
        EncoderConfig(**change).check()


def test_freezing_names_a_depth_and_knows_the_number_of_layers():
    assert [freeze_depth(word, 12) for word in ("none", "front_end", "embeddings", "layers:1", "layers:12", "all")] == [
        -1, 0, 1, 2, 13, 14,
    ]
    for word in ("layers:0", "layers:13"):
        with pytest.raises(UsageError, match="this encoder has layers 1 to 12"):
            freeze_depth(word, 12)


def test_published_models_are_found_by_either_name():
    for name in ("chinese-hubert-base", "TencentGameMate/chinese-hubert-base", "Chinese-HuBERT-base"):
        assert known_model(name).licence == "MIT"
    assert known_model("mHuBERT-147").licence == "CC-BY-NC-SA-4.0" and known_model("hubert-large") is None


def test_named_sizes_have_the_shape_of_the_published_models():
    assert known_model("chinese-hubert-base").fits(named_size("hubert-base"))
    assert known_model("wav2vec2-xls-r-300m").fits(named_size("xls-r-300m"))
    assert not known_model("wav2vec2-xls-r-300m").fits(named_size("hubert-base"))


def test_an_architecture_survives_json():
    import json

    for size in ("hubert-base", "xls-r-300m", "mel-mini", "mel-mini-xls-r"):
        architecture = named_size(size)
        assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


def test_an_offset_is_for_encoders_whose_norms_take_it_out():
    size = named_size("mel-mini-xls-r")
    assert size.config["state_offset"] == 3.0 and "state_offset" not in named_size("mel-mini").config
    with pytest.raises(UsageError, match="state_offset 3.0 needs do_stable_layer_norm"):
        Architecture.from_config({**size.to_dict(), "do_stable_layer_norm": False}, True, "config.json")
