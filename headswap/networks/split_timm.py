"""Splits any timm network into stages by tracing its forward pass, and verifies the split bit for bit.

timm has over a thousand networks, too many for a table of split points. So the network is run on a black image to
record which of its children it calls, in which order; a rule arranges these in a sequence; and the sequence is accepted
only if it performs the same operations in the same order as the network and returns the same numbers, bit for bit, for
a random image. (The operations verify every weight, even those that are zero at first, and work on the meta device,
where there are no values.) Without such a sequence the network becomes one single stage: it can be trained or frozen as
a whole, slower but never wrong.

Knows nothing of names, weight files, heads or training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from headswap.common.errors import InputError
from headswap.networks.stage import MAX_STAGE_GROUPS, Stage, StagedNetwork, eval_mode, group_blocks, make_stages
from headswap.networks.timm_modules import (
    ForwardFeatures,
    ModuleCall,
    PreLogitsExtractor,
    PreLogitsPool,
    TimmNetwork,
    bind_call,
    copy_with_children,
    find_classifiers,
    keep_children,
    replace_with_identity,
)

# Names of the children that are a network's body in timm: `stages`, `blocks`, `layer1`, `level2`, `features`.
BODY_NAME_PATTERN = re.compile(r"(stage|block|layer|level|feature|trunk)s?_?\d*$")

MIN_STAGES = 3  # with fewer of them in the body, all children become stages

SINGLE_STAGE_NOTE = "{} does not come apart into stages, so it counts as one: it stands still or learns as a whole."


class ForwardTrace(NamedTuple):
    """The module calls of a forward pass, in order.

    Attributes:
        feature_calls: up to the last map.
        head_calls: from there to the vector before the last layer.
    """

    feature_calls: list[ModuleCall]
    head_calls: list[ModuleCall]


class OperationRecorder(TorchFunctionMode):
    """Records every operation of torch while it is entered.

    Attributes:
        recorded: the functions in the order of their calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[Callable[..., Any]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.recorded.append(func)
        return func(*args, **(kwargs or {}))


def split_timm_into_stages(network: TimmNetwork) -> StagedNetwork:
    """Split a network of timm into stages, which share its modules.

    Returns:
        The stages; with a ``note`` if it had to be one single stage.

    Raises:
        InputError: if the network does not compute one vector of an image.
    """
    was_training = network.training
    with torch.no_grad(), eval_mode(network):
        parts = _find_verified_split(network)
    for module in (parts.stages, parts.pool, parts.original_head):
        module.train(was_training)
    return parts


def _find_verified_split(network: TimmNetwork) -> StagedNetwork:
    image = _make_random_image(network)
    for rule in (_split_transformer, _split_children, _split_as_one_stage):
        # Whatever error a rule raises for a network that it was not made for, the next one is tried.
        try:
            stages, pool = rule(network, _trace_forward(network, torch.zeros_like(image)))
            if _is_equivalent(stages, pool, network, image):
                return _assemble_staged_network(stages, pool, network, image)
        except Exception:
            continue
    try:
        return _assemble_staged_network(*_wrap_whole_network(network), network, image)
    except Exception as error:
        raise InputError(
            f"The network {type(network).__name__} does not make one vector of a picture, so it cannot have a new "
            "head. Choose another one."
        ) from error


def _split_transformer(network: TimmNetwork, trace: ForwardTrace) -> tuple[nn.Sequential, Stage]:
    """Split a transformer into all that is before its blocks, the blocks, and its norm with the pooling."""
    blocks = [bind_call(call) for call in trace.feature_calls if call.module in set(network.blocks)]
    before = copy_with_children(network, blocks=type(network.blocks)(), norm=nn.Identity())
    used = {call.module for call in trace.feature_calls}
    patches = keep_children(before, lambda child: any(m in used for m in child.modules()))
    stages = make_stages(patches=ForwardFeatures(patches), **group_blocks(blocks))
    return stages, Stage(network.norm, _build_pool(network, trace, used))


def _split_children(network: TimmNetwork, trace: ForwardTrace) -> tuple[nn.Sequential, Stage]:
    """Split into the children in the order of their calls: a stem, the body unpacked, and what comes after it."""
    if any(True for _ in network.parameters(recurse=False)):
        raise ValueError("A network with weights of its own is more than its children.")
    calls = _list_child_calls(network, trace)
    is_body = [bool(BODY_NAME_PATTERN.match(name)) for name, _ in calls]
    if sum(len(_unpack_container(*calls[i])) for i, body in enumerate(is_body) if body) < MIN_STAGES:
        is_body = [True] * len(calls)
    first, end = is_body.index(True), len(calls) - is_body[::-1].index(True)
    stem = [bind_call(call) for _, call in calls[:first]]
    last = [bind_call(call) for _, call in calls[end:]]
    units: list[tuple[str, list[nn.Module]]] = []
    for name, module in chain.from_iterable(_unpack_container(name, call) for name, call in calls[first:end]):
        if units and not _has_matrix_weights(module):
            units[-1][1].append(module)
        else:
            units.append((name, [module]))
    if not any(map(_has_matrix_weights, last)):
        units[-1][1].extend(last)
        last = []
    named = {"stem": stem, **_name_stages(units), "last": last}
    stages = make_stages(**{name: modules for name, modules in named.items() if modules})
    return stages, Stage(_build_pool(network, trace, {call.module for _, call in calls}))


def _split_as_one_stage(network: TimmNetwork, trace: ForwardTrace) -> tuple[nn.Sequential, Stage]:
    """Make one stage of all before the last map."""
    used = {call.module for call in trace.feature_calls}
    features = keep_children(network, lambda child: any(m in used for m in child.modules()))
    return make_stages(features=ForwardFeatures(features)), Stage(_build_pool(network, trace, used))


def _wrap_whole_network(network: TimmNetwork) -> tuple[nn.Sequential, Stage]:
    """Make one stage, with a map of one position, of all before the last layer: for maps of several tensors."""
    body = _without_classifiers(network)
    return make_stages(features=[PreLogitsExtractor(body), nn.Unflatten(1, (-1, 1, 1))]), Stage(nn.Flatten())


def _is_equivalent(stages: nn.Sequential, pool: Stage, network: TimmNetwork, image: Tensor) -> bool:
    """Whether stages and pool perform the network's operations and return its numbers."""
    with OperationRecorder() as expected:
        vector = network.forward_head(network.forward_features(image), pre_logits=True)
    with OperationRecorder() as actual:
        last_map = stages(image)
        pooled = pool(last_map)
    parameter_ids = [id(p) for part in (*stages, pool) for p in part.parameters()]
    is_shared = len(parameter_ids) != len(set(parameter_ids))
    suits_heads = last_map.ndim in (3, 4) and pooled.ndim == 2 and not is_shared
    return suits_heads and actual.recorded == expected.recorded and _is_equal(pooled, vector)


def _assemble_staged_network(stages: nn.Sequential, pool: Stage, network: TimmNetwork, image: Tensor) -> StagedNetwork:
    last_map = stages(image)
    pooled = pool(last_map)
    is_nchw = getattr(network, "output_fmt", "NCHW") == "NCHW" or last_map.shape[2:] == (1, 1)
    return StagedNetwork(
        stages,
        pool,
        _find_original_head(network, pooled, network(image)),
        channel_dim=1 if is_nchw and last_map.ndim == 4 else -1,
        note=SINGLE_STAGE_NOTE.format(type(network).__name__) if len(stages) == 1 else "",
    )


def _find_original_head(network: TimmNetwork, pooled: Tensor, logits: Tensor) -> nn.Module:
    """Find the last layer if it alone computes the logits from the pooled vector.

    For a network that was trained without classes, or has several last layers, return a new layer of that width.
    """
    layers = find_classifiers(network)
    if len(layers) == 1:
        as_linear = nn.Sequential(nn.Unflatten(1, (-1, 1, 1)), *layers, nn.Flatten())
        last = as_linear if isinstance(layers[0], nn.Conv2d) else layers[0]
        if _is_equal(last(pooled), logits):
            return last
    return nn.Linear(pooled.shape[1], 1).to(pooled)


def _is_equal(a: Tensor, b: Tensor) -> bool:
    # Random weights may overflow, which must not lead to another split than with pretrained ones.
    return a.shape == b.shape and (a.is_meta or torch.equal(a.nan_to_num(), b.nan_to_num()))


def _trace_forward(network: TimmNetwork, image: Tensor) -> ForwardTrace:
    calls: list[ModuleCall] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(ModuleCall(module, args[1:], kwargs))

    hooks = [module.register_forward_pre_hook(record, with_kwargs=True) for module in network.modules()]
    try:
        features = network.forward_features(image)
        num_feature_calls = len(calls)
        network.forward_head(features, pre_logits=True)
    finally:
        for hook in hooks:
            hook.remove()
    return ForwardTrace(calls[:num_feature_calls], calls[num_feature_calls:])


def _list_child_calls(network: TimmNetwork, trace: ForwardTrace) -> list[tuple[str, ModuleCall]]:
    """List the calls of children, and of modules in a list that is not called itself, each with the child's name."""
    called = {call.module for call in trace.feature_calls}
    names: dict[nn.Module, str] = {}
    for name, child in network.named_children():
        is_list = isinstance(child, nn.ModuleList | nn.Sequential) and child not in called
        names |= dict.fromkeys(child.children() if is_list else [child], name)
    return [(names[call.module], call) for call in trace.feature_calls if call.module in names]


def _unpack_container(name: str, call: ModuleCall) -> list[tuple[str, nn.Module]]:
    """Unpack a container that only runs its children in a row, under their numbers."""
    if type(call.module) is nn.Sequential and BODY_NAME_PATTERN.match(name) and not name[-1].isdigit():
        return [(str(i), child) for i, child in enumerate(call.module, 1)]
    return [(name, bind_call(call))]


def _name_stages(blocks: list[tuple[str, list[nn.Module]]]) -> dict[str, list[nn.Module]]:
    """Keep the names of blocks where these are few and differ; else group the blocks under their numbers."""
    if len(blocks) <= MAX_STAGE_GROUPS and len(dict(blocks)) == len(blocks) and not blocks[0][0].isdigit():
        return dict(blocks)
    groups = group_blocks([modules for _, modules in blocks])
    return {name: [module for modules in group for module in modules] for name, group in groups.items()}


def _has_matrix_weights(module: nn.Module) -> bool:
    """Whether a module is more than a norm, an activation or a pooling."""
    return any(p.ndim > 1 for p in module.parameters())


def _build_pool(network: TimmNetwork, trace: ForwardTrace, stage_modules: set[nn.Module]) -> PreLogitsPool:
    """Build the pooling from the network's own code, with those children that it needs and no stage has."""
    used = {call.module for call in trace.head_calls}
    kept = keep_children(network, lambda child: child not in stage_modules and any(m in used for m in child.modules()))
    kept._parameters, kept._buffers = {}, {}  # they belong to the stages
    return PreLogitsPool(_without_classifiers(kept))


def _without_classifiers(network: TimmNetwork) -> TimmNetwork:
    # A network that is its own last layer has no features, and is refused where it is verified.
    return cast(TimmNetwork, replace_with_identity(network, find_classifiers(network)))


def _make_random_image(network: TimmNetwork) -> Tensor:
    """A random image ``[1, 3, H, W]`` of the network's input size; the global seeds are not touched."""
    weights = next(network.parameters())
    size = resolve_model_data_config(network)["input_size"]  # type: ignore[no-untyped-call]  # timm leaves it untyped
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.rand(1, *size, generator=generator, device="cpu").to(weights)
