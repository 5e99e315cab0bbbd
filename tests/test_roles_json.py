"""Who met a network, as its JSON says it, and a JSON that is damaged."""

import dataclasses
import json

import pytest

from brainseg_keras.data.roles import MetPatient, Roles
from brainseg_keras.errors import InputError


def test_who_is_not_named_is_unknown_where_the_list_is_not_whole():
    roles = Roles((MetPatient("A", "train"), MetPatient("B", "test")), complete=False)
    assert [roles.role(name) for name in "ABC"] == ["train", "unknown", "unknown"]


def test_roles_come_back_from_json():
    roles = Roles(
        (MetPatient("A", "train", ("aa", "bb"), "cc"), MetPatient("A", "val", tuned=True), MetPatient("ü ,", "test")),
        complete=False,
    )
    assert "own_split" not in roles.to_info()
    own = dataclasses.replace(roles, own_split=True)
    assert Roles.from_info(json.loads(json.dumps(own.to_info()))) == own != roles
    assert Roles.from_info(json.loads(json.dumps(roles.to_info()))) == roles


def test_one_patient_who_tuned_under_two_names_is_one():
    roles = Roles((MetPatient("A", "val", ("aa",)),))
    assert roles.with_tuned({"A": (), "B": ("aa",)}).patients == (MetPatient("A", "val", ("aa",), tuned=True),)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"complete": 1, "patients": []},
        {"complete": True, "patients": {}},
        {"complete": True, "patients": [], "own_split": 1},
        {"complete": True, "patients": [3]},
        {"complete": True, "patients": [{"name": "A", "role": "tested"}]},
        {"complete": True, "patients": [{"name": 3, "role": "test"}]},
        {"complete": True, "patients": [{"name": "A", "role": "test", "slices": ["aa"]}]},
        {"complete": True, "patients": [{"name": "A", "role": "test", "seen": True}]},
    ],
)
def test_damaged_roles_are_refused(content):
    if content == {"complete": True, "patients": {}}:
        assert Roles.from_info(content).patients == ()
        return
    with pytest.raises(InputError):
        Roles.from_info(content)


def test_two_names_of_one_patient_who_chose_are_one_patient():
    roles = Roles((MetPatient("A", "train", ("aa",)),)).with_tuned({"A": (), "B": ("aa",)})
    assert roles.patients == (MetPatient("A", "train", ("aa",), tuned=True),)
