"""Parameter groups with learning rates by module: `module.lr_scale = 0.5` halves the rate of all inside the module.

Scales of nested modules multiply. Groups come in the order of their first parameter, as icefall's do, so that optimiser
states interchange; frozen parameters are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from icefall_ext.errors import UsageError


def parameter_groups(model: nn.Module, lr: float, scale_of: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """[{"named_params": [(name, parameter), ...], "lr": lr times the scale}, ...], one group per learning rate.

    `scale_of` gives scales by the name of the parameter, on top of those of modules.
    """
    scales = {name: float(module.lr_scale) for name, module in model.named_modules() if hasattr(module, "lr_scale")}
    for name, scale in scales.items():
        if scale < 0:
            raise UsageError(f"{name or 'the model'}: lr_scale {scale} is below 0")
    groups: dict[float, list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scaled = lr * (scale_of or {}).get(name, 1.0)
            for module_name, scale in scales.items():
                if not module_name or name.startswith(module_name + "."):
                    scaled *= scale
            groups.setdefault(scaled, []).append((name, parameter))
    if not groups:
        raise UsageError("every parameter of the model is frozen: there is nothing to train")
    return [{"named_params": named, "lr": scaled} for scaled, named in groups.items()]
