"""What a user chooses about decoding. Imports no torch: programs read their options before they load anything."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path

from icefall_ext.cli import option, required
from icefall_ext.errors import UsageError

BEAM_SIZE, BEAM, CONTEXTS, STATES = "beam_size", "beam", "max_contexts", "max_states"
BLANK, TEMPERATURE, LM, HOTWORDS = "blank_penalty", "temperature", "lm_scale", "hotword_bonus"
OPTIONS_OF = {  # of each method, in the order in which file names have them
    "greedy_search": (BLANK, TEMPERATURE),
    "modified_beam_search": (BEAM_SIZE, BLANK, TEMPERATURE, LM, HOTWORDS),
    "fast_beam_search": (BEAM, CONTEXTS, STATES, BLANK, TEMPERATURE),
}
METHODS = tuple(OPTIONS_OF)
SWEPT = {name for names in OPTIONS_OF.values() for name in names}
SEARCH_BACKENDS = ("auto", "torch", "k2")
_UNSAID = {BLANK: 0.0, TEMPERATURE: 1.0}  # values that file names leave out
AVERAGED = "-use-averaged-model"


@dataclass
class ModelChoice:
    exp_dir: Path = required("folder of the training, with its checkpoints and lang/")
    epoch: int = option(0, "the last epoch to use; 0: the last there is")
    iter: int = option(0, "instead: the batch of the last checkpoint-N.pt to use")
    avg: int = option(1, "average over so many epochs, or batch checkpoints, up to that one")
    use_averaged_model: bool = option(True, "by the running average kept in training, not by the checkpoints alone")
    model_config: str = option("", "yaml that says which model it is, for checkpoints that do not (icefall's)")
    device: str = option("auto", "cpu, cuda, or auto: cuda where there is one")
    threads: int = option(0, "threads of torch on a CPU; 0: one for a small model, else one for each core")

    def check_model_choice(self) -> None:
        if self.epoch < 0 or self.iter < 0 or self.threads < 0:
            raise UsageError(f"--epoch {self.epoch}, --iter {self.iter}, --threads {self.threads}: not below 0")
        if self.model_config and not Path(self.model_config).is_file():
            raise UsageError(f"--model-config {self.model_config}: no such file")


@dataclass(frozen=True)
class Setting:
    """One way to decode: a method and a value for each of its options."""

    method: str
    values: tuple[tuple[str, float], ...]
    sources: tuple[tuple[str, str], ...] = ()  # of lm_scale and hotword_bonus, the name of the file they belong to

    @property
    def has_nbest(self) -> bool:
        return self.method != "greedy_search"

    def __str__(self) -> str:
        return " ".join([self.method, *self._said()])

    def suffix(self, of_model: str) -> str:
        """icefall's: epoch-30-avg-9-beam-20.0-max-contexts-8-max-states-64-use-averaged-model."""
        averaged = AVERAGED if of_model.endswith(AVERAGED) else ""
        return "-".join([of_model.removesuffix(AVERAGED), *self._said()]) + averaged

    def _said(self) -> list[str]:
        sources = dict(self.sources)
        return [
            f"{sources[name]}-{label}-{value}" if name in sources else f"{label}-{value}"
            for name, value in self.values
            if _UNSAID.get(name) != value
            for label in [name.replace("_", "-")]
        ]


def sweep(methods: list[str], lists: dict[str, list], sources: dict[str, str]) -> list[Setting]:
    """Every combination of values, for every method those of its own options.

    `lists` are the values by option; an option of lm_scale and hotword_bonus counts only with a file in `sources`.
    """
    settings = []
    for method in dict.fromkeys(methods):
        names = [name for name in OPTIONS_OF[method] if name not in (LM, HOTWORDS) or name in sources]
        for name in names:
            if not lists[name] or not all(map(isfinite, lists[name])):
                raise UsageError(f"--{name.replace('_', '-')} {lists[name]}: needs numbers")
        own = tuple((name, sources[name]) for name in names if name in sources)
        combinations = product(*(dict.fromkeys(lists[name]) for name in names))
        settings += [Setting(method, tuple(zip(names, values)), own) for values in combinations]
    for name in sources:
        if not any(name in OPTIONS_OF[method] for method in methods):
            raise UsageError(f"--methods {' '.join(methods)}: none takes a language model or hotwords; add "
                             "modified_beam_search")
    return settings
