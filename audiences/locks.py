"""Numbers of all advisory locks. PostgreSQL identifies a lock only by its number, so each number has one use.

A lock on one row has two keys: the number, and the row's primary key modulo 2**31. The others have only the number.
"""

from enum import IntEnum, unique


@unique
class Lock(IntEnum):
    """An advisory lock. The comments say which transactions exclude each other."""

    # Two transactions that save rules: together they could make two segments contain each other. A change of an
    # attribute's kind takes it too, so that no rules are saved meanwhile.
    SEGMENTS = 7_210_001
    # Two rounds of one message (key: the message).
    ROUND = 7_210_002
    # None: visits share it, and a pause reads from it which visits have begun.
    VISITS = 7_210_003
    # Two writes that look for a customer by the same email (key: hash of the address). Taken before any customer is
    # locked.
    EMAIL = 7_210_004
    # A pause and the batches of the message that are being sent, which share it (key: the message).
    BATCH = 7_210_005
    # A pause and the next copy of a batch that is being sent (key: the message).
    PAUSING = 7_210_006
    # Two posts of the same form (key: the message it makes).
    FORM = 7_210_010
    # Two workers that launch one message, and a worker and a teammate who calls the launch off (key: the message).
    LAUNCH = 7_210_011
    # The next slice of a launch and a teammate who calls it off (key: the message).
    CALLING_OFF = 7_210_012
    # Two workers that carry out one change of an attribute's kind (key: the change).
    KIND_CHANGE = 7_210_013
    # Two workers that create the indexes on dates of rules. The second one leaves it to the first.
    DATE_INDEXES = 7_210_014
    # Two processes that match customers who have just changed. The second one leaves it to the first.
    PROMPT_ROUND = 7_210_015
    # Two workers that fold changes into the kept counts.
    COUNTS = 7_210_020
    # Two requests that note refused names. The second one notes nothing.
    REFUSED_NAMES = 7_210_021
    # Two workers that send notifications to subscribers.
    NOTIFYING = 7_210_031
