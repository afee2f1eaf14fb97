"""NT statuses in words."""

import pytest

from pipeline.shares.smb import statuses as nt


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (nt.PATH_NOT_COVERED, "a DFS link (status 0xc0000257); give the server and share it leads to in `share`"),
        (nt.ACCESS_DENIED, "access denied (status 0xc0000022)"),
        (nt.ACCOUNT_LOCKED_OUT, "the account is locked (status 0xc0000234); unlock it there"),
        (nt.ACCOUNT_EXPIRED, "the account has expired (status 0xc0000193); extend it there"),
        (nt.PASSWORD_EXPIRED, "the password has expired (status 0xc0000071); set a new one"),
        (nt.BAD_NETWORK_NAME, "no share of that name there (status 0xc00000cc); correct `share`"),
        (nt.SHARING_VIOLATION, "in use by another program (status 0xc0000043)"),
        (nt.DISK_FULL, "disk full (status 0xc000007f); make room"),
        (nt.TOO_MANY_OPENED_FILES, "too many files are open on the server (status 0xc000011f); end connections"),
        (0xC0DE0001, "refused for an unknown reason (status 0xc0de0001)"),
    ],
)
def test_status_is_told_in_words_with_its_number(status: int, expected: str) -> None:
    """The number is what a user searches for, the words say what to do."""
    assert nt.status_text(status).startswith(expected)


def test_status_that_this_program_treats_separately_has_words() -> None:
    """Whatever a file, an account or a share can be refused with is known."""
    known = nt.REFUSED | nt.ACCOUNT_REFUSED | nt.NO_FILE | nt.GONE
    assert [hex(status) for status in known if "unknown reason" in nt.status_text(status)] == []
