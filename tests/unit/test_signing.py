"""Signatures: what verifies, and all that does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chitram.platform.signing import Signer

OLD = "an old key that signed until today"
NEW = "a new key that signs from today on"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


@given(fields=st.lists(ANY_TEXT, max_size=4))
def test_verifies_what_it_signed(fields: list[str]) -> None:
    signer = Signer((NEW,), "files")
    assert signer.verify(signer.sign(*fields), *fields)


@given(signed=st.lists(ANY_TEXT, max_size=3), claimed=st.lists(ANY_TEXT, max_size=3))
def test_refuses_the_signature_of_other_fields(signed: list[str], claimed: list[str]) -> None:
    signer = Signer((NEW,), "files")
    assert signer.verify(signer.sign(*signed), *claimed) == (signed == claimed)


@pytest.mark.parametrize(
    ("signed", "claimed"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", "b"), ("a,b",)),
        (("1:a",), ("a",)),
        (("",), ()),
        (("", ""), ("",)),
        (("a\0", "b"), ("a", "\0b")),
    ],
)
def test_fields_that_read_alike_when_joined_are_signed_differently(
    signed: tuple[str, ...], claimed: tuple[str, ...]
) -> None:
    signer = Signer((NEW,), "files")
    assert signer.sign(*signed) != signer.sign(*claimed)


@given(signature=ANY_TEXT)
def test_refuses_junk(signature: str) -> None:
    assert not Signer((NEW, OLD), "files").verify(signature, "field")


def test_refuses_a_signature_that_is_cut_padded_or_changed() -> None:
    signer = Signer((NEW,), "files")
    right = signer.sign("field")
    changed = ("A" if right[0] != "A" else "B") + right[1:]
    for wrong in ("", right[:-1], f"{right}=", f"{right} ", right.swapcase(), changed, right * 1000):
        assert not signer.verify(wrong, "field")


def test_what_is_signed_for_one_purpose_is_worth_nothing_for_another() -> None:
    signature = Signer((NEW,), "files").sign("field")
    assert not Signer((NEW,), "uploads").verify(signature, "field")


def test_the_first_key_signs_and_all_verify() -> None:
    before, during, after = (Signer(keys, "files") for keys in ((OLD,), (NEW, OLD), (NEW,)))
    assert during.verify(before.sign("field"), "field")
    assert after.verify(during.sign("field"), "field")
    assert not after.verify(before.sign("field"), "field")


def test_a_signature_is_short_and_safe_in_a_url() -> None:
    signature = Signer((NEW,), "files").sign("field")
    assert len(signature) == 43
    assert signature.replace("-", "").replace("_", "").isalnum()


def test_nothing_is_signed_without_a_key() -> None:
    with pytest.raises(ValueError, match="no key"):
        Signer((), "files")
