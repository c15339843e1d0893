"""A timm network taken apart and proved. timm has over a thousand networks, and no table of cuts would hold for all.

So the network is rehearsed on a black picture to see which of its children it calls, in which order; a rule puts them
in a row; and the row counts only if it does the same operations in the same order as the network and comes to the same
numbers, bit for bit, on a random picture. (The operations say it for every weight, even for those that are zero at the
start, and on the meta device, where there are no numbers.) Without such a row the network is one single stage: it can
be trained as a whole or stand still as a whole, slower but never wrong.

Knows nothing of names, weights' files, heads or training.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from headswap.common.errors import InputError
from headswap.networks.stage import MAX_STAGE_GROUPS, Stage, StagedNetwork, group_blocks, make_stages

# What timm calls a child that is the network's body: `stages`, `blocks`, `layer1`, `level2`, `features`.
BODY_NAME_PATTERN = re.compile(r"(stage|block|layer|level|feature|trunk)s?_?\d*$")

MIN_STAGES = 3  # stages that say too little

SINGLE_STAGE_NOTE = "{} does not come apart into stages, so it counts as one: it stands still or learns as a whole."


class ModuleCall(NamedTuple):
    """A module that was called, and with what beside its first argument."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class ForwardTrace(NamedTuple):
    """What a network called on the way to its last map, and from there to the vector before its last layer."""

    feature_calls: list[ModuleCall]
    head_calls: list[ModuleCall]


class ForwardFeatures(nn.Module):
    """A network up to its last map or tokens."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return self.network.forward_features(x)


class PreLogitsPool(ForwardFeatures):
    """A network from its last map to the vector ``[N, features]`` before its last layer."""

    def forward(self, x: Any) -> Tensor:
        return self.network.forward_head(x, pre_logits=True)


class PreLogitsExtractor(PreLogitsPool):
    """A network up to the vector before its last layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.network.forward_features(x))


class BoundModule(nn.Module):
    """A module with what its network hands it beside the image and for every image alike, as rotary positions."""

    def __init__(self, call: ModuleCall) -> None:
        super().__init__()
        self.module, self.args, self.kwargs = call.module, call.args, dict(call.kwargs)
        for name, value in call.kwargs.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, self.kwargs.pop(name))
        if any(isinstance(value, Tensor) for value in call.args):
            raise TypeError("Only a named tensor can move to another device with its module.")

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x, *self.args, **self.kwargs, **dict(self.named_buffers(recurse=False)))


class OperationRecorder(TorchFunctionMode):
    """Notes down every operation of torch while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[Callable[..., Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.recorded.append(func)
        return func(*args, **(kwargs or {}))


def is_timm_network(network: nn.Module) -> bool:
    """Whether a network speaks as timm's do."""
    return all(hasattr(network, name) for name in ("pretrained_cfg", "forward_features", "forward_head"))


def split_timm_into_stages(network: nn.Module) -> StagedNetwork:
    """The parts of a network of timm, whose modules they share; with a ``note`` if it has to be one single stage."""
    was_training = network.training
    with torch.no_grad(), _eval_mode(network):
        parts = _find_verified_split(network)
    for module in (parts.stages, parts.pool, parts.original_head):
        module.train(was_training)
    return parts


def _find_verified_split(network: nn.Module) -> StagedNetwork:
    picture = _make_random_image(network)
    for rule in (_split_transformer, _split_children, _split_as_one_stage):
        # Whatever a rule stumbles over in a network that it was not made for, the next one is tried.
        try:
            stages, pool = rule(network, _trace_forward(network, torch.zeros_like(picture)))
            if _is_equivalent(stages, pool, network, picture):
                return _assemble_staged_network(stages, pool, network, picture)
        except Exception:
            continue
    try:
        return _assemble_staged_network(*_wrap_whole_network(network), network, picture)
    except Exception as error:
        raise InputError(
            f"The network {type(network).__name__} does not make one vector of a picture, so it cannot have a new "
            "head. Choose another one."
        ) from error


def _split_transformer(network: nn.Module, trace: ForwardTrace) -> tuple[nn.Sequential, Stage]:
    """A transformer: all that it does before its blocks, the blocks, and its norm with the pooling."""
    blocks = [_bind_call(call) for call in trace.feature_calls if call.module in set(network.blocks)]
    before = _copy_with_children(network, blocks=type(network.blocks)(), norm=nn.Identity())
    used = {call.module for call in trace.feature_calls}
    patches = _keep_children(before, lambda child: any(m in used for m in child.modules()))
    stages = make_stages(patches=ForwardFeatures(patches), **group_blocks(blocks))
    return stages, Stage(network.norm, _build_pool(network, trace, used))


def _split_children(network: nn.Module, trace: ForwardTrace) -> tuple[nn.Sequential, Stage]:
    """The children in the order in which they are called: a stem, the body unpacked, and what comes after it."""
    if any(True for _ in network.parameters(recurse=False)):
        raise ValueError("A network with weights of its own is more than its children.")
    row = _list_child_calls(network, trace)
    is_body = [bool(BODY_NAME_PATTERN.match(name)) for name, _ in row]
    if sum(len(_unpack_container(*row[i])) for i, body in enumerate(is_body) if body) < MIN_STAGES:
        is_body = [True] * len(row)
    first, end = is_body.index(True), len(row) - is_body[::-1].index(True)
    stem = [_bind_call(call) for _, call in row[:first]]
    last = [_bind_call(call) for _, call in row[end:]]
    units: list[tuple[str, list[nn.Module]]] = []
    for name, module in chain.from_iterable(_unpack_container(name, call) for name, call in row[first:end]):
        if units and not _has_matrix_weights(module):
            units[-1][1].append(module)
        else:
            units.append((name, [module]))
    if not any(map(_has_matrix_weights, last)):
        units[-1][1].extend(last)
        last = []
    named = {"stem": stem, **_name_stages(units), "last": last}
    stages = make_stages(**{name: modules for name, modules in named.items() if modules})
    return stages, Stage(_build_pool(network, trace, {call.module for _, call in row}))


def _split_as_one_stage(network: nn.Module, trace: ForwardTrace) -> tuple[nn.Sequential, Stage]:
    """All before the last map as one stage."""
    used = {call.module for call in trace.feature_calls}
    features = _keep_children(network, lambda child: any(m in used for m in child.modules()))
    return make_stages(features=ForwardFeatures(features)), Stage(_build_pool(network, trace, used))


def _wrap_whole_network(network: nn.Module) -> tuple[nn.Sequential, Stage]:
    """All before the last layer as one stage, whose map has one position: for maps that are several tensors."""
    body = _replace_with_identity(network, _get_classifiers(network))
    return make_stages(features=[PreLogitsExtractor(body), nn.Unflatten(1, (-1, 1, 1))]), Stage(nn.Flatten())


def _is_equivalent(stages: nn.Sequential, pool: Stage, network: nn.Module, image: Tensor) -> bool:
    """Whether stages and pool do what the network does, and come to the same."""
    with OperationRecorder() as theirs:
        vector = network.forward_head(network.forward_features(image), pre_logits=True)
    with OperationRecorder() as ours:
        last_map = stages(image)
        pooled = pool(last_map)
    held = [id(p) for part in (*stages, pool) for p in part.parameters()]
    fit_for_heads = last_map.ndim in (3, 4) and pooled.ndim == 2 and len(held) == len(set(held))
    return fit_for_heads and ours.recorded == theirs.recorded and _is_equal(pooled, vector)


def _assemble_staged_network(stages: nn.Sequential, pool: Stage, network: nn.Module, image: Tensor) -> StagedNetwork:
    last_map = stages(image)
    pooled = pool(last_map)
    nchw = getattr(network, "output_fmt", "NCHW") == "NCHW" or last_map.shape[2:] == (1, 1)
    note = SINGLE_STAGE_NOTE.format(type(network).__name__) if len(stages) == 1 else ""
    return StagedNetwork(
        stages,
        pool,
        _find_original_head(network, pooled, network(image)),
        1 if nchw and last_map.ndim == 4 else -1,
        note,
    )


def _find_original_head(network: nn.Module, pooled: Tensor, logits: Tensor) -> nn.Module:
    """The last layer if it alone makes the logits of the pooled vector.

    Of a network that was trained without classes, or has several last layers, a new one in its place that is as wide.
    """
    found = _get_classifiers(network)
    if len(found) == 1:
        flat = nn.Sequential(nn.Unflatten(1, (-1, 1, 1)), *found, nn.Flatten())
        last = flat if isinstance(found[0], nn.Conv2d) else found[0]
        if _is_equal(last(pooled), logits):
            return last
    return nn.Linear(pooled.shape[1], 1).to(pooled)


def _is_equal(a: Tensor, b: Tensor) -> bool:
    # Weights at random may overflow, which is no reason to cut a network otherwise than with its learned ones.
    return a.shape == b.shape and (a.is_meta or torch.equal(a.nan_to_num(), b.nan_to_num()))


def _trace_forward(network: nn.Module, image: Tensor) -> ForwardTrace:
    calls: list[ModuleCall] = []

    def note(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        calls.append(ModuleCall(module, arguments[1:], options))

    hooks = [module.register_forward_pre_hook(note, with_kwargs=True) for module in network.modules()]
    try:
        features = network.forward_features(image)
        before_the_head = len(calls)
        network.forward_head(features, pre_logits=True)
    finally:
        for hook in hooks:
            hook.remove()
    return ForwardTrace(calls[:before_the_head], calls[before_the_head:])


def _bind_call(call: ModuleCall) -> nn.Module:
    given = (*call.args, *call.kwargs.values())
    return call.module if all(value is None for value in given) else BoundModule(call)


def _list_child_calls(network: nn.Module, trace: ForwardTrace) -> list[tuple[str, ModuleCall]]:
    """The calls of children, and of what lies in a list that is not called itself, each with the child's name."""
    called = {call.module for call in trace.feature_calls}
    names: dict[nn.Module, str] = {}
    for name, child in network.named_children():
        is_list = isinstance(child, nn.ModuleList | nn.Sequential) and child not in called
        names |= dict.fromkeys(child if is_list else [child], name)
    return [(names[call.module], call) for call in trace.feature_calls if call.module in names]


def _unpack_container(name: str, call: ModuleCall) -> list[tuple[str, nn.Module]]:
    """The children of a container that only runs them in a row, named after their order."""
    if type(call.module) is nn.Sequential and BODY_NAME_PATTERN.match(name) and not name[-1].isdigit():
        return [(str(i), child) for i, child in enumerate(call.module, 1)]
    return [(name, _bind_call(call))]


def _name_stages(blocks: list[tuple[str, list[nn.Module]]]) -> dict[str, list[nn.Module]]:
    """Units under their own names where these are few and differ, else under their numbers."""
    if len(blocks) <= MAX_STAGE_GROUPS and len(dict(blocks)) == len(blocks) and not blocks[0][0].isdigit():
        return dict(blocks)
    rows = group_blocks([modules for _, modules in blocks])
    return {name: [module for modules in row for module in modules] for name, row in rows.items()}


def _has_matrix_weights(module: nn.Module) -> bool:
    """Whether it is more than a norm, an activation or a pooling."""
    return any(p.ndim > 1 for p in module.parameters())


def _build_pool(network: nn.Module, trace: ForwardTrace, stage_modules: set[nn.Module]) -> PreLogitsPool:
    """The network's way from the map to the vector with those children that it needs and no stage has."""
    used = {call.module for call in trace.head_calls}
    kept = _keep_children(network, lambda child: child not in stage_modules and any(m in used for m in child.modules()))
    kept._parameters, kept._buffers = {}, {}  # they belong to the stages
    return PreLogitsPool(_replace_with_identity(kept, _get_classifiers(network)))


def _keep_children(network: nn.Module, predicate: Callable[[nn.Module], bool]) -> nn.Module:
    """The network with those of its children that are wanted or have no weights; identities for the others."""
    children = {
        name: child if not child.state_dict() or predicate(child) else nn.Identity()
        for name, child in network.named_children()
    }
    return _copy_with_children(network, **children)


def _replace_with_identity(module: nn.Module, replaced: list[nn.Module]) -> nn.Module:
    """The module with identities for those in it that are unwanted; it shares all others."""
    if module in replaced:
        return nn.Identity()
    if not any(m in replaced for m in module.modules()):
        return module
    return _copy_with_children(
        module, **{name: _replace_with_identity(child, replaced) for name, child in module.named_children()}
    )


def _copy_with_children(module: nn.Module, **children: nn.Module) -> nn.Module:
    """The same module with other children in place of its own; whatever else it has, it shares."""
    other = copy.copy(module)
    other._modules = {**module._modules, **children}
    return other


def _get_classifiers(network: nn.Module) -> list[nn.Module]:
    """Its last layer, several for a network that was distilled, or none."""
    found = network.get_classifier() if hasattr(network, "get_classifier") else None
    layers = found if isinstance(found, tuple | list | nn.ModuleList) else [found]
    layers = [getattr(layer, "fc", layer) for layer in layers]  # some name the whole head, pooling and all
    return [layer for layer in layers if isinstance(layer, nn.Module) and layer.state_dict()]


def _make_random_image(network: nn.Module) -> Tensor:
    """One random picture as large as the network wants it; the seeds of whoever calls stay as they are."""
    weights = next(network.parameters())
    size = resolve_model_data_config(network)["input_size"]
    chance = torch.Generator("cpu").manual_seed(0)
    return torch.rand(1, *size, generator=chance, device="cpu").to(weights)


@contextmanager
def _eval_mode(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
