r"""NT statuses of SMB: the numbers, which of them mean the same to this program, and what they mean to the user.

Source: MS-ERREF 2.3.1. Not here: what follows for a file (`files`) or a connection (`session`).
"""

OK = 0x00000000
NO_MORE_FILES = 0x80000006
STOPPED_ON_SYMLINK = 0x8000002D
INVALID_PARAMETER, NO_SUCH_FILE, INVALID_DEVICE_REQUEST, END_OF_FILE = 0xC000000D, 0xC000000F, 0xC0000010, 0xC0000011
ACCESS_DENIED, PRIVILEGE_NOT_HELD, CANNOT_DELETE = 0xC0000022, 0xC0000061, 0xC0000121
OBJECT_NAME_INVALID, OBJECT_NAME_NOT_FOUND, OBJECT_NAME_COLLISION = 0xC0000033, 0xC0000034, 0xC0000035
OBJECT_PATH_NOT_FOUND, OBJECT_PATH_SYNTAX_BAD = 0xC000003A, 0xC000003B
SHARING_VIOLATION, FILE_LOCK_CONFLICT, DELETE_PENDING = 0xC0000043, 0xC0000054, 0xC0000056
QUOTA_EXCEEDED, DISK_FULL, MEDIA_WRITE_PROTECTED = 0xC0000044, 0xC000007F, 0xC00000A2
NO_SUCH_USER, WRONG_PASSWORD, LOGON_FAILURE, ACCOUNT_RESTRICTION = 0xC0000064, 0xC000006A, 0xC000006D, 0xC000006E
INVALID_LOGON_HOURS, INVALID_WORKSTATION, PASSWORD_EXPIRED, ACCOUNT_DISABLED = (
    0xC000006F,
    0xC0000070,
    0xC0000071,
    0xC0000072,
)
INSUFFICIENT_RESOURCES, INSUFF_SERVER_RESOURCES, TOO_MANY_OPENED_FILES = 0xC000009A, 0xC0000205, 0xC000011F
FILE_IS_A_DIRECTORY, NOT_SUPPORTED, NETWORK_NAME_DELETED = 0xC00000BA, 0xC00000BB, 0xC00000C9
NETWORK_ACCESS_DENIED, BAD_NETWORK_NAME, REQUEST_NOT_ACCEPTED = 0xC00000CA, 0xC00000CC, 0xC00000D0
DIRECTORY_NOT_EMPTY, NOT_A_DIRECTORY, FILE_CLOSED = 0xC0000101, 0xC0000103, 0xC0000128
LOGON_TYPE_NOT_GRANTED, ACCOUNT_EXPIRED, PASSWORD_MUST_CHANGE = 0xC000015B, 0xC0000193, 0xC0000224
USER_SESSION_DELETED, CONNECTION_DISCONNECTED, NETWORK_SESSION_EXPIRED = 0xC0000203, 0xC000020C, 0xC000035C
ACCOUNT_LOCKED_OUT, PATH_NOT_COVERED, DFS_UNAVAILABLE = 0xC0000234, 0xC0000257, 0xC000026D
VIRUS_INFECTED, VIRUS_DELETED = 0xC0000906, 0xC0000907

#: Statuses of a server that does not accept several files in one message.
COMPOUND_UNSUPPORTED = frozenset({INVALID_PARAMETER, INVALID_DEVICE_REQUEST, NOT_SUPPORTED})
GONE = frozenset({OBJECT_NAME_NOT_FOUND, NO_SUCH_FILE, DELETE_PENDING})
#: Refusals of one file by a healthy share.
REFUSED = frozenset({ACCESS_DENIED, SHARING_VIOLATION, FILE_LOCK_CONFLICT, VIRUS_INFECTED, VIRUS_DELETED})
NO_FILE = frozenset({FILE_IS_A_DIRECTORY, STOPPED_ON_SYMLINK, NOT_A_DIRECTORY})
#: The server ended the session: a new connection is needed before any other request (MS-SMB2 3.2.5.1).
SESSION_LOST = frozenset(
    {USER_SESSION_DELETED, NETWORK_SESSION_EXPIRED, NETWORK_NAME_DELETED, CONNECTION_DISCONNECTED, FILE_CLOSED}
)
#: The account may not log on, whatever it asks for. Trying again soon may lock it.
ACCOUNT_REFUSED = frozenset(
    {
        NO_SUCH_USER,
        WRONG_PASSWORD,
        LOGON_FAILURE,
        ACCOUNT_RESTRICTION,
        INVALID_LOGON_HOURS,
        INVALID_WORKSTATION,
        PASSWORD_EXPIRED,
        ACCOUNT_DISABLED,
        LOGON_TYPE_NOT_GRANTED,
        ACCOUNT_EXPIRED,
        PASSWORD_MUST_CHANGE,
        ACCOUNT_LOCKED_OUT,
    }
)

_CHECK_ACCOUNT = "check `account` and `secret`"
_FREE_CONNECTIONS = "end connections and programs that hold files of it open, or raise its limit"
#: Status -> what it means, and how to fix it; the latter is empty where that follows from the file that is named.
_MEANINGS: dict[int, tuple[str, str]] = {
    STOPPED_ON_SYMLINK: ("a link", "put the folder itself there"),
    NO_SUCH_FILE: ("not found", ""),
    ACCESS_DENIED: ("access denied", ""),
    OBJECT_NAME_INVALID: ("the server does not allow that name", ""),
    OBJECT_NAME_NOT_FOUND: ("not found", ""),
    OBJECT_PATH_NOT_FOUND: ("folder not found", ""),
    OBJECT_PATH_SYNTAX_BAD: ("the server does not allow that path", ""),
    SHARING_VIOLATION: ("in use by another program", ""),
    QUOTA_EXCEEDED: ("the account's quota is used up", "raise it, or remove files"),
    FILE_LOCK_CONFLICT: ("locked by another program", ""),
    DELETE_PENDING: ("being deleted", ""),
    PRIVILEGE_NOT_HELD: ("the account lacks a privilege", ""),
    NO_SUCH_USER: ("no such account there", _CHECK_ACCOUNT),
    WRONG_PASSWORD: ("the account has another password", _CHECK_ACCOUNT),
    LOGON_FAILURE: ("no such account, or it has another password", _CHECK_ACCOUNT),
    ACCOUNT_RESTRICTION: ("the account is restricted", "give it a password, and the right to log on over the network"),
    INVALID_LOGON_HOURS: ("the account may not log on at this time", "change its logon hours"),
    INVALID_WORKSTATION: ("the account may not log on from this computer", "change its list of workstations"),
    PASSWORD_EXPIRED: ("the password has expired", "set a new one there and for `secret`"),
    ACCOUNT_DISABLED: ("the account is disabled", "enable it there"),
    DISK_FULL: ("disk full", "make room on the server's disk"),
    INSUFFICIENT_RESOURCES: ("the server is out of memory or handles", _FREE_CONNECTIONS),
    INSUFF_SERVER_RESOURCES: ("the server is out of memory or handles", _FREE_CONNECTIONS),
    MEDIA_WRITE_PROTECTED: ("the disk is write-protected", "allow writing there"),
    FILE_IS_A_DIRECTORY: ("a folder", ""),
    NOT_SUPPORTED: ("the server does not support that", ""),
    NETWORK_ACCESS_DENIED: ("the server refuses access over the network", "allow it to this account"),
    BAD_NETWORK_NAME: ("no share of that name there", "correct `share`, or make the share"),
    REQUEST_NOT_ACCEPTED: ("the server takes no more connections", _FREE_CONNECTIONS),
    DIRECTORY_NOT_EMPTY: ("the folder is not empty", ""),
    NOT_A_DIRECTORY: ("not a folder", ""),
    TOO_MANY_OPENED_FILES: ("too many files are open on the server", _FREE_CONNECTIONS),
    CANNOT_DELETE: ("it is write-protected or in use", ""),
    LOGON_TYPE_NOT_GRANTED: ("the account may not log on over the network", "give it that right there"),
    ACCOUNT_EXPIRED: ("the account has expired", "extend it there"),
    PASSWORD_MUST_CHANGE: ("the password must be changed first", "set a new one there and for `secret`"),
    ACCOUNT_LOCKED_OUT: ("the account is locked", "unlock it there, or wait; then check `secret`"),
    PATH_NOT_COVERED: ("a DFS link", "give the server and share it leads to in `share`"),
    DFS_UNAVAILABLE: ("a DFS link that leads nowhere now", "give the server and share it leads to in `share`"),
    VIRUS_INFECTED: ("taken for a virus", ""),
    VIRUS_DELETED: ("taken for a virus and removed", ""),
}


def status_text(status: int) -> str:
    """A status in words, with its number and, if known, the fix."""
    found, fix = _MEANINGS.get(status, ("refused for an unknown reason", ""))
    return "; ".join(filter(None, (f"{found} (status 0x{status:08x})", fix)))
