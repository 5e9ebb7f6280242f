"""fairseq's checkpoints of HuBERT and wav2vec 2.0: what their configuration says, and transformers' tensor names.

The file holds {"model": tensors, "cfg": configuration (older: "args")}; a fine-tuned one wraps the tensors in
w2v_encoder.w2v_model. and the configuration in w2v_args. Sizes are read off the tensors; strides, heads and the order
of norm and attention leave no trace there and come from the configuration.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from icefall_ext.encoders.pickles import plain
from icefall_ext.errors import UserError

_WRAPPERS = ("w2v_encoder.w2v_model.", "w2v_model.")
_RENAMED = [
    (r"mask_emb", "masked_spec_embed"),
    (r"(feature_extractor\.conv_layers\.\d+)\.0\.(weight|bias)", r"\1.conv.\2"),
    (r"(feature_extractor\.conv_layers\.\d+)\.2\.(?:1\.)?(weight|bias)", r"\1.layer_norm.\2"),
    (r"layer_norm\.(weight|bias)", r"feature_projection.layer_norm.\1"),
    (r"post_extract_proj\.(weight|bias)", r"feature_projection.projection.\1"),
    (r"encoder\.pos_conv\.0\.(.+)", r"encoder.pos_conv_embed.conv.\1"),
    (r"encoder\.layer_norm\.(weight|bias)", r"encoder.layer_norm.\1"),
    (r"encoder\.layers\.(\d+)\.self_attn\.([kvq]|out)_proj\.(weight|bias)", r"encoder.layers.\1.attention.\2_proj.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.(weight|bias)", r"encoder.layers.\1.layer_norm.\2"),
    (r"encoder\.layers\.(\d+)\.fc1\.(weight|bias)", r"encoder.layers.\1.feed_forward.intermediate_dense.\2"),
    (r"encoder\.layers\.(\d+)\.fc2\.(weight|bias)", r"encoder.layers.\1.feed_forward.output_dense.\2"),
    (r"encoder\.layers\.(\d+)\.final_layer_norm\.(weight|bias)", r"encoder.layers.\1.final_layer_norm.\2"),
]


def is_fairseq(tensors: Mapping[str, Any]) -> bool:
    return any(name.endswith("post_extract_proj.weight") for name in tensors)


def to_transformers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without a counterpart (pre-training heads) stay as they are, for the account of what was left out."""
    renamed = {}
    for name, tensor in tensors.items():
        bare = _bare(name)
        for pattern, target in _RENAMED:
            match = re.fullmatch(pattern, bare)
            if match:
                bare = match.expand(target)
                break
        else:
            if bare.startswith(("encoder.", "feature_extractor.")):  # a part of another kind of model
                bare = f"{bare} (fairseq)"
        renamed[bare] = tensor
    return renamed


def _bare(name: str) -> str:
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return name[len(wrapper) :]
    return name


def read_configuration(checkpoint: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """As in a config.json, with `normalize` (None where the file does not say)."""
    names = to_transformers_names(tensors)
    try:
        settings, task = _settings(checkpoint)
        strides = [stride for _, _, stride in _layer_list(_needed(settings, "conv_feature_layers", path))]
        kernels = [names[f"feature_extractor.conv_layers.{index}.conv.weight"] for index in range(len(strides))]
        width = len(names["feature_projection.projection.bias"])
        position = names.get("encoder.pos_conv_embed.conv.weight_v", names.get("encoder.pos_conv_embed.conv.weight"))
        layers = 1 + max(int(name.split(".")[2]) for name in names if name.startswith("encoder.layers."))
        return {
            "model_type": "hubert" if "label_embs_concat" in names or "hubert" in _name(settings) else "wav2vec2",
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": _needed(settings, "encoder_attention_heads", path),
            "intermediate_size": len(names["encoder.layers.0.feed_forward.intermediate_dense.bias"]),
            "hidden_act": _needed(settings, "activation_fn", path, "gelu"),
            "hidden_dropout": _needed(settings, "dropout", path, 0.1),
            "attention_dropout": _needed(settings, "attention_dropout", path, 0.1),
            "activation_dropout": _needed(settings, "activation_dropout", path, 0.0),
            "feat_proj_dropout": _needed(settings, "dropout_input", path, 0.0),
            "feat_extract_norm": "layer" if _has_norm(tensors, layer=1) else "group",
            "conv_dim": [kernel.shape[0] for kernel in kernels],
            "conv_kernel": [kernel.shape[2] for kernel in kernels],
            "conv_stride": strides,
            "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in names,
            "num_conv_pos_embeddings": position.shape[2],
            "num_conv_pos_embedding_groups": width // position.shape[1],
            "do_stable_layer_norm": bool(_needed(settings, "layer_norm_first", path)),
            "normalize": task.get("normalize", settings.get("normalize")),
        }
    except (KeyError, ValueError, AttributeError, IndexError, TypeError, SyntaxError, RecursionError) as error:
        raise UserError(f"{path}: a fairseq checkpoint, but not of HuBERT or wav2vec 2.0 ({error!r})") from None


def _has_norm(tensors: Mapping[str, Tensor], layer: int) -> bool:
    return any(re.search(rf"feature_extractor\.conv_layers\.{layer}\.2\.(1\.)?weight$", name) for name in tensors)


def _settings(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the model and of its task; of the pre-trained model where this is a fine-tuned one."""
    cfg = plain(checkpoint.get("cfg")) or plain(checkpoint.get("args")) or {}
    model = cfg.get("model") if isinstance(cfg.get("model"), Mapping) else cfg
    inner = model.get("w2v_args")
    if isinstance(inner, Mapping):
        model = inner.get("model") if isinstance(inner.get("model"), Mapping) else inner
    task = cfg.get("task")
    return dict(model), dict(task) if isinstance(task, Mapping) else {}


def _name(settings: Mapping[str, Any]) -> str:
    return str(settings.get("_name") or settings.get("arch") or "")


_MISSING = object()


def _needed(settings: Mapping[str, Any], key: str, path: Path, default: Any = _MISSING) -> Any:
    value = settings.get(key)
    if value is not None:
        return value
    if default is _MISSING:
        raise UserError(f"{path}: its configuration lacks {key}; put the model's config.json beside it")
    return default


def _layer_list(text: Any) -> list[tuple[int, int, int]]:
    """`[(512,10,5)] + [(512,3,2)] * 4` as a list, without evaluating code."""

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            layers, times = value(node.left), value(node.right)
            if not isinstance(layers, list) or len(layers) * times > 100:
                raise ValueError(f"conv_feature_layers {text!r}")
            return layers * times
        return ast.literal_eval(node)

    return [tuple(layer) for layer in value(ast.parse(str(text), mode="eval").body)]
