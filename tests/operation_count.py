"""How many operations torch is asked for; on a GPU each is a kernel launch or, for lists of many tensors, a few."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WITHOUT_KERNEL = (
    "view", "alias", "split", "unbind", "slice", "unsqueeze", "select", "expand",
    "detach", "lift", "record_function",
)


class OperationCount(TorchDispatchMode):
    """`with OperationCount() as counted: ...`, then `counted.operations`; views and empty tensors are not counted."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        nothing = args and isinstance(args[0], torch.Tensor) and not args[0].numel()
        self.operations += not nothing and not any(name in str(function) for name in WITHOUT_KERNEL)
        return function(*args, **(kwargs or {}))
