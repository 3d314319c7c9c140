"""Addresses of registered versions: MLflow's own form, and what people type instead."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import VersionError
from tasks.versions.address import Address, parse

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)


@given(name=names, which=names, between=st.sampled_from("@/"))
def test_an_address_says_the_name_and_which(name, which, between):
    assert parse(f"models:/{name}{between}{which}") == Address(name, which)


@pytest.mark.parametrize("uri", ["digits", "models:/digits", "models:/digits@", "models:/@champion", "models:/a/b/c"])
def test_what_is_none_is_refused_with_the_form(uri):
    with pytest.raises(VersionError, match=re.escape("models:/NAME@ALIAS")):
        parse(uri)
