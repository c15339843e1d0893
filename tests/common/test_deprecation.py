"""What was renamed still works for one release, and says what it is called now."""

import warnings

import pytest
from drawings import NARROW, small_model

import headswap
from headswap import Phase, Plan
from headswap.common.plain_data import event_to_dict
from headswap.networks import head_registry
from headswap.networks.heads import Linear


@pytest.mark.parametrize(
    ("old", "new"), [("find_rate", headswap.lr_find), ("findings", headswap.check), ("keep", headswap.restore)]
)
def test_a_function_is_found_by_its_old_name(old, new):
    with pytest.warns(DeprecationWarning, match=rf"headswap\.{old} is called headswap\.{new.__name__} now"):
        assert getattr(headswap, old) is new


def test_what_never_was_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'find_rat'"):
        headswap.find_rat  # noqa: B018, asking is what is tested


def test_a_field_is_given_and_read_by_its_old_name():
    with pytest.warns(DeprecationWarning, match="head_rate is called head_lr now"):
        phase = Phase(1, 0, head_rate=2e-3)
    with pytest.warns(DeprecationWarning, match=r"Phase\.head_rate is called head_lr now"):
        assert phase.head_rate == phase.head_lr == 2e-3


def test_a_class_method_is_called_by_its_old_name():
    with pytest.warns(DeprecationWarning, match=r"Plan\.named is called from_name now"):
        assert Plan.named("head only") == Plan.from_name("head only")


def test_a_head_of_ones_own_may_still_say_what_it_takes():
    class OfMaps(headswap.networks.heads.Attention):
        input_kind = None
        takes = "map"

    with pytest.warns(DeprecationWarning, match="takes is called input_kind now"):
        assert headswap.networks.head_interface.has_map_input(OfMaps)


def test_the_new_names_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        phase = Phase(1, 0, head_lr=1e-3, layer_decay=0.5)
        assert small_model(["a", "b"], backbone=NARROW).predict_proba([]).shape == (0, 2)
        assert Plan((phase,), checkpoint="last").phases[0].layer_decay == 0.5


def test_json_keeps_the_old_names_of_fields():
    told = event_to_dict(Phase(1, 0, head_lr=2e-3))
    assert told["head_rate"] == 2e-3 and "head_lr" not in told


def test_the_module_of_heads_that_became_a_function_still_registers(monkeypatch):
    monkeypatch.setitem(head_registry._HEADS, "mine", Linear)
    monkeypatch.delitem(head_registry._HEADS, "mine")  # what is registered goes again
    with pytest.warns(DeprecationWarning, match=r"headswap\.heads\.register is called headswap\.register_head now"):
        headswap.heads.register("mine", Linear)
    assert "mine" in headswap.heads()
