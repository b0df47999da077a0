"""Automatic replies are detected by headers, and by subjects that only programs write."""
# ruff: noqa: RUF001 - some languages have similar letters

from delivery.inbound.message import InboundEmail

AUTOMATIC = [
    "Automatic reply: Hi",
    "Automatic reply",
    "Out of Office: Re: Hi",
    "[External] Automatic reply: Hi",
    "[EXT] Out of Office",
    "***SPAM*** Automatic reply: Hi",
    "AUTO: Ann Lee is out of the office (returning 5 May)",
    "On holiday (Re: Hi)",
    "Abwesenheitsnotiz: Hi",
    "Automatische Antwort: Hi",
    "Automatisch antwoord: Hi",
    "Réponse automatique : Hi",
    "Respuesta automática: Hi",
    "Risposta automatica: Hi",
    "Resposta automática: Hi",
    "Automatiskt svar: Hi",
    "Automatisk svar: Hi",
    "Automaattinen vastaus: Hi",
    "Odpowiedź automatyczna: Hi",
    "Automatická odpověď: Hi",
    "Automatická odpoveď: Hi",
    "Automatikus válasz: Hi",
    "Răspuns automat: Hi",
    "Otomatik Yanıt: Hi",
    "Automatski odgovor: Hi",
    "Автоматический ответ: Hi",
    "Автоматична відповідь: Hi",
    "Αυτόματη απάντηση: Hi",
    "תשובה אוטומטית: Hi",
    "رد تلقائي: Hi",
    "自動返信：Hi",
    "自动回复: Hi",
    "자동 회신: Hi",
    "Undeliverable: Hi",
    "Mail delivery failed: returning message to sender",
    "Delivery Status Notification (Failure)",
]
# Kept as replies; True: with a note that they may be automatic.
PERSONAL = {
    "Undelivered parcel 4711": False,
    "Delivery failed again, please help": False,
    "Re: Out of office tips": False,
    "Re: Automatic reply: Hi": False,
    "Vacation: which plan do I need?": False,
    "Absence": False,
    "Returned mail from my customer": False,
    "Automatic reply feature does not work": True,
    "On holiday - please extend my trial": True,
    "OOO - back on Monday": True,
    "Abwesend bis Montag": True,
}


def email(subject: str) -> InboundEmail:
    return InboundEmail.parse(f"From: pat@x.example\nSubject: {subject}\nMessage-ID: <1@x>\n\nwords\n".encode())


def test_subject_of_an_automatic_reply_is_recognised_in_each_language():
    assert [subject for subject in AUTOMATIC if not email(subject).auto_reply_reason] == []


def test_subject_of_a_person_is_kept_and_marked_if_in_doubt():
    found = {subject: bool(email(subject).auto_reply_doubt) for subject in PERSONAL}

    assert [subject for subject in PERSONAL if email(subject).auto_reply_reason] == []
    assert found == PERSONAL


def test_header_outweighs_the_subject():
    mail = b"From: pat@x.example\nSubject: Undelivered parcel\nAuto-Submitted: auto-replied\n\nwords\n"

    assert InboundEmail.parse(mail).auto_reply_reason == "Auto-Submitted: auto-replied"
