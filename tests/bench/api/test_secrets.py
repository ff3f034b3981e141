"""A canary key that must not turn up anywhere, and addresses that a key may not be sent to."""

import base64
import logging
import pickle
import sys
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from bench.api.address import DEFAULT_BASE_URL, checked_base_url, is_loopback
from bench.api.client import ApiCompleter
from bench.api.failures import ServiceError
from bench.api.redaction import RedactingFilter, Redactor
from bench.api.secret import Secret, read_key
from bench.cli_service import guard_keys
from bench.completions import Failure, Reply
from bench.errors import UsageError
from tests.bench.api.canary import FORMS, hits
from tests.bench.api.questions import CANARY, HURRIED, asked, completer, questions
from tests.bench.scripted_server import BODY_FAULTS, STATUS_FAULTS, ScriptedServer, always, at

KEY = Secret(CANARY)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_secret_is_taken_out(form: str) -> None:
    redacted = Redactor([KEY])(f"before {FORMS[form]} after {FORMS[form]}")
    assert not hits(redacted)
    assert redacted.count("[redacted]") == 2
    assert redacted.startswith("before ")
    assert " after " in redacted


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:", "Bearer "])
def test_base64_of_more_than_the_secret_is_taken_out(before: str) -> None:
    encoded = base64.b64encode(f"{before}{CANARY}:x".encode()).decode()
    redacted = Redactor([KEY])(encoded)
    assert "[redacted]" in redacted
    assert not hits(redacted)
    assert len(redacted) < 10 + 4 * (len(before) + 6)


def test_other_text_stays_and_short_secrets_go() -> None:
    assert Redactor()("nothing to hide") == "nothing to hide"
    assert Redactor([Secret("")])("nothing to hide") == "nothing to hide"
    assert Redactor([Secret("abc")])("xabcx") == "x[redacted]x"
    assert Redactor([Secret("abc"), Secret("abcdef")])("abcdef") == "[redacted]"


def test_a_secret_is_shown_by_nothing() -> None:
    assert CANARY not in f"{KEY}{KEY!r}{[KEY]}"
    assert KEY.reveal() == CANARY
    with pytest.raises(TypeError, match="a secret is not written anywhere"):
        pickle.dumps(KEY)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "the environment variable MY_KEY holds no key; set it, or name another"),
        ("", "the environment variable MY_KEY holds no key"),
        ("  \n", "the environment variable MY_KEY holds no key"),
        ("sk canary", "the environment variable MY_KEY holds blanks or characters that no key has"),
        ("sk\ncanary", "the environment variable MY_KEY holds blanks"),
        ("sk-é", "the environment variable MY_KEY holds blanks"),
        ("canary7", "fewer than 8 characters, which is no key; a server that wants no key needs no --api-key-env"),
        ("x", "the environment variable MY_KEY holds fewer than 8 characters"),
    ],
)
def test_a_variable_without_a_key_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None, words: str) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(UsageError) as caught:
        read_key("MY_KEY")
    assert words in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        CANARY, "sk-canary", "canary key", "canary=1", "1canary", "", "canary\n", "canäry", "canary" * 11,  # no names
        "sk_canary", "SK_canary", "canary" * 7, "skcanary",  # names, but not set
    ],
)  # fmt: skip
def test_what_may_be_a_key_in_place_of_a_name_is_not_repeated(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_key(name)
    assert "--api-key-env" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_key_of_8_characters_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SK_KEY", "12345678")
    assert read_key("SK_KEY").reveal() == "12345678"


def test_short_encoded_forms_stand_in_other_words_too() -> None:
    """Of the key "ab/cd12", escaped forms are long enough and parts of its base64 are not."""
    redact = Redactor([Secret("ab/cd12")])
    assert redact("ab/cd12 and ab%2Fcd12") == "[redacted] and [redacted]"
    assert redact("ab\\/cd12") == "[redacted]"
    assert redact(base64.b64encode(b"abcd").decode()) == "YWJjZA=="
    assert Redactor([Secret("abc")])("YWJj 616263 abc") == "YWJj 616263 [redacted]"


def test_a_key_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {CANARY}\n")
    assert read_key("MY_KEY") == KEY


@pytest.mark.parametrize("value", ["sk-\udcff-canary", "canary7", " "])
def test_what_is_no_key_is_left_to_whoever_reads_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MY_KEY", value)
    usual = sys.stdout, sys.stderr
    for arguments in (["query", value, "--api-key-env", "MY_KEY"], ["query", "--api-key-env=MY_KEY"]):
        guard_keys(arguments)()
        assert (sys.stdout, sys.stderr) == usual


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        (None, DEFAULT_BASE_URL),
        ("https://API.OpenAI.com/v1/", DEFAULT_BASE_URL),
        ("https://api.openai.com:443/v1", DEFAULT_BASE_URL),
        ("HTTP://LocalHost:8000/v1", "http://localhost:8000/v1"),
        ("http://127.0.0.1:80/v1//", "http://127.0.0.1/v1"),
        ("http://127.9.9.9:1/v1", "http://127.9.9.9:1/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://example.org", "https://example.org"),
    ],
)
def test_an_address_is_stored_in_one_form(monkeypatch: pytest.MonkeyPatch, url: str | None, stored: str) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert checked_base_url(url, KEY) == stored
    assert checked_base_url(stored, KEY) == stored


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://canary@host/v1", "holds a user name or password"),
        ("https://user:canary@host/v1", "holds a user name or password"),
        ("https://host/v1?key=canary", "holds a query or fragment"),
        ("https://host/v1?", "holds a query or fragment"),
        ("https://host/v1#canary", "holds a query or fragment"),
        ("http://canary.org/v1", "would send the key in the clear"),
        ("http://127.0.0.1.canary.org/v1", "would send the key in the clear"),
        ("ftp://canary/v1", "is not an http or https address"),
        ("canary/v1", "is not an http or https address"),
        ("https:///canary", "is not an http or https address"),
        ("https://canary:99999/v1", "is not an address"),
        ("https://canary:0/v1", "is not an http or https address"),
        ("https://[canary/v1", "is not an address"),
        ("https://canary/v1/../x", "is not an http or https address"),
        ("https://canary /v1", "holds blanks or characters"),
        ("https://canary\n/v1", "holds blanks or characters"),
        ("https://canary\\@x/v1", "holds blanks or characters"),
        ("https://host/canary" + "y" * 300, "is longer than 300 characters"),
        (f"https://host/{CANARY}/v1", "holds the key"),
        (f"https://{CANARY}@host/v1", "holds the key"),
        (f"https://host/{quote(CANARY, safe='')}/v1", "holds the key"),
        (f"https://host/{quote(quote(CANARY, safe=''), safe='')}/v1", "holds the key"),
        (f"https://host/v1?key={quote_plus(CANARY)}", "holds the key"),
        (f"https://host/{CANARY.upper()}", "holds the key"),
        (f"https://host/{base64.b64encode(CANARY.encode()).decode()}", "holds the key"),
        (f"https://host/{CANARY.encode().hex()}", "holds the key"),
        ("https://canäry/v1", "holds blanks or characters"),
        ("", "holds blanks or characters"),
    ],
)
def test_an_address_that_a_key_may_not_go_to_is_refused_and_not_repeated(url: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_base_url(url, KEY)
    assert words in str(caught.value)
    assert "canary" not in str(caught.value)
    with pytest.raises(UsageError):
        ApiCompleter(model="m", key=KEY, base_url=url)


def test_without_a_key_http_is_up_to_the_user() -> None:
    assert checked_base_url("http://192.168.1.5:8000/v1", None) == "http://192.168.1.5:8000/v1"
    assert not is_loopback("192.168.1.5")


def test_the_variable_of_the_official_client_does_not_change_where_a_key_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer() as trap, ScriptedServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", trap.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
        monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
        monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Private: sk-odd\nAuthorization: Bearer sk-own\nAccept: text/x")
        monkeypatch.setenv("HTTP_PROXY", trap.base_url)
        monkeypatch.setenv("ALL_PROXY", trap.base_url)
        with pytest.raises(UsageError, match="OPENAI_BASE_URL is set, which is not obeyed") as caught:
            ApiCompleter(model="m", key=KEY)
        assert str(trap.port) not in str(caught.value)
        asked(server, questions(2))
        assert trap.received == []
    assert {one.headers["authorization"] for one in server.received} == {f"Bearer {CANARY}"}
    assert not any("org-private" in str(one.headers) or "sk-o" in str(one.headers) for one in server.received)


def test_a_server_that_wants_no_key_is_sent_a_placeholder() -> None:
    with ScriptedServer() as server:
        asked(server, questions(1), key=None)
    assert server.received[0].headers["authorization"] == "Bearer no-key"


def test_a_redirect_is_not_sent_the_key() -> None:
    with ScriptedServer(faults=always("redirect")) as server:
        (failure,) = asked(server, questions(1))
    assert isinstance(failure, Failure)
    assert failure.kind == "redirect"
    assert len(server.received) == 1


@pytest.mark.parametrize("fault", [None, "400", "401", "404", "429", "quota", "500", "html", "redirect"])
def test_a_key_that_a_server_repeats_is_taken_out(fault: str | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpcore2").setLevel(logging.DEBUG)
    with ScriptedServer(faults=at({} if fault is None else dict.fromkeys(range(9), fault)), echo_key=True) as server:
        (answer,) = asked(server, questions(1))
        assert server.received[0].headers["authorization"] == f"Bearer {CANARY}"
    assert isinstance(answer, Reply if fault is None else Failure)
    if fault != "redirect":
        assert "[redacted]" in repr(answer)
    assert not hits(repr(answer))
    assert not hits(caplog.text)


@pytest.mark.parametrize("fault", ["400", "302", "html", "model"])
def test_a_key_is_taken_out_before_a_text_is_cut(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut must not leave the first half; the key stands at every place around it in turn."""
    n_cut = 0
    for n_before in range(250, 310, 4):
        filler = "x" * n_before
        said: dict[str, Any] = {"answer": lambda _, filler=filler: filler}
        if fault == "400":
            monkeypatch.setitem(STATUS_FAULTS, fault, (400, {}, {"message": filler + CANARY}))
        elif fault == "302":
            monkeypatch.setitem(STATUS_FAULTS, fault, (302, {"Location": f"http://h/{filler}{CANARY}"}, {}))
        elif fault == "html":
            monkeypatch.setitem(BODY_FAULTS, fault, f"<html>{filler}{CANARY}".encode())
        else:
            said = {"extra": {"model": filler + CANARY}}
        with ScriptedServer(faults=at({} if fault == "model" else dict.fromkeys(range(9), fault)), **said) as server:
            (answer,) = asked(server, questions(1), limits=replace(HURRIED, max_attempts=1))
        text = answer.message if isinstance(answer, Failure) else answer.returned_model or ""
        assert "xxx" in text
        assert "sk-" not in text
        n_cut += "[redacted]" not in text
    assert 0 < n_cut < 15, "the key stood on either side of the cut"


def test_the_error_that_ends_a_run_is_redacted() -> None:
    with ScriptedServer(faults=always("401"), echo_key=True) as server, pytest.raises(ServiceError) as caught:
        list(completer(server).complete(questions(9)))
    assert "[redacted]" in str(caught.value)
    assert not hits(str(caught.value))


def test_log_records_are_redacted_whatever_they_hold(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some.logger")
    one = RedactingFilter(Redactor([KEY]))
    caplog.handler.addFilter(one)
    try:
        logger.warning("key %s and %r", CANARY, {"a": CANARY})
        try:
            raise ValueError(f"bad key {CANARY}")
        except ValueError:
            logger.exception("failed", stack_info=True)
        record = logging.LogRecord("x", logging.INFO, "f", 1, "%d " + CANARY, ("not a number",), None)
        assert one.filter(record)
        assert not hits(record.getMessage())
    finally:
        caplog.handler.removeFilter(one)
    assert caplog.text.count("[redacted]") >= 3
    assert not hits(caplog.text)
