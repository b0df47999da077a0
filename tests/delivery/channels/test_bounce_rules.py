"""Refusals that say a mailbox does not exist, in the words of real servers."""

import pytest

from delivery.channels.bounce_rules import says_no_such_mailbox


@pytest.mark.parametrize(
    ("words", "hard"),
    [
        # Google, Microsoft, Yahoo, Apple, Postfix, Exim, Exchange, qmail and others of a mailbox that is not there.
        ("550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking", True),
        ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", False),
        ("554 delivery error: dd This user doesn't have a yahoo.com account (ada@yahoo.com) [0]", True),
        ("550 5.1.1 <ada@icloud.com>: user does not exist", True),
        ("550 5.1.1 <ada@x.example>: Recipient address rejected: User unknown in local recipient table", True),
        ("550 Unrouteable address", True),
        ("550 No such user here", True),
        ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", True),
        ("550 sorry, no mailbox here by that name. (#5.1.1)", True),
        ("550 5.2.1 The email account that you tried to reach is disabled.", True),
        ("550 5.4.1 Recipient address rejected: Access denied", False),
        ("551 User not local", False),
        ("550 5.1.2 Host unknown (Name server: host not found)", True),
        ("550 5.1.6 Recipient no longer on server", True),
        ("553 5.1.3 Invalid address format", True),
        ("556 5.1.10 Recipient address has null MX", True),
        ("550 <ada@x.example>: Recipient address rejected: undeliverable address: host said: 550 no", True),
        # Answers that say nothing about the mailbox, or that it exists.
        ("550 5.1.8 <ada@x.example>: Sender address rejected: Domain not found", False),
        ("552 5.2.2 The email account that you tried to reach is over quota", False),
        ("452 4.2.2 Mailbox full", False),
        ("550 5.7.1 Our system has detected that this message is likely unsolicited mail", False),
        ("550 5.7.1 Service unavailable, Client host [1.2.3.4] blocked using Spamhaus", False),
        ("554 5.7.1 <ada@x.example>: Relay access denied", False),
        ("550 Message rejected as spam: no such user would want it", False),
        ("552 5.3.4 Message size exceeds fixed limit", False),
        ("550 Sender unknown", False),
        ("451 4.1.1 user unknown for now", False),
        ("550 no", False),
        ("", False),
    ],
)
def test_only_a_mailbox_that_is_not_there_is_a_hard_bounce(words, hard):
    assert says_no_such_mailbox(words) is hard


@pytest.mark.parametrize(("status", "hard"), [("5.1.1", True), ("5.7.1", False), ("4.2.2", False), ("5.0.0", False)])
def test_status_of_a_report_counts_if_its_text_says_nothing(status, hard):
    assert says_no_such_mailbox("delivery failed", status=status) is hard
