"""Units: an exposure counts for the id that its entity was decided on."""

import pytest

from processors.unit import ids_of, unit_of
from schemas.wire import User

FULL = ids_of(User(userID="user-1", customIDs={"stableID": "device-1", "companyid": "acme"}), "")


@pytest.mark.parametrize(
    ("id_type", "unit"),
    [
        ("userID", ("userID", "user-1")),
        ("userid", ("userID", "user-1")),
        ("stableID", ("stableID", "device-1")),
        ("companyID", ("companyID", "acme")),
        ("teamID", ("teamID", "")),
        ("", ("userID", "user-1")),
    ],
)
def test_the_unit_is_found_as_the_sdk_finds_it(id_type: str, unit: tuple[str, str]):
    assert unit_of(FULL, id_type) == unit


@pytest.mark.parametrize(
    ("user", "unit"),
    [
        (User(userID=""), ("stableID", "from-request")),
        (User(customIDs={"stableID": "own"}), ("stableID", "own")),
        (User(customIDs={"stableID": ""}), ("stableID", "from-request")),
        (User(), ("stableID", "from-request")),
    ],
)
def test_without_a_user_the_device_is_the_unit(user: User, unit: tuple[str, str]):
    assert unit_of(ids_of(user, "from-request"), "") == unit


def test_without_user_and_device_any_custom_id_is_the_unit():
    assert unit_of(ids_of(User(customIDs={"empty": "", "companyID": 7.0}), ""), "") == ("companyID", "7")


def test_without_any_id_there_is_no_unit():
    assert unit_of(ids_of(User(), ""), "") == ("", "")


@pytest.mark.parametrize("custom", [None, [], "text", 7, {}])
def test_custom_ids_of_a_wrong_shape_are_none(custom: object):
    assert ids_of(User(userID="u", customIDs=custom), "").custom == {}
