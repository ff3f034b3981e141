"""Every way in which a server can fail: named right, tried again where that helps, listed where it does not."""

import time
from dataclasses import replace
from itertools import count

import pytest

from bench.api.budget import Budget
from bench.api.failures import ServiceError
from bench.api.replies import NoText, parsed
from bench.completions import Failure, FailureKind, Mode, Reply, Request
from tests.bench.api.questions import HURRIED, asked, completer, questions
from tests.bench.scripted_server import STATUS_FAULTS, ScriptedServer, always, at, for_prompts, share

N = 12

# fault -> its kind, whether it is tried again, words of the message
FAULTS: dict[str, tuple[FailureKind, bool, str]] = {
    "400": ("bad request", False, "status 400: this prompt is refused"),
    "400-parameter": ("bad request", False, "'max_tokens' is not supported, use 'max_completion_tokens'"),
    "401": ("authentication", False, "status 401: Incorrect API key provided"),
    "403": ("authentication", False, "status 403: no access to this model"),
    "404": ("not found", False, "status 404: The model does not exist"),
    "413": ("bad request", False, "status 413: too long"),
    "422": ("bad request", False, "status 422: cannot be processed"),
    "408": ("timeout", True, "status 408: too slow"),
    "429": ("rate limit", True, "status 429: Rate limit reached"),
    "429-zero": ("rate limit", True, "status 429: Rate limit reached"),
    "429-ms": ("rate limit", True, "status 429: Rate limit reached"),
    "429-nonsense": ("rate limit", True, "status 429: Rate limit reached"),
    "429-hour": ("rate limit", False, "the server asks to wait 3600 s, beyond the 5 s that one question may take"),
    "429-ages": ("rate limit", False, "the server asks to wait 1e+308 s, beyond the 5 s"),
    "429-body": ("rate limit", True, "status 429: You exceeded your current quota. Please retry in 0.3s."),
    "quota": ("quota", False, "status 429: You exceeded your current quota"),
    "402": ("quota", False, "status 402: Insufficient Balance"),
    "500": ("server error", True, "status 500: The server had an error"),
    "503": ("server error", True, "status 503: overloaded"),
    "reset": ("connection", True, "the connection broke off: "),
    "truncated": ("connection", True, "peer closed connection without sending complete message body"),
    "hang": ("timeout", True, "no full answer within 0.5 s"),
    "drip": ("timeout", True, "no full answer within 0.5 s"),
    "truncated-json": ("invalid reply", True, "Invalid JSON: EOF while parsing"),
    "thought": ("no text", False, "a model that thinks before it answers needs a higher --max-tokens"),
    "filtered": ("no text", False, "the content filter of the server kept the answer back"),
    "tool": ("no text", False, "the model called a tool instead of answering"),
    "far-index": ("invalid reply", True, "choices.0.index: "),
    "long-text": ("invalid reply", True, "a text of 1000001 characters, which no answer has"),
    "empty": ("invalid reply", True, "an empty body"),
    "html": ("invalid reply", True, "the server sent: <!doctype html>"),
    "empty-object": ("invalid reply", True, "choices: Field required; the server sent: {}"),
    "error-200": ("invalid reply", True, 'the server sent: {"error": {"message": "overloaded"}}'),
    "no-choices": ("invalid reply", True, "choices: Tuple should have at least 1 item"),
    "null-text": ("invalid reply", True, "Input should be a valid string"),
    "missing-text": ("invalid reply", True, "Field required"),
    "list-text": ("invalid reply", True, "Input should be a valid string"),
    "number-text": ("invalid reply", True, "Input should be a valid string"),
    "wrong-type": ("invalid reply", True, "choices: Input should be a valid array"),
    "not-utf8": ("invalid reply", True, "Invalid JSON: invalid unicode"),
    "deep": ("invalid reply", True, "Invalid JSON: recursion limit exceeded"),
    "huge": ("invalid reply", True, "larger than 8 MB, which no answer is"),
    "huge-500": ("server error", True, "status 500: "),
    "redirect": ("redirect", False, "redirects to http://127.0.0.1:9/v1/elsewhere; redirects are not followed"),
}
PLACES = {"first": {0}, "middle": {5}, "last": {N - 1}, "share": {1, 4, 7, 10}}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_overcome_and_one_that_does_not_is_listed(fault: str, place: str) -> None:
    kind, is_retryable, words = FAULTS[fault]
    numbers = PLACES[place]
    mode: Mode = "chat" if place == "middle" else "completion"
    began = time.monotonic()
    with ScriptedServer(faults=at(dict.fromkeys(numbers, fault)), latency_seconds=0.003) as server:
        answers = asked(server, questions(N, mode))
    assert time.monotonic() - began < 10
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    if is_retryable:
        assert failures == []
        assert len(server.received) == N + len(numbers)
    else:
        assert len(failures) == len(numbers)
        assert len(server.received) == N
        assert all(failure.kind == kind and words in failure.message for failure in failures)
        assert all(failure.n_attempts == 1 and len(failure.message) <= 400 for failure in failures)
    for question, answer in zip(questions(N, mode), answers, strict=True):
        if isinstance(answer, Reply):
            assert answer.text == question.prompt[::-1]


@pytest.mark.parametrize("fault", [name for name, (_, is_retryable, _) in FAULTS.items() if is_retryable])
def test_a_question_that_always_fails_is_listed_after_its_attempts_and_the_others_are_answered(fault: str) -> None:
    kind, _, words = FAULTS[fault]
    with ScriptedServer(faults=for_prompts({"question 2": fault})) as server:
        answers = asked(server, questions(6))
    failure = answers.pop(2)
    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert words in failure.message
    assert len(failure.message) <= 400
    assert failure.n_attempts == 3
    assert all(isinstance(answer, Reply) for answer in answers)
    assert len(server.received) == 5 + 3


def test_nothing_holds_a_question_longer_than_its_total() -> None:
    limits = replace(HURRIED, max_attempts=100, attempt_seconds=0.4, total_seconds=1.0, backoff_seconds=0.01)
    with ScriptedServer(faults=always("drip"), drip_seconds=0.01) as server:
        began = time.monotonic()
        (answer,) = asked(server, questions(1), limits=limits)
        assert time.monotonic() - began < 2.5
    assert isinstance(answer, Failure)
    assert answer.kind == "timeout"
    assert 2 <= answer.n_attempts <= 4


def test_a_server_that_is_not_there_is_a_failed_connection() -> None:
    with ScriptedServer() as server:
        pass
    (answer,) = asked(server, questions(1))
    assert isinstance(answer, Failure)
    assert (answer.kind, answer.n_attempts) == ("connection", 3)
    assert answer.message.startswith("no connection: ")


@pytest.mark.parametrize(
    ("fault", "n", "words"),
    [
        ("401", 3, "3 questions in a row have no answer (authentication)"),
        ("404", 3, "check the model name and --base-url"),
        ("quota", 3, "add credit to the account"),
        ("redirect", 3, "if you trust it with the key"),
        ("500", 10, "10 questions in a row have no answer (server error)"),
        ("429-zero", 10, "lower the rate of requests"),
        ("reset", 10, "check --base-url and that the server runs"),
        ("html", 10, "usually ends in /v1"),
        ("hang", 10, "the server is too slow or hangs"),
        ("400-parameter", 10, "every question so far was refused"),
        ("thought", 10, "raise --max-tokens for a model that thinks"),
    ],
)
def test_the_same_failure_for_every_question_ends_the_run(fault: str, n: int, words: str) -> None:
    limits = replace(HURRIED, max_attempts=1, attempt_seconds=0.2)
    with ScriptedServer(faults=always(fault)) as server:
        found: list[Failure] = []
        with pytest.raises(ServiceError) as caught:
            for _, answer in completer(server, limits=limits).complete(questions(400)):
                assert isinstance(answer, Failure)
                found.append(answer)
        assert len(server.received) <= n + 4
    assert words in str(caught.value)
    assert found[-1].message in str(caught.value)
    assert n <= len(found) <= n + 4


def test_a_success_between_keeps_the_run_going() -> None:
    numbers = {number for number in range(60) if number % 3}
    with ScriptedServer(faults=at(dict.fromkeys(numbers, "401"))) as server:
        answers = asked(server, questions(60), limits=replace(HURRIED, max_concurrency=1))
    assert sum(isinstance(answer, Failure) for answer in answers) == len(numbers)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("n", "seed"), [(300, 1), *(pytest.param(2000, seed, marks=pytest.mark.long) for seed in (1, 2, 3))]
)
def test_a_mix_of_faults_loses_nothing(n: int, seed: int) -> None:
    """Deadlines are short and no wait is asked for, so that 300 questions take seconds."""
    mix = {
        "429-zero": 0.10,
        "500": 0.05,
        "reset": 0.02,
        "truncated": 0.02,
        "truncated-json": 0.02,
        "html": 0.02,
        "hang": 0.01,
        "drip": 0.01,
    }
    limits = replace(HURRIED, max_attempts=6, attempt_seconds=1.0, max_concurrency=8, backoff_seconds=0.05)
    with ScriptedServer(faults=share(mix, seed=seed)) as server:
        began = time.monotonic()
        answers = asked(server, questions(n), limits=limits)
        seconds = time.monotonic() - began
    assert [answer.text for answer in answers if isinstance(answer, Reply)] == [
        question.prompt[::-1] for question in questions(n)
    ]
    assert len(server.received) <= 1.5 * n
    assert {one.did for one in server.received} == {*mix, "answer"}
    assert seconds < n / 5


def test_what_is_asked_for_is_what_is_sent() -> None:
    with ScriptedServer() as server:
        asked(server, questions(1))
        asked(server, questions(1, "chat"))
        asked(server, questions(1, "chat"), token_limit_parameter="max_completion_tokens", send_temperature=False)
    completion, chat, other = (one.body for one in server.received)
    assert completion == {"model": "m", "prompt": "question 0", "max_tokens": 5, "temperature": 0.0, "stop": ["\n"]}
    messages = [{"role": "user", "content": "question 0"}]
    assert chat == {"model": "m", "messages": messages, "max_tokens": 5, "temperature": 0.0}
    assert other == {"model": "m", "messages": messages, "max_completion_tokens": 5}
    assert [one.path for one in server.received] == ["/v1/completions", "/v1/chat/completions", "/v1/chat/completions"]


def test_questions_are_sent_in_order_and_no_more_at_a_time_than_allowed() -> None:
    with ScriptedServer(latency_seconds=0.02) as server:
        asked(server, questions(40), limits=replace(HURRIED, max_concurrency=3))
        order = [int(one.prompt.split()[1]) for one in server.received]
        assert server.connections_opened <= 3
    assert all(abs(index - place) < 3 for place, index in enumerate(order))


def test_a_reply_says_what_the_server_said_and_no_more() -> None:
    with ScriptedServer() as server:
        (plain,) = asked(server, questions(1))
    assert plain == Reply(
        text="0 noitseuq", finish_reason="stop", n_prompt_tokens=2, n_completion_tokens=2, returned_model="scripted-1"
    )
    nonsense = count(0)
    bad = [{"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": True}, {"completion_tokens": "3"}, "many"]
    with ScriptedServer(usage=lambda *_: bad[next(nonsense)]) as server:  # type: ignore[return-value]
        for answer in asked(server, questions(4), limits=replace(HURRIED, max_concurrency=1)):
            assert isinstance(answer, Reply)
            assert (answer.n_prompt_tokens, answer.n_completion_tokens) == (None, None)
    with ScriptedServer(
        usage=lambda *_: None, extra={"unknown": [1], "choices": [{"text": "b", "index": 1}]}
    ) as server:
        (answer,) = asked(server, questions(1))
    assert isinstance(answer, Failure)
    assert "choices: none has index 0, got [1]" in answer.message


def test_a_refusal_is_no_answer_and_an_empty_answer_is_one() -> None:
    with ScriptedServer(faults=at({0: "refused", 1: "nothing-said"})) as server:
        refused, empty = asked(server, questions(2, "chat"), limits=replace(HURRIED, max_concurrency=1))
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.n_attempts) == ("no text", 1)
    assert "refused to answer" in refused.message
    assert empty == Reply(text="", finish_reason="stop")


@pytest.mark.parametrize("said", ["m" * 100_000, "m" * 299 + "\n\x1b[31m" * 1000])
def test_labels_of_a_server_are_cut(said: str) -> None:
    choice = {"text": "a", "finish_reason": said}
    with ScriptedServer(extra={"model": said, "choices": [choice]}) as server:
        (answer,) = asked(server, questions(1))
    assert isinstance(answer, Reply)
    assert answer.returned_model == answer.finish_reason is not None
    assert answer.returned_model in ("m" * 300, "m" * 299)


def test_empty_labels_are_none() -> None:
    with ScriptedServer(extra={"model": "", "choices": [{"text": "a", "finish_reason": " "}]}) as server:
        (answer,) = asked(server, questions(1))
    assert answer == Reply(text="a", n_prompt_tokens=2, n_completion_tokens=2)


@pytest.mark.parametrize("fault", ["400", "429-ages"])
def test_a_message_is_short_whatever_a_server_sends(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, headers, _ = STATUS_FAULTS[fault]
    monkeypatch.setitem(STATUS_FAULTS, fault, (status, headers, {"message": "x" * 5000}))
    with ScriptedServer(faults=always(fault)) as server:
        (failure,) = asked(server, questions(1))
    assert isinstance(failure, Failure)
    assert 300 < len(failure.message) <= 400
    assert failure.message.endswith("xxx..." if fault == "400" else "that one question may take")


def test_a_prompt_that_no_request_can_carry_fails_by_itself() -> None:
    with ScriptedServer() as server:
        broken = Request(prompt="\ud800", mode="completion", max_tokens=5)
        failure, reply = asked(server, (broken, questions(1)[0]))
    assert isinstance(failure, Failure)
    assert failure.kind == "bad request"
    assert "surrogate" in failure.message
    assert isinstance(reply, Reply)


def test_a_long_wait_that_the_server_asks_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.api.asking.WORTH_A_REMARK_SECONDS", 1.0)
    remarks: list[str] = []
    with ScriptedServer(faults=at({0: "429-second", 1: "429-second"})) as server:
        answers = asked(server, questions(4), on_wait=remarks.append)
        times = [one.at for one in server.received]
    assert all(isinstance(answer, Reply) for answer in answers)
    assert remarks == ["status 429: Rate limit reached; waiting 1 s, as the server asks"]
    assert times[-1] - times[0] >= 1.0


def test_what_became_known_meanwhile_is_not_sent() -> None:
    known = Reply(text="known")
    with ScriptedServer() as server:
        asker = completer(server, look_again=lambda request: known if request.prompt.endswith(("1", "3")) else None)
        found = dict(asker.complete(questions(5)))
        assert sorted(one.prompt for one in server.received) == ["question 0", "question 2", "question 4"]
    assert found[1] == found[3] == known
    assert asker.budget.n_requests == 3


def test_an_error_of_our_own_ends_the_run_as_itself_and_reserves_nothing() -> None:
    def broken(*_: object) -> Reply:
        raise ServiceError("no look-up")

    for name in ("look_again", "keep"):
        budget = Budget(max_requests=100)
        with ScriptedServer() as server:
            with pytest.raises(ServiceError, match="^no look-up$"):
                list(completer(server, budget=budget, **{name: broken}).complete(questions(5)))
            assert budget.n_under_way == 0
            assert budget.n_requests >= len(server.received)


def test_what_keep_returns_is_what_counts() -> None:
    kept: list[Reply] = []

    def keep(request: Request, reply: Reply) -> Reply:
        kept.append(reply)
        return replace(reply, text=f"kept {request.prompt}")

    with ScriptedServer(faults=at({0: "500"})) as server:
        answers = asked(server, questions(3), keep=keep)
    assert [answer.text for answer in answers if isinstance(answer, Reply)] == [
        f"kept question {index}" for index in range(3)
    ]
    assert sorted(reply.text for reply in kept) == ["0 noitseuq", "1 noitseuq", "2 noitseuq"]


def test_failures_count_over_several_calls() -> None:
    with ScriptedServer(faults=always("401")) as server:
        asker = completer(server)
        assert len(list(asker.complete(questions(2)))) == 2
        with pytest.raises(ServiceError, match="3 questions in a row"):
            list(asker.complete(questions(1)))


def test_a_model_that_answered_before_is_not_given_up_for_questions_that_it_refuses() -> None:
    with ScriptedServer(faults=lambda number, _: None if number == 0 else "400") as server:
        asker = completer(server)
        assert isinstance(dict(asker.complete(questions(1)))[0], Reply)
        assert len(list(asker.complete(questions(30)))) == 30
    with ScriptedServer(faults=always("400")) as server:
        asker = completer(server)
        asker.note_answered()
        assert len(list(asker.complete(questions(30)))) == 30


def test_a_model_that_thought_until_its_tokens_were_used_up_has_not_answered() -> None:
    body = b'{"choices": [{"text": "", "message": {"content": ""}, "finish_reason": "length"}]}'
    with pytest.raises(NoText, match="a model that thinks before it answers needs a higher --max-tokens"):
        parsed(body, "chat")
    assert parsed(body, "completion").text == ""
