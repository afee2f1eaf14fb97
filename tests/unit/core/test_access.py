"""What a token may do, and until when."""

import pytest

from pipeline.core.access import TOKEN_NAME, AccessScope, TokenRecord, TokenState, may, token_state

pytestmark = pytest.mark.rules

READ, SUBMIT, CONTROL = AccessScope.READ, AccessScope.SUBMIT, AccessScope.CONTROL


def token(scope: AccessScope = CONTROL, expires_at: float | None = None, is_revoked: bool = False) -> TokenRecord:
    return TokenRecord(
        name="ci", scope=scope, sha256="0" * 64, made_at=100.0, expires_at=expires_at, is_revoked=is_revoked
    )


@pytest.mark.parametrize(
    ("scope", "allowed"), [(READ, {READ}), (SUBMIT, {READ, SUBMIT}), (CONTROL, {READ, SUBMIT, CONTROL})]
)
def test_scope_includes_those_before_it(scope: AccessScope, allowed: set[AccessScope]) -> None:
    assert {wanted for wanted in AccessScope if may(token(scope), wanted, 200.0)} == allowed


def test_expired_token_may_nothing() -> None:
    """It is valid until its last moment, which is not part of it."""
    expiring = token(expires_at=300.0)
    assert may(expiring, READ, 299.9)
    assert token_state(expiring, 300.0) is TokenState.EXPIRED
    assert not any(may(expiring, wanted, 300.0) for wanted in AccessScope)


def test_revoked_token_may_nothing() -> None:
    """Before it expires, too."""
    revoked = token(expires_at=300.0, is_revoked=True)
    assert token_state(revoked, 200.0) is TokenState.REVOKED
    assert not any(may(revoked, wanted, 200.0) for wanted in AccessScope)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "ä", "x" * 65, "../x", "a:b"])
def test_name_that_cannot_be_shown_is_no_name(name: str) -> None:
    assert not TOKEN_NAME.fullmatch(name)
    assert TOKEN_NAME.fullmatch("ci-runner_2.lab")
